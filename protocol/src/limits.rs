//! The limits that a client must know of; the broker states them in `Welcome.limits`.

use crate::wire;
use crate::{Circle, Refusal, Zone, wire::ErrorCode};

/// What a broker permits, with the default of each. `WIRE.md` lists them with their error codes.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Longest frame after its length prefix, in bytes, either way. Default: 1 MiB + 64 KiB.
    pub frame_bytes_max: u32,
    /// Longest event payload in bytes. Default: 1 MiB.
    pub payload_bytes_max: u32,
    /// Most zones of one session. Default: 10,000.
    pub zones_per_session_max: u32,
    /// Most topic subscriptions of one session. Default: 1,000.
    pub topics_per_session_max: u32,
    /// Most kinds in one zone's filter. Default: 32.
    pub kinds_per_zone_max: u32,
    /// Greatest radius of an event, in the world's unit of length. Default: 1e6.
    pub radius_max: f64,
    /// Greatest absolute value of a coordinate, in the world's unit of length. Default: 1e12.
    pub coordinate_abs_max: f64,
    /// Greatest area of a zone, in the square of the world's unit of length. Default: 4e24, all that the coordinates
    /// permit.
    pub zone_area_max: f64,
    /// Lanes of one client, numbered from 0. Default: 16. At most 256.
    pub lanes_max: u32,
}

impl Limits {
    /// What a frame may have beyond the payload: names, numbers, and fields of later versions.
    pub const FRAME_OVERHEAD_BYTES: u32 = 64 * 1024;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes_max: (1 << 20) + Self::FRAME_OVERHEAD_BYTES,
            payload_bytes_max: 1 << 20,
            zones_per_session_max: 10_000,
            topics_per_session_max: 1_000,
            kinds_per_zone_max: 32,
            radius_max: 1e6,
            coordinate_abs_max: 1e12,
            zone_area_max: 4e24,
            lanes_max: 16,
        }
    }
}

impl Limits {
    /// Checks an event's circle.
    ///
    /// # Errors
    /// The centre or the radius is beyond its limit.
    pub fn check_circle(&self, circle: &Circle) -> Result<(), Refusal> {
        self.check_coordinate("x", circle.x())?;
        self.check_coordinate("y", circle.y())?;
        if circle.radius() > self.radius_max {
            return Err(Refusal::new(
                ErrorCode::GeometryOutOfRange,
                format!("radius is {}; at most {} is permitted (radius_max)", circle.radius(), self.radius_max),
            ));
        }
        Ok(())
    }

    /// Checks a zone's corners and area.
    ///
    /// # Errors
    /// A coordinate or the area is beyond its limit.
    pub fn check_zone(&self, zone: &Zone) -> Result<(), Refusal> {
        self.check_coordinate("min_x", zone.min()[0])?;
        self.check_coordinate("min_y", zone.min()[1])?;
        self.check_coordinate("max_x", zone.max()[0])?;
        self.check_coordinate("max_y", zone.max()[1])?;
        let area = zone.area();
        if area > self.zone_area_max {
            return Err(Refusal::new(
                ErrorCode::GeometryOutOfRange,
                format!("the zone's area is {area:e}; at most {:e} is permitted (zone_area_max)", self.zone_area_max),
            ));
        }
        Ok(())
    }

    fn check_coordinate(&self, field: &str, value: f64) -> Result<(), Refusal> {
        if value.abs() <= self.coordinate_abs_max {
            return Ok(());
        }
        Err(Refusal::new(
            ErrorCode::GeometryOutOfRange,
            format!("{field} is {value}; at most ±{} is permitted (coordinate_abs_max)", self.coordinate_abs_max),
        ))
    }
}

impl From<&Limits> for wire::Limits {
    fn from(limits: &Limits) -> Self {
        Self {
            frame_bytes_max: limits.frame_bytes_max,
            payload_bytes_max: limits.payload_bytes_max,
            zones_per_session_max: limits.zones_per_session_max,
            topics_per_session_max: limits.topics_per_session_max,
            kinds_per_zone_max: limits.kinds_per_zone_max,
            radius_max: limits.radius_max,
            coordinate_abs_max: limits.coordinate_abs_max,
            zone_area_max: limits.zone_area_max,
            lanes_max: limits.lanes_max,
        }
    }
}

impl From<&wire::Limits> for Limits {
    fn from(limits: &wire::Limits) -> Self {
        Self {
            frame_bytes_max: limits.frame_bytes_max,
            payload_bytes_max: limits.payload_bytes_max,
            zones_per_session_max: limits.zones_per_session_max,
            topics_per_session_max: limits.topics_per_session_max,
            kinds_per_zone_max: limits.kinds_per_zone_max,
            radius_max: limits.radius_max,
            coordinate_abs_max: limits.coordinate_abs_max,
            // A broker that does not say leaves it to the coordinates.
            zone_area_max: if limits.zone_area_max > 0.0 { limits.zone_area_max } else { f64::INFINITY },
            lanes_max: limits.lanes_max,
        }
    }
}
