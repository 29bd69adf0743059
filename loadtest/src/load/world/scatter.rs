//! Worlds in which places are drawn by chance.

use std::f64::consts::{PI, TAU};

use fastrand::Rng;
use zonecast_protocol::Zone;

use super::{Draw, LoadSettings, grid::Grid};

/// Length of the world's sides in [`random`].
const SIDE: f64 = 1000.0;
/// Shortest and longest side of a zone there, if that does not fill the world too densely.
const ZONE_SIDES: [f64; 2] = [2.0, 100.0];
/// Places around which events gather.
const HOTSPOTS: u32 = 8;

/// Rectangles whose sides spread evenly over orders of magnitude, each of any session.
pub(super) fn random(settings: &LoadSettings, rng: &mut Rng) -> (Vec<Zone>, Vec<u32>, Draw) {
    let [least, most] = ZONE_SIDES;
    let mean_side = (most - least) / (most / least).ln();
    let covered = mean_side * mean_side * f64::from(settings.zones) / (SIDE * SIDE);
    // A point should touch at most a quarter of what an event is to reach, so that there is a radius for the rest.
    let scale = (settings.fan_out / 4.0 / covered).sqrt().min(1.0);
    let length = |rng: &mut Rng| least * (most / least).powf(rng.f64()) * scale;
    let zones = (0..settings.zones).map(|number| {
        let (width, height) = (length(rng), length(rng));
        let (x, y) = (rng.f64() * (SIDE - width), rng.f64() * (SIDE - height));
        let zone = Zone::new(x, y, x + width, y + height).expect("sides are positive");
        // Everybody gets one before anybody gets more than chance gives.
        let owner = if number < settings.sessions { number } else { rng.u32(..settings.sessions) };
        (zone, owner)
    });
    let (zones, owners) = zones.unzip();
    (zones, owners, Draw::Uniform { side: [SIDE, SIDE], radius: 0.0 })
}

/// A few places, anywhere.
pub(super) fn hotspots(side: [f64; 2], rng: &mut Rng) -> Draw {
    let places = (0..HOTSPOTS).map(|_| [rng.f64() * side[0], rng.f64() * side[1]]).collect();
    Draw::Hotspot { places, spread: side[0].max(side[1]) / 40.0, side, radius: 0.0 }
}

/// A point near one of the places, which are chosen by Zipf's law: the second half as often as the first, and so on.
pub(super) fn near(places: &[[f64; 2]], spread: f64, side: [f64; 2], rng: &mut Rng) -> [f64; 2] {
    let all: f64 = (1..=places.len()).map(|rank| 1.0 / rank as f64).sum();
    let mut left = rng.f64() * all;
    let chosen = (1..places.len()).take_while(|rank| {
        left -= 1.0 / *rank as f64;
        left > 0.0
    });
    let [x, y] = places[chosen.count()];
    // Box and Muller's pair of independent normal deviates.
    let (distance, angle) = (spread * (-2.0 * (1.0 - rng.f64()).ln()).sqrt(), TAU * rng.f64());
    [(x + distance * angle.cos()).clamp(0.0, side[0]), (y + distance * angle.sin()).clamp(0.0, side[1])]
}

/// The unit of distances in [`at_border`], a multiple of 1/8, with which events reach about so many unit squares.
pub(super) fn border_step(fan_out: f64) -> f64 {
    // A circle of radius r touches 1 + 4 r + pi r^2 unit squares in the mean; radii are 0 to 5 steps.
    let mean_radius = ((4.0 + PI * (fan_out - 1.0).max(0.0)).sqrt() - 2.0) / PI;
    ((mean_radius / 3.0 * 8.0).round() / 8.0).max(0.125)
}

/// A circle that just touches, or just misses, an edge or a corner of a unit square. All numbers are multiples of 1/8,
/// so distances are exact; beside a corner they are in the ratio 3 to 4 to 5.
pub(super) fn at_border(grid: Grid, step: f64, rng: &mut Rng) -> (f64, f64, f64) {
    let corner = [grid.columns, grid.rows].map(|squares| f64::from(rng.u32(0..=squares)));
    let mut sign = || if rng.bool() { 1.0 } else { -1.0 };
    let (x_sign, y_sign) = (sign(), sign());
    let along = f64::from(rng.u32(1..8)) / 8.0;
    let (offset, radius) = match rng.u32(..4) {
        // A point on a corner.
        0 => ([0.0, 0.0], 0.0),
        // Beside the middle of an edge.
        1 => ([x_sign * step, along], step),
        2 => ([along, y_sign * step * 2.0], step * 2.0),
        // Off a corner.
        _ => ([x_sign * step * 3.0, y_sign * step * 4.0], step * 5.0),
    };
    let misses = radius > 0.0 && rng.u32(..4) == 0;
    let radius: f64 = if misses { radius.next_down() } else { radius };
    (corner[0] + offset[0], corner[1] + offset[1], radius)
}
