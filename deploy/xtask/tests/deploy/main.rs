//! What ships around the binary agrees with it: the container, the Kubernetes manifests and the dashboard.
//!
//! Nothing here builds an image or talks to a cluster. What can be known without either is checked: that names, ports,
//! users, times and settings are the same wherever they are written down, and that Kubernetes knows every field.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod container;
mod dashboard;
mod instructions;
mod manifests;
mod pod;
mod schemas;
mod settings;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// The top-level directory.
fn root() -> PathBuf {
    // Of this run: the directory at compile time is another checkout's where two share a target directory.
    let package = env::var_os("CARGO_MANIFEST_DIR").expect("`cargo test` sets it");
    Path::new(&package).ancestors().nth(2).unwrap().to_owned()
}

/// The text of a file, by its path from the top level.
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The workspace's manifest.
fn workspace() -> toml::Table {
    read("Cargo.toml").parse().unwrap()
}

/// The version that the binary has, and so the image.
fn version() -> String {
    workspace()["workspace"]["package"]["version"].as_str().unwrap().to_owned()
}

/// The seconds in a line `const NAME: Duration = Duration::from_secs(N);` of a source.
fn seconds(path: &str, name: &str) -> u64 {
    let source = read(path);
    let line = source.lines().find(|line| line.contains(&format!("const {name}: Duration"))).unwrap_or_else(|| {
        panic!("{path} has no constant {name} any more: find out what these tests should read in its place")
    });
    line.split("from_secs(").nth(1).unwrap().split(')').next().unwrap().parse().unwrap()
}
