//! How a client is set up: what the application says, and the checked form of it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use zonecast_protocol::ClientId;

use crate::{
    error::ConnectError,
    mailbox::MailboxBounds,
    tls::TlsConfig,
    token::{TokenSource, token_in_file},
};

mod transport;

pub use transport::TransportOptions;

/// What a client needs to know before it can connect.
///
/// Nothing is checked until [`Client::connect`](crate::Client::connect), which names what is wrong.
///
/// ```no_run
/// # use zonecast_client::{Client, ClientConfig, TlsConfig};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let tls = TlsConfig::from_files(Some("ca.pem".as_ref()), None)?;
/// let client = Client::connect(ClientConfig::new("zone-server-7").address("broker-1:4433").tls(tls)).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use = "pass it to Client::connect"]
pub struct ClientConfig {
    client_id: String,
    addresses: Vec<String>,
    server_name: Option<String>,
    tls: Option<TlsConfig>,
    token: TokenSource,
    incarnation: Option<u64>,
    seed: Option<u64>,
    endpoint: Option<quinn::Endpoint>,
    transport: TransportOptions,
    timing: Timing,
    queues: Queues,
    resume_window: Duration,
    coalesce: Duration,
}

#[derive(Debug, Clone)]
pub(crate) struct Timing {
    pub(crate) connect_timeout: Duration,
    pub(crate) attempt_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) publish_timeout: Option<Duration>,
    pub(crate) backoff_base: Duration,
    pub(crate) backoff_cap: Duration,
    pub(crate) resend_hold_off: Duration,
}

/// Stands for ever: 30 years. Points in time that lie farther ahead need not exist.
const DURATION_MAX: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// A time to wait, as long as can be waited.
pub(crate) fn bounded(duration: Duration) -> Duration {
    duration.min(DURATION_MAX)
}

