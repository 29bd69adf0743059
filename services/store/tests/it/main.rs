//! The outbox, its relay and the migrations on both databases.
#![allow(clippy::unwrap_used, reason = "a helper fails the test")]

mod migrations;
mod outbox;
mod relay;
