//! The two doors of a companion service.
//!
//! A service is written once, as the trait that tonic generates. Whoever calls it comes in by one of two doors:
//!
//! - [`grpc`]: gRPC over TLS, with reflection, health and grpc-web.
//! - [`broker`]: request and reply over the broker's topics. At the other end [`broker::Channel`] takes the place of a
//!   connection under a client that tonic generated, which runs over it unchanged. Replicas share the load in a queue group.
//!
//! Behind both lies the same [`Entrance`]: it counts calls by method and code, bounds how many there are and how long they
//! take, and has a [`Gatekeeper`] say who calls: [`Bearers`] by tokens, [`LoopbackOnly`] where there are none. [`Peers`] is
//! how services call each other. No code here knows a method.
//!
//! Deliberately absent: databases, and what a caller may do. The first is `zonecast-store`'s, the second the service's,
//! which asks the [`Caller`].
//!
//! Start at [`Entrance::new`].

mod bearer;
pub mod broker;
mod caller;
mod connections;
mod counted;
mod entrance;
pub mod grpc;
mod methods;
mod metrics;
mod peers;
mod places;
mod tls;
mod web;

pub use bearer::Bearers;
pub use caller::{Caller, Gatekeeper, LoopbackOnly, Origin};
pub use entrance::{Entrance, EntranceLimits};
pub use methods::{DescriptorError, Methods};
pub use metrics::{Door, RpcMetrics};
pub use peers::Peers;
