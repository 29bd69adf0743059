use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use clap::FromArgMatches;
use zonecast_broker::{ClientIdentity, ConnectionLimits, PublishLimits, QuicWindows, RetainedLimits, SessionLimits};

use super::{
    flags::{AllSettings, SettingFlags},
    raw::Origin,
    *,
};
use crate::{cert, logging::Format, tls_reload::TlsFiles};

fn from_flags(arguments: &[String]) -> SettingFlags<AllSettings> {
    let command = <SettingFlags<AllSettings> as clap::Args>::augment_args(clap::Command::new("broker"));
    let matches = command.try_get_matches_from(std::iter::once("broker".to_owned()).chain(arguments.iter().cloned()));
    SettingFlags::from_arg_matches(&matches.unwrap()).unwrap()
}

fn env(variables: &[(&str, &str)]) -> BTreeMap<String, Option<String>> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect()
}

fn file(directory: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = directory.path().join("zonecast.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn messages(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

/// The settings without the certificate, which unit tests of values do not need.
fn values_of(sources: &Sources) -> Result<Settings, Vec<String>> {
    let mut problems = Vec::new();
    let raw = Raw::gather(sources, &mut problems);
    check_values(&raw, &mut problems);
    if !problems.is_empty() {
        return Err(messages(&problems));
    }
    Ok(checked(fill(&raw, &mut problems)))
}

fn checked(draft: Draft) -> Settings {
    let files = TlsFiles { certificate: PathBuf::new(), key: PathBuf::new(), client_ca: None };
    let source = TlsSource { seen: files.fingerprint(), files, reload_interval: draft.reload_interval };
    settings(draft, Loaded { tls: cert::throwaway().unwrap().tls, source, reset_secret: None }, None)
}

/// A value that the setting accepts and that is not its default.
fn other_value(setting: &Setting) -> &'static str {
    match setting.slot {
        Slot::Address(_) | Slot::AddressOrOff(_) => "127.0.0.1:5",
        Slot::U32(min, ..) if min > 77 => "2077",
        Slot::Count(min, ..) if min > 77 => "2077",
        Slot::Workers(_) | Slot::U32(..) | Slot::Count(..) | Slot::Number(..) | Slot::Millis(..) => "77",
        Slot::Path(_) => "other.pem",
        Slot::ClientIdentity(_) => "any",
        Slot::Worlds(_) | Slot::Kinds(_) => "a,b",
        Slot::LogFormat(_) => "json",
        Slot::LogFilter(_) => "debug",
        Slot::Project(_) => "my-project",
        Slot::Database(_) => "sqlite:other.db",
        Slot::Brokers(_) => "a:1,b:2",
        Slot::ClientId(_) => "services-7",
        Slot::Word(_) => "word",
        Slot::Switch(_) => "true",
    }
}

#[test]
fn flag_over_variable_over_file_over_default() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "workers = 2\n[limits]\nlanes_max = 3\nradius_max = 4\n");
    let sources = Sources {
        flags: from_flags(&["--workers=8".to_owned()]).values,
        env: env(&[
            ("ZONECAST_WORKERS", "7"),
            ("ZONECAST_LIMITS_LANES_MAX", "6"),
            ("ZONECAST_CONFIG", path.to_str().unwrap()),
        ]),
        ..Sources::default()
    };
    let mut problems = Vec::new();
    let raw = Raw::gather(&sources, &mut problems);
    assert_eq!(messages(&problems), [""; 0]);
    let given = |key: &str| (raw.entry(key).value.clone(), raw.entry(key).origin.clone());
    let one = |text: &str| Some(RawValue::One(text.to_owned()));
    assert_eq!(given("workers"), (one("8"), Origin::Flag("--workers".into())));
    assert_eq!(given("limits.lanes_max"), (one("6"), Origin::Env("ZONECAST_LIMITS_LANES_MAX".into())));
    assert_eq!(given("limits.radius_max"), (one("4"), Origin::File { path, line: 4 }));
    assert_eq!(given("listen"), (one("127.0.0.1:4433"), Origin::Default));
}

