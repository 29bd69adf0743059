//! The callers' end: what takes the place of a connection under a client that tonic generated.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use prost::Message;
use tonic::{Code, Status, body::Body, metadata::MetadataMap};
use tower_service::Service;
use zonecast_client::{Client, ErrorCode, PublishError, RequestError, SubscribeError};
use zonecast_protocol::rpc::v1::{Answer, Call};

use super::{
    message::{self, Unary},
    topic,
};
use crate::entrance::granted;

/// Calls by the broker. Give it to a generated client in the place of a `tonic::transport::Channel`:
///
/// ```no_run
/// # use zonecast_client::Client;
/// use zonecast_doors::broker::Channel;
/// # fn example<UsersServiceClient>(client: Client, new: fn(Channel) -> UsersServiceClient) {
/// let users = new(Channel::new(client)); // UsersServiceClient::new
/// # }
/// ```
///
/// A call that nobody answers in time may have been carried out. When nobody listens, that is said at once: UNAVAILABLE.
#[derive(Debug, Clone)]
pub struct Channel {
    client: Client,
    patience: Duration,
}

impl Channel {
    /// Calls by this client, each for 10 s unless it says otherwise (`tonic::Request::set_timeout`).
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, patience: Duration::from_secs(10) }
    }

    async fn carry(self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let (parts, body) = request.into_parts();
        let topic = topic(parts.uri.path()).ok_or_else(|| Status::unimplemented("no such method"))?;
        let bytes_max = self.client.limits().payload_bytes_max as usize;
        let Unary { message, .. } = message::unframed(body, bytes_max).await?;
        let call = Call { metadata: message::metadata(&parts.headers).collect(), message: message.unwrap_or_default() };
        let payload = call.encode_to_vec();
        if payload.len() > bytes_max {
            return Err(Status::resource_exhausted("the call is longer than an event may be; call by gRPC"));
        }
        let patience = granted(&parts.headers).unwrap_or(self.patience);
        let answer = self.client.request(&topic, payload, patience).await.map_err(|error| status(&error))?;
        let answer = Answer::decode(answer.payload())
            .map_err(|_| Status::internal("the answer is no zonecast.rpc.v1.Answer"))?;
        let headers = message::headers(&answer.metadata)?;
        response(answer, headers)
    }
}

/// The answer as it would have come by HTTP/2.
fn response(answer: Answer, headers: HeaderMap) -> Result<Response<Body>, Status> {
    let code = i32::try_from(answer.code).map_or(Code::Unknown, Code::from_i32);
    let Some(message) = answer.message.filter(|_| code == Code::Ok) else {
        let code = if code == Code::Ok { Code::Internal } else { code };
        let mut status = Status::with_metadata(code, answer.status_message, MetadataMap::new());
        *status.metadata_mut() = MetadataMap::from_headers(headers);
        return Err(status);
    };
    let mut trailers = HeaderMap::new();
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    let body = Full::new(message::framed(&message)?).with_trailers(async { Some(Ok(trailers)) });
    let mut response = Response::new(Body::new(body.map_err(|never: Infallible| match never {})));
    *response.headers_mut() = headers;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}

/// Why no answer came, in gRPC's words.
fn status(error: &RequestError) -> Status {
    let code = match error {
        RequestError::TimedOut { .. } => Code::DeadlineExceeded,
        RequestError::Publish(PublishError::Refused(refusal) | PublishError::Invalid(refusal))
        | RequestError::Subscribe(SubscribeError::Refused(refusal)) => match refusal.code {
            ErrorCode::PermissionDenied => Code::PermissionDenied,
            ErrorCode::PayloadTooLarge => Code::ResourceExhausted,
            ErrorCode::InvalidName => Code::Unimplemented,
            _ => Code::Unavailable,
        },
        _ => Code::Unavailable,
    };
    Status::new(code, error.to_string())
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The client waits where it must.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let carried = self.clone().carry(request);
        Box::pin(async { Ok(carried.await.unwrap_or_else(Status::into_http)) })
    }
}
