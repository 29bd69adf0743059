//! The way to a service by either door, under one client that tonic generated.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::{
    body::Body,
    metadata::{Ascii, MetadataValue},
    transport,
};
use tower_service::Service;
use zonecast_doors::broker;

/// A way to a service.
#[derive(Clone)]
pub(crate) enum Way {
    Grpc(transport::Channel),
    Broker(broker::Channel),
}

impl Service<Request<Body>> for Way {
    type Response = Response<Body>;
    type Error = transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, transport::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), transport::Error>> {
        match self {
            Self::Grpc(channel) => channel.poll_ready(cx),
            Self::Broker(channel) => channel.poll_ready(cx).map_err(|never| match never {}),
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self {
            Self::Grpc(channel) => Box::pin(channel.call(request)),
            Self::Broker(channel) => {
                let answered = channel.call(request);
                Box::pin(async { answered.await.map_err(|never| match never {}) })
            }
        }
    }
}

/// A way, by whom it is gone, and what it is called.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) name: &'static str,
    pub(crate) way: Way,
    /// `Bearer TOKEN`.
    pub(crate) bearer: MetadataValue<Ascii>,
}

impl Door {
    /// A request with the token.
    pub(crate) fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("authorization", self.bearer.clone());
        request
    }
}
