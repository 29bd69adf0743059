//! Which sessions an event should reach, by comparing it with every zone.

use zonecast_protocol::Circle;

use crate::WorldFile;

/// All zones of a world, in columns, for a plain loop over them.
///
/// Its geometry is its own too: the distance to the nearest point, found by clamping the centre into the rectangle. It
/// is meant for worlds of ordinary size, where squares neither overflow nor vanish.
#[derive(Debug, Clone, Default)]
pub struct Oracle {
    min_x: Vec<f64>,
    min_y: Vec<f64>,
    max_x: Vec<f64>,
    max_y: Vec<f64>,
    session: Vec<usize>,
    sessions: usize,
}

impl Oracle {
    /// An oracle for this world.
    #[must_use]
    pub fn new(world: &WorldFile) -> Self {
        let mut oracle = Self { sessions: world.sessions.len(), ..Self::default() };
        for row in &world.zones {
            let ([min_x, min_y], [max_x, max_y]) = (row.zone.min(), row.zone.max());
            oracle.min_x.push(min_x);
            oracle.min_y.push(min_y);
            oracle.max_x.push(max_x);
            oracle.max_y.push(max_y);
            oracle.session.push(row.session);
        }
        oracle
    }

    /// The sessions that an event reaches, ascending, each once.
    #[must_use]
    pub fn reached(&self, circle: &Circle) -> Vec<usize> {
        let (x, y, radius) = (circle.x(), circle.y(), circle.radius());
        let mut reached = vec![false; self.sessions];
        let low = self.min_x.iter().zip(&self.min_y);
        let high = self.max_x.iter().zip(&self.max_y);
        for (((min_x, min_y), (max_x, max_y)), session) in low.zip(high).zip(&self.session) {
            let (east, north) = (x - x.max(*min_x).min(*max_x), y - y.max(*min_y).min(*max_y));
            reached[*session] |= east * east + north * north <= radius * radius;
        }
        reached.iter().enumerate().filter(|(_, hit)| **hit).map(|(session, _)| session).collect()
    }
}
