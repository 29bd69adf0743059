//! `zonecast sub` and `zonecast pub` against a broker in a process of its own: three terminals.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, Stdio},
};

use serde_json::Value;

use super::{certificates, server::Server, text, zonecast};

struct Terminals {
    _directory: tempfile::TempDir,
    broker: Server,
    listen: String,
    ca: PathBuf,
}

impl Terminals {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let flags = certificates(directory.path());
        let mut broker = Server::start("127.0.0.1:0", &flags, "json");
        let [listen, _] = broker.addresses();
        let ca = directory.path().join("certs/ca.pem");
        Self { _directory: directory, broker, listen, ca }
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = zonecast();
        command.args(arguments).env("ZONECAST_CONNECT", &self.listen).env("ZONECAST_CA", &self.ca);
        command
    }

    /// Starts `sub` and returns when its subscriptions are in force.
    fn sub(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(&["sub"]);
        let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut told = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while line != "subscribed\n" {
            line.clear();
            assert!(told.read_line(&mut line).unwrap() > 0, "it ended before it subscribed");
        }
        child
    }

    fn publish(&self, arguments: &[&str]) -> String {
        let output = self.command(&["pub"]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    }
}

fn printed(mut sub: Child) -> String {
    let mut out = String::new();
    sub.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert!(sub.wait().unwrap().success());
    out
}

#[test]
fn an_event_goes_from_one_terminal_to_another() {
    let terminals = Terminals::new();
    let zone = ["--zone", "earth:0,0,100,100", "--zone", "earth:-50,-50,-1,-1"];
    let plain = terminals.sub(&[&zone[..], &["--count", "2"]].concat());
    let as_json = terminals.sub(&[&zone[..], &["--count", "1", "--json", "--kind", "fire"]].concat());
    let at = |at: &str, kind: &str, payload: &str| {
        terminals.publish(&["--world", "earth", "--at", at, "--radius", "5", "--kind", kind, payload])
    };
    assert_eq!(at("50,50", "explosion", "boom"), "reached 1 session\n", "the other one wants fires only");
    assert_eq!(at("-10,-10", "fire", "line\n\u{1b}[2Jtwo"), "reached 2 sessions\n");
    let nobody = at("500,500", "fire", "unseen");
    assert!(nobody.starts_with("reached 0 sessions: nobody owns that place"), "{nobody}");
    let lines = printed(plain);
    assert_eq!(lines, "earth (50, 50) r 5 explosion: boom\nearth (-10, -10) r 5 fire: line\\n\\u{1b}[2Jtwo\n");
    let event: Value = serde_json::from_str(&printed(as_json)).unwrap();
    assert_eq!((&event["world"], &event["x"], &event["kind"]), (&"earth".into(), &(-10.0).into(), &"fire".into()));
    assert_eq!(event["payload"], "line\n\u{1b}[2Jtwo");
    terminals.broker.signal("TERM");
    assert_eq!(terminals.broker.end().0, Some(0));
}

#[test]
fn topics_reach_who_listens_and_a_payload_may_come_from_standard_input() {
    let terminals = Terminals::new();
    let nobody = terminals.publish(&["--topic", "users.created", "early"]);
    assert_eq!(nobody, "reached 0 sessions: nobody listens to users.created\n");
    let sub = terminals.sub(&["--topic", "users.*", "--topic", "other.>", "--count", "1"]);
    let mut publish = terminals.command(&["pub", "--topic", "users.created", "-"]);
    let mut child = publish.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"{\"id\": 7}").unwrap();
    assert_eq!(text(&child.wait_with_output().unwrap().stdout), "reached 1 session\n");
    assert_eq!(printed(sub), "users.created: {\"id\": 7}\n");
}

#[test]
fn what_is_wrong_is_one_clear_line() {
    let terminals = Terminals::new();
    for (arguments, word) in [
        (vec!["pub", "--topic", "a", "--ca", "/no/such/ca.pem"], "/no/such/ca.pem"),
        (vec!["pub", "--world", "earth", "--at", "0,0", "--radius", "2e6"], "radius_max"),
    ] {
        let output = terminals.command(&arguments).output().unwrap();
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.starts_with("error: ") && told.contains(word) && told.lines().count() == 1, "{told}");
    }
    let output = zonecast().args(["pub", "--topic", "a"]).output().unwrap();
    let told = text(&output.stderr);
    assert!(told.contains("--ca") && told.contains("zonecast cert"), "{told}");
}
