//! The binary as its users meet it: what it prints, where, and with which exit code.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a helper fails the test, a test that cannot run says so")]

mod broker;
mod cert;
mod certificates;
mod changes;
mod client;
mod config;
mod credentials;
mod dev;
mod loadtest;
mod python;
mod reload;
mod replay;
mod server;
mod services;
mod tokens;
mod tour;
mod try_it;
mod usage;

use std::{
    path::Path,
    process::{Command, Output},
};

/// The binary with no environment but what a test adds: a variable of the developer's must not change the outcome.
fn zonecast() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zonecast"));
    command.env_clear();
    command
}

fn run(arguments: &[&str]) -> Output {
    zonecast().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Makes certificates in `directory/certs`, and gives the flags with which a broker uses them.
fn certificates(directory: &Path) -> [String; 4] {
    let out = directory.join("certs");
    let made = zonecast().args(["cert", "--client", "shard-1", "--out"]).arg(&out).output().unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    let path = |file: &str| out.join(file).to_str().unwrap().to_owned();
    ["--tls-certificate".into(), path("server.pem"), "--tls-key".into(), path("server.key")]
}
