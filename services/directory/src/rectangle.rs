//! Rectangles between the protocol's messages and geometry.

use tonic::Status;
use zonecast_protocol::{
    WorldName, Zone,
    directory::v1::{Rectangle, ZoneClaim},
};

/// As the protocol has it.
pub(crate) fn message(zone: &Zone) -> Rectangle {
    let ([min_x, min_y], [max_x, max_y]) = (zone.min(), zone.max());
    Rectangle { min_x, min_y, max_x, max_y }
}

/// As people read it.
pub(crate) fn shown(zone: &Zone) -> String {
    let ([min_x, min_y], [max_x, max_y]) = (zone.min(), zone.max());
    format!("[{min_x}, {min_y}] to [{max_x}, {max_y}]")
}

/// Checks a rectangle.
///
/// # Errors
/// INVALID_ARGUMENT: it is none.
pub(crate) fn zone(rectangle: Option<&Rectangle>) -> Result<Zone, Status> {
    let Rectangle { min_x, min_y, max_x, max_y } =
        *rectangle.ok_or_else(|| Status::invalid_argument("give a rectangle"))?;
    Zone::new(min_x, min_y, max_x, max_y).map_err(|error| Status::invalid_argument(error.to_string()))
}

/// Checks a zone that is wanted.
///
/// # Errors
/// INVALID_ARGUMENT: its world or its rectangle is none.
pub(crate) fn claim(wanted: ZoneClaim) -> Result<(String, Zone), Status> {
    check_world(&wanted.world)?;
    let zone = zone(wanted.rectangle.as_ref())?;
    Ok((wanted.world, zone))
}

/// Checks the name of a world.
///
/// # Errors
/// INVALID_ARGUMENT: it is none.
pub(crate) fn check_world(world: &str) -> Result<(), Status> {
    WorldName::check(world).map_err(|error| Status::invalid_argument(error.to_string()))
}
