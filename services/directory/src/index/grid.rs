//! Which zones are at a point: cells of a grid for each size of zone.
//!
//! A zone lies in the grid whose cells are just as large as it is, or less than twice as large, so that it touches at most
//! a few of them, and a point is looked up in one cell of each grid in use. Sizes are powers of two: no rounding.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use zonecast_protocol::{Circle, Zone};

/// Sizes of cells are 2 to the power of this. Smaller zones lie in the smallest cells.
const LEVEL_MIN: i32 = -30;
/// Larger cells could not be reckoned with.
const LEVEL_MAX: i32 = 1_023;

/// A cell: the level, and its corner in cells.
type Cell = (i32, u64, u64);

/// The zones of one world.
#[derive(Debug, Default)]
pub struct Grid {
    zones: BTreeMap<u64, Zone>,
    cells: FxHashMap<Cell, Vec<(u64, Zone)>>,
    /// The grids in use, and how many zones lie in each.
    levels: BTreeMap<i32, usize>,
}

impl Grid {
    /// Adds a zone that is not among them.
    pub fn add(&mut self, id: u64, zone: Zone) {
        self.zones.insert(id, zone);
        for cell in cells(&zone) {
            self.cells.entry(cell).or_default().push((id, zone));
        }
        *self.levels.entry(level(&zone)).or_default() += 1;
    }

    /// Takes a zone away, if it is there.
    pub fn remove(&mut self, id: u64) {
        let Some(zone) = self.zones.remove(&id) else { return };
        for cell in cells(&zone) {
            if let Some(inside) = self.cells.get_mut(&cell) {
                inside.retain(|(other, _)| *other != id);
                if inside.is_empty() {
                    self.cells.remove(&cell);
                }
            }
        }
        if let Some(count) = self.levels.get_mut(&level(&zone)) {
            *count -= 1;
            if *count == 0 {
                self.levels.remove(&level(&zone));
            }
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.zones.is_empty()
    }

    /// The zone to which a point belongs: of those that contain it the one on the fewest of whose east and north edges it
    /// lies, and of several such the one with the least id.
    #[must_use]
    pub fn at(&self, x: f64, y: f64) -> Option<u64> {
        let point = Circle::new(x, y, 0.0).ok()?;
        let mut best = None;
        for level in self.levels.keys() {
            let size = size(*level);
            let Some(inside) = self.cells.get(&(*level, corner(x, size), corner(y, size))) else { continue };
            for (id, zone) in inside.iter().filter(|(_, zone)| zone.contains_centre(&point)) {
                let ends = u8::from(x >= zone.max()[0]) + u8::from(y >= zone.max()[1]);
                if best.is_none_or(|best| (ends, *id) < best) {
                    best = Some((ends, *id));
                }
            }
        }
        best.map(|(_, id)| id)
    }

    /// The zones that have an area in common with a rectangle.
    #[must_use]
    pub fn overlapping(&self, within: &Zone) -> Vec<Zone> {
        let shares_area = |zone: &&Zone| {
            (0..2).all(|axis| zone.min()[axis].max(within.min()[axis]) < zone.max()[axis].min(within.max()[axis]))
        };
        self.zones.values().filter(shares_area).copied().collect()
    }
}

fn size(level: i32) -> f64 {
    2_f64.powi(level)
}

/// The least level whose cells are no smaller than the zone, as far as there is one.
fn level(zone: &Zone) -> i32 {
    let ([min_x, min_y], [max_x, max_y]) = (zone.min(), zone.max());
    let longest = (max_x - min_x).max(max_y - min_y);
    let mut level = LEVEL_MIN;
    // An exponent to begin with; at most one step from there.
    if longest.is_finite() && longest > size(LEVEL_MIN) {
        level = i32::try_from((longest.to_bits() >> 52) & 0x7ff).unwrap_or(0) - 1_023;
    } else if !longest.is_finite() {
        level = LEVEL_MAX;
    }
    if level < LEVEL_MAX && size(level) < longest { level + 1 } else { level }
}

/// The number of the cell in which a coordinate lies, as the bits of the whole number that it is.
fn corner(coordinate: f64, size: f64) -> u64 {
    number((coordinate / size).floor())
}

fn number(cell: f64) -> u64 {
    // Plus 0 turns -0 into 0.
    (cell + 0.0).to_bits()
}

/// All cells that a zone touches: at most two along each axis, and five where it is as large as numbers go.
fn cells(zone: &Zone) -> Vec<Cell> {
    let level = level(zone);
    let size = size(level);
    let along = |axis: usize| {
        let (first, last) = ((zone.min()[axis] / size).floor(), (zone.max()[axis] / size).floor());
        // Where a number has no neighbour at a distance of 1 there is only one cell.
        let steps = (0..5_u8).map(move |step| first + f64::from(step));
        let mut corners: Vec<u64> = steps.filter(|at| *at <= last).map(number).collect();
        corners.dedup();
        corners
    };
    let ys = along(1);
    along(0).into_iter().flat_map(|x| ys.iter().map(move |y| (level, x, *y))).collect()
}
