//! What a setting accepts, and the field that its checked value goes to.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use zonecast_broker::{
    ClientIdentity, ConnectionLimits, OutboxLimits, PublishLimits, QuicWindows, RetainedLimits, Rights, SessionLimits,
    WORKERS_MAX,
};
use zonecast_protocol::{ClientId, Kind, Limits, Permitted, WorldName};
use zonecast_store::DatabaseUrl;

use super::{auth::AuthDraft, directory::DirectoryDraft, raw::RawValue, services::ServicesDraft, tokens::TokensDraft};
use crate::{
    cli::Address,
    logging::{self, LogSettings},
};

/// The text that stands for "any" in a list of names, and for "no such thing" in an address.
const ANY: &str = "*";
const OFF: &str = "off";
const AUTO: &str = "auto";

/// The settings while they are being checked: every field is overwritten by its table row, at least by the default.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(super) listen: SocketAddr,
    pub(super) admin_listen: Option<SocketAddr>,
    pub(super) workers: NonZeroUsize,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) client_ca: Option<PathBuf>,
    pub(super) reset_secret: Option<PathBuf>,
    pub(super) reload_interval: Duration,
    pub(super) rights: Rights,
    pub(super) limits: Limits,
    pub(super) publishes: PublishLimits,
    pub(super) outbox: OutboxLimits,
    pub(super) retained: RetainedLimits,
    pub(super) sessions: SessionLimits,
    pub(super) connections: ConnectionLimits,
    pub(super) windows: QuicWindows,
    pub(super) client_identity: ClientIdentity,
    pub(super) worlds_labelled_max: usize,
    pub(super) shutdown_grace: Duration,
    pub(super) log: LogSettings,
    pub(super) services: ServicesDraft,
    pub(super) tokens: TokensDraft,
    pub(super) auth: AuthDraft,
    pub(super) directory: DirectoryDraft,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            admin_listen: None,
            workers: NonZeroUsize::MIN,
            certificate: None,
            key: None,
            client_ca: None,
            reset_secret: None,
            reload_interval: Duration::ZERO,
            rights: Rights::everything(),
            limits: Limits::default(),
            publishes: PublishLimits::default(),
            outbox: OutboxLimits::default(),
            retained: RetainedLimits::default(),
            sessions: SessionLimits::default(),
            connections: ConnectionLimits::default(),
            windows: QuicWindows::default(),
            client_identity: ClientIdentity::default(),
            worlds_labelled_max: 0,
            shutdown_grace: Duration::ZERO,
            log: LogSettings::default(),
            services: ServicesDraft::default(),
            tokens: TokensDraft::default(),
            auth: AuthDraft::default(),
            directory: DirectoryDraft::default(),
        }
    }
}

/// The way from a [`Draft`] to one of its fields.
type Field<T> = fn(&mut Draft) -> &mut T;

/// What a setting accepts, and the field that takes it.
#[derive(Debug)]
pub(crate) enum Slot {
    /// An IP address and port.
    Address(Field<SocketAddr>),
    /// An IP address and port, or `off`.
    AddressOrOff(Field<Option<SocketAddr>>),
    /// A number of threads, or `auto`.
    Workers(Field<NonZeroUsize>),
    /// A whole number for the wire.
    U32(u32, u32, Field<u32>),
    /// A whole number.
    Count(usize, usize, Field<usize>),
    /// A number with a fraction.
    Number(f64, f64, Field<f64>),
    /// A time in whole milliseconds.
    Millis(u64, u64, Field<Duration>),
    /// A file.
    Path(Field<Option<PathBuf>>),
    /// Whom a client certificate admits.
    ClientIdentity(Field<ClientIdentity>),
    /// World names, or `*`.
    Worlds(Field<Permitted<WorldName>>),
    /// Kinds of events, or `*`.
    Kinds(Field<Permitted<Kind>>),
    /// The form of log lines.
    LogFormat(Field<logging::Format>),
    /// Which log lines are written.
    LogFilter(Field<String>),
    /// A Google Cloud project's id.
    Project(Field<Option<String>>),
    /// A database's URL.
    Database(Field<Option<DatabaseUrl>>),
    /// The addresses of brokers.
    Brokers(Field<Vec<Address>>),
    /// What a client calls itself.
    ClientId(Field<Option<ClientId>>),
    /// A word or a URL, without spaces.
    Word(Field<Option<String>>),
    /// Whether something is done.
    Switch(Field<bool>),
}

