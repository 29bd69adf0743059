//! The services' end: from requests on topics to the entrance, and back.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Version, header};
use prost::Message;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};
use tonic::{Code, Status, body::Body};
use tower_service::Service;
use zonecast_client::{Client, Event, SubscribeError, TopicItem, TopicSubscription};
use zonecast_protocol::rpc::v1::{Answer, Call};

use super::{
    TOPIC_PREFIX,
    message::{self, Unary},
};
use crate::{Door, Entrance, Origin};

/// Most requests of one service that are read and not yet answered; then reading waits.
const UNDER_WAY_MAX: usize = 2_048;

/// The open door.
pub struct BrokerDoor {
    leave: watch::Sender<bool>,
    listeners: JoinSet<()>,
}

impl BrokerDoor {
    /// Listens for calls of these services (full names), in a queue group for each.
    ///
    /// Whoever may publish on `_rpc.>` at the broker can call: that is the broker's to bound, and the gatekeeper's at the
    /// entrance.
    ///
    /// # Errors
    /// The broker refuses a subscription, or the client is closed.
    pub async fn open(client: &Client, entrance: &Entrance, services: &[&'static str]) -> Result<Self, SubscribeError> {
        let leave = watch::Sender::new(false);
        let mut listeners = JoinSet::new();
        for service in services {
            let subscription = client.queue_subscribe(&format!("{TOPIC_PREFIX}{service}.*"), service).await?;
            let listener = Listener { client: client.clone(), entrance: entrance.clone() };
            listeners.spawn(listener.listen(subscription, leave.subscribe()));
        }
        Ok(Self { leave, listeners })
    }

    /// Waits until calls of one of the services are taken no more, without anybody having closed the door: the broker has
    /// ended its subscription.
    pub async fn ended(&mut self) {
        // A listener that failed has ended too.
        let _ = self.listeners.join_next().await;
    }

    /// Listens no more, and answers what is under way, for at most `grace`.
    pub async fn close(mut self, grace: Duration) {
        self.leave.send_replace(true);
        let answered = async {
            // A listener that failed has nothing left to answer.
            while self.listeners.join_next().await.is_some() {}
        };
        if timeout(grace, answered).await.is_err() {
            tracing::warn!("calls by the broker were not answered within the grace");
        }
    }
}

#[derive(Clone)]
struct Listener {
    client: Client,
    entrance: Entrance,
}

impl Listener {
    async fn listen(self, mut requests: TopicSubscription, mut leave: watch::Receiver<bool>) {
        let mut under_way = JoinSet::new();
        loop {
            let item = tokio::select! {
                item = requests.next(), if under_way.len() < UNDER_WAY_MAX => item,
                Some(_) = under_way.join_next(), if !under_way.is_empty() => continue,
                _ = leave.changed() => break,
            };
            match item {
                Some(TopicItem::Event(event)) => drop(under_way.spawn(self.clone().serve(event))),
                // Requests that were lost run into their callers' deadlines.
                Some(_) => {}
                None => break,
            }
        }
        drop(requests);
        while under_way.join_next().await.is_some() {}
    }

    async fn serve(mut self, event: Event) {
        let arrived = Instant::now();
        let request = self.request(&event);
        // After that nobody waits for the answer any more.
        let none = HeaderMap::new();
        let deadline = arrived + self.entrance.patience(request.as_ref().map_or(&none, Request::headers));
        let answer = match request {
            Ok(mut request) => {
                request.extensions_mut().insert(Origin::Client(event.source()));
                self.answer(request).await
            }
            Err(status) => Err(status),
        };
        let mut reply = answer.unwrap_or_else(|status| message::refusal(&status)).encode_to_vec();
        let bytes_max = self.client.limits().payload_bytes_max as usize;
        if reply.len() > bytes_max {
            let status = Status::resource_exhausted("the answer is longer than an event may be; call by gRPC");
            reply = message::refusal(&status).encode_to_vec();
        }
        // Without a topic for replies nobody waits for one.
        let Some(reply_to) = event.reply_to() else { return };
        if !is_inbox_of(event.source(), reply_to) {
            tracing::debug!(reply_to, "a call wants its answer elsewhere than at its own inbox; it gets none");
            return self.entrance.metrics().answer_dropped();
        }
        // A caller that reads nothing holds up its own answers, and no others for longer than this.
        match timeout_at(deadline, self.client.reply(&event, reply)).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => tracing::debug!(%error, "an answer could not be sent"),
            Err(_) => tracing::debug!("an answer could not be sent before the call's deadline"),
        }
        self.entrance.metrics().answer_dropped();
    }

    /// The call that is in an event.
    fn request(&self, event: &Event) -> Result<Request<Body>, Status> {
        let path = event.topic().and_then(super::path).ok_or_else(|| Status::unimplemented("no such method"))?;
        if self.entrance.methods().is_streaming(&path) {
            return Err(message::streaming());
        }
        let call = Call::decode(event.payload())
            .map_err(|_| Status::invalid_argument("the payload is no zonecast.rpc.v1.Call"))?;
        request(&path, &call)
    }

    async fn answer(&mut self, request: Request<Body>) -> Result<Answer, Status> {
        let bytes_max = self.client.limits().payload_bytes_max as usize;
        let response = match self.entrance.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (parts, body) = response.into_parts();
        let Unary { message, trailers } = message::unframed(body, bytes_max).await?;
        let mut headers = parts.headers;
        headers.extend(trailers);
        let status = Status::from_header_map(&headers).ok_or_else(|| Status::internal("an answer without a status"))?;
        if status.code() != Code::Ok {
            return Ok(message::refusal(&status));
        }
        let metadata = message::metadata(&headers).collect();
        Ok(Answer {
            code: 0,
            status_message: String::new(),
            metadata,
            message: message.or_else(|| Some(Vec::new().into())),
        })
    }
}

/// Whether a topic is below the inbox of the client with this source (WIRE.md, "Request and reply"). An answer anywhere else
/// would be published in the services' name to whom it does not concern.
fn is_inbox_of(source: u64, topic: &str) -> bool {
    topic.starts_with(&format!("_inbox.{source:016x}."))
}

/// The call as it would have come by HTTP/2.
fn request(path: &str, call: &Call) -> Result<Request<Body>, Status> {
    let body = Body::new(http_body_util::Full::new(message::framed(&call.message)?));
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = path.parse().map_err(|_| Status::unimplemented("no such method"))?;
    *request.headers_mut() = message::headers(&call.metadata)?;
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    request.extensions_mut().insert(Door::Broker);
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_to_the_callers_own_inbox_and_nowhere_else() {
        let source = 0x5ac7_09bc_334f_371d;
        assert!(is_inbox_of(source, "_inbox.5ac709bc334f371d.7"));
        for elsewhere in
            ["users.created", "_inbox.5ac709bc334f371d", "_inbox.5ac709bc334f371e.7", "_inbox.5AC709BC334F371D.7", ""]
        {
            assert!(!is_inbox_of(source, elsewhere), "{elsewhere}");
        }
    }
}
