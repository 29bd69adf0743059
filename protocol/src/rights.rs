//! What a client may do at a broker.

use std::collections::BTreeSet;

use crate::{Circle, Kind, Refusal, TopicPattern, WorldName, Zone, wire::ErrorCode};

/// Any, or only what is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permitted<T> {
    /// Whatever there is.
    Any,
    /// These and no others; none at all where it is empty.
    Only(BTreeSet<T>),
}

/// Where something may be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Area {
    /// Anywhere.
    Everywhere,
    /// Within one of these rectangles, edges included; nowhere where there is none.
    Within(Vec<Zone>),
}

/// What a client may publish at places.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishRights {
    /// Where the centre of an event's circle may lie.
    pub within: Area,
    /// The greatest radius, in the world's unit of length.
    pub radius_max: f64,
    /// The kinds of event.
    pub kinds: Permitted<Kind>,
    /// Publishes per second, on topics too; none: as the broker's own limit has it.
    pub per_second_max: Option<u32>,
}

/// What a client may do at a broker. The default is nothing at all.
#[derive(Debug, Clone, PartialEq)]
pub struct Rights {
    /// The worlds in which it may hold zones and publish.
    pub worlds: Permitted<WorldName>,
    /// Where its zones may lie; each zone wholly within one of the rectangles.
    pub zones: Area,
    /// What it may publish at places.
    pub publish: PublishRights,
    /// The topics on which it may publish.
    pub publish_topics: Permitted<TopicPattern>,
    /// The topics to which it may listen: its patterns must match nothing that these do not match.
    pub subscribe_topics: Permitted<TopicPattern>,
}

impl<T: Ord> Permitted<T> {
    /// None at all.
    #[must_use]
    pub fn none() -> Self {
        Self::Only(BTreeSet::new())
    }

    fn permits(&self, is: impl Fn(&T) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::Only(named) => named.iter().any(is),
        }
    }
}

impl<T: Ord> FromIterator<T> for Permitted<T> {
    fn from_iter<I: IntoIterator<Item = T>>(named: I) -> Self {
        Self::Only(named.into_iter().collect())
    }
}

impl Area {
    /// Whether a rectangle lies wholly in it.
    #[must_use]
    pub fn contains(&self, zone: &Zone) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Within(rectangles) => rectangles.iter().any(|rectangle| rectangle.contains(zone)),
        }
    }

    /// Whether the centre of a circle lies in it.
    #[must_use]
    pub fn contains_centre(&self, circle: &Circle) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Within(rectangles) => rectangles.iter().any(|rectangle| rectangle.contains_centre(circle)),
        }
    }
}

impl Default for Rights {
    fn default() -> Self {
        Self {
            worlds: Permitted::none(),
            zones: Area::Within(Vec::new()),
            publish: PublishRights {
                within: Area::Within(Vec::new()),
                radius_max: 0.0,
                kinds: Permitted::none(),
                per_second_max: None,
            },
            publish_topics: Permitted::none(),
            subscribe_topics: Permitted::none(),
        }
    }
}

impl Rights {
    /// All that a broker's limits permit.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            worlds: Permitted::Any,
            zones: Area::Everywhere,
            publish: PublishRights {
                within: Area::Everywhere,
                radius_max: f64::INFINITY,
                kinds: Permitted::Any,
                per_second_max: None,
            },
            publish_topics: Permitted::Any,
            subscribe_topics: Permitted::Any,
        }
    }

    /// Checks a world.
    ///
    /// # Errors
    /// The client has no right to it.
    pub fn check_world(&self, world: &str) -> Result<(), Refusal> {
        if self.worlds.permits(|known| known.as_str() == world) {
            return Ok(());
        }
        missing("worlds", format_args!("world {world:?} is not among those permitted"))
    }

    /// Checks a zone that is to be held.
    ///
    /// # Errors
    /// The client has no right to its world or its place.
    pub fn check_zone(&self, world: &str, zone: &Zone) -> Result<(), Refusal> {
        self.check_world(world)?;
        if self.zones.contains(zone) {
            return Ok(());
        }
        let ([min_x, min_y], [max_x, max_y]) = (zone.min(), zone.max());
        let zone = format_args!("[{min_x}, {min_y}] to [{max_x}, {max_y}]").to_string();
        missing("zones", format_args!("the zone {zone} does not lie within a permitted rectangle"))
    }

    /// Checks an event that is to be published at a place: its world, its circle, and its kind, empty when not stated.
    ///
    /// # Errors
    /// The client has no right to one of them.
    pub fn check_event(&self, world: &str, circle: &Circle, kind: &str) -> Result<(), Refusal> {
        self.check_world(world)?;
        let PublishRights { within, radius_max, kinds, .. } = &self.publish;
        if !kinds.permits(|known| known.as_str() == kind) {
            return missing("publish.kinds", format_args!("kind {kind:?} is not among those permitted"));
        }
        let (x, y, radius) = (circle.x(), circle.y(), circle.radius());
        if !within.contains_centre(circle) {
            let message = format_args!("({x}, {y}) does not lie within a permitted rectangle");
            return missing("publish.within", message);
        }
        // Written so that a bound that is no number permits nothing.
        if radius <= *radius_max {
            return Ok(());
        }
        missing("publish.radius_max", format_args!("radius {radius} is beyond the permitted {radius_max}"))
    }

    /// Checks a topic on which something is to be published.
    ///
    /// # Errors
    /// The client has no right to it.
    pub fn check_publish_topic(&self, topic: &str) -> Result<(), Refusal> {
        if self.publish_topics.permits(|pattern| pattern.matches(topic)) {
            return Ok(());
        }
        missing("topics.publish", format_args!("topic {topic:?} is not among those permitted"))
    }

    /// Whether there is any topic to which the client may listen.
    #[must_use]
    pub fn may_subscribe(&self) -> bool {
        self.subscribe_topics != Permitted::none()
    }

    /// Checks a pattern that is to be subscribed to.
    ///
    /// # Errors
    /// It matches topics to which the client has no right.
    pub fn check_subscribe_topic(&self, pattern: &TopicPattern) -> Result<(), Refusal> {
        if self.subscribe_topics.permits(|permitted| permitted.covers(pattern)) {
            return Ok(());
        }
        missing("topics.subscribe", format_args!("pattern {pattern} matches more than is permitted"))
    }
}

