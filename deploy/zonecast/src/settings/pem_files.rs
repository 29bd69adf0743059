//! The certificate, key and authorities that the settings name.

use std::path::Path;

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use zonecast_broker::BrokerTls;

use super::{
    Draft,
    problem::{PemFault, Problem},
    raw::Raw,
};

const CERTIFICATE: &str = "tls.certificate";
const KEY: &str = "tls.key";
const CLIENT_CA: &str = "tls.client_ca";

/// Loads the files; each that is missing or not usable becomes a problem of its own.
pub(super) fn load(raw: &Raw, draft: &Draft, problems: &mut Vec<Problem>) -> Option<BrokerTls> {
    let missing: Vec<_> = [CERTIFICATE, KEY].into_iter().filter(|key| raw.entry(key).value.is_none()).collect();
    if !missing.is_empty() && raw.file_was_read {
        problems.push(Problem::NoCertificate { keys: missing });
    }
    // Each file by itself first: what does not load them all stops at the first that is wrong.
    let before = problems.len();
    note(raw, CERTIFICATE, draft.certificate.as_deref(), check_certificates, problems);
    note(raw, KEY, draft.key.as_deref(), check_key, problems);
    note(raw, CLIENT_CA, draft.client_ca.as_deref(), check_certificates, problems);
    let (Some(certificate), Some(key)) = (&draft.certificate, &draft.key) else { return None };
    if problems.len() > before {
        return None;
    }
    let loaded = BrokerTls::from_files(certificate, key, draft.client_ca.as_deref());
    match loaded.and_then(|tls| tls.quic_config().map(|_| tls)) {
        Ok(tls) => Some(tls),
        Err(source) => {
            problems.push(Problem::Tls { certificate: certificate.clone(), key: key.clone(), source });
            None
        }
    }
}

fn note(
    raw: &Raw,
    key: &'static str,
    path: Option<&Path>,
    check: fn(&Path) -> Result<(), PemFault>,
    problems: &mut Vec<Problem>,
) {
    let Some(Err(fault)) = path.map(check) else { return };
    let entry = raw.entry(key);
    let value = entry.value.as_ref().map_or_else(String::new, |value| entry.setting.shown(value));
    problems.push(Problem::PemFile { key, value, origin: entry.origin.clone(), fault });
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
