//! What can be wrong with the settings, each with its place and its remedy.

use std::{fmt, io, path::PathBuf};

use rustls::pki_types::pem;
use thiserror::Error;
use zonecast_broker::{SecretTooShort, TlsError};

use super::raw::{Origin, Raw};

/// One thing that is wrong with the settings.
#[derive(Debug, Error)]
pub(crate) enum Problem {
    /// A value that its setting does not accept.
    #[error("{key} = {value} ({origin}): expected {expected}")]
    BadValue {
        /// The setting.
        key: &'static str,
        /// The value, quoted; hidden when the setting is a secret.
        value: String,
        /// Where it came from.
        origin: Origin,
        /// What would be accepted.
        expected: String,
    },
    /// Two values that do not go together.
    #[error("{key} = {value} ({origin}): {rule}")]
    Conflict {
        /// The setting to change.
        key: &'static str,
        /// Its value, quoted.
        value: String,
        /// Where it came from.
        origin: Origin,
        /// What must hold, with the other setting's name and value.
        rule: String,
    },
    /// A key of the configuration file that is no setting.
    #[error("{key} ({origin}): there is no such setting; the nearest one is {nearest}")]
    UnknownKey {
        /// The key, quoted where TOML wants it.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// The known key that resembles it most.
        nearest: String,
    },
    /// An environment variable with our prefix that is none of ours.
    #[error("{name} (environment): there is no such setting; the nearest one is {nearest}")]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The known variable that resembles it most.
        nearest: String,
    },
    /// An environment variable whose value is not text.
    #[error("{name} (environment): the value is not UTF-8; expected text")]
    NotUtf8 {
        /// The variable.
        name: String,
    },
    /// The configuration file cannot be read.
    #[error("the configuration file {path} ({origin}) cannot be read: {source}", path = path.display())]
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// What named it.
        origin: Origin,
        /// The system's reason.
        source: io::Error,
    },
    /// The configuration file is not TOML.
    #[error("{origin}: not valid TOML: {message}")]
    FileSyntax {
        /// The file and line.
        origin: Origin,
        /// What the parser says.
        message: String,
    },
    /// There is no certificate to serve with.
    #[error(
        "{keys} must be set: a broker serves only with a certificate; \
         `zonecast cert --out certs` makes one to develop with, and `zonecast dev` runs without any configuration",
        keys = keys.join(" and ")
    )]
    NoCertificate {
        /// The settings that are missing.
        keys: Vec<&'static str>,
    },
    /// The services lack what TLS needs, at one of their two ends.
    #[error(
        "{keys} must be set: the services serve only with a certificate, and trust only a broker whose authority they \
         know; `zonecast cert --out certs` makes them to develop with, and `zonecast dev` needs none",
        keys = keys.join(" and ")
    )]
    NoServicesCertificate {
        /// The settings that are missing.
        keys: Vec<&'static str>,
    },
    /// The certificates for the broker are not usable.
    #[error("services.broker_ca, services.broker_certificate, services.broker_key: {source}")]
    BrokerTls {
        /// What is wrong.
        source: zonecast_client::TlsError,
    },
    /// A PEM file is missing or does not hold what it should.
    #[error("{key} = {value} ({origin}): {fault}")]
    PemFile {
        /// The setting that names the file.
        key: &'static str,
        /// The path, quoted.
        value: String,
        /// Where the path came from.
        origin: Origin,
        /// What is wrong with the file.
        fault: PemFault,
    },
    /// Each file is readable, but they do not serve together.
    #[error("tls.certificate = {certificate:?}, tls.key = {key:?}: {source}")]
    Tls {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What is wrong.
        source: TlsError,
    },
}

impl Problem {
    /// A file that a setting names cannot be read.
    pub(super) fn unreadable(raw: &Raw, key: &'static str, source: io::Error) -> Self {
        Self::in_file(raw, key, PemFault::Read(source))
    }

    /// A file that a setting names does not hold what it should.
    pub(super) fn in_file(raw: &Raw, key: &'static str, fault: PemFault) -> Self {
        let entry = raw.entry(key);
        let value = entry.value.as_ref().map_or_else(String::new, |value| entry.setting.shown(value));
        Self::PemFile { key, value, origin: entry.origin.clone(), fault }
    }

    /// A setting is of no use without another one.
    pub(super) fn alone(raw: &Raw, key: &'static str, other: &'static str) -> Self {
        Self::of(raw, key, format!("expected {other} beside it"))
    }

    /// A setting does not do as it is.
    pub(super) fn of(raw: &Raw, key: &'static str, rule: String) -> Self {
        let entry = raw.entry(key);
        let value = entry.value.as_ref().map_or_else(String::new, |value| entry.setting.shown(value));
        Self::Conflict { key, value, origin: entry.origin.clone(), rule }
    }
}

/// What is wrong with a PEM file.
#[derive(Debug, Error)]
pub(crate) enum PemFault {
    /// It cannot be read.
    #[error("the file cannot be read: {0}; check the path and its permissions")]
    Read(io::Error),
    /// It is not PEM, or holds something else.
    #[error("the file holds no usable {0}: {1}; expected a PEM file")]
    Content(&'static str, pem::Error),
    /// It is no PEM file at all but a secret, and a weak one.
    #[error(transparent)]
    Secret(#[from] SecretTooShort),
    /// It is no set of keys.
    #[error(transparent)]
    Keys(#[from] zonecast_access::BadKeys),
}

/// Everything that is wrong with the settings; never empty.
#[derive(Debug)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0.as_slice() {
            return write!(f, "the configuration is not valid: {only}");
        }
        write!(f, "the configuration has {} problems:", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}

impl std::error::Error for Problems {}
