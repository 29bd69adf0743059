//! How deliveries leave an outbox: encoded behind each other, or as datagrams, every jump in the numbers explained.

use bytes::{Bytes, BytesMut};
use zonecast_protocol::{
    codec::{DeliverFlags, encode_datagrams, encode_deliver, encode_deliver_datagram, encode_gap},
    wire::GapReason,
};

use super::{
    Chunks, Entry, Outbox, Slot,
    kept::{What, Written},
    run::Run,
};
use crate::outbound::HeldEvent;

/// What one [`Outbox::drain`] took out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Deliveries written, datagrams among them.
    pub deliveries: u64,
    /// Gaps written.
    pub gaps: u64,
}

/// Where transient events go that fit into a datagram. The default has no room.
#[derive(Debug, Default)]
pub struct Datagrams {
    /// Most bytes of one.
    pub datagram_bytes_max: usize,
    /// Bytes that can be sent now.
    pub room_bytes: usize,
    /// What is to be sent.
    pub ready: Vec<Bytes>,
}

impl Outbox {
    /// Encodes what waits, oldest first, until `out` holds at least `bytes_max` bytes or nothing is left. Transient
    /// events for which there is room among the `datagrams` go there.
    ///
    /// `waited` is told how many microseconds deliveries spent here, by the clock that `now_us` is read from, and how many
    /// they were.
    pub fn drain(
        &mut self,
        out: &mut Chunks,
        bytes_max: usize,
        datagrams: &mut Datagrams,
        now_us: u64,
        mut waited: impl FnMut(u64, usize),
    ) -> Drained {
        let mut drained = Drained::default();
        while out.len() < bytes_max {
            match self.entries.pop_front() {
                None => {
                    drained.gaps += self.announce_gap_before(self.next_seq, out);
                    break;
                }
                Some(Entry::Run(run)) => {
                    drained.gaps += self.announce_gap_before(run.first_seq, out);
                    self.explain_datagrams(out);
                    let run = self.front_of(run, bytes_max.saturating_sub(out.len()));
                    for (at_us, count) in run.arrivals() {
                        waited(now_us.saturating_sub(*at_us), *count);
                    }
                    drained.deliveries += run.deliveries as u64;
                    self.write_run(run.seal(), out);
                }
                Some(Entry::Slot(Slot { event: None, .. })) => self.vacant -= 1,
                Some(Entry::Slot(Slot { seq, event: Some(event), resent, crashes })) => {
                    waited(now_us.saturating_sub(event.head().arrival().at_us), 1);
                    drained.deliveries += 1;
                    drained.gaps += self.announce_gap_before(seq, out);
                    self.write_one(seq, event, resent, crashes, out, datagrams);
                }
            }
        }
        drained
    }

    /// As much of a run as is to be written; the rest waits on.
    fn front_of(&mut self, mut run: Run<BytesMut>, bytes_max: usize) -> Run<BytesMut> {
        if run.frames().len() <= bytes_max {
            self.run_bytes = run.frames().len() + run.frames().len() / 4;
            return run;
        }
        let front = run.split_front(bytes_max);
        if run.deliveries > 0 {
            self.entries.push_front(Entry::Run(run));
        }
        front
    }

    fn write_run(&mut self, run: Run<Bytes>, out: &mut Chunks) {
        self.waiting -= run.deliveries;
        self.waiting_bytes -= run.event_bytes;
        self.written_through = run.next_seq() - 1;
        out.push(run.frames());
        if self.keeps {
            self.kept.keep(Written { seq: run.first_seq, what: What::Run(run) });
        }
    }

    fn write_one(
        &mut self,
        seq: u64,
        event: HeldEvent,
        resent: bool,
        crashes: u32,
        out: &mut Chunks,
        datagrams: &mut Datagrams,
    ) {
        let (is_transient, await_processing) = (event.head().is_transient(), event.head().ticket().is_some());
        let flags = DeliverFlags { resent, await_processing };
        self.forget(seq, &event);
        if is_transient && datagrams.take(seq, flags, event.bytes()) {
            let (from, _) = self.datagrams.unwrap_or((seq, seq));
            self.datagrams = Some((from, seq));
        } else {
            self.explain_datagrams(out);
            encode_deliver(seq, flags, event.bytes(), out.open());
        }
        self.written_through = seq;
        if await_processing || self.keeps {
            let what = if is_transient { What::Transient } else { What::Delivery(event, crashes) };
            self.kept.keep(Written { seq, what });
        }
    }

    /// Whether datagrams were sent that are not explained on the stream.
    #[must_use]
    pub fn has_unexplained_datagrams(&self) -> bool {
        self.datagrams.is_some()
    }

    /// Explains on the stream which numbers were sent as datagrams, if any were since the last time.
    pub fn explain_datagrams(&mut self, out: &mut Chunks) {
        if let Some((from, to)) = self.datagrams.take() {
            encode_datagrams(from, to, out.open());
        }
    }

    fn announce_gap_before(&mut self, seq: u64, out: &mut Chunks) -> u64 {
        let (from, to) = (self.written_through + 1, seq - 1);
        if from > to {
            return 0;
        }
        self.explain_datagrams(out);
        self.written_through = to;
        if self.keeps {
            self.kept.keep(Written { seq: to, what: What::Gap(to + 1 - from) });
        }
        if from <= self.inherited_through {
            encode_gap(from, to.min(self.inherited_through), GapReason::Evicted, out.open());
        }
        if to > self.inherited_through {
            encode_gap(from.max(self.inherited_through + 1), to, GapReason::SlowConsumer, out.open());
        }
        1 + u64::from(from <= self.inherited_through && to > self.inherited_through)
    }
}

impl Datagrams {
    /// Takes a delivery if there is room for it.
    fn take(&mut self, seq: u64, flags: DeliverFlags, event: &[u8]) -> bool {
        if event.len() > self.room_bytes.min(self.datagram_bytes_max) {
            return false;
        }
        let datagram = encode_deliver_datagram(seq, flags, event);
        if datagram.len() > self.room_bytes.min(self.datagram_bytes_max) {
            return false;
        }
        self.room_bytes -= datagram.len();
        self.ready.push(datagram);
        true
    }
}