#[test]
fn the_flag_names_the_file_before_the_variable_does() {
    let directory = tempfile::tempdir().unwrap();
    let config = Some(file(&directory, "workers = 2\n"));
    let sources = Sources { config, env: env(&[("ZONECAST_CONFIG", "/missing.toml")]), ..Sources::default() };
    assert_eq!(values_of(&sources).unwrap().broker.workers.get(), 2);
}

#[test]
fn every_setting_is_reached_by_its_flag_its_variable_and_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let (mut flags, mut variables) = (BTreeSet::new(), BTreeSet::new());
    for setting in table::all() {
        assert!(flags.insert(setting.flag()) && variables.insert(setting.env()), "{}", setting.key);
        let value = other_value(setting);
        let by_flag =
            Sources { flags: from_flags(&[format!("--{}={value}", setting.flag())]).values, ..Sources::default() };
        let by_env = Sources { env: env(&[(&setting.env(), value)]), ..Sources::default() };
        let quoted = if setting.slot.is_numeric() { value.to_owned() } else { format!("{value:?}") };
        let config = Some(file(&directory, &format!("{} = {quoted}\n", setting.key)));
        let by_file = Sources { config, ..Sources::default() };
        for (sources, origin) in [(by_flag, "flag"), (by_env, "env"), (by_file, "file")] {
            let mut problems = Vec::new();
            let raw = Raw::gather(&sources, &mut problems);
            let entry = raw.entry(setting.key);
            assert_eq!(entry.value, Some(RawValue::One(value.into())), "{} by {origin}", setting.key);
            assert!(entry.origin.to_string().starts_with(origin), "{} by {origin}: {}", setting.key, entry.origin);
            fill(&raw, &mut problems);
            assert_eq!(messages(&problems), [""; 0], "{} by {origin}", setting.key);
        }
    }
}

#[test]
fn keys_end_in_their_unit_or_qualifier_and_sections_are_together() {
    let mut sections: Vec<&str> = table::all().map(Setting::section).collect();
    sections.dedup();
    assert_eq!(sections.len(), sections.iter().collect::<BTreeSet<_>>().len(), "{sections:?}");
    for setting in table::all() {
        let is_time = matches!(setting.slot, Slot::Millis(..));
        assert_eq!(is_time, setting.key.ends_with("_ms"), "{}", setting.key);
        assert!(setting.help.ends_with('.') && setting.key.split('.').count() <= 2, "{}", setting.key);
    }
}

#[test]
fn the_defaults_are_the_brokers_own() {
    let found = values_of(&Sources::default()).unwrap().broker;
    let own = BrokerConfig::new("127.0.0.1:4433".parse().unwrap(), cert::throwaway().unwrap().tls);
    assert_eq!((found.listen, found.workers), (own.listen, own.workers));
    assert_eq!(found.admin_listen, Some("127.0.0.1:9433".parse().unwrap()));
    assert_eq!((found.rights, found.limits), (own.rights, own.limits));
    assert_eq!((found.publishes, found.sessions), (own.publishes, own.sessions));
    assert_eq!((found.outbox, found.retained, found.connections), (own.outbox, own.retained, own.connections));
    assert_eq!((found.windows, found.client_identity), (own.windows, own.client_identity));
    assert_eq!((found.worlds_labelled_max, found.shutdown_grace), (own.worlds_labelled_max, own.shutdown_grace));
}