fn missing(right: &str, what: std::fmt::Arguments<'_>) -> Result<(), Refusal> {
    Err(Refusal::new(ErrorCode::PermissionDenied, format!("{what} (the right {right})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(min_x: f64, min_y: f64, max_x: f64, max_y: f64) -> Zone {
        Zone::new(min_x, min_y, max_x, max_y).unwrap()
    }

    fn circle(x: f64, y: f64, radius: f64) -> Circle {
        Circle::new(x, y, radius).unwrap()
    }

    fn some() -> Rights {
        let area = || Area::Within(vec![zone(0.0, 0.0, 10.0, 10.0), zone(20.0, 0.0, 30.0, 10.0)]);
        let patterns = |patterns: &[&str]| patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
        Rights {
            worlds: ["earth".parse().unwrap()].into_iter().collect(),
            zones: area(),
            publish: PublishRights {
                within: area(),
                radius_max: 5.0,
                kinds: ["fire".parse().unwrap()].into_iter().collect(),
                per_second_max: None,
            },
            publish_topics: patterns(&["chat.*"]),
            subscribe_topics: patterns(&["users.>", "chat.*"]),
        }
    }

    #[test]
    fn nothing_is_permitted_by_default_and_everything_by_everything() {
        let (none, all) = (Rights::default(), Rights::everything());
        let (place, pattern) = (circle(0.0, 0.0, 0.0), TopicPattern::new("a").unwrap());
        let refused = none.check_event("earth", &place, "").unwrap_err();
        assert_eq!(refused.code, ErrorCode::PermissionDenied);
        assert!(none.check_zone("earth", &zone(0.0, 0.0, 0.0, 0.0)).is_err());
        assert!(none.check_publish_topic("a").is_err() && none.check_subscribe_topic(&pattern).is_err());
        all.check_event("earth", &circle(1e300, 0.0, 1e300), "").unwrap();
        all.check_zone("earth", &zone(-1e300, 0.0, 1e300, 0.0)).unwrap();
        all.check_publish_topic("_inbox.1").unwrap();
        all.check_subscribe_topic(&TopicPattern::new("_rpc.>").unwrap()).unwrap();
    }

    #[test]
    fn the_missing_right_is_named() {
        let rights = some();
        rights.check_event("earth", &circle(10.0, 10.0, 5.0), "fire").unwrap();
        for (world, circle, kind, right) in [
            ("mars", circle(1.0, 1.0, 1.0), "fire", "worlds"),
            ("earth", circle(1.0, 1.0, 1.0), "flood", "publish.kinds"),
            ("earth", circle(1.0, 1.0, 1.0), "", "publish.kinds"),
            ("earth", circle(15.0, 1.0, 5.0), "fire", "publish.within"),
            ("earth", circle(10.0_f64.next_up(), 1.0, 0.0), "fire", "publish.within"),
            ("earth", circle(1.0, 1.0, 5.0_f64.next_up()), "fire", "publish.radius_max"),
        ] {
            let refused = rights.check_event(world, &circle, kind).unwrap_err();
            assert!(refused.message.ends_with(&format!("(the right {right})")), "{refused}");
        }
        let refused = rights.check_publish_topic("users.created").unwrap_err();
        assert!(refused.message.contains("topics.publish"), "{refused}");
    }

    #[test]
    fn a_zone_lies_wholly_in_one_rectangle() {
        let rights = some();
        rights.check_zone("earth", &zone(0.0, 0.0, 10.0, 10.0)).unwrap();
        for outside in [zone(0.0, 0.0, 10.0_f64.next_up(), 1.0), zone(5.0, 1.0, 25.0, 2.0), zone(-1.0, 0.0, 0.0, 0.0)] {
            assert!(rights.check_zone("earth", &outside).is_err(), "{outside:?}");
        }
    }

    #[test]
    fn a_bound_that_is_no_number_permits_nothing() {
        let mut rights = some();
        rights.publish.radius_max = f64::NAN;
        assert!(rights.check_event("earth", &circle(1.0, 1.0, 0.0), "fire").is_err());
    }

    #[test]
    fn who_listens_to_some_topics_cannot_widen_them() {
        let check = |pattern: &str| some().check_subscribe_topic(&TopicPattern::new(pattern).unwrap());
        for inside in ["users.created", "users.*", "users.>", "users.*.x", "chat.a", "chat.*"] {
            check(inside).unwrap();
        }
        for outside in [">", "*", "*.created", "users", "chat.>", "chat.a.b", "_rpc.x"] {
            assert!(check(outside).is_err(), "{outside}");
        }
    }
}
