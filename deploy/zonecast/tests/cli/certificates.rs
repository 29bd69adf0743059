//! Services that know callers by their certificates, and take new ones while they serve.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
};

use super::{server::Server, text, zonecast};

const ISSUER: &str = "https://auth.example";

/// An authority, a server's certificate and those of two clients.
fn make(out: &Path) {
    let made =
        zonecast().args(["cert", "--client", "services", "--client", "meadow", "--out"]).arg(out).output().unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
}

/// `auth/IssueToken` for the credential in a file, with this certificate shown.
fn issue(services: &str, certs: &Path, credential: &[u8], client: Option<&str>) -> (bool, String) {
    let path = |file: &str| certs.join(file).to_str().unwrap().to_owned();
    let mut command = zonecast();
    command.args(["call", "auth/IssueToken", "-", "--field", "accessToken", "--services", services]);
    command.args(["--server-name", "localhost", "--ca", &path("ca.pem")]);
    if let Some(client) = client {
        command.args(["--cert", &path(&format!("client-{client}.pem"))]);
        command.args(["--key", &path(&format!("client-{client}.key"))]);
    }
    let mut call = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    call.stdin.take().unwrap().write_all(credential).unwrap();
    let output = call.wait_with_output().unwrap();
    (output.status.success(), text(&output.stderr))
}

/// Replaces all that a server has, the authority among it. The new clients, and the old ones, who trust the new server.
fn replaced(directory: &Path, certs: &Path) -> [PathBuf; 2] {
    let [new, old] = ["new", "old"].map(|name| directory.join(name));
    make(&new);
    std::fs::create_dir(&old).unwrap();
    for file in ["client-services.pem", "client-services.key"] {
        std::fs::copy(certs.join(file), old.join(file)).unwrap();
    }
    std::fs::copy(new.join("ca.pem"), old.join("ca.pem")).unwrap();
    for file in ["server.pem", "server.key", "ca.pem"] {
        std::fs::copy(new.join(file), certs.join(file)).unwrap();
    }
    [new, old]
}

#[test]
fn a_certificate_stands_for_a_secret_and_is_replaced_while_services_run() {
    let directory = tempfile::tempdir().unwrap();
    let certs = directory.path().join("certs");
    make(&certs);
    let path = |file: &str| certs.join(file).to_str().unwrap().to_owned();
    let database = format!("sqlite:{}", directory.path().join("services.db").display());
    let services = |names: &[&str], more: &[&str]| {
        let mut command = zonecast();
        command.arg("services").args(names).args(more).args(["--log-format", "json"]);
        command.args([
            "--services-admin-listen",
            "127.0.0.1:0",
            "--services-listen",
            "127.0.0.1:0",
            "--tls-reload-interval-ms",
            "50",
        ]);
        command.args(["--services-certificate", &path("server.pem"), "--services-key", &path("server.key")]);
        command.args(["--services-broker-ca", &path("ca.pem")]).env("ZONECAST_DATABASE_URL", &database);
        let mut services = Server::spawn(command);
        assert!(services.event("certificates are loaded")["names"].as_str().unwrap().contains("localhost"));
        let listen = services.event("services are listening")["listen"].as_str().unwrap().to_owned();
        (services, listen)
    };
    let asked = ["--services-client-ca", &path("ca.pem"), "--services-client-certificate-required", "false"];
    let (mut auth, address) =
        services(&["auth"], &[&asked[..], &["--auth-issuer", ISSUER, "--services-brokers", "127.0.0.1:1"]].concat());

    let mut made = zonecast();
    made.args(["credential", "--subject", "service:services", "--certificate-name", "zonecast://client/services"]);
    made.args(["--rights", r#"{"topics": {"publish": ["**"], "subscribe": ["**"]}}"#]);
    let made = made.env("ZONECAST_DATABASE_URL", &database).output().unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    let credential = made.stdout;
    assert!(!text(&credential).contains("secret"), "{}", text(&credential));
    assert_eq!(issue(&address, &certs, &credential, Some("services")), (true, String::new()));
    for other in [None, Some("meadow")] {
        let (given, told) = issue(&address, &certs, &credential, other);
        assert!(!given && told.contains("UNAUTHENTICATED") && told.contains("certificate"), "{other:?}: {told}");
    }

    // Other services show theirs to the broker and to the auth service.
    let authority = format!("https://localhost:{}", address.rsplit(':').next().unwrap());
    let ca = path("ca.pem");
    let trust = ["--tokens-authority", &authority, "--tokens-ca", &ca, "--tokens-issuer", ISSUER];
    let tls = [("--tls-certificate", "server.pem"), ("--tls-key", "server.key"), ("--tls-client-ca", "ca.pem")];
    let mut flags: Vec<String> = tls.iter().flat_map(|(flag, file)| [(*flag).to_owned(), path(file)]).collect();
    flags.extend(trust.map(str::to_owned));
    let mut broker = Server::start("127.0.0.1:0", &flags, "json");
    let [broker_address, _] = broker.addresses();
    let file = directory.path().join("services.json");
    std::fs::write(&file, &credential).unwrap();
    let (certificate, key) = (path("client-services.pem"), path("client-services.key"));
    let mut own = vec!["--services-broker-certificate", &certificate, "--services-broker-key", &key];
    own.extend(["--services-broker-credential-file", file.to_str().unwrap(), "--services-client-id", "services"]);
    own.extend(["--services-brokers", &broker_address]);
    own.extend(trust);
    let (mut users, _) = services(&["users"], &own);
    users.event("changes go out by the broker");

    let [new, old] = replaced(directory.path(), &certs);
    auth.event("new certificates are in force; connections stay");
    // While they were copied some may not have gone together; now all do.
    auth.signal("HUP");
    auth.event("new certificates are in force; connections stay");
    assert_eq!(issue(&address, &new, &credential, Some("services")), (true, String::new()));
    assert!(!issue(&address, &old, &credential, Some("services")).0);
    auth.signal("TERM");
    assert_eq!(auth.end().0, Some(0));
}
