//! Reads the delivery stream and hands events to the subscriptions.

use std::{collections::VecDeque, convert::Infallible, mem, sync::Arc, sync::atomic::Ordering::Relaxed};

use bytes::Bytes;
use quinn::{Connection, ReadError, RecvStream};
use zonecast_protocol::{
    codec::{FrameCutter, FrameError, decode_server_frame},
    wire::{self, server_frame},
};

use crate::{
    error::LinkError,
    event::Event,
    handle::Shared,
    item::{GapReason, TopicItem, ZoneItem},
    request::reply_number,
    routes::RouteTable,
};

/// Most pieces of the stream that are taken at once, each of at most one packet.
const PIECES_MAX: usize = 64;

/// Reads until the connection ends or the broker breaks the protocol.
///
/// When a subscription's queue is full this waits, and with it everything behind that event: the stream's window fills
/// and the broker feels it.
pub(super) async fn read_deliveries(
    connection: Connection,
    shared: Arc<Shared>,
    frame_bytes_max: u32,
) -> Result<Infallible, LinkError> {
    let mut dispatcher = Dispatcher::new(shared);
    loop {
        let stream = connection.accept_uni().await.map_err(LinkError::from_quic)?;
        read_stream(stream, &mut dispatcher, frame_bytes_max).await?;
    }
}

async fn read_stream(
    mut stream: RecvStream,
    dispatcher: &mut Dispatcher,
    frame_bytes_max: u32,
) -> Result<(), LinkError> {
    let mut cutter = FrameCutter::new(frame_bytes_max);
    let mut pieces = [const { Bytes::new() }; PIECES_MAX];
    loop {
        let count = match stream.read_chunks(&mut pieces).await {
            Ok(Some(count)) => count,
            Ok(None) => return Ok(cutter.finish()?),
            Err(ReadError::ConnectionLost(error)) => return Err(LinkError::from_quic(error)),
            Err(_) => return Err(LinkError::Violation { what: "the broker reset the delivery stream" }),
        };
        let cut = dispatcher.take(&mut cutter, &mut pieces[..count]);
        // What came before a broken frame is whole.
        dispatcher.flush().await;
        cut?;
    }
}

/// Sorts events by subscription, and passes them on once per read.
struct Dispatcher {
    shared: Arc<Shared>,
    table: Arc<RouteTable>,
    for_zones: VecDeque<ZoneItem>,
    /// One for each of the table's topics.
    for_topics: Vec<VecDeque<TopicItem>>,
    /// The places in `for_topics` where something waits.
    touched: Vec<usize>,
    last_seq: u64,
    /// Counts events on topics, for those of whom one receives each.
    turn: usize,
}

impl Dispatcher {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            table: Arc::default(),
            shared,
            for_zones: VecDeque::new(),
            for_topics: Vec::new(),
            touched: Vec::new(),
            last_seq: 0,
            turn: 0,
        }
    }

    fn take(&mut self, cutter: &mut FrameCutter, pieces: &mut [Bytes]) -> Result<(), LinkError> {
        self.table = self.shared.routes.table();
        self.for_topics.resize_with(self.table.topics.len(), VecDeque::new);
        let mut delivered = 0;
        for piece in pieces {
            cutter.push(mem::take(piece));
            while let Some(frame) = cutter.next_frame()? {
                match decode_server_frame(frame)? {
                    server_frame::Frame::Deliver(deliver) => {
                        delivered += 1;
                        self.on_deliver(deliver)?;
                    }
                    server_frame::Frame::Gap(gap) => self.on_gap(&gap)?,
                    _ => {
                        let (frame, place) = ("control", "on the delivery stream");
                        return Err(FrameError::Unexpected { frame, place }.into());
                    }
                }
            }
        }
        self.shared.counters.delivered.fetch_add(delivered, Relaxed);
        Ok(())
    }

    fn on_deliver(&mut self, deliver: wire::Deliver) -> Result<(), LinkError> {
        if deliver.seq <= self.last_seq {
            return Err(LinkError::Violation { what: "delivery numbers do not rise" });
        }
        if deliver.seq > self.last_seq + 1 {
            tracing::warn!(from_seq = self.last_seq + 1, to_seq = deliver.seq - 1, "an unannounced gap in deliveries");
            self.add_gap(self.last_seq + 1, deliver.seq - 1, GapReason::NotStated);
        }
        self.last_seq = deliver.seq;
        match Event::decode(deliver.event) {
            Ok(event) => self.route(event),
            Err(refusal) => {
                // A newer publisher may use what this version does not know; the rest of the stream is still good.
                if Shared::count(&self.shared.counters.undecodable).is_power_of_two() {
                    tracing::warn!(seq = deliver.seq, %refusal, "an event cannot be read, perhaps of a newer version");
                }
                self.add_gap(deliver.seq, deliver.seq, GapReason::Undecodable);
            }
        }
        Ok(())
    }

    fn on_gap(&mut self, gap: &wire::Gap) -> Result<(), LinkError> {
        if gap.from_seq <= self.last_seq || gap.to_seq < gap.from_seq {
            return Err(LinkError::Violation { what: "a gap lies among deliveries that have come" });
        }
        self.add_gap(gap.from_seq, gap.to_seq, gap.reason.into());
        self.last_seq = gap.to_seq;
        Ok(())
    }

    fn add_gap(&mut self, from_seq: u64, to_seq: u64, reason: GapReason) {
        self.shared.counters.missing.fetch_add(to_seq - from_seq + 1, Relaxed);
        if self.table.zones.is_some() {
            self.for_zones.push_back(ZoneItem::Gap { from_seq, to_seq, reason });
        }
        for place in 0..self.for_topics.len() {
            add(&mut self.for_topics, &mut self.touched, place, TopicItem::Gap { from_seq, to_seq, reason });
        }
    }

    fn route(&mut self, event: Event) {
        let Some(topic) = event.topic() else {
            match self.table.zones {
                Some(_) => self.for_zones.push_back(ZoneItem::Event(event)),
                None => self.unclaimed(),
            }
            return;
        };
        if let Some(number) = reply_number(topic, self.shared.source) {
            match self.shared.inbox.take(number) {
                // The request may have been given up in this moment; then the reply is late, as below.
                Some(requester) => drop(requester.send(event.clone())),
                None => self.unclaimed(),
            }
            return;
        }
        self.turn = self.turn.wrapping_add(1);
        let Self { table, for_topics, touched, .. } = self;
        let mut found = false;
        table.each_match(topic, self.turn, |place| {
            found = true;
            add(for_topics, touched, place, TopicItem::Event(event.clone()));
        });
        if !found {
            self.unclaimed();
        }
    }

    /// An event for a subscription that ended while it was under way, or a reply that came too late.
    fn unclaimed(&self) {
        Shared::count(&self.shared.counters.unclaimed);
    }

    async fn flush(&mut self) {
        if let Some(zones) = &self.table.zones {
            zones.push_all(&mut self.for_zones).await;
        }
        for place in self.touched.drain(..) {
            self.table.topics[place].mailbox.push_all(&mut self.for_topics[place]).await;
        }
    }
}

fn add(for_topics: &mut [VecDeque<TopicItem>], touched: &mut Vec<usize>, place: usize, item: TopicItem) {
    if for_topics[place].is_empty() {
        touched.push(place);
    }
    for_topics[place].push_back(item);
}

#[cfg(test)]
mod tests;
