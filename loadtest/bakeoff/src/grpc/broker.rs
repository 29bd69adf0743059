//! The broker: a bounded queue for each stream; who publishes waits for room in those that his event goes to.

use std::{
    fs, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    net::TcpListener,
    sync::mpsc::{Receiver, Sender, channel, error::TrySendError},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Error, Identity, Server, ServerTlsConfig, server::TcpIncoming},
};
use zonecast_core::SessionId;
use zonecast_protocol::{Circle, Zone};

use super::{
    CONNECTION_WINDOW_BYTES, QUEUE_MESSAGES_MAX, STREAM_WINDOW_BYTES,
    wire::{
        Event, JoinRequest, JoinResponse, Rectangle, Routed, Subscribed,
        fanout_service_server::{FanoutService, FanoutServiceServer},
        join_request, join_response,
    },
};
use crate::{hub::Hub, tls::Certificates};

type Answer = Result<JoinResponse, Status>;
type Outbox = Sender<Answer>;

/// The certificate as tonic wants it.
///
/// # Errors
/// The files cannot be read.
pub fn server_tls(certificates: &Certificates) -> io::Result<ServerTlsConfig> {
    let identity = Identity::from_pem(fs::read(&certificates.certificate)?, fs::read(&certificates.key)?);
    Ok(ServerTlsConfig::new().identity(identity))
}

/// Serves until the future is dropped.
///
/// # Errors
/// The certificate is not usable, or the listener failed.
pub async fn serve(listener: TcpListener, tls: ServerTlsConfig) -> Result<(), Error> {
    Server::builder()
        .tls_config(tls)?
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .add_service(FanoutServiceServer::new(Broker::default()))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await
}

#[derive(Debug, Clone, Default)]
struct Broker {
    hub: Arc<Mutex<Hub<Outbox>>>,
}

#[tonic::async_trait]
impl FanoutService for Broker {
    type JoinStream = ReceiverStream<Answer>;

    async fn join(&self, request: Request<Streaming<JoinRequest>>) -> Result<Response<Self::JoinStream>, Status> {
        let (outbox, answers): (Outbox, Receiver<Answer>) = channel(QUEUE_MESSAGES_MAX);
        let broker = self.clone();
        tokio::spawn(async move {
            let session = broker.hub().join(outbox.clone());
            let result = broker.read_all(request.into_inner(), session, &outbox).await;
            broker.hub().leave(session);
            if let Err(status) = result {
                // Nobody is there to be told where this fails.
                drop(outbox.send(Err(status)).await);
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

impl Broker {
    fn hub(&self) -> MutexGuard<'_, Hub<Outbox>> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read_all(
        &self,
        mut requests: Streaming<JoinRequest>,
        session: SessionId,
        own: &Outbox,
    ) -> Result<(), Status> {
        let mut matched = Vec::new();
        let mut full = Vec::new();
        loop {
            // One acknowledgement for all that could be read without waiting.
            let request = tokio::select! {
                biased;
                request = requests.message() => request?,
                () = std::future::ready(()), if !matched.is_empty() => {
                    let routed = Routed { matched: std::mem::take(&mut matched) };
                    tell(own, join_response::Frame::Routed(routed)).await?;
                    continue;
                }
            };
            let Some(request) = request else { return Ok(()) };
            match request.frame {
                Some(join_request::Frame::Event(event)) => {
                    matched.push(self.route(event, &mut full)?);
                    for (outbox, answer) in full.drain(..) {
                        // An error: the session has ended meanwhile.
                        let _: Result<(), _> = Outbox::send(&outbox, answer).await;
                    }
                }
                Some(join_request::Frame::Subscribe(subscribe)) => {
                    let zones: Vec<Zone> = subscribe.zones.iter().map(zone).collect::<Result<_, _>>()?;
                    self.hub().subscribe(session, zones);
                    tell(own, join_response::Frame::Subscribed(Subscribed {})).await?;
                }
                None => return Err(Status::invalid_argument("a frame that says nothing")),
            }
        }
    }

    /// Puts the event into the queues of all whom it reaches, and into `full` what found no room. Gives back how many
    /// it reaches.
    fn route(&self, event: Event, full: &mut Vec<(Outbox, Answer)>) -> Result<u32, Status> {
        let circle = Circle::new(event.x, event.y, event.radius).map_err(refused)?;
        let answer = JoinResponse { frame: Some(join_response::Frame::Event(event)) };
        Ok(self.hub().route(circle, |outbox| {
            if let Err(TrySendError::Full(answer)) = outbox.try_send(Ok(answer.clone())) {
                full.push((outbox.clone(), answer));
            }
        }))
    }
}

async fn tell(own: &Outbox, frame: join_response::Frame) -> Result<(), Status> {
    let sent = own.send(Ok(JoinResponse { frame: Some(frame) })).await;
    sent.map_err(|_| Status::cancelled("the session has ended"))
}

fn zone(rectangle: &Rectangle) -> Result<Zone, Status> {
    Zone::new(rectangle.min_x, rectangle.min_y, rectangle.max_x, rectangle.max_y).map_err(refused)
}

fn refused(error: zonecast_protocol::GeometryError) -> Status {
    Status::invalid_argument(error.to_string())
}
