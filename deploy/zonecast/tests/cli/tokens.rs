//! Tokens on the command line: who shows one may publish, who shows none may not.

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use zonecast_access::{Claims, Keys, SigningKey};
use zonecast_protocol::Rights;

use super::{certificates, server::Server, text, zonecast};

#[test]
fn a_broker_with_keys_admits_who_shows_a_token() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let key = SigningKey::generate("k").unwrap();
    std::fs::write(path("keys.json"), Keys::jwks([(key.id(), key.public())])).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = Claims {
        issuer: "https://auth.example".into(),
        audience: BTreeSet::from(["zonecast".into()]),
        subject: "server:zone".parse().unwrap(),
        login: "l".into(),
        issued_at: now,
        expires_at: now + 600,
        scopes: BTreeSet::new(),
        rights: Rights::everything(),
    };
    let token = claims.sign(&key).unwrap();
    std::fs::write(path("token"), format!("{token}\n")).unwrap();

    let mut flags = certificates(directory.path()).to_vec();
    flags.extend(["--tokens-keys-file".to_owned(), path("keys.json")]);
    flags.extend(["--tokens-issuer", "https://auth.example"].map(str::to_owned));
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
