//! From a first packet to a session: handshake, hello, admission, welcome.

use std::{net::IpAddr, rc::Rc, time::Duration};

use bytes::{Bytes, BytesMut};
use quinn::{Connection, ConnectionError, Incoming, SendStream};
use thiserror::Error;
use tokio::time::timeout;
use zonecast_core::ResumePoint;
use zonecast_protocol::{
    ClientId, PROTOCOL_VERSION, Refusal, code_label,
    codec::{FrameError, decode_client_frame, encode_server_frame},
    wire::{self, ErrorCode, client_frame, server_frame},
};

use super::{
    Ending, close_code,
    control::name_of,
    identity,
    stream::{Cut, FrameStream},
};
use crate::{
    admission::Place,
    grant::{Grant, now},
    session::Resume,
    worker::{Begun, Newcomer, Worker},
};

/// Most numbers of datagrams that a hello may name. The stream explains them every 50 ms; more are under way in no network.
const DATAGRAMS_NAMED_MAX: usize = 65_536;
/// Deliveries wait for others no longer than this, whatever `Hello.coalesce_ms` says.
const COALESCE_MAX: Duration = Duration::from_millis(100);
/// Longest `Hello.software` in bytes.
const SOFTWARE_BYTES_MAX: usize = 64;

/// A client that has introduced itself and been welcomed.
pub(super) struct Introduced {
    pub(super) connection: Connection,
    pub(super) control: (SendStream, FrameStream),
    pub(super) begun: Begun,
    /// The first thing to be written.
    pub(super) welcome: Bytes,
    pub(super) software: String,
    /// For how long deliveries may wait for others.
    pub(super) coalesce: Duration,
}

/// Why no session came about.
#[derive(Debug, Error)]
pub(super) enum Failure {
    /// The QUIC or TLS handshake failed, or the connection went away.
    #[error("handshake: {0}")]
    Handshake(#[from] ConnectionError),
    /// The client broke the framing.
    #[error(transparent)]
    Framing(#[from] FrameError),
    /// The hello was refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The stream ended before the hello.
    #[error("the control stream ended before a hello")]
    NoHello,
    /// The handshake took too long.
    #[error("no handshake in time")]
    HandshakeTimeout,
    /// The hello took too long.
    #[error("no hello in time")]
    Timeout,
}

impl Failure {
    /// The name of the failure in the metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Handshake(ConnectionError::TransportError(_)) => "transport_error",
            Self::Handshake(_) => "handshake",
            Self::Framing(error) => error.label(),
            Self::Refused(refusal) => code_label(refusal.code),
            Self::NoHello => "no_hello",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Timeout => "HELLO_TIMEOUT",
        }
    }

    fn close(&self, connection: &Connection) {
        let code = match self {
            // There are no keys to encrypt a close with.
            Self::Handshake(_) | Self::HandshakeTimeout => return,
            Self::Framing(error) => error.code(),
            Self::Refused(refusal) => refusal.code,
            Self::NoHello => ErrorCode::InvalidHello,
            Self::Timeout => ErrorCode::HelloTimeout,
        };
        connection.close(close_code(code), self.to_string().as_bytes());
    }
}

/// Brings a connection from its first packet to a session.
pub(super) async fn introduce(
    worker: &Rc<Worker>,
    incoming: Incoming,
    place: &mut Place,
) -> Result<Introduced, Failure> {
    let address = incoming.remote_address().ip();
    let limits = &worker.shared.config.connections;
    let begun = tokio::time::Instant::now();
    let server = worker.shared.serving.server_config();
    let handshake = timeout(limits.handshake_timeout, async { incoming.accept_with(server)?.await });
    let connection = handshake.await.map_err(|_| Failure::HandshakeTimeout)??;
    place.shaken_hands();
    let deadline = limits.hello_timeout.saturating_sub(begun.elapsed());
    let hello = timeout(deadline, read_hello(worker, &connection, place)).await;
    let admitted = match hello.unwrap_or(Err(Failure::Timeout)) {
        Ok((hello, grant, control)) => {
            let coalesce = Duration::from_millis(hello.coalesce_ms.into()).min(COALESCE_MAX);
            admit(worker, hello, grant, address).await.map(|admitted| (admitted, control, coalesce))
        }
        Err(failure) => Err(failure),
    };
    match admitted {
        Ok(((begun, welcome, software), control, coalesce)) => {
            Ok(Introduced { connection, control, begun, welcome, software, coalesce })
        }
        Err(failure) => {
            failure.close(&connection);
            Err(failure)
        }
    }
}

