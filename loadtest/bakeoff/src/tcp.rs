//! The broker that one writes by hand: own frames over TLS over TCP.

mod broker;
mod client;

pub use broker::serve;
pub use client::{Tcp, TcpPublisher, TcpSubscriber};
