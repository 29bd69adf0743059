//! Rights as tokens carry them, in JSON. What is absent is not permitted.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zonecast_protocol::{Area, GeometryError, NameError, Permitted, PublishRights, Rights, Zone};

/// The word for all there is.
const ANY: &str = "*";

/// The claim `zonecast`:
///
/// ```json
/// {"worlds": ["earth"], "zones": [[0, 0, 1000, 1000]],
///  "publish": {"within": [[0, 0, 1000, 1000]], "radius_max": 500, "kinds": ["*"], "per_second_max": 1000},
///  "topics": {"publish": ["chat.>"], "subscribe": ["users.*"]}}
/// ```
///
/// Rectangles are `[min_x, min_y, max_x, max_y]`, edges included, in all the worlds; `"*"` as the only name stands for any,
/// and `"*"` in the place of a list of rectangles for everywhere. Without `radius_max` the broker's limit holds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RightsClaim {
    /// The worlds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worlds: Vec<String>,
    /// Where zones may lie.
    #[serde(default, skip_serializing_if = "AreaClaim::is_nowhere")]
    pub zones: AreaClaim,
    /// What may be published at places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<PublishClaim>,
    /// Which topics.
    #[serde(default, skip_serializing_if = "TopicsClaim::is_nothing")]
    pub topics: TopicsClaim,
}

/// What may be published at places.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishClaim {
    /// Where the centres of circles may lie.
    #[serde(default, skip_serializing_if = "AreaClaim::is_nowhere")]
    pub within: AreaClaim,
    /// The greatest radius.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub radius_max: Option<f64>,
    /// The kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    /// Publishes per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second_max: Option<u32>,
}

/// Which topics.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicsClaim {
    /// To publish on, as patterns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<String>,
    /// To listen to, as patterns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscribe: Vec<String>,
}

/// Rectangles, or `"*"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AreaClaim {
    /// `[min_x, min_y, max_x, max_y]` each.
    Rectangles(Vec<[f64; 4]>),
    /// The word `*`.
    Word(String),
}

impl Default for AreaClaim {
    fn default() -> Self {
        Self::Rectangles(Vec::new())
    }
}

/// Why rights cannot be read.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum RightsError {
    /// A name breaks its grammar.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A rectangle is none.
    #[error("a rectangle of the rights is none: {0}")]
    Rectangle(#[from] GeometryError),
    /// A word in the place of rectangles that is not `*`.
    #[error("{0:?} stands where rectangles or \"*\" belong")]
    Word(String),
    /// The radius is no number, or below 0.
    #[error("radius_max is {0}; give 0 or more")]
    Radius(f64),
}

impl TopicsClaim {
    fn is_nothing(&self) -> bool {
        self.publish.is_empty() && self.subscribe.is_empty()
    }
}

impl AreaClaim {
    fn is_nowhere(&self) -> bool {
        matches!(self, Self::Rectangles(rectangles) if rectangles.is_empty())
    }

    fn of(area: &Area) -> Self {
        let rectangle = |zone: &Zone| {
            let ([min_x, min_y], [max_x, max_y]) = (zone.min(), zone.max());
            [min_x, min_y, max_x, max_y]
        };
        match area {
            Area::Everywhere => Self::Word(ANY.to_owned()),
            Area::Within(zones) => Self::Rectangles(zones.iter().map(rectangle).collect()),
        }
    }

    fn area(&self) -> Result<Area, RightsError> {
        match self {
            Self::Word(word) if word == ANY => Ok(Area::Everywhere),
            Self::Word(word) => Err(RightsError::Word(word.clone())),
            Self::Rectangles(rectangles) => {
                let zone = |[min_x, min_y, max_x, max_y]: &[f64; 4]| Zone::new(*min_x, *min_y, *max_x, *max_y);
                Ok(Area::Within(rectangles.iter().map(zone).collect::<Result<_, _>>()?))
            }
        }
    }
}

/// The word for any, or each name; for topics, where `*` is a pattern of its own, `>` among the others suffices.
fn names<T: Ord + ToString>(permitted: &Permitted<T>, any: &[&str]) -> Vec<String> {
    match permitted {
        Permitted::Any => any.iter().map(|any| (*any).to_owned()).collect(),
        Permitted::Only(names) => names.iter().map(ToString::to_string).collect(),
    }
}

