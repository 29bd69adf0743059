//! A broker that does exactly what a test tells it, over real QUIC on loopback.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use quinn::{Connection, Endpoint, RecvStream, SendStream, VarInt, crypto::rustls::QuicServerConfig};
use rustls::{
    RootCertStore,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use zonecast_client::{ClientConfig, ErrorCode, Limits, TlsConfig};
use zonecast_protocol::{
    ALPN, ClientId,
    codec::{
        DeliverFlags, FrameCutter, decode_client_frame, encode_deliver, encode_deliver_datagram, encode_server_frame,
    },
    source_of,
    wire::{self, client_frame::Frame as ClientFrame, server_frame::Frame as ServerFrame},
};

/// Longer than any step takes, even when a packet with a farewell is lost and the idle timeout must do; only a failing
/// test waits so long.
const GUARD: Duration = Duration::from_secs(40);

/// Fails the test instead of hanging.
pub async fn guarded<T>(what: &str, step: impl Future<Output = T>) -> T {
    match tokio::time::timeout(GUARD, step).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {GUARD:?}"),
    }
}

/// A certificate for `localhost` that signs itself.
pub struct Identity {
    pub certificate_pem: String,
    pub key_pem: String,
    key: Vec<u8>,
    certificate: rustls::pki_types::CertificateDer<'static>,
}

impl Identity {
    pub fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Self {
            certificate_pem: made.cert.pem(),
            key_pem: made.signing_key.serialize_pem(),
            key: made.signing_key.serialize_der(),
            certificate: made.cert.der().clone(),
        }
    }
}

pub struct FakeBroker {
    endpoint: Endpoint,
    pub address: SocketAddr,
    pub identity: Identity,
}

impl FakeBroker {
    pub fn start() -> Self {
        Self::start_with_alpn(ALPN)
    }

    pub fn start_with_alpn(alpn: &[u8]) -> Self {
        Self::start_with(alpn, None)
    }

    /// Admits only the client of this certificate.
    pub fn start_for(client: &Identity) -> Self {
        Self::start_with(ALPN, Some(client))
    }

    fn start_with(alpn: &[u8], client: Option<&Identity>) -> Self {
        let identity = Identity::new();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.clone()));
        let clients = match client {
            Some(client) => {
                let mut roots = RootCertStore::empty();
                roots.add(client.certificate.clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
                verifier.build().unwrap()
            }
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![identity.certificate.clone()], key)
            .unwrap();
        tls.alpn_protocols = vec![alpn.to_vec()];
        let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        let endpoint = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        Self { address: endpoint.local_addr().unwrap(), endpoint, identity }
    }

    pub fn tls(&self) -> TlsConfig {
        TlsConfig::from_ca_pem(self.identity.certificate_pem.as_bytes()).unwrap()
    }

    /// Trusts another broker too.
    pub fn tls_with(&self, other: &Self) -> TlsConfig {
        let both = [&self.identity.certificate_pem[..], &other.identity.certificate_pem[..]].concat();
        TlsConfig::from_ca_pem(both.as_bytes()).unwrap()
    }

    /// A client of this broker whose waits are short.
    pub fn config(&self, client_id: &str) -> ClientConfig {
        ClientConfig::new(client_id)
            .address(self.address.to_string())
            .server_name("localhost")
            .tls(self.tls())
            .incarnation(1)
            .seed(1)
            .backoff(Duration::from_millis(1), Duration::from_millis(10))
            .connect_timeout(GUARD)
            .attempt_timeout(GUARD)
    }

    /// The next connection, after its TLS handshake.
    pub async fn accept_connection(&self) -> Option<Connection> {
        let incoming = guarded("a connection", self.endpoint.accept()).await.expect("the endpoint lives");
        incoming.await.ok()
    }

    /// The next connection, after its Hello.
    pub async fn accept(&self) -> Conversation {
        let connection = self.accept_connection().await.expect("the handshake succeeds");
        let (send, receive) = guarded("the control stream", connection.accept_bi()).await.unwrap();
        let mut control = Incoming::new(receive);
        let ClientFrame::Hello(hello) = control.next().await else { panic!("the first frame is no Hello") };
        Conversation { connection, send, control, hello, delivery: None, last_seq: 0, acks: Vec::new() }
    }

    /// The next connection, welcomed.
    pub async fn welcome(&self) -> Conversation {
        let mut conversation = self.accept().await;
        conversation.welcome().await;
        conversation
    }
}

/// The frames of one stream.
pub struct Incoming {
    receive: RecvStream,
    cutter: FrameCutter,
}

impl Incoming {
    pub fn new(receive: RecvStream) -> Self {
        Self { receive, cutter: FrameCutter::new(Limits::default().frame_bytes_max) }
    }

