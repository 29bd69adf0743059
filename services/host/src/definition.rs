//! What a service is to its host.

use std::sync::Arc;

use tokio::sync::Notify;
use tonic::service::Routes;
use zonecast_store::{Database, Migrations};

/// A service, as it is named in the list of all services.
#[derive(Clone, Copy)]
pub struct Definition {
    /// What people call it: `users`. The name of its store too.
    pub name: &'static str,
    /// The full names of its gRPC services: `zonecast.users.v1.UsersService`.
    pub services: &'static [&'static str],
    /// Its tables.
    pub migrations: Migrations,
    /// Puts it behind the doors.
    pub mount: fn(&Ground, Routes) -> Routes,
}

/// What a service stands on.
#[derive(Debug, Clone)]
pub struct Ground {
    /// The database, with the service's tables.
    pub database: Database,
    /// To be notified after a commit that recorded a change, so that it is published at once.
    pub changed: Arc<Notify>,
    /// Longest message that is read or written, in bytes.
    pub message_bytes_max: usize,
}
