//! Zones, circles, and the one definition of a match.

use thiserror::Error;

/// A circle of effect: a centre and a radius >= 0, in the world's unit of length. Radius 0 is a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Circle {
    x: f64,
    y: f64,
    radius: f64,
}

/// A closed axis-aligned rectangle, in the world's unit of length: its edges belong to it, zero area is legal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Zone {
    min_x: f64,
    min_y: f64,
    max_x: f64,
    max_y: f64,
}

/// Why numbers do not make a shape.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// NaN or an infinity.
    #[error("{field} is {value}; give a finite number")]
    NotFinite {
        /// Which number.
        field: &'static str,
        /// Its value.
        value: f64,
    },
    /// A radius below zero.
    #[error("radius is {radius}; give 0 (a point) or more")]
    NegativeRadius {
        /// The radius.
        radius: f64,
    },
    /// A rectangle whose minimum lies beyond its maximum.
    #[error("min_{axis} {min} is greater than max_{axis} {max}; swap them")]
    MinAboveMax {
        /// `x` or `y`.
        axis: char,
        /// The minimum.
        min: f64,
        /// The maximum.
        max: f64,
    },
}

fn finite(field: &'static str, value: f64) -> Result<(), GeometryError> {
    if value.is_finite() { Ok(()) } else { Err(GeometryError::NotFinite { field, value }) }
}

impl Circle {
    /// The point (0, 0).
    pub const ORIGIN: Self = Self { x: 0.0, y: 0.0, radius: 0.0 };

    /// A circle around (`x`, `y`).
    ///
    /// # Errors
    /// A number that is not finite, or a negative radius.
    pub fn new(x: f64, y: f64, radius: f64) -> Result<Self, GeometryError> {
        finite("x", x)?;
        finite("y", y)?;
        finite("radius", radius)?;
        if radius < 0.0 {
            return Err(GeometryError::NegativeRadius { radius });
        }
        Ok(Self { x, y, radius })
    }

    /// The centre's first coordinate.
    #[must_use]
    pub fn x(&self) -> f64 {
        self.x
    }

    /// The centre's second coordinate.
    #[must_use]
    pub fn y(&self) -> f64 {
        self.y
    }

    /// The radius, >= 0.
    #[must_use]
    pub fn radius(&self) -> f64 {
        self.radius
    }
}

impl Zone {
    /// The rectangle from (`min_x`, `min_y`) to (`max_x`, `max_y`), edges included.
    ///
    /// # Errors
    /// A number that is not finite, or a minimum beyond its maximum.
    pub fn new(min_x: f64, min_y: f64, max_x: f64, max_y: f64) -> Result<Self, GeometryError> {
        finite("min_x", min_x)?;
        finite("min_y", min_y)?;
        finite("max_x", max_x)?;
        finite("max_y", max_y)?;
        if min_x > max_x {
            return Err(GeometryError::MinAboveMax { axis: 'x', min: min_x, max: max_x });
        }
        if min_y > max_y {
            return Err(GeometryError::MinAboveMax { axis: 'y', min: min_y, max: max_y });
        }
        Ok(Self { min_x, min_y, max_x, max_y })
    }

    /// The corner with the smallest coordinates, as `[x, y]`.
    #[must_use]
    pub fn min(&self) -> [f64; 2] {
        [self.min_x, self.min_y]
    }

    /// The corner with the greatest coordinates, as `[x, y]`.
    #[must_use]
    pub fn max(&self) -> [f64; 2] {
        [self.max_x, self.max_y]
    }

    /// The area, in the square of the world's unit of length.
    #[must_use]
    pub fn area(&self) -> f64 {
        (self.max_x - self.min_x) * (self.max_y - self.min_y)
    }

