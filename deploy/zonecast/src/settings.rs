//! The settings of broker and services: one table of them, four places that they may come from, and the checked result.
//!
//! A flag counts before an environment variable, that before the configuration file, that before the default.
//! First everything is gathered as text with its origin ([`Raw`]); then it is checked as a whole ([`check`]), so that
//! all problems are reported at once. Nothing here falls back to a default when what was given is wrong.
//!
//! To add a setting, add a row to its table (`table.rs`, `table/services.rs`); flag, variable, file key, help and example follow from it.

pub(crate) mod flags;
pub(crate) mod show;

mod auth;
mod directory;
mod file;
mod pem_files;
mod problem;
mod raw;
mod services;
mod slot;
mod table;
mod tokens;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use zonecast_broker::BrokerConfig;
use zonecast_protocol::Limits;

use crate::{logging::LogSettings, tls_reload::TlsSource, trust::TokenSettings};

use pem_files::Loaded;
pub(crate) use problem::{Problem, Problems};
use raw::RawValue;
pub(crate) use raw::{Raw, Sources};
pub(crate) use services::{load as load_services, load_database};
use slot::{Draft, Slot};

/// What is shown in the place of a secret.
const HIDDEN: &str = "(hidden)";

/// One setting, a row of the table.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The name, with dots: `limits.payload_bytes_max`. A unit or qualifier stands last.
    pub(crate) key: &'static str,
    /// The default as one would write it; `None` when there is none.
    pub(crate) default: Option<&'static str>,
    /// What it is for, in a sentence or two.
    pub(crate) help: &'static str,
    /// Whether its value is hidden wherever settings are shown.
    pub(crate) secret: bool,
    /// What it accepts, and where the value goes.
    pub(crate) slot: Slot,
}

impl Setting {
    /// The flag without its dashes: `limits-payload-bytes-max`.
    pub(crate) fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }

    /// The environment variable: `ZONECAST_LIMITS_PAYLOAD_BYTES_MAX`.
    pub(crate) fn env(&self) -> String {
        format!("{}{}", raw::ENV_PREFIX, self.key.replace('.', "_").to_ascii_uppercase())
    }

    /// The part of the key before the dot, empty for keys without one.
    pub(crate) fn section(&self) -> &'static str {
        self.key.split_once('.').map_or("", |(section, _)| section)
    }

    /// Whether it is the services' and not the broker's.
    pub(crate) fn is_of_services(&self) -> bool {
        matches!(self.section(), "services" | "database" | "auth" | "directory")
    }

    /// Whether it is of whatever process serves.
    pub(crate) fn is_of_any_process(&self) -> bool {
        matches!(self.section(), "log" | "tokens") || matches!(self.key, "shutdown_grace_ms" | "tls.reload_interval_ms")
    }

    /// The value as it may be shown.
    fn shown(&self, value: &RawValue) -> String {
        if self.secret { HIDDEN.to_owned() } else { value.to_string() }
    }
}

/// The checked settings.
#[derive(Debug)]
pub(crate) struct Settings {
    /// What the broker is told.
    pub(crate) broker: BrokerConfig,
    /// Where its certificates come from.
    pub(crate) tls: TlsSource,
    /// Whose tokens it believes; none: it looks at none.
    pub(crate) tokens: Option<TokenSettings>,
    /// How it logs.
    pub(crate) log: LogSettings,
}

/// Gathers and checks the settings.
///
/// # Errors
/// Everything that is wrong with them.
pub(crate) fn load(sources: &Sources) -> Result<Settings, Problems> {
    let mut problems = Vec::new();
    let raw = Raw::gather(sources, &mut problems);
    check(&raw, problems)
}

/// How the commands that are not the broker log: by the environment's `ZONECAST_LOG_…` alone, only warnings by default.
///
/// # Errors
/// A variable has a value that is not accepted.
pub(crate) fn tool_log(sources: &Sources) -> Result<LogSettings, Problems> {
    let mut env: BTreeMap<_, _> = sources
        .env
        .iter()
        .filter(|(name, _)| name.starts_with("ZONECAST_LOG_"))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    env.entry("ZONECAST_LOG_LEVEL".to_owned()).or_insert_with(|| Some("warn".to_owned()));
    let mut problems = Vec::new();
    let raw = Raw::gather(&Sources { env, ..Sources::default() }, &mut problems);
    let draft = fill(&raw, &mut problems);
    if problems.is_empty() { Ok(draft.log) } else { Err(Problems(problems)) }
}

/// Checks each value, then what must hold between them, then the files that they name.
///
/// # Errors
/// Everything that is wrong, with the problems that were found before.
pub(crate) fn check(raw: &Raw, mut problems: Vec<Problem>) -> Result<Settings, Problems> {
    let draft = fill(raw, &mut problems);
    check_conflicts(raw, &draft, &mut problems);
    tokens::check_open(raw, &draft, &mut problems);
    let tokens = tokens::load(raw, &draft, &mut problems);
    match pem_files::load(raw, &draft, &mut problems) {
        Some(loaded) if problems.is_empty() => Ok(settings(draft, loaded, tokens)),
        _ => Err(Problems(problems)),
    }
}

