//! Rules on the protocol's files: what buf's STANDARD and COMMENTS categories ask, as far as it can be told line by
//! line. Needs a file laid out as ours are, one declaration to a line.

use super::Finding;

/// What encloses a line.
enum Block {
    Message,
    Oneof,
    Enum {
        /// What each of its values begins with.
        prefix: String,
    },
    Service,
    Other,
}

struct Scan<'a> {
    path: &'a str,
    line: usize,
    /// True where the line above is a comment.
    commented: bool,
    /// True inside a declaration that goes on over several lines.
    continued: bool,
    blocks: Vec<Block>,
    package_seen: bool,
    findings: Vec<Finding>,
}

/// All rules on one file.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let blocks = Vec::new();
    let mut scan =
        Scan { path, line: 0, commented: false, continued: false, blocks, package_seen: false, findings: Vec::new() };
    for (number, line) in (1..).zip(text.lines()) {
        scan.line = number;
        let code = without_comment(line).trim();
        if code.is_empty() {
            scan.commented = line.contains("//");
            continue;
        }
        if !scan.continued {
            scan.declaration(code);
        }
        scan.continued = !code.ends_with([';', '{', '}']);
        scan.commented = false;
    }
    if !scan.package_seen {
        scan.line = 0;
        scan.find("proto-package", "names no package".to_owned());
    }
    scan.findings
}

impl Scan<'_> {
    fn find(&mut self, rule: &'static str, message: String) {
        self.findings.push(Finding::new(self.path, self.line, rule, message));
    }

    fn declaration(&mut self, code: &str) {
        let mut words = code.split(|character: char| character.is_whitespace() || "{};=(".contains(character));
        let keyword = words.next().unwrap_or_default();
        let name = words.find(|word| !word.is_empty()).unwrap_or_default();
        match keyword {
            "package" => self.package(name),
            "message" => self.block(code, keyword, name, Block::Message),
            "enum" => self.block(code, keyword, name, Block::Enum { prefix: upper_snake(name) + "_" }),
            "oneof" => self.block(code, keyword, name, Block::Oneof),
            "service" => {
                self.block(code, keyword, name, Block::Service);
                if !name.ends_with("Service") {
                    self.find("proto-name", format!("service `{name}` must end in `Service`"));
                }
            }
            "rpc" => {
                self.pascal(keyword, name);
                self.comment(keyword, name);
                if code.ends_with('{') {
                    self.blocks.push(Block::Other);
                }
            }
            "syntax" | "import" | "option" | "reserved" | "extensions" => {}
            _ if code.starts_with('}') => drop(self.blocks.pop()),
            _ if code.ends_with('{') => self.blocks.push(Block::Other),
            _ => self.member(code),
        }
    }

    /// The package is the directory, so that an import says where to look, and its last part is a version.
    fn package(&mut self, package: &str) {
        self.package_seen = true;
        let directory = self.path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let expected = directory.rsplit_once("proto/").map_or(directory, |(_, below)| below).replace('/', ".");
        if package != expected {
            self.find("proto-package", format!("package `{package}`, but the directory says `{expected}`"));
        }
        let version = package.rsplit('.').next().and_then(|last| last.strip_prefix('v')).unwrap_or_default();
        if !version.starts_with(|first: char| first.is_ascii_digit()) {
            self.find("proto-package", format!("package `{package}` must end in a version, as `v1`"));
        }
    }

    fn block(&mut self, code: &str, keyword: &str, name: &str, block: Block) {
        if keyword == "oneof" {
            self.lower_snake(keyword, name);
        } else {
            self.pascal(keyword, name);
        }
        self.comment(keyword, name);
        if !code.ends_with('}') {
            self.blocks.push(block);
        }
    }

    /// A field or an enum value: the name is the last word before `=`.
    fn member(&mut self, code: &str) {
        let Some((before, after)) = code.split_once('=') else { return };
        let name = before.split_whitespace().last().unwrap_or_default().to_owned();
        let number = after.trim_start().split(|character: char| !character.is_alphanumeric()).next();
        match self.blocks.last() {
            Some(Block::Enum { prefix }) => {
                let prefix = prefix.clone();
                self.comment("value", &name);
                if !name.starts_with(&prefix) {
                    self.find("proto-name", format!("value `{name}` must begin with `{prefix}`"));
                }
                if number == Some("0") && name != format!("{prefix}UNSPECIFIED") {
                    self.find("proto-name", format!("the zero value `{name}` must be `{prefix}UNSPECIFIED`"));
                }
            }
            Some(Block::Message | Block::Oneof) => {
                self.comment("field", &name);
                self.lower_snake("field", &name);
            }
            _ => {}
        }
    }

    fn comment(&mut self, keyword: &str, name: &str) {
        if !self.commented {
            self.find("proto-comment", format!("{keyword} `{name}` has no comment above it"));
        }
    }

    fn pascal(&mut self, keyword: &str, name: &str) {
        if !name.starts_with(|first: char| first.is_ascii_uppercase()) || name.contains('_') {
            self.find("proto-name", format!("{keyword} `{name}` must be written LikeThis"));
        }
    }

    fn lower_snake(&mut self, keyword: &str, name: &str) {
        let letters = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
        let whole = name.split('_').all(|word| !word.is_empty() && word.chars().all(letters));
        if !whole || name.starts_with(|first: char| first.is_ascii_digit()) {
            self.find("proto-name", format!("{keyword} `{name}` must be written like_this"));
        }
    }
}

