//! What browsers need: grpc-web beside gRPC, and pages for whoever has no more than HTTP.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::body::Body;
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower_layer::Layer;
use tower_service::Service;

use crate::{Entrance, entrance::PAGES};

/// Before the entrance of door one: what browsers send is translated, and pages pass by the translation, which refuses
/// whatever else comes by HTTP/1.1.
#[derive(Clone)]
pub(crate) struct Web {
    pages: Entrance,
    translated: GrpcWebService<Entrance>,
}

impl Web {
    pub(crate) fn new(entrance: Entrance) -> Self {
        Self { translated: GrpcWebLayer::new().layer(entrance.clone()), pages: entrance }
    }
}

impl Service<Request<Body>> for Web {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // As the entrance always is.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path().starts_with(PAGES) {
            self.pages.call(request)
        } else {
            Box::pin(self.translated.call(request))
        }
    }
}
