//! One authority, one server certificate and one cipher for everybody in a run.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

/// The server's name in every certificate of a run.
pub const SERVER_NAME: &str = "localhost";

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate could not be made.
    #[error("the certificates cannot be made: {0}")]
    Making(#[from] rcgen::Error),
    /// A file could not be written.
    #[error("{1}: {0}")]
    File(#[source] io::Error, PathBuf),
    /// A certificate or key could not be read.
    #[error("{1}: {0}")]
    Pem(#[source] rustls::pki_types::pem::Error, PathBuf),
    /// Nobody said whom to trust.
    #[error("no authority is given")]
    NoAuthority,
    /// What was read cannot be used.
    #[error(transparent)]
    Config(#[from] rustls::Error),
}

/// Certificate files in PEM.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Certificates {
    /// The authority that clients trust.
    pub ca: PathBuf,
    /// The server's certificate, for [`SERVER_NAME`] and 127.0.0.1.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Certificates {
    /// Makes an authority and a server certificate in this directory.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn create(directory: &Path) -> Result<Self, TlsError> {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let server = CertificateParams::new([SERVER_NAME.to_owned(), "127.0.0.1".to_owned()])?;
        let server = server.signed_by(&key, &authority)?;
        let write = |name: &str, pem: &str| {
            let path = directory.join(name);
            fs::write(&path, pem).map(|()| path.clone()).map_err(|error| TlsError::File(error, path))
        };
        Ok(Self {
            ca: write("ca.pem", &authority.pem())?,
            certificate: write("server.pem", &server.pem())?,
            key: write("server.key", &key.serialize_pem())?,
        })
    }

    /// What the own brokers answer handshakes with: TLS 1.3, no early data.
    ///
    /// # Errors
    /// The files are not there or not what they should be.
    pub fn server(&self) -> Result<ServerConfig, TlsError> {
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| TlsError::Pem(error, self.key.clone()))?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok(config)
    }
}

/// What clients begin handshakes with, trusting this authority.
///
/// # Errors
/// The file is not given, not there, or not what it should be.
pub fn client(ca: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let ca = ca.ok_or(TlsError::NoAuthority)?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate)?;
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// The name as rustls wants it.
#[must_use]
pub fn server_name() -> ServerName<'static> {
    ServerName::try_from(SERVER_NAME).expect("localhost is a name")
}

/// Makes AES-128-GCM the cipher of libraries that set up TLS by themselves, as tonic does. A second call is without
/// effect.
pub fn install_provider() {
    // An error says that a provider is there: ours, from an earlier call.
    let _ = Arc::unwrap_or_clone(provider()).install_default();
}

/// aws-lc-rs with one cipher suite, so that everybody is measured with the same.
fn provider() -> Arc<CryptoProvider> {
    let cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    Arc::new(CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    read.map_err(|error| TlsError::Pem(error, path.to_owned()))
}
