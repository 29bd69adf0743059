//! A peer that speaks frames and nothing else: no reconnecting, no waiting for answers, no good manners.

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use prost::Message;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use zonecast_broker::{Broker, BrokerConfig, BrokerTls};
use zonecast_protocol::codec::{FrameCutter, decode_server_frame, encode_client_frame};
use zonecast_protocol::wire::{self, client_frame, server_frame};
use zonecast_protocol::{ALPN, AckLevel, ErrorCode, Limits};

/// Guards against a test that hangs; nothing waits for it in a test that passes.
const GUARD: Duration = Duration::from_secs(20);

pub(crate) fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(GUARD, test).await.expect("the test hangs") });
}

/// An authority, and certificates by it.
pub(crate) struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pub(crate) certificate: CertificateDer<'static>,
}

pub(crate) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Authority {
    pub(crate) fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        // Authorities of one name would be taken for each other, and their signatures for forged ones.
        static AUTHORITIES: AtomicU64 = AtomicU64::new(0);
        let name = format!("authority {}", AUTHORITIES.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: rcgen::Issuer::new(params, key), certificate }
    }

    pub(crate) fn identity(&self, name: &str, change: impl FnOnce(&mut rcgen::CertificateParams)) -> Identity {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots
    }
}

/// A broker for one test.
pub(crate) struct World {
    pub(crate) authority: Authority,
    pub(crate) broker: Broker,
}

impl World {
    pub(crate) async fn new(workers: usize) -> Self {
        Self::with(workers, |_| {}).await
    }

    pub(crate) async fn with(workers: usize, change: impl FnOnce(&mut BrokerConfig)) -> Self {
        let authority = Authority::new();
        let (chain, key) = authority.identity("localhost", |_| {});
        let mut config = BrokerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)), BrokerTls::new(chain, key));
        config.workers = NonZeroUsize::new(workers).unwrap();
        config.admin_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        change(&mut config);
        let broker = Broker::start(config).await.unwrap();
        Self { authority, broker }
    }

    /// A bare connection, without a hello.
    pub(crate) async fn connection(&self) -> quinn::Connection {
        self.connection_as(ALPN, self.authority.roots(), None).await.unwrap()
    }

    pub(crate) async fn connection_as(
        &self,
        alpn: &[u8],
        roots: RootCertStore,
        identity: Option<Identity>,
    ) -> Result<quinn::Connection, quinn::ConnectionError> {
        connect(self.broker.local_addr(), client_tls(alpn, roots, identity)).await
    }

    /// A welcomed client.
    pub(crate) async fn client(&self, name: &str) -> Peer {
        self.client_run(name, 1).await
    }

    pub(crate) async fn client_run(&self, name: &str, incarnation: u64) -> Peer {
        Peer::welcomed(self.connection().await, hello(name, incarnation)).await
    }
}

/// A client's side of TLS.
pub(crate) fn client_tls(alpn: &[u8], roots: RootCertStore, identity: Option<Identity>) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut tls = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![alpn.to_vec()];
    tls
}

/// A bare connection from a port of its own.
pub(crate) async fn connect(
    broker: SocketAddr,
    tls: rustls::ClientConfig,
) -> Result<quinn::Connection, quinn::ConnectionError> {
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    endpoint.connect_with(config, broker, "localhost").unwrap().await
}

pub(crate) fn hello(name: &str, incarnation: u64) -> wire::Hello {
    wire::Hello { protocol_version: 1, client_id: name.to_owned(), incarnation, ..Default::default() }
}

/// One connection with its control stream, one lane stream, and its delivery stream.
pub(crate) struct Peer {
    pub(crate) connection: quinn::Connection,
    pub(crate) control: quinn::SendStream,
    answers: Frames,
    lane: Option<quinn::SendStream>,
    deliveries: Option<Frames>,
    pub(crate) source: u64,
    lane_seq: AtomicU64,
    request_id: u64,
}

struct Frames {
    recv: quinn::RecvStream,
    cutter: FrameCutter,
}

impl Frames {
    fn new(recv: quinn::RecvStream) -> Self {
        Self { recv, cutter: FrameCutter::new(Limits::default().frame_bytes_max) }
    }