/// One setting after the other gets a value of its own; a row that writes into another's field would show.
#[test]
fn every_value_arrives_in_its_field() {
    let numeric: Vec<_> = table::all().filter(|setting| setting.slot.is_numeric()).collect();
    let values: Vec<(String, String)> =
        numeric.iter().enumerate().map(|(at, setting)| (setting.env(), (2_000 + at).to_string())).collect();
    let mut variables: Vec<(&str, &str)> = values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    variables.extend([
        ("ZONECAST_LISTEN", "127.0.0.1:1"),
        ("ZONECAST_ADMIN_LISTEN", "off"),
        ("ZONECAST_WORKERS", "3"),
        ("ZONECAST_RIGHTS_WORLDS", "earth"),
        ("ZONECAST_RIGHTS_KINDS", "fire,shout"),
        // The soft marks come after the hard ones in the table.
        ("ZONECAST_OUTBOX_DELIVERIES_SOFT", "9"),
        ("ZONECAST_OUTBOX_BYTES_SOFT", "8"),
        ("ZONECAST_OUTBOX_TOTAL_BYTES_SOFT", "7"),
        // They have narrow ranges.
        ("ZONECAST_LIMITS_LANES_MAX", "101"),
        ("ZONECAST_LIMITS_KINDS_PER_ZONE_MAX", "102"),
        ("ZONECAST_SESSIONS_REDELIVERIES_MAX", "103"),
        ("ZONECAST_TLS_CLIENT_IDENTITY", "any"),
        ("ZONECAST_LOG_FORMAT", "gcp"),
        ("ZONECAST_LOG_LEVEL", "warn"),
        ("ZONECAST_LOG_GCP_PROJECT", "my-project"),
    ]);
    let found = values_of(&Sources { env: env(&variables), ..Sources::default() }).unwrap();
    let broker = &found.broker;
    let value = |key: &str| 2_000 + numeric.iter().position(|setting| setting.key == key).unwrap();
    let value_u32 = |key: &str| u32::try_from(value(key)).unwrap();
    let millis = |key: &str| Duration::from_millis(u64::from(value_u32(key)));
    assert_eq!((broker.listen, broker.admin_listen), (SocketAddr::from(([127, 0, 0, 1], 1)), None));
    assert_eq!(broker.workers.get(), 3);
    assert_eq!(broker.rights.worlds, ["earth".parse().unwrap()].into_iter().collect());
    assert_eq!(broker.rights.publish.kinds, ["fire", "shout"].map(|kind| kind.parse().unwrap()).into_iter().collect());
    let limits = &broker.limits;
    assert_eq!(limits.payload_bytes_max, value_u32("limits.payload_bytes_max"));
    assert_eq!(limits.zones_per_session_max, value_u32("limits.zones_per_session_max"));
    assert_eq!(limits.topics_per_session_max, value_u32("limits.topics_per_session_max"));
    assert_eq!((limits.lanes_max, limits.kinds_per_zone_max), (101, 102));
    assert_eq!(limits.radius_max, f64::from(value_u32("limits.radius_max")));
    assert_eq!(limits.coordinate_abs_max, f64::from(value_u32("limits.coordinate_abs_max")));
    assert_eq!(limits.zone_area_max, f64::from(value_u32("limits.zone_area_max")));
    let publishes = PublishLimits {
        fan_out_max: value("limits.fan_out_max"),
        per_second_max: value_u32("limits.publishes_per_second_max"),
        burst_max: value_u32("limits.publishes_burst_max"),
    };
    assert_eq!(broker.publishes, publishes);
    assert_eq!(broker.outbox.deliveries_max, value("outbox.deliveries_max"));
    assert_eq!(broker.outbox.bytes_max, value("outbox.bytes_max"));
    assert_eq!((broker.outbox.deliveries_soft, broker.outbox.bytes_soft), (9, 8));
    assert_eq!(broker.retained, RetainedLimits { bytes_soft: 7, bytes_max: value("outbox.total_bytes_max") });
    let sessions = SessionLimits {
        resume_window_max: millis("sessions.resume_window_max_ms"),
        processed_timeout: millis("sessions.processed_timeout_ms"),
        unprocessed_max: value("sessions.unprocessed_max"),
        redeliveries_max: 103,
    };
    assert_eq!(broker.sessions, sessions);
    let windows = QuicWindows {
        stream_receive_bytes_max: value_u32("quic.stream_receive_bytes_max"),
        receive_bytes_max: value_u32("quic.receive_bytes_max"),
        send_bytes_max: value_u32("quic.send_bytes_max"),
        datagram_send_bytes_max: value_u32("quic.datagram_send_bytes_max"),
        udp_payload_bytes_max: value_u32("quic.udp_payload_bytes_max"),
    };
    assert_eq!((broker.windows, broker.client_identity), (windows, ClientIdentity::Any));
    assert_connections_arrived(&broker.connections, value);
    assert_eq!(broker.worlds_labelled_max, value("worlds_labelled_max"));
    assert_eq!(broker.shutdown_grace, millis("shutdown_grace_ms"));
    assert_eq!(found.tls.reload_interval, millis("tls.reload_interval_ms"));
    let log = LogSettings { format: Format::Gcp, filter: "warn".into(), gcp_project: Some("my-project".into()) };
    assert_eq!(found.log, log);
}

