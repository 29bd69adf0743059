//! Reads what is delivered: the delivery stream, and datagrams beside it.

use std::{
    convert::Infallible,
    future::{Future as _, poll_fn},
    mem,
    pin::pin,
    sync::Arc,
    task::Poll,
};

use bytes::{Bytes, BytesMut};
use quinn::{Connection, ReadError, RecvStream};
use tokio::{
    sync::OwnedMutexGuard,
    time::{Instant, sleep_until},
};
use zonecast_protocol::codec::FrameCutter;

use super::dispatch::Dispatcher;
use crate::{error::LinkError, handle::Shared};

/// Most pieces of the stream that are taken at once, each of at most one packet.
const PIECES_MAX: usize = 32;
/// Room for what is read, got at once: an event that is kept keeps so much.
const BUFFER_BYTES: usize = 32 * 1024;
/// Most datagrams that are taken at once.
const DATAGRAMS_MAX: usize = 64;

/// What has come.
enum Arrival {
    /// So much of the stream.
    Stream(Bytes),
    /// These; none when there is only something to be seen to that came before.
    Datagrams(Vec<Bytes>),
    /// No more datagrams will.
    DatagramsEnded,
}

/// Reads until the connection ends or the broker breaks the protocol.
///
/// When a subscription's queue is full this waits, and with it everything behind that event: the stream's window fills
/// and the broker feels it. What is taken and not passed on when this is dropped stays with the dispatcher.
pub(super) async fn read_deliveries(
    connection: Connection,
    shared: Arc<Shared>,
    mut dispatcher: OwnedMutexGuard<Dispatcher>,
    frame_bytes_max: u32,
) -> Result<Infallible, LinkError> {
    dispatcher.open().await;
    let mut stream = DeliveryStream::new(frame_bytes_max);
    let (mut has_datagrams, mut datagrams_first) = (true, false);
    loop {
        let (overdue_at, holds) = (dispatcher.overdue_at(), dispatcher.holds());
        // Both by turns come first, so that neither starves the other.
        let arrival = tokio::select! {
            biased;
            arrival = datagrams(&connection), if has_datagrams && datagrams_first => arrival,
            bytes = stream.read(&connection) => Arrival::Stream(bytes?),
            arrival = datagrams(&connection), if has_datagrams && !datagrams_first => arrival,
            () = shared.routes.added.notified(), if holds => Arrival::Datagrams(Vec::new()),
            () = sleep_until(overdue_at.unwrap_or_else(Instant::now)), if overdue_at.is_some() => {
                Arrival::Datagrams(Vec::new())
            }
        };
        // Only then is what has not come late, and not merely behind others.
        let none_wait = match &arrival {
            Arrival::Datagrams(taken) => taken.len() < DATAGRAMS_MAX,
            Arrival::Stream(_) => datagrams_first,
            Arrival::DatagramsEnded => true,
        };
        let taken = match arrival {
            Arrival::Stream(bytes) => dispatcher.take(&mut stream.cutter, bytes),
            Arrival::Datagrams(datagrams) => dispatcher.take_datagrams(datagrams),
            Arrival::DatagramsEnded => {
                has_datagrams = false;
                dispatcher.take_datagrams(Vec::new())
            }
        };
        if none_wait {
            dispatcher.give_up(Instant::now());
        }
        datagrams_first = !datagrams_first;
        // What came before a broken frame is whole.
        dispatcher.flush().await;
        taken?;
    }
}

/// All datagrams that are there, as soon as there is one.
async fn datagrams(connection: &Connection) -> Arrival {
    // How the connection ended is the stream's to tell, behind what it still has.
    let Ok(first) = connection.read_datagram().await else { return Arrival::DatagramsEnded };
    let mut taken = vec![first];
    while taken.len() < DATAGRAMS_MAX {
        // Asked once and not waited for, so that nothing is taken by a future that is dropped.
        match poll_fn(|cx| Poll::Ready(pin!(connection.read_datagram()).poll(cx))).await {
            Poll::Ready(Ok(datagram)) => taken.push(datagram),
            _ => break,
        }
    }
    Arrival::Datagrams(taken)
}

/// The stream on which deliveries come. The broker opens it with the first.
struct DeliveryStream {
    stream: Option<RecvStream>,
    cutter: FrameCutter,
    frame_bytes_max: u32,
    pieces: [Bytes; PIECES_MAX],
    buffer: BytesMut,
}

impl DeliveryStream {
    fn new(frame_bytes_max: u32) -> Self {
        Self {
            stream: None,
            cutter: FrameCutter::new(frame_bytes_max),
            frame_bytes_max,
            pieces: [const { Bytes::new() }; PIECES_MAX],
            buffer: BytesMut::new(),
        }
    }

    /// What comes next, in one piece. May be dropped while it waits without losing anything.
    ///
    /// Copied together: that costs less than to put the frames together that lie across the borders of packets, and sets
    /// the memory of the packets free at once, of which a few small ones can hold much.
    async fn read(&mut self, connection: &Connection) -> Result<Bytes, LinkError> {
        loop {
            let stream = match &mut self.stream {
                Some(stream) => stream,
                None => self.stream.insert(connection.accept_uni().await.map_err(LinkError::from_quic)?),
            };
            match stream.read_chunks(&mut self.pieces).await {
                Ok(Some(count)) => return Ok(self.joined(count)),
                Ok(None) => {
                    self.cutter.finish()?;
                    (self.stream, self.cutter) = (None, FrameCutter::new(self.frame_bytes_max));
                }
                Err(ReadError::ConnectionLost(error)) => return Err(LinkError::from_quic(error)),
                Err(_) => return Err(LinkError::Violation { what: "the broker reset the delivery stream" }),
            }
        }
    }

    fn joined(&mut self, count: usize) -> Bytes {
        let pieces = &mut self.pieces[..count];
        let bytes = pieces.iter().map(Bytes::len).sum();
        if self.buffer.capacity() < bytes {
            // What was handed out before has gone, or goes with its events.
            self.buffer.reserve(bytes.max(BUFFER_BYTES));
        }
        for piece in pieces {
            self.buffer.extend_from_slice(&mem::take(piece));
        }
        self.buffer.split().freeze()
    }
}
