//! The directory's settings, checked.

use std::collections::BTreeMap;

use zonecast_protocol::WorldName;

use super::{Draft, problem::Problem, raw::Raw};

const SPAWN_POINTS: &str = "directory.spawn_points";

/// The settings while they are being checked.
#[derive(Debug, Default)]
pub(super) struct DirectoryDraft {
    pub(super) spawn_points: Option<String>,
}

/// What the service is told.
pub(super) fn load(raw: &Raw, draft: &Draft, problems: &mut Vec<Problem>) -> zonecast_directory::Config {
    let mut config = zonecast_directory::Config::default();
    if let Some(text) = &draft.directory.spawn_points {
        match spawn_points(text) {
            Some(points) => config.spawn_points = points,
            None => {
                let rule = "expected WORLD:X,Y, several joined by semicolons, each world once";
                problems.push(Problem::of(raw, SPAWN_POINTS, rule.to_owned()));
            }
        }
    }
    config
}

fn spawn_points(text: &str) -> Option<BTreeMap<WorldName, [f64; 2]>> {
    let mut points = BTreeMap::new();
    for point in text.split(';') {
        let (world, place) = point.split_once(':')?;
        let (x, y) = place.split_once(',')?;
        let number = |text: &str| text.parse().ok().filter(|number: &f64| number.is_finite());
        let before = points.insert(WorldName::new(world).ok()?, [number(x)?, number(y)?]);
        if before.is_some() {
            return None;
        }
    }
    Some(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spawn_points_are_read_and_others_refused() {
        let points = spawn_points("meadow:500,500;moon:-1e3,0.5").unwrap();
        assert_eq!(points[&WorldName::new("moon").unwrap()].map(f64::to_bits), [-1e3, 0.5].map(f64::to_bits));
        for bad in ["", "meadow", "meadow:1", "meadow:a,1", "meadow:NaN,1", "a b:1,1", "a:1,1;a:2,2", "a:1,1;"] {
            assert!(spawn_points(bad).is_none(), "{bad}");
        }
    }
}
