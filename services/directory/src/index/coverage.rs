//! What nobody owns and what more than one owns, exactly: a sweep over the edges from west to east.

use zonecast_protocol::Zone;

/// How a rectangle is covered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Coverage {
    /// What no zone covers, as rectangles that do not overlap, by their minimum.
    pub holes: Vec<Zone>,
    /// What more than one zone covers, as holes.
    pub overlaps: Vec<Zone>,
}

/// Rectangles that may go on to the east: a south and a north edge, and where the west edge is.
type Open = Vec<([f64; 2], f64)>;

/// How zones cover a rectangle.
#[must_use]
pub fn coverage(zones: &[Zone], within: &Zone) -> Coverage {
    let ([west, south], [east, north]) = (within.min(), within.max());
    let mut edges = vec![west, east];
    edges.extend(zones.iter().flat_map(|zone| [zone.min()[0], zone.max()[0]]).filter(|x| west < *x && *x < east));
    edges.sort_by(f64::total_cmp);
    edges.dedup();
    // By where they begin, so that each strip looks only at those that may reach it.
    let mut zones: Vec<&Zone> = zones.iter().collect();
    zones.sort_by(|one, other| one.min()[0].total_cmp(&other.min()[0]));
    let mut waiting = zones.into_iter().peekable();
    let mut active: Vec<&Zone> = Vec::new();
    let (mut holes, mut overlaps) = (Strips::default(), Strips::default());
    for strip in edges.windows(2) {
        let (from, to) = (strip[0], strip[1]);
        while let Some(zone) = waiting.next_if(|zone| zone.min()[0] <= from) {
            active.push(zone);
        }
        active.retain(|zone| zone.max()[0] >= to);
        let (uncovered, covered_twice) = column(&active, south, north);
        holes.go_on(from, uncovered);
        overlaps.go_on(from, covered_twice);
    }
    Coverage { holes: holes.end(east), overlaps: overlaps.end(east) }
}

/// The parts from south to north that no zone covers, and those that more than one does.
fn column(active: &[&Zone], south: f64, north: f64) -> (Vec<[f64; 2]>, Vec<[f64; 2]>) {
    let clipped = active.iter().map(|zone| (zone.min()[1].max(south), zone.max()[1].min(north)));
    // Where how many begin or end.
    let mut steps: Vec<(f64, i32)> =
        clipped.filter(|(begins, ends)| begins < ends).flat_map(|(begins, ends)| [(begins, 1), (ends, -1)]).collect();
    steps.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mut uncovered, mut covered_twice): (Vec<[f64; 2]>, Vec<[f64; 2]>) = (Vec::new(), Vec::new());
    let (mut at, mut depth) = (south, 0);
    for (next, step) in steps.into_iter().chain([(north, 0)]) {
        let part = match depth {
            0 => Some(&mut uncovered),
            2.. => Some(&mut covered_twice),
            _ => None,
        };
        if let Some(parts) = part.filter(|_| at < next) {
            match parts.last_mut().filter(|last| last[1] >= at) {
                Some(last) => last[1] = next,
                None => parts.push([at, next]),
            }
        }
        (at, depth) = (next, depth + step);
    }
    (uncovered, covered_twice)
}

/// Rectangles of the same parts in strips beside each other become one.
#[derive(Default)]
struct Strips {
    open: Open,
    done: Vec<Zone>,
}

impl Strips {
    /// The strip that begins here has these parts, from south to north. Those that are open are in that order too, so that
    /// one walk along both finds which are the same.
    fn go_on(&mut self, from: f64, parts: Vec<[f64; 2]>) {
        let mut before = std::mem::take(&mut self.open).into_iter().peekable();
        for part in parts {
            while let Some(ended) = before.next_if(|(known, _)| known[0] < part[0]) {
                self.close(ended, from);
            }
            let begun = match before.next_if(|(known, _)| *known == part) {
                Some((_, begun)) => begun,
                None => from,
            };
            self.open.push((part, begun));
        }
        before.for_each(|ended| self.close(ended, from));
    }

    fn close(&mut self, ([south, north], west): ([f64; 2], f64), east: f64) {
        self.done.extend(Zone::new(west, south, east, north));
    }

    fn end(mut self, east: f64) -> Vec<Zone> {
        std::mem::take(&mut self.open).into_iter().for_each(|open| self.close(open, east));
        self.done.sort_by(|one, other| {
            let ([x, y], [other_x, other_y]) = (one.min(), other.min());
            x.total_cmp(&other_x).then(y.total_cmp(&other_y))
        });
        self.done
    }
}
