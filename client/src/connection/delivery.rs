//! Reads what is delivered: the delivery stream, and datagrams beside it.

use std::{
    convert::Infallible,
    future::{Future as _, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use quinn::{Connection, ReadError, RecvStream};
use tokio::{
    sync::OwnedMutexGuard,
    time::{Instant, sleep_until},
};
use zonecast_protocol::codec::FrameCutter;

use super::dispatch::Dispatcher;
use crate::{error::LinkError, handle::Shared};

/// Most pieces of the stream that are taken at once, each of at most one packet.
const PIECES_MAX: usize = 64;
/// Most datagrams that are taken at once.
const DATAGRAMS_MAX: usize = 64;

/// What has come.
enum Arrival {
    /// So many pieces of the stream.
    Pieces(usize),
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
    let mut stream = DeliveryStream { stream: None, cutter: FrameCutter::new(frame_bytes_max), frame_bytes_max };
    let mut pieces = [const { Bytes::new() }; PIECES_MAX];
    let (mut has_datagrams, mut datagrams_first) = (true, false);
    loop {
        let (overdue_at, holds) = (dispatcher.overdue_at(), dispatcher.holds());
        // Both by turns come first, so that neither starves the other.
        let arrival = tokio::select! {
            biased;
            arrival = datagrams(&connection), if has_datagrams && datagrams_first => arrival,
            count = stream.read(&connection, &mut pieces) => Arrival::Pieces(count?),
            arrival = datagrams(&connection), if has_datagrams && !datagrams_first => arrival,
            () = shared.routes.added.notified(), if holds => Arrival::Datagrams(Vec::new()),
            () = sleep_until(overdue_at.unwrap_or_else(Instant::now)), if overdue_at.is_some() => {
                Arrival::Datagrams(Vec::new())
            }
        };
        // Only then is what has not come late, and not merely behind others.
        let none_wait = match &arrival {
            Arrival::Datagrams(taken) => taken.len() < DATAGRAMS_MAX,
            Arrival::Pieces(_) => datagrams_first,
            Arrival::DatagramsEnded => true,
        };
        let taken = match arrival {
            Arrival::Pieces(count) => dispatcher.take(&mut stream.cutter, &mut pieces[..count]),
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
}

impl DeliveryStream {
    /// The next pieces. May be dropped while it waits without losing anything.
    async fn read(&mut self, connection: &Connection, pieces: &mut [Bytes]) -> Result<usize, LinkError> {
        loop {
            let stream = match &mut self.stream {
                Some(stream) => stream,
                None => self.stream.insert(connection.accept_uni().await.map_err(LinkError::from_quic)?),
            };
            match stream.read_chunks(pieces).await {
                Ok(Some(count)) => return Ok(count),
                Ok(None) => {
                    self.cutter.finish()?;
                    (self.stream, self.cutter) = (None, FrameCutter::new(self.frame_bytes_max));
                }
                Err(ReadError::ConnectionLost(error)) => return Err(LinkError::from_quic(error)),
                Err(_) => return Err(LinkError::Violation { what: "the broker reset the delivery stream" }),
            }
        }
    }
}