    async fn next(&mut self) -> Result<server_frame::Frame, quinn::ReadError> {
        loop {
            if let Some(frame) = self.cutter.next_frame().unwrap() {
                return Ok(decode_server_frame(frame).unwrap());
            }
            match self.recv.read_chunk(1 << 16, true).await? {
                Some(chunk) => self.cutter.push(chunk.bytes),
                None => return Err(quinn::ReadError::ClosedStream),
            }
        }
    }
}

impl Peer {
    pub(crate) async fn open(connection: quinn::Connection) -> Self {
        let (control, recv) = connection.open_bi().await.unwrap();
        Self {
            connection,
            control,
            answers: Frames::new(recv),
            lane: None,
            deliveries: None,
            source: 0,
            lane_seq: AtomicU64::new(0),
            request_id: 0,
        }
    }

    /// A client that has said its hello and been welcomed.
    pub(crate) async fn welcomed(connection: quinn::Connection, hello: wire::Hello) -> Self {
        Self::opened(connection, hello).await.0
    }

    /// The same, and what it was told.
    pub(crate) async fn opened(connection: quinn::Connection, hello: wire::Hello) -> (Self, wire::Welcome) {
        let mut peer = Self::open(connection).await;
        peer.send(client_frame::Frame::Hello(hello)).await;
        match peer.next().await {
            server_frame::Frame::Welcome(welcome) => {
                peer.source = welcome.source;
                (peer, welcome)
            }
            other => panic!("{other:?} instead of a welcome"),
        }
    }

    pub(crate) async fn send(&mut self, frame: client_frame::Frame) {
        let mut out = BytesMut::new();
        encode_client_frame(frame, &mut out);
        self.control.write_all(&out).await.unwrap();
    }

    /// The next frame on the control stream.
    pub(crate) async fn next(&mut self) -> server_frame::Frame {
        self.answers.next().await.unwrap()
    }

    /// The code with which the broker closes the connection.
    pub(crate) async fn closed(&self) -> (ErrorCode, String) {
        closed(&self.connection).await
    }

    pub(crate) fn event(&self, target: wire::event::Target) -> wire::Event {
        wire::Event {
            target: Some(target),
            source: self.source,
            lane_seq: self.lane_seq.fetch_add(1, Ordering::Relaxed) + 1,
            ..Default::default()
        }
    }

    pub(crate) fn event_at(&self, world: &str, x: f64, y: f64, radius: f64) -> wire::Event {
        self.event(wire::event::Target::Place(wire::Place { world: world.to_owned(), x, y, radius }))
    }

    pub(crate) fn event_on(&self, topic: &str) -> wire::Event {
        self.event(wire::event::Target::Topic(topic.to_owned()))
    }

    /// Publishes and returns the broker's answer: how many sessions matched, or why not.
    pub(crate) async fn publish(&mut self, event: wire::Event) -> Result<u32, ErrorCode> {
        self.publish_frame(wire::Publish {
            ack: AckLevel::Routed.into(),
            event: event.encode_to_vec().into(),
            ..Default::default()
        })
        .await
    }

