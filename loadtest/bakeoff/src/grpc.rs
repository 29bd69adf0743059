//! The broker that one builds on gRPC: tonic, TLS, one bidirectional stream for each session.

mod broker;
mod client;

pub use broker::{serve, server_tls};
pub use client::{Grpc, GrpcPublisher, GrpcSubscriber};

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::allow_attributes_without_reason,
    reason = "generated; the proto file has the documentation"
)]
mod wire {
    tonic::include_proto!("zonecast.bakeoff.v1");
}

/// How much of a stream may be under way. HTTP/2's own 64 KiB would make a stream wait for its window all the time.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// How much of a connection may be under way.
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// Messages that wait for one stream at most.
const QUEUE_MESSAGES_MAX: usize = 1024;