    /// Reads no more, and says so.
    pub fn stop(&mut self) {
        self.receive.stop(0_u32.into()).unwrap();
    }

    /// The next frame, or `None` at the end of the stream or connection.
    pub async fn try_next(&mut self) -> Option<ClientFrame> {
        loop {
            if let Some(frame) = self.cutter.next_frame().unwrap() {
                return Some(decode_client_frame(frame).unwrap());
            }
            let chunk = guarded("a frame", self.receive.read_chunk(1 << 16, true)).await.ok()??;
            self.cutter.push(chunk.bytes);
        }
    }

    pub async fn next(&mut self) -> ClientFrame {
        self.try_next().await.expect("a frame before the stream ends")
    }

    /// The next frame, which must be a publish, and the event in it.
    pub async fn next_publish(&mut self) -> (wire::Publish, wire::Event) {
        let ClientFrame::Publish(publish) = self.next().await else { panic!("no Publish on a lane") };
        let event = prost::Message::decode(publish.event.clone()).unwrap();
        (publish, event)
    }
}

/// One connection, from the broker's side.
pub struct Conversation {
    pub connection: Connection,
    pub hello: wire::Hello,
    pub control: Incoming,
    /// What the client has told of deliveries, in between other frames.
    pub acks: Vec<wire::DeliveryAck>,
    send: SendStream,
    delivery: Option<SendStream>,
    pub last_seq: u64,
}

impl Conversation {
    pub fn source(&self) -> u64 {
        source_of(&ClientId::new(&self.hello.client_id).unwrap(), self.hello.incarnation)
    }

    pub fn welcome_frame(&self) -> wire::Welcome {
        wire::Welcome {
            protocol_version: 1,
            session_id: 5,
            source: self.source(),
            limits: Some((&Limits::default()).into()),
            software: "fake".into(),
            ..Default::default()
        }
    }

    pub async fn welcome(&mut self) {
        self.send(ServerFrame::Welcome(self.welcome_frame())).await;
    }

    /// Says welcome, with something changed.
    pub async fn welcome_with(&mut self, change: impl FnOnce(&mut wire::Welcome)) {
        let mut welcome = self.welcome_frame();
        change(&mut welcome);
        self.send(ServerFrame::Welcome(welcome)).await;
    }

    /// Says welcome to a new session that outlives its connection.
    pub async fn welcome_to(&mut self, session_id: u64) {
        self.welcome_with(|welcome| (welcome.session_id, welcome.resume_window_ms) = (session_id, 30_000)).await;
    }

    /// Says that the session which was asked for goes on, and what was taken of it: requests, and publishes on lane 0.
    pub async fn resume(&mut self, session_id: u64, last_request_id: u64, last_lane_seq: u64) {
        let lanes = self.hello.lanes.iter().map(|asked| wire::LanePosition { lane_seq: last_lane_seq, ..*asked });
        let lanes = lanes.collect();
        self.welcome_with(|welcome| {
            (welcome.session_id, welcome.resume_window_ms) = (session_id, 30_000);
            (welcome.resumed, welcome.lanes, welcome.last_request_id) = (true, lanes, last_request_id);
        })
        .await;
    }

    pub async fn send(&mut self, frame: ServerFrame) {
        let mut bytes = BytesMut::new();
        encode_server_frame(frame, &mut bytes);
        self.send_bytes(&bytes).await;
    }

