//! Reads what the rules are applied to: the files that git knows or would take, and cargo's dependency graph.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::graph::Graph;
use crate::process;
use crate::workspace::Workspace;

/// One file of the tree.
pub(super) struct File {
    /// Relative to the top level, with `/` between its parts.
    pub(super) path: String,
    /// The content; none where it is not UTF-8, so that only its name can be judged.
    pub(super) text: Option<String>,
}

/// All files that are committed or could be: tracked, or untracked and not ignored.
pub(super) struct Tree {
    /// In order of path.
    pub(super) files: Vec<File>,
}

impl Tree {
    /// The text of the file at this path.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path)?.text.as_deref()
    }

    /// True for a file, and for a directory with a file in it.
    pub(super) fn has(&self, path: &str) -> bool {
        self.files.iter().any(|file| {
            file.path.strip_prefix(path).is_some_and(|rest| path.is_empty() || rest.is_empty() || rest.starts_with('/'))
        })
    }

    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let file = |(path, text): &(&str, &str)| File { path: (*path).into(), text: Some((*text).into()) };
        Self { files: files.iter().map(file).collect() }
    }
}

/// Asks git for the files and reads them. A tracked file that is deleted from disk is not there.
pub(super) fn read(root: &Path) -> Result<Tree> {
    let mut git = Command::new("git");
    // Works before the first commit too: what is not tracked yet counts.
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"]);
    let listing = process::captured(&mut git).context("the files of a checkout are known to git alone")?;
    let mut files = Vec::new();
    for path in listing.split('\0').filter(|path| !path.is_empty()) {
        let place = root.join(path);
        // A symbolic link is judged where its target is.
        if !fs::symlink_metadata(&place).is_ok_and(|metadata| metadata.is_file()) {
            continue;
        }
        let bytes = fs::read(&place).with_context(|| format!("cannot read {path}"))?;
        files.push(File { path: path.to_owned(), text: String::from_utf8(bytes).ok() });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Tree { files })
}

/// Asks cargo for the dependency graph as locked, of this machine's platform: that part is downloaded already.
pub(super) fn dependencies(workspace: &Workspace) -> Result<Graph> {
    let version = process::captured(workspace.program("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let mut cargo = workspace.cargo();
    cargo.args(["metadata", "--locked", "--format-version", "1", "--all-features", "--filter-platform", host]);
    Graph::from_metadata(&process::captured(&mut cargo)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::{Tree, read};
    use crate::process;

    #[test]
    fn what_git_would_take_is_read_before_the_first_commit() {
        let place = tempfile::tempdir().unwrap();
        process::captured(Command::new("git").args(["init", "--quiet"]).arg(place.path())).unwrap();
        fs::create_dir(place.path().join("src")).unwrap();
        for (path, bytes) in [
            (".gitignore", &b"/target\n"[..]),
            ("src/a name with spaces.rs", b"//! Text.\n"),
            ("picture.png", b"\x89PNG\xff"),
            ("target", b"built"),
            ("gone", b""),
        ] {
            fs::write(place.path().join(path), bytes).unwrap();
        }
        process::captured(Command::new("git").current_dir(place.path()).args(["add", "gone"])).unwrap();
        fs::remove_file(place.path().join("gone")).unwrap();

        let tree = read(place.path()).unwrap();
        let paths: Vec<&str> = tree.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, [".gitignore", "picture.png", "src/a name with spaces.rs"]);
        assert_eq!(tree.text("src/a name with spaces.rs"), Some("//! Text.\n"));
        assert_eq!(tree.text("picture.png"), None);
    }

    #[test]
    fn directories_are_where_files_are() {
        let tree = Tree::of(&[("client/src/lib.rs", ""), ("README.md", "")]);
        assert!(tree.has("client"));
        assert!(tree.has("client/src/lib.rs"));
        assert!(tree.has(""));
        assert!(!tree.has("cli"));
        assert!(!tree.has("client/src/lib"));
        assert_eq!(tree.text("README.md"), Some(""));
        assert_eq!(tree.text("client"), None);
    }
}
