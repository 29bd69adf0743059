//! Certificates that change on disk while the broker serves.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::symlink,
    path::Path,
    process::{Output, Stdio},
};

use super::{server::Server, text, zonecast};

/// Makes an authority and certificates by it.
fn make(out: &Path) {
    let made = zonecast().args(["cert", "--client", "sub", "--client", "pub", "--out"]).arg(out).output().unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
}

/// Flags that name files below `live`.
fn flags(live: &Path) -> Vec<String> {
    let path = |file: &str| live.join(file).to_str().unwrap().to_owned();
    [("certificate", "server.pem"), ("key", "server.key"), ("client-ca", "ca.pem")]
        .into_iter()
        .flat_map(|(flag, file)| [format!("--tls-{flag}"), path(file)])
        .collect()
}

/// The flags of a client with the certificates of a directory.
fn as_client(certs: &Path, name: &str, address: &str) -> Vec<String> {
    let path = |file: String| certs.join(file).to_str().unwrap().to_owned();
    let [ca, cert, key] = ["ca.pem".to_owned(), format!("client-{name}.pem"), format!("client-{name}.key")].map(path);
    ["--connect", address, "--ca", &ca, "--cert", &cert, "--key", &key].map(str::to_owned).into()
}

fn publish(certs: &Path, address: &str, payload: &str) -> Output {
    zonecast().args(["pub", "--topic", "news", payload]).args(as_client(certs, "pub", address)).output().unwrap()
}

/// As Kubernetes does it: the files are reached through a link, which is replaced by one to a new directory.
fn swap(directory: &Path, live: &Path, target: &str) {
    let beside = directory.join("new-link");
    symlink(directory.join(target), &beside).unwrap();
    fs::rename(beside, live).unwrap();
}

#[test]
fn certificates_are_replaced_by_a_link_and_the_session_stays() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new, live) = (directory.path().join("old"), directory.path().join("new"), directory.path().join("live"));
    make(&old);
    make(&new);
    swap(directory.path(), &live, "old");
    let mut settings = flags(&live);
    settings.extend(["--tls-reload-interval-ms".to_owned(), "50".to_owned()]);
    let mut broker = Server::with_workers(2, "127.0.0.1:0", &settings, "json");
    assert!(broker.event("certificates are loaded")["names"].as_str().unwrap().contains("localhost"));
    let [address, _] = broker.addresses();
    let mut sub = zonecast()
        .args(["sub", "--topic", "news", "--count", "2"])
        .args(as_client(&old, "sub", &address))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(sub.stderr.take().unwrap()).lines();
    assert!(told.any(|line| line.unwrap() == "subscribed"));
    assert!(publish(&old, &address, "first").status.success());

    swap(directory.path(), &live, "new");
    broker.event("new certificates are in force; sessions stay");
    let refused = publish(&old, &address, "lost");
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stdout));
    let reached = publish(&new, &address, "second");
    assert_eq!(text(&reached.stdout), "reached 1 session\n", "{}", text(&reached.stderr));
    let received = text(&sub.wait_with_output().unwrap().stdout);
    assert!(received.contains("first") && received.contains("second"), "{received}");
    broker.signal("TERM");
    assert_eq!(broker.end().0, Some(0));
}

#[test]
fn what_cannot_be_used_is_told_and_the_old_goes_on_until_the_signal_finds_better() {
    let directory = tempfile::tempdir().unwrap();
    let (live, new) = (directory.path().join("live"), directory.path().join("new"));
    make(&live);
    make(&new);
    let mut settings = flags(&live);
    settings.extend(["--tls-reload-interval-ms".to_owned(), "0".to_owned()]);
    let mut broker = Server::start("127.0.0.1:0", &settings, "json");
    let [address, _] = broker.addresses();
    const UNUSABLE: &str = "new certificates cannot be used, the old ones go on serving; \
                            put usable files in place, which are then taken by themselves, or at SIGHUP";
    let key = live.join("server.key");
    let good = fs::read(&key).unwrap();
    fs::copy(new.join("server.key"), &key).unwrap();
    broker.signal("HUP");
    assert!(broker.event(UNUSABLE)["error"].as_str().unwrap().contains("do not serve together"));
    fs::write(&key, "no key").unwrap();
    broker.signal("HUP");
    let told = broker.event(UNUSABLE);
    assert!(told["error"].as_str().unwrap().contains(key.to_str().unwrap()), "{told}");
    assert_eq!(told["level"], "ERROR");
    assert!(publish(&live, &address, "still").status.success());
    fs::write(&key, good).unwrap();
    broker.signal("HUP");
    broker.event("new certificates are in force; sessions stay");
    assert!(publish(&live, &address, "again").status.success());
    broker.signal("TERM");
    assert_eq!(broker.end().0, Some(0));
}