/// A value that its slot does not accept; [`Slot::expected`] says what it would.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unfit;

impl Slot {
    /// What is accepted, as the end of the sentence "expected …".
    pub(crate) fn expected(&self) -> String {
        const NAMES: &str = "joined by commas (in the file: a list), each of 1 to 64 of A-Z a-z 0-9 _ . -";
        match self {
            Self::Address(_) => "an IP address and port such as 0.0.0.0:4433 or [::]:4433".into(),
            Self::AddressOrOff(_) => "an IP address and port such as 127.0.0.1:9433, or 'off'".into(),
            Self::Workers(_) => format!("a whole number from 1 to {WORKERS_MAX}, or 'auto' for one per core"),
            Self::U32(min, max, _) => format!("a whole number from {min} to {max}"),
            Self::Count(min, max, _) => format!("a whole number from {min} to {max}"),
            Self::Number(min, max, _) => format!("a number from {min} to {max:e}"),
            Self::Millis(min, max, _) => format!("whole milliseconds from {min} to {max}"),
            Self::Path(_) => "the path of a file".into(),
            Self::ClientIdentity(_) => "one of san, any".into(),
            Self::Worlds(_) => format!("'*' for any world, or world names {NAMES}"),
            Self::Kinds(_) => format!("'*' for any kind, or kinds of events {NAMES}"),
            Self::LogFormat(_) => format!("one of {}", logging::Format::NAMES.join(", ")),
            Self::LogFilter(_) => {
                "a level (off, error, warn, info, debug, trace), or such as info,zonecast_broker=debug".into()
            }
            Self::Project(_) => "a project id: 6 to 30 of a-z 0-9 -, a letter first".into(),
            Self::Database(_) => "sqlite:FILE, or postgres://USER:PASSWORD@HOST:PORT/NAME".into(),
            Self::Brokers(_) => "hosts with ports such as 127.0.0.1:4433, joined by commas".into(),
            Self::ClientId(_) => "a client id: 1 to 64 of A-Z a-z 0-9 _ . -".into(),
            Self::Word(_) => "a text without spaces".into(),
            Self::Switch(_) => "one of true, false".into(),
        }
    }

    /// What stands for the value in a flag's help.
    pub(crate) fn value_name(&self) -> &'static str {
        match self {
            Self::Address(_) | Self::AddressOrOff(_) => "ADDR",
            Self::Workers(_) | Self::U32(..) | Self::Count(..) => "N",
            Self::Number(..) => "X",
            Self::Millis(..) => "MS",
            Self::Path(_) => "FILE",
            Self::ClientIdentity(_) => "RULE",
            Self::Worlds(_) | Self::Kinds(_) => "NAMES",
            Self::LogFormat(_) => "FORMAT",
            Self::LogFilter(_) => "FILTER",
            Self::Project(_) => "PROJECT",
            Self::Database(_) => "URL",
            Self::Brokers(_) => "ADDRS",
            Self::ClientId(_) => "NAME",
            Self::Word(_) => "TEXT",
            Self::Switch(_) => "true|false",
        }
    }

    /// Whether the value stands in a TOML file without quotes.
    pub(super) fn is_numeric(&self) -> bool {
        matches!(self, Self::U32(..) | Self::Count(..) | Self::Number(..) | Self::Millis(..))
    }

    /// Checks the value and puts it into its field; the draft stays as it is when the value does not fit.
    pub(super) fn store(&self, draft: &mut Draft, value: &RawValue) -> Result<(), Unfit> {
        match self {
            Self::Address(field) => *field(draft) = parsed(value.one()?)?,
            Self::AddressOrOff(field) => *field(draft) = address_or_off(value.one()?)?,
            Self::Workers(field) => *field(draft) = workers(value.one()?)?,
            Self::U32(min, max, field) => {
                *field(draft) = u32::try_from(whole(value.one()?, u64::from(*min), u64::from(*max))?).or(Err(Unfit))?;
            }
            Self::Count(min, max, field) => *field(draft) = count(value.one()?, *min, *max)?,
            Self::Number(min, max, field) => *field(draft) = number(value.one()?, *min, *max)?,
            Self::Millis(min, max, field) => {
                *field(draft) = Duration::from_millis(whole(value.one()?, *min, *max)?);
            }
            Self::Path(field) => *field(draft) = Some(PathBuf::from(filled(value.one()?)?)),
            Self::ClientIdentity(field) => *field(draft) = client_identity(value.one()?)?,
            Self::Worlds(field) => *field(draft) = names(value)?,
            Self::Kinds(field) => *field(draft) = names(value)?,
            Self::LogFormat(field) => *field(draft) = parsed(value.one()?)?,
            Self::LogFilter(field) => *field(draft) = log_filter(value.one()?)?,
            Self::Project(field) => *field(draft) = Some(project(value.one()?)?),
            Self::Database(field) => *field(draft) = Some(parsed(value.one()?)?),
            Self::Brokers(field) => *field(draft) = brokers(value)?,
            Self::ClientId(field) => *field(draft) = Some(parsed(value.one()?)?),
            Self::Word(field) => *field(draft) = Some(word(value.one()?)?),
            Self::Switch(field) => *field(draft) = parsed(value.one()?)?,
        }
        Ok(())
    }
}

