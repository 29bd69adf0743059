//! What goes wrong.

use thiserror::Error;
use tonic::{Code, Status};
use zonecast_access::{BadKeys, TokenError};
use zonecast_client::ZoneError;

/// Why something was not done.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ZoneServerError {
    /// The directory refuses it: nothing has changed, here or there.
    #[error("the directory refuses it: {}", .0.message())]
    Refused(Status),
    /// The directory did not say whether it did it. What comes of it shows with a later heartbeat; until then the zones are
    /// heard.
    #[error("the directory does not answer: {}", .0.message())]
    Unknown(Status),
    /// The broker does not change the subscription.
    #[error(transparent)]
    Broker(#[from] ZoneError),
    /// The keys of tickets cannot be read.
    #[error(transparent)]
    Keys(#[from] BadKeys),
    /// The zone is none of this server's.
    #[error("zone {0} is not held here")]
    NotHeld(u64),
}

impl ZoneServerError {
    /// The variant's name, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Unknown(_) => "unknown",
            Self::Broker(_) => "broker",
            Self::Keys(_) => "keys",
            Self::NotHeld(_) => "not_held",
        }
    }
}

/// A call that failed: refused for good, or of unknown outcome.
impl From<Status> for ZoneServerError {
    fn from(status: Status) -> Self {
        if is_passing(&status) { Self::Unknown(status) } else { Self::Refused(status) }
    }
}

/// Whether trying again may help.
pub(crate) fn is_passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled | Code::Internal
    )
}

/// Why a player is not let in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AdmitError {
    /// The ticket is not to be taken.
    #[error(transparent)]
    Ticket(#[from] TokenError),
    /// Somebody was let in by it before.
    #[error("the ticket was used already")]
    Used,
}

impl AdmitError {
    /// The variant's name, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Ticket(error) => error.kind(),
            Self::Used => "used",
        }
    }
}
