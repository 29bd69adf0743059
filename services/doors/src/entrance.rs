//! What lies behind both doors: calls are counted, bounded, and have a caller, before a service sees them.

use std::{
    convert::Infallible,
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Request, Response, StatusCode};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body, service::Routes};
use tower_service::Service;

use crate::{
    caller::{Caller, Gatekeeper, origin},
    connections::link,
    counted::{Call, Counted},
    methods::Methods,
    metrics::{Door, RpcMetrics},
};

/// What tells of the services and not of what they keep: open to whoever reaches the door, as health checks must be, and the
/// keys by which tokens are verified.
const OPEN_TO_ALL: [&str; 3] = ["/grpc.health.v1.Health/", "/grpc.reflection.", PAGES];

/// Where pages are, which are read by plain HTTP.
pub(crate) const PAGES: &str = "/.well-known/";
/// How they are called in metrics, all together.
const PAGES_LABEL: &str = "pages";

/// How often callers are looked at to whom an answer lasts: by so much it may outlive their tokens.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// gRPC's header for how long the caller waits.
const TIMEOUT_HEADER: &str = "grpc-timeout";

/// Bounds of what comes in by both doors together.
#[derive(Debug, Clone, Copy)]
pub struct EntranceLimits {
    /// Most calls under way; more are answered with RESOURCE_EXHAUSTED at once. Default: 1,024.
    pub calls_max: usize,
    /// Most streams under way, and most health checks and reflections beside them; more are answered with RESOURCE_EXHAUSTED
    /// at once.
    /// Default: 1,024.
    pub streams_max: usize,
    /// Longest time until a call's answer has been read, whatever the caller grants; then DEADLINE_EXCEEDED, and a connection
    /// on which an answer was not read is closed. Of methods that stream, only until the answer begins. Default: 10 s.
    pub timeout: Duration,
}

impl Default for EntranceLimits {
    fn default() -> Self {
        Self { calls_max: 1_024, streams_max: 1_024, timeout: Duration::from_secs(10) }
    }
}

/// The services behind the doors, as one tower service. Clones are the same entrance.
#[derive(Clone)]
pub struct Entrance {
    routes: Routes,
    shared: Arc<Shared>,
}

struct Shared {
    methods: Methods,
    metrics: RpcMetrics,
    gatekeeper: Arc<dyn Gatekeeper>,
    places: Arc<Semaphore>,
    /// Of streams, which last.
    stream_places: Arc<Semaphore>,
    /// Of those that are open to all, lest whoever comes keep others from theirs.
    open_places: Arc<Semaphore>,
    limits: EntranceLimits,
    /// Cancelled when answers that last are to end.
    leaving: CancellationToken,
}

impl Entrance {
    /// An entrance to these services, with somebody who says who calls.
    #[must_use]
    pub fn new(
        routes: Routes,
        methods: Methods,
        gatekeeper: Arc<dyn Gatekeeper>,
        metrics: RpcMetrics,
        limits: EntranceLimits,
    ) -> Self {
        let places = Arc::new(Semaphore::new(limits.calls_max));
        let stream_places = Arc::new(Semaphore::new(limits.streams_max));
        let open_places = Arc::new(Semaphore::new(limits.streams_max));
        let shared = Shared {
            methods,
            metrics,
            gatekeeper,
            places,
            stream_places,
            open_places,
            limits,
            leaving: CancellationToken::new(),
        };
        Self { routes, shared: Arc::new(shared) }
    }

    /// Whether the doors may only be open to this machine.
    #[must_use]
    pub fn is_for_loopback_only(&self) -> bool {
        self.shared.gatekeeper.is_for_loopback_only()
    }

    /// Ends all answers that last, with UNAVAILABLE, and such as begin from now on: they would hold up who waits for the end of
    /// calls.
    pub(crate) fn end_streams(&self) {
        self.shared.leaving.cancel();
    }

