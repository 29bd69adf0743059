//! The broker: one thread around one socket. libzmq's own thread encrypts, decrypts and speaks to the system.

use bytes::BytesMut;
use rustc_hash::FxHashMap;
use zmq::{Context, CurveKeyPair, DONTWAIT, Error, ROUTER, SNDMORE, Socket};
use zonecast_core::SessionId;

use super::HIGH_WATER_MARK;
use crate::{
    frame::{self, Frame},
    hub::Hub,
    target::PeerTarget,
};

/// How long one session may keep all others waiting before it counts as gone, in milliseconds.
const PATIENCE_MS: i32 = 10_000;
/// Events after which publishers are told what became of theirs, even while more are waiting.
const UNTOLD_MAX: usize = 256;

type Identity = Box<[u8]>;

/// The socket, bound to a port that the system chose.
pub struct Listener {
    socket: Socket,
    endpoint: String,
    /// Its public key, in Z85.
    key: String,
}

impl Listener {
    /// Binds, with a new pair of keys.
    ///
    /// # Errors
    /// libzmq was built without CURVE, or there is no port.
    pub fn bind() -> Result<Self, Error> {
        let keys = CurveKeyPair::new()?;
        let socket = Context::new().socket(ROUTER)?;
        socket.set_curve_server(true)?;
        socket.set_curve_secretkey(&keys.secret_key)?;
        socket.set_router_mandatory(true)?;
        socket.set_sndhwm(HIGH_WATER_MARK)?;
        socket.set_rcvhwm(HIGH_WATER_MARK)?;
        socket.set_sndtimeo(PATIENCE_MS)?;
        socket.set_linger(0)?;
        socket.bind("tcp://127.0.0.1:*")?;
        let endpoint = socket.get_last_endpoint()?.unwrap_or_default();
        Ok(Self { socket, endpoint, key: zmq::z85_encode(&keys.public_key).map_err(|_| Error::EINVAL)? })
    }

    /// What its clients need to know; none where libzmq names a place that is no address.
    #[must_use]
    pub fn target(&self) -> Option<PeerTarget> {
        let address = self.endpoint.strip_prefix("tcp://")?.parse().ok()?;
        Some(PeerTarget { address, ca: None, curve_key: Some(self.key.clone()) })
    }
}

/// Serves until the socket fails.
///
/// # Errors
/// The socket's.
pub fn serve(listener: Listener) -> Result<(), Error> {
    let mut broker = Broker { socket: listener.socket, hub: Hub::default(), sessions: FxHashMap::default() };
    let mut untold: FxHashMap<Identity, Vec<u32>> = FxHashMap::default();
    let mut count = 0;
    let mut gone = Vec::new();
    loop {
        let flags = if count == 0 { 0 } else { DONTWAIT };
        let message = match broker.socket.recv_multipart(flags) {
            Ok(message) => message,
            Err(Error::EINTR) => continue,
            Err(Error::EAGAIN) => {
                broker.tell(&mut untold)?;
                count = 0;
                continue;
            }
            Err(error) => return Err(error),
        };
        let [identity, body] = &message[..] else { continue };
        if let Some(matched) = broker.take(identity, body, &mut gone)? {
            untold.entry(identity.clone().into()).or_default().push(matched);
            count += 1;
        }
        for session in gone.drain(..) {
            broker.hub.leave(session);
        }
        if count >= UNTOLD_MAX {
            broker.tell(&mut untold)?;
            count = 0;
        }
    }
}

struct Broker {
    socket: Socket,
    hub: Hub<(SessionId, Identity)>,
    sessions: FxHashMap<Identity, SessionId>,
}

impl Broker {
    /// Does what a client asks. Gives back how many sessions its event reached. What is no frame is passed over.
    fn take(&mut self, identity: &[u8], body: &[u8], gone: &mut Vec<SessionId>) -> Result<Option<u32>, Error> {
        match frame::decode(body) {
            Ok(Frame::Event { circle, .. }) => {
                let (hub, socket) = (&mut self.hub, &self.socket);
                let mut failure = None;
                let matched = hub.route(circle, |(session, outbox)| match send(socket, outbox, body) {
                    Ok(true) => {}
                    Ok(false) => gone.push(*session),
                    Err(error) => failure = Some(error),
                });
                failure.map_or(Ok(Some(matched)), Err)
            }
            Ok(Frame::Subscribe(zones)) => {
                let (hub, identity) = (&mut self.hub, Identity::from(identity));
                let session = *self.sessions.entry(identity.clone()).or_insert_with(|| {
                    // The session's number is known only when it has joined, and it joins with its number.
                    let next = hub.next_session();
                    hub.join((next, identity.clone()))
                });
                self.hub.subscribe(session, zones);
                let mut answer = BytesMut::new();
                frame::put_subscribed(&mut answer);
                send(&self.socket, &identity, frame::without_length(&answer))?;
                Ok(None)
            }
            Ok(Frame::Subscribed | Frame::Routed(_)) | Err(_) => Ok(None),
        }
    }

    fn tell(&mut self, untold: &mut FxHashMap<Identity, Vec<u32>>) -> Result<(), Error> {
        for (identity, matched) in untold.drain() {
            let mut answer = BytesMut::new();
            frame::put_routed(&mut answer, &matched);
            send(&self.socket, &identity, frame::without_length(&answer))?;
        }
        Ok(())
    }
}

/// Waits for room. False: nobody is there any more, or nobody has read for too long.
fn send(socket: &Socket, identity: &[u8], body: &[u8]) -> Result<bool, Error> {
    match socket.send(identity, SNDMORE).and_then(|()| socket.send(body, 0)) {
        Ok(()) => Ok(true),
        Err(Error::EHOSTUNREACH | Error::EAGAIN) => Ok(false),
        Err(error) => Err(error),
    }
}
