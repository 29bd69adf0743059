//! The TOML configuration file: which keys it sets, on which lines.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::Path,
};

use toml::de::{DeTable, DeValue};

use super::{
    nearest,
    problem::Problem,
    raw::{Origin, RawValue},
    table,
};

/// Most bytes of a configuration file: ten times what all settings with long lists need.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a file sets.
pub(super) type FileValues = BTreeMap<&'static str, (RawValue, Origin)>;

/// Reads the file. Unknown keys become problems; `None` when nothing can be said of its keys.
pub(super) fn read(path: &Path, named_by: &Origin, problems: &mut Vec<Problem>) -> Option<FileValues> {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(source) => {
            problems.push(Problem::FileUnreadable { path: path.to_owned(), origin: named_by.clone(), source });
            return None;
        }
    };
    parse(path, &text, problems)
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|length| length <= FILE_BYTES_MAX) {
        Ok(text)
    } else {
        Err(io::Error::other(format!("it is longer than {FILE_BYTES_MAX} bytes")))
    }
}

/// Like [`read`], of a text at hand.
pub(super) fn parse(path: &Path, text: &str, problems: &mut Vec<Problem>) -> Option<FileValues> {
    let mut found = Found { path, text, values: FileValues::new(), problems };
    match DeTable::parse(text) {
        Ok(root) => {
            found.walk("", root.get_ref());
            Some(found.values)
        }
        Err(error) => {
            let origin = found.origin(error.span().map_or(0, |span| span.start));
            let message = error.message().lines().collect::<Vec<_>>().join("; ");
            found.problems.push(Problem::FileSyntax { origin, message });
            None
        }
    }
}

struct Found<'a> {
    path: &'a Path,
    text: &'a str,
    values: FileValues,
    problems: &'a mut Vec<Problem>,
}

impl Found<'_> {
    fn walk(&mut self, section: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key =
                if section.is_empty() { name.get_ref().to_string() } else { format!("{section}.{}", name.get_ref()) };
            match value.get_ref() {
                DeValue::Table(inner) if !inner.is_empty() => self.walk(&key, inner),
                DeValue::Table(_) if is_section(&key) => {}
                given => self.take(key, name.span().start, given, value.span()),
            }
        }
    }

    fn take(&mut self, key: String, at: usize, value: &DeValue<'_>, span: std::ops::Range<usize>) {
        let origin = self.origin(at);
        let Some(setting) = table::all().find(|setting| setting.key == key) else {
            let nearest = nearest(&key, table::all().map(|setting| setting.key));
            // What is not a bare key may hold anything, also control characters.
            let key = if key.bytes().all(|b| b.is_ascii_graphic()) { key } else { format!("{key:?}") };
            self.problems.push(Problem::UnknownKey { key, origin, nearest });
            return;
        };
        let raw = match value {
            DeValue::Array(items) => {
                RawValue::Many(items.iter().map(|item| self.text_of(item.get_ref(), item.span())).collect())
            }
            single => RawValue::One(self.text_of(single, span)),
        };
        self.values.insert(setting.key, (raw, origin));
    }

    /// A string's content; of anything else what stands in the file, so that `0x10` is shown as `0x10`.
    fn text_of(&self, value: &DeValue<'_>, span: std::ops::Range<usize>) -> String {
        match value {
            DeValue::String(text) => text.to_string(),
            _ => self.text.get(span).unwrap_or_default().to_owned(),
        }
    }

    fn origin(&self, at: usize) -> Origin {
        let before = self.text.as_bytes().iter().take(at);
        Origin::File { path: self.path.to_owned(), line: 1 + before.filter(|byte| **byte == b'\n').count() }
    }
}

fn is_section(name: &str) -> bool {
    table::all().any(|setting| setting.section() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Option<FileValues>, Vec<String>) {
        let mut problems = Vec::new();
        let values = parse(Path::new("z.toml"), text, &mut problems);
        (values, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn values_keep_their_line_and_their_text() {
        let (values, problems) = parsed(
            "listen = \"[::]:1\"\n\n[limits]\npayload_bytes_max = 1_000\nradius_max = 1e3\n[rights]\nworlds = ['a', 'b']\n[tls]\n",
        );
        assert_eq!(problems, [""; 0]);
        let values = values.unwrap();
        let at = |line| Origin::File { path: "z.toml".into(), line };
        assert_eq!(values["listen"], (RawValue::One("[::]:1".into()), at(1)));
        assert_eq!(values["limits.payload_bytes_max"], (RawValue::One("1_000".into()), at(4)));
        assert_eq!(values["limits.radius_max"], (RawValue::One("1e3".into()), at(5)));
        assert_eq!(values["rights.worlds"], (RawValue::Many(vec!["a".into(), "b".into()]), at(7)));
    }

    #[test]
    fn unknown_keys_name_their_line_and_the_nearest_key() {
        let (_, problems) =
            parsed("listn = 1\n[limit]\nradius_max = 1\n[limits]\npayload_byte_max = 1\n[log.levels]\n");
        assert_eq!(
            problems,
            [
                "limit.radius_max (file z.toml:3): there is no such setting; the nearest one is limits.radius_max",
                "limits.payload_byte_max (file z.toml:5): there is no such setting; \
                 the nearest one is limits.payload_bytes_max",
                "listn (file z.toml:1): there is no such setting; the nearest one is listen",
                "log.levels (file z.toml:6): there is no such setting; the nearest one is log.level",
            ]
        );
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let (values, problems) = parsed("listen = 'a'\nworkers = = 2\n");
        assert!(values.is_none());
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("file z.toml:2: not valid TOML: "), "{problems:?}");
        let (values, problems) = parsed("listen = 'a'\nlisten = 'b'\n");
        assert!(values.is_none() && problems[0].contains("duplicate key"), "{problems:?}");
    }
}
