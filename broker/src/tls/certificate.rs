//! Which client a certificate names.

use rustls::pki_types::{CertificateDer, ServerName};
use webpki::EndEntityCert;
use zonecast_access::certificate_names;
use zonecast_protocol::{ClientId, Refusal, wire::ErrorCode};

/// What stands before the client's id in a URI that names a client: an id may hold what a DNS name may not.
const CLIENT_URI: &str = "zonecast://client/";

/// Names of a certificate that a refusal speaks of; one may have thousands.
const NAMES_TOLD_MAX: usize = 4;

/// The client that a certificate names first: what a tool calls itself that shows it.
#[must_use]
pub fn client_named_by(certificate: &CertificateDer<'_>) -> Option<ClientId> {
    let names = certificate_names(certificate);
    let by_uri = names.iter().filter_map(|name| name.strip_prefix(CLIENT_URI));
    // Neither a URI nor a wildcard is an id.
    by_uri.chain(names.iter().map(String::as_str)).find_map(|name| ClientId::new(name).ok())
}

/// Checks that the certificate names the client: by a URI of ours, or by a DNS name or IP address as TLS has them,
/// wildcards included.
pub(crate) fn check_names_client(certificate: &CertificateDer<'_>, client: &ClientId) -> Result<(), Refusal> {
    let names_it = EndEntityCert::try_from(certificate).is_ok_and(|parsed| {
        let as_host = ServerName::try_from(client.as_str());
        as_host.is_ok_and(|host| parsed.verify_is_valid_for_subject_name(&host).is_ok())
            || parsed.valid_uri_names().any(|uri| uri.strip_prefix(CLIENT_URI) == Some(client.as_str()))
    });
    if names_it {
        return Ok(());
    }
    let names = certificate_names(certificate);
    let told = match names.as_slice() {
        [] => "nobody (it has no subject alternative name)".to_owned(),
        some => some.iter().take(NAMES_TOLD_MAX).map(String::as_str).collect::<Vec<_>>().join(", "),
    };
    Err(Refusal::new(
        ErrorCode::Unauthenticated,
        format!("client_id is {client}, but the client certificate is for {told} (tls.client_identity)"),
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn certificate(names: Vec<rcgen::SanType>) -> CertificateDer<'static> {
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = names;
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn dns(name: &str) -> rcgen::SanType {
        rcgen::SanType::DnsName(name.try_into().unwrap())
    }

    fn uri(name: &str) -> rcgen::SanType {
        rcgen::SanType::URI(name.try_into().unwrap())
    }

    #[test]
    fn a_certificate_names_clients_by_dns_names_wildcards_addresses_and_uris() {
        let admits = |names: &[rcgen::SanType], client: &str| {
            check_names_client(&certificate(names.to_vec()), &ClientId::new(client).unwrap()).is_ok()
        };
        assert!(admits(&[dns("shard-1")], "shard-1") && !admits(&[dns("shard-1")], "shard-2"));
        assert!(admits(&[dns("a.games"), dns("b.games")], "b.games"));
        assert!(admits(&[dns("*.a.games")], "b.a.games"));
        assert!(!admits(&[dns("*.a.games")], "a.games") && !admits(&[dns("*.a.games")], "c.b.a.games"));
        let address = rcgen::SanType::IpAddress(std::net::IpAddr::from([10, 0, 0, 7]));
        assert!(admits(&[address], "10.0.0.7"));
        // No DNS name could be either of these.
        for odd in ["7", "-x-.."] {
            assert!(admits(&[uri(&format!("zonecast://client/{odd}"))], odd));
        }
        assert!(!admits(&[uri("zonecast://client/a.b")], "a") && !admits(&[uri("https://client/a")], "a"));
        assert!(!admits(&[], "a"));
    }

    #[test]
    fn a_tool_is_called_as_its_certificate_says() {
        let called = |names: &[rcgen::SanType]| client_named_by(&certificate(names.to_vec()));
        let client = |id: &str| Some(ClientId::new(id).unwrap());
        assert_eq!(called(&[dns("a.games"), uri("zonecast://client/7")]), client("7"));
        assert_eq!(called(&[uri("https://a"), dns("*.a.games"), dns("b.games")]), client("b.games"));
        assert_eq!(called(&[dns("*.a.games")]), None);
    }

    #[test]
    fn a_refusal_names_both() {
        let client = ClientId::new("shard-2").unwrap();
        let refusal = check_names_client(&certificate(vec![dns("shard-1")]), &client).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::Unauthenticated);
        assert!(refusal.message.contains("shard-2") && refusal.message.contains("shard-1"), "{}", refusal.message);
        let refusal = check_names_client(&certificate(vec![]), &client).unwrap_err();
        assert!(refusal.message.contains("nobody"), "{}", refusal.message);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..300, flip: u8) {
            let mut real = certificate(vec![dns("a")]).to_vec();
            if let Some(byte) = real.get_mut(at) {
                *byte ^= flip;
            }
            for bytes in [bytes, real] {
                let certificate = CertificateDer::from(bytes);
                let _ = client_named_by(&certificate);
                let _ = check_names_client(&certificate, &ClientId::new("a").unwrap());
            }
        }
    }
}
