//! Every test that `services/SECURITY.md` names is there, and every requirement names one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// The directories of the top level that paths of the page may begin with; others are below `services`.
const TOP_LEVEL: [&str; 4] = ["broker/", "client/", "deploy/", "protocol/"];

fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR").expect("`cargo test` sets it");
    Path::new(&package).ancestors().nth(2).unwrap().to_owned()
}

/// The tests that a line names, each with its file: a file is followed by the tests that are in it.
fn named(line: &str) -> Vec<(String, String)> {
    let (mut file, mut tests) = (None, Vec::new());
    for quoted in line.split('`').skip(1).step_by(2) {
        let is_name = quoted.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match &file {
            _ if quoted.ends_with(".rs") => file = Some(quoted.to_owned()),
            Some(file) if is_name => tests.push((String::clone(file), quoted.to_owned())),
            _ => {}
        }
    }
    tests
}

#[test]
fn every_requirement_names_tests_that_are_there() {
    let page = fs::read_to_string(root().join("services/SECURITY.md")).unwrap();
    let (mut requirements, mut held) = (0, 0);
    for line in page.lines() {
        let tests = named(line);
        if line.starts_with("| ") && line.split('.').next().is_some_and(|head| head[2..].parse::<u8>().is_ok()) {
            requirements += 1;
            assert!(!tests.is_empty(), "held by no test: {line}");
        }
        for (file, test) in tests {
            let is_below = !TOP_LEVEL.iter().any(|directory| file.starts_with(directory));
            let path = root().join(if is_below { "services" } else { "" }).join(&file);
            let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(source.contains(&format!("fn {test}(")), "{file} has no test {test}");
            held += 1;
        }
    }
    assert!(requirements > 20 && held > 60, "{requirements} requirements, {held} names of tests");
}

#[test]
fn tests_belong_to_the_file_before_them() {
    let line = "| 1.2.3 | `code` | `a/b.rs`: `one`, `two` (why); `c.rs`: `three`; as `9.9` |";
    let pairs = [("a/b.rs", "one"), ("a/b.rs", "two"), ("c.rs", "three")];
    assert_eq!(named(line), pairs.map(|(file, test)| (file.to_owned(), test.to_owned())));
}
