//! The same spatial fan-out through zonecast and through other brokers.
//!
//! Three brokers are built here around zonecast's own router, each the simplest honest one of its kind: [`tcp`],
//! [`grpc`] and, with the feature `zeromq`, `zeromq`. [`nats`] and [`redis`] are clients of servers that others built.
//! Each comes as a [`Transport`](zonecast_loadtest::load::Transport) of the load-test harness, so that one generator
//! and one set of books measure them all.
//!
//! Deliberately absent: what zonecast promises beyond delivery over a live connection. None of the peers has it, and
//! the comparison is the better for them.
//!
//! Start at [`frame`] for what a broker needs to say at least, or at [`tcp`] for what it does.

mod completions;
pub mod frame;
pub mod grpc;
pub mod hub;
pub mod nats;
mod progress;
pub mod redis;
pub mod target;
pub mod tcp;
pub mod tls;
mod writing;
#[cfg(feature = "zeromq")]
pub mod zeromq;
