//! Credentials on the command line: services that get tokens by one, and what the administrator may do.

use super::{certificates, server::Server, text, zonecast};

const ISSUER: &str = "https://auth.example";
const SECRET: &str = "QSBzZWNyZXQgb2YgdGhlIGFkbWluaXN0cmF0b3I6IDE";

#[test]
fn services_get_their_own_tokens_and_the_administrator_may_ask_all_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let tls = certificates(directory.path());
    std::fs::write(path("admin"), SECRET).unwrap();
    let database = format!("sqlite:{}", path("services.db"));
    let services = |names: &[&str], more: &[&str]| {
        let mut command = zonecast();
        command.arg("services").args(names).args(more).args(["--log-format", "json"]);
        command.args(["--services-listen", "127.0.0.1:0", "--services-admin-listen", "127.0.0.1:0"]);
        command.args(["--services-certificate", &tls[1], "--services-key", &tls[3]]);
        command.args(["--services-broker-ca", &path("certs/ca.pem")]).env("ZONECAST_DATABASE_URL", &database);
        let mut services = Server::spawn(command);
        let listen = services.event("services are listening")["listen"].as_str().unwrap().to_owned();
        (services, listen)
    };
    let admin_file = path("admin");
    let (_auth, auth) = services(
        &["auth"],
        &["--auth-issuer", ISSUER, "--auth-admin-secret-file", &admin_file, "--services-brokers", "127.0.0.1:1"],
    );
    let authority = format!("https://localhost:{}", auth.rsplit(':').next().unwrap());
    let ca = path("certs/ca.pem");
    let trust = ["--tokens-authority", &authority, "--tokens-ca", &ca, "--tokens-issuer", ISSUER];
    let flags: Vec<String> = tls.iter().cloned().chain(trust.map(str::to_owned)).collect();
    let mut broker = Server::start("127.0.0.1:0", &flags, "json");
    let [broker_address, _] = broker.addresses();

    let mut made = zonecast();
    made.args(["credential", "--subject", "service:services", "--rights"]);
    made.arg(r#"{"topics": {"publish": ["**"], "subscribe": ["**"]}}"#).env("ZONECAST_DATABASE_URL", &database);
    let made = made.output().unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    std::fs::write(path("services.json"), made.stdout).unwrap();
    let credential = path("services.json");
    let own = ["--services-broker-credential-file", &credential, "--services-client-id", "services"];
    let calls = ["--services-calls-by-broker", "true", "--services-brokers", &broker_address];
    let (mut others, address) = services(&["users", "characters", "directory"], &[&own[..], &calls, &trust].concat());
    others.event("calls are taken by the broker");

    let call = |services: &str, method: &str, request: &str, more: &[&str]| {
        let mut command = zonecast();
        command.args(["call", method, request, "--services", services, "--server-name", "localhost"]);
        let output = command.args(["--ca", &ca]).args(more).output().unwrap();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let shown = serde_json::json!({"clientId": "admin", "secret": SECRET}).to_string();
    let (given, token, told) = call(&auth, "auth/IssueToken", &shown, &["--field", "accessToken"]);
    assert!(given, "{told}");
    let all = r#"{"world": "earth", "within": {"maxX": 1, "maxY": 1}}"#;
    for (services, method, request) in [
        (&address, "users/ListUsers", "{}"),
        (&address, "characters/ListCharacters", r#"{"userId": "0192d3c4-0000-7000-8000-000000000000"}"#),
        (&address, "directory/Coverage", all),
        (&address, "changes/ListChanges", r#"{"store": "users"}"#),
        (&auth, "auth/ListCredentials", "{}"),
    ] {
        let (done, _, told) = call(services, method, request, &["--token", token.trim()]);
        assert!(done, "{method}: {told}");
        let (done, _, told) = call(services, method, request, &[]);
        assert!(!done && told.contains("UNAUTHENTICATED"), "{method} without a token: {told}");
    }
}
