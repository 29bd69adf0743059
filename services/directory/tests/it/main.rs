//! The directory service on both databases: one suite, run on each.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper fails the test")]

mod conformance;
mod faults;
mod ground;
mod keys;
mod memory;
mod service;
mod spawning;
mod watching;
