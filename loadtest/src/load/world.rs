//! The zones, who holds them, and the circles of the events, all from a seed.

pub(super) mod grid;
mod scatter;

use fastrand::Rng;
use zonecast_protocol::{Circle, Zone};

use super::{LoadSettings, Scenario};
use grid::{Exact, Grid};

/// Where each zone may be in [`Scenario::Moving`]: at home and at three places half a zone away.
pub const POSITIONS: usize = 4;
/// Circles that a publisher goes round in, in worlds of up to [`TOUCHES_PER_POOL`] / 4,096 zones; fewer in larger ones.
const POOL_LEN_MAX: u32 = 4096;
/// Zones times circles that brute force compares for each publisher.
const TOUCHES_PER_POOL: u32 = 1 << 28;

/// Times that the interval of possible radii is halved: to a millionth of the world.
const RADIUS_STEPS: u32 = 20;

/// A world. The same settings give the same world in every process.
#[derive(Debug, Clone)]
pub struct World {
    zones: Vec<Zone>,
    owners: Vec<u32>,
    draw: Draw,
    seed: u64,
    pool_len: u32,
}

/// How the circles of events are drawn.
#[derive(Debug, Clone)]
enum Draw {
    Grid { grid: Grid, exact: Exact },
    Border { grid: Grid, step: f64 },
    Uniform { side: [f64; 2], radius: f64 },
    Hotspot { places: Vec<[f64; 2]>, spread: f64, side: [f64; 2], radius: f64 },
}

impl World {
    /// The world of these settings, which must have been checked.
    #[must_use]
    pub fn build(settings: &LoadSettings) -> Self {
        let mut rng = Rng::with_seed(settings.seed);
        let (zones, owners, draw) = match settings.scenario {
            Scenario::Grid => {
                let grid = Grid::filled(settings.zones);
                let exact = Exact::of(settings.fan_out).unwrap_or(Exact { span: 1, radius: 0.25 });
                let (zones, owners) = unit_zones(grid, settings);
                (zones, owners, Draw::Grid { grid, exact })
            }
            Scenario::Random => scatter::random(settings, &mut rng),
            Scenario::Border => {
                let grid = Grid::around(settings.zones);
                let (zones, owners) = unit_zones(grid, settings);
                (zones, owners, Draw::Border { grid, step: scatter::border_step(settings.fan_out) })
            }
            Scenario::Hotspot | Scenario::Moving => {
                let grid = Grid::around(settings.zones);
                let (zones, owners) = unit_zones(grid, settings);
                let side = [f64::from(grid.columns), f64::from(grid.rows)];
                let draw = if settings.scenario == Scenario::Hotspot {
                    scatter::hotspots(side, &mut rng)
                } else {
                    Draw::Uniform { side, radius: 0.0 }
                };
                (zones, owners, draw)
            }
        };
        let pool_len = (TOUCHES_PER_POOL / settings.zones.max(1)).clamp(64, POOL_LEN_MAX);
        // A power of two, so that going round costs nothing.
        let pool_len = 1 << pool_len.ilog2();
        let mut world = Self { zones, owners, draw, seed: rng.u64(..), pool_len };
        world.find_radius(settings.fan_out);
        world
    }

    /// All zones, by number.
    #[must_use]
    pub fn zones(&self) -> &[Zone] {
        &self.zones
    }

    /// The session of each zone, by number.
    #[must_use]
    pub fn owners(&self) -> &[u32] {
        &self.owners
    }

    /// The zones of a session, with their numbers.
    #[must_use]
    pub fn of_session(&self, session: u32) -> Vec<(u32, Zone)> {
        let all = (0_u32..).zip(self.zones.iter().zip(&self.owners));
        all.filter(|(_, (_, owner))| **owner == session).map(|(number, (zone, _))| (number, *zone)).collect()
    }

    /// Circles in a publisher's pool.
    #[must_use]
    pub fn pool_len(&self) -> u32 {
        self.pool_len
    }

