//! What a client may do.

use std::collections::BTreeSet;

use zonecast_protocol::{Kind, Refusal, WorldName, wire::ErrorCode};

/// What a client may do. The default permits every world and kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rights {
    /// The worlds in which it may hold zones and publish; `None`: any.
    pub worlds: Option<BTreeSet<WorldName>>,
    /// The kinds of event that it may publish at places; `None`: any, also events of no stated kind.
    pub kinds: Option<BTreeSet<Kind>>,
}

impl Rights {
    /// Checks a world.
    ///
    /// # Errors
    /// The client has no right to it.
    pub fn check_world(&self, world: &str) -> Result<(), Refusal> {
        check(self.worlds.as_ref().map(|worlds| worlds.iter().any(|known| known.as_str() == world)), "world", world)
    }

    /// Checks a kind of event; empty when not stated.
    ///
    /// # Errors
    /// The client has no right to it.
    pub fn check_kind(&self, kind: &str) -> Result<(), Refusal> {
        check(self.kinds.as_ref().map(|kinds| kinds.iter().any(|known| known.as_str() == kind)), "kind", kind)
    }
}

fn check(known: Option<bool>, field: &str, value: &str) -> Result<(), Refusal> {
    if known.unwrap_or(true) {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::PermissionDenied,
        format!("{field} {value:?} is not among those this broker permits (rights.{field}s)"),
    ))
}
