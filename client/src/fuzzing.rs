//! For fuzzing alone, and absent otherwise: bytes become lists of what befalls the machines, which run beside their
//! models. The targets are in `client/fuzz`.
//!
//! Whatever differs from the model panics.

use std::iter;

use arbitrary::{Arbitrary, Result, Unstructured};
use zonecast_protocol::HANDED_OVER_ZONE_ID_MIN;

use crate::{lanes, seen, session};

mod hostile;

/// A lane: publishes, writes, answers, lost connections.
pub fn lanes(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let settles = input.arbitrary().unwrap_or_default();
    lanes::model::run(all(input), settles);
}

/// The memory of what was received.
pub fn seen(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let start = input.arbitrary().unwrap_or_default();
    seen::model::run(
        start,
        all(input).map(|Received { step, source, lane, ordered, resent }| (step, source, lane, ordered, resent)),
    );
}

/// A session whose broker keeps to the protocol: in the end all agree.
pub fn session(input: &[u8]) {
    session::model::run(all(Unstructured::new(input)));
}

/// A session whose broker says anything at any time.
pub fn hostile_broker(input: &[u8]) {
    hostile::run(all(Unstructured::new(input)));
}

/// As many as the input makes.
fn all<'a, S: Arbitrary<'a>>(mut input: Unstructured<'a>) -> impl Iterator<Item = S> {
    iter::from_fn(move || if input.is_empty() { None } else { S::arbitrary(&mut input).ok() })
}

#[derive(Arbitrary)]
struct Received {
    #[arbitrary(with = any_step)]
    step: i64,
    #[arbitrary(with = |input: &mut Unstructured| input.int_in_range(0..=1))]
    source: u64,
    #[arbitrary(with = |input: &mut Unstructured| input.int_in_range(0..=1))]
    lane: u8,
    ordered: bool,
    resent: bool,
}

/// Mostly near, sometimes about as far as the window reaches, or anywhere.
fn any_step(input: &mut Unstructured<'_>) -> Result<i64> {
    Ok(match input.arbitrary::<u8>()? {
        0..=127 => i64::from(input.arbitrary::<i8>()?),
        128..=191 => i64::from(input.arbitrary::<i16>()?),
        192..=223 => 16_384 + i64::from(input.arbitrary::<i8>()?),
        224..=250 => i64::from(input.arbitrary::<i8>()?) - 16_384,
        251..=255 => input.arbitrary()?,
    })
}

/// An id that the application may give to a zone: few, so that they meet, and the end of the range.
pub(crate) fn own_id(input: &mut Unstructured<'_>) -> Result<u32> {
    let place = input.int_in_range(0..=7)?;
    Ok(if place < 5 { place + 1 } else { HANDED_OVER_ZONE_ID_MIN + 4 - place })
}

/// A set of such.
pub(crate) fn own_ids(input: &mut Unstructured<'_>) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for _ in 0..input.int_in_range(0..=3)? {
        ids.push(own_id(input)?);
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// Any id of a zone, also one that a broker gives.
pub(crate) fn any_id(input: &mut Unstructured<'_>) -> Result<u32> {
    Ok(match input.int_in_range(0..=11)? {
        7.. => own_id(input)?,
        6 => u32::MAX,
        place => HANDED_OVER_ZONE_ID_MIN + place,
    })
}

/// How long a frame is that is published.
pub(crate) fn frame_bytes(input: &mut Unstructured<'_>) -> Result<u8> {
    input.int_in_range(1..=59)
}

/// A number of zones that come at once.
pub(crate) fn few(input: &mut Unstructured<'_>) -> Result<u8> {
    input.int_in_range(1..=3)
}
