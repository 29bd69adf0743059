//! The clients: a DEALER each for whoever publishes and for every session.

use std::{io, os::fd::OwnedFd, time::Duration};

use bytes::BytesMut;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::timeout,
};
use zmq::{Context, CurveKeyPair, DEALER, DONTWAIT, Error, PollEvents, Socket};
use zonecast_loadtest::load::{
    Copies, LoadSettings, NoMover, Outgoing, Publisher, Sink, Subscriber, Transport, TransportError,
};
use zonecast_protocol::Zone;

use super::HIGH_WATER_MARK;
use crate::{
    frame::{self, Frame},
    target::PeerTarget,
};

/// Handed over in one go at most, so that other tasks of the process get their turn.
const BATCH_MAX: usize = 1024;
/// How long a session waits for the broker when it leaves.
const FAREWELL: Duration = Duration::from_secs(1);

/// The own ZeroMQ broker, seen from a client.
pub struct ZeroMq {
    context: Context,
    target: PeerTarget,
}

impl Transport for ZeroMq {
    type Target = PeerTarget;
    type Publisher = ZmqPublisher;
    type Subscriber = ZmqSubscriber;
    const COPIES: Copies = Copies::PerSession;

    fn open(target: &PeerTarget, _settings: &LoadSettings) -> Result<Self, TransportError> {
        Ok(Self { context: Context::new(), target: target.clone() })
    }

    async fn publisher(&self, _index: u32) -> Result<ZmqPublisher, TransportError> {
        let link = Link::connect(&self.context, &self.target)?;
        Ok(ZmqPublisher { link, done: Vec::new(), event: Vec::new() })
    }

    async fn subscriber(&self, session: u32, zones: &[(u32, Zone)]) -> Result<ZmqSubscriber, TransportError> {
        let link = Link::connect(&self.context, &self.target)?;
        let mut request = BytesMut::new();
        frame::put_subscribe(&mut request, zones.iter().map(|(_, zone)| *zone));
        link.send(frame::without_length(&request)).await?;
        let answer = link.receive().await?;
        match frame::decode(&answer) {
            Ok(Frame::Subscribed) => Ok(ZmqSubscriber { link, session }),
            other => Err(TransportError::new("cannot subscribe", format!("the broker answered with {other:?}"))),
        }
    }
}

/// Publishes, with an acknowledgement for each event.
pub struct ZmqPublisher {
    link: Link,
    /// What came while there was no room to send.
    done: Vec<Option<u32>>,
    event: Vec<u8>,
}

impl ZmqPublisher {
    /// Reads the acknowledgements that are there.
    fn read_acks(&mut self) -> Result<(), TransportError> {
        while let Some(answer) = self.link.try_receive()? {
            match frame::decode(&answer) {
                Ok(Frame::Routed(matched)) => self.done.extend(matched.into_iter().map(Some)),
                other => return Err(TransportError::new("the broker sent a publisher", format!("{other:?}"))),
            }
        }
        Ok(())
    }
}

impl Publisher for ZmqPublisher {
    async fn publish(&mut self, event: Outgoing<'_>) -> Result<(), TransportError> {
        self.event.clear();
        self.event.extend_from_slice(&frame::event_head(&event.circle));
        self.event.extend_from_slice(event.payload);
        while !self.link.try_send(&self.event)? {
            // The broker may be waiting for us to read.
            self.read_acks()?;
            self.link.ready(PollEvents::all()).await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), TransportError> {
        // libzmq's thread sends by itself.
        Ok(())
    }

    async fn completed(&mut self, done: &mut Vec<Option<u32>>) -> Result<(), TransportError> {
        self.read_acks()?;
        while self.done.is_empty() {
            self.link.ready(PollEvents::POLLIN).await?;
            self.read_acks()?;
        }
        done.append(&mut self.done);
        Ok(())
    }

    fn try_completed(&mut self, done: &mut Vec<Option<u32>>) -> Result<(), TransportError> {
        self.read_acks()?;
        done.append(&mut self.done);
        Ok(())
    }

    async fn close(self) {}
}

/// Receives the events of one session.
pub struct ZmqSubscriber {
    link: Link,
    session: u32,
}

impl ZmqSubscriber {
    fn hand_over<S: Sink>(&self, sink: &mut S) -> Result<usize, TransportError> {
        for count in 0..BATCH_MAX {
            let Some(message) = self.link.try_receive()? else { return Ok(count) };
            let Ok(Frame::Event { payload, .. }) = frame::decode(&message) else {
                return Err(TransportError::new("the broker does not keep to the protocol", "no event"));
            };
            if count == 0 {
                sink.batch();
            }
            sink.payload(self.session, payload);
        }
        Ok(BATCH_MAX)
    }
}

impl ZmqSubscriber {
    /// Gives its zones up. ZeroMQ itself tells nobody that a client has gone.
    async fn leave(&self) -> Result<(), TransportError> {
        let mut request = BytesMut::new();
        frame::put_subscribe(&mut request, [].into_iter());
        self.link.send(frame::without_length(&request)).await?;
        while !matches!(frame::decode(&self.link.receive().await?), Ok(Frame::Subscribed)) {}
        Ok(())
    }
}

impl Subscriber for ZmqSubscriber {
    type Mover = NoMover;

