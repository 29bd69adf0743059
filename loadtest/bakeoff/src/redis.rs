//! Redis or Valkey, as its users would: one channel per zone, the publisher knowing the zones, plain pub/sub.
//!
//! The client is our own: pipelined, in RESP3, so that a subscribed connection may publish too, and cheaper than the
//! usual libraries. An event is complete when the server has answered all its `PUBLISH`es. The window of
//! `progress.rs` keeps the server from cutting subscribers off.

mod client;
mod resp;

pub use client::{Redis, RedisPublisher, RedisSubscriber};
