//! An answer that is counted when it has ended.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    task::AbortHandle,
    time::sleep,
};
use tonic::{Code, Status};

use crate::{
    connections::Cut,
    metrics::{Door, RpcMetrics},
};

/// How long a connection lives on after the deadline of an answer that was not read on it.
const LAST_WORD: Duration = Duration::from_secs(1);

/// One call from its arrival to the end of its answer. Dropped before that, the caller had gone: CANCELLED.
pub(crate) struct Call {
    metrics: RpcMetrics,
    method: String,
    door: Door,
    began: Instant,
    code: Code,
    /// The call's place among those that are under way.
    pub(crate) place: Option<OwnedSemaphorePermit>,
    /// And among the streams, where it is one.
    pub(crate) stream_place: Option<OwnedSemaphorePermit>,
}

impl Call {
    pub(crate) fn begin(metrics: &RpcMetrics, method: String, door: Door) -> Self {
        metrics.began();
        let (metrics, began) = (metrics.clone(), Instant::now());
        Self { metrics, method, door, began, code: Code::Cancelled, place: None, stream_place: None }
    }

    /// The same for a page, which has no code but HTTP's.
    pub(crate) fn note_page(&mut self, status: StatusCode) {
        self.code = match status {
            StatusCode::NOT_FOUND => Code::NotFound,
            status if status.is_success() => Code::Ok,
            _ => Code::Unknown,
        };
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

/// A call whose answer is on its way; whoever sees its end first takes it.
type OnItsWay = Arc<Mutex<Option<Call>>>;

fn taken(call: &OnItsWay) -> Option<Call> {
    call.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// The body of an answer.
pub(crate) struct Counted {
    body: tonic::body::Body,
    call: OnItsWay,
    early_end: Option<EarlyEnd>,
}

/// What ends an answer before its own end. A task of its own sees to it: a body is not even asked for more while the caller
/// reads nothing.
struct EarlyEnd {
    come: oneshot::Receiver<Status>,
    watch: AbortHandle,
}

impl Drop for EarlyEnd {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Counted {
    /// A body that ends when `early_end` does, with its status, unless it has ended before.
    ///
    /// The connection is cut behind it: what was written of an answer and is not read stays in memory until then.
    pub(crate) fn new(
        body: tonic::body::Body,
        call: Call,
        early_end: impl Future<Output = Status> + Send + 'static,
        cut: Option<Cut>,
    ) -> Self {
        let call = Arc::new(Mutex::new(Some(call)));
        let (comes, come) = oneshot::channel();
        let watched = Arc::clone(&call);
        let watch = tokio::spawn(async move {
            let status = early_end.await;
            if let Some(mut call) = taken(&watched) {
                call.code = status.code();
                // Nobody may be left to be told.
                let _ = comes.send(status);
                if let Some(cut) = cut {
                    // Time for the last word to whoever was only slow to ask for it.
                    sleep(LAST_WORD).await;
                    cut.cut();
                }
            }
        });
        Self { body, call, early_end: Some(EarlyEnd { come, watch: watch.abort_handle() }) }
    }

    /// The last frame of a body that ends early.
    fn poll_early_end(&mut self, cx: &mut Context<'_>) -> Poll<Frame<Bytes>> {
        let Some(early_end) = &mut self.early_end else { return Poll::Pending };
        match Pin::new(&mut early_end.come).poll(cx) {
            Poll::Ready(Ok(status)) => {
                self.early_end = None;
                self.body = tonic::body::Body::empty();
                let mut trailers = HeaderMap::new();
                // Without the trailers the caller sees a body that ends too early.
                let _ = status.add_header(&mut trailers);
                Poll::Ready(Frame::trailers(trailers))
            }
            Poll::Ready(Err(_)) => {
                self.early_end = None;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        drop(taken(&self.call));
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(last) = self.poll_early_end(cx) {
            return Poll::Ready(Some(Ok(last)));
        }
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else { return Poll::Pending };
        let code = match &frame {
            Some(Ok(frame)) => frame.trailers_ref().map(|trailers| (Some(trailers), None)),
            Some(Err(status)) => Some((None, Some(status.code()))),
            None => Some((None, None)),
        };
        if let Some((trailers, code)) = code
            && let Some(mut call) = taken(&self.call)
        {
            call.code = code.unwrap_or(call.code);
            if let Some(trailers) = trailers {
                call.note(trailers);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.early_end.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::sync::Semaphore;

    use super::*;

    /// A body that never has anything more.
    struct Silent;

    impl Body for Silent {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Pending
        }
    }

    /// After 20 ms.
    async fn too_late() -> Status {
        sleep(Duration::from_millis(20)).await;
        Status::deadline_exceeded("too late")
    }

    #[tokio::test]
    async fn an_answer_that_nobody_reads_gives_its_place_back_at_the_deadline() {
        let places = Arc::new(Semaphore::new(1));
        let mut call = Call::begin(&RpcMetrics::default(), "Get".to_owned(), Door::Grpc);
        call.place = Some(Arc::clone(&places).try_acquire_owned().unwrap());
        let body = tonic::body::Body::new(Silent);
        let mut counted = Counted::new(body, call, too_late(), None);
        assert_eq!(places.available_permits(), 0);
        // Nobody asks the body for anything.
        let _place = tokio::time::timeout(Duration::from_secs(60), places.acquire()).await.unwrap().unwrap();
        let last = poll_fn(|cx| Pin::new(&mut counted).poll_frame(cx)).await.unwrap().unwrap();
        let code = last.trailers_ref().and_then(|trailers| trailers.get(Status::GRPC_STATUS)).unwrap();
        assert_eq!(Code::from_bytes(code.as_bytes()), Code::DeadlineExceeded);
        assert!(poll_fn(|cx| Pin::new(&mut counted).poll_frame(cx)).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_costs_its_connection_and_one_that_is_read_late_does_not() {
        let answer = |cut: &Cut| {
            let call = Call::begin(&RpcMetrics::default(), "Get".to_owned(), Door::Grpc);
            Counted::new(tonic::body::Body::new(Silent), call, too_late(), Some(cut.clone()))
        };
        let (unread, late) = (Cut::new(), Cut::new());
        let (_unread_answer, mut late_answer) = (answer(&unread), answer(&late));
        poll_fn(|cx| Pin::new(&mut late_answer).poll_frame(cx)).await.unwrap().unwrap();
        unread.done().await;
        assert!(tokio::time::timeout(LAST_WORD * 2, late.done()).await.is_err());
    }
}
