//! Settings for people to read: with their origin, as JSON, and as an example file.

use serde_json::{Map, Value, json};

use super::{
    HIDDEN, Setting,
    raw::{Entry, Origin, Raw, RawValue},
    table,
};

/// One line for each setting: key, value, origin.
pub(crate) fn as_text(raw: &Raw) -> String {
    let key_width = table::all().map(|setting| setting.key.len()).max().unwrap_or(0);
    let values: Vec<String> = raw.entries.iter().map(value_text).collect();
    let value_width = values.iter().map(|value| value.chars().count()).max().unwrap_or(0).min(40);
    let mut out = String::new();
    for (entry, value) in raw.entries.iter().zip(values) {
        let key = entry.setting.key;
        out.push_str(format!("{key:key_width$}  {value:value_width$}  {}", entry.origin).trim_end());
        out.push('\n');
    }
    out
}

fn value_text(entry: &Entry) -> String {
    match &entry.value {
        None => "(not set)".to_owned(),
        Some(_) if entry.setting.secret => HIDDEN.to_owned(),
        // Quotes only where they are needed to see the value's ends.
        Some(RawValue::One(text)) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) => text.clone(),
        Some(value) => value.to_string(),
    }
}

/// An object of one member for each setting, in the table's order: value (a string, a list, or null) and origin.
pub(crate) fn as_json(raw: &Raw) -> String {
    let members: Vec<String> = raw.entries.iter().map(|entry| format!("  {}", member(entry))).collect();
    format!("{{\n{}\n}}\n", members.join(",\n"))
}

fn member(entry: &Entry) -> String {
    let value = match &entry.value {
        None => Value::Null,
        Some(_) if entry.setting.secret => HIDDEN.into(),
        Some(RawValue::One(text)) => text.as_str().into(),
        Some(RawValue::Many(list)) => list.clone().into(),
    };
    let mut shown = Map::new();
    shown.insert("value".into(), value);
    shown.insert("origin".into(), origin_json(&entry.origin));
    format!("{}: {}", Value::from(entry.setting.key), Value::Object(shown))
}

fn origin_json(origin: &Origin) -> Value {
    match origin {
        Origin::Flag(name) => json!({ "kind": "flag", "name": name }),
        Origin::Env(name) => json!({ "kind": "env", "name": name }),
        Origin::File { path, line } => json!({ "kind": "file", "path": path.to_string_lossy(), "line": line }),
        Origin::Default => json!({ "kind": "default" }),
    }
}

/// Widest line of the example file.
const LINE_CHARS_MAX: usize = 110;

/// A configuration file that names every setting with its default, help, range, flag and variable.
pub(crate) fn example() -> String {
    let mut out = String::from(
        "# An example configuration of zonecast, the broker and the services. It names every setting with its default, switched off:\n\
         # remove the '#' before a key to set it. Made by `zonecast config print --example`.\n\
         #\n\
         # A flag counts before an environment variable, that before this file, that before the default.\n\
         # `zonecast config check --config FILE` checks a file; `zonecast config print` shows what is in force and why.\n",
    );
    let mut section = "";
    for setting in table::all() {
        out.push('\n');
        if setting.section() != section {
            section = setting.section();
            out.push_str(&format!("[{section}]\n\n"));
        }
        out.push_str(&example_entry(setting));
    }
    out
}

fn example_entry(setting: &Setting) -> String {
    let mut out = String::new();
    for line in wrapped(setting.help).chain(wrapped(&format!("Expects {}.", setting.slot.expected()))) {
        out.push_str(&format!("# {line}\n"));
    }
    out.push_str(&format!("# Flag --{}, variable {}.", setting.flag(), setting.env()));
    out.push_str(if setting.default.is_none() { " Not set by default.\n" } else { "\n" });
    let name = setting.key.rsplit('.').next().unwrap_or(setting.key);
    let value = match setting.default {
        Some(default) if setting.slot.is_numeric() => default.to_owned(),
        Some(default) => format!("\"{default}\""),
        None => format!("\"{}\"", setting.slot.value_name()),
    };
    out.push_str(&format!("#{name} = {value}\n"));
    out
}

fn wrapped(text: &str) -> impl Iterator<Item = String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is a line from the start on");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > LINE_CHARS_MAX {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.into_iter()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_example_file_is_made_from_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../zonecast.example.toml");
        let committed = std::fs::read_to_string(&path).unwrap();
        assert_eq!(committed, example(), "run: zonecast config print --example > deploy/zonecast.example.toml");
    }
}
