//! The clients: one connection each for whoever publishes and for every session.

use std::{io, sync::Arc};

use bytes::{Buf, BufMut, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    net::TcpStream,
    task::{JoinHandle, spawn_local},
};
use tokio_rustls::TlsConnector;
use zonecast_loadtest::load::{
    Copies, LoadSettings, NoMover, Outgoing, Publisher, Sink, Subscriber, Transport, TransportError,
};
use zonecast_protocol::Zone;

use super::resp::{self, Malformed, Reply};
use crate::{
    completions::Completions,
    progress::{Reports, Window},
    target::PeerTarget,
    tls,
    writing::Writing,
};

const READ_BYTES: usize = 64 * 1024;
/// The circle, before the application's bytes.
const HEAD_BYTES: usize = 24;
/// What a zone's channel is called, before the zone's number.
const ZONE_CHANNEL: &[u8] = b"z.";

/// A connection, with TLS or without.
trait Connection: AsyncRead + AsyncWrite + Unpin {}

impl<C: AsyncRead + AsyncWrite + Unpin> Connection for C {}

type Stream = Box<dyn Connection>;

/// A Redis or Valkey server, seen from a client.
pub struct Redis {
    target: PeerTarget,
    connector: Option<TlsConnector>,
    sessions: u32,
}

impl Redis {
    /// Connects, speaks RESP3, and listens to these channels.
    async fn connect(&self, channels: &[String]) -> Result<Link, TransportError> {
        let connect = async {
            let stream = TcpStream::connect(self.target.address).await?;
            stream.set_nodelay(true)?;
            let stream: Stream = match &self.connector {
                Some(connector) => Box::new(connector.connect(tls::server_name(), stream).await?),
                None => Box::new(stream),
            };
            let mut link = Link { stream, incoming: BytesMut::with_capacity(READ_BYTES) };
            link.subscribe(channels).await?;
            Ok(link)
        };
        connect.await.map_err(|error: io::Error| TransportError::new("cannot connect", error))
    }
}

impl Transport for Redis {
    type Target = PeerTarget;
    type Publisher = RedisPublisher;
    type Subscriber = RedisSubscriber;
    const COPIES: Copies = Copies::PerZone;

    fn open(target: &PeerTarget, settings: &LoadSettings) -> Result<Self, TransportError> {
        let connector = match &target.ca {
            Some(ca) => {
                let config = tls::client(Some(ca)).map_err(|error| TransportError::new("no TLS", error))?;
                Some(TlsConnector::from(Arc::new(config)))
            }
            None => None,
        };
        Ok(Self { target: target.clone(), connector, sessions: settings.sessions })
    }

    async fn publisher(&self, index: u32) -> Result<RedisPublisher, TransportError> {
        let link = self.connect(&[report_channel(index)]).await?;
        let (reader, writer) = tokio::io::split(link.stream);
        let (completions, window, copies) = (Completions::default(), Window::default(), Copied::default());
        let reading = Reading {
            reader,
            buffer: link.incoming,
            completions: completions.clone(),
            window: window.clone(),
            copies: std::rc::Rc::clone(&copies),
        };
        let reading = spawn_local(reading.run());
        Ok(RedisPublisher {
            writing: Writing::new(writer),
            message: BytesMut::new(),
            channel: BytesMut::new(),
            completions,
            window,
            copies,
            reading,
        })
    }

    async fn subscriber(&self, _session: u32, zones: &[(u32, Zone)]) -> Result<RedisSubscriber, TransportError> {
        let channels: Vec<String> = zones.iter().map(|(zone, _)| format!("z.{zone}")).collect();
        let link = self.connect(&channels).await?;
        Ok(RedisSubscriber { link, outgoing: BytesMut::new(), unflushed: false, reports: Reports::new(self.sessions) })
    }
}

/// Copies of each event whose answers have not all come, oldest first.
type Copied = std::rc::Rc<std::cell::RefCell<std::collections::VecDeque<usize>>>;

