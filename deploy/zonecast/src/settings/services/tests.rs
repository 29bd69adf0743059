use std::collections::BTreeMap;

use zonecast_store::{DatabaseOptions, outbox::RelayOptions};

use super::*;
use crate::cert;

/// Files as `zonecast cert` would make them, and the variables that name them.
fn files(directory: &tempfile::TempDir) -> Vec<(&'static str, String)> {
    let pem = cert::throwaway_pem().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    vec![
        ("ZONECAST_SERVICES_CERTIFICATE", write("server.pem", &pem.certificate)),
        ("ZONECAST_SERVICES_KEY", write("server.key", &pem.key)),
        ("ZONECAST_SERVICES_BROKER_CA", write("ca.pem", &pem.ca)),
    ]
}

fn loaded(variables: &[(&str, String)]) -> Result<ServicesSettings, String> {
    let env: BTreeMap<_, _> = variables.iter().map(|(name, value)| ((*name).to_owned(), Some(value.clone()))).collect();
    load(&Sources { env, ..Sources::default() }).map_err(|problems| problems.to_string())
}

#[test]
fn the_defaults_are_the_services_own() {
    let directory = tempfile::tempdir().unwrap();
    let host = loaded(&files(&directory)).unwrap_or_else(|problems| panic!("{problems}")).host;
    let own = DatabaseOptions::new("sqlite:zonecast.db".parse().unwrap());
    assert_eq!(host.database.url.to_string(), own.url.to_string());
    assert_eq!(host.database.connections_max, own.connections_max);
    assert_eq!(host.database.statement_timeout, own.statement_timeout);
    assert_eq!(host.database.acquire_timeout, own.acquire_timeout);
    let limits = EntranceLimits::default();
    assert_eq!((host.limits.calls_max, host.limits.timeout), (limits.calls_max, limits.timeout));
    assert_eq!(host.limits.streams_max, limits.streams_max);
    let limits = GrpcLimits::default();
    assert_eq!(host.grpc.limits.connections_max, limits.connections_max);
    assert_eq!(host.grpc.limits.connections_per_address_max, limits.connections_per_address_max);
    assert_eq!(host.changes_retention, RelayOptions::default().retention);
    assert!(host.grpc.listen.ip().is_loopback() && host.broker.calls.is_none() && host.migrate);
    assert_eq!((host.replicas, host.broker.client.addresses()), (1, &["127.0.0.1:4433".to_owned()][..]));
}

