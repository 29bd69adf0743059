use std::fs;

use serde_json::Value;

use super::{certificates, run, text, zonecast};

#[test]
fn with_certificates_the_configuration_is_ok() {
    let directory = tempfile::tempdir().unwrap();
    let flags = certificates(directory.path());
    let output = zonecast().args(["config", "check"]).args(&flags).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "ok\n"));

    let ca = directory.path().join("certs/ca.pem");
    let output = zonecast().args(["config", "check"]).args(&flags).env("ZONECAST_TLS_CLIENT_CA", &ca).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "ok\n"));
}

#[test]
fn without_certificates_the_message_says_what_to_do() {
    for arguments in [&["broker"][..], &["config", "check"]] {
        let output = run(arguments);
        let message = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
        for part in ["tls.certificate and tls.key must be set", "zonecast cert", "zonecast dev"] {
            assert!(message.contains(part), "{message}");
        }
    }
}

#[test]
fn every_file_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let [_, certificate, _, key] = certificates(directory.path());
    let folder = directory.path().to_str().unwrap();
    // A folder stands for a file without permission to read, which root would have.
    let check = |certificate: &str, key: &str, ca: &str| {
        let flags = ["--tls-certificate", certificate, "--tls-key", key, "--tls-client-ca", ca];
        let output = zonecast().args(["config", "check"]).args(flags).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        text(&output.stderr)
    };
    let unreadable = check("/missing.pem", folder, "/missing-ca.pem");
    for part in [
        "3 problems",
        "tls.certificate = \"/missing.pem\" (flag --tls-certificate): the file cannot be read: No such file",
        "tls.key = ",
        "Is a directory",
        "tls.client_ca = \"/missing-ca.pem\" (flag --tls-client-ca)",
    ] {
        assert!(unreadable.contains(part), "{part:?} in {unreadable}");
    }

    let swapped = check(&key, &certificate, &key);
    for part in ["3 problems", "no usable certificate", "no usable private key", "tls.client_ca"] {
        assert!(swapped.contains(part), "{part:?} in {swapped}");
    }

    let foreign = directory.path().join("certs/client-shard-1.key");
    let mismatch = check(&certificate, foreign.to_str().unwrap(), &certificate);
    assert!(mismatch.contains("do not serve together"), "{mismatch}");
}

#[test]
fn a_weak_secret_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    let mut check = zonecast();
    check.args(["config", "check"]).args(certificates(directory.path())).arg("--tls-reset-secret").arg(&secret);
    for (content, code, said) in [("hunter2\n", 2, "7 bytes are too few for a secret"), (&"x".repeat(32), 0, "")] {
        fs::write(&secret, content).unwrap();
        let output = check.output().unwrap();
        let message = text(&output.stderr);
        assert!(output.status.code() == Some(code) && message.contains(said), "{message}");
    }
}

#[test]
fn everything_that_is_wrong_is_reported_together() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("z.toml");
    fs::write(&file, "[limits]\nlanes_max = 0\npayload_byte_max = 1\n").unwrap();
    let output = zonecast()
        .args(["broker", "--listen", "nowhere", "--config"])
        .arg(&file)
        .env("ZONECAST_WORKERS", "many")
        .env("ZONECAST_LISTN", "x")
        .output()
        .unwrap();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    let file = file.display();
    for part in [
        "error: the configuration has 6 problems:",
        "listen = \"nowhere\" (flag --listen): expected an IP address and port",
        "workers = \"many\" (env ZONECAST_WORKERS): expected a whole number from 1 to 256",
        &format!("limits.lanes_max = \"0\" (file {file}:2): expected a whole number from 1 to 256"),
        &format!(
            "limits.payload_byte_max (file {file}:3): there is no such setting; the nearest one is limits.payload_b"
        ),
        "ZONECAST_LISTN (environment): there is no such setting; the nearest one is ZONECAST_LISTEN",
        "tls.certificate and tls.key must be set",
    ] {
        assert!(message.contains(part), "{part:?} in {message}");
    }
}

#[test]
fn variables_of_other_commands_are_no_mistakes() {
    let directory = tempfile::tempdir().unwrap();
    let output = zonecast()
        .args(["config", "check"])
        .args(certificates(directory.path()))
        .envs([("ZONECAST_CONNECT", "a:1,b:2"), ("ZONECAST_CA", "x"), ("ZONECAST_COMMIT", "abc")])
        .env("ZONECAST_PORT_4433_UDP", "udp://10.0.0.1:4433")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn print_says_where_each_value_came_from() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("z.toml");
    fs::write(&file, "workers = 2\n[rights]\nworlds = [\"earth\", \"mars\"]\n").unwrap();
    let mut command = zonecast();
    command
        .args(["config", "print", "--listen", "[::]:5"])
        .env("ZONECAST_CONFIG", &file)
        .env("ZONECAST_LOG_LEVEL", "warn");

    let shown = text(&command.output().unwrap().stdout);
    let line = |key: &str| {
        let found = shown.lines().find(|line| line.split(' ').next() == Some(key)).expect(key);
        found.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("listen"), "[::]:5 flag --listen");
    assert_eq!(line("log.level"), "warn env ZONECAST_LOG_LEVEL");
    assert_eq!(line("workers"), format!("2 file {}:1", file.display()));
    assert_eq!(line("limits.lanes_max"), "16 default");
    assert_eq!(line("tls.key"), "(not set) default");

    let json: Value = serde_json::from_slice(&command.arg("--json").output().unwrap().stdout).unwrap();
    assert_eq!(
        json["listen"],
        serde_json::json!({ "value": "[::]:5", "origin": { "kind": "flag", "name": "--listen" } })
    );
    assert_eq!(json["rights.worlds"]["value"], serde_json::json!(["earth", "mars"]));
    assert_eq!(json["rights.worlds"]["origin"]["line"], 3);
    assert_eq!(json["tls.key"], serde_json::json!({ "value": null, "origin": { "kind": "default" } }));
    assert_eq!(json.as_object().unwrap().len(), shown.lines().count());
}

#[test]
fn print_shows_bad_values_and_then_says_so() {
    let output = run(&["config", "print", "--workers", "many\u{1b}[31m"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stdout).contains("flag --workers"));
    let (shown, message) = (text(&output.stdout), text(&output.stderr));
    assert!(message.contains("workers = \"many\\u{1b}[31m\" (flag --workers)"), "{message}");
    assert!(!shown.contains('\u{1b}') && !message.contains('\u{1b}'), "{shown}{message}");
}

#[test]
fn the_example_is_a_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let flags = certificates(directory.path());
    let file = directory.path().join("example.toml");
    fs::write(&file, run(&["config", "print", "--example"]).stdout).unwrap();
    let output = zonecast().args(["config", "check", "--config"]).arg(&file).args(&flags).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "ok\n"));
}