fn assert_connections_arrived(connections: &ConnectionLimits, value: impl Fn(&str) -> usize) {
    let millis = |key: &str| Duration::from_millis(value(key) as u64);
    assert_eq!(connections.connections_per_identity_max, value("connections.per_identity_max"));
    assert_eq!(connections.handshakes_max, value("connections.handshakes_max"));
    assert_eq!(connections.handshakes_per_address_max, value("connections.handshakes_per_address_max"));
    assert_eq!(connections.retry_from_handshakes, value("connections.retry_from_handshakes"));
    assert_eq!(connections.handshake_timeout, millis("connections.handshake_timeout_ms"));
    assert_eq!(connections.connections_max, value("connections.total_max"));
    assert_eq!(connections.connections_per_address_max, value("connections.per_address_max"));
    assert_eq!(connections.hello_timeout, millis("connections.hello_timeout_ms"));
    assert_eq!(connections.idle_timeout, millis("connections.idle_timeout_ms"));
    assert_eq!(connections.hold_timeout, millis("connections.hold_timeout_ms"));
    assert_eq!(connections.slow_consumer_timeout, millis("connections.slow_consumer_timeout_ms"));
}

#[test]
fn the_longest_frame_follows_from_the_longest_payload() {
    let mut draft = Draft::default();
    draft.limits.payload_bytes_max = 1_000;
    assert_eq!(checked(draft).broker.limits.frame_bytes_max, 1_000 + 65_536);
}

/// An empty value is what a template leaves behind whose input is missing: nothing may take it for "not set".
#[test]
fn an_empty_value_is_refused_everywhere_and_all_are_reported() {
    let names: Vec<String> = table::all().map(Setting::env).collect();
    let variables: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    let found = values_of(&Sources { env: env(&variables), ..Sources::default() }).unwrap_err();
    assert_eq!(found.len(), table::all().count(), "{found:#?}");
    for (setting, message) in table::all().zip(found) {
        let empty = setting.shown(&RawValue::One(String::new()));
        let start = format!("{} = {empty} (env {}): expected {}", setting.key, setting.env(), setting.slot.expected());
        assert_eq!(message, start);
    }
}

#[test]
fn a_bad_value_names_key_place_value_and_expectation() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "[limits]\nlanes_max = 257\n[rights]\nkinds = ['a b']\n");
    let sources = Sources {
        config: Some(path.clone()),
        flags: from_flags(&["--listen=localhost:1".to_owned(), "--limits-radius-max=-1".to_owned()]).values,
        env: env(&[("ZONECAST_LOG_LEVEL", "inof")]),
        ..Sources::default()
    };
    let found = values_of(&sources).unwrap_err();
    let at = path.display();
    assert_eq!(
        found,
        [
            "listen = \"localhost:1\" (flag --listen): expected an IP address and port such as 0.0.0.0:4433 or [::]:4433"
                .to_owned(),
            format!(
                "rights.kinds = [\"a b\"] (file {at}:4): expected '*' for any kind, or kinds of events joined by commas \
                 (in the file: a list), each of 1 to 64 of A-Z a-z 0-9 _ . -"
            ),
            "limits.radius_max = \"-1\" (flag --limits-radius-max): expected a number from 0 to 1e15".to_owned(),
            format!("limits.lanes_max = \"257\" (file {at}:2): expected a whole number from 1 to 256"),
            "log.level = \"inof\" (env ZONECAST_LOG_LEVEL): expected a level (off, error, warn, info, debug, trace), \
             or such as info,zonecast_broker=debug"
                .to_owned(),
        ]
    );
}

#[test]
fn values_that_do_not_go_together_name_both() {
    let sources = Sources {
        env: env(&[("ZONECAST_OUTBOX_BYTES_MAX", "1000"), ("ZONECAST_OUTBOX_DELIVERIES_SOFT", "70000")]),
        ..Sources::default()
    };
    let found = values_of(&sources).unwrap_err();
    let bytes_max = "expected at most outbox.bytes_max = \"1000\" (env ZONECAST_OUTBOX_BYTES_MAX)";
    assert_eq!(
        found,
        [
            "outbox.deliveries_soft = \"70000\" (env ZONECAST_OUTBOX_DELIVERIES_SOFT): \
             expected at most outbox.deliveries_max = \"65_536\" (default)"
                .to_owned(),
            format!("outbox.bytes_soft = \"8_388_608\" (default): {bytes_max}"),
            format!("limits.payload_bytes_max = \"1_048_576\" (default): {bytes_max}"),
        ]
    );
}

