//! Zones that move while events are published, and what that lets one expect.
//!
//! A move is in force some time between its request and its confirmation; an event is matched some time between its
//! publish and its acknowledgement. So of each zone it is known at which of its positions it can have been when an
//! event was matched. If the event touches all of these, it must arrive; if it touches none of these of any zone of a
//! session, it must not; otherwise it may.

use std::{collections::HashMap, fs, io, path::Path, rc::Rc, time::Duration};

use zonecast_protocol::{Circle, Zone};

use super::{GeneratorError, at};
use crate::load::{
    LoadSettings,
    clock::now_ns,
    tally::Window,
    transport::Mover,
    world::{POSITIONS, World},
};

/// How often a session moves its zones.
const TICK: Duration = Duration::from_millis(10);

/// When a move was asked for and when it was confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) asked_ns: u64,
    pub(super) confirmed_ns: u64,
}

/// All moves, by zone, in order.
#[derive(Debug, Default)]
pub(super) struct MoveLog {
    by_zone: HashMap<u32, Vec<Move>>,
}

impl MoveLog {
    pub(super) fn add(&mut self, other: Self) {
        self.by_zone.extend(other.by_zone);
    }

    /// Moves that were confirmed within the window.
    pub(super) fn within(&self, window: Window) -> u64 {
        let moves = self.by_zone.values().flatten();
        moves.filter(|made| window.slot(made.confirmed_ns).is_some()).count() as u64
    }

    /// How many moves a zone can have made at a time within these: at least, and at most.
    fn range(&self, zone: u32, from_ns: u64, to_ns: u64) -> (usize, usize) {
        let moves = self.by_zone.get(&zone).map_or(&[][..], Vec::as_slice);
        let least = moves.partition_point(|made| made.confirmed_ns <= from_ns);
        let most = moves.partition_point(|made| made.asked_ns <= to_ns);
        (least, most)
    }
}

/// Moves a session's zones in turn, several in one step each [`TICK`], until the window ends.
pub(super) async fn drive<M: Mover>(
    mover: M,
    session: u32,
    settings: LoadSettings,
    world: Rc<World>,
    window: Window,
) -> Result<MoveLog, GeneratorError> {
    let zones = world.of_session(session);
    let mut log: Vec<Vec<Move>> = vec![Vec::new(); zones.len()];
    let per_second = settings.moves_per_second * zones.len() as f64 / f64::from(settings.zones);
    let mut tick = tokio::time::interval(TICK);
    let begun = now_ns();
    let mut made = 0_usize;
    while now_ns() < window.end_ns && !zones.is_empty() {
        tick.tick().await;
        let elapsed_s = Duration::from_nanos(now_ns() - begun).as_secs_f64();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of moves, far below 2^53")]
        let due = ((elapsed_s * per_second) as usize).saturating_sub(made).min(zones.len());
        if due == 0 {
            continue;
        }
        let chosen: Vec<usize> = (made..made + due).map(|turn| turn % zones.len()).collect();
        let step = chosen.iter().map(|index| (zones[*index].0, world.position(zones[*index].0, log[*index].len() + 1)));
        let step: Vec<_> = step.collect();
        let asked_ns = now_ns();
        mover.move_zones(&step).await.map_err(at(format!("session {session}")))?;
        let confirmed_ns = now_ns();
        for index in chosen {
            log[index].push(Move { asked_ns, confirmed_ns });
        }
        made += due;
    }
    Ok(MoveLog { by_zone: zones.into_iter().map(|(zone, _)| zone).zip(log).collect() })
}

/// When each event of a publisher was sent and acknowledged.
pub(super) struct Times(Vec<(u64, u64)>);

impl Times {
    pub(super) fn read(directory: &Path, publisher: u32) -> io::Result<Self> {
        let bytes = fs::read(Self::path(directory, publisher))?;
        let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Ok(Self(bytes.chunks_exact(16).map(|pair| (number(pair), number(&pair[8..]))).collect()))
    }

    pub(super) fn write(directory: &Path, publisher: u32, times: &[(u64, u64)]) -> io::Result<()> {
        let bytes: Vec<u8> =
            times.iter().flat_map(|(sent, acked)| [sent.to_le_bytes(), acked.to_le_bytes()]).flatten().collect();
        fs::write(Self::path(directory, publisher), bytes)
    }

    fn path(directory: &Path, publisher: u32) -> std::path::PathBuf {
        directory.join(format!("publisher-{publisher}"))
    }
}

/// Which zones each circle of each publisher touches, and at which of their places.
pub(super) struct Touches {
    pool_len: u64,
    /// By publisher and place in its pool: zones, ascending, with a bit for each of their places that is touched.
    by_place: Vec<Vec<Vec<(u32, u8)>>>,
}

