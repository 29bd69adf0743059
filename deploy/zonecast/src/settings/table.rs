//! The table of settings: the only list of them.

mod services;

use super::{Setting, slot::Slot};

const fn row(key: &'static str, default: &'static str, slot: Slot, help: &'static str) -> Setting {
    Setting { key, default: Some(default), help, secret: false, slot }
}

const fn unset(key: &'static str, slot: Slot, help: &'static str) -> Setting {
    Setting { key, default: None, help, secret: false, slot }
}

/// One hour: nobody should wait longer for a peer.
const WAIT_MS_MAX: u64 = 3_600_000;

/// Every setting, those of a section together.
pub(super) fn all() -> impl Iterator<Item = &'static Setting> + Clone {
    BROKER.iter().chain(services::SETTINGS)
}

/// The settings of the broker, and those of logs, which the services share. A test holds the defaults equal to the
/// broker's own.
static BROKER: &[Setting] = &[
    row(
        "listen",
        "127.0.0.1:4433",
        Slot::Address(|draft| &mut draft.listen),
        "The UDP address to serve QUIC on, such as 0.0.0.0:4433 for all of this machine. Port 0 lets the system pick one; the \
         log says which. An address that is not on loopback wants tokens.authority, tokens.keys_file, tls.client_ca or \
         open_to_all.",
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
        "open_to_all",
        "false",
        Slot::Switch(|draft| &mut draft.tokens.open_to_all),
        "Whether a broker that looks at neither tokens nor client certificates may serve other machines. Whoever reaches it \
         may then do everything: it is refused unless this says so.",
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
        "tls.client_identity",
        "san",
        Slot::ClientIdentity(|draft| &mut draft.client_identity),
        "Whom a client's certificate admits: san, the client ids that its subject alternative names name, or any. \
         It has no effect without tls.client_ca.",
    ),
    row(
        "tls.reload_interval_ms",
        "5_000",
        Slot::Millis(0, WAIT_MS_MAX, |draft| &mut draft.reload_interval),
        "How often the files of tls.certificate, tls.key and tls.client_ca are looked at, and of services.certificate, \
         services.key and services.client_ca. When they have changed, new connections are met with what is in them, and \
         those that are there stay. 0 leaves it to SIGHUP.",
    ),
    unset(
        "tls.reset_secret",
        Slot::Path(|draft| &mut draft.reset_secret),
        "A file with at least 32 random bytes, which stays the same when tls.key changes. By it clients notice at once \
         that a broker was killed and started again. When not set, tls.key serves for that, as long as it is the same.",
    ),
    unset(
        "tokens.authority",
        Slot::Word(|draft| &mut draft.tokens.authority),
        "Who gives out the tokens that clients must show: the auth service's URL, such as https://auth:9443, from which keys \
         and revocations are fetched. While it gave none yet, nobody is admitted.",
    ),
    unset(
        "tokens.ca",
        Slot::Path(|draft| &mut draft.tokens.ca),
        "The authorities, PEM, that may have signed the certificate of tokens.authority. When not set, those that the \
         system trusts.",
    ),
    unset(
        "tokens.keys_file",
        Slot::Path(|draft| &mut draft.tokens.keys_file),
        "In place of tokens.authority: a file with the keys, a JWKS, looked at as often as tls.reload_interval_ms says. \
         Without an authority no token is revoked before it expires.",
    ),
    unset(
        "tokens.issuer",
        Slot::Word(|draft| &mut draft.tokens.issuer),
        "The issuer that tokens must name. When not set, tokens.authority; with tokens.keys_file it must be set.",
    ),
    row(
        "tokens.audience",
        "zonecast",
        Slot::Word(|draft| &mut draft.tokens.audience),
        "The audience that tokens must name.",
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
        Slot::Kinds(|draft| &mut draft.rights.publish.kinds),
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
        "limits.zone_area_max",
        "4e24",
        Slot::Number(1e-6, 4e30, |draft| &mut draft.limits.zone_area_max),
        "Greatest area of a zone, in the square of the world's unit of length. The default is all that the coordinates \
         permit.",
    ),
    row(
        "limits.lanes_max",
        "16",
        Slot::U32(1, 256, |draft| &mut draft.limits.lanes_max),
        "Lanes (ordered sequences of publishes) of one client.",
    ),
    row(
        "limits.fan_out_max",
        "10_000",
        Slot::Count(1, 1_000_000, |draft| &mut draft.publishes.fan_out_max),
        "Most sessions that one event may reach; the publisher of one that would reach more is told FAN_OUT_TOO_LARGE.",
    ),
    row(
        "limits.publishes_per_second_max",
        "250_000",
        Slot::U32(0, 100_000_000, |draft| &mut draft.publishes.per_second_max),
        "Publishes of one client that are read per second, over all its lanes; whoever sends more waits. 0 is no limit.",
    ),
    row(
        "limits.publishes_burst_max",
        "50_000",
        Slot::U32(1, 100_000_000, |draft| &mut draft.publishes.burst_max),
        "Publishes that a client which has been silent may send at once, before the rate per second counts.",
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
        "4_096",
        Slot::Count(1, 1 << 24, |draft| &mut draft.outbox.deliveries_soft),
        "From so many waiting deliveries on, reliable publishers to the session wait, until half of them are left.",
    ),
    row(
        "outbox.bytes_soft",
        "8_388_608",
        Slot::Count(1, 1 << 36, |draft| &mut draft.outbox.bytes_soft),
        "From so many waiting bytes of events on, reliable publishers to the session are held back.",
    ),
    row(
        "outbox.total_bytes_max",
        "1_073_741_824",
        Slot::Count(1, 1 << 40, |draft| &mut draft.retained.bytes_max),
        "Most bytes of events that wait for all sessions together. Beyond it the session that holds most is ended \
         (SLOW_CONSUMER). At least outbox.bytes_max.",
    ),
    row(
        "outbox.total_bytes_soft",
        "536_870_912",
        Slot::Count(1, 1 << 40, |draft| &mut draft.retained.bytes_soft),
        "From so many waiting bytes of events on, for all sessions together, reliable publishers to sessions with a \
         queue are held back.",
    ),
    row(
        "sessions.resume_window_max_ms",
        "60_000",
        Slot::Millis(0, WAIT_MS_MAX, |draft| &mut draft.sessions.resume_window_max),
        "Longest time that the session of a client whose link was lost is kept for it, whatever it asks for.",
    ),
    row(
        "sessions.processed_timeout_ms",
        "30_000",
        Slot::Millis(1, WAIT_MS_MAX, |draft| &mut draft.sessions.processed_timeout),
        "Longest time that a publish may wait to be processed by its receivers, whatever its publisher asks for (EXPIRED).",
    ),
    row(
        "sessions.unprocessed_max",
        "16_384",
        Slot::Count(1, 1 << 24, |draft| &mut draft.sessions.unprocessed_max),
        "Most publishes of one session that wait to be processed by their receivers (TOO_MANY_UNPROCESSED).",
    ),
    row(
        "sessions.redeliveries_max",
        "3",
        Slot::U32(1, 1_000, |draft| &mut draft.sessions.redeliveries_max),
        "Runs of a receiver that a delivery may be lost with before it is given up (POISON).",
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
        "connections.per_identity_max",
        "1_000",
        Slot::Count(2, 1_000_000, |draft| &mut draft.connections.connections_per_identity_max),
        "Most connections of one identity: the first name of the client's certificate, or the client id where there are \
         no client certificates (TOO_MANY_CONNECTIONS).",
    ),
    row(
        "connections.retry_from_handshakes",
        "200",
        Slot::Count(0, 1_000_000, |draft| &mut draft.connections.retry_from_handshakes),
        "From so many handshakes under way on, a peer must first show that its address is its own (a QUIC Retry, which \
         costs it one round trip). 0 asks everyone.",
    ),
    row(
        "connections.handshakes_max",
        "2_000",
        Slot::Count(1, 1_000_000, |draft| &mut draft.connections.handshakes_max),
        "Most handshakes under way, in all; more are refused.",
    ),
    row(
        "connections.handshakes_per_address_max",
        "1_000",
        Slot::Count(1, 1_000_000, |draft| &mut draft.connections.handshakes_per_address_max),
        "Most handshakes under way from one IP address; more are refused.",
    ),
    row(
        "connections.handshake_timeout_ms",
        "3_000",
        Slot::Millis(1, WAIT_MS_MAX, |draft| &mut draft.connections.handshake_timeout),
        "Time in which the QUIC and TLS handshake must be done.",
    ),
    row(
        "connections.hello_timeout_ms",
        "5_000",
        Slot::Millis(1, WAIT_MS_MAX, |draft| &mut draft.connections.hello_timeout),
        "Time from a connection's first packet in which the client's hello must be there (HELLO_TIMEOUT).",
    ),
    row(
        "connections.idle_timeout_ms",
        "10_000",
        Slot::Millis(1, WAIT_MS_MAX, |draft| &mut draft.connections.idle_timeout),
        "A connection without a sign of life for so long is lost.",
    ),
    row(
        "connections.hold_timeout_ms",
        "250",
        Slot::Millis(1, WAIT_MS_MAX, |draft| &mut draft.connections.hold_timeout),
        "A session over its soft mark (outbox.*_soft) that acknowledges nothing for so long holds no publishers back any \
         more; what comes for it waits up to its hard limits.",
    ),
    row(
        "connections.slow_consumer_timeout_ms",
        "10_000",
        Slot::Millis(1, WAIT_MS_MAX, |draft| &mut draft.connections.slow_consumer_timeout),
        "A session that takes nothing from a waiting queue for so long is ended (SLOW_CONSUMER).",
    ),
    row(
        "quic.stream_receive_bytes_max",
        "1_048_576",
        Slot::U32(1_024, 1 << 30, |draft| &mut draft.windows.stream_receive_bytes_max),
        "Most bytes on one stream towards the broker that it has not taken yet.",
    ),
    row(
        "quic.receive_bytes_max",
        "4_194_304",
        Slot::U32(1_024, 1 << 30, |draft| &mut draft.windows.receive_bytes_max),
        "Most bytes on all streams of a connection towards the broker that it has not taken yet.",
    ),
    row(
        "quic.send_bytes_max",
        "4_194_304",
        Slot::U32(1_024, 1 << 30, |draft| &mut draft.windows.send_bytes_max),
        "Most bytes of a connection that the broker has sent and the peer has not acknowledged.",
    ),
    row(
        "quic.datagram_send_bytes_max",
        "1_048_576",
        Slot::U32(1_024, 1 << 30, |draft| &mut draft.windows.datagram_send_bytes_max),
        "Most bytes of datagrams of a connection that wait to be sent; the oldest are dropped beyond it.",
    ),
    row(
        "quic.udp_payload_bytes_max",
        "1_452",
        Slot::U32(1_200, 65_527, |draft| &mut draft.windows.udp_payload_bytes_max),
        "The largest UDP payload that is sent where path and peer take it: 8952 suits jumbo frames.",
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
