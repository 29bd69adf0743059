//! For whom a call is: a player's own, a game server's world, or the back office's everything.

use tonic::Status;
use zonecast_doors::Caller;
use zonecast_store::Uuid;

use crate::StoredCharacter;

/// What lets a game server see and dress the characters of its worlds.
pub(crate) const SERVE: &str = "characters.serve";

/// As what somebody calls.
#[derive(Debug, Clone)]
pub(crate) enum Standing {
    /// With the scope for everybody's characters.
    BackOffice,
    /// As the player with this id.
    Player(Uuid),
    /// As a game server: the worlds are its rights' matter.
    Server(Box<Caller>),
}

impl Standing {
    /// Of this caller, where that scope is what a back office needs.
    ///
    /// # Errors
    /// UNAUTHENTICATED without a token; PERMISSION_DENIED for who is none of these.
    pub(crate) fn of(caller: &Caller, scope: &str) -> Result<Self, Status> {
        match caller.require(scope) {
            Ok(()) => Ok(Self::BackOffice),
            Err(refused) => match caller.user() {
                Some(id) => Uuid::try_parse(id).map(Self::Player).map_err(|_| refused),
                None if caller.server().is_some() && caller.require(SERVE).is_ok() => {
                    Ok(Self::Server(Box::new(caller.clone())))
                }
                None => Err(refused),
            },
        }
    }

    /// Whether the character is one that the caller may know of.
    pub(crate) fn sees(&self, character: &StoredCharacter) -> bool {
        match self {
            Self::BackOffice => true,
            Self::Player(id) => *id == character.user,
            Self::Server(caller) => caller.require_right(|rights| rights.check_world(&character.world)).is_ok(),
        }
    }

    /// Whose characters are meant: the user's who is named, or else the caller's own.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: nobody is meant, or the id is no UUID. PERMISSION_DENIED: of others.
    pub(crate) fn user(&self, named: &str) -> Result<Uuid, Status> {
        let named = match named {
            "" => None,
            text => Some(Uuid::try_parse(text).map_err(|_| Status::invalid_argument("user_id is no UUID"))?),
        };
        match (self, named) {
            (Self::BackOffice, Some(user)) => Ok(user),
            (Self::BackOffice, None) => Err(Status::invalid_argument("give a user_id")),
            (Self::Player(own), None) => Ok(*own),
            (Self::Player(own), Some(user)) if *own == user => Ok(user),
            (Self::Player(_) | Self::Server(_), _) => {
                Err(Status::permission_denied("whose characters these are is not for you to say"))
            }
        }
    }
}