    /// On the control stream. The client may be gone already.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.send.write_all(bytes).await;
    }

    /// No more will come on the control stream, which no broker may do.
    pub fn end_control(&mut self) {
        let _ = self.send.finish();
    }

    /// On the delivery stream.
    pub async fn send_delivery_bytes(&mut self, bytes: &[u8]) {
        if self.delivery.is_none() {
            self.delivery = Some(self.connection.open_uni().await.unwrap());
        }
        let _ = self.delivery.as_mut().unwrap().write_all(bytes).await;
    }

    pub async fn deliver(&mut self, event: &wire::Event) {
        self.deliver_as(event, DeliverFlags::default()).await;
    }

    pub async fn deliver_as(&mut self, event: &wire::Event, flags: DeliverFlags) {
        self.last_seq += 1;
        let mut bytes = BytesMut::new();
        encode_deliver(self.last_seq, flags, &prost::Message::encode_to_vec(event), &mut bytes);
        self.send_delivery_bytes(&bytes).await;
    }

    /// An event whose publisher waits for it.
    pub async fn deliver_awaited(&mut self, event: &wire::Event) {
        self.deliver_as(event, DeliverFlags { resent: false, await_processing: true }).await;
    }

    /// The same, again.
    pub async fn deliver_awaited_again(&mut self, event: &wire::Event) {
        self.deliver_as(event, DeliverFlags { resent: true, await_processing: true }).await;
    }

    /// Names these as sent by datagram.
    pub async fn name_datagrams(&mut self, count: u64) {
        let (from_seq, to_seq) = (self.last_seq + 1, self.last_seq + count);
        self.last_seq = to_seq;
        let mut bytes = BytesMut::new();
        encode_server_frame(ServerFrame::Datagrams(wire::Datagrams { from_seq, to_seq }), &mut bytes);
        self.send_delivery_bytes(&bytes).await;
    }

    pub fn send_datagram(&self, seq: u64, event: &wire::Event) {
        let event = prost::Message::encode_to_vec(event);
        self.connection.send_datagram(encode_deliver_datagram(seq, DeliverFlags::default(), &event)).unwrap();
    }

    pub async fn gap(&mut self, count: u64) {
        let (from_seq, to_seq) = (self.last_seq + 1, self.last_seq + count);
        self.last_seq = to_seq;
        let mut bytes = BytesMut::new();
        zonecast_protocol::codec::encode_gap(from_seq, to_seq, wire::GapReason::SlowConsumer, &mut bytes);
        self.send_delivery_bytes(&bytes).await;
    }

    pub async fn applied(&mut self, request_id: u64) {
        let epoch = 100 + request_id;
        self.send(ServerFrame::InterestApplied(wire::InterestApplied { request_id, epoch })).await;
    }

    /// The next frame of the control stream that does not tell of deliveries.
    pub async fn next_request(&mut self) -> ClientFrame {
        loop {
            match self.control.next().await {
                ClientFrame::DeliveryAck(ack) => self.acks.push(ack),
                request => return request,
            }
        }
    }

    /// What the client tells of deliveries until it satisfies.
    pub async fn acked_until(&mut self, mut satisfied: impl FnMut(&[wire::DeliveryAck]) -> bool) {
        while !satisfied(&self.acks) {
            let ClientFrame::DeliveryAck(ack) = self.control.next().await else { panic!("no DeliveryAck") };
            self.acks.push(ack);
        }
    }

    /// So many verdicts on events whose publishers wait: what was processed, and what was rejected.
    pub async fn verdicts(&mut self, count: usize) -> (Vec<u64>, Vec<u64>) {
        let processed = |acks: &[wire::DeliveryAck]| acks.iter().flat_map(|ack| ack.processed.clone()).collect();
        let rejected = |acks: &[wire::DeliveryAck]| acks.iter().flat_map(|ack| ack.rejected.clone()).collect();
        self.acked_until(|acks| {
            acks.iter().map(|ack| ack.processed.len() + ack.rejected.len()).sum::<usize>() >= count
        })
        .await;
        let verdicts = (processed(&self.acks), rejected(&self.acks));
        self.acks.clear();
        verdicts
    }

    /// The next request, which must be for zones, granted.
    pub async fn grant_zones(&mut self) -> wire::UpdateZones {
        let ClientFrame::UpdateZones(update) = self.next_request().await else { panic!("no UpdateZones") };
        self.applied(update.request_id).await;
        update
    }

    /// The next request, which must be for topics, granted.
    pub async fn grant_topics(&mut self) -> wire::UpdateTopics {
        let ClientFrame::UpdateTopics(update) = self.next_request().await else { panic!("no UpdateTopics") };
        self.applied(update.request_id).await;
        update
    }

    /// The next lane that the client opens.
    pub async fn lane(&mut self) -> Incoming {
        Incoming::new(guarded("a lane", self.connection.accept_uni()).await.unwrap())
    }

    pub async fn ack(&mut self, event: &wire::Event, matched: u32) {
        let (lane, lane_seq) = (event.lane, event.lane_seq);
        self.send(ServerFrame::PublishAck(wire::PublishAck { lane, lane_seq, matched })).await;
    }

    /// Breaks the connection, without a word about the session.
    pub fn cut(&self) {
        self.close(ErrorCode::Unspecified, "");
    }

    pub fn close(&self, code: ErrorCode, message: &str) {
        self.connection.close(VarInt::from_u32(code as u32), message.as_bytes());
    }
}

/// An event in world `earth`, as another client would have published it.
pub fn place_event(lane_seq: u64) -> wire::Event {
    let place = wire::Place { world: "earth".into(), x: 1.0, y: 2.0, radius: 3.0 };
    event(wire::event::Target::Place(place), lane_seq)
}

pub fn topic_event(topic: &str, lane_seq: u64) -> wire::Event {
    event(wire::event::Target::Topic(topic.into()), lane_seq)
}

fn event(target: wire::event::Target, lane_seq: u64) -> wire::Event {
    wire::Event {
        target: Some(target),
        source: 77,
        lane_seq,
        kind: "quake".into(),
        payload: Bytes::from(lane_seq.to_string()),
        ..Default::default()
    }
}
