//! The state machine.

use time::OffsetDateTime;

use super::{Config, Input, State, Step};

/// The pledge.
pub struct Machine {
    config: Config,
    state: State,
}

impl Machine {
    /// A device as it leaves the factory.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let _ = config;
        todo!()
    }

    /// A device that goes on from a stored state.
    #[must_use]
    pub fn resume(config: Config, state: State) -> Self {
        Self { config, state }
    }

    /// What is to be stored.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes what happened, and says what to do next. `random` are fresh octets from a
    /// cryptographic generator, new ones for each call.
    pub fn step(&mut self, input: &Input<'_>, now: OffsetDateTime, random: &[u8; 32]) -> Step {
        let _ = (input, now, random, &self.config);
        todo!()
    }
}
