//! What a body, an appearance and an outfit may say.

use prost::Message;
use prost_types::{Struct, Value, value::Kind as Is};
use thiserror::Error;
use zonecast_protocol::{
    Kind,
    characters::v1::{Appearance, Body, Build, Hair, Outfit},
};

/// Most bytes of an appearance or an outfit, as it is encoded.
const ENCODED_BYTES_MAX: usize = 16_384;
/// Tallest body, in metres.
const HEIGHT_M_MAX: f64 = 100.0;
/// White.
const RGB_MAX: u32 = 0xff_ffff;

/// Which rule a character's looks break. Nothing that was sent is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LooksError {
    /// A height that no body has.
    #[error("body.height_m is not between 0 and {HEIGHT_M_MAX}")]
    Height,
    /// A colour of more than three bytes.
    #[error("{0} is no colour; give 0 to {RGB_MAX}")]
    Colour(&'static str),
    /// A number that stands for nothing.
    #[error("{0} is none of its enum's values")]
    Unknown(&'static str),
    /// A slot with something that is no name.
    #[error("{0} is no name; 1 to 64 bytes of A-Z a-z 0-9 _ . - are permitted")]
    Slot(&'static str),
    /// A number in a `rest` that is NaN or an infinity, or a value that is none at all.
    #[error("{0} has a number that is not finite, or an empty value")]
    Rest(&'static str),
    /// Too much in all.
    #[error("{0} is longer than {ENCODED_BYTES_MAX} bytes as it is encoded")]
    TooLong(&'static str),
}

impl LooksError {
    /// The variant's name, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Height => "height",
            Self::Colour(_) => "colour",
            Self::Unknown(_) => "unknown",
            Self::Slot(_) => "slot",
            Self::Rest(_) => "rest",
            Self::TooLong(_) => "too_long",
        }
    }
}

/// Checks a body.
pub(crate) fn check_body(body: &Body) -> Result<(), LooksError> {
    // Written so that what is no number is no height.
    if !(0.0..=HEIGHT_M_MAX).contains(&body.height_m) {
        return Err(LooksError::Height);
    }
    Build::try_from(body.build).map_err(|_| LooksError::Unknown("body.build"))?;
    Hair::try_from(body.hair).map_err(|_| LooksError::Unknown("body.hair"))?;
    let colours =
        [("body.skin_rgb", body.skin_rgb), ("body.hair_rgb", body.hair_rgb), ("body.eyes_rgb", body.eyes_rgb)];
    match colours.iter().find(|(_, colour)| colour.is_some_and(|colour| colour > RGB_MAX)) {
        Some((field, _)) => Err(LooksError::Colour(field)),
        None => Ok(()),
    }
}

/// Checks an appearance.
pub(crate) fn check_appearance(appearance: &Appearance) -> Result<(), LooksError> {
    let Appearance { face, hair_style, facial_hair, markings, voice, rest } = appearance;
    check_slots(&[
        ("appearance.face", face),
        ("appearance.hair_style", hair_style),
        ("appearance.facial_hair", facial_hair),
        ("appearance.markings", markings),
        ("appearance.voice", voice),
    ])?;
    check_rest("appearance.rest", rest.as_ref())?;
    check_length("appearance", appearance)
}

/// Checks an outfit.
pub(crate) fn check_outfit(outfit: &Outfit) -> Result<(), LooksError> {
    let Outfit { head, torso, hands, legs, feet, back, main_hand, off_hand, rest } = outfit;
    check_slots(&[
        ("outfit.head", head),
        ("outfit.torso", torso),
        ("outfit.hands", hands),
        ("outfit.legs", legs),
        ("outfit.feet", feet),
        ("outfit.back", back),
        ("outfit.main_hand", main_hand),
        ("outfit.off_hand", off_hand),
    ])?;
    check_rest("outfit.rest", rest.as_ref())?;
    check_length("outfit", outfit)
}

/// Things of a game's stock are named as kinds of event are.
fn check_slots(slots: &[(&'static str, &String)]) -> Result<(), LooksError> {
    match slots.iter().find(|(_, name)| !name.is_empty() && Kind::check(name).is_err()) {
        Some((field, _)) => Err(LooksError::Slot(field)),
        None => Ok(()),
    }
}

fn check_rest(field: &'static str, rest: Option<&Struct>) -> Result<(), LooksError> {
    let fits = rest.is_none_or(|rest| rest.fields.values().all(is_value));
    if fits { Ok(()) } else { Err(LooksError::Rest(field)) }
}

/// How deep it goes is bounded where messages are decoded: 100 levels.
fn is_value(value: &Value) -> bool {
    match &value.kind {
        None => false,
        Some(Is::NumberValue(number)) => number.is_finite(),
        Some(Is::StructValue(inside)) => inside.fields.values().all(is_value),
        Some(Is::ListValue(list)) => list.values.iter().all(is_value),
        Some(Is::NullValue(_) | Is::StringValue(_) | Is::BoolValue(_)) => true,
    }
}

fn check_length(field: &'static str, message: &impl Message) -> Result<(), LooksError> {
    if message.encoded_len() <= ENCODED_BYTES_MAX { Ok(()) } else { Err(LooksError::TooLong(field)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(value: Option<Is>) -> Option<Struct> {
        Some(Struct { fields: [("key".to_owned(), Value { kind: value })].into() })
    }

    #[test]
    fn bodies_are_of_this_world() {
        let body = Body { height_m: 1.8, build: 3, skin_rgb: Some(RGB_MAX), hair: 5, ..Body::default() };
        check_body(&body).unwrap();
        check_body(&Body::default()).unwrap();
        for height_m in [f64::NAN, f64::INFINITY, -0.1, 100.1] {
            assert_eq!(check_body(&Body { height_m, ..body }), Err(LooksError::Height));
        }
        assert_eq!(check_body(&Body { eyes_rgb: Some(RGB_MAX + 1), ..body }), Err(LooksError::Colour("body.eyes_rgb")));
        assert_eq!(check_body(&Body { build: 99, ..body }), Err(LooksError::Unknown("body.build")));
        assert_eq!(check_body(&Body { hair: -1, ..body }), Err(LooksError::Unknown("body.hair")));
    }

    #[test]
    fn slots_hold_names_and_the_rest_holds_values() {
        let outfit = Outfit { head: "hat.7".into(), rest: rest(Some(Is::NumberValue(1.5))), ..Outfit::default() };
        check_outfit(&outfit).unwrap();
        for head in ["a b", "a\nb", "ä", &"x".repeat(65)] {
            let refused = check_outfit(&Outfit { head: head.to_owned(), ..outfit.clone() });
            assert_eq!(refused, Err(LooksError::Slot("outfit.head")), "{head:?}");
        }
        let list = |value| Is::ListValue(prost_types::ListValue { values: vec![Value { kind: value }] });
        for bad in [
            None,
            Some(Is::NumberValue(f64::NAN)),
            Some(list(None)),
            Some(list(Some(Is::NumberValue(f64::INFINITY)))),
            Some(Is::StructValue(rest(None).unwrap())),
        ] {
            let appearance = Appearance { rest: rest(bad), ..Appearance::default() };
            assert_eq!(check_appearance(&appearance), Err(LooksError::Rest("appearance.rest")));
        }
    }

    #[test]
    fn what_is_open_is_not_endless() {
        let of =
            |bytes: usize| Appearance { rest: rest(Some(Is::StringValue("x".repeat(bytes)))), ..Appearance::default() };
        let overhead = of(16_000).encoded_len() - 16_000;
        check_appearance(&of(ENCODED_BYTES_MAX - overhead)).unwrap();
        let refused = check_appearance(&of(ENCODED_BYTES_MAX - overhead + 1));
        assert_eq!(refused, Err(LooksError::TooLong("appearance")));
    }
}
