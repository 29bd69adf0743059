//! The clients: a connection and a stream for whoever publishes and for every session.

use std::{
    fs,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{
    sync::mpsc::{Sender, channel},
    task::{JoinHandle, spawn_local},
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{
    Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use zonecast_loadtest::load::{
    Copies, LoadSettings, NoMover, Outgoing, Publisher, Sink, Subscriber, Transport, TransportError,
};
use zonecast_protocol::Zone;

use super::{
    CONNECTION_WINDOW_BYTES, QUEUE_MESSAGES_MAX, STREAM_WINDOW_BYTES,
    wire::{
        Event, JoinRequest, JoinResponse, Rectangle, Subscribe, fanout_service_client::FanoutServiceClient,
        join_request, join_response,
    },
};
use crate::{completions::Completions, target::PeerTarget, tls};

/// Handed over in one go at most, so that other tasks of the process get their turn.
const BATCH_MAX: usize = 1024;

/// The own gRPC broker, seen from a client.
pub struct Grpc {
    endpoint: Endpoint,
}

impl Grpc {
    async fn connect(&self) -> Result<(Sender<JoinRequest>, Streaming<JoinResponse>), TransportError> {
        let channel_ = self.endpoint.connect().await.map_err(|error| TransportError::new("cannot connect", error))?;
        let (requests, outgoing) = channel(QUEUE_MESSAGES_MAX);
        let mut client: FanoutServiceClient<Channel> = FanoutServiceClient::new(channel_);
        let answers = client.join(ReceiverStream::new(outgoing)).await;
        let answers = answers.map_err(|status| TransportError::new("cannot connect", status))?;
        Ok((requests, answers.into_inner()))
    }
}

impl Transport for Grpc {
    type Target = PeerTarget;
    type Publisher = GrpcPublisher;
    type Subscriber = GrpcSubscriber;
    const COPIES: Copies = Copies::PerSession;

    fn open(target: &PeerTarget, _settings: &LoadSettings) -> Result<Self, TransportError> {
        tls::install_provider();
        let no_tls = |error: Box<dyn std::error::Error + Send + Sync>| TransportError::new("no TLS", error);
        let ca = target.ca.as_ref().ok_or_else(|| no_tls("no authority is given".into()))?;
        let ca = Certificate::from_pem(fs::read(ca).map_err(|error| no_tls(error.into()))?);
        let config = ClientTlsConfig::new().ca_certificate(ca).domain_name(tls::SERVER_NAME);
        let endpoint = Endpoint::from_shared(format!("https://{}", target.address))
            .and_then(|endpoint| endpoint.tls_config(config))
            .map_err(|error| no_tls(error.into()))?
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        Ok(Self { endpoint })
    }

    async fn publisher(&self, _index: u32) -> Result<GrpcPublisher, TransportError> {
        let (requests, answers) = self.connect().await?;
        let completions = Completions::default();
        let reading = spawn_local(read_acks(answers, completions.clone()));
        Ok(GrpcPublisher { requests, completions, reading })
    }

    async fn subscriber(&self, session: u32, zones: &[(u32, Zone)]) -> Result<GrpcSubscriber, TransportError> {
        let (requests, mut answers) = self.connect().await?;
        let zones = zones.iter().map(|(_, zone)| {
            let ([min_x, min_y], [max_x, max_y]) = (zone.min(), zone.max());
            Rectangle { min_x, min_y, max_x, max_y }
        });
        let subscribe = join_request::Frame::Subscribe(Subscribe { zones: zones.collect() });
        say(&requests, subscribe).await?;
        match answers.message().await.map_err(lost)?.and_then(|answer| answer.frame) {
            Some(join_response::Frame::Subscribed(_)) => Ok(GrpcSubscriber { requests, answers, session }),
            other => Err(TransportError::new("cannot subscribe", format!("the broker answered with {other:?}"))),
        }
    }
}

/// Publishes, with an acknowledgement for each event.
#[derive(Debug)]
pub struct GrpcPublisher {
    requests: Sender<JoinRequest>,
    completions: Completions,
    reading: JoinHandle<()>,
}

impl Publisher for GrpcPublisher {
    async fn publish(&mut self, event: Outgoing<'_>) -> Result<(), TransportError> {
        let (circle, payload) = (event.circle, Bytes::copy_from_slice(event.payload));
        let event = Event { x: circle.x(), y: circle.y(), radius: circle.radius(), payload };
        say(&self.requests, join_request::Frame::Event(event)).await
    }

    async fn flush(&mut self) -> Result<(), TransportError> {
        Ok(())
    }

    async fn completed(&mut self, done: &mut Vec<Option<u32>>) -> Result<(), TransportError> {
        self.completions.take(done).await
    }

    fn try_completed(&mut self, done: &mut Vec<Option<u32>>) -> Result<(), TransportError> {
        self.completions.try_take(done).map(drop)
    }

    async fn close(self) {
        self.reading.abort();
    }
}

/// Receives the events of one session.
#[derive(Debug)]
pub struct GrpcSubscriber {
    /// Held because the stream ends with it.
    requests: Sender<JoinRequest>,
    answers: Streaming<JoinResponse>,
    session: u32,
}

impl GrpcSubscriber {
    fn poll_batch<S: Sink>(&mut self, context: &mut Context<'_>, sink: &mut S) -> Poll<Result<(), TransportError>> {
        for count in 0..BATCH_MAX {
            let event = match Pin::new(&mut self.answers).poll_next(context) {
                Poll::Ready(Some(Ok(JoinResponse { frame: Some(join_response::Frame::Event(event)) }))) => event,
                Poll::Ready(Some(Err(status))) => return Poll::Ready(Err(lost(status))),
                Poll::Ready(Some(Ok(other))) => {
                    let found = format!("{other:?}");
                    return Poll::Ready(Err(TransportError::new("the broker does not keep to the protocol", found)));
                }
                Poll::Ready(None) => {
                    return Poll::Ready(Err(TransportError::new("the stream has ended", "by the broker")));
                }
                Poll::Pending if count == 0 => return Poll::Pending,
                Poll::Pending => break,
            };
            if count == 0 {
                sink.batch();
            }
            sink.payload(self.session, &event.payload);
        }
        Poll::Ready(Ok(()))
    }
}

impl Subscriber for GrpcSubscriber {
    type Mover = NoMover;

    async fn receive<S: Sink>(&mut self, sink: &mut S) -> Result<(), TransportError> {
        poll_fn(|context| self.poll_batch(context, sink)).await
    }

    fn mover(&self) -> Option<NoMover> {
        None
    }

    async fn close(self) {
        drop(self.requests);
    }
}

async fn read_acks(mut answers: Streaming<JoinResponse>, completions: Completions) {
    loop {
        match answers.message().await {
            Ok(Some(JoinResponse { frame: Some(join_response::Frame::Routed(routed)) })) => {
                completions.complete(routed.matched.into_iter().map(Some));
            }
            Ok(other) => return completions.fail(format!("the broker sent a publisher {other:?}")),
            Err(status) => return completions.fail(status),
        }
    }
}

async fn say(requests: &Sender<JoinRequest>, frame: join_request::Frame) -> Result<(), TransportError> {
    let sent = requests.send(JoinRequest { frame: Some(frame) }).await;
    sent.map_err(|_| TransportError::new("cannot publish", "the stream has ended"))
}

fn lost(status: tonic::Status) -> TransportError {
    TransportError::new("the connection is lost", status)
}
