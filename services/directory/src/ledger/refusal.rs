//! Why the directory is not changed, in gRPC's words.

use thiserror::Error;
use tonic::Status;
use zonecast_protocol::Zone;
use zonecast_store::StoreError;

use crate::{StoredZone, rectangle::shown};

/// Why the directory is not changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Refused {
    /// There is no such lease any more.
    #[error("there is no such lease any more, and its zones are lost; register again")]
    NoLease,
    /// Somebody owns a part of it.
    #[error(
        "{} overlaps {} (zone {}), which {} owns", shown(wanted), shown(&owned.zone), owned.id, owned.server
    )]
    Overlap {
        /// What was wanted.
        wanted: Zone,
        /// What is in the way.
        owned: Box<StoredZone>,
    },
    /// The server has no right to it.
    #[error("{server} has no right to {} of {world:?}, or did not register for that world", shown(zone))]
    NoRight {
        /// The server.
        server: String,
        /// The world.
        world: String,
        /// Where.
        zone: Zone,
    },
    /// Too many zones of one server.
    #[error("a server owns at most {zones_max} zones (directory.zones_per_server_max)")]
    TooManyZones {
        /// How many there may be.
        zones_max: u32,
    },
    /// No server of that name has a lease.
    #[error("no server {0:?} is registered")]
    NoServer(String),
    /// Neither of the two owns such a zone.
    #[error("neither of the two owns a zone {0}")]
    NoZone(i64),
    /// It is not as the caller thinks.
    #[error("zone {0} has changed since; look again")]
    Changed(i64),
    /// The database does not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Refused {
    /// The variant's name, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoLease => "no_lease",
            Self::Overlap { .. } => "overlap",
            Self::NoRight { .. } => "no_right",
            Self::TooManyZones { .. } => "too_many_zones",
            Self::NoServer(_) => "no_server",
            Self::NoZone(_) => "no_zone",
            Self::Changed(_) => "changed",
            Self::Store(error) => error.kind(),
        }
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let message = refused.to_string();
        match refused {
            Refused::NoLease | Refused::NoServer(_) | Refused::NoRight { .. } => Self::failed_precondition(message),
            Refused::Overlap { .. } => Self::already_exists(message),
            Refused::TooManyZones { .. } => Self::resource_exhausted(message),
            Refused::NoZone(_) => Self::not_found(message),
            Refused::Changed(_) => Self::aborted(message),
            Refused::Store(error) => error.status(),
        }
    }
}
