//! PKI factory, virtual devices, fake time, temporary databases, and real peers started for a test.