/// Checks the values, but neither that a certificate is set nor the files.
pub(crate) fn check_values(raw: &Raw, problems: &mut Vec<Problem>) {
    let draft = fill(raw, problems);
    check_conflicts(raw, &draft, problems);
}

/// Puts every value that is accepted into its field.
fn fill(raw: &Raw, problems: &mut Vec<Problem>) -> Draft {
    let mut draft = Draft::default();
    for entry in &raw.entries {
        let Some(value) = &entry.value else { continue };
        if entry.setting.slot.store(&mut draft, value).is_err() {
            problems.push(Problem::BadValue {
                key: entry.setting.key,
                value: entry.setting.shown(value),
                origin: entry.origin.clone(),
                expected: entry.setting.slot.expected(),
            });
        }
    }
    draft
}

/// What must hold between two settings. A pair of which one is already a problem is left alone.
fn check_conflicts(raw: &Raw, draft: &Draft, problems: &mut Vec<Problem>) {
    let payload = usize::try_from(draft.limits.payload_bytes_max).unwrap_or(usize::MAX);
    let connections = &draft.connections;
    let conflicts = [
        ("outbox.deliveries_soft", "outbox.deliveries_max", draft.outbox.deliveries_soft > draft.outbox.deliveries_max),
        ("outbox.bytes_soft", "outbox.bytes_max", draft.outbox.bytes_soft > draft.outbox.bytes_max),
        // An event that fits no queue could never be delivered.
        ("limits.payload_bytes_max", "outbox.bytes_max", payload > draft.outbox.bytes_max),
        ("outbox.total_bytes_soft", "outbox.total_bytes_max", draft.retained.bytes_soft > draft.retained.bytes_max),
        // The bound of one session's queue would never be reached.
        ("outbox.bytes_max", "outbox.total_bytes_max", draft.outbox.bytes_max > draft.retained.bytes_max),
        // Nor this one; and nobody would ever be asked to show an address.
        (
            "connections.retry_from_handshakes",
            "connections.handshakes_max",
            connections.retry_from_handshakes > connections.handshakes_max,
        ),
        (
            "connections.handshake_timeout_ms",
            "connections.hello_timeout_ms",
            connections.handshake_timeout > connections.hello_timeout,
        ),
        (
            "quic.stream_receive_bytes_max",
            "quic.receive_bytes_max",
            draft.windows.stream_receive_bytes_max > draft.windows.receive_bytes_max,
        ),
    ];
    let is_bad = |wanted: &str, problems: &[Problem]| {
        problems.iter().any(|problem| matches!(problem, Problem::BadValue { key, .. } if *key == wanted))
    };
    for (key, bound, broken) in conflicts {
        if !broken || is_bad(key, problems) || is_bad(bound, problems) {
            continue;
        }
        let (entry, bound) = (raw.entry(key), raw.entry(bound));
        let shown = |entry: &raw::Entry| entry.value.as_ref().map_or_else(String::new, |v| entry.setting.shown(v));
        problems.push(Problem::Conflict {
            key,
            value: shown(entry),
            origin: entry.origin.clone(),
            rule: format!("expected at most {} = {} ({})", bound.setting.key, shown(bound), bound.origin),
        });
    }
}

/// Names every field, so that a new one cannot be forgotten in the table.
fn settings(draft: Draft, loaded: Loaded, tokens: Option<TokenSettings>) -> Settings {
    let Draft {
        listen,
        admin_listen,
        workers,
        rights,
        mut limits,
        publishes,
        outbox,
        retained,
        sessions,
        connections,
        windows,
        client_identity,
        worlds_labelled_max,
        shutdown_grace,
        log,
        certificate: _,
        key: _,
        client_ca: _,
        reset_secret: _,
        reload_interval: _,
        services: _,
        tokens: _,
        auth: _,
        directory: _,
    } = draft;
    let Loaded { tls, source, reset_secret } = loaded;
    // Whatever payload is permitted must fit into a frame; the table's range keeps this from overflowing.
    limits.frame_bytes_max = limits.payload_bytes_max.saturating_add(Limits::FRAME_OVERHEAD_BYTES);
    let broker = BrokerConfig {
        listen,
        admin_listen,
        workers,
        tls,
        reset_secret,
        rights,
        // Both follow from the tokens, once they are looked at.
        trust: None,
        trust_upkeep: Arc::default(),
        limits,
        publishes,
        outbox,
        retained,
        sessions,
        connections,
        windows,
        client_identity,
        worlds_labelled_max,
        shutdown_grace,
    };
    Settings { broker, tls: source, tokens, log }
}

/// The name that resembles the given one most: as a whole, or in its last part (a key without its section).
fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let likeness = |name: &str| {
        let whole = strsim::normalized_damerau_levenshtein(given, name);
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        whole.max(0.9 * strsim::normalized_damerau_levenshtein(&last(given), &last(name)))
    };
    known.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).unwrap_or_default().to_owned()
}

/// The sources of this process: its environment, and the flags that were parsed.
pub(crate) fn sources(
    config: Option<PathBuf>,
    flags: BTreeMap<&'static str, String>,
    env_known: Vec<String>,
) -> Sources {
    let env = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with(raw::ENV_PREFIX))?;
        Some((name, value.into_string().ok()))
    });
    Sources { config, flags, env: env.collect(), env_known }
}

#[cfg(test)]
mod tests;
