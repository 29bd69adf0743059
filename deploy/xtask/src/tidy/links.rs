//! Links between the pages of the repository resolve: the file is there, and the heading is in it.

use std::collections::BTreeMap;

use super::Finding;
use super::tree::Tree;

/// Every relative link of one Markdown page.
pub(super) fn check(path: &str, text: &str, tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in prose(text) {
        for target in targets(&line) {
            if let Some(problem) = problem(path, text, &target, tree) {
                findings.push(Finding::new(path, number, "link", format!("`{target}`: {problem}")));
            }
        }
    }
    findings
}

/// The lines outside code blocks, with their numbers and without code spans.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut fence: Option<&str> = None;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let start = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (None, None) => lines.push((number, line.split('`').step_by(2).collect::<Vec<_>>().join("`"))),
            (Some(_), _) => {}
        }
    }
    lines
}

/// What `[text](target)` and `[label]: target` point to, in one line.
fn targets(line: &str) -> Vec<String> {
    let mut targets: Vec<&str> =
        line.match_indices("](").filter_map(|(at, _)| line[at + 2..].split(')').next()).collect();
    if let Some((label, target)) = line.split_once("]: ")
        && label.starts_with('[')
        && !label.starts_with("[^")
    {
        targets.push(target);
    }
    // A title may follow the target: `[text](target "title")`.
    let bare = targets.into_iter().filter_map(|target| target.split_whitespace().next());
    bare.map(|target| target.trim_matches(['<', '>']).to_owned()).collect()
}

fn problem(path: &str, text: &str, target: &str, tree: &Tree) -> Option<&'static str> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, heading) = target.split_once('#').map_or((target, None), |(file, heading)| (file, Some(heading)));
    let place = if file.is_empty() { path.to_owned() } else { resolved(path, file) };
    if place.starts_with("..") {
        return Some("leads out of the repository");
    }
    if place != path && !tree.has(&place) {
        return Some("there is no such file");
    }
    let page = if place == path { Some(text) } else { tree.text(&place) };
    match (heading, page) {
        (Some(heading), Some(page)) if place.ends_with(".md") && !anchors(page).contains(&heading.to_owned()) => {
            Some("there is no such heading")
        }
        _ => None,
    }
}

/// The path that a link in the page at `from` means, relative to the top level; begins with `..` if it leaves that.
fn resolved(from: &str, link: &str) -> String {
    let absolute = link.strip_prefix('/');
    let mut parts: Vec<&str> = match absolute {
        Some(_) => Vec::new(),
        None => from.rsplit_once('/').map_or(Vec::new(), |(directory, _)| directory.split('/').collect()),
    };
    for part in absolute.unwrap_or(link).split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_none_or(|last| *last == "..") => parts.push(".."),
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// What can follow `#` in a link to this page: its headings, written as GitHub does.
fn anchors(page: &str) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut anchors = Vec::new();
    let mut fenced = false;
    for line in page.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        }
        let text = line.trim_start_matches('#');
        if fenced || text.len() == line.len() || !text.starts_with(' ') {
            continue;
        }
        let kept = text.trim().chars().filter(|kept| kept.is_alphanumeric() || " -_".contains(*kept));
        let anchor: String = kept.map(|kept| if kept == ' ' { '-' } else { kept }).collect();
        let anchor = anchor.to_lowercase();
        let count = seen.entry(anchor.clone()).or_default();
        anchors.push(if *count == 0 { anchor } else { format!("{anchor}-{count}") });
        *count += 1;
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::{anchors, check, resolved};
    use crate::tidy::tree::Tree;

    fn problems(text: &str) -> Vec<String> {
        let tree = Tree::of(&[("deploy/docs/limits.md", "# Limits\n\n## How many?\n"), ("README.md", "")]);
        check("deploy/README.md", text, &tree).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn links_that_resolve_are_fine() {
        let fine = [
            "[limits](docs/limits.md)",
            "[limits](docs/limits.md#how-many)",
            "[up](../README.md \"the front page\") and [docs](docs/)",
            "[from the top](/README.md)",
            "# Here\n[here](#here)",
            "[web](https://example.org/x) [mail](mailto:a@example.org)",
            "[limits]: docs/limits.md",
            "`[not](a-link.md)`",
            "```\n[not](a-link.md)\n```",
        ];
        for text in fine {
            assert_eq!(problems(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn links_that_do_not_resolve_are_found() {
        assert!(problems("[x](docs/none.md)")[0].contains("no such file"));
        assert!(problems("![x](picture.png)")[0].contains("no such file"));
        assert!(problems("[x]: none.md")[0].contains("no such file"));
        assert!(problems("[x](docs/limits.md#how-few)")[0].contains("no such heading"));
        assert!(problems("[x](#nowhere)")[0].contains("no such heading"));
        assert!(problems("[x](../../elsewhere.md)")[0].contains("out of the repository"));
        assert_eq!(problems("[a](none.md) [b](docs/limits.md) [c](gone.md)").len(), 2);
    }

    #[test]
    fn paths_are_followed_from_the_page() {
        assert_eq!(resolved("a/b/page.md", "../c.md"), "a/c.md");
        assert_eq!(resolved("page.md", "./c.md"), "c.md");
        assert_eq!(resolved("page.md", "../c.md"), "../c.md");
    }

    #[test]
    fn headings_are_written_as_github_does() {
        let page = "# What it *is*\n## `zonecast`, in short\n## Twice\n## Twice\n```\n# not one\n```\n#no\n";
        assert_eq!(anchors(page), ["what-it-is", "zonecast-in-short", "twice", "twice-1"]);
    }
}
