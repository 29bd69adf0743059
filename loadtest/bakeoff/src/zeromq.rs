//! The broker that one builds on ZeroMQ: a ROUTER that its clients reach by DEALERs, CURVE on every connection.
//!
//! Not PUB: its filters are prefixes of topics, which say nothing about space, so that the broker would have to name
//! each session by a topic of its own, and it drops what a subscriber is too slow for. A ROUTER names its peers
//! itself, and waits for room.

mod broker;
mod client;

pub use broker::{Listener, serve};
pub use client::{ZeroMq, ZmqPublisher, ZmqSubscriber};

/// The version of the libzmq that is linked.
#[must_use]
pub fn version() -> String {
    let (major, minor, patch) = zmq::version();
    format!("{major}.{minor}.{patch}")
}

/// Messages that wait in each direction of a connection at most. The usual 1,000 are few for bursts.
const HIGH_WATER_MARK: i32 = 8192;
