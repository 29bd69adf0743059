//! The client that was written from WIRE.md alone, in another language, against the real broker.

use std::process::Command;

use super::{certificates, server::Server, text};

const CONVERSATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../protocol/tests/python/conversation.py");

/// The Python that has what the client needs, or a loud word why there is none.
pub(crate) fn python() -> Option<String> {
    let python = std::env::var("ZONECAST_TEST_PYTHON").ok();
    if python.is_none() {
        eprintln!("!!! NOT RUN: the Python client. `cargo xtask test` installs what it needs and runs it.");
        assert!(std::env::var_os("CI").is_none(), "CI skips nothing: set ZONECAST_TEST_PYTHON");
    }
    python
}

fn converse(workers: usize) {
    let Some(python) = python() else { return };
    let directory = tempfile::tempdir().unwrap();
    let flags = certificates(directory.path());
    let mut broker = Server::with_workers(workers, "127.0.0.1:0", &flags, "json");
    let [listen, _] = broker.addresses();
    let mut command = Command::new(python);
    command.arg(CONVERSATION).args(["--connect", &listen, "--ca"]).arg(directory.path().join("certs/ca.pem"));
    // Its compiled modules belong beside no source.
    let output = command.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
    let (said, failed) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}\n{failed}");
    assert!(said.lines().filter(|line| line.starts_with("ok ")).count() >= 20, "{said}");
    broker.signal("TERM");
    assert_eq!(broker.end().0, Some(0));
}

#[test]
fn a_client_written_from_the_documentation_converses_with_one_worker() {
    converse(1);
}

#[test]
fn a_client_written_from_the_documentation_converses_with_two_workers() {
    converse(2);
}
