//! The words in which the observer is told what happened.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One run of a client: a process from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Run {
    /// Which client.
    pub client: u16,
    /// Which of its runs, from 1.
    pub incarnation: u16,
}

/// One subscription of a run, as its application reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ear {
    /// Whose.
    pub run: Run,
    /// Which of the run's.
    pub subscription: u16,
}

/// An event's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Name {
    /// Who published it.
    pub publisher: Run,
    /// On which lane.
    pub lane: u8,
    /// As which of that lane's events.
    pub lane_seq: u64,
}

/// A broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BrokerNumber(pub u16);

/// What is promised about an event's delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// In order per lane, nothing left out.
    Reliable,
    /// The latest value of this key.
    State(String),
    /// At most once.
    Transient,
}

/// Which answer the publisher awaits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    /// None.
    None,
    /// That it was routed.
    Routed,
    /// That all who were matched have processed it.
    Processed,
}

/// What the publisher was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Taken; with the number of sessions that it matched.
    Acked {
        /// That number.
        matched: u32,
    },
    /// Refused, or given up, with the reason.
    Refused(String),
}

/// Where an event goes. Whole numbers, so that a match is no matter of rounding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Aim {
    /// A circle in a world.
    Place {
        /// The world.
        world: String,
        /// Centre.
        at: (i64, i64),
        /// Radius, 0 or more.
        radius: i64,
    },
    /// A topic.
    Topic(String),
}

/// What a subscription wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Want {
    /// A rectangle of a world, edges included.
    Zone {
        /// The world.
        world: String,
        /// South-west corner.
        min: (i64, i64),
        /// North-east corner.
        max: (i64, i64),
    },
    /// The topics that match a pattern.
    Topics(String),
}

/// What a subscription shows beside events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// Deliveries that will never come.
    Gap,
    /// The session was lost, and what it had to deliver.
    Interrupted,
}

impl Want {
    /// Whether an event is for it. Deliberately simple, and none of the product's code.
    #[must_use]
    pub fn matches(&self, aim: &Aim) -> bool {
        match (self, aim) {
            (Self::Zone { world, min, max }, Aim::Place { world: at_world, at, radius }) => {
                let dx = (min.0 - at.0).max(at.0 - max.0).max(0);
                let dy = (min.1 - at.1).max(at.1 - max.1).max(0);
                world == at_world && dx * dx + dy * dy <= radius * radius
            }
            (Self::Topics(pattern), Aim::Topic(topic)) => {
                let (mut wanted, mut found) = (pattern.split('.'), topic.split('.'));
                loop {
                    match (wanted.next(), found.next()) {
                        (None, None) | (Some(">"), Some(_)) => return true,
                        (Some("*"), Some(_)) => {}
                        (Some(wanted), Some(found)) if wanted == found => {}
                        _ => return false,
                    }
                }
            }
            _ => false,
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}#{}", self.client, self.incarnation)
    }
}

impl fmt::Display for Ear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s{}", self.run, self.subscription)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.publisher, self.lane, self.lane_seq)
    }
}

impl fmt::Display for BrokerNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b{}", self.0)
    }
}
