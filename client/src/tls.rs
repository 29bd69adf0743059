//! Whom the client trusts, and who it is.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use quinn::crypto::rustls::QuicClientConfig;
use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
};
use thiserror::Error;
use zonecast_protocol::ALPN;

/// Why there is no usable TLS configuration.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// No certificate authority is named, so no broker could be trusted.
    #[error("no CA is given; name the PEM file with the certificate that signed the broker's")]
    NoCa,
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A PEM text holds nothing of the kind, or is broken.
    #[error("{what} is not usable: {source}; give PEM text that holds it")]
    Pem {
        /// What was looked for.
        what: &'static str,
        /// What is wrong.
        source: pem::Error,
    },
    /// Certificate or key do not do what they must.
    #[error("{what} is not usable: {source}")]
    Unusable {
        /// Which.
        what: &'static str,
        /// What is wrong.
        source: rustls::Error,
    },
}

impl TlsError {
    /// The variant's name, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoCa => "no_ca",
            Self::ReadFile { .. } => "read_file",
            Self::Pem { .. } => "pem",
            Self::Unusable { .. } => "unusable",
        }
    }
}

/// Whose brokers are trusted, and with which certificate the client shows itself to brokers that ask for one.
///
/// TLS 1.3 only, by rustls with aws-lc-rs. The broker's certificate must be signed by the given CA for the name that
/// is connected to; there is no way to switch that off. The system's own list of CAs is not consulted.
#[derive(Clone)]
pub struct TlsConfig {
    roots: Arc<RootCertStore>,
    identity: Option<Arc<Identity>>,
}

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::ReadFile { path: path.to_owned(), source })
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(certificates) if certificates.is_empty() => Err(TlsError::Pem { what, source: pem::Error::NoItemsFound }),
        Ok(certificates) => Ok(certificates),
        Err(source) => Err(TlsError::Pem { what, source }),
    }
}

impl TlsConfig {
    /// Trusts brokers whose certificate one of these CA certificates (PEM text, one or more) has signed.
    ///
    /// # Errors
    /// The text holds no certificate, or a broken one.
    pub fn from_ca_pem(pem: &[u8]) -> Result<Self, TlsError> {
        const WHAT: &str = "the CA certificate";
        let mut roots = RootCertStore::empty();
        for certificate in certificates(pem, WHAT)? {
            roots.add(certificate).map_err(|source| TlsError::Unusable { what: WHAT, source })?;
        }
        Ok(Self { roots: Arc::new(roots), identity: None })
    }

    /// Shows this certificate chain (PEM text, own certificate first) to brokers that demand one, proving it by the key.
    ///
    /// # Errors
    /// A text does not hold what it should.
    pub fn with_client_certificate_pem(mut self, chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain = certificates(chain, "the client certificate")?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|source| TlsError::Pem { what: "the client certificate's key", source })?;
        self.identity = Some(Arc::new(Identity { chain, key }));
        Ok(self)
    }

    /// [`from_ca_pem`](Self::from_ca_pem) and [`with_client_certificate_pem`](Self::with_client_certificate_pem) from
    /// files, named as command lines have them: the CA's, and the client's certificate with its key.
    ///
    /// # Errors
    /// No CA is named, a file cannot be read, or does not hold what it should.
    pub fn from_files(ca: Option<&Path>, client: Option<(&Path, &Path)>) -> Result<Self, TlsError> {
        let config = Self::from_ca_pem(&read(ca.ok_or(TlsError::NoCa)?)?)?;
        match client {
            Some((chain, key)) => config.with_client_certificate_pem(&read(chain)?, &read(key)?),
            None => Ok(config),
        }
    }

    pub(crate) fn has_client_certificate(&self) -> bool {
        self.identity.is_some()
    }

    /// What quinn needs.
    pub(crate) fn crypto(&self) -> Result<Arc<QuicClientConfig>, TlsError> {
        let unusable = |what| move |source| TlsError::Unusable { what, source };
        // Named here so that no process-wide default provider is asked for.
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable("TLS 1.3"))?
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.identity {
            Some(identity) => builder
                .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
                .map_err(unusable("the client certificate or its key"))?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_early_data = false;
        let crypto = QuicClientConfig::try_from(config).map_err(|_| TlsError::Unusable {
            what: "the TLS configuration",
            source: rustls::Error::General("no cipher suite for QUIC's first packets".into()),
        })?;
        Ok(Arc::new(crypto))
    }
}

impl fmt::Debug for TlsConfig {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig")
            .field("ca_certificates", &self.roots.len())
            .field("client_certificate", &self.identity.is_some())
            .finish()
    }
}
