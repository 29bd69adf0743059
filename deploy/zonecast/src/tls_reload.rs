//! Certificates that are replaced on disk, by hand or by a program, while the broker serves.

use std::{
    convert::Infallible,
    fs::File,
    hash::{DefaultHasher, Hash, Hasher},
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{signal::unix::Signal, time::MissedTickBehavior};
use zonecast_broker::{Broker, BrokerTls, TlsError};

/// Most bytes of a file that are looked at for changes: many times what a chain of certificates has.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The files that TLS is made of.
#[derive(Debug, Clone)]
pub(crate) struct TlsFiles {
    /// The broker's certificate chain.
    pub(crate) certificate: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
    /// The authorities of clients' certificates.
    pub(crate) client_ca: Option<PathBuf>,
}

/// What was in the files: equal when nothing has changed. By content, because what Kubernetes swaps are links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

impl TlsFiles {
    /// Reads them. Take the [`fingerprint`](Self::fingerprint) first: a change in between is then seen as one.
    ///
    /// # Errors
    /// One cannot be read, or they do not serve together.
    pub(crate) fn load(&self) -> Result<BrokerTls, TlsError> {
        let tls = BrokerTls::from_files(&self.certificate, &self.key, self.client_ca.as_deref())?;
        tls.quic_config().map(|_| tls)
    }

    /// What is in the files now.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let mut hasher = DefaultHasher::new();
        for path in [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten() {
            content(path).hash(&mut hasher);
        }
        Fingerprint(hasher.finish())
    }
}

/// `None` for what cannot be read: that it can be read again is a change too.
fn content(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Gives the broker the files whenever they have changed, or at the signal. An interval of 0 leaves it to the signal.
pub(crate) async fn keep_fresh(
    broker: &Broker,
    files: &TlsFiles,
    mut seen: Fingerprint,
    interval: Duration,
    mut hangup: Signal,
) -> Infallible {
    let mut looks = tokio::time::interval(interval.max(Duration::from_millis(1)));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_asked = tokio::select! {
            _ = looks.tick(), if !interval.is_zero() => false,
            _ = hangup.recv() => true,
        };
        let found = files.fingerprint();
        if found == seen && !is_asked {
            continue;
        }
        seen = found;
        if let Err(error) = reload(broker, files) {
            tracing::error!(
                error = format!("{error:#}"),
                certificate = %files.certificate.display(),
                key = %files.key.display(),
                "new certificates cannot be used, the old ones go on serving; \
                 put usable files in place, which are then taken by themselves, or at SIGHUP"
            );
        }
    }
}

fn reload(broker: &Broker, files: &TlsFiles) -> anyhow::Result<()> {
    let tls = files.load().inspect_err(|_| broker.count_tls_reload_failure())?;
    broker.reload_tls(&tls).context("the broker refuses them")?;
    tell("new certificates are in force; sessions stay", &tls);
    Ok(())
}

/// Logs whom the broker's certificate is for, and until when.
pub(crate) fn tell(message: &str, tls: &BrokerTls) {
    let names = tls.names().join(", ");
    let expires_at = tls.expires_at().and_then(|seconds| i64::try_from(seconds).ok());
    let expires = expires_at.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let shown = expires.and_then(|time| time.format(&Rfc3339).ok());
    tracing::info!(names, expires = shown, client_certificates = tls.demands_client_certificates(), "{message}");
    if expires.is_some_and(|time| time <= OffsetDateTime::now_utc()) {
        tracing::warn!(names, expires = shown, "the certificate has expired: clients refuse it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_any_file_is_seen_and_a_rewrite_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let files = TlsFiles { certificate: path("a"), key: path("b"), client_ca: Some(path("c")) };
        let mut seen = files.fingerprint();
        for name in ["a", "b", "c"] {
            for content in ["one", "two"] {
                std::fs::write(path(name), content).unwrap();
                assert_ne!(files.fingerprint(), seen, "{name}");
                seen = files.fingerprint();
            }
            std::fs::write(path(name), "two").unwrap();
            assert_eq!(files.fingerprint(), seen);
        }
        std::fs::remove_file(path("c")).unwrap();
        assert_ne!(files.fingerprint(), seen);
    }
}
