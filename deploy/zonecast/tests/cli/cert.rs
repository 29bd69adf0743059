use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt};

use super::{text, zonecast};

#[test]
fn keys_are_for_the_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("new/certs");
    let names = ["--client", "shard-1", "--client", "shard-1", "--host", "10.0.0.7", "--host", "broker.internal"];
    let output = zonecast().arg("cert").arg("--out").arg(&out).args(names).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.contains("zonecast broker --tls-certificate ") && said.contains("--cert "), "{said}");

    let files: BTreeSet<String> =
        fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let wanted = ["ca.key", "ca.pem", "client-shard-1.key", "client-shard-1.pem", "server.key", "server.pem"];
    assert_eq!(files, wanted.map(str::to_owned).into());
    for file in files {
        let mode = fs::metadata(out.join(&file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if file.ends_with(".key") { 0o600 } else { 0o644 }, "{file}");
    }
}

#[test]
fn what_is_there_is_overwritten_only_by_force() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("server.key");
    fs::write(&key, "precious").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let mut command = zonecast();
    command.args(["cert", "--out"]).arg(directory.path());

    let refused = command.output().unwrap();
    let message = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(message.contains("server.key; --force overwrites"), "{message}");
    assert_eq!(fs::read_to_string(&key).unwrap(), "precious");
    // Nothing else either: half a set would not fit together.
    assert!(!directory.path().join("ca.pem").exists());

    assert_eq!(command.arg("--force").output().unwrap().status.code(), Some(0));
    assert!(fs::read_to_string(&key).unwrap().contains("PRIVATE KEY"));
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_host_that_is_none_is_refused_before_anything_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("certs");
    let output = zonecast().args(["cert", "--host", "https://a", "--out"]).arg(&out).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("neither an IP address nor a DNS name"));
    assert!(!out.exists());
}
