//! Door one's side of TLS: its certificate, and whose certificates it looks at.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use thiserror::Error;
use zonecast_access::{certificate_expires_at, certificate_names};

/// What the door speaks, by ALPN: gRPC wants the first; browsers and whoever reads the published pages may have the second
/// alone.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The door's key and certificate, PEM.
#[derive(Clone)]
pub struct GrpcTls {
    /// The certificate chain, its own certificate first.
    pub certificate: String,
    /// The private key.
    pub key: String,
    /// Whether callers show certificates.
    pub clients: ClientCertificates,
}

/// Whether callers show certificates. One that is shown is verified in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked.
    Unwanted,
    /// By one of these authorities, PEM, who has one; by it a credential may be known.
    Optional(String),
    /// By one of these authorities, PEM, every caller; others are not met at all.
    Required(String),
}

/// Why a door cannot be met by TLS.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GrpcTlsError {
    /// Something is no PEM, or not of what it should be.
    #[error("the {role} cannot be read: {problem}; it must be PEM")]
    Pem {
        /// What it is for.
        role: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Certificate and key do not serve together.
    #[error("certificate and key do not serve together: {0}")]
    Unusable(#[from] rustls::Error),
    /// The authorities for client certificates cannot be used.
    #[error("the client certificate authorities cannot be used: {0}")]
    ClientRoots(#[from] rustls::server::VerifierBuilderError),
}

impl GrpcTlsError {
    /// The variant's name, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Pem { .. } => "pem",
            Self::Unusable(_) => "unusable",
            Self::ClientRoots(_) => "client_roots",
        }
    }
}

impl GrpcTls {
    /// Whether a door can be met with it.
    ///
    /// # Errors
    /// It cannot.
    pub fn check(&self) -> Result<(), GrpcTlsError> {
        self.server_config().map(drop)
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, GrpcTlsError> {
        certificates("certificate", &self.certificate)
    }

    /// When the door's certificate expires, in seconds since 1970; `None` when that cannot be read.
    #[must_use]
    pub fn expires_at(&self) -> Option<u64> {
        certificate_expires_at(self.chain().ok()?.first()?)
    }

    /// The DNS names and URIs that the door's certificate is for.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.chain().ok().and_then(|chain| chain.first().map(certificate_names)).unwrap_or_default()
    }

    /// No resumption: every connection has its certificate checked, against the authorities of that moment.
    pub(crate) fn server_config(&self) -> Result<Arc<ServerConfig>, GrpcTlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let roots = |pem: &str| -> Result<_, GrpcTlsError> {
            let mut roots = RootCertStore::empty();
            for root in certificates("client CA", pem)? {
                roots.add(root)?;
            }
            Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider))
        };
        let builder = match &self.clients {
            ClientCertificates::Unwanted => builder.with_no_client_auth(),
            ClientCertificates::Optional(pem) => {
                builder.with_client_cert_verifier(roots(pem)?.allow_unauthenticated().build()?)
            }
            ClientCertificates::Required(pem) => builder.with_client_cert_verifier(roots(pem)?.build()?),
        };
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(unreadable("key"))?;
        let mut config = builder.with_single_cert(self.chain()?, key)?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        config.max_early_data_size = 0;
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }
}

fn unreadable(role: &'static str) -> impl Fn(pem::Error) -> GrpcTlsError {
    move |error| GrpcTlsError::Pem { role, problem: error.to_string() }
}

fn certificates(role: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, GrpcTlsError> {
    let found = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(unreadable(role))?;
    if found.is_empty() {
        return Err(GrpcTlsError::Pem { role, problem: "no certificate in it".to_owned() });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_serve_is_told_apart() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let good = GrpcTls {
            certificate: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
            clients: ClientCertificates::Optional(other.cert.pem()),
        };
        good.server_config().unwrap();
        let of = |change: &dyn Fn(&mut GrpcTls)| {
            let mut tls = good.clone();
            change(&mut tls);
            let error = tls.server_config().unwrap_err();
            (error.kind(), error.to_string())
        };
        let (kind, told) = of(&|tls| tls.certificate = "x".into());
        assert!(kind == "pem" && told.contains("the certificate"), "{told}");
        let (kind, told) = of(&|tls| tls.key = tls.certificate.clone());
        assert!(kind == "pem" && told.contains("the key"), "{told}");
        let (kind, told) = of(&|tls| tls.key = other.signing_key.serialize_pem());
        assert!(kind == "unusable" && told.contains("do not serve together"), "{told}");
        let (kind, told) = of(&|tls| tls.clients = ClientCertificates::Required(String::new()));
        assert!(kind == "pem" && told.contains("client CA"), "{told}");
    }
}
