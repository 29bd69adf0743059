//! Where the database is.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use thiserror::Error;

/// The setting that the errors speak of.
const SETTING: &str = "database.url";

/// A database by its URL: `sqlite:FILE` or `postgres://USER:PASSWORD@HOST/NAME`.
#[derive(Clone)]
pub enum DatabaseUrl {
    /// A file, made where there is none.
    Sqlite(PathBuf),
    /// A PostgreSQL server.
    Postgres(Box<PgConnectOptions>),
}

/// Why a text is no URL of a database. The text itself is not shown: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Neither of the two databases.
    #[error(
        "{SETTING} names no database that is known here; give sqlite:FILE, or postgres://USER:PASSWORD@HOST:PORT/NAME"
    )]
    UnknownScheme,
    /// `sqlite:` without a file.
    #[error("{SETTING} names no file; give sqlite:FILE, such as sqlite:/var/lib/zonecast/services.db")]
    NoFile,
    /// `sqlite::memory:`, which every connection has to itself.
    #[error("{SETTING} asks for a database in memory, which would forget everything; give sqlite:FILE")]
    InMemory,
    /// `sqlite:` with parameters.
    #[error("{SETTING} has parameters behind '?', of which SQLite takes none here; give sqlite:FILE alone")]
    SqliteParameters,
    /// PostgreSQL's driver does not understand it.
    #[error("{SETTING} is no valid PostgreSQL URL ({reason}); give postgres://USER:PASSWORD@HOST:PORT/NAME")]
    Postgres {
        /// What the driver says.
        reason: String,
    },
    /// A server on another machine, and a way there on which anybody may read and write.
    #[error(
        "{SETTING} names a PostgreSQL server on another machine, {host}, and the way there may be open: add \
         sslmode=verify-full (with sslrootcert=FILE where the authority is your own), verify-ca or require behind '?'"
    )]
    OpenWay {
        /// Where the server is.
        host: String,
    },
    /// A file for several processes on several machines.
    #[error(
        "{SETTING} names an SQLite file, and database.replicas says that {replicas} processes serve: give them one \
         PostgreSQL database (postgres://…), or set database.replicas to 1"
    )]
    SqliteReplicas {
        /// How many.
        replicas: u32,
    },
}

impl UrlError {
    /// The variant's name, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::UnknownScheme => "unknown_scheme",
            Self::NoFile => "no_file",
            Self::InMemory => "in_memory",
            Self::SqliteParameters => "sqlite_parameters",
            Self::Postgres { .. } => "postgres",
            Self::OpenWay { .. } => "open_way",
            Self::SqliteReplicas { .. } => "sqlite_replicas",
        }
    }
}

impl DatabaseUrl {
    /// Refuses what cannot serve so many processes at once.
    ///
    /// # Errors
    /// It is an SQLite file, and there are several.
    pub fn check_replicas(&self, replicas: u32) -> Result<(), UrlError> {
        match self {
            Self::Sqlite(_) if replicas > 1 => Err(UrlError::SqliteReplicas { replicas }),
            Self::Sqlite(_) | Self::Postgres(_) => Ok(()),
        }
    }
}

impl FromStr for DatabaseUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            let options = text.parse::<PgConnectOptions>();
            let options = options.map_err(|error| UrlError::Postgres { reason: reason(&error) })?;
            if !is_closed(&options) {
                return Err(UrlError::OpenWay { host: options.get_host().to_owned() });
            }
            return Ok(Self::Postgres(Box::new(options)));
        }
        let file = text.strip_prefix("sqlite:").ok_or(UrlError::UnknownScheme)?;
        let file = file.strip_prefix("//").unwrap_or(file);
        match file {
            "" => Err(UrlError::NoFile),
            ":memory:" => Err(UrlError::InMemory),
            parameters if parameters.contains('?') => Err(UrlError::SqliteParameters),
            path => Ok(Self::Sqlite(PathBuf::from(path))),
        }
    }
}

/// Whether nobody else can read and write on the way to the server: it is on this machine, or TLS is not left to whoever
/// answers.
fn is_closed(options: &PgConnectOptions) -> bool {
    let is_encrypted =
        matches!(options.get_ssl_mode(), PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull);
    let host = options.get_host();
    let is_loopback = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost",
    };
    // A host with a slash is the directory of a socket.
    is_encrypted || is_loopback || options.get_socket().is_some() || host.starts_with('/')
}

/// What the driver says, but not the text that it says it of.
fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Configuration(cause) => cause.to_string(),
        other => other.to_string(),
    }
}

/// Without the password.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(options) => {
                let place = options.get_socket().map_or_else(
                    || format!("{}:{}", options.get_host(), options.get_port()),
                    |socket| socket.display().to_string(),
                );
                let database = options.get_database().unwrap_or(options.get_username());
                write!(f, "postgres://{}@{place}/{database}", options.get_username())
            }
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_databases_are_known_by_their_url() {
        for text in ["sqlite:a/b.db", "sqlite://a/b.db"] {
            assert!(matches!(text.parse(), Ok(DatabaseUrl::Sqlite(path)) if path.to_str() == Some("a/b.db")));
        }
        assert!(matches!("sqlite:///a.db".parse(), Ok(DatabaseUrl::Sqlite(path)) if path.to_str() == Some("/a.db")));
        for text in
            ["postgres://u:secret@db:5433/n?sslmode=verify-full", "postgresql://u:secret@db:5433/n?sslmode=require"]
        {
            let url: DatabaseUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), "postgres://u@db:5433/n");
            assert!(!format!("{url:?}").contains("secret"));
        }
    }

    #[test]
    fn what_is_wrong_names_the_setting_and_never_the_password() {
        for (text, kind) in [
            ("", "unknown_scheme"),
            ("mysql://u:secret@h/n", "unknown_scheme"),
            ("services.db", "unknown_scheme"),
            ("sqlite:", "no_file"),
            ("sqlite::memory:", "in_memory"),
            ("sqlite:a.db?mode=ro", "sqlite_parameters"),
            ("postgres://u:secret@h:port/n", "postgres"),
            ("postgres://u:secret@db.example.org/n", "open_way"),
            ("postgres://u:secret@db.example.org/n?sslmode=prefer", "open_way"),
            ("postgres://u:secret@10.0.0.1/n?sslmode=disable", "open_way"),
            ("postgres://u:secret@localhost.example.org/n", "open_way"),
        ] {
            let error = text.parse::<DatabaseUrl>().unwrap_err();
            assert_eq!(error.kind(), kind, "{text}");
            let said = error.to_string();
            assert!(
                said.starts_with("database.url ")
                    && (said.contains("give ") || said.contains("add sslmode=verify-full")),
                "{said}"
            );
            assert!(!said.contains("secret"), "{said}");
        }
    }

    #[test]
    fn what_stays_on_this_machine_may_be_open() {
        for near in ["localhost", "127.0.0.1:5433", "[::1]:5432", "localhost/n?host=/run/postgresql"] {
            let url =
                format!("postgres://u:secret@{}", if near.contains('?') { near.into() } else { format!("{near}/n") });
            assert!(url.parse::<DatabaseUrl>().is_ok(), "{near}");
        }
    }

    #[test]
    fn a_file_serves_one_process() {
        let file: DatabaseUrl = "sqlite:a.db".parse().unwrap();
        assert_eq!(file.check_replicas(1), Ok(()));
        assert!(file.check_replicas(2).unwrap_err().to_string().contains("PostgreSQL"));
        let server: DatabaseUrl = "postgres://localhost/n".parse().unwrap();
        assert_eq!(server.check_replicas(9), Ok(()));
    }
}