    pub(crate) async fn publish_frame(&mut self, publish: wire::Publish) -> Result<u32, ErrorCode> {
        self.write_publish(publish).await;
        match self.next().await {
            server_frame::Frame::PublishAck(ack) => Ok(ack.matched),
            server_frame::Frame::PublishRefused(refused) => Err(refused.code()),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn write_publish(&mut self, publish: wire::Publish) {
        let mut out = BytesMut::new();
        encode_client_frame(client_frame::Frame::Publish(publish), &mut out);
        self.write_lane(&out).await;
    }

    pub(crate) async fn write_lane(&mut self, bytes: &[u8]) {
        if self.lane.is_none() {
            self.lane = Some(self.connection.open_uni().await.unwrap());
        }
        self.lane.as_mut().unwrap().write_all(bytes).await.unwrap();
    }

    pub(crate) fn lane(&mut self) -> &mut quinn::SendStream {
        self.lane.as_mut().unwrap()
    }

    /// Reads one chunk of the delivery stream and looks at nothing in it.
    pub(crate) async fn read_some_deliveries(&mut self) {
        let _ = self.deliveries.as_mut().unwrap().recv.read_chunk(1200, true).await;
    }

    pub(crate) fn stop_deliveries(&mut self) {
        self.deliveries.as_mut().unwrap().recv.stop(7_u32.into()).unwrap();
    }

    pub(crate) fn finish_lane(&mut self) -> quinn::SendStream {
        let mut lane = self.lane.take().unwrap();
        lane.finish().unwrap();
        lane
    }

    pub(crate) fn request_id(&mut self) -> u64 {
        self.request_id += 1;
        self.request_id
    }

    /// Sends a request and returns the epoch of the change, or why it was refused.
    pub(crate) async fn request(&mut self, frame: client_frame::Frame) -> Result<u64, ErrorCode> {
        self.send(frame).await;
        match self.next().await {
            server_frame::Frame::InterestApplied(applied) => {
                assert_eq!(applied.request_id, self.request_id);
                Ok(applied.epoch)
            }
            server_frame::Frame::RequestRefused(refused) => {
                assert_eq!(refused.request_id, self.request_id);
                assert!(!refused.message.is_empty());
                Err(refused.code())
            }
            other => panic!("{other:?}"),
        }
    }

    /// Shows another token; in how many milliseconds that ends.
    pub(crate) async fn renew(&mut self, token: &str) -> Result<u64, ErrorCode> {
        let request_id = self.request_id();
        self.send(client_frame::Frame::Renew(wire::Renew { request_id, token: token.to_owned() })).await;
        match self.next().await {
            server_frame::Frame::Renewed(renewed) => {
                assert_eq!(renewed.request_id, request_id);
                Ok(renewed.token_expires_in_ms)
            }
            server_frame::Frame::RequestRefused(refused) => {
                assert_eq!(refused.request_id, request_id);
                Err(refused.code())
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn put_zones(&mut self, zones: Vec<wire::Zone>) -> Result<u64, ErrorCode> {
        let update = wire::UpdateZones { request_id: self.request_id(), upsert: zones, ..Default::default() };
        self.request(client_frame::Frame::UpdateZones(update)).await
    }

    pub(crate) async fn listen(&mut self, id: u32, pattern: &str, queue_group: &str) -> Result<u64, ErrorCode> {
        let topic = wire::TopicSubscription { id, pattern: pattern.to_owned(), queue_group: queue_group.to_owned() };
        let update = wire::UpdateTopics { request_id: self.request_id(), add: vec![topic], remove: vec![] };
        self.request(client_frame::Frame::UpdateTopics(update)).await
    }

    pub(crate) async fn accept_deliveries(&mut self) {
        if self.deliveries.is_none() {
            self.deliveries = Some(Frames::new(self.connection.accept_uni().await.unwrap()));
        }
    }

    /// The next frame on the delivery stream.
    pub(crate) async fn next_delivery(&mut self) -> server_frame::Frame {
        self.accept_deliveries().await;
        self.deliveries.as_mut().unwrap().next().await.unwrap()
    }

    /// The payload of the next delivery, which must be one.
    pub(crate) async fn received(&mut self) -> Bytes {
        match self.next_delivery().await {
            server_frame::Frame::Deliver(deliver) => wire::Event::decode(deliver.event).unwrap().payload,
            other => panic!("{other:?}"),
        }
    }
}

/// The code with which the broker closes a connection.
pub(crate) async fn closed(connection: &quinn::Connection) -> (ErrorCode, String) {
    code_and_reason(connection.closed().await)
}

pub(crate) fn code_and_reason(error: quinn::ConnectionError) -> (ErrorCode, String) {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => {
            let code = i32::try_from(close.error_code.into_inner()).unwrap();
            (ErrorCode::try_from(code).unwrap(), String::from_utf8(close.reason.to_vec()).unwrap())
        }
        other => panic!("{other:?} instead of a close by the broker"),
    }
}

pub(crate) fn zone(id: u32, world: &str, min: [f64; 2], max: [f64; 2]) -> wire::Zone {
    wire::Zone {
        id,
        world: world.to_owned(),
        min_x: min[0],
        min_y: min[1],
        max_x: max[0],
        max_y: max[1],
        kinds: Vec::new(),
    }
}
