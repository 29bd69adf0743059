//! Reads a Containerfile: its instructions, by stage.

use crate::read;

/// One stage, from a `FROM` to the next.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The image that it begins with, or the name of an earlier stage.
    pub(crate) image: String,
    /// What follows `AS`.
    pub(crate) name: Option<String>,
    /// Keyword and the rest of the line, continued lines joined.
    instructions: Vec<(String, String)>,
}

impl Stage {
    /// What follows each instruction of this keyword.
    pub(crate) fn all(&self, keyword: &str) -> Vec<&str> {
        self.instructions.iter().filter(|(known, _)| known == keyword).map(|(_, rest)| rest.as_str()).collect()
    }

    /// What follows the one instruction of this keyword.
    pub(crate) fn one(&self, keyword: &str) -> &str {
        let all = self.all(keyword);
        assert_eq!(all.len(), 1, "{keyword} in the stage of {}: {all:?}", self.image);
        all[0]
    }

    /// The pairs of all instructions of this keyword: `ENV` or `LABEL`.
    pub(crate) fn pairs(&self, keyword: &str) -> Vec<(String, String)> {
        self.all(keyword).into_iter().flat_map(pairs).collect()
    }
}

/// The stages of the image, in order.
pub(crate) fn stages() -> Vec<Stage> {
    parsed(&read("deploy/container/Containerfile"))
}

fn parsed(text: &str) -> Vec<Stage> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect();
    let mut stages: Vec<Stage> = Vec::new();
    for line in lines.join("\n").replace("\\\n", " ").lines().filter(|line| !line.is_empty()) {
        let (keyword, rest) = line.split_once(' ').unwrap_or_else(|| panic!("not understood: {line}"));
        if keyword == "FROM" {
            let words: Vec<&str> = rest.split_whitespace().collect();
            let name = words.get(2).map(|name| (*name).to_owned());
            assert!(words.len() == 1 || (words.len() == 3 && words[1] == "AS"), "not understood: {line}");
            stages.push(Stage { image: words[0].to_owned(), name, instructions: Vec::new() });
        } else if let Some(stage) = stages.last_mut() {
            stage.instructions.push((keyword.to_owned(), rest.trim().to_owned()));
        }
    }
    stages
}

/// Splits `a=1 b="two words"`.
fn pairs(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = text.trim();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or_else(|| panic!("no closing quote: {text}")),
            None => after.split_once(' ').unwrap_or((after, "")),
        };
        pairs.push((key.to_owned(), value.to_owned()));
        rest = left.trim_start();
    }
    assert!(rest.is_empty(), "not understood: {text}");
    pairs
}

#[test]
fn stages_and_continued_lines_are_understood() {
    let stages =
        parsed("# text\nFROM a:1 AS build\nRUN one \\\n    # between\n    two\n\nFROM b:2\nENV A=1 B=\"x y\"\n");
    assert_eq!((stages[0].image.as_str(), stages[0].name.as_deref()), ("a:1", Some("build")));
    assert_eq!(stages[0].one("RUN").split_whitespace().collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!((stages[1].image.as_str(), &stages[1].name), ("b:2", &None));
    assert_eq!(stages[1].pairs("ENV"), [("A".into(), "1".into()), ("B".into(), "x y".into())]);
}
