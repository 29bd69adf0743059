//! An answer that is counted when it has ended.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Code, Status};

use crate::metrics::{Door, RpcMetrics};

/// One call from its arrival to the end of its answer. Dropped before that, the caller had gone: CANCELLED.
pub(crate) struct Call {
    metrics: RpcMetrics,
    method: String,
    door: Door,
    began: Instant,
    code: Code,
    /// The call's place among those that are under way.
    pub(crate) place: Option<OwnedSemaphorePermit>,
}

impl Call {
    pub(crate) fn begin(metrics: &RpcMetrics, method: String, door: Door) -> Self {
        metrics.began();
        Self { metrics: metrics.clone(), method, door, began: Instant::now(), code: Code::Cancelled, place: None }
    }

    /// Takes the code from headers or trailers, where it is in them.
    pub(crate) fn note(&mut self, headers: &HeaderMap) -> bool {
        let code = headers.get(Status::GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()));
        self.code = code.unwrap_or(self.code);
        code.is_some()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let method = std::mem::take(&mut self.method);
        self.metrics.ended(method, self.door, self.code, self.began.elapsed());
    }
}

/// The body of an answer.
pub(crate) struct Counted {
    body: tonic::body::Body,
    call: Option<Call>,
}

impl Counted {
    pub(crate) fn new(body: tonic::body::Body, call: Call) -> Self {
        Self { body, call: Some(call) }
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref()
                    && let Some(mut call) = self.call.take()
                {
                    call.note(trailers);
                }
            }
            Some(Err(status)) => {
                if let Some(mut call) = self.call.take() {
                    call.code = status.code();
                }
            }
            None => drop(self.call.take()),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
