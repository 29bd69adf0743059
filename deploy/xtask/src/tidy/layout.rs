//! Rules on where things are and what they are called.

use std::collections::BTreeSet;

use super::Finding;
use super::tree::Tree;

/// The top level, which is fixed; beside it only names that begin with a dot.
const TOP_LEVEL: [&str; 10] = [
    "Cargo.lock",
    "Cargo.toml",
    "README.md",
    "benches",
    "broker",
    "client",
    "deploy",
    "loadtest",
    "protocol",
    "services",
];

/// Names that say nothing of what is inside, so that everything ends up there.
pub(super) const EMPTY_NAMES: [&str; 7] = ["common", "helper", "helpers", "manager", "misc", "util", "utils"];

/// The top-level directory holds exactly what it should.
pub(super) fn check_top_level(tree: &Tree) -> Vec<Finding> {
    let names: BTreeSet<&str> = tree.files.iter().filter_map(|file| file.path.split('/').next()).collect();
    let unexpected = names.iter().filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(name));
    let missing = TOP_LEVEL.iter().filter(|name| !names.contains(*name));
    let unexpected = unexpected
        .map(|name| Finding::new(*name, 0, "top-level", "does not belong here; the top level is fixed"))
        .collect::<Vec<_>>();
    let missing = missing.map(|name| Finding::new(*name, 0, "top-level", "is missing from the top level"));
    unexpected.into_iter().chain(missing).collect()
}

/// No `mod.rs`, and no file or directory with an empty name.
pub(super) fn check_names(path: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if path.rsplit('/').next() == Some("mod.rs") {
        findings.push(Finding::new(path, 0, "mod-rs", "name it after its module: `foo.rs` beside `foo/`"));
    }
    for part in path.split('/') {
        let stem = part.split('.').next().unwrap_or(part);
        if EMPTY_NAMES.contains(&stem) {
            findings.push(Finding::new(path, 0, "name", format!("`{stem}` says nothing; name what it is about")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{check_names, check_top_level};
    use crate::tidy::tree::Tree;

    const WHOLE: [(&str, &str); 11] = [
        (".ci/run", ""),
        ("Cargo.lock", ""),
        ("Cargo.toml", ""),
        ("README.md", ""),
        ("benches/Cargo.toml", ""),
        ("broker/Cargo.toml", ""),
        ("client/Cargo.toml", ""),
        ("deploy/xtask/Cargo.toml", ""),
        ("loadtest/Cargo.toml", ""),
        ("protocol/Cargo.toml", ""),
        ("services/users/Cargo.toml", ""),
    ];

    #[test]
    fn the_top_level_is_exactly_the_known_one() {
        assert_eq!(check_top_level(&Tree::of(&WHOLE)), []);
        let with_more = [&WHOLE[..], &[("notes.txt", "")]].concat();
        let findings = check_top_level(&Tree::of(&with_more));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].path, "notes.txt");
        let findings = check_top_level(&Tree::of(&WHOLE[..10]));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].path, "services");
    }

    #[test]
    fn names_say_something() {
        assert_eq!(check_names("broker/src/connection/reader.rs"), []);
        assert_eq!(check_names("broker/src/utilisation.rs"), []);
        assert_eq!(check_names("broker/src/utils.rs")[0].rule, "name");
        assert_eq!(check_names("broker/src/helpers/time.rs")[0].rule, "name");
        assert_eq!(check_names("broker/src/connection/mod.rs")[0].rule, "mod-rs");
    }
}
