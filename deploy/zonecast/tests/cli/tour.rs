//! What `zonecast dev` tells a newcomer to try, tried.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio},
};

use super::{python::python, services::get, text, zonecast};

const PLAYER_TOUR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../protocol/tests/python/player_tour.py");
const PASSWORD: &str = "a meadow full of flowers";

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `zonecast dev`, and what it said of where things are.
struct Dev {
    _process: Running,
    _out: BufReader<ChildStdout>,
    variables: Vec<(String, String)>,
    provider: String,
    meadow: String,
}

impl Dev {
    fn start() -> Self {
        let mut process = zonecast()
            .args(["dev", "--speed", "1", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--services-listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let process = Running(process);
        let mut said = String::new();
        while !said.contains("Ctrl-C ends it") {
            assert!(out.read_line(&mut said).unwrap() > 0, "it ended: {said}");
        }
        let exported = said.lines().filter_map(|line| line.trim().strip_prefix("export "));
        let pairs = exported.flat_map(str::split_whitespace).filter_map(|pair| pair.split_once('='));
        let variables = pairs.filter(|(name, _)| *name != "ZONECAST_TOKEN");
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let between = |before: &str, after: &str| {
            let rest = said.split_once(before).unwrap().1;
            rest.split_once(after).unwrap().0.to_owned()
        };
        let (provider, meadow) = (between("curl -s http://", "/token/"), between("--credential ", " "));
        Self { _process: process, _out: out, variables, provider, meadow }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = zonecast();
        command.args(arguments).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn run(&self, token: Option<&str>, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        command.envs(token.map(|token| ("ZONECAST_TOKEN", token))).output().unwrap()
    }

    /// What a call answers, or a field of it.
    fn call(&self, token: Option<&str>, method: &str, request: &str, field: &str) -> String {
        let output = self.run(token, &["call", method, request, "--field", field]);
        assert!(output.status.success(), "{method}: {}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    }

    fn refused(&self, token: Option<&str>, arguments: &[&str]) -> String {
        let output = self.run(token, arguments);
        assert!(!output.status.success(), "{arguments:?}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    fn game_server(&self) -> (Running, BufReader<ChildStdout>) {
        let arguments =
            ["game-server", "--name", "meadow", "--credential", &self.meadow, "--zone", "meadow:0,0,1000,1000"];
        let mut child = self.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, mut said) = (child.stdout.take().unwrap(), BufReader::new(child.stderr.take().unwrap()));
        let child = Running(child);
        wait_for(&mut said, "meadow simulates");
        // Read to its end elsewhere, so that whoever writes does not wait.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        (child, BufReader::new(out))
    }
}

fn wait_for(said: &mut BufReader<ChildStderr>, words: &str) {
    let mut line = String::new();
    while !line.contains(words) {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it ended before it said {words:?}");
    }
}

#[test]
fn a_newcomer_gets_from_a_name_to_an_event_that_reaches_a_game_server() {
    let dev = Dev::start();
    let sign_up = format!(r#"{{"name": "zoe", "password": "{PASSWORD}"}}"#);
    let user = dev.call(None, "auth/Register", &sign_up, "user_id");
    let token = dev.call(None, "auth/LogIn", &sign_up, "tokens.access_token");
    let token = Some(token.as_str());

    // An identity of another provider, which then is a way in.
    let proof = |subject: &str| {
        let nonce = dev.call(None, "auth/BeginExternal", r#"{"provider": "dev"}"#, "nonce");
        let answer = get(&dev.provider, &format!("/token/{subject}/{nonce}"));
        let identity = answer.split_once("\r\n\r\n").unwrap().1.trim().to_owned();
        format!(r#"{{"proof": {{"provider": "dev", "token": "{identity}", "nonce": "{nonce}"}}}}"#)
    };
    let link = proof("zoe-elsewhere");
    assert_eq!(dev.call(token, "auth/LinkIdentity", &link, "identity.subject"), "zoe-elsewhere");
    let again = dev.refused(token, &["call", "auth/LinkIdentity", &link]);
    assert!(again.contains("nonce"), "a nonce serves once: {again}");
    assert_eq!(dev.call(None, "auth/LogInExternal", &proof("zoe-elsewhere"), "user_id"), user);

    let create = r#"{"world": "meadow", "name": "Zoe"}"#;
    let character = dev.call(token, "characters/CreateCharacter", create, "character.id");
    let spawn = format!(r#"{{"characterId": "{character}"}}"#);
    assert!(dev.refused(token, &["call", "directory/Spawn", &spawn]).contains("UNAVAILABLE"));
    let (server, mut heard) = dev.game_server();
    assert_eq!(dev.call(token, "directory/Spawn", &spawn, "server"), "meadow");
    assert!(dev.refused(None, &["call", "directory/Spawn", &spawn]).contains("UNAUTHENTICATED"));

    // An event reaches it only with a token that permits that place.
    let credential = std::fs::read_to_string(&dev.meadow).unwrap();
    let own = dev.call(None, "auth/IssueToken", &credential, "access_token");
    let publish = |at: &'static str| {
        ["pub", "--client-id", "meadow.spark", "--world", "meadow", "--at", at, "--radius", "5", "it burns"]
    };
    for nobody in [None, token] {
        let refused = dev.refused(nobody, &publish("10,10"));
        assert!(refused.contains("UNAUTHENTICATED"), "{refused}");
    }
    let outside = dev.refused(Some(&own), &publish("2000,10"));
    assert!(outside.contains("publish.within"), "{outside}");
    let inside = dev.run(Some(&own), &publish("10,10"));
    assert!(text(&inside.stdout).contains("reached 1 session"), "{}", text(&inside.stderr));
    let mut event = String::new();
    heard.read_line(&mut event).unwrap();
    assert!(event.contains("it burns"), "{event}");
    drop(server);
}

#[test]
fn a_player_in_another_language_takes_the_tour() {
    let Some(python) = python() else { return };
    let dev = Dev::start();
    let variable = |name: &str| dev.variables.iter().find(|(known, _)| known == name).unwrap().1.clone();
    let (_server, _heard) = dev.game_server();
    let output = Command::new(python)
        .arg(Path::new(PLAYER_TOUR))
        .args(["--connect", &variable("ZONECAST_SERVICES"), "--ca", &variable("ZONECAST_CA")])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let (said, failed) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}\n{failed}");
    assert_eq!(said.lines().filter(|line| line.starts_with("ok ")).count(), 5, "{said}");
}