    async fn receive<S: Sink>(&mut self, sink: &mut S) -> Result<(), TransportError> {
        while self.hand_over(sink)? == 0 {
            self.link.ready(PollEvents::POLLIN).await?;
        }
        Ok(())
    }

    fn mover(&self) -> Option<NoMover> {
        None
    }

    async fn close(self) {
        // Where the broker is gone, nothing is left to give up.
        let _ = timeout(FAREWELL, self.leave()).await;
    }
}

/// A socket whose readiness tokio watches. Only one task at a time may wait: who looks at the events takes the signal
/// of a change away from everybody else.
struct Link {
    watch: AsyncFd<OwnedFd>,
    socket: Socket,
}

impl Link {
    fn connect(context: &Context, target: &PeerTarget) -> Result<Self, TransportError> {
        let connect = || {
            let keys = CurveKeyPair::new()?;
            let server_key = target.curve_key.as_deref().unwrap_or_default();
            let socket = context.socket(DEALER)?;
            socket.set_curve_serverkey(&zmq::z85_decode(server_key).map_err(|_| Error::EINVAL)?)?;
            socket.set_curve_publickey(&keys.public_key)?;
            socket.set_curve_secretkey(&keys.secret_key)?;
            socket.set_sndhwm(HIGH_WATER_MARK)?;
            socket.set_rcvhwm(HIGH_WATER_MARK)?;
            socket.set_linger(0)?;
            socket.connect(&format!("tcp://{}", target.address))?;
            Ok(socket)
        };
        let socket: Socket = connect().map_err(|error: Error| TransportError::new("cannot connect", error))?;
        let watch = watch(&socket).map_err(|error| TransportError::new("cannot watch the socket", error))?;
        Ok(Self { watch, socket })
    }

    /// Waits until one of these holds.
    async fn ready(&self, wanted: PollEvents) -> Result<(), TransportError> {
        loop {
            if self.socket.get_events().map_err(lost)?.intersects(wanted) {
                return Ok(());
            }
            let guard = self.watch.readable().await;
            guard.map_err(|error| TransportError::new("the connection is lost", error))?.clear_ready();
        }
    }

    fn try_send(&self, body: &[u8]) -> Result<bool, TransportError> {
        match self.socket.send(body, DONTWAIT) {
            Ok(()) => Ok(true),
            Err(Error::EAGAIN) => Ok(false),
            Err(error) => Err(lost(error)),
        }
    }

    fn try_receive(&self) -> Result<Option<zmq::Message>, TransportError> {
        match self.socket.recv_msg(DONTWAIT) {
            Ok(message) => Ok(Some(message)),
            Err(Error::EAGAIN) => Ok(None),
            Err(error) => Err(lost(error)),
        }
    }

    async fn send(&self, body: &[u8]) -> Result<(), TransportError> {
        while !self.try_send(body)? {
            self.ready(PollEvents::POLLOUT).await?;
        }
        Ok(())
    }

    async fn receive(&self) -> Result<zmq::Message, TransportError> {
        loop {
            if let Some(message) = self.try_receive()? {
                return Ok(message);
            }
            self.ready(PollEvents::POLLIN).await?;
        }
    }
}

/// Watches what libzmq signals with, by a descriptor of our own. libzmq gives a bare number, which safe code may not take for a
/// descriptor; asking the system for a copy of that number's descriptor is safe, whatever the number.
#[allow(deprecated, reason = "unsound for descriptors that may be closed while watched; an owned one stays")]
fn watch(socket: &Socket) -> io::Result<AsyncFd<OwnedFd>> {
    let ourselves = pidfd_open(getpid(), PidfdFlags::empty())?;
    let descriptor = pidfd_getfd(ourselves, socket.get_fd()?, PidfdGetfdFlags::empty())?;
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}

fn lost(error: Error) -> TransportError {
    TransportError::new("the socket failed", error)
}