    pub(crate) fn methods(&self) -> &Methods {
        &self.shared.methods
    }

    /// The same limits and counts, with more services beside those that are here.
    pub(crate) fn with_routes(&self, add: impl FnOnce(Routes) -> Routes) -> Self {
        Self { routes: add(self.routes.clone()), shared: Arc::clone(&self.shared) }
    }

    async fn answer(mut self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path();
        let door = request.extensions().get().copied().unwrap_or(Door::Grpc);
        let is_page = path.starts_with(PAGES);
        let label = if is_page { PAGES_LABEL.to_owned() } else { self.shared.methods.label(path) };
        let mut call = Call::begin(&self.shared.metrics, label, door);
        let is_open_to_all = OPEN_TO_ALL.iter().any(|open| path.starts_with(open));
        // Pages come from memory and are short. Whoever holds all streams must not keep keys and revocations from brokers.
        let lasts = !is_page && (is_open_to_all || self.shared.methods.is_streaming(path));
        let cut = link(request.extensions()).map(|link| link.cut.clone());
        if lasts {
            let places = if is_open_to_all { &self.shared.open_places } else { &self.shared.stream_places };
            match Arc::clone(places).try_acquire_owned() {
                Ok(place) => call.stream_place = Some(place),
                Err(_) => {
                    let refused = Status::resource_exhausted("too many streams at once; try again").into_http();
                    call.note(refused.headers());
                    return refused;
                }
            }
        }
        let deadline = Instant::now() + self.patience(request.headers());
        let mut caller = None;
        let response = match self.let_in(request, &mut call, is_open_to_all) {
            Err(status) => status.into_http(),
            Ok(request) => {
                caller = request.extensions().get::<Caller>().cloned();
                match timeout_at(deadline, self.routes.call(request)).await {
                    Ok(Ok(response)) => response,
                    Ok(Err(never)) => match never {},
                    Err(_) => Status::deadline_exceeded("it took too long; a change may have been made").into_http(),
                }
            }
        };
        // A stream lasts; the place is for work.
        if lasts {
            call.place = None;
        }
        if is_page {
            let response = page(response);
            call.note_page(response.status());
            return response.map(|body| Body::new(Counted::new(body, call, unread_at(deadline), cut)));
        }
        if call.note(response.headers()) {
            return response;
        }
        let shared = self.shared;
        let early_end = async move {
            if !lasts {
                return unread_at(deadline).await;
            }
            tokio::select! {
                status = shared.admits_no_more(caller) => status,
                () = shared.leaving.cancelled() => Status::unavailable("the services take leave; call again"),
            }
        };
        response.map(|body| Body::new(Counted::new(body, call, early_end, cut)))
    }

    /// How long a call with these headers may last, its answer's way to the caller counted in.
    pub(crate) fn patience(&self, headers: &HeaderMap) -> Duration {
        let longest = self.shared.limits.timeout;
        granted(headers).map_or(longest, |granted| granted.min(longest))
    }

    /// The counts of its calls.
    #[must_use]
    pub fn metrics(&self) -> &RpcMetrics {
        &self.shared.metrics
    }

    /// The request with its caller, if there is room for it.
    fn let_in(&self, request: Request<Body>, call: &mut Call, is_open_to_all: bool) -> Result<Request<Body>, Status> {
        if is_open_to_all {
            return Ok(request);
        }
        let place = Arc::clone(&self.shared.places).try_acquire_owned();
        call.place = Some(place.map_err(|_| Status::resource_exhausted("too many calls at once; try again"))?);
        let (mut parts, body) = request.into_parts();
        let caller = self.shared.gatekeeper.admit(&parts)?;
        let certificate = link(&parts.extensions).and_then(|link| link.certificate.clone());
        parts.extensions.insert(caller.from_origin(origin(&parts)).with_certificate(certificate));
        Ok(Request::from_parts(parts, body))
    }
}