fn parsed<T: FromStr>(text: &str) -> Result<T, Unfit> {
    text.parse().or(Err(Unfit))
}

/// An empty text is what a template with a missing value leaves behind: never read as "not set".
fn filled(text: &str) -> Result<&str, Unfit> {
    if text.trim().is_empty() { Err(Unfit) } else { Ok(text) }
}

fn word(text: &str) -> Result<String, Unfit> {
    let is_plain = !text.is_empty() && text.chars().all(|c| !c.is_whitespace() && !c.is_control());
    if is_plain { Ok(text.to_owned()) } else { Err(Unfit) }
}

fn address_or_off(text: &str) -> Result<Option<SocketAddr>, Unfit> {
    if text == OFF { Ok(None) } else { parsed(text).map(Some) }
}

fn workers(text: &str) -> Result<NonZeroUsize, Unfit> {
    let wanted = if text == AUTO {
        std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(WORKERS_MAX)
    } else {
        count(text, 1, WORKERS_MAX)?
    };
    NonZeroUsize::new(wanted).ok_or(Unfit)
}

fn client_identity(text: &str) -> Result<ClientIdentity, Unfit> {
    match text {
        "san" => Ok(ClientIdentity::San),
        "any" => Ok(ClientIdentity::Any),
        _ => Err(Unfit),
    }
}

/// Reads a number by TOML's rules wherever it comes from, so that `1_000` means the same in a flag and in the file.
fn toml_number(text: &str) -> Result<toml::Value, Unfit> {
    // Keeps out what TOML permits around a value, such as a comment.
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'+' | b'-');
    if text.bytes().all(plain) { parsed(text) } else { Err(Unfit) }
}

fn whole(text: &str, min: u64, max: u64) -> Result<u64, Unfit> {
    let toml::Value::Integer(signed) = toml_number(text)? else { return Err(Unfit) };
    u64::try_from(signed).ok().filter(|number| (min..=max).contains(number)).ok_or(Unfit)
}

fn count(text: &str, min: usize, max: usize) -> Result<usize, Unfit> {
    let toml::Value::Integer(signed) = toml_number(text)? else { return Err(Unfit) };
    usize::try_from(signed).ok().filter(|number| (min..=max).contains(number)).ok_or(Unfit)
}

fn number(text: &str, min: f64, max: f64) -> Result<f64, Unfit> {
    let found = match toml_number(text)? {
        toml::Value::Float(float) => float,
        toml::Value::Integer(_) => parsed(&text.replace('_', ""))?,
        _ => return Err(Unfit),
    };
    // A NaN is in no range.
    if (min..=max).contains(&found) { Ok(found) } else { Err(Unfit) }
}

fn names<T: FromStr + Ord>(value: &RawValue) -> Result<Permitted<T>, Unfit> {
    match value {
        RawValue::One(text) if text == ANY => Ok(Permitted::Any),
        RawValue::One(text) => text.split(',').map(|name| parsed(name.trim())).collect(),
        RawValue::Many(list) => list.iter().map(|name| parsed(name)).collect(),
    }
}