/// A row that writes into another's field would show.
#[test]
fn every_value_arrives_in_its_field() {
    let directory = tempfile::tempdir().unwrap();
    let mut variables = files(&directory);
    variables.extend(
        [
            ("ZONECAST_SERVICES_LISTEN", "127.0.0.1:1"),
            ("ZONECAST_SERVICES_ADMIN_LISTEN", "127.0.0.1:2"),
            ("ZONECAST_SERVICES_BROKERS", "a:3,b:4"),
            ("ZONECAST_SERVICES_CALLS_BY_BROKER", "true"),
            ("ZONECAST_SERVICES_CALLS_MAX", "5"),
            ("ZONECAST_SERVICES_STREAMS_MAX", "13"),
            ("ZONECAST_SERVICES_CONNECTIONS_MAX", "14"),
            ("ZONECAST_SERVICES_CONNECTIONS_PER_ADDRESS_MAX", "16"),
            ("ZONECAST_DATABASE_CHANGES_RETENTION_HOURS", "15"),
            ("ZONECAST_SERVICES_CALL_TIMEOUT_MS", "6"),
            ("ZONECAST_SERVICES_MESSAGE_BYTES_MAX", "7000"),
            ("ZONECAST_DATABASE_URL", "postgres://u:hunter2@h/n?sslmode=require"),
            ("ZONECAST_DATABASE_REPLICAS", "8"),
            ("ZONECAST_DATABASE_MIGRATE", "false"),
            ("ZONECAST_DATABASE_CONNECTIONS_MAX", "9"),
            ("ZONECAST_DATABASE_STATEMENT_TIMEOUT_MS", "10"),
            ("ZONECAST_DATABASE_ACQUIRE_TIMEOUT_MS", "11"),
            ("ZONECAST_SHUTDOWN_GRACE_MS", "12"),
        ]
        .map(|(name, value)| (name, value.to_owned())),
    );
    let host = loaded(&variables).unwrap_or_else(|problems| panic!("{problems}")).host;
    let millis = Duration::from_millis;
    assert_eq!((host.grpc.listen.port(), host.admin_listen.map(|address| address.port())), (1, Some(2)));
    let brokers = ["a:3".to_owned(), "b:4".to_owned()];
    for client in [host.broker.client, host.broker.calls.unwrap()] {
        assert_eq!(client.addresses(), brokers);
    }
    assert_eq!((host.limits.streams_max, host.grpc.limits.connections_max), (13, 14));
    assert_eq!(host.grpc.limits.connections_per_address_max, 16);
    assert_eq!(host.changes_retention, Duration::from_secs(15 * 3_600));
    assert_eq!((host.limits.calls_max, host.limits.timeout, host.message_bytes_max), (5, millis(6), 7_000));
    assert_eq!((host.database.url.to_string().as_str(), host.replicas), ("postgres://u@h:5432/n", 8));
    assert_eq!((host.migrate, host.database.connections_max), (false, 9));
    assert_eq!((host.database.statement_timeout, host.database.acquire_timeout), (millis(10), millis(11)));
    assert_eq!(host.shutdown_grace, millis(12));
}

#[test]
fn what_is_wrong_is_told_with_what_to_do_and_without_the_password() {
    let told = loaded(&[]).err().unwrap();
    for word in ["services.certificate and services.key and services.broker_ca must be set", "zonecast cert"] {
        assert!(told.contains(word), "{told}");
    }
    let directory = tempfile::tempdir().unwrap();
    for (name, value, words) in [
        ("ZONECAST_DATABASE_URL", "mysql://u:hunter2@h/n", "database.url = (hidden)"),
        ("ZONECAST_DATABASE_MIGRATE", "yes", "one of true, false"),
        ("ZONECAST_SERVICES_BROKERS", "nowhere", "services.brokers"),
        ("ZONECAST_SERVICES_KEY", "/missing.key", "services.key = \"/missing.key\""),
        ("ZONECAST_SERVICES_BROKER_KEY", "/a.key", "expected services.broker_certificate beside it"),
        ("ZONECAST_SERVICES_BROKER_CA", "/missing.pem", "services.broker_ca"),
    ] {
        let mut variables = files(&directory);
        variables.push((name, value.to_owned()));
        let told = loaded(&variables).err().unwrap();
        assert!(told.contains(words) && !told.contains("hunter2"), "{told}");
    }
}

#[test]
fn a_credential_for_the_broker_wants_an_authority_and_no_token_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("services.json");
    let credential = ("ZONECAST_SERVICES_BROKER_CREDENTIAL_FILE", path.to_str().unwrap().to_owned());
    let authority = ("ZONECAST_TOKENS_AUTHORITY", "https://localhost:9443".to_owned());
    let told = |more: &[(&'static str, String)]| {
        let variables = [&files(&directory)[..], more].concat();
        loaded(&variables).err().unwrap_or_default()
    };
    let alone = told(std::slice::from_ref(&credential));
    assert!(
        alone.contains("services.broker_credential_file") && alone.contains("tokens.authority beside it"),
        "{alone}"
    );
    let token = ("ZONECAST_SERVICES_BROKER_TOKEN_FILE", "token".to_owned());
    let both = told(&[credential.clone(), authority.clone(), token]);
    assert!(both.contains("expected no services.broker_token_file beside it"), "{both}");
    // The file may come later: it is made in the services' database.
    assert_eq!(told(&[credential, authority]), "");
}
