//! Trials of the delivery promises: client and broker as they are, on a network that fails on purpose, watched by a
//! model that shares no code with them.
//!
//! [`Observer`] is the model of what may be observed. [`network`] is a network in memory with seeded faults.

pub mod network;
mod observer;

pub use observer::*;
