//! What is published for all, by the door that everybody uses.

use reqwest::{Certificate, Client};
use zonecast_access::Keys;
use zonecast_api::DESCRIPTORS;
use zonecast_auth::MIGRATIONS;
use zonecast_doors::grpc::{GrpcConfig, GrpcDoor, GrpcLimits, GrpcTls};
use zonecast_testing::Kind;

use crate::ground::Ground;

/// Verifiers elsewhere have any HTTP client, as long as it speaks HTTP/2: the door offers no other by ALPN.
#[test]
fn keys_are_read_by_plain_https() {
    zonecast_testing::run(Kind::Sqlite, &[&zonecast_users::MIGRATIONS, &MIGRATIONS], async |test| {
        let ground = Ground::new(&test.database).await;
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = made.cert.pem();
        let tls = GrpcTls { certificate: certificate.clone(), key: made.signing_key.serialize_pem(), client_ca: None };
        let config = GrpcConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            tls,
            limits: GrpcLimits::default(),
            services: &[],
            descriptors: DESCRIPTORS,
        };
        let door = GrpcDoor::open(config, &ground.entrance).await.unwrap();
        let certificate = Certificate::from_pem(certificate.as_bytes()).unwrap();
        let client = Client::builder().tls_certs_only([certificate]).build().unwrap();
        let base = format!("https://localhost:{}", door.address().port());
        let keys = client.get(format!("{base}/.well-known/jwks.json")).send().await.unwrap();
        assert!(keys.status().is_success(), "{keys:?}");
        assert!(!Keys::from_jwks(&keys.text().await.unwrap()).unwrap().is_empty());
        let revoked = client.get(format!("{base}/.well-known/zonecast-revocations.json")).send().await.unwrap();
        assert_eq!(revoked.text().await.unwrap(), r#"{"logins":[]}"#);
    });
}