/// The line up to its comment; the `//` of an address in quotes begins none.
fn without_comment(line: &str) -> &str {
    let begins = line.match_indices("//").find(|(at, _)| line[..*at].matches('"').count().is_multiple_of(2));
    begins.map_or(line, |(at, _)| &line[..at])
}

/// `ErrorCode` as `ERROR_CODE`, `HTTPStatus` as `HTTP_STATUS`.
fn upper_snake(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut snake = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|before| letters.get(before));
        let after = letters.get(at + 1);
        let begins_word = letter.is_ascii_uppercase()
            && before.is_some_and(|before| {
                !before.is_ascii_uppercase() || after.is_some_and(|after| after.is_ascii_lowercase())
            });
        if begins_word {
            snake.push('_');
        }
        snake.push(letter.to_ascii_uppercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::{check, upper_snake};

    const PATH: &str = "protocol/proto/zonecast/v1/event.proto";

    const FINE: &str = r#"syntax = "proto3";

package zonecast.v1;

option go_package = "https://example.org/zonecast"; // an address

import "zonecast/v1/error.proto";

// A frame.
message Frame {
  reserved 4;
  // Exactly one.
  oneof frame {
    // A hello.
    Hello hello = 1; // first
  }
  // Names to numbers.
  map<string, uint32> by_name = 2;
  // Old.
  repeated uint32 old_ids = 3 [
    deprecated = true
  ];
  // Inside.
  enum Kind {
    // None.
    KIND_UNSPECIFIED = 0;
  }
}

// Goes.
message Goodbye {}

// Users.
service UserService {
  // Gets one.
  rpc GetUser(GetUserRequest) returns (GetUserResponse) {
    option deprecated = true;
  }
}
"#;

    fn rules(text: &str) -> Vec<&'static str> {
        check(PATH, text).iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn a_file_in_good_order_has_no_findings() {
        assert_eq!(check(PATH, FINE), []);
    }

    #[test]
    fn each_breach_is_found() {
        let breaches = [
            ("package zonecast.v1;", "package zonecast.v2;", "proto-package"),
            ("package zonecast.v1;", "", "proto-package"),
            ("// A frame.\n", "", "proto-comment"),
            ("    // A hello.\n", "", "proto-comment"),
            ("  // Old.\n", "\n", "proto-comment"),
            ("    // None.\n", "", "proto-comment"),
            ("  // Gets one.\n", "", "proto-comment"),
            ("Hello hello = 1", "Hello Hello = 1", "proto-name"),
            ("by_name", "byName", "proto-name"),
            ("old_ids", "old__ids", "proto-name"),
            ("oneof frame", "oneof Frame", "proto-name"),
            ("message Goodbye", "message good_bye", "proto-name"),
            ("KIND_UNSPECIFIED", "KIND_NONE", "proto-name"),
            ("KIND_UNSPECIFIED = 0", "OTHER = 1", "proto-name"),
            ("service UserService", "service Users", "proto-name"),
            ("rpc GetUser", "rpc getUser", "proto-name"),
        ];
        for (part, instead, rule) in breaches {
            assert!(FINE.contains(part), "{part}");
            assert_eq!(rules(&FINE.replace(part, instead)), [rule], "{part} -> {instead}");
        }
    }

    #[test]
    fn a_package_without_a_version_is_found() {
        let found = check("services/users/proto/users/users.proto", "package users;\n");
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("version"), "{}", found[0]);
    }

    #[test]
    fn enum_names_are_split_into_words() {
        assert_eq!(upper_snake("ErrorCode"), "ERROR_CODE");
        assert_eq!(upper_snake("HTTPStatus"), "HTTP_STATUS");
        assert_eq!(upper_snake("Kind"), "KIND");
    }
}
