//! Rules on the text of any file: white space, and words that promise work instead of doing it.

use super::Finding;

/// Ends a line that shows what a rule forbids, in the sources of the rules alone.
pub(super) const SAMPLE: &str = "// tidy:sample";

/// Where [`SAMPLE`] counts.
const SAMPLE_PLACE: &str = "deploy/xtask/src/tidy/";

/// Files whose white space is ours to keep.
const WRITTEN_BY_US: [&str; 9] = [".rs", ".proto", ".md", ".toml", ".py", ".yaml", ".yml", ".sql", ".ci/run"];

/// Made by a program, so its words are not ours.
const GENERATED: [&str; 1] = ["Cargo.lock"];

/// Forbidden in every text file.
const PROMISES: [&str; 3] = [
    "TODO",  // tidy:sample
    "FIXME", // tidy:sample
    "XXX",   // tidy:sample
];

/// Forbidden in Rust, with the reason.
const CODE: [(&str, &str); 11] = [
    ("todo!", "write it or leave it out"),                  // tidy:sample
    ("unimplemented!", "write it or leave it out"),         // tidy:sample
    ("dbg!", "was for the time of writing"),                // tidy:sample
    ("#[ignore", "a test that does not run tests nothing"), // tidy:sample
    ("```ignore", "an example that is not compiled rots; use `no_run` or `text`"), // tidy:sample
    ("```rust,ignore", "an example that is not compiled rots; use `no_run` or `text`"), // tidy:sample
    ("allow(dead_code)", "take the code away"),             // tidy:sample
    ("expect(dead_code", "take the code away"),             // tidy:sample
    ("allow(clippy::too_many_lines", "split the function"), // tidy:sample
    ("expect(clippy::too_many_lines", "split the function"), // tidy:sample
    ("thread::sleep", "wait for a signal, not for time"),   // tidy:sample
];

/// White space and words.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if WRITTEN_BY_US.iter().any(|end| path.ends_with(end)) {
        findings.extend(white_space(path, text));
    }
    if !GENERATED.contains(&path) {
        findings.extend(words(path, text));
    }
    findings
}

fn white_space(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.split('\n')) {
        if line.ends_with(char::is_whitespace) {
            findings.push(Finding::new(path, number, "white-space", "white space at the end of the line"));
        }
        if line.contains('\t') {
            findings.push(Finding::new(path, number, "white-space", "a tab; indent with spaces"));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        let last = text.split('\n').count();
        findings.push(Finding::new(path, last, "white-space", "the file does not end with a line feed"));
    }
    findings
}

fn words(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if path.starts_with(SAMPLE_PLACE) && line.ends_with(SAMPLE) {
            continue;
        }
        for word in PROMISES {
            if has_word(line, word) {
                let message = format!("`{word}`: do it, or say in an issue why not yet");
                findings.push(Finding::new(path, number, "unfinished", message));
            }
        }
        if !path.ends_with(".rs") {
            continue;
        }
        for (word, why) in CODE {
            if has_word(line, word) {
                findings.push(Finding::new(path, number, "forbidden", format!("`{word}`: {why}")));
            }
        }
    }
    findings
}

/// True where the word stands in the line and is not a part of a longer name.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    let part_of_name = |character: char| character.is_alphanumeric() || character == '_';
    let edges = (word.starts_with(part_of_name), word.ends_with(part_of_name));
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].ends_with(part_of_name);
        let after = line[at + word.len()..].starts_with(part_of_name);
        !(edges.0 && before || edges.1 && after)
    })
}

#[cfg(test)]
mod tests {
    use super::{check, has_word};

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        check(path, text).iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn white_space_is_kept_clean_in_what_we_write() {
        assert_eq!(rules("client/src/lib.rs", "//! Fine.\n"), [""; 0]);
        assert_eq!(rules("client/src/lib.rs", "//! Not fine. \n"), ["white-space"]);
        assert_eq!(rules("client/src/lib.rs", "\tlet x;\n"), ["white-space"]);
        assert_eq!(rules("README.md", "carriage return\r\n"), ["white-space"]);
        assert_eq!(rules("README.md", "no end"), ["white-space"]);
        assert_eq!(rules("README.md", ""), [""; 0]);
        assert_eq!(rules("deploy/captures/some.json", "\t{} "), [""; 0]);
    }

    #[test]
    fn promises_are_found_everywhere() {
        assert_eq!(rules("README.md", "TODO: more\n"), ["unfinished"]); // tidy:sample
        assert_eq!(rules("deploy/Makefile", "x: # FIXME\n"), ["unfinished"]); // tidy:sample
        assert_eq!(rules("protocol/src/lib.rs", "// XXX\n"), ["unfinished"]); // tidy:sample
        assert_eq!(rules("README.md", "mktemp /tmp/run.XXXXXX\n"), [""; 0]);
        assert_eq!(rules("Cargo.lock", "TODO\n"), [""; 0]); // tidy:sample
    }

    #[test]
    fn code_that_hides_work_is_found_in_rust() {
        let breaches = [
            "    todo!()\n",                             // tidy:sample
            "    unimplemented!(\"later\")\n",           // tidy:sample
            "    dbg!(x);\n",                            // tidy:sample
            "#[ignore = \"slow\"]\n",                    // tidy:sample
            "/// ```ignore\n",                           // tidy:sample
            "#[allow(dead_code)]\n",                     // tidy:sample
            "#[expect(dead_code, reason = \"soon\")]\n", // tidy:sample
            "#[allow(clippy::too_many_lines)]\n",        // tidy:sample
            "    std::thread::sleep(second);\n",         // tidy:sample
        ];
        for line in breaches {
            assert_eq!(rules("broker/src/lib.rs", line), ["forbidden"], "{line}");
        }
        assert_eq!(rules("Cargo.toml", "todo!\n"), [""; 0]); // tidy:sample
        assert_eq!(rules("broker/src/lib.rs", "fn mastodon() {}\n"), [""; 0]);
    }

    #[test]
    fn a_sample_is_one_only_among_the_rules() {
        let line = "dbg!(x); // tidy:sample\n"; // tidy:sample
        assert_eq!(rules("deploy/xtask/src/tidy/text.rs", line), [""; 0]);
        assert_eq!(rules("broker/src/lib.rs", line), ["forbidden"]);
    }

    #[test]
    fn words_end_where_names_end() {
        assert!(has_word("a thing", "thing"));
        assert!(!has_word("something", "thing"));
        assert!(!has_word("things", "thing"));
        assert!(has_word("std::fs::read", "std::fs"));
        assert!(!has_word("std::fsync", "std::fs"));
    }
}
