//! Calls from one service to another, wherever that one is.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use http::{Request, Response};
use tokio::sync::watch;
use tonic::{Status, body::Body};
use tower_service::Service;
use zonecast_client::Client;

use crate::{Entrance, broker::Channel, metrics::Door};

/// What takes the place of a connection under a client that tonic generated: calls go to a service in this process where it
/// is one of them, else by the broker. The caller's token goes along where the request carries it.
#[derive(Clone)]
pub struct Peers {
    within: Arc<OnceLock<Entrance>>,
    broker: watch::Receiver<Option<Client>>,
}

impl Peers {
    /// Calls by the broker, as soon as it is reached.
    #[must_use]
    pub fn new(broker: watch::Receiver<Option<Client>>) -> Self {
        Self { within: Arc::default(), broker }
    }

    /// From now on calls to what lies behind this entrance stay within the process. The first one counts.
    pub fn set_within(&self, entrance: Entrance) {
        let _ = self.within.set(entrance);
    }

    async fn carry(self, mut request: Request<Body>) -> Result<Response<Body>, Status> {
        if let Some(entrance) = self.within.get()
            && entrance.methods().contains(request.uri().path())
        {
            request.extensions_mut().insert(Door::Within);
            let answered = entrance.clone().call(request).await;
            return answered.map_err(|never| match never {});
        }
        let client = self.broker.borrow().clone();
        let client =
            client.ok_or_else(|| Status::unavailable("the broker, by which this service is reached, is away"))?;
        let answered = Channel::new(client).call(request).await;
        answered.map_err(|never| match never {})
    }
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Peers")
    }
}

impl Service<Request<Body>> for Peers {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let carried = self.clone().carry(request);
        Box::pin(async { Ok(carried.await.unwrap_or_else(Status::into_http)) })
    }
}
