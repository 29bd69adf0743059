//! The brokers' certificates: an authority that lives as long as the run, and files that are rewritten.

use std::{
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use quinn::crypto::rustls::QuicClientConfig;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::time::timeout;

use crate::script::SERVER_NAME;

/// The protocol's name in the TLS handshake.
const ALPN: &[u8] = b"zonecast/1";
/// How long a handshake may take.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);

/// The files of an authority and of the certificate that it gave last.
pub(crate) struct Certificates {
    authority: CertifiedIssuer<'static, KeyPair>,
    pub(crate) ca: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// From which the brokers' keys for stateless resets follow, whatever their certificate.
    pub(crate) reset_secret: PathBuf,
}

impl Certificates {
    /// Makes the authority and a first certificate.
    ///
    /// # Errors
    /// The files cannot be written.
    pub(crate) fn new(directory: &Path) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?).context("the authority")?;
        let file = |name: &str| directory.join(name);
        let ca = file("ca.pem");
        fs::write(&ca, authority.pem()).context("the authority's certificate")?;
        let reset_secret = file("reset.secret");
        fs::write(&reset_secret, KeyPair::generate()?.serialize_pem()).context("the reset secret")?;
        fs::set_permissions(&reset_secret, Permissions::from_mode(0o600))?;
        let made = Self { authority, ca, certificate: file("server.pem"), key: file("server.key"), reset_secret };
        made.rotate()?;
        Ok(made)
    }

    /// Gives a new certificate with a new key, and writes both over the old ones. Gives back the certificate.
    ///
    /// # Errors
    /// The files cannot be written.
    pub(crate) fn rotate(&self) -> anyhow::Result<CertificateDer<'static>> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new([SERVER_NAME.to_owned()])?;
        let certificate = params.signed_by(&key, &self.authority).context("a certificate")?;
        for (path, text) in [(&self.certificate, certificate.pem()), (&self.key, key.serialize_pem())] {
            // Beside the file and renamed, as one does it: nobody reads half of it.
            let beside = path.with_extension("new");
            fs::write(&beside, text).with_context(|| format!("{}", beside.display()))?;
            fs::set_permissions(&beside, Permissions::from_mode(0o600))?;
            fs::rename(&beside, path).with_context(|| format!("{}", path.display()))?;
        }
        Ok(certificate.der().clone())
    }

    /// The certificate that a broker shows to a new connection.
    ///
    /// # Errors
    /// There is no handshake with it.
    pub(crate) async fn shown_by(&self, broker: SocketAddr) -> anyhow::Result<CertificateDer<'static>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.ca)?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut crypto = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        crypto.alpn_protocols = vec![ALPN.to_vec()];
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(crypto)?));
        let endpoint = quinn::Endpoint::client(SocketAddr::new([0, 0, 0, 0].into(), 0))?;
        let connecting = endpoint.connect_with(config, broker, SERVER_NAME)?;
        let connection = timeout(HANDSHAKE_PATIENCE, connecting).await.context("no handshake in time")??;
        let shown = connection.peer_identity().context("the broker shows no certificate")?;
        connection.close(0_u32.into(), b"");
        match shown.downcast::<Vec<CertificateDer<'static>>>() {
            Ok(chain) => chain.into_iter().next().context("an empty chain"),
            Err(_) => bail!("the broker's identity is no certificate chain"),
        }
    }
}
