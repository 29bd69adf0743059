//! What a database may answer instead of doing what it was asked, and what the caller of a service is told.

use thiserror::Error;
use tonic::Status;

/// Why a store did not do it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A row of that kind is there already.
    #[error("there is one already ({constraint})")]
    Duplicate {
        /// The constraint or the columns, as the database names them.
        constraint: String,
    },
    /// Undone in favour of another transaction; it can be tried again as it was.
    #[error("undone in favour of another transaction")]
    Contention,
    /// The database, or our part of it, has too much to do.
    #[error("the database is busy")]
    Busy,
    /// It took longer than it may.
    #[error("the database took too long")]
    TimedOut,
    /// The disk is full.
    #[error("the database has no room left")]
    Full,
    /// There is no way to the database, or it is going away. A change that was under way may have been made or not.
    #[error("the database cannot be reached: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// Anything else: our mistake, or a damaged database.
    #[error("the database failed: {0}")]
    Failed(#[source] sqlx::Error),
}

impl StoreError {
    /// The variant's name, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Duplicate { .. } => "duplicate",
            Self::Contention => "contention",
            Self::Busy => "busy",
            Self::TimedOut => "timed_out",
            Self::Full => "full",
            Self::Unavailable(_) => "unavailable",
            Self::Failed(_) => "failed",
        }
    }

    /// Whether it is a duplicate by a constraint or column of this name.
    #[must_use]
    pub fn is_duplicate_of(&self, name: &str) -> bool {
        matches!(self, Self::Duplicate { constraint } if constraint.contains(name))
    }

    /// What the caller is told: what to do, and nothing of the database's inside. That goes to the log.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Duplicate { .. } => Status::already_exists("there is one already"),
            Self::Contention => Status::aborted("others change the same at the same time; try again"),
            Self::Busy => Status::unavailable("the database is busy; try again"),
            Self::TimedOut => Status::deadline_exceeded("the database took too long; a change may have been made"),
            Self::Full => {
                tracing::error!("the database has no room left; nothing can be changed until it has");
                Status::resource_exhausted("the database has no room left; try later")
            }
            Self::Unavailable(error) => {
                tracing::warn!(error = %one_line(error), "the database cannot be reached");
                Status::unavailable("the database cannot be reached; a change may have been made; try again")
            }
            Self::Failed(error) => {
                tracing::error!(error = %one_line(error), "the database failed in a way that it should not");
                Status::internal("the database failed in a way that it should not; its log says more")
            }
        }
    }
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        error.status()
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(said) => match said.code().as_deref().map(meaning) {
                _ if said.is_unique_violation() => {
                    let constraint = said.constraint().unwrap_or(said.message()).to_owned();
                    Self::Duplicate { constraint }
                }
                Some(Meaning::Contention) => Self::Contention,
                Some(Meaning::Busy) => Self::Busy,
                Some(Meaning::TimedOut) => Self::TimedOut,
                Some(Meaning::Full) => Self::Full,
                Some(Meaning::Unavailable) => Self::Unavailable(error),
                Some(Meaning::Other) | None => Self::Failed(error),
            },
            sqlx::Error::PoolTimedOut => Self::Busy,
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => Self::Unavailable(error),
            _ => Self::Failed(error),
        }
    }
}

/// What a code of either database comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Contention,
    Busy,
    TimedOut,
    Full,
    Unavailable,
    Other,
}

/// PostgreSQL's codes have five characters (its manual, appendix A); SQLite's are decimal numbers of at most four, whose
/// lowest eight bits are the code proper (sqlite.org/rescode.html).
fn meaning(code: &str) -> Meaning {
    if code.len() == 5 { postgres(code) } else { code.parse().map_or(Meaning::Other, sqlite) }
}

fn postgres(code: &str) -> Meaning {
    match code {
        // serialization_failure, deadlock_detected
        "40001" | "40P01" => Meaning::Contention,
        // lock_not_available (also by lock_timeout), too_many_connections
        "55P03" | "53300" => Meaning::Busy,
        // query_canceled, by statement_timeout; transaction and idle timeouts
        "57014" | "25P03" | "25P04" => Meaning::TimedOut,
        "53100" => Meaning::Full,
        // read_only_sql_transaction: the server has become a standby
        "25006" => Meaning::Unavailable,
        // admin_shutdown, crash_shutdown, cannot_connect_now, idle_session_timeout; connection exceptions
        other if other.starts_with("57P") || other.starts_with("08") => Meaning::Unavailable,
        // insufficient resources
        other if other.starts_with("53") => Meaning::Busy,
        _ => Meaning::Other,
    }
}

fn sqlite(code: u32) -> Meaning {
    const BUSY: u32 = 5;
    const LOCKED: u32 = 6;
    const READ_ONLY: u32 = 8;
    const INTERRUPT: u32 = 9;
    const IO: u32 = 10;
    const FULL: u32 = 13;
    const CANNOT_OPEN: u32 = 14;
    match code & 0xff {
        BUSY | LOCKED => Meaning::Busy,
        INTERRUPT => Meaning::TimedOut,
        FULL => Meaning::Full,
        READ_ONLY | IO | CANNOT_OPEN => Meaning::Unavailable,
        _ => Meaning::Other,
    }
}

/// Errors of databases may carry what users wrote, line feeds among it.
fn one_line(error: &sqlx::Error) -> String {
    error.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn codes_of_both_databases_have_a_meaning() {
        for (code, expected) in [
            ("40001", Meaning::Contention),
            ("40P01", Meaning::Contention),
            ("55P03", Meaning::Busy),
            ("53200", Meaning::Busy),
            ("57014", Meaning::TimedOut),
            ("53100", Meaning::Full),
            ("57P01", Meaning::Unavailable),
            ("08006", Meaning::Unavailable),
            ("42601", Meaning::Other),
            ("5", Meaning::Busy),
            ("517", Meaning::Busy),
            ("13", Meaning::Full),
            ("522", Meaning::Unavailable),
            ("11", Meaning::Other),
        ] {
            assert_eq!(meaning(code), expected, "{code}");
        }
    }

    #[test]
    fn the_caller_is_told_what_to_do_and_nothing_else() {
        let secret = || sqlx::Error::Protocol("password=hunter2".into());
        for (error, code) in [
            (StoreError::Duplicate { constraint: "users_name_key".into() }, Code::AlreadyExists),
            (StoreError::Contention, Code::Aborted),
            (StoreError::Busy, Code::Unavailable),
            (StoreError::TimedOut, Code::DeadlineExceeded),
            (StoreError::Full, Code::ResourceExhausted),
            (StoreError::Unavailable(secret()), Code::Unavailable),
            (StoreError::Failed(secret()), Code::Internal),
        ] {
            let status = error.status();
            assert_eq!(status.code(), code, "{error}");
            assert!(!status.message().contains("hunter2") && !status.message().contains("users_name"), "{status}");
        }
    }

    #[test]
    fn a_log_line_stays_one_line() {
        let said = one_line(&sqlx::Error::Protocol("a\nlevel=ERROR forged\r\u{1b}[2J".into()));
        assert!(!said.contains(char::is_control), "{said:?}");
    }
}