impl Timing {
    fn bounded(self) -> Self {
        Self {
            connect_timeout: bounded(self.connect_timeout),
            attempt_timeout: bounded(self.attempt_timeout),
            close_timeout: bounded(self.close_timeout),
            publish_timeout: self.publish_timeout.map(bounded),
            backoff_base: bounded(self.backoff_base),
            backoff_cap: bounded(self.backoff_cap),
            resend_hold_off: bounded(self.resend_hold_off),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Queues {
    pub(crate) deliveries: MailboxBounds,
    pub(crate) lane_bytes_max: u32,
}

impl ClientConfig {
    /// A client of this id: 1 to 64 bytes of `[A-Za-z0-9_.-]`. A client id has one live session at a broker.
    pub fn new(client_id: impl Into<String>) -> Self {
        Self {
            client_id: client_id.into(),
            addresses: Vec::new(),
            server_name: None,
            tls: None,
            token: TokenSource::Fixed(String::new()),
            incarnation: None,
            seed: None,
            endpoint: None,
            transport: TransportOptions::default(),
            timing: Timing {
                connect_timeout: Duration::from_secs(5),
                attempt_timeout: Duration::from_secs(2),
                close_timeout: Duration::from_secs(3),
                publish_timeout: None,
                backoff_base: Duration::from_millis(50),
                backoff_cap: Duration::from_secs(5),
                resend_hold_off: Duration::from_millis(500),
            },
            queues: Queues {
                deliveries: MailboxBounds { items_max: 1024, bytes_max: 16 << 20 },
                lane_bytes_max: 4 << 20,
            },
            resume_window: Duration::from_secs(30),
            coalesce: Duration::ZERO,
        }
    }

    /// A broker, as `host:port` (an IPv6 address in brackets). Call it once for each broker; they are tried in turn. After a
    /// lost connection the same one is tried once more, for it may have kept the session, and then the others.
    ///
    /// Brokers of a list that are no cluster are **separate worlds**: clients at different ones hear nothing of each other,
    /// and nobody goes back by itself once the first is up again. Name only brokers among which it does not matter.
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// The brokers that [`address`](Self::address) has named.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Whether it shows brokers neither a token nor a certificate.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        matches!(&self.token, TokenSource::Fixed(token) if token.is_empty())
            && !self.tls.as_ref().is_some_and(TlsConfig::has_client_certificate)
    }

    /// The name that the brokers' certificates must bear. Default: the host part of the address.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Whom to trust. Must be given.
    pub fn tls(mut self, tls: TlsConfig) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The access token for brokers that ask for one; it serves until it expires. Default: none.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = TokenSource::Fixed(token.into());
        self
    }

    /// A file with the access token, which whoever renews it replaces. As [`token_from`](Self::token_from).
    pub fn token_file(self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.token_from(move || std::future::ready(token_in_file(&path)))
    }

    /// Whom to ask for the access token: at each attempt to connect, and in time before the one shown last expires, by which
    /// the session is renewed without an interruption. May wait up to 10 s.
    ///
    /// Where a broker refuses one, it is asked for another a few times before the client gives up.
    pub fn token_from<F, E>(mut self, source: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.token = TokenSource::asking(source);
        self
    }

    /// Which run of this client this is, at least 1; of two live runs the greater wins. Default: the time of
    /// [`Client::connect`](crate::Client::connect) in microseconds since 1970.
    ///
    /// Give each run another, greater number: events are recognised by it, so those of a second run under the same
    /// number would be taken for duplicates of the first one's. When the clock was set back since the run before, the
    /// default is refused as stale ([`ErrorCode::StaleIncarnation`](crate::ErrorCode::StaleIncarnation)) until the broker
    /// has let that run's session go.
    pub fn incarnation(mut self, incarnation: u64) -> Self {
        self.incarnation = Some(incarnation);
        self
    }

    /// Seed of the random waits between attempts, and of the topics on which replies are awaited, for runs that must repeat
    /// exactly. With one, others can guess those topics. Default: none; the system's random numbers.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The UDP endpoint to connect from, to be shared by many clients or simulated. Default: one of its own.
    pub fn endpoint(mut self, endpoint: quinn::Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// Settings of the QUIC connection.
    pub fn transport(mut self, transport: TransportOptions) -> Self {
        self.transport = transport;
        self
    }

    /// How long [`Client::connect`](crate::Client::connect) tries before it gives up. Default: 5 s. Later reconnects
    /// go on for as long as it takes.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.timing.connect_timeout = timeout;
        self
    }

    /// How long one attempt at one broker may take, and afterwards each step of the renewal of the subscriptions.
    /// Default: 2 s.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.timing.attempt_timeout = timeout;
        self
    }