fn permitted<T>(names: &[String], any: &str) -> Result<Permitted<T>, RightsError>
where
    T: Ord + std::str::FromStr<Err = NameError>,
{
    if names == [any] {
        return Ok(Permitted::Any);
    }
    Ok(names.iter().map(|name| name.parse()).collect::<Result<Vec<T>, _>>()?.into_iter().collect())
}

/// Any topic at all, those that begin with `_` among them, which no pattern of one token says.
const ANY_TOPIC: &str = "**";

impl RightsClaim {
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// The claim that says these rights.
    #[must_use]
    pub fn of(rights: &Rights) -> Self {
        let PublishRights { within, radius_max, kinds, per_second_max } = &rights.publish;
        let publish = PublishClaim {
            within: AreaClaim::of(within),
            // What permits nothing must not read as what is not bounded.
            radius_max: (*radius_max != f64::INFINITY).then_some(if radius_max.is_finite() {
                *radius_max
            } else {
                0.0
            }),
            kinds: names(kinds, &[ANY]),
            per_second_max: *per_second_max,
        };
        Self {
            worlds: names(&rights.worlds, &[ANY]),
            zones: AreaClaim::of(&rights.zones),
            publish: (rights.publish != Rights::default().publish).then_some(publish),
            topics: TopicsClaim {
                publish: names(&rights.publish_topics, &[ANY_TOPIC]),
                subscribe: names(&rights.subscribe_topics, &[ANY_TOPIC]),
            },
        }
    }

    /// The rights that the claim says.
    ///
    /// # Errors
    /// A name, a rectangle or a number is none.
    pub fn rights(&self) -> Result<Rights, RightsError> {
        let publish = match &self.publish {
            None => Rights::default().publish,
            Some(PublishClaim { within, radius_max, kinds, per_second_max }) => PublishRights {
                within: within.area()?,
                radius_max: match radius_max {
                    None => f64::INFINITY,
                    Some(radius) if radius.is_finite() && *radius >= 0.0 => *radius,
                    Some(radius) => return Err(RightsError::Radius(*radius)),
                },
                kinds: permitted(kinds, ANY)?,
                per_second_max: *per_second_max,
            },
        };
        Ok(Rights {
            worlds: permitted(&self.worlds, ANY)?,
            zones: self.zones.area()?,
            publish,
            publish_topics: permitted(&self.topics.publish, ANY_TOPIC)?,
            subscribe_topics: permitted(&self.topics.subscribe, ANY_TOPIC)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Rights, String> {
        let claim: RightsClaim = serde_json::from_str(json).map_err(|error| error.to_string())?;
        claim.rights().map_err(|error| error.to_string())
    }

    #[test]
    fn rights_survive_the_way_through_a_token() {
        let some = read(
            r#"{"worlds": ["earth"], "zones": [[0, 0, 10.5, 10]],
                "publish": {"within": "*", "radius_max": 500, "kinds": ["fire"], "per_second_max": 10},
                "topics": {"publish": ["chat.>"], "subscribe": ["users.*"]}}"#,
        )
        .unwrap();
        for rights in [Rights::default(), Rights::everything(), some] {
            let json = serde_json::to_string(&RightsClaim::of(&rights)).unwrap();
            assert_eq!(read(&json).unwrap(), rights, "{json}");
        }
    }

    #[test]
    fn what_is_absent_is_not_permitted_and_what_is_broken_is_refused() {
        assert_eq!(read("{}").unwrap(), Rights::default());
        assert_eq!(serde_json::to_string(&RightsClaim::of(&Rights::default())).unwrap(), "{}");
        for bad in [
            r#"{"world": ["earth"]}"#,
            r#"{"worlds": ["a b"]}"#,
            r#"{"worlds": ["*", "earth"]}"#,
            r#"{"zones": [[1, 0, 0, 0]]}"#,
            r#"{"zones": "all"}"#,
            r#"{"zones": [[0, 0, 1]]}"#,
            r#"{"publish": {"radius_max": -1}}"#,
            r#"{"topics": {"subscribe": ["a..b"]}}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
