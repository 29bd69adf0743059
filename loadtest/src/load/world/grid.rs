//! Unit squares side by side, and who holds them.

/// A grid of unit squares, the first at the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::load) struct Grid {
    /// Squares along x.
    pub(in crate::load) columns: u32,
    /// Squares along y.
    pub(in crate::load) rows: u32,
}

impl Grid {
    /// The grid closest to a square that holds exactly so many.
    pub(in crate::load) fn filled(zones: u32) -> Self {
        let rows = (1..=zones.isqrt()).rev().find(|rows| zones.is_multiple_of(*rows)).unwrap_or(1);
        Self { columns: zones / rows, rows }
    }

    /// The smallest square grid with room for so many.
    pub(in crate::load) fn around(zones: u32) -> Self {
        let root = zones.isqrt();
        let columns = if root * root < zones { root + 1 } else { root };
        Self { columns, rows: zones.div_ceil(columns) }
    }

    /// Where the square of this number lies: its column and row.
    pub(in crate::load) fn place(self, zone: u32) -> (u32, u32) {
        (zone % self.columns, zone / self.columns)
    }

    /// The block of squares that repeats over the grid: as many as there are sessions, or a few less, each of another
    /// session. No two squares that are closer than its shorter side have the same session.
    pub(in crate::load) fn tile(self, sessions: u32) -> (u32, u32) {
        // Four squares across and down, for events that touch sixteen, if there are sessions for that.
        let least = sessions.isqrt().min(4);
        let fits = |count: u32| {
            let down = (1..=count.isqrt()).rev().find(|down| count.is_multiple_of(*down))?;
            (down >= least).then_some((count / down, down))
        };
        let (across, down) = (1..=sessions).rev().find_map(fits).unwrap_or((1, 1));
        (across.min(self.columns), down.min(self.rows))
    }

    /// The session that holds a square.
    pub(in crate::load) fn owner(self, zone: u32, tile: (u32, u32)) -> u32 {
        let (x, y) = self.place(zone);
        x % tile.0 + tile.0 * (y % tile.1)
    }
}

/// A circle that touches exactly `span` times `span` squares of a grid.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::load) struct Exact {
    /// Squares along each axis.
    pub(in crate::load) span: u32,
    /// Its radius: beyond the farthest square of the block, short of the nearest one outside.
    pub(in crate::load) radius: f64,
}

impl Exact {
    /// For 1, 4, 9, 16, 25 or 36 squares. For an odd span the centre is that of a square, for an even one a corner.
    pub(in crate::load) fn of(fan_out: f64) -> Option<Self> {
        // The farthest square of the block begins (span - 2) / 2 from the centre along each axis, the nearest outside
        // span / 2 along one. From a span of 7 on the first is farther than the second.
        let circles = [(1, 0.25), (2, 0.5), (3, 1.0), (4, 1.7), (5, 2.3), (6, 2.9)];
        let found = circles.into_iter().find(|(span, _)| f64::from(span * span) == fan_out);
        found.map(|(span, radius)| Self { span, radius })
    }

    /// How far the centre of a circle is from the middle between squares: half a square for odd spans.
    pub(in crate::load) fn offset(self) -> f64 {
        if self.span % 2 == 1 { 0.5 } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_hold_what_they_should() {
        assert_eq!(Grid::filled(256), Grid { columns: 16, rows: 16 });
        assert_eq!(Grid::filled(1000), Grid { columns: 40, rows: 25 });
        assert_eq!(Grid::filled(7), Grid { columns: 7, rows: 1 });
        assert_eq!(Grid::around(10), Grid { columns: 4, rows: 3 });
        assert_eq!(Grid::around(16), Grid { columns: 4, rows: 4 });
        assert_eq!(Grid::around(1), Grid { columns: 1, rows: 1 });
    }

    #[test]
    fn near_squares_belong_to_different_sessions() {
        let grid = Grid::filled(1024);
        for (sessions, tile) in
            [(32, (8, 4)), (16, (4, 4)), (100, (10, 10)), (4, (2, 2)), (1000, (32, 25)), (33, (8, 4))]
        {
            assert_eq!(grid.tile(sessions), tile, "{sessions}");
            let span = tile.0.min(tile.1);
            for left in 0..=grid.columns - span {
                for top in 0..=grid.rows - span {
                    let block = (0..span * span).map(|n| (left + n % span) + (top + n / span) * grid.columns);
                    let mut owners: Vec<u32> = block.map(|zone| grid.owner(zone, tile)).collect();
                    assert!(owners.iter().all(|owner| *owner < sessions));
                    owners.sort_unstable();
                    owners.dedup();
                    assert_eq!(owners.len() as u32, span * span);
                }
            }
        }
    }
}