#[test]
fn unknown_variables_are_problems_and_foreign_ones_are_not() {
    let mut variables = env(&[
        ("ZONECAST_LIMIT_RADIUS_MAX", "1"),
        ("ZONECAST_CA", "ca.pem"),
        ("ZONECAST_PORT_4433_UDP_ADDR", "10.0.0.1"),
        ("PATH", "/bin"),
    ]);
    variables.insert("ZONECAST_LISTEN".into(), None);
    let sources = Sources { env: variables, env_known: vec!["ZONECAST_CA".into()], ..Sources::default() };
    assert_eq!(
        values_of(&sources).unwrap_err(),
        [
            "ZONECAST_LIMIT_RADIUS_MAX (environment): there is no such setting; \
             the nearest one is ZONECAST_LIMITS_RADIUS_MAX",
            "ZONECAST_LISTEN (environment): the value is not UTF-8; expected text",
        ]
    );
}

#[test]
fn a_missing_file_is_a_problem_of_its_own() {
    let sources = Sources { config: Some("/missing/z.toml".into()), ..Sources::default() };
    let found = load(&sources).unwrap_err();
    // Not also that there is no certificate: it may well be named in the file.
    assert_eq!(
        found.to_string(),
        "the configuration is not valid: the configuration file /missing/z.toml (flag --config) cannot be read: \
         No such file or directory (os error 2)"
    );
}

#[test]
fn secrets_are_hidden_wherever_settings_are_shown() {
    static SECRET: Setting = Setting {
        key: "log.gcp_project",
        default: None,
        help: "A secret.",
        secret: true,
        slot: Slot::Project(|draft| &mut draft.log.gcp_project),
    };
    let entry = raw::Entry {
        setting: &SECRET,
        value: Some(RawValue::One("HUSH".into())),
        origin: Origin::Env("ZONECAST_LOG_GCP_PROJECT".into()),
    };
    let raw = Raw { entries: vec![entry], file_was_read: true };
    let mut problems = Vec::new();
    fill(&raw, &mut problems);
    let shown = [show::as_text(&raw), show::as_json(&raw), Problems(problems).to_string()];
    for text in shown {
        assert!(text.contains(HIDDEN) && !text.contains("HUSH"), "{text}");
    }
}

#[test]
fn the_example_file_is_valid_and_states_the_defaults() {
    let directory = tempfile::tempdir().unwrap();
    let as_it_is = Sources { config: Some(file(&directory, &show::example())), ..Sources::default() };
    assert!(values_of(&as_it_is).is_ok());

    let is_setting = |line: &&str| line.starts_with('#') && line.get(1..2).is_some_and(|c| c != " ");
    let switched_on: String = show::example()
        .lines()
        .map(|line| if is_setting(&line) { format!("{}\n", &line[1..]) } else { format!("{line}\n") })
        .collect();
    let mut problems = Vec::new();
    let config = Some(file(&directory, &switched_on));
    let raw = Raw::gather(&Sources { config, ..Sources::default() }, &mut problems);
    assert_eq!(messages(&problems), [""; 0]);
    for entry in &raw.entries {
        assert!(matches!(entry.origin, Origin::File { .. }), "{}", entry.setting.key);
        if let Some(default) = entry.setting.default {
            assert_eq!(entry.value, Some(RawValue::One(default.into())), "{}", entry.setting.key);
        }
    }
}

#[test]
fn other_commands_log_warnings_unless_told_otherwise() {
    let log = |variables: &[(&str, &str)]| tool_log(&Sources { env: env(variables), ..Sources::default() });
    assert_eq!(log(&[("ZONECAST_WORKERS", "x")]).unwrap().filter, "warn");
    let told = log(&[("ZONECAST_LOG_LEVEL", "debug"), ("ZONECAST_LOG_FORMAT", "json")]).unwrap();
    assert_eq!((told.filter.as_str(), told.format), ("debug", Format::Json));
    assert!(log(&[("ZONECAST_LOG_FORMAT", "xml")]).is_err());
}