async fn read_hello(
    worker: &Worker,
    connection: &Connection,
    place: &mut Place,
) -> Result<(wire::Hello, Grant, (SendStream, FrameStream)), Failure> {
    let (send, recv) = connection.accept_bi().await?;
    let mut frames = FrameStream::new(recv, worker.shared.limits.frame_bytes_max);
    let frame = match frames.next().await {
        Ok(Cut::Frame(frame)) => frame,
        Err(Ending::Framing(error)) => return Err(error.into()),
        Ok(Cut::End) | Err(_) => return Err(Failure::NoHello),
    };
    match decode_client_frame(frame)? {
        client_frame::Frame::Hello(hello) => {
            let client = check(&hello, worker.shared.limits.lanes_max)?;
            let grant = identity::check(worker, connection, &client, &hello.token, place)?;
            Ok((hello, grant, (send, frames)))
        }
        other => Err(FrameError::Unexpected { frame: name_of(&other), place: "before the hello" }.into()),
    }
}

async fn admit(
    worker: &Rc<Worker>,
    hello: wire::Hello,
    grant: Grant,
    address: IpAddr,
) -> Result<(Begun, Bytes, String), Failure> {
    let client = check(&hello, worker.shared.limits.lanes_max)?;
    let point = ResumePoint { delivered_through: hello.delivered_through, datagrams: hello.datagrams };
    let resume = Resume { session_id: hello.resume_session_id, point, control_through: hello.control_through };
    let newcomer = Newcomer {
        client,
        incarnation: hello.incarnation,
        grant,
        address,
        resume_window: Duration::from_millis(hello.resume_window_ms.into()),
        resume: (hello.resume_session_id != 0).then_some(resume),
    };
    let begun = worker.open_session(newcomer).await?;
    let welcome = welcome(worker, &begun, &hello.lanes);
    let mut bytes = BytesMut::new();
    encode_server_frame(server_frame::Frame::Welcome(welcome), &mut bytes);
    Ok((begun, bytes.freeze(), hello.software))
}

fn welcome(worker: &Worker, begun: &Begun, lanes: &[wire::LanePosition]) -> wire::Welcome {
    let Begun { session, resumed, .. } = begun;
    let rules = session.rules.borrow();
    let standing = rules.standing();
    let taken = |asked: &wire::LanePosition| wire::LanePosition {
        lane: asked.lane,
        lane_seq: standing.lane_taken_through(asked.lane),
    };
    wire::Welcome {
        protocol_version: PROTOCOL_VERSION,
        session_id: session.id.get(),
        source: rules.source(),
        resumed: *resumed,
        lanes: if *resumed { lanes.iter().map(taken).collect() } else { Vec::new() },
        limits: Some((&*worker.shared.limits).into()),
        software: concat!("zonecast/", env!("CARGO_PKG_VERSION")).to_owned(),
        resume_window_ms: u32::try_from(session.resume_window.as_millis()).unwrap_or(u32::MAX),
        last_request_id: if *resumed { standing.last_request_id() } else { 0 },
        token_expires_in_ms: session.grant.borrow().expires_in_ms(now()),
    }
}

fn check(hello: &wire::Hello, lanes_max: u32) -> Result<ClientId, Refusal> {
    if hello.protocol_version != PROTOCOL_VERSION {
        let message = format!("protocol_version is {}; this broker speaks {PROTOCOL_VERSION}", hello.protocol_version);
        return Err(Refusal::new(ErrorCode::UnsupportedVersion, message));
    }
    let invalid = |message: String| Refusal::new(ErrorCode::InvalidHello, message);
    if hello.incarnation == 0 {
        return Err(invalid("incarnation is 0; number the runs of a client from 1".into()));
    }
    if hello.software.len() > SOFTWARE_BYTES_MAX {
        return Err(invalid(format!("software is longer than {SOFTWARE_BYTES_MAX} bytes")));
    }
    if hello.lanes.len() > lanes_max as usize {
        return Err(invalid(format!("lanes has {} entries; there are {lanes_max} lanes", hello.lanes.len())));
    }
    if hello.datagrams.len() > DATAGRAMS_NAMED_MAX {
        return Err(invalid(format!("datagrams has {} entries; at most {DATAGRAMS_NAMED_MAX}", hello.datagrams.len())));
    }
    ClientId::new(&hello.client_id).map_err(|error| invalid(error.to_string()))
}
