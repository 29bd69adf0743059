//! Reliable deliveries that nobody waits for, flat: encoded one behind the other as soon as they are routed.
//!
//! Nothing is looked at again for each of them: a run is written as it is, kept for a resume as the same bytes, and freed
//! as one.

use bytes::{Buf, Bytes, BytesMut};
use zonecast_protocol::codec::{
    DELIVER_OVERHEAD_BYTES_MAX, DeliverFlags, EncodedDeliver, encode_deliver, first_encoded_deliver,
};

/// Most bytes of a run of several deliveries. Many short ones would cost more than the copies they save: QUIC's send buffer
/// looks at its chunks one by one.
const RUN_BYTES_MAX: usize = 32 << 10;
/// Room for the first deliveries of a run.
const ROOM_BYTES_MIN: usize = 256;

/// Deliveries with numbers that follow each other.
#[derive(Debug, Clone)]
pub(super) struct Run<B> {
    pub(super) first_seq: u64,
    pub(super) deliveries: usize,
    /// Bytes of their events.
    pub(super) event_bytes: usize,
    /// So many runs of the client were lost with them.
    pub(super) crashes: u32,
    /// When they came, and how many at that time, oldest first.
    arrivals: Vec<(u64, usize)>,
    frames: B,
}

/// What is taken off the front of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Front {
    pub(super) deliveries: usize,
    pub(super) event_bytes: usize,
    frames_bytes: usize,
}

impl<B: Buf + AsRef<[u8]>> Run<B> {
    /// The number behind the last one.
    pub(super) fn next_seq(&self) -> u64 {
        self.first_seq + self.deliveries as u64
    }

    /// The encoded deliveries.
    pub(super) fn frames(&self) -> &B {
        &self.frames
    }

    /// When they came, and how many at that time, oldest first.
    pub(super) fn arrivals(&self) -> &[(u64, usize)] {
        &self.arrivals
    }

    /// Each delivery with the time at which it came.
    pub(super) fn each(&self) -> impl Iterator<Item = (EncodedDeliver<'_>, u64)> {
        let times = self.arrivals.iter().flat_map(|(at_us, count)| (0..*count).map(move |_| *at_us));
        each_frame(self.frames.as_ref()).zip(times)
    }

    /// The deliveries for whose frames `takes` says so, from the first on. It is told what is taken already.
    fn front(&self, mut takes: impl FnMut(&Front, &EncodedDeliver<'_>) -> bool) -> Front {
        let mut front = Front::default();
        for deliver in each_frame(self.frames.as_ref()) {
            if !takes(&front, &deliver) {
                break;
            }
            front.deliveries += 1;
            front.event_bytes += deliver.event.len();
            front.frames_bytes += deliver.frame_bytes;
        }
        front
    }

    /// Counts off what goes, and returns when it came. The frames are the caller's to take.
    fn count_off(&mut self, front: &Front) -> Vec<(u64, usize)> {
        self.first_seq += front.deliveries as u64;
        self.deliveries -= front.deliveries;
        self.event_bytes -= front.event_bytes;
        let mut left = front.deliveries;
        let mut gone = Vec::new();
        self.arrivals.retain_mut(|(at_us, count)| {
            let taken = left.min(*count);
            left -= taken;
            *count -= taken;
            if taken > 0 {
                gone.push((*at_us, taken));
            }
            *count > 0
        });
        gone
    }
}

fn each_frame(mut frames: &[u8]) -> impl Iterator<Item = EncodedDeliver<'_>> {
    std::iter::from_fn(move || {
        let first = first_encoded_deliver(frames)?;
        frames = &frames[first.frame_bytes..];
        Some(first)
    })
}

impl Run<BytesMut> {
    /// An empty run, with room for an event of so many bytes, and for so many bytes in all if that is sensible.
    pub(super) fn new(first_seq: u64, crashes: u32, event_bytes: usize, room_bytes: usize) -> Self {
        let room_bytes = room_bytes.clamp(ROOM_BYTES_MIN, RUN_BYTES_MAX);
        let frames = BytesMut::with_capacity(room_bytes.max(event_bytes + DELIVER_OVERHEAD_BYTES_MAX));
        Self { first_seq, deliveries: 0, event_bytes: 0, crashes, arrivals: Vec::new(), frames }
    }

    /// Whether a delivery with this number and this past belongs here, and fits.
    pub(super) fn takes(&self, seq: u64, crashes: u32, event_bytes: usize) -> bool {
        let fits = self.frames.len() + event_bytes + DELIVER_OVERHEAD_BYTES_MAX <= RUN_BYTES_MAX;
        fits && self.next_seq() == seq && self.crashes == crashes
    }

    /// Takes the next delivery.
    pub(super) fn append(&mut self, event: &[u8], resent: bool, at_us: u64) {
        let flags = DeliverFlags { resent, await_processing: false };
        encode_deliver(self.next_seq(), flags, event, &mut self.frames);
        self.deliveries += 1;
        self.event_bytes += event.len();
        match self.arrivals.last_mut() {
            Some((last_us, count)) if *last_us == at_us => *count += 1,
            _ => self.arrivals.push((at_us, 1)),
        }
    }

    /// Takes deliveries off the front until they have so many bytes or more; at least one.
    pub(super) fn split_front(&mut self, bytes: usize) -> Self {
        let front = self.front(|taken, _| taken.deliveries == 0 || taken.frames_bytes < bytes);
        let (first_seq, crashes) = (self.first_seq, self.crashes);
        let arrivals = self.count_off(&front);
        let Front { deliveries, event_bytes, frames_bytes } = front;
        Self { first_seq, deliveries, event_bytes, crashes, arrivals, frames: self.frames.split_to(frames_bytes) }
    }

    /// The run when nothing more will be added.
    pub(super) fn seal(self) -> Run<Bytes> {
        let Self { first_seq, deliveries, event_bytes, crashes, arrivals, frames } = self;
        Run { first_seq, deliveries, event_bytes, crashes, arrivals, frames: frames.freeze() }
    }
}

impl Run<Bytes> {
    /// Lets go of the deliveries up to this number.
    pub(super) fn release_through(&mut self, seq: u64) -> Front {
        let front = self.front(|_, deliver| deliver.seq <= seq);
        self.count_off(&front);
        self.frames.advance(front.frames_bytes);
        front
    }
}