    /// Whether another rectangle lies wholly in this one; edges may coincide.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.min_x <= other.min_x && self.min_y <= other.min_y && other.max_x <= self.max_x && other.max_y <= self.max_y
    }

    /// Whether the centre of a circle lies in the rectangle, edges included.
    #[must_use]
    pub fn contains_centre(&self, circle: &Circle) -> bool {
        let Circle { x, y, .. } = *circle;
        self.min_x <= x && x <= self.max_x && self.min_y <= y && y <= self.max_y
    }

    /// Whether the distance from the circle's centre to the nearest point of the zone is at most its radius.
    ///
    /// This is the only definition of a match. In IEEE 754 double precision, with `dx` and `dy` the distances along
    /// each axis (0 within the zone's span): `dx <= radius && dy <= radius && dx*dx + dy*dy <= radius*radius`.
    /// Where `radius*radius` overflows or is not a normal number, the last test is made on `dx/radius` and
    /// `dy/radius` instead, so that neither huge nor tiny worlds are misjudged.
    #[must_use]
    #[inline]
    pub fn touches(&self, circle: &Circle) -> bool {
        // At most one of the two differences is positive; `max` with 0 last also turns -0 into 0.
        let dx = (self.min_x - circle.x).max(circle.x - self.max_x).max(0.0);
        let dy = (self.min_y - circle.y).max(circle.y - self.max_y).max(0.0);
        let radius = circle.radius;
        if dx > radius || dy > radius {
            return false;
        }
        let radius_squared = radius * radius;
        if radius_squared.is_normal() {
            return dx * dx + dy * dy <= radius_squared;
        }
        // Straight above, below or beside: the distance is the larger of the two, compared above.
        if dx == 0.0 || dy == 0.0 {
            return true;
        }
        let (u, v) = (dx / radius, dy / radius);
        u * u + v * v <= 1.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn zone() -> Zone {
        Zone::new(0.0, 0.0, 10.0, 5.0).unwrap()
    }

    fn touches(x: f64, y: f64, radius: f64) -> bool {
        zone().touches(&Circle::new(x, y, radius).unwrap())
    }

    #[test]
    fn shapes_have_the_numbers_that_they_were_made_of() {
        let circle = Circle::new(3.0, -4.0, 5.5).unwrap();
        assert!((circle.x(), circle.y(), circle.radius()) == (3.0, -4.0, 5.5));
        let zone = Zone::new(-7.0, 2.5, 3.0, 6.5).unwrap();
        assert!((zone.min(), zone.max(), zone.area()) == ([-7.0, 2.5], [3.0, 6.5], 40.0));
    }

    #[test]
    fn edges_count_and_the_next_number_does_not() {
        assert!(touches(12.0, 2.0, 2.0));
        assert!(!touches(12.0_f64.next_up(), 2.0, 2.0));
        assert!(touches(10.0, 5.0, 0.0));
        assert!(!touches(10.0_f64.next_up(), 5.0, 0.0));
    }

    #[test]
    fn corners_are_round() {
        assert!(touches(13.0, 9.0, 5.0), "3-4-5 from the corner");
        assert!(!touches(13.0, 9.0, 5.0_f64.next_down()));
        assert!(!touches(14.9, 9.9, 5.0), "inside the bounding box of the circle, outside the circle");
    }

    #[test]
    fn tiny_and_huge_worlds_are_judged_alike() {
        for scale in [1e-320, 1e-200, 1e-160, 1.0, 1e150, 1e300] {
            let zone = Zone::new(-scale, -scale, 0.0, 0.0).unwrap();
            let near = Circle::new(3.0 * scale, 4.0 * scale, 5.0 * scale).unwrap();
            let far = Circle::new(3.0 * scale, 4.0 * scale, 4.5 * scale).unwrap();
            assert!(zone.touches(&near), "{scale:e}");
            assert!(!zone.touches(&far), "{scale:e}");
        }
    }

    proptest! {
        /// As whole numbers have it: the point of the zone next to the centre, and Pythagoras. Once more where squares
        /// vanish or overflow, where only what lies on the very edge is left to rounding.
        #[test]
        fn the_nearest_point_of_the_zone_decides(
            (min_x, min_y) in (-60..60_i32, -60..60_i32),
            (width, height) in (0..40_i32, 0..40_i32),
            (x, y, radius) in (-120..120_i32, -120..120_i32, 0..90_i32),
            exponent in prop::sample::select(vec![0, -600, 600]),
        ) {
            let (dx, dy) = (x - x.clamp(min_x, min_x + width), y - y.clamp(min_y, min_y + height));
            let beyond = dx * dx + dy * dy - radius * radius;
            let scaled = |number: i32| f64::from(number) * 2_f64.powi(exponent);
            let zone =
                Zone::new(scaled(min_x), scaled(min_y), scaled(min_x + width), scaled(min_y + height)).unwrap();
            let circle = Circle::new(scaled(x), scaled(y), scaled(radius)).unwrap();
            if beyond != 0 || exponent == 0 {
                prop_assert_eq!(zone.touches(&circle), beyond <= 0);
            }
        }
    }

    #[test]
    fn bad_numbers_are_named() {
        assert_eq!(Circle::new(0.0, 0.0, -1.0), Err(GeometryError::NegativeRadius { radius: -1.0 }));
        assert!(matches!(Circle::new(0.0, f64::NAN, 1.0), Err(GeometryError::NotFinite { field: "y", .. })));
        assert!(matches!(
            Zone::new(0.0, 0.0, f64::INFINITY, 1.0),
            Err(GeometryError::NotFinite { field: "max_x", .. })
        ));
        assert_eq!(Zone::new(0.0, 2.0, 1.0, 1.0), Err(GeometryError::MinAboveMax { axis: 'y', min: 2.0, max: 1.0 }));
    }
}