/// Publishes once for each zone.
pub struct RedisPublisher {
    writing: Writing<WriteHalf<Stream>>,
    /// The event at hand as it is published.
    message: BytesMut,
    channel: BytesMut,
    completions: Completions,
    window: Window,
    copies: Copied,
    reading: JoinHandle<()>,
}

impl Publisher for RedisPublisher {
    async fn publish(&mut self, event: Outgoing<'_>) -> Result<(), TransportError> {
        if event.zones.is_empty() {
            // Nobody is there, and the publisher knows.
            if self.copies.borrow().is_empty() {
                self.completions.complete([None]);
            } else {
                self.copies.borrow_mut().push_back(0);
            }
            return Ok(());
        }
        let copies = event.zones.len();
        if self.window.is_full_for(copies as u64) {
            self.flush().await?;
        }
        self.window.take(copies as u64).await?;
        self.message.clear();
        for number in [event.circle.x(), event.circle.y(), event.circle.radius()] {
            self.message.put_f64_le(number);
        }
        self.message.extend_from_slice(event.payload);
        for zone in event.zones {
            self.channel.clear();
            self.channel.extend_from_slice(ZONE_CHANNEL);
            resp::put_number(&mut self.channel, usize::try_from(*zone).unwrap_or(usize::MAX));
            resp::put_command(&mut self.writing.pending, &[b"PUBLISH", &self.channel, &self.message]);
        }
        self.copies.borrow_mut().push_back(copies);
        self.writing.flush_if_full().await
    }

    async fn flush(&mut self) -> Result<(), TransportError> {
        self.writing.flush().await
    }

    async fn completed(&mut self, done: &mut Vec<Option<u32>>) -> Result<(), TransportError> {
        self.completions.take(done).await
    }

    fn try_completed(&mut self, done: &mut Vec<Option<u32>>) -> Result<(), TransportError> {
        self.completions.try_take(done).map(drop)
    }

    async fn close(mut self) {
        self.writing.close().await;
        self.reading.abort();
    }
}

/// Reads the answers and the reports of a publisher's connection.
struct Reading {
    reader: ReadHalf<Stream>,
    buffer: BytesMut,
    completions: Completions,
    window: Window,
    copies: Copied,
}