    /// How long [`Client::close`](crate::Client::close) waits for queued publishes, their answers, and the broker.
    /// Default: 3 s.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.timing.close_timeout = timeout;
        self
    }

    /// How long a publish waits for room on its lane, for example while there is no connection. Default: as long as it
    /// takes.
    pub fn publish_timeout(mut self, timeout: Duration) -> Self {
        self.timing.publish_timeout = Some(timeout);
        self
    }

    /// The waits between rounds of attempts: uniformly random from 0 to `min(cap, base * 2^n)`, both more than 0.
    /// Default: 50 ms and 5 s.
    pub fn backoff(mut self, base: Duration, cap: Duration) -> Self {
        self.timing.backoff_base = base;
        self.timing.backoff_cap = cap;
        self
    }

    /// How long the broker is to keep the session when the connection is lost, so that it goes on where it stood on the
    /// next connection: zones and topics stay in force, and what is published in the meantime is kept for the client.
    /// The broker may grant less. Zero turns it off; up to 49 days. Default: 30 s.
    pub fn resume_window(mut self, window: Duration) -> Self {
        self.resume_window = window;
        self
    }

    /// For how long the broker may hold a delivery to this client back, so that several go out together: fewer packets and
    /// wake-ups at both ends, at the price of so much latency. Whole milliseconds, up to 100. Default: 0, each goes out at
    /// once. `loadtest/RESULTS.md` says what it saves.
    pub fn coalesce(mut self, wait: Duration) -> Self {
        self.coalesce = wait;
        self
    }

    /// How long publishes that may have been sent before wait on a new session, so that their receivers are back before
    /// them. Default: 500 ms.
    pub fn resend_hold_off(mut self, hold_off: Duration) -> Self {
        self.timing.resend_hold_off = hold_off;
        self
    }

    /// Most items that wait for each subscription's reader (it may hold as many again). Default: 1024, at least 1.
    pub fn delivery_queue_items_max(mut self, items_max: usize) -> Self {
        self.queues.deliveries.items_max = items_max.max(1);
        self
    }

    /// Most bytes of events that wait for each subscription's reader; a single event is taken whatever its size.
    /// Default: 16 MiB.
    pub fn delivery_queue_bytes_max(mut self, bytes_max: usize) -> Self {
        self.queues.deliveries.bytes_max = bytes_max;
        self
    }

    /// Most bytes of publishes that wait on each lane, to be sent or, unless they are transient, to be answered; a single
    /// one is taken whatever its size. Default: 4 MiB.
    pub fn lane_queue_bytes_max(mut self, bytes_max: u32) -> Self {
        self.queues.lane_bytes_max = bytes_max.max(1);
        self
    }

    /// Checks what can be checked without a network.
    pub(crate) fn validate(self, now_us: u64) -> Result<Settings, ConnectError> {
        let client_id = ClientId::new(&self.client_id).map_err(ConnectError::ClientId)?;
        let brokers = self.addresses.iter().map(|address| broker(address, self.server_name.as_deref()));
        let brokers = brokers.collect::<Result<Vec<_>, _>>()?;
        if brokers.is_empty() {
            return Err(ConnectError::NoAddress);
        }
        self.transport.check()?;
        if self.timing.backoff_base.is_zero() || self.timing.backoff_cap.is_zero() {
            return Err(ConnectError::BadOption {
                what: "backoff of 0 tries without a pause; give more than 0 for both",
            });
        }
        let crypto = self.tls.ok_or(ConnectError::NoTls)?.crypto().map_err(ConnectError::Tls)?;
        let mut quic = quinn::ClientConfig::new(crypto);
        quic.transport_config(Arc::new(self.transport.quinn()));
        let endpoint = match self.endpoint {
            Some(endpoint) => endpoint,
            None => self.transport.bind().map_err(ConnectError::Socket)?,
        };
        Ok(Settings {
            client_id,
            brokers,
            token: self.token,
            incarnation: self.incarnation.unwrap_or(now_us).max(1),
            seed: self.seed,
            endpoint,
            quic,
            timing: self.timing.bounded(),
            queues: self.queues,
            resume_window: self.resume_window,
            coalesce: self.coalesce,
        })
    }
}

/// One broker of the list.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) server_name: String,
}

fn broker(address: &str, server_name: Option<&str>) -> Result<Broker, ConnectError> {
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let bare = |host: &str| match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => v6.to_owned(),
        None => host.to_owned(),
    };
    match parts {
        Some((host, port)) if !host.is_empty() && (host.starts_with('[') || !host.contains(':')) => {
            let host = bare(host);
            Ok(Broker { server_name: server_name.unwrap_or(&host).to_owned(), host, port })
        }
        _ => Err(ConnectError::BadAddress { address: address.to_owned() }),
    }
}

/// A [`ClientConfig`] in which everything is there and makes sense.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) client_id: ClientId,
    pub(crate) brokers: Vec<Broker>,
    pub(crate) token: TokenSource,
    pub(crate) incarnation: u64,
    pub(crate) seed: Option<u64>,
    pub(crate) endpoint: quinn::Endpoint,
    pub(crate) quic: quinn::ClientConfig,
    pub(crate) timing: Timing,
    pub(crate) queues: Queues,
    pub(crate) resume_window: Duration,
    pub(crate) coalesce: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        let parts = |text: &str| broker(text, None).map(|broker| (broker.host, broker.port, broker.server_name));
        assert_eq!(parts("a.b:1").unwrap(), ("a.b".into(), 1, "a.b".into()));
        assert_eq!(parts("[::1]:4433").unwrap(), ("::1".into(), 4433, "::1".into()));
        for bad in ["", "a", "a:", ":1", "a:x", "a:65536", "::1", "::1:4433"] {
            assert!(matches!(parts(bad), Err(ConnectError::BadAddress { .. })), "{bad:?}");
        }
        assert_eq!(broker("a:1", Some("b")).unwrap().server_name, "b");
    }
}
