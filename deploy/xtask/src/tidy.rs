//! `cargo xtask tidy`: the house rules as a test.
//!
//! Each module holds one family of rules as functions from text to [`Finding`]s. They read no file and start no
//! program; [`tree`] does, and [`run`] and the test below put the two together. What the compiler, rustfmt or clippy
//! check already is not checked again.
//!
//! A line that must show what a rule forbids, to test that rule, ends in a marker (see [`text::SAMPLE`]); it is
//! honoured in this directory alone.

mod graph;
mod layout;
mod links;
mod manifest;
mod proto;
mod rust;
mod text;
mod tree;

use std::fmt;

use anyhow::{Result, ensure};

use self::tree::Tree;
use crate::workspace::Workspace;

/// One breach of a rule.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Finding {
    /// Where, relative to the top level.
    path: String,
    /// Line, from 1; 0 where the breach is not in a line.
    line: usize,
    /// The rule's short name.
    rule: &'static str,
    /// What is wrong, and the remedy where it is not plain.
    message: String,
}

impl Finding {
    fn new(path: impl Into<String>, line: usize, rule: &'static str, message: impl Into<String>) -> Self {
        Self { path: path.into(), line, rule, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}: {}", self.path, self.line, self.rule, self.message)
    }
}

/// Prints every breach in the tree; an error where there is one.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let (files, findings) = inspect(workspace)?;
    for finding in &findings {
        println!("{finding}");
    }
    ensure!(findings.is_empty(), "tidy: {} findings in {files} files", findings.len());
    println!("tidy: {files} files, nothing to say");
    Ok(())
}

/// The number of files seen, and all breaches in order of place.
fn inspect(workspace: &Workspace) -> Result<(usize, Vec<Finding>)> {
    let tree = tree::read(workspace.root())?;
    let mut findings = in_tree(&tree);
    findings.extend(graph::check(&tree::dependencies(workspace)?));
    findings.sort();
    findings.dedup();
    Ok((tree.files.len(), findings))
}

/// All rules that need no more than the files.
fn in_tree(tree: &Tree) -> Vec<Finding> {
    let mut findings = layout::check_top_level(tree);
    findings.extend(manifest::check_clippy(tree));
    for file in &tree.files {
        findings.extend(layout::check_names(&file.path));
        let Some(text) = &file.text else { continue };
        findings.extend(text::check(&file.path, text));
        match file.path.rsplit('.').next() {
            Some("rs") => findings.extend(rust::check(&file.path, text)),
            Some("toml") => findings.extend(manifest::check(&file.path, text)),
            Some("proto") => findings.extend(proto::check(&file.path, text)),
            Some("md") => findings.extend(links::check(&file.path, text, tree)),
            _ => {}
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{Finding, inspect};
    use crate::workspace::Workspace;

    #[test]
    fn the_tree_keeps_the_house_rules() {
        let (files, findings) = inspect(&Workspace::locate().unwrap()).unwrap();
        assert!(files > 50, "only {files} files seen");
        let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
        assert!(lines.is_empty(), "{} findings\n{}", lines.len(), lines.join("\n"));
    }

    #[test]
    fn a_finding_reads_as_a_compiler_message() {
        let finding = Finding::new("protocol/src/lib.rs", 7, "purity", "reads the clock");
        assert_eq!(finding.to_string(), "protocol/src/lib.rs:7: purity: reads the clock");
    }
}