    /// The circles that a publisher goes round in.
    #[must_use]
    pub fn pool(&self, publisher: u32) -> Vec<Circle> {
        let mut rng = Rng::with_seed(self.seed ^ u64::from(publisher).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        (0..self.pool_len).map(|_| self.draw.circle(&mut rng)).collect()
    }

    /// Where a zone is after so many moves: it goes round in a small square.
    #[must_use]
    pub fn position(&self, zone: u32, moves: usize) -> Zone {
        Self::shifted(&self.zones[zone as usize], moves)
    }

    /// Where a zone with this home is after so many moves.
    pub(super) fn shifted(home: &Zone, moves: usize) -> Zone {
        let [east, north] = [[0.0, 0.0], [0.5, 0.0], [0.5, 0.5], [0.0, 0.5]][moves % POSITIONS];
        let ([min_x, min_y], [max_x, max_y]) = (home.min(), home.max());
        // Home is a square of whole numbers, so this is exact.
        Zone::new(min_x + east, min_y + north, max_x + east, max_y + north).expect("a moved rectangle is one")
    }

    /// The zones that a circle touches when all are at home, ascending, by comparing it with each.
    #[must_use]
    pub fn touched(&self, circle: &Circle) -> Vec<u32> {
        (0_u32..).zip(&self.zones).filter(|(_, zone)| zone.touches(circle)).map(|(number, _)| number).collect()
    }

    /// The sessions that hold these zones, ascending, each once.
    #[must_use]
    pub fn holders(&self, zones: &[u32]) -> Vec<u32> {
        let mut holders: Vec<u32> = zones.iter().map(|zone| self.owners[*zone as usize]).collect();
        holders.sort_unstable();
        holders.dedup();
        holders
    }

    /// Finds the radius with which circles reach so many sessions in the mean, where it is open.
    fn find_radius(&mut self, fan_out: f64) {
        let (Draw::Uniform { side, .. } | Draw::Hotspot { side, .. }) = &self.draw else { return };
        let mut high = side[0].hypot(side[1]);
        let mut low = 0.0;
        let mut rng = Rng::with_seed(self.seed);
        let samples = ((1 << 20) / self.zones.len().max(1)).clamp(64, 512);
        let centres: Vec<Circle> = (0..samples).map(|_| self.draw.circle(&mut rng)).collect();
        for _ in 0..RADIUS_STEPS {
            let radius = f64::midpoint(low, high);
            let reached = centres.iter().map(|centre| {
                let circle = Circle::new(centre.x(), centre.y(), radius).expect("finite and not negative");
                self.holders(&self.touched(&circle)).len() as f64
            });
            if reached.sum::<f64>() / (samples as f64) < fan_out {
                low = radius;
            } else {
                high = radius;
            }
        }
        if let Draw::Uniform { radius, .. } | Draw::Hotspot { radius, .. } = &mut self.draw {
            *radius = high;
        }
    }
}

/// Unit squares, as many as there are zones.
fn unit_zones(grid: Grid, settings: &LoadSettings) -> (Vec<Zone>, Vec<u32>) {
    let tile = grid.tile(settings.sessions);
    let square = |number| {
        let (x, y) = grid.place(number);
        let (x, y) = (f64::from(x), f64::from(y));
        (Zone::new(x, y, x + 1.0, y + 1.0).expect("a unit square is a rectangle"), grid.owner(number, tile))
    };
    (0..settings.zones).map(square).unzip()
}

impl Draw {
    fn circle(&self, rng: &mut Rng) -> Circle {
        let (x, y, radius) = match self {
            Self::Grid { grid, exact } => {
                let reach = exact.span / 2;
                let [x, y] = [grid.columns, grid.rows].map(|squares| {
                    let last = squares - exact.span.div_ceil(2);
                    f64::from(rng.u32(reach..=last.max(reach))) + exact.offset()
                });
                (x, y, exact.radius)
            }
            Self::Border { grid, step } => scatter::at_border(*grid, *step, rng),
            Self::Uniform { side, radius } => (rng.f64() * side[0], rng.f64() * side[1], *radius),
            Self::Hotspot { places, spread, side, radius } => {
                let [x, y] = scatter::near(places, *spread, *side, rng);
                (x, y, *radius)
            }
        };
        Circle::new(x, y, radius).expect("drawn numbers are finite, and radii not negative")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(scenario: Scenario, zones: u32, sessions: u32, fan_out: f64) -> LoadSettings {
        let settings = LoadSettings { scenario, zones, sessions, fan_out, ..LoadSettings::default() };
        assert_eq!(settings.check(), Ok(()));
        settings
    }

    fn reached(world: &World, publisher: u32) -> Vec<(usize, usize)> {
        let pool = world.pool(publisher);
        let touched = pool.iter().take(1024).map(|circle| world.touched(circle));
        touched.map(|zones| (zones.len(), world.holders(&zones).len())).collect()
    }

    #[test]
    fn in_a_grid_every_event_reaches_exactly_so_many_zones_and_sessions() {
        for (fan_out, sessions) in
            [(1.0, 1), (1.0, 32), (4.0, 32), (4.0, 4), (9.0, 32), (16.0, 32), (16.0, 16), (25.0, 36), (36.0, 36)]
        {
            let world = World::build(&settings(Scenario::Grid, 256, sessions, fan_out));
            for (zones, holders) in reached(&world, 1) {
                assert_eq!((zones as f64, holders as f64), (fan_out, fan_out));
            }
        }
    }

    #[test]
    fn in_other_worlds_events_reach_so_many_sessions_in_the_mean() {
        for scenario in [Scenario::Random, Scenario::Hotspot, Scenario::Moving] {
            for (zones, fan_out) in [(256, 4.0), (1000, 2.0), (1000, 10.0)] {
                let world = World::build(&settings(scenario, zones, 32, fan_out));
                let reached = reached(&world, 0);
                let mean = reached.iter().map(|(_, holders)| *holders as f64).sum::<f64>() / reached.len() as f64;
                assert!((mean - fan_out).abs() < 0.2 * fan_out, "{scenario:?}, {zones} zones: {mean} for {fan_out}");
                assert_eq!(world.owners().iter().max(), Some(&31));
            }
        }
    }

    #[test]
    fn at_borders_events_touch_exactly_and_just_miss() {
        let world = World::build(&settings(Scenario::Border, 256, 32, 4.0));
        let (mut exact, mut missed) = (0, 0);
        for circle in world.pool(0) {
            let wider = Circle::new(circle.x(), circle.y(), circle.radius().next_up()).unwrap();
            let narrower = Circle::new(circle.x(), circle.y(), circle.radius().next_down().max(0.0)).unwrap();
            let touches = |circle| world.touched(circle).len();
            exact += usize::from(touches(&circle) > touches(&narrower) || circle.radius() == 0.0);
            missed += usize::from(touches(&circle) < touches(&wider));
        }
        assert!(exact > 1000 && missed > 200, "{exact} exact, {missed} just missed");
        let reached = reached(&world, 0);
        let mean = reached.iter().map(|(_, holders)| *holders as f64).sum::<f64>() / reached.len() as f64;
        assert!((2.0..8.0).contains(&mean), "{mean}");
    }

    #[test]
    fn a_seed_gives_the_same_world_and_another_another() {
        for scenario in [Scenario::Random, Scenario::Hotspot, Scenario::Border] {
            let first = settings(scenario, 100, 16, 3.0);
            let (a, b) = (World::build(&first), World::build(&first));
            assert_eq!((a.zones(), a.owners(), a.pool(2)), (b.zones(), b.owners(), b.pool(2)));
            assert_ne!(a.pool(2), a.pool(3));
            assert_ne!(a.pool(2), World::build(&LoadSettings { seed: 2, ..first }).pool(2));
        }
    }

    #[test]
    fn moved_zones_come_home() {
        let world = World::build(&settings(Scenario::Moving, 64, 16, 2.0));
        assert_eq!(world.position(9, 0), world.zones()[9]);
        assert_eq!(world.position(9, POSITIONS), world.zones()[9]);
        for moves in 1..POSITIONS {
            let moved = world.position(9, moves);
            assert_ne!(moved, world.zones()[9]);
            assert!((moved.area() - 1.0).abs() < 1e-12);
        }
    }
}
