//! Settings as they were given: text with the place it came from, not yet checked.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use super::{Setting, file, problem::Problem, slot::Unfit, table};

/// The start of the name of every environment variable of ours.
pub(crate) const ENV_PREFIX: &str = "ZONECAST_";
/// The variable that names the configuration file.
pub(crate) const ENV_CONFIG: &str = "ZONECAST_CONFIG";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A command line flag.
    Flag(String),
    /// An environment variable.
    Env(String),
    /// A line of the configuration file, counted from 1.
    File {
        /// The file.
        path: PathBuf,
        /// The line of the key.
        line: usize,
    },
    /// Nobody gave one.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Env(name) => write!(f, "env {name}"),
            Self::File { path, line } => write!(f, "file {}:{line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RawValue {
    /// One text.
    One(String),
    /// A list; only the file has them.
    Many(Vec<String>),
}

impl RawValue {
    /// The text of a value that is not a list.
    pub(super) fn one(&self) -> Result<&str, Unfit> {
        match self {
            Self::One(text) => Ok(text),
            Self::Many(_) => Err(Unfit),
        }
    }
}

impl fmt::Display for RawValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(text) => fmt::Debug::fmt(text, f),
            Self::Many(list) => fmt::Debug::fmt(list, f),
        }
    }
}

/// Everything outside the table that settings may come from.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// The configuration file, when a flag names one.
    pub(crate) config: Option<PathBuf>,
    /// Values of flags, by key.
    pub(crate) flags: BTreeMap<&'static str, String>,
    /// The environment; names that are not ours are skipped. `None` for a value that is not UTF-8.
    pub(crate) env: BTreeMap<String, Option<String>>,
    /// Variables of ours that are no settings but may be set.
    pub(crate) env_known: Vec<String>,
}

/// One setting with the value that counts.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The table's row.
    pub(crate) setting: &'static Setting,
    /// The value; `None` when nobody gave one and there is no default.
    pub(crate) value: Option<RawValue>,
    /// Where the value came from.
    pub(crate) origin: Origin,
}

/// All settings, in the table's order, as they were given.
#[derive(Debug)]
pub(crate) struct Raw {
    /// One entry for each row.
    pub(crate) entries: Vec<Entry>,
    /// Whether the configuration file could be read, or there is none: otherwise what is missing may stand in it.
    pub(crate) file_was_read: bool,
}

impl Raw {
    /// Lays flags over the environment over the file over the defaults, and notes what belongs nowhere.
    pub(crate) fn gather(sources: &Sources, problems: &mut Vec<Problem>) -> Self {
        let mut file_was_read = true;
        let mut from_file = BTreeMap::new();
        if let Some((path, origin)) = config_file(sources) {
            match file::read(&path, &origin, problems) {
                Some(values) => from_file = values,
                None => file_was_read = false,
            }
        }
        check_variables(sources, problems);
        let entries = table::all()
            .map(|setting| {
                let (value, origin) = effective(setting, sources, &mut from_file);
                Entry { setting, value, origin }
            })
            .collect();
        Self { entries, file_was_read }
    }

    /// The entry of a key that the table has.
    pub(super) fn entry(&self, key: &str) -> &Entry {
        self.entries.iter().find(|entry| entry.setting.key == key).expect("only called with keys of the table")
    }
}

fn config_file(sources: &Sources) -> Option<(PathBuf, Origin)> {
    if let Some(path) = &sources.config {
        return Some((path.clone(), Origin::Flag("--config".to_owned())));
    }
    let path = sources.env.get(ENV_CONFIG)?.as_ref()?;
    Some((PathBuf::from(path), Origin::Env(ENV_CONFIG.to_owned())))
}

fn effective(
    setting: &Setting,
    sources: &Sources,
    from_file: &mut BTreeMap<&'static str, (RawValue, Origin)>,
) -> (Option<RawValue>, Origin) {
    if let Some(text) = sources.flags.get(setting.key) {
        return (Some(RawValue::One(text.clone())), Origin::Flag(format!("--{}", setting.flag())));
    }
    let variable = setting.env();
    if let Some(Some(text)) = sources.env.get(&variable) {
        return (Some(RawValue::One(text.clone())), Origin::Env(variable));
    }
    if let Some((value, origin)) = from_file.remove(setting.key) {
        return (Some(value), origin);
    }
    (setting.default.map(|text| RawValue::One(text.to_owned())), Origin::Default)
}

fn check_variables(sources: &Sources, problems: &mut Vec<Problem>) {
    let settings: Vec<String> = table::all().map(Setting::env).collect();
    for (name, value) in &sources.env {
        if !name.starts_with(ENV_PREFIX) || sources.env_known.contains(name) {
            continue;
        }
        if !settings.contains(name) && name != ENV_CONFIG {
            if !is_service_link(name) {
                let known = settings.iter().chain(&sources.env_known).map(String::as_str);
                let nearest = super::nearest(name, known.chain([ENV_CONFIG]));
                problems.push(Problem::UnknownVariable { name: name.clone(), nearest });
            }
        } else if value.is_none() {
            problems.push(Problem::NotUtf8 { name: name.clone() });
        }
    }
}

/// Whether Kubernetes made the variable: it describes every service of a namespace to every container, and a service
/// called `zonecast` or `zonecast-…` has names that begin like ours (`ZONECAST_PORT_4433_UDP_ADDR`).
fn is_service_link(name: &str) -> bool {
    let is_port = |rest: &str| {
        let mut parts = rest.split('_');
        let number = parts.next().is_some_and(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
        let protocol = parts.next().is_some_and(|part| matches!(part, "TCP" | "UDP" | "SCTP"));
        let end = parts.next().is_none_or(|part| matches!(part, "PROTO" | "PORT" | "ADDR"));
        number && protocol && end && parts.next().is_none()
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT")
        || name.match_indices("_PORT_").any(|(at, found)| is_port(&name[at + found.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_kubernetes_makes_are_not_taken_for_mistakes() {
        for made in [
            "ZONECAST_SERVICE_HOST",
            "ZONECAST_SERVICE_PORT",
            "ZONECAST_SERVICE_PORT_QUIC",
            "ZONECAST_PORT",
            "ZONECAST_PORT_4433_UDP",
            "ZONECAST_PORT_4433_UDP_ADDR",
            "ZONECAST_ADMIN_SERVICE_HOST",
            "ZONECAST_ADMIN_PORT_9433_TCP_PROTO",
        ] {
            assert!(is_service_link(made), "{made}");
        }
        for ours in table::all().map(Setting::env) {
            assert!(!is_service_link(&ours), "{ours}");
        }
        assert!(!is_service_link("ZONECAST_PORT_LISTEN") && !is_service_link("ZONECAST_LISTN"));
    }
}
