//! The clients: one connection each for whoever publishes and for every session.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    net::TcpStream,
    task::{JoinHandle, spawn_local},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use zonecast_loadtest::load::{
    Copies, LoadSettings, NoMover, Outgoing, Publisher, Sink, Subscriber, Transport, TransportError,
};
use zonecast_protocol::Zone;

use crate::{
    completions::Completions,
    frame::{self, Frame, FrameError},
    target::PeerTarget,
    tls,
    writing::Writing,
};

const READ_BYTES: usize = 64 * 1024;

type Stream = TlsStream<TcpStream>;

/// The own TCP broker, seen from a client.
pub struct Tcp {
    target: PeerTarget,
    connector: TlsConnector,
}

impl Tcp {
    async fn connect(&self) -> Result<Stream, TransportError> {
        let connect = async {
            let stream = TcpStream::connect(self.target.address).await?;
            stream.set_nodelay(true)?;
            self.connector.connect(tls::server_name(), stream).await
        };
        connect.await.map_err(|error| TransportError::new("cannot connect", error))
    }
}

impl Transport for Tcp {
    type Target = PeerTarget;
    type Publisher = TcpPublisher;
    type Subscriber = TcpSubscriber;
    const COPIES: Copies = Copies::PerSession;

    fn open(target: &PeerTarget, _settings: &LoadSettings) -> Result<Self, TransportError> {
        let config = tls::client(target.ca.as_deref()).map_err(|error| TransportError::new("no TLS", error))?;
        Ok(Self { target: target.clone(), connector: TlsConnector::from(Arc::new(config)) })
    }

    async fn publisher(&self, _index: u32) -> Result<TcpPublisher, TransportError> {
        let (reader, writer) = tokio::io::split(self.connect().await?);
        let completions = Completions::default();
        let reading = spawn_local(read_acks(reader, completions.clone()));
        Ok(TcpPublisher { writing: Writing::new(writer), completions, reading })
    }

    async fn subscriber(&self, session: u32, zones: &[(u32, Zone)]) -> Result<TcpSubscriber, TransportError> {
        let mut stream = self.connect().await?;
        let mut request = BytesMut::new();
        frame::put_subscribe(&mut request, zones.iter().map(|(_, zone)| *zone));
        let mut answer = BytesMut::with_capacity(READ_BYTES);
        let subscribe = async {
            stream.write_all(&request).await?;
            stream.flush().await?;
            read_more(&mut stream, &mut answer).await
        };
        subscribe.await.map_err(|error| TransportError::new("cannot subscribe", error))?;
        let mut subscriber = TcpSubscriber { stream, buffer: answer, session };
        subscriber.expect_subscribed().await?;
        Ok(subscriber)
    }
}

/// Publishes, with an acknowledgement for each event.
#[derive(Debug)]
pub struct TcpPublisher {
    writing: Writing<WriteHalf<Stream>>,
    completions: Completions,
    reading: JoinHandle<()>,
}

impl Publisher for TcpPublisher {
    async fn publish(&mut self, event: Outgoing<'_>) -> Result<(), TransportError> {
        frame::put_event(&mut self.writing.pending, &event.circle, event.payload);
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

/// Receives the events of one session.
#[derive(Debug)]
pub struct TcpSubscriber {
    stream: Stream,
    buffer: BytesMut,
    session: u32,
}

impl TcpSubscriber {
    async fn expect_subscribed(&mut self) -> Result<(), TransportError> {
        loop {
            let cut = frame::cut(&self.buffer).map_err(refused)?;
            if let Some(cut) = cut {
                let length = cut.whole.len();
                if frame::decode(cut.frame).map_err(refused)? != Frame::Subscribed {
                    return Err(TransportError::new("cannot subscribe", "the broker answered with something else"));
                }
                self.buffer.advance(length);
                return Ok(());
            }
            read_more(&mut self.stream, &mut self.buffer).await.map_err(lost)?;
        }
    }

    /// Hands over all whole events. Gives back how many bytes they were.
    fn hand_over<S: Sink>(&self, sink: &mut S) -> Result<usize, FrameError> {
        let mut rest = &self.buffer[..];
        let mut first = true;
        while let Some(cut) = frame::cut(rest)? {
            rest = cut.rest;
            let Frame::Event { payload, .. } = frame::decode(cut.frame)? else {
                return Err(FrameError::Body(cut.frame[0]));
            };
            if std::mem::take(&mut first) {
                sink.batch();
            }
            sink.payload(self.session, payload);
        }
        Ok(self.buffer.len() - rest.len())
    }
}

impl Subscriber for TcpSubscriber {
    type Mover = NoMover;

    async fn receive<S: Sink>(&mut self, sink: &mut S) -> Result<(), TransportError> {
        loop {
            let consumed = self.hand_over(sink).map_err(refused)?;
            self.buffer.advance(consumed);
            if consumed > 0 {
                return Ok(());
            }
            read_more(&mut self.stream, &mut self.buffer).await.map_err(lost)?;
        }
    }

    fn mover(&self) -> Option<NoMover> {
        None
    }

    async fn close(mut self) {
        drop(self.stream.shutdown().await);
    }
}

async fn read_acks(mut reader: ReadHalf<Stream>, completions: Completions) {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    loop {
        if let Err(error) = reader_turn(&mut reader, &mut buffer, &completions).await {
            completions.fail(error);
            return;
        }
    }
}

async fn reader_turn(
    reader: &mut ReadHalf<Stream>,
    buffer: &mut BytesMut,
    completions: &Completions,
) -> std::io::Result<()> {
    read_more(reader, buffer).await?;
    let mut rest = &buffer[..];
    while let Some(cut) = frame::cut(rest).map_err(std::io::Error::other)? {
        rest = cut.rest;
        match frame::decode(cut.frame).map_err(std::io::Error::other)? {
            Frame::Routed(matched) => completions.complete(matched.into_iter().map(Some)),
            other => return Err(std::io::Error::other(format!("the broker sent a publisher {other:?}"))),
        }
    }
    let consumed = buffer.len() - rest.len();
    buffer.advance(consumed);
    Ok(())
}

/// Reads what there is. The end of the connection is an error.
async fn read_more(reader: &mut (impl tokio::io::AsyncRead + Unpin), buffer: &mut BytesMut) -> std::io::Result<()> {
    buffer.reserve(READ_BYTES);
    match reader.read_buf(buffer).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn refused(error: FrameError) -> TransportError {
    TransportError::new("the broker does not keep to the protocol", error)
}

fn lost(error: std::io::Error) -> TransportError {
    TransportError::new("the connection is lost", error)
}
