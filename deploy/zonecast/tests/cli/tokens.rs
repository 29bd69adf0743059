//! Tokens on the command line: who shows one may publish, who shows none may not.

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use zonecast_access::{Claims, Keys, SigningKey};
use zonecast_protocol::{Permitted, Rights};

use super::{certificates, server::Server, text, zonecast};

const ISSUER: &str = "https://auth.example";

fn token(key: &SigningKey, subject: &str, lasts_s: u64, rights: Rights) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = Claims {
        issuer: ISSUER.into(),
        audience: BTreeSet::from(["zonecast".into()]),
        subject: subject.parse().unwrap(),
        login: "l".into(),
        issued_at: now,
        expires_at: now + lasts_s,
        scopes: BTreeSet::new(),
        rights,
    };
    claims.sign(key).unwrap()
}

/// Who holds the door at the broker open asks again for what was refused: its rights may be others by now.
#[test]
fn calls_are_taken_as_soon_as_the_right_to_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let key = SigningKey::generate("k").unwrap();
    std::fs::write(path("keys.json"), Keys::jwks([(key.id(), key.public())])).unwrap();
    let of_services = |lasts_s, rights| token(&key, "service:services", lasts_s, rights);
    // Renewed after three quarters of its time.
    let nothing_to_hear = Rights { subscribe_topics: Permitted::none(), ..Rights::everything() };
    std::fs::write(path("token"), of_services(8, nothing_to_hear)).unwrap();
    let tls = certificates(directory.path());
    let trust = ["--tokens-keys-file", &path("keys.json"), "--tokens-issuer", ISSUER].map(str::to_owned);
    let mut broker = Server::start("127.0.0.1:0", &[&tls[..], &trust].concat(), "json");
    let [address, _] = broker.addresses();

    let mut command = zonecast();
    command.args(["services", "users", "--log-format", "json", "--services-brokers", &address]).args(&trust);
    command.args(["--services-listen", "127.0.0.1:0", "--services-admin-listen", "127.0.0.1:0"]);
    command.args(["--services-certificate", &tls[1], "--services-key", &tls[3]]);
    command.args(["--services-broker-ca", &path("certs/ca.pem"), "--services-client-id", "services"]);
    command.args(["--services-calls-by-broker", "true", "--services-broker-token-file", &path("token")]);
    command.env("ZONECAST_DATABASE_URL", format!("sqlite:{}", path("services.db")));
    let mut services = Server::spawn(command);
    let refused = services.event("no calls are taken by the broker so far");
    assert!(refused["error"].as_str().is_some_and(|error| error.contains("topics.subscribe")), "{refused}");
    std::fs::write(path("token"), of_services(600, Rights::everything())).unwrap();
    services.event("calls are taken by the broker");
}

#[test]
fn a_broker_with_keys_admits_who_shows_a_token() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let key = SigningKey::generate("k").unwrap();
    std::fs::write(path("keys.json"), Keys::jwks([(key.id(), key.public())])).unwrap();
    let token = token(&key, "server:zone", 600, Rights::everything());
    std::fs::write(path("token"), format!("{token}\n")).unwrap();

    let mut flags = certificates(directory.path()).to_vec();
    flags.extend(["--tokens-keys-file".to_owned(), path("keys.json")]);
    flags.extend(["--tokens-issuer", ISSUER].map(str::to_owned));
    // Every address of this machine: the keys are what keeps others away.
    let mut broker = Server::start("0.0.0.0:0", &flags, "json");
    let [listen, _] = broker.addresses();
    let address = listen.replace("0.0.0.0", "127.0.0.1");
    let publish = |id: &str, more: &[&str], variable: Option<&str>| {
        let mut command = zonecast();
        command.args([
            "pub",
            "--topic",
            "t",
            "--server-name",
            "localhost",
            "--client-id",
            id,
            "--connect",
            &address,
            "--ca",
        ]);
        command.arg(path("certs/ca.pem")).args(more).arg("hello");
        if let Some(token) = variable {
            command.env("ZONECAST_TOKEN", token);
        }
        let output = command.output().unwrap();
        (output.status.success(), text(&output.stderr))
    };
    let (published, told) = publish("zone", &[], None);
    assert!(!published && told.contains("without a token"), "{told}");
    let (published, told) = publish("other", &["--token", &token], None);
    assert!(!published && told.contains("may not connect as other"), "{told}");
    assert!(!told.contains(&token), "a token is a secret");
    for (more, variable) in
        [(&["--token", &token][..], None), (&["--token-file", &path("token")], None), (&[], Some(token.as_str()))]
    {
        let (published, told) = publish("zone.1", more, variable);
        assert!(published, "{told}");
    }
}
