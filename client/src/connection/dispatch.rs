//! Hands what is delivered to the subscriptions, once, and shows them what is missing.
//!
//! What it knows outlives connections, and what it holds when one is lost is passed on before anything of the next.

use std::{mem, sync::Arc, sync::atomic::Ordering::Relaxed};

use bytes::Bytes;
use tokio::time::Instant;
use zonecast_protocol::{
    codec::{FrameCutter, FrameError, decode_server_frame},
    wire::{self, server_frame},
};

use crate::{
    datagrams::Datagrams,
    error::LinkError,
    event::Event,
    handle::Shared,
    intake::Part,
    item::{GapReason, TopicItem, ZoneItem},
    mailbox::Batch,
    request::reply_number,
    routes::RouteTable,
    seen::{Seen, Verdict},
};

mod held;

use held::Held;

/// How a session begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    /// It is this client's first.
    First,
    /// It goes on from the one before.
    Resumed,
    /// It does not.
    Anew,
}

/// Sorts events by subscription, and passes them on once per read.
///
/// Calling contract: [`begin_session`](Self::begin_session) and then [`open`](Self::open) for each connection; after
/// each call that takes something, [`flush`](Self::flush), which may be dropped while it waits: the next one goes on.
pub(crate) struct Dispatcher {
    shared: Arc<Shared>,
    /// The subscriptions by which the queues below are filled. Changes only when these are empty.
    table: Arc<RouteTable>,
    for_zones: Batch<ZoneItem>,
    /// One for each of the table's topics.
    for_topics: Vec<Batch<TopicItem>>,
    /// The places in `for_topics` where something waits.
    touched: Vec<usize>,
    /// The places of the subscriptions to one topic; here to be used again.
    matched: Vec<usize>,
    /// The last number of this session up to which the stream was taken.
    last_seq: u64,
    datagrams: Datagrams,
    seen: Seen,
    held: Held,
    /// The subscriptions are to be told that the former session has ended.
    interrupted: bool,
    /// Counts events on topics, for those of whom one receives each.
    turn: usize,
}

