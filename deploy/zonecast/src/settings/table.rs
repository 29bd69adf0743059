//! The table of settings: the only list of them.

use super::{Setting, slot::Slot};

const fn row(key: &'static str, default: &'static str, slot: Slot, help: &'static str) -> Setting {
    Setting { key, default: Some(default), help, secret: false, slot }
}

const fn unset(key: &'static str, slot: Slot, help: &'static str) -> Setting {
    Setting { key, default: None, help, secret: false, slot }
}

/// One hour: nobody should wait longer for a peer.
const WAIT_MS_MAX: u64 = 3_600_000;

/// Every setting of the broker, those of a section together. A test holds the defaults equal to the broker's own.
pub(super) static SETTINGS: &[Setting] = &[
    row(
        "listen",
        "0.0.0.0:4433",
        Slot::Address(|draft| &mut draft.listen),
        "The UDP address to serve QUIC on. Port 0 lets the system pick one; the log says which.",
    ),
    row(
        "admin_listen",
        "127.0.0.1:9433",
        Slot::AddressOrOff(|draft| &mut draft.admin_listen),
        "The TCP address of the admin HTTP server with /live, /ready and /metrics. It has no access control: \
         keep it off public networks.",
    ),
    row("workers", "auto", Slot::Workers(|draft| &mut draft.workers), "Worker threads."),
    row(
        "worlds_labelled_max",
        "64",
        Slot::Count(0, 10_000, |draft| &mut draft.worlds_labelled_max),
        "Worlds that get a label of their own in the metrics; further ones count as 'other'.",
    ),
    row(
        "shutdown_grace_ms",
        "10_000",
        Slot::Millis(0, WAIT_MS_MAX, |draft| &mut draft.shutdown_grace),
        "Time from the first signal to the end of the process, for clients to leave and queues to drain.",
    ),
    unset(
        "tls.certificate",
        Slot::Path(|draft| &mut draft.certificate),
        "The broker's certificate chain, its own certificate first, PEM. A broker needs one.",
    ),
    unset(
        "tls.key",
        Slot::Path(|draft| &mut draft.key),
        "The private key of the certificate, PEM. A broker needs one.",
    ),
    unset(
        "tls.client_ca",
        Slot::Path(|draft| &mut draft.client_ca),
        "The authorities, PEM, of which every client must show a certificate. When not set, any client that can reach \
         the broker may connect.",
    ),
    row(
        "rights.worlds",
        "*",
        Slot::Worlds(|draft| &mut draft.rights.worlds),
        "The worlds in which clients may hold zones and publish.",
    ),
    row(
        "rights.kinds",
        "*",
        Slot::Kinds(|draft| &mut draft.rights.kinds),
        "The kinds of events that clients may publish.",
    ),
    row(
        "limits.payload_bytes_max",
        "1_048_576",
        Slot::U32(1, 64 << 20, |draft| &mut draft.limits.payload_bytes_max),
        "Longest payload of an event, in bytes. The longest frame follows from it: 65,536 bytes more.",
    ),
    row(
        "limits.zones_per_session_max",
        "10_000",
        Slot::U32(1, 1_000_000, |draft| &mut draft.limits.zones_per_session_max),
        "Most zones of one session.",
    ),
    row(
        "limits.topics_per_session_max",
        "1_000",
        Slot::U32(1, 1_000_000, |draft| &mut draft.limits.topics_per_session_max),
        "Most topic subscriptions of one session.",
    ),
    row(
        "limits.kinds_per_zone_max",
        "32",
        Slot::U32(0, 1_024, |draft| &mut draft.limits.kinds_per_zone_max),
        "Most kinds in one zone's filter.",
    ),
    row(
        "limits.radius_max",
        "1e6",
        Slot::Number(0.0, 1e15, |draft| &mut draft.limits.radius_max),
        "Greatest radius of an event, in the world's unit of length.",
    ),
    row(
        "limits.coordinate_abs_max",
        "1e12",
        Slot::Number(1.0, 1e15, |draft| &mut draft.limits.coordinate_abs_max),
        "Greatest absolute value of a coordinate, in the world's unit of length.",
    ),
    row(
        "limits.lanes_max",
        "16",
        Slot::U32(1, 256, |draft| &mut draft.limits.lanes_max),
        "Lanes (ordered sequences of publishes) of one client.",
    ),
    row(
        "outbox.deliveries_max",
        "65_536",
        Slot::Count(1, 1 << 24, |draft| &mut draft.outbox.deliveries_max),
        "Most deliveries that wait for one session.",
    ),
    row(
        "outbox.bytes_max",
        "67_108_864",
        Slot::Count(1, 1 << 36, |draft| &mut draft.outbox.bytes_max),
        "Most bytes of events that wait for one session. At least the longest payload.",
    ),
    row(
        "outbox.deliveries_soft",
        "8_192",
        Slot::Count(1, 1 << 24, |draft| &mut draft.outbox.deliveries_soft),
        "From so many waiting deliveries on, reliable publishers to the session are held back.",
    ),
    row(
        "outbox.bytes_soft",
        "8_388_608",
        Slot::Count(1, 1 << 36, |draft| &mut draft.outbox.bytes_soft),
        "From so many waiting bytes of events on, reliable publishers to the session are held back.",
    ),
    row(
        "connections.total_max",
        "10_000",
        Slot::Count(1, 1_000_000, |draft| &mut draft.connections.connections_max),
        "Most connections in all.",
    ),
    row(
        "connections.per_address_max",
        "2_000",
        Slot::Count(1, 1_000_000, |draft| &mut draft.connections.connections_per_address_max),
        "Most connections from one IP address.",
    ),
    row(
        "connections.hello_timeout_ms",
        "5_000",
        Slot::Millis(1, WAIT_MS_MAX, |draft| &mut draft.connections.hello_timeout),
        "Time in which the QUIC and TLS handshake and the hello must be done.",
    ),
    row(
        "connections.idle_timeout_ms",
        "10_000",
        Slot::Millis(1, WAIT_MS_MAX, |draft| &mut draft.connections.idle_timeout),
        "A connection without a sign of life for so long is lost.",
    ),
    row(
        "connections.slow_consumer_timeout_ms",
        "10_000",
        Slot::Millis(1, WAIT_MS_MAX, |draft| &mut draft.connections.slow_consumer_timeout),
        "A session that takes nothing from a waiting queue for so long is ended (SLOW_CONSUMER).",
    ),
    row(
        "log.format",
        "text",
        Slot::LogFormat(|draft| &mut draft.log.format),
        "The form of log lines: text for people, json for collectors, gcp for Google Cloud Logging.",
    ),
    row(
        "log.level",
        "info",
        Slot::LogFilter(|draft| &mut draft.log.filter),
        "Which log lines are written: from this level up, for all modules or by module.",
    ),
    unset(
        "log.gcp_project",
        Slot::Project(|draft| &mut draft.log.gcp_project),
        "The Google Cloud project whose traces the log lines of the gcp format belong to.",
    ),
];
