//! The client against a broker that does as it is told.
// In helpers too a failed step is a failed test.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::panic)]

mod broker;
mod configuring;
mod connection;
mod hostile;
mod moving;
mod processing;
mod publishing;
mod receiving;
mod resuming;
mod subscribing;
mod tokens;