impl Dispatcher {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            table: Arc::default(),
            held: Held::new(shared.queues.deliveries),
            shared,
            for_zones: Batch::default(),
            for_topics: Vec::new(),
            touched: Vec::new(),
            matched: Vec::new(),
            last_seq: 0,
            datagrams: Datagrams::default(),
            seen: Seen::new(),
            interrupted: false,
            turn: 0,
        }
    }

    /// A new session begins, in which deliveries are numbered from 1.
    pub(super) fn begin_session(&mut self, beginning: Beginning) {
        for (from_seq, to_seq) in self.datagrams.end() {
            self.add_gap(from_seq, to_seq, GapReason::Lost);
        }
        self.last_seq = 0;
        match beginning {
            Beginning::First => self.held.begin(Instant::now()),
            Beginning::Resumed => {}
            Beginning::Anew => self.interrupted = true,
        }
    }

    /// Passes on what the former connection has left.
    pub(super) async fn open(&mut self) {
        self.flush().await;
        self.look_up();
        if mem::take(&mut self.interrupted) {
            if self.table.zones.is_some() {
                self.for_zones.push(ZoneItem::Interrupted);
            }
            for place in 0..self.for_topics.len() {
                add(&mut self.for_topics, &mut self.touched, place, TopicItem::Interrupted);
            }
        }
        self.flush().await;
    }

    /// Numbers beyond the end of the stream that were received as datagrams.
    pub(super) fn early_datagrams(&self) -> Vec<u64> {
        self.datagrams.early().collect()
    }

    fn look_up(&mut self) {
        let table = self.shared.routes.table();
        let is_new = !Arc::ptr_eq(&table, &self.table);
        self.table = table;
        self.for_topics.resize_with(self.table.topics.len(), Batch::default);
        if is_new && !self.held.is_empty() {
            for event in self.held.take() {
                self.route_held(event);
            }
        }
    }

    /// Whether something waits for a subscription.
    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes what was read of the delivery stream.
    pub(super) fn take(&mut self, cutter: &mut FrameCutter, piece: Bytes) -> Result<(), LinkError> {
        self.look_up();
        let bytes = piece.len();
        cutter.push(piece);
        while let Some(frame) = cutter.next_frame()? {
            match decode_server_frame(frame)? {
                server_frame::Frame::Deliver(deliver) => self.on_deliver(deliver)?,
                server_frame::Frame::Gap(gap) => self.on_gap(&gap)?,
                server_frame::Frame::Datagrams(named) => self.on_named(&named)?,
                _ => {
                    let (frame, place) = ("control", "on the delivery stream");
                    return Err(FrameError::Unexpected { frame, place }.into());
                }
            }
        }
        self.shared.intake.received(self.last_seq, bytes);
        Ok(())
    }

    pub(super) fn take_datagrams(&mut self, datagrams: Vec<Bytes>) -> Result<(), LinkError> {
        self.look_up();
        for datagram in datagrams {
            let server_frame::Frame::Deliver(deliver) = decode_server_frame(datagram)? else {
                let (frame, place) = ("control", "in a datagram");
                return Err(FrameError::Unexpected { frame, place }.into());
            };
            if self.datagrams.arrived(deliver.seq, self.last_seq) {
                self.on_event(deliver);
            }
        }
        Ok(())
    }

    /// When to give up datagrams that have not come, and events that nobody wants.
    pub(super) fn overdue_at(&self) -> Option<Instant> {
        [self.datagrams.next_deadline(), self.held.deadline()].into_iter().flatten().min()
    }

    /// Gives up what has had its time.
    pub(super) fn give_up(&mut self, now: Instant) {
        while let Some((from_seq, to_seq)) = self.datagrams.overdue(now) {
            self.add_gap(from_seq, to_seq, GapReason::Lost);
        }
        if self.held.deadline().is_some_and(|until| until <= now) {
            let events = self.held.take();
            self.shared.counters.unclaimed.fetch_add(events.len() as u64, Relaxed);
        }
    }

    fn on_deliver(&mut self, deliver: wire::Deliver) -> Result<(), LinkError> {
        if deliver.seq <= self.last_seq {
            return Err(LinkError::Violation { what: "delivery numbers do not rise" });
        }
        self.show_jump_to(deliver.seq);
        self.pass_through(deliver.seq);
        self.on_event(deliver);
        Ok(())
    }

    fn show_jump_to(&mut self, seq: u64) {
        let first = self.last_seq + 1;
        if seq > first {
            tracing::warn!(from_seq = first, to_seq = seq - 1, "an unannounced gap in deliveries");
            self.add_gap(first, seq - 1, GapReason::NotStated);
        }
    }

    fn pass_through(&mut self, seq: u64) {
        self.last_seq = seq;
        self.datagrams.passed(seq);
    }

    fn on_event(&mut self, deliver: wire::Deliver) {
        let counters = &self.shared.counters;
        Shared::count(&counters.delivered);
        let mut event = match Event::decode(deliver.event) {
            Ok(event) => event,
            Err(refusal) => {
                // A newer publisher may use what this version does not know; the rest of the stream is still good.
                if Shared::count(&counters.undecodable).is_power_of_two() {
                    tracing::warn!(seq = deliver.seq, %refusal, "an event cannot be read, perhaps of a newer version");
                }
                self.add_gap(deliver.seq, deliver.seq, GapReason::Undecodable);
                if deliver.await_processing {
                    self.shared.intake.reject(None, deliver.seq);
                }
                return;
            }
        };
        let verdict = self.seen.recognise(&event, deliver.resent);
        event.set_delivered(deliver.resent, verdict == Verdict::Late);
        match verdict {
            Verdict::New | Verdict::Late => self.route(event, deliver.await_processing.then_some(deliver.seq)),
            Verdict::Duplicate => {
                Shared::count(&counters.duplicates);
                if deliver.await_processing {
                    self.shared.intake.again(event.id(), deliver.seq);
                }
            }
            // The later value stands for it, as when a broker replaces one that waits.
            Verdict::Outdated => {
                Shared::count(&counters.outdated);
                if deliver.await_processing {
                    self.shared.intake.reject(None, deliver.seq);
                }
            }
            Verdict::TooLate => {
                self.add_gap(deliver.seq, deliver.seq, GapReason::TooLate);
                if deliver.await_processing {
                    self.shared.intake.reject(None, deliver.seq);
                }
            }
        }
    }

    fn on_gap(&mut self, gap: &wire::Gap) -> Result<(), LinkError> {
        if gap.from_seq <= self.last_seq || gap.to_seq < gap.from_seq {
            return Err(LinkError::Violation { what: "a gap lies among deliveries that have come" });
        }
        self.add_gap(gap.from_seq, gap.to_seq, gap.reason.into());
        self.pass_through(gap.to_seq);
        Ok(())
    }

    fn on_named(&mut self, named: &wire::Datagrams) -> Result<(), LinkError> {
        if named.from_seq <= self.last_seq || named.to_seq < named.from_seq {
            return Err(LinkError::Violation { what: "datagrams are named among deliveries that have come" });
        }
        self.show_jump_to(named.from_seq);
        self.datagrams.passed(named.from_seq - 1);
        self.datagrams.named(named.from_seq, named.to_seq, Instant::now());
        self.last_seq = named.to_seq;
        Ok(())
    }

    fn add_gap(&mut self, from_seq: u64, to_seq: u64, reason: GapReason) {
        self.shared.counters.missing.fetch_add((to_seq - from_seq).saturating_add(1), Relaxed);
        if self.table.zones.is_some() {
            self.for_zones.push(ZoneItem::Gap { from_seq, to_seq, reason });
        }
        for place in 0..self.for_topics.len() {
            add(&mut self.for_topics, &mut self.touched, place, TopicItem::Gap { from_seq, to_seq, reason });
        }
    }

    /// `awaited` is the delivery's number when the publisher waits for the event to be processed.
    fn route(&mut self, event: Event, awaited: Option<u64>) {
        if let Some(number) = event.topic().and_then(|topic| reply_number(topic, self.shared.source)) {
            let requester = self.shared.inbox.take(number);
            // The request may be given up in this moment; then the reply is late.
            if requester.is_none_or(|requester| requester.send(event.clone()).is_err()) {
                self.unclaimed(&event, awaited);
            } else if let Some(seq) = awaited {
                self.shared.intake.accept(seq);
            }
            return;
        }
        let subscriptions = self.match_subscriptions(&event);
        if subscriptions > 0 {
            if let Some(seq) = awaited {
                self.shared.intake.begin(event.id(), seq, subscriptions);
            }
            self.hand_out(event, awaited.is_some());
        } else if self.may_be_wanted(&event) && self.held.has_room(&event, Instant::now()) {
            if let Some(seq) = awaited {
                // Waiting is a part too, which is rejected when it is given up.
                self.shared.intake.begin(event.id(), seq, 1);
            }
            self.held.push(self.owed(event, awaited.is_some()));
        } else {
            self.unclaimed(&event, awaited);
        }
    }

    /// Whether an event that has no subscription may be for one that was not made yet.
    fn may_be_wanted(&self, event: &Event) -> bool {
        event.topic().is_some() || !self.table.had_zones
    }

    fn route_held(&mut self, event: Event) {
        if self.seen.is_outdated(&event) {
            Shared::count(&self.shared.counters.outdated);
            return;
        }
        let subscriptions = self.match_subscriptions(&event);
        if subscriptions == 0 {
            self.held.push(event);
            return;
        }
        let waiting = event.part().cloned();
        if waiting.is_some() {
            self.shared.intake.begin_more(event.id(), subscriptions);
        }
        self.hand_out(event, waiting.is_some());
        if let Some(part) = waiting {
            part.done();
        }
    }

    /// How many subscriptions an event is for. Which ones of the topics is in `matched`.
    fn match_subscriptions(&mut self, event: &Event) -> u32 {
        self.matched.clear();
        let Some(topic) = event.topic() else { return u32::from(self.table.zones.is_some()) };
        self.turn = self.turn.wrapping_add(1);
        self.table.each_match(topic, self.turn, |place| self.matched.push(place));
        u32::try_from(self.matched.len()).unwrap_or(u32::MAX)
    }

    /// Gives an event to the subscriptions that were matched, to each a part of its own when the publisher waits.
    fn hand_out(&mut self, event: Event, awaited: bool) {
        if event.topic().is_none() {
            self.for_zones.push(ZoneItem::Event(self.owed(event, awaited)));
            return;
        }
        while let Some(place) = self.matched.pop() {
            let event = self.owed(event.clone(), awaited);
            add(&mut self.for_topics, &mut self.touched, place, TopicItem::Event(event));
        }
    }

    #[inline]
    fn owed(&self, mut event: Event, awaited: bool) -> Event {
        if awaited {
            event.set_part(Part::new(self.shared.intake.clone(), event.id()));
        }
        event
    }

    /// An event for a subscription that ended while it was under way, or a reply that came too late.
    fn unclaimed(&self, event: &Event, awaited: Option<u64>) {
        Shared::count(&self.shared.counters.unclaimed);
        if let Some(seq) = awaited {
            self.shared.intake.reject(Some(event.id()), seq);
        }
    }

    /// Passes on what was taken, waiting for room. What is left when this is dropped waits for the next call.
    pub(super) async fn flush(&mut self) {
        if let Some(zones) = &self.table.zones {
            zones.push_all(&mut self.for_zones).await;
        }
        while let Some(place) = self.touched.last() {
            self.table.topics[*place].mailbox.push_all(&mut self.for_topics[*place]).await;
            self.touched.pop();
        }
    }
}

fn add(for_topics: &mut [Batch<TopicItem>], touched: &mut Vec<usize>, place: usize, item: TopicItem) {
    if for_topics[place].is_empty() {
        touched.push(place);
    }
    for_topics[place].push(item);
}

#[cfg(test)]
mod tests;
