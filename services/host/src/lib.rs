//! Runs any set of services in one process.
//!
//! Each service is a [`Definition`]: its name, its migrations, and how it is put behind the doors. The [`Host`] opens the
//! database, brings its tables up to date, opens both doors, publishes what changes, and answers Prometheus and the
//! orchestrator. It takes leave in good order: nothing new, what is under way, what waits in the outbox, and then the end.
//!
//! Beside the services it serves `zonecast.changes.v1.ChangesService` for their stores.
//!
//! The broker may be away when the host starts, or go later. Calls by gRPC are served all the same, and changes wait in the
//! outbox.
//!
//! Deliberately absent: any service. They are named by whoever starts the host, for all of them depend on this crate.
//!
//! Start at [`Host::start`].

mod admin;
mod broker_end;
mod changes;
mod config;
mod definition;
mod host;
mod metrics;
mod mounted;
mod panics;

pub use changes::READ as CHANGES_SCOPE;
pub use config::{BrokerEnd, GrpcEnd, HostConfig, HostError};
pub use definition::{Definition, Followers, Ground, Mount, MountError, Mounting, Tasks, mount};
pub use host::{Host, migrate};
