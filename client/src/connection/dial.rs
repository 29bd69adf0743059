//! Makes a connection and greets the broker.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use quinn::{Connection, ReadError, ReadExactError, RecvStream, SendStream, VarInt};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use zonecast_protocol::{
    ErrorCode, Limits, PROTOCOL_VERSION,
    codec::{FrameError, decode_server_frame, encode_client_frame},
    wire::{self, client_frame, server_frame},
};

use crate::{
    config::{Broker, Settings},
    error::LinkError,
};

/// How long an address of several is given before the next is tried beside it. RFC 8305 ("Happy Eyeballs"), section 8.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// Most that a broker may want to send as one frame, which this client would hold in memory.
const FRAME_BYTES_MAX_BELIEVED: u32 = 64 << 20;

/// A connection whose broker has said welcome.
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) send: SendStream,
    pub(super) receive: RecvStream,
    pub(super) session_id: u64,
    pub(super) limits: Limits,
    /// The broker keeps the session for a while when the connection is lost.
    pub(super) outlives_link: bool,
    /// Set when the former session goes on.
    pub(super) resumed: Option<Resumed>,
    /// In how many milliseconds the token ends that was shown; 0: never.
    pub(super) token_expires_in_ms: u64,
}

/// Why there is no connection.
pub(super) struct Unlinked {
    pub(super) error: LinkError,
    /// What the broker wants as the least wait.
    pub(super) retry_after: Duration,
}

impl From<LinkError> for Unlinked {
    fn from(error: LinkError) -> Self {
        Self { error, retry_after: Duration::ZERO }
    }
}

impl From<FrameError> for Unlinked {
    fn from(error: FrameError) -> Self {
        LinkError::from(error).into()
    }
}

/// What the broker has taken of a session that goes on.
#[derive(Debug)]
pub(super) struct Resumed {
    /// The last number of each lane that was asked about; of others nothing was taken that has no answer.
    pub(super) lanes: BTreeMap<u32, u64>,
    pub(super) last_request_id: u64,
}

/// Connects to a broker, from resolving its name to its welcome.
pub(super) async fn dial(
    settings: &Settings,
    broker: &Broker,
    source: u64,
    mut hello: wire::Hello,
) -> Result<Link, Unlinked> {
    hello.token = settings.token.get().await?;
    let waited = settings.timing.attempt_timeout;
    let attempt = async {
        let addresses = resolve(broker).await?;
        let connection = connect(settings, broker, addresses).await?;
        let greeted = greet(connection.clone(), source, hello).await;
        if let Err(unlinked) = &greeted {
            close(&connection, &unlinked.error);
        }
        greeted
    };
    timeout(waited, attempt).await.unwrap_or(Err(LinkError::NoAnswer { waited }.into()))
}

/// Ends a connection, telling the broker what it did wrong, if that is why.
pub(super) fn close(connection: &Connection, error: &LinkError) {
    let (code, reason) = match error {
        LinkError::Framing(framing) => (framing.code(), framing.to_string()),
        LinkError::Violation { what } => (ErrorCode::UnexpectedFrame, (*what).to_owned()),
        _ => (ErrorCode::Unspecified, String::new()),
    };
    connection.close(VarInt::from_u32(code as u32), reason.as_bytes());
}