impl Touches {
    /// By comparing every circle with every place of every zone.
    pub(super) fn new(settings: &LoadSettings, world: &World) -> Self {
        // The rectangle around all places of a zone rules most of them out at once.
        let around = world.zones().iter().map(|home| {
            let [east, north] = [1, 3].map(|moves| World::shifted(home, moves).max());
            Zone::new(home.min()[0], home.min()[1], east[0], north[1])
                .expect("greater than the rectangle that it is around")
        });
        let around: Vec<Zone> = around.collect();
        let of_circle = |circle: &Circle| {
            let near = (0_u32..).zip(&around).filter(|(_, around)| around.touches(circle));
            let touched = near.map(|(zone, _)| {
                let bits = (0..POSITIONS).map(|moves| u8::from(world.position(zone, moves).touches(circle)) << moves);
                (zone, bits.sum())
            });
            touched.filter(|(_, bits)| *bits != 0).collect()
        };
        let by_place = (0..settings.publishers).map(|publisher| world.pool(publisher).iter().map(of_circle).collect());
        Self { pool_len: u64::from(world.pool_len()), by_place: by_place.collect() }
    }

    /// The zones that a circle touches at any of their places, ascending.
    pub(super) fn zones(&self, publisher: u32, place: u32) -> Vec<u32> {
        let touched = self.by_place.get(publisher as usize).and_then(|places| places.get(place as usize));
        touched.into_iter().flatten().map(|(zone, _)| *zone).collect()
    }

    /// Whether an event must arrive at the session that holds these zones, must not, or may.
    pub(super) fn verdict(
        &self,
        publisher: usize,
        sequence: u64,
        times: &Times,
        log: &MoveLog,
        holds: impl Fn(u32) -> bool,
    ) -> Option<bool> {
        let (sent_ns, acked_ns) = *times.0.get(usize::try_from(sequence).ok()?)?;
        #[allow(clippy::cast_possible_truncation, reason = "the rest by a length of at most 4,096")]
        let place = (sequence % self.pool_len) as usize;
        let mut verdict = Some(false);
        for (zone, bits) in self.by_place.get(publisher)?.get(place)?.iter().filter(|(zone, _)| holds(*zone)) {
            let (least, most) = log.range(*zone, sent_ns, acked_ns);
            let touched = |moves: &usize| bits >> (moves % POSITIONS) & 1 == 1;
            // Having gone round once, it can have been anywhere.
            let possible = least..=most.min(least + POSITIONS - 1);
            let hits = possible.clone().filter(touched).count();
            if hits == possible.count() {
                return Some(true);
            }
            if hits > 0 {
                verdict = None;
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Scenario;

    #[test]
    fn only_what_is_certain_is_held_against_a_broker() {
        let settings = LoadSettings {
            scenario: Scenario::Moving,
            zones: 1,
            sessions: 1,
            publishers: 1,
            fan_out: 1.0,
            ..LoadSettings::default()
        };
        let world = World::build(&settings);
        let mut touches = Touches::new(&settings, &world);
        // Touched at home and half a zone to the east of it, nowhere else.
        touches.by_place[0][0] = vec![(0, 0b0011)];
        let moves =
            [(100, 110), (200, 210), (300, 310)].map(|(asked_ns, confirmed_ns)| Move { asked_ns, confirmed_ns });
        let log = MoveLog { by_zone: HashMap::from([(0, moves.to_vec())]) };
        for ((sent, acked), verdict) in [
            ((10, 99), Some(true)),
            ((10, 199), Some(true)),
            ((110, 199), Some(true)),
            ((110, 200), None),
            ((205, 209), None),
            ((210, 500), Some(false)),
            ((309, u64::MAX), Some(false)),
            ((10, u64::MAX), None),
        ] {
            let times = Times(vec![(sent, acked)]);
            assert_eq!(touches.verdict(0, 0, &times, &log, |_| true), verdict, "{sent}..{acked}");
        }
        let times = Times(vec![(10, 99)]);
        assert_eq!(touches.verdict(0, 0, &times, &log, |_| false), Some(false), "another session's zone");
        touches.by_place[0][0] = vec![];
        assert_eq!(touches.verdict(0, 0, &times, &log, |_| true), Some(false));
    }

    #[test]
    fn touches_are_those_of_every_place_of_every_zone() {
        let settings = LoadSettings { scenario: Scenario::Moving, zones: 30, sessions: 4, ..LoadSettings::default() };
        let world = World::build(&settings);
        let touches = Touches::new(&settings, &world);
        for publisher in 0..settings.publishers {
            for (place, circle) in world.pool(publisher).iter().enumerate().take(500) {
                let mut expected = Vec::new();
                for zone in 0..30 {
                    let at = |moves| world.position(zone, moves).touches(circle);
                    let bits = u8::from(at(0)) | u8::from(at(1)) << 1 | u8::from(at(2)) << 2 | u8::from(at(3)) << 3;
                    if bits != 0 {
                        expected.push((zone, bits));
                    }
                }
                assert_eq!(touches.by_place[publisher as usize][place], expected);
            }
        }
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        let directory = tempfile::tempdir().unwrap();
        let times = [(1, 2), (3, u64::MAX)];
        Times::write(directory.path(), 7, &times).unwrap();
        assert_eq!(Times::read(directory.path(), 7).unwrap().0, times);
        assert!(Times::read(directory.path(), 8).is_err());
    }
}
