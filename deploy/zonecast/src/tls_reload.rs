//! Certificates that are replaced on disk, by hand or by a program, while a broker or services serve.

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
use zonecast_doors::grpc::{ClientCertificates, GrpcTls};
use zonecast_host::Host;

/// Most bytes of a file that are looked at for changes: many times what a chain of certificates has.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The files that TLS is made of.
#[derive(Debug, Clone)]
pub(crate) struct TlsFiles {
    /// The certificate chain.
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
    /// Reads them for gRPC. Take the fingerprint first, as in [`load`](Self::load).
    ///
    /// # Errors
    /// One cannot be read.
    pub(crate) fn load_grpc(&self, is_client_certificate_required: bool) -> anyhow::Result<GrpcTls> {
        let text =
            |path: &Path| std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()));
        let clients = match self.client_ca.as_deref().map(text).transpose()? {
            None => ClientCertificates::Unwanted,
            Some(authorities) if is_client_certificate_required => ClientCertificates::Required(authorities),
            Some(authorities) => ClientCertificates::Optional(authorities),
        };
        Ok(GrpcTls { certificate: text(&self.certificate)?, key: text(&self.key)?, clients })
    }

    /// Reads them for a broker. Take the [`fingerprint`](Self::fingerprint) first: a change in between is then seen as one.
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

/// Where the certificates come from, and how to find out that they have changed.
#[derive(Debug)]
pub(crate) struct TlsSource {
    /// The files.
    pub(crate) files: TlsFiles,
    /// What was in them when the settings were checked.
    pub(crate) seen: Fingerprint,
    /// How often to look at them; 0 leaves it to the signal.
    pub(crate) reload_interval: Duration,
}

/// Has the files taken whenever they have changed, or at the signal.
pub(crate) async fn keep_fresh(
    source: TlsSource,
    mut hangup: Signal,
    reload: impl Fn(&TlsFiles) -> anyhow::Result<()>,
) -> Infallible {
    let TlsSource { files, mut seen, reload_interval: interval } = source;
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
        if let Err(error) = reload(&files) {
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

/// A broker takes the files.
///
/// # Errors
/// They do not serve, and the old ones go on.
pub(crate) fn reload_broker(broker: &Broker, files: &TlsFiles) -> anyhow::Result<()> {
    let tls = files.load().inspect_err(|_| broker.count_tls_reload_failure())?;
    broker.reload_tls(&tls).context("the broker refuses them")?;
    tell_broker("new certificates are in force; sessions stay", &tls);
    Ok(())
}

/// Services take the files.
///
/// # Errors
/// They do not serve, and the old ones go on.
pub(crate) fn reload_services(
    host: &Host,
    files: &TlsFiles,
    is_client_certificate_required: bool,
) -> anyhow::Result<()> {
    let tls = files.load_grpc(is_client_certificate_required).inspect_err(|_| host.count_tls_reload_failure())?;
    host.reload_grpc_tls(&tls)?;
    tell_services("new certificates are in force; connections stay", &tls);
    Ok(())
}

/// Logs whom the broker's certificate is for, and until when.
pub(crate) fn tell_broker(message: &str, tls: &BrokerTls) {
    tell(message, &tls.names(), tls.expires_at(), tls.demands_client_certificates());
}

/// Logs whom the services' certificate is for, and until when.
pub(crate) fn tell_services(message: &str, tls: &GrpcTls) {
    tell(message, &tls.names(), tls.expires_at(), tls.clients != ClientCertificates::Unwanted);
}

fn tell(message: &str, names: &[String], expires_at: Option<u64>, client_certificates: bool) {
    let names = names.join(", ");
    let expires_at = expires_at.and_then(|seconds| i64::try_from(seconds).ok());
    let expires = expires_at.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let shown = expires.and_then(|time| time.format(&Rfc3339).ok());
    tracing::info!(names, expires = shown, client_certificates, "{message}");
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
