//! The certificate, key, authorities and secret that the settings name.

use std::path::Path;

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
use crate::tls_reload::{Fingerprint, TlsFiles};

const CERTIFICATE: &str = "tls.certificate";
const KEY: &str = "tls.key";
const CLIENT_CA: &str = "tls.client_ca";
const RESET_SECRET: &str = "tls.reset_secret";

/// What was in the files.
pub(super) struct Loaded {
    pub(super) tls: BrokerTls,
    pub(super) files: TlsFiles,
    /// Taken before the files were read.
    pub(super) seen: Fingerprint,
    pub(super) reset_secret: Option<ResetSecret>,
}

/// Loads the files; each that is missing or not usable becomes a problem of its own.
pub(super) fn load(raw: &Raw, draft: &Draft, problems: &mut Vec<Problem>) -> Option<Loaded> {
    let missing: Vec<_> = [CERTIFICATE, KEY].into_iter().filter(|key| raw.entry(key).value.is_none()).collect();
    if !missing.is_empty() && raw.file_was_read {
        problems.push(Problem::NoCertificate { keys: missing });
    }
    // Each file by itself first: what does not load them all stops at the first that is wrong.
    let before = problems.len();
    note(raw, CERTIFICATE, draft.certificate.as_deref(), check_certificates, problems);
    note(raw, KEY, draft.key.as_deref(), check_key, problems);
    note(raw, CLIENT_CA, draft.client_ca.as_deref(), check_certificates, problems);
    let reset_secret = note(raw, RESET_SECRET, draft.reset_secret.as_deref(), read_secret, problems);
    let (Some(certificate), Some(key)) = (draft.certificate.clone(), draft.key.clone()) else { return None };
    if problems.len() > before {
        return None;
    }
    let files = TlsFiles { certificate, key, client_ca: draft.client_ca.clone() };
    let seen = files.fingerprint();
    match files.load() {
        Ok(tls) => Some(Loaded { tls, files, seen, reset_secret }),
        Err(source) => {
            problems.push(Problem::Tls { certificate: files.certificate, key: files.key, source });
            None
        }
    }
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
