//! The broker's side of TLS: certificate, client certificates, and the QUIC configuration made of them.

mod certificate;
mod restart;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use quinn::crypto::rustls::QuicServerConfig;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use thiserror::Error;
use zonecast_access::{certificate_expires_at, certificate_names};
use zonecast_protocol::ALPN;

pub(crate) use self::certificate::check_names_client;
pub use self::certificate::client_named_by;
pub use self::restart::{ResetSecret, SecretTooShort};

/// A broker's certificate chain and key, and the authorities whose client certificates it demands.
#[derive(Debug)]
pub struct BrokerTls {
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_roots: Option<Arc<RootCertStore>>,
}

impl Clone for BrokerTls {
    fn clone(&self) -> Self {
        Self {
            certificates: self.certificates.clone(),
            key: self.key.clone_key(),
            client_roots: self.client_roots.clone(),
        }
    }
}

/// Why TLS cannot be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A PEM file cannot be read.
    #[error("{role} file {path} cannot be read: {source}; check the path and its permissions", path = path.display())]
    Read {
        /// What the file is for.
        role: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A PEM file does not hold what it should.
    #[error("{role} file {path} holds no usable {role}: {problem}; it must be PEM", path = path.display())]
    Pem {
        /// What the file is for.
        role: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Certificate and key do not serve together.
    #[error("certificate and key do not serve together: {0}")]
    Unusable(#[from] rustls::Error),
    /// The authorities for client certificates cannot be used.
    #[error("the client certificate authorities cannot be used: {0}")]
    ClientRoots(#[from] rustls::server::VerifierBuilderError),
    /// The cipher suite that QUIC needs is missing.
    #[error("the crypto provider cannot serve QUIC: {0}")]
    NoInitialCipherSuite(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
}

fn pem_error(role: &'static str, path: &Path) -> impl FnOnce(pem::Error) -> TlsError {
    move |error| {
        let path = path.to_owned();
        match error {
            pem::Error::Io(source) => TlsError::Read { role, path, source },
            other => TlsError::Pem { role, path, problem: other.to_string() },
        }
    }
}

fn certificates(role: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).map_err(pem_error(role, path))?;
    let found = read.collect::<Result<Vec<_>, _>>().map_err(pem_error(role, path))?;
    if found.is_empty() {
        return Err(TlsError::Pem { role, path: path.to_owned(), problem: "no certificate in it".into() });
    }
    Ok(found)
}

impl BrokerTls {
    /// A certificate chain (the broker's own first) and its key; any client may connect.
    #[must_use]
    pub fn new(certificates: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        Self { certificates, key, client_roots: None }
    }

    /// Reads PEM files. With `client_ca`, clients must show a certificate that one of its authorities signed.
    ///
    /// # Errors
    /// A file cannot be read or does not hold what it should.
    pub fn from_files(certificate: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Self, TlsError> {
        let chain = certificates("certificate", certificate)?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(pem_error("private key", key))?;
        let tls = Self::new(chain, private);
        let Some(path) = client_ca else { return Ok(tls) };
        let role = "client CA";
        let mut roots = RootCertStore::empty();
        for root in certificates(role, path)? {
            roots.add(root).map_err(|error| TlsError::Pem {
                role,
                path: path.to_owned(),
                problem: error.to_string(),
            })?;
        }
        Ok(tls.with_client_roots(roots))
    }

    /// Demands a client certificate that one of these authorities signed.
    #[must_use]
    pub fn with_client_roots(mut self, roots: RootCertStore) -> Self {
        self.client_roots = Some(Arc::new(roots));
        self
    }

    /// Whether clients must show a certificate.
    #[must_use]
    pub fn demands_client_certificates(&self) -> bool {
        self.client_roots.is_some()
    }

    /// The DNS names and URIs that the broker's certificate is for.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.certificates.first().map_or_else(Vec::new, certificate_names)
    }

    /// When the broker's certificate expires, in seconds since 1970; `None` when that cannot be read.
    #[must_use]
    pub fn expires_at(&self) -> Option<u64> {
        certificate_expires_at(self.certificates.first()?)
    }

    /// The private key as the secret that is kept over restarts.
    pub(crate) fn reset_secret(&self) -> ResetSecret {
        ResetSecret::of_key(self.key.secret_der())
    }

    /// The TLS side of a QUIC endpoint: TLS 1.3, our ALPN, no 0-RTT (its data could be replayed by anyone), no
    /// resumption.
    ///
    /// # Errors
    /// Certificate, key and authorities do not serve together.
    pub fn quic_config(&self) -> Result<QuicServerConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?;
        let builder = match &self.client_roots {
            Some(roots) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider).build()?,
            ),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(self.certificates.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.max_early_data_size = 0;
        // No resumption either: every connection has its certificate checked, against the authorities of that moment.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(QuicServerConfig::try_from(config)?)
    }
}
