//! The certificate of all simulated brokers.

use anyhow::Context;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, SerialNumber, date_time_ymd};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zonecast_broker::BrokerTls;
use zonecast_client::TlsConfig;

/// The name that it is for.
pub(super) const SERVER_NAME: &str = "broker.simulated";

/// What comes before the 32 bytes of an Ed25519 key in PKCS #8 (RFC 8410, section 7).
const PKCS8_ED25519: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A certificate and whom it is trusted by. The same each time, so that handshakes are of the same length: an Ed25519
/// signature has one, an ECDSA signature has not.
#[derive(Clone)]
pub struct Identity {
    pub(super) broker: BrokerTls,
    pub(super) client: TlsConfig,
}

impl Identity {
    /// Makes it.
    ///
    /// # Errors
    /// The crypto library does not take what it should.
    pub fn new() -> anyhow::Result<Self> {
        let mut key = PKCS8_ED25519.to_vec();
        // No secret: whoever simulates a broker may pretend to be it.
        key.extend([7; 32]);
        let key = PrivatePkcs8KeyDer::from(key);
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519).context("the fixed key")?;
        let mut params = CertificateParams::new([SERVER_NAME.to_owned()]).context("the name")?;
        params.serial_number = Some(SerialNumber::from(1));
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2999, 1, 1);
        let certificate = params.self_signed(&pair).context("the certificate")?;
        let client = TlsConfig::from_ca_pem(certificate.pem().as_bytes()).context("the client's side")?;
        let broker = BrokerTls::new(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key));
        Ok(Self { broker, client })
    }
}