fn brokers(value: &RawValue) -> Result<Vec<Address>, Unfit> {
    match value {
        RawValue::One(text) => text.split(',').map(|address| parsed(address.trim())).collect(),
        RawValue::Many(list) if list.is_empty() => Err(Unfit),
        RawValue::Many(list) => list.iter().map(|address| parsed(address)).collect(),
    }
}

/// The filter language takes any word for a module's name: a level with a typing error would silence every log line.
fn log_filter(text: &str) -> Result<String, Unfit> {
    let directives = filled(text)?.split(',');
    let understood = |directive: &str| {
        directive.contains(['=', '['])
            || ["off", "error", "warn", "info", "debug", "trace"]
                .iter()
                .any(|level| directive.eq_ignore_ascii_case(level))
    };
    if directives.map(str::trim).all(understood) && logging::filter_is_valid(text) {
        Ok(text.to_owned())
    } else {
        Err(Unfit)
    }
}

fn project(text: &str) -> Result<String, Unfit> {
    let permitted = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let letter_first = text.starts_with(|c: char| c.is_ascii_lowercase());
    if (6..=30).contains(&text.len()) && letter_first && text.bytes().all(permitted) {
        Ok(text.to_owned())
    } else {
        Err(Unfit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> RawValue {
        RawValue::One(text.to_owned())
    }

    #[test]
    fn whole_numbers_follow_tomls_rules_and_keep_their_range() {
        assert_eq!(whole("1_000", 1, 1_000), Ok(1_000));
        assert_eq!(whole("0x10", 1, 1_000), Ok(16));
        for bad in ["", "0", "1001", "-1", "1.0", "1e2", "ten", "1__0", " 1", "1 # one", "99999999999999999999", "true"]
        {
            assert_eq!(whole(bad, 1, 1_000), Err(Unfit), "{bad:?}");
        }
    }

    #[test]
    fn numbers_are_finite_and_in_range() {
        assert_eq!(number("1e6", 0.0, 1e12), Ok(1e6));
        assert_eq!(number("1_000", 0.0, 1e12), Ok(1_000.0));
        for bad in ["nan", "inf", "-1", "1e13", "", "x"] {
            assert_eq!(number(bad, 0.0, 1e12), Err(Unfit), "{bad:?}");
        }
    }

    #[test]
    fn no_name_list_is_read_as_any_by_accident() {
        assert_eq!(names::<WorldName>(&one("*")), Ok(Permitted::Any));
        let both = ["earth", "mars"].map(|world| WorldName::new(world).unwrap());
        assert_eq!(names::<WorldName>(&one("earth, mars")), Ok(both.into_iter().collect()));
        assert_eq!(names::<WorldName>(&RawValue::Many(vec![])), Ok(Permitted::none()));
        for bad in [one(""), one(" "), one("earth,"), one("a b"), RawValue::Many(vec!["*".into()])] {
            assert_eq!(names::<WorldName>(&bad), Err(Unfit), "{bad:?}");
        }
    }

    #[test]
    fn a_mistyped_log_level_is_not_taken_for_a_module() {
        for good in ["info", "INFO", "warn,zonecast_broker=debug", "off", "zonecast_broker[session]=trace"] {
            assert!(log_filter(good).is_ok(), "{good:?}");
        }
        for bad in ["", " ", "inof", "info,", "zonecast=loud"] {
            assert_eq!(log_filter(bad), Err(Unfit), "{bad:?}");
        }
    }

    #[test]
    fn addresses_off_and_automatic_workers() {
        assert_eq!(address_or_off("off"), Ok(None));
        assert_eq!(address_or_off("[::1]:1"), Ok(Some("[::1]:1".parse().unwrap())));
        for bad in ["", "localhost:1", "127.0.0.1", ":9433"] {
            assert_eq!(address_or_off(bad), Err(Unfit), "{bad:?}");
        }
        assert!(workers("auto").is_ok() && workers("3").is_ok());
        assert_eq!((workers("0"), workers("257")), (Err(Unfit), Err(Unfit)));
    }
}
