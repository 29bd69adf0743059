//! Rules on Rust sources: length, opening words, module names, and the purity of the crates that promise it.

use super::Finding;
use super::layout::EMPTY_NAMES;
use super::text::has_word;

/// Lines that a source may have.
const LINES_MAX: usize = 400;

/// Lines that a source in [`LONG`] may have.
const LINES_MAX_EVER: usize = 450;

/// Sources that are better in one piece, each with the reason.
const LONG: [(&str, &str); 0] = [];

/// Crates whose time and input are arguments, so that every run of them can be repeated.
const PURE: [&str; 2] = ["protocol/src/", "broker/core/src/"];

/// What a pure crate does not touch.
const IMPURE: [(&str, &str); 5] = [
    ("Instant::now", "reads the clock; take the time as an argument"),
    ("SystemTime::now", "reads the clock; take the time as an argument"),
    (".elapsed()", "reads the clock; take the time as an argument"),
    ("std::fs", "touches files; take the content as an argument"),
    ("std::net", "touches the network; that is the shell's part"),
];

/// All rules on one source.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = length(path, text, &LONG);
    if (path.ends_with("src/lib.rs") || path.ends_with("src/main.rs")) && !text.starts_with("//!") {
        findings.push(Finding::new(path, 1, "opening", "open with `//!`: what the crate does, and does not"));
    }
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(name) = declared_module(line).filter(|name| EMPTY_NAMES.contains(name)) {
            findings.push(Finding::new(path, number, "name", format!("module `{name}` says nothing")));
        }
    }
    if PURE.iter().any(|place| path.starts_with(place)) {
        findings.extend(purity(path, text));
    }
    findings
}

fn length(path: &str, text: &str, long: &[(&str, &str)]) -> Vec<Finding> {
    let lines = text.lines().count();
    let excepted = long.iter().any(|(known, _)| *known == path);
    let message = match (excepted, lines) {
        (true, ..=LINES_MAX) => "is short again; take it off the list of long files".to_owned(),
        (true, ..=LINES_MAX_EVER) | (false, ..=LINES_MAX) => return Vec::new(),
        (true, _) => format!("{lines} lines; {LINES_MAX_EVER} at most even for a listed file; split it"),
        (false, _) => format!("{lines} lines; {LINES_MAX} at most; split it by what its parts are about"),
    };
    vec![Finding::new(path, lines, "file-length", message)]
}

/// The name in `mod name;` or `pub mod name {`.
fn declared_module(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let declaration = match line.strip_prefix("pub") {
        None => line,
        Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1.trim_start(),
        Some(rest) => rest.trim_start(),
    };
    let name = declaration.strip_prefix("mod ")?;
    Some(name.trim_end_matches([';', '{', ' ', '}']))
}

fn purity(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let code = line.split("//").next().unwrap_or(line);
        for (word, why) in IMPURE {
            if has_word(code, word) {
                findings.push(Finding::new(path, number, "purity", format!("`{word}` {why}")));
            }
        }
        for module in ["fs", "net"] {
            if imports_from_std(code, module) {
                findings.push(Finding::new(path, number, "purity", format!("imports `std::{module}`")));
            }
        }
    }
    findings
}

/// True for `use std::{..., module, ...}`, which names the module without the `std::` before it.
fn imports_from_std(code: &str, module: &str) -> bool {
    let Some((_, group)) = code.split_once("std::{") else { return false };
    let mut depth = 0_u32;
    let mut item = String::new();
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                if item.split("::").next().map(str::trim) == Some(module) {
                    return true;
                }
                item.clear();
            }
            '}' => depth -= 1,
            _ if depth == 0 => item.push(character),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{LINES_MAX, LINES_MAX_EVER, check, declared_module, length};

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        check(path, text).iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn long_files_are_found() {
        let listed = [("broker/src/long.rs", "one table")];
        let breaches = |path, lines| length(path, &"x\n".repeat(lines), &listed).len();
        assert_eq!(breaches("broker/src/short.rs", LINES_MAX), 0);
        assert_eq!(breaches("broker/src/short.rs", LINES_MAX + 1), 1);
        assert_eq!(breaches("broker/src/long.rs", LINES_MAX), 1);
        assert_eq!(breaches("broker/src/long.rs", LINES_MAX_EVER), 0);
        assert_eq!(breaches("broker/src/long.rs", LINES_MAX_EVER + 1), 1);
    }

    #[test]
    fn a_crate_opens_with_what_it_is() {
        assert_eq!(rules("client/src/lib.rs", "//! The client.\n"), [""; 0]);
        assert_eq!(rules("client/src/lib.rs", "use std::io;\n"), ["opening"]);
        assert_eq!(rules("deploy/zonecast/src/main.rs", ""), ["opening"]);
        assert_eq!(rules("client/src/publisher.rs", "use std::io;\n"), [""; 0]);
    }

    #[test]
    fn modules_inside_a_file_have_names_too() {
        assert_eq!(declared_module("    pub(crate) mod lanes;"), Some("lanes"));
        assert_eq!(declared_module("pub mod lanes {"), Some("lanes"));
        assert_eq!(declared_module("modest();"), None);
        assert_eq!(rules("client/src/publisher.rs", "mod utils {\n"), ["name"]);
        assert_eq!(rules("client/src/publisher.rs", "mod tests {\n"), [""; 0]);
    }

    #[test]
    fn pure_crates_touch_nothing() {
        let breaches = [
            "let now = std::time::Instant::now();\n",
            "let now = SystemTime::now();\n",
            "let age = born.elapsed();\n",
            "use std::fs::File;\n",
            "fn connect(to: std::net::SocketAddr) {}\n",
            "use std::{collections::BTreeMap, fs};\n",
            "use std::{io::{self, Read}, net::IpAddr};\n",
        ];
        for line in breaches {
            assert_eq!(rules("protocol/src/codec.rs", line), ["purity"], "{line}");
            assert_eq!(rules("broker/core/src/router.rs", line), ["purity"], "{line}");
            assert_eq!(rules("broker/src/config.rs", line), [""; 0], "{line}");
        }
        let fine =
            ["// Instant::now() is the caller's\n", "use std::{fmt, io::{fs, net}};\n", "use std::time::Duration;\n"];
        for line in fine {
            assert_eq!(rules("protocol/src/codec.rs", line), [""; 0], "{line}");
        }
    }
}
