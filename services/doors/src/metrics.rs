//! Calls by method, code and door, and how long they took.

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use tonic::Code;

/// By which door a call came in. The doors put it into each request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Door {
    /// gRPC.
    Grpc,
    /// The broker's topics.
    Broker,
    /// Another service of the same process.
    Within,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    method: String,
    code: String,
    door: Door,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Way {
    method: String,
    door: Door,
}

/// The counts of all calls. Clones count together.
#[derive(Debug, Clone)]
pub struct RpcMetrics {
    calls: Family<Outcome, Counter>,
    durations: Family<Way, Histogram>,
    under_way: Gauge,
    answers_dropped: Counter,
    connections: Gauge,
    connections_refused: Counter,
    handshakes_failed: Counter,
    certificate_expiry: Gauge,
    tls_reloads: Family<Reload, Counter>,
}

/// How new certificates were taken.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reload {
    result: &'static str,
}

/// Counted among the connections until it is dropped.
pub(crate) struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for RpcMetrics {
    fn default() -> Self {
        // From 0.25 ms to 4 s.
        let durations: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_25, 2.0, 15));
        let durations = Family::new_with_constructor(durations);
        Self {
            calls: Family::default(),
            durations,
            under_way: Gauge::default(),
            answers_dropped: Counter::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            handshakes_failed: Counter::default(),
            certificate_expiry: Gauge::default(),
            tls_reloads: Family::default(),
        }
    }
}

impl RpcMetrics {
    /// Lists them for Prometheus.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Calls that were answered, by method, code and door";
        registry.register("rpcs", help, self.calls.clone());
        let help = "Time from a call's arrival to the end of its answer";
        registry.register_with_unit("rpc_duration", help, Unit::Seconds, self.durations.clone());
        registry.register("rpcs_under_way", "Calls that are not answered yet", self.under_way.clone());
        let help =
            "Answers to calls by the broker that did not go out: nobody read them in time, or they had no way back";
        registry.register("rpc_answers_dropped", help, self.answers_dropped.clone());
        registry.register("rpc_connections", "Connections by gRPC", self.connections.clone());
        let help = "Connections by gRPC that were closed at once, since there were too many";
        registry.register("rpc_connections_refused", help, self.connections_refused.clone());
        let help = "TLS handshakes by gRPC that failed, as where a certificate does not suit";
        registry.register("rpc_handshakes_failed", help, self.handshakes_failed.clone());
        // As the broker's are called.
        let help = "When the certificate for gRPC expires, in seconds since 1970; 0 when that cannot be read";
        registry.register("tls_certificate_expiry_timestamp_seconds", help, self.certificate_expiry.clone());
        let help = "Times that new certificates were to be taken";
        registry.register("tls_reloads", help, self.tls_reloads.clone());
    }

    pub(crate) fn connection_opened(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }

    pub(crate) fn connection_refused(&self) {
        self.connections_refused.inc();
    }

    pub(crate) fn handshake_failed(&self) {
        self.handshakes_failed.inc();
    }

    /// Notes until when the certificate counts that is in force, in seconds since 1970.
    pub(crate) fn certificate_expires(&self, at: Option<u64>) {
        self.certificate_expiry.set(at.and_then(|at| i64::try_from(at).ok()).unwrap_or_default());
    }

    /// Counts new certificates that were to be taken.
    pub(crate) fn tls_reloaded(&self, is_done: bool) {
        let result = if is_done { "ok" } else { "failed" };
        self.tls_reloads.get_or_create(&Reload { result }).inc();
    }

    #[cfg(test)]
    pub(crate) fn handshakes_failed(&self) -> u64 {
        self.handshakes_failed.get()
    }

    /// Those that are open, and those that were refused.
    #[cfg(test)]
    pub(crate) fn connections(&self) -> (i64, u64) {
        (self.connections.get(), self.connections_refused.get())
    }

    pub(crate) fn answer_dropped(&self) {
        self.answers_dropped.inc();
    }

    pub(crate) fn began(&self) {
        self.under_way.inc();
    }

    pub(crate) fn ended(&self, method: String, door: Door, code: Code, took: Duration) {
        self.under_way.dec();
        let way = Way { method: method.clone(), door };
        self.durations.get_or_create(&way).observe(took.as_secs_f64());
        self.calls.get_or_create(&Outcome { method, code: format!("{code:?}"), door }).inc();
    }
}