impl Shared {
    /// Waits until a caller would not be let in any more; whoever needs not be let in is never sent away.
    async fn admits_no_more(&self, caller: Option<Caller>) -> Status {
        let Some(caller) = caller else { return pending().await };
        loop {
            sleep(LOOK_EVERY).await;
            if let Err(status) = self.gatekeeper.still_admits(&caller) {
                return status;
            }
        }
    }
}

/// What an answer ends with that is not read by then.
async fn unread_at(deadline: Instant) -> Status {
    sleep_until(deadline).await;
    Status::deadline_exceeded("the answer was not read in time; a change may have been made")
}

/// A page as HTTP has it: gRPC answers with success to whatever there is not or what fails, and says so in a header.
fn page(response: Response<Body>) -> Response<Body> {
    let Some(code) = response.headers().get(Status::GRPC_STATUS) else { return response };
    let mut none = Response::new(Body::empty());
    *none.status_mut() = match Code::from_bytes(code.as_bytes()) {
        Code::Unimplemented => StatusCode::NOT_FOUND,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    none
}

/// How long the caller waits, by gRPC's header: up to eight digits and a unit.
pub(crate) fn granted(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT_HEADER)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3_600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

impl Service<Request<Body>> for Entrance {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Routes are always ready, and what is too much is answered.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.clone().answer(request);
        Box::pin(async { Ok(answer.await) })
    }
}

#[cfg(test)]
mod tests {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    use super::*;
    use crate::LoopbackOnly;

    #[tokio::test]
    async fn streams_beyond_the_limit_are_refused_and_a_place_is_given_back() {
        let methods = Methods::of(&[], &[]).unwrap();
        let limits = EntranceLimits { streams_max: 1, ..EntranceLimits::default() };
        let entrance = Entrance::new(Routes::default(), methods, Arc::new(LoopbackOnly), RpcMetrics::default(), limits);
        let ask = async |path: &str| {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            entrance.clone().call(request).await.unwrap()
        };
        // Health is nothing that these routes have, but a stream all the same for as long as its answer is not read.
        let refused = |response: &Response<Body>| {
            Status::from_header_map(response.headers()).is_some_and(|status| status.code() == Code::ResourceExhausted)
        };
        assert!(!refused(&ask("/grpc.health.v1.Health/Watch").await));
        let held = Arc::clone(&entrance.shared.open_places).try_acquire_owned().unwrap();
        assert!(refused(&ask("/grpc.health.v1.Health/Watch").await));
        // Pages are given all the same, where there are any.
        assert_eq!(ask("/.well-known/jwks.json").await.status(), StatusCode::NOT_FOUND);
        drop(held);
        assert!(!refused(&ask("/grpc.health.v1.Health/Watch").await));
    }

    #[tokio::test]
    async fn streams_end_when_leave_is_taken_and_calls_do_not() {
        let (_reporter, health) = tonic_health::server::health_reporter();
        let (methods, limits) = (Methods::of(&[], &[]).unwrap(), EntranceLimits::default());
        let routes = Routes::default().add_service(health);
        let entrance = Entrance::new(routes, methods, Arc::new(LoopbackOnly), RpcMetrics::default(), limits);
        let mut client = HealthClient::new(entrance.clone());
        let mut stream = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert!(stream.message().await.unwrap().is_some(), "how it is now");
        entrance.end_streams();
        assert_eq!(stream.message().await.unwrap_err().code(), Code::Unavailable);
        client.check(HealthCheckRequest::default()).await.unwrap();
    }

    #[test]
    fn the_callers_patience_is_read_as_grpc_writes_it() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT_HEADER, text.parse().unwrap());
            granted(&headers)
        };
        assert_eq!(of("250m"), Some(Duration::from_millis(250)));
        assert_eq!(of("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for bad in ["", "m", "1", "1x", "-1S", "123456789S", "1 S"] {
            assert_eq!(of(bad), None, "{bad:?}");
        }
        assert_eq!(granted(&HeaderMap::new()), None);
    }
}
