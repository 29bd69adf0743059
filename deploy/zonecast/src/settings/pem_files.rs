//! The certificate, key, authorities and secret that the settings name.

use std::{path::Path, time::Duration};

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use zonecast_broker::{BrokerTls, ResetSecret};

use super::{
    Draft,
    problem::{PemFault, Problem},
    raw::Raw,
};
use crate::tls_reload::{TlsFiles, TlsSource};

/// The settings that name the files of TLS.
pub(super) struct Keys {
    pub(super) certificate: &'static str,
    pub(super) key: &'static str,
    pub(super) client_ca: &'static str,
}

const KEYS: Keys = Keys { certificate: "tls.certificate", key: "tls.key", client_ca: "tls.client_ca" };
const RESET_SECRET: &str = "tls.reset_secret";

/// What was in the files.
pub(super) struct Loaded {
    pub(super) tls: BrokerTls,
    pub(super) source: TlsSource,
    pub(super) reset_secret: Option<ResetSecret>,
}

/// Loads the broker's files; each that is missing or not usable becomes a problem of its own.
pub(super) fn load(raw: &Raw, draft: &Draft, problems: &mut Vec<Problem>) -> Option<Loaded> {
    let missing: Vec<_> =
        [KEYS.certificate, KEYS.key].into_iter().filter(|key| raw.entry(key).value.is_none()).collect();
    if !missing.is_empty() && raw.file_was_read {
        problems.push(Problem::NoCertificate { keys: missing });
    }
    let paths = [draft.certificate.as_deref(), draft.key.as_deref(), draft.client_ca.as_deref()];
    let source = source(raw, &KEYS, paths, draft.reload_interval, problems);
    let before = problems.len();
    let reset_secret = note(raw, RESET_SECRET, draft.reset_secret.as_deref(), read_secret, problems);
    let source = source.filter(|_| problems.len() == before)?;
    match source.files.load() {
        Ok(tls) => Some(Loaded { tls, source, reset_secret }),
        Err(error) => {
            let TlsFiles { certificate, key, .. } = source.files;
            problems.push(Problem::Tls { certificate, key, source: error });
            None
        }
    }
}

/// The files of TLS, as they are now: certificate, key, and the authorities of clients. Each by itself, for what loads them
/// all stops at the first that is wrong.
pub(super) fn source(
    raw: &Raw,
    keys: &Keys,
    [certificate, key, client_ca]: [Option<&Path>; 3],
    reload_interval: Duration,
    problems: &mut Vec<Problem>,
) -> Option<TlsSource> {
    let before = problems.len();
    note(raw, keys.certificate, certificate, check_certificates, problems);
    note(raw, keys.key, key, check_key, problems);
    note(raw, keys.client_ca, client_ca, check_certificates, problems);
    let (certificate, key) = (certificate?.to_owned(), key?.to_owned());
    if problems.len() > before {
        return None;
    }
    let files = TlsFiles { certificate, key, client_ca: client_ca.map(Path::to_owned) };
    let seen = files.fingerprint();
    Some(TlsSource { files, seen, reload_interval })
}

fn note<T>(
    raw: &Raw,
    key: &'static str,
    path: Option<&Path>,
    check: fn(&Path) -> Result<T, PemFault>,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    let fault = match path.map(check)? {
        Ok(content) => return Some(content),
        Err(fault) => fault,
    };
    let entry = raw.entry(key);
    let value = entry.value.as_ref().map_or_else(String::new, |value| entry.setting.shown(value));
    problems.push(Problem::PemFile { key, value, origin: entry.origin.clone(), fault });
    None
}

fn fault(content: &'static str) -> impl FnOnce(pem::Error) -> PemFault {
    move |error| match error {
        pem::Error::Io(source) => PemFault::Read(source),
        other => PemFault::Content(content, other),
    }
}

fn check_certificates(path: &Path) -> Result<(), PemFault> {
    let content = "certificate";
    let mut found = CertificateDer::pem_file_iter(path).map_err(fault(content))?;
    found.next().ok_or(PemFault::Content(content, pem::Error::NoItemsFound))?.map_err(fault(content))?;
    found.try_for_each(|certificate| certificate.map(|_| ())).map_err(fault(content))
}

fn check_key(path: &Path) -> Result<(), PemFault> {
    PrivateKeyDer::from_pem_file(path).map(|_| ()).map_err(fault("private key"))
}

fn read_secret(path: &Path) -> Result<ResetSecret, PemFault> {
    let bytes = std::fs::read(path).map_err(PemFault::Read)?;
    // Whoever wrote it with a shell left a line end, and may not do so the next time.
    Ok(ResetSecret::new(bytes.trim_ascii_end())?)
}
