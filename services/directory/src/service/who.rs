//! Who may do what.

use tonic::Status;
use zonecast_access::RightsClaim;
use zonecast_doors::Caller;
use zonecast_protocol::{ClientId, Rights};

/// What a game server needs.
const SERVE: &str = "directory.serve";
/// What others need who ask.
const READ: &str = "directory.read";
/// Every scope that the service asks for.
pub(crate) const SCOPES: &[&str] = &[SERVE, READ];

/// The server as which somebody acts: the one that is named, or the caller itself.
///
/// # Errors
/// UNAUTHENTICATED without a token; PERMISSION_DENIED for who is no game server, or not that one; INVALID_ARGUMENT: nobody is
/// named, or the name is none.
pub(super) fn server(caller: &Caller, named: &str) -> Result<String, Status> {
    caller.require(SERVE)?;
    let name = if named.is_empty() { caller.server().unwrap_or_default() } else { named };
    let client = ClientId::new(name).map_err(|error| Status::invalid_argument(error.to_string()))?;
    if caller.is_local() || caller.claims().is_some_and(|claims| claims.subject.may_connect_as(&client)) {
        Ok(name.to_owned())
    } else {
        Err(Status::permission_denied(format!("the token is not that of the server {name:?}")))
    }
}

/// Refuses who may not ask.
///
/// # Errors
/// UNAUTHENTICATED without a token; PERMISSION_DENIED for who is no game server and lacks the scope.
pub(super) fn check_reader(caller: &Caller) -> Result<(), Status> {
    if caller.server().is_some() { Ok(()) } else { caller.require(READ) }
}

/// Where the caller's zones may lie.
pub(super) fn rights(caller: &Caller) -> RightsClaim {
    let rights = caller.claims().map_or_else(Rights::everything, |claims| claims.rights.clone());
    let Rights { worlds, zones, .. } = rights;
    RightsClaim::of(&Rights { worlds, zones, ..Rights::default() })
}
