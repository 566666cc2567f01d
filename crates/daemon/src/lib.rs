//! What every server shares: clock, config, logs, metrics, health, graceful stop, the admin listener.
