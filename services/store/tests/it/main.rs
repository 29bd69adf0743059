//! The outbox, its relay, its followers and the migrations on both databases.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper fails the test")]

mod bounds;
mod changes;
mod follower;
mod migrations;
mod outbox;
mod relay;