async fn resolve(broker: &Broker) -> Result<Vec<SocketAddr>, LinkError> {
    // An address needs no resolver, nor the thread that one takes.
    if let Ok(ip) = broker.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, broker.port)]);
    }
    let failed = |source| LinkError::Resolve { host: broker.host.clone(), source: Arc::new(source) };
    let found = tokio::net::lookup_host((broker.host.as_str(), broker.port)).await.map_err(failed)?;
    let addresses = found.collect::<Vec<_>>();
    if addresses.is_empty() {
        return Err(failed(std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address")));
    }
    Ok(addresses)
}

/// The first of a name's addresses that completes the handshake. Later ones start only while earlier ones are silent.
async fn connect(settings: &Settings, broker: &Broker, addresses: Vec<SocketAddr>) -> Result<Connection, LinkError> {
    let mut addresses = addresses.into_iter().peekable();
    let mut racing = JoinSet::new();
    let mut last = LinkError::Violation { what: "there was no address to connect to" };
    loop {
        if let Some(address) = addresses.next() {
            match settings.endpoint.connect_with(settings.quic.clone(), address, &broker.server_name) {
                Ok(connecting) => drop(racing.spawn(connecting)),
                Err(error) => last = error.into(),
            }
        }
        let more = addresses.peek().is_some();
        tokio::select! {
            biased;
            Some(result) = racing.join_next() => match result {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => last = LinkError::from_quic(error),
                Err(_) => {}
            },
            () = sleep(NEXT_ADDRESS_AFTER), if more && !racing.is_empty() => {}
            else => {}
        }
        if racing.is_empty() && addresses.peek().is_none() {
            return Err(last);
        }
    }
}

/// What a client says of itself. Its token, and what it says of a session to resume, is filled in later.
pub(super) fn introduction(settings: &Settings) -> wire::Hello {
    wire::Hello {
        protocol_version: PROTOCOL_VERSION,
        client_id: settings.client_id.to_string(),
        incarnation: settings.incarnation,
        software: concat!("zonecast-client/", env!("CARGO_PKG_VERSION")).to_owned(),
        resume_window_ms: u32::try_from(settings.resume_window.as_millis()).unwrap_or(u32::MAX),
        coalesce_ms: u32::try_from(settings.coalesce.as_millis()).unwrap_or(u32::MAX),
        ..Default::default()
    }
}

async fn greet(connection: Connection, source: u64, hello: wire::Hello) -> Result<Link, Unlinked> {
    let (mut send, mut receive) = connection.open_bi().await.map_err(LinkError::from_quic)?;
    let may_resume = hello.resume_session_id != 0;
    let mut bytes = BytesMut::new();
    encode_client_frame(client_frame::Frame::Hello(hello), &mut bytes);
    // A failed write is explained by the connection's end, which reading meets.
    let _ = send.write_all(&bytes).await;
    let welcome = match decode_server_frame(first_frame(&mut receive).await?)? {
        server_frame::Frame::Welcome(welcome) => welcome,
        server_frame::Frame::GoAway(go_away) => {
            let retry_after = Duration::from_millis(go_away.reconnect_after_ms.into());
            let error = LinkError::Ended { code: go_away.code.unsigned_abs(), message: go_away.message };
            return Err(Unlinked { error, retry_after });
        }
        _ => return Err(LinkError::Violation { what: "the first frame is no Welcome" }.into()),
    };
    let limits = check(&welcome, source)?;
    if welcome.resumed && !may_resume {
        return Err(LinkError::Violation { what: "Welcome resumes a session that was not asked for" }.into());
    }
    let resumed = welcome.resumed.then(|| Resumed {
        lanes: welcome.lanes.iter().map(|position| (position.lane, position.lane_seq)).collect(),
        last_request_id: welcome.last_request_id,
    });
    let outlives_link = welcome.resume_window_ms > 0;
    let token_expires_in_ms = welcome.token_expires_in_ms;
    let session_id = welcome.session_id;
    Ok(Link { connection, send, receive, session_id, limits, outlives_link, resumed, token_expires_in_ms })
}

fn check(welcome: &wire::Welcome, source: u64) -> Result<Limits, LinkError> {
    let violation = |what| Err(LinkError::Violation { what });
    let Some(limits) = &welcome.limits else { return violation("Welcome states no limits") };
    if welcome.protocol_version != PROTOCOL_VERSION {
        return violation("Welcome states another protocol version than was asked for");
    }
    if welcome.source != source {
        return violation("Welcome.source is not what the protocol derives from client id and incarnation");
    }
    if limits.lanes_max == 0 || limits.frame_bytes_max == 0 {
        return violation("Welcome.limits permits no lane or no frame");
    }
    if limits.frame_bytes_max > FRAME_BYTES_MAX_BELIEVED {
        return violation("Welcome.limits.frame_bytes_max is more than this client would take in one piece");
    }
    Ok(Limits::from(limits))
}

/// Exactly the first frame, so that those behind it can be cut by the limits which it states.
async fn first_frame(receive: &mut RecvStream) -> Result<Bytes, LinkError> {
    let frame_bytes_max = Limits::default().frame_bytes_max;
    let mut length = 0_u64;
    for place in 0.. {
        let mut byte = [0];
        receive.read_exact(&mut byte).await.map_err(read_error)?;
        length |= u64::from(byte[0] & 0x7f) << (7 * place);
        match byte[0] & 0x80 {
            0 => break,
            _ if place == 4 => return Err(FrameError::BadLength.into()),
            _ => {}
        }
    }
    if length > u64::from(frame_bytes_max) {
        return Err(FrameError::TooLarge { length, frame_bytes_max }.into());
    }
    let mut frame = BytesMut::new();
    while (frame.len() as u64) < length {
        let wanted = usize::try_from(length).unwrap_or(usize::MAX) - frame.len();
        match receive.read_chunk(wanted, true).await {
            Ok(Some(chunk)) => frame.extend_from_slice(&chunk.bytes),
            Ok(None) => return Err(FrameError::Truncated { received: frame.len() }.into()),
            Err(error) => return Err(read_error(ReadExactError::ReadError(error))),
        }
    }
    Ok(frame.freeze())
}

fn read_error(error: ReadExactError) -> LinkError {
    match error {
        ReadExactError::ReadError(ReadError::ConnectionLost(error)) => LinkError::from_quic(error),
        _ => LinkError::Violation { what: "the broker ended the control stream" },
    }
}
