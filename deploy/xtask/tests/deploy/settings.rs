//! The settings, read from the example configuration: a test of `zonecast` keeps that equal to the table of
//! settings, so names, defaults and what is accepted are the broker's own words.

use std::{net::SocketAddr, ops::RangeInclusive};

use crate::read;

/// The example, relative to the top level.
const EXAMPLE: &str = "deploy/zonecast.example.toml";

/// One setting, as the example describes it.
#[derive(Debug)]
pub(crate) struct Setting {
    /// With its section: `limits.radius_max`.
    key: String,
    /// The environment variable: `ZONECAST_LIMITS_RADIUS_MAX`.
    pub(crate) variable: String,
    /// The default, without quotes.
    default: String,
    /// The end of the sentence "Expects …".
    expects: String,
}

/// All settings there are.
pub(crate) fn all() -> Vec<Setting> {
    let settings = parsed(&read(EXAMPLE));
    assert!(settings.len() > 20, "only {} settings were found in {EXAMPLE}", settings.len());
    settings
}

/// The default of one setting.
pub(crate) fn default(key: &str) -> String {
    let setting = all().into_iter().find(|setting| setting.key == key);
    setting.unwrap_or_else(|| panic!("there is no setting {key}")).default
}

/// Fails unless the variable is a setting's and the broker would accept the value.
pub(crate) fn assert_accepted(settings: &[Setting], variable: &str, value: &str) {
    let setting = settings.iter().find(|setting| setting.variable == variable);
    let setting = setting.unwrap_or_else(|| panic!("{variable} is no setting"));
    assert!(accepts(&setting.expects, value), "{variable}={value:?}: expected is {}", setting.expects);
}

/// The port of an address such as `0.0.0.0:4433`.
pub(crate) fn port(address: &str) -> u16 {
    address.parse::<SocketAddr>().unwrap_or_else(|_| panic!("no address and port: {address}")).port()
}

fn parsed(example: &str) -> Vec<Setting> {
    let (mut section, mut words, mut settings) = (String::new(), String::new(), Vec::new());
    for line in example.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            words = format!("{words}{comment} ");
        } else if let Some((key, value)) = line.strip_prefix('#').and_then(|rest| rest.split_once(" = ")) {
            let between = |start: &str, end: &str| {
                let found = words.split_once(start).and_then(|(_, rest)| rest.split_once(end));
                found.unwrap_or_else(|| panic!("{key}: no {start:?} in {words:?}")).0.to_owned()
            };
            settings.push(Setting {
                key: format!("{section}{key}"),
                variable: between(", variable ", ". "),
                default: value.trim_matches('"').to_owned(),
                expects: between("Expects ", ". Flag --"),
            });
        } else {
            words.clear();
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = format!("{name}.");
            }
        }
    }
    settings
}

/// Whether a value is what a setting expects. An expectation that is not understood fails the test.
fn accepts(expects: &str, value: &str) -> bool {
    if let Some((plain, words)) = expects.split_once(", or '") {
        let word = words.split('\'').next().unwrap();
        return value == word || accepts(plain, value);
    }
    if expects.starts_with("an IP address and port") {
        return value.parse::<SocketAddr>().is_ok();
    }
    for kind in ["a whole number", "whole milliseconds", "a number"] {
        if let Some(range) = expects.strip_prefix(kind).and_then(|rest| rest.strip_prefix(" from ")) {
            let is_whole = kind == "a number" || value.bytes().all(|byte| byte.is_ascii_digit());
            return is_whole && value.parse::<f64>().is_ok_and(|number| bounds(range).contains(&number));
        }
    }
    if expects == "the path of a file" {
        // A relative one would depend on the image's working directory.
        return value.starts_with('/') && !value.ends_with('/');
    }
    if let Some(words) = expects.strip_prefix("one of ") {
        return words.split(", ").any(|word| word == value);
    }
    if let Some(levels) = expects.strip_prefix("a level (") {
        return levels.split(')').next().unwrap().split(", ").any(|level| level == value);
    }
    if expects.starts_with("'*' for any ") {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        return value == "*" || value.split(',').all(|name| (1..=64).contains(&name.len()) && name.bytes().all(fits));
    }
    if expects.starts_with("sqlite:FILE, or postgres://") {
        return ["sqlite:/", "postgres://"].iter().any(|scheme| value.starts_with(scheme));
    }
    if expects.starts_with("hosts with ports ") {
        let fits = |address: &str| {
            address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        return value.split(',').all(fits);
    }
    if expects.starts_with("a text without spaces") {
        return !value.is_empty() && !value.contains(char::is_whitespace);
    }
    if expects.starts_with("a client id") {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        return (1..=64).contains(&value.len()) && value.bytes().all(fits);
    }
    if expects.starts_with("a project id") {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let begins = value.starts_with(|first: char| first.is_ascii_lowercase());
        return (6..=30).contains(&value.len()) && begins && value.bytes().all(fits);
    }
    panic!("these tests do not understand what is expected: {expects}")
}

fn bounds(range: &str) -> RangeInclusive<f64> {
    let (min, max) = range.split_once(" to ").unwrap();
    min.parse().unwrap()..=max.parse().unwrap()
}

#[test]
fn the_example_is_read_as_it_is_meant() {
    assert_eq!(default("listen"), "127.0.0.1:4433");
    assert_eq!(default("limits.payload_bytes_max"), "1_048_576");
    let settings = all();
    for setting in &settings {
        assert_eq!(setting.variable, format!("ZONECAST_{}", setting.key.replace('.', "_").to_uppercase()));
        // Whatever is expected, it is understood.
        assert!(!accepts(&setting.expects, ""), "{} accepts nothing at all", setting.key);
    }
}

#[test]
fn what_the_broker_would_refuse_is_refused_here() {
    let settings = all();
    for (variable, good, bad) in [
        ("ZONECAST_LISTEN", "0.0.0.0:4433", "0.0.0.0"),
        ("ZONECAST_ADMIN_LISTEN", "off", "on"),
        ("ZONECAST_WORKERS", "auto", "0"),
        ("ZONECAST_SHUTDOWN_GRACE_MS", "10000", "10s"),
        ("ZONECAST_TLS_KEY", "/etc/zonecast/tls/tls.key", "tls.key"),
        ("ZONECAST_RIGHTS_WORLDS", "earth,mars", "earth,"),
        ("ZONECAST_LIMITS_RADIUS_MAX", "0.5", "-1"),
        ("ZONECAST_LOG_FORMAT", "json", "xml"),
        ("ZONECAST_LOG_LEVEL", "info", "loud"),
    ] {
        assert_accepted(&settings, variable, good);
        let refusal = std::panic::catch_unwind(|| assert_accepted(&settings, variable, bad));
        assert!(refusal.is_err(), "{variable}={bad}");
    }
    assert!(std::panic::catch_unwind(|| assert_accepted(&settings, "ZONECAST_LISTN", "0.0.0.0:1")).is_err());
}