impl Reading {
    async fn run(mut self) {
        loop {
            let turn = match self.take() {
                Ok(consumed) => {
                    self.buffer.advance(consumed);
                    read_more(&mut self.reader, &mut self.buffer).await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = turn {
                self.window.fail(&error);
                return self.completions.fail(error);
            }
        }
    }

    fn take(&self) -> io::Result<usize> {
        let (mut consumed, mut answers) = (0, 0);
        while let Some((reply, length)) = resp::parse(&self.buffer[consumed..]).map_err(io::Error::other)? {
            consumed += length;
            match reply {
                Reply::Integer(1) => answers += 1,
                Reply::Integer(count) => {
                    return Err(io::Error::other(format!("{count} sessions heard of a zone that one holds")));
                }
                Reply::Message { payload, .. } => {
                    let count = payload.first_chunk().map_or(0, |count| u32::from_le_bytes(*count));
                    self.window.give_back(u64::from(count));
                }
                Reply::Error(error) => return Err(io::Error::other(String::from_utf8_lossy(error))),
                Reply::Subscribed | Reply::Other => {}
            }
        }
        self.settle(answers);
        Ok(consumed)
    }

    /// So many copies have been answered.
    fn settle(&self, mut answers: usize) {
        let mut copies = self.copies.borrow_mut();
        let mut complete = 0;
        while let Some(oldest) = copies.front_mut() {
            let answered = answers.min(*oldest);
            answers -= answered;
            *oldest -= answered;
            if *oldest > 0 {
                break;
            }
            copies.pop_front();
            complete += 1;
        }
        if complete > 0 {
            self.completions.complete(std::iter::repeat_n(None, complete));
        }
    }
}

/// Receives what is published on the channels of its zones.
pub struct RedisSubscriber {
    link: Link,
    /// Reports on their way.
    outgoing: BytesMut,
    /// True while the TLS layer may hold some of them.
    unflushed: bool,
    reports: Reports,
}

impl RedisSubscriber {
    /// Hands over all whole messages. Gives back how many bytes were read and whether there was a message.
    fn hand_over<S: Sink>(&mut self, sink: &mut S) -> Result<(usize, bool), Malformed> {
        let (mut consumed, mut any) = (0, false);
        while let Some((reply, length)) = resp::parse(&self.link.incoming[consumed..])? {
            consumed += length;
            let Reply::Message { channel, payload } = reply else { continue };
            let (Some(zone), Some(payload)) = (zone_of(channel), payload.get(HEAD_BYTES..)) else { continue };
            if !std::mem::replace(&mut any, true) {
                sink.batch();
            }
            sink.payload(zone, payload);
            self.reports.note(payload);
        }
        Ok((consumed, any))
    }
}

impl Subscriber for RedisSubscriber {
    type Mover = NoMover;

    async fn receive<S: Sink>(&mut self, sink: &mut S) -> Result<(), TransportError> {
        loop {
            while let Some((publisher, count)) = self.reports.next() {
                let channel = report_channel(publisher);
                resp::put_command(&mut self.outgoing, &[b"PUBLISH", channel.as_bytes(), &count.to_le_bytes()]);
                self.reports.sent(publisher);
            }
            if self.unflushed || !self.outgoing.is_empty() {
                // What is left of it where this future is dropped goes out by the next call.
                self.unflushed = true;
                self.link.stream.write_all_buf(&mut self.outgoing).await.map_err(lost)?;
                self.link.stream.flush().await.map_err(lost)?;
                self.unflushed = false;
            }
            let handed_over = self.hand_over(sink);
            let (consumed, any) =
                handed_over.map_err(|error| TransportError::new("the server does not keep to the protocol", error))?;
            self.link.incoming.advance(consumed);
            if any {
                return Ok(());
            }
            read_more(&mut self.link.stream, &mut self.link.incoming).await.map_err(lost)?;
        }
    }

    fn mover(&self) -> Option<NoMover> {
        None
    }

    async fn close(mut self) {
        drop(self.link.stream.shutdown().await);
    }
}

/// A connection and what was read from it and not used yet.
struct Link {
    stream: Stream,
    incoming: BytesMut,
}

impl Link {
    async fn subscribe(&mut self, channels: &[String]) -> io::Result<()> {
        let mut request = BytesMut::new();
        resp::put_command(&mut request, &[b"HELLO", b"3"]);
        for channel in channels {
            resp::put_command(&mut request, &[b"SUBSCRIBE", channel.as_bytes()]);
        }
        self.stream.write_all_buf(&mut request).await?;
        self.stream.flush().await?;
        let mut awaited = channels.len();
        while awaited > 0 {
            read_more(&mut self.stream, &mut self.incoming).await?;
            while let Some((reply, length)) = resp::parse(&self.incoming).map_err(io::Error::other)? {
                match reply {
                    Reply::Subscribed => awaited -= 1,
                    Reply::Error(error) => return Err(io::Error::other(String::from_utf8_lossy(error))),
                    _ => {}
                }
                self.incoming.advance(length);
                if awaited == 0 {
                    break;
                }
            }
        }
        Ok(())
    }
}

async fn read_more(reader: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> io::Result<()> {
    buffer.reserve(READ_BYTES);
    match reader.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn zone_of(channel: &[u8]) -> Option<u32> {
    std::str::from_utf8(channel.strip_prefix(ZONE_CHANNEL)?).ok()?.parse().ok()
}

fn report_channel(publisher: u32) -> String {
    format!("progress.{publisher}")
}

fn lost(error: io::Error) -> TransportError {
    TransportError::new("the connection is lost", error)
}
