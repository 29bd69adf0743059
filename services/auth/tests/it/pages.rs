//! What is published for all, by the door that everybody uses.

use prometheus_client::registry::Registry;
use reqwest::{Certificate, Client, StatusCode, Version, header};
use zonecast_access::Keys;
use zonecast_api::DESCRIPTORS;
use zonecast_auth::MIGRATIONS;
use zonecast_doors::grpc::{ClientCertificates, GrpcConfig, GrpcDoor, GrpcLimits, GrpcTls};
use zonecast_testing::Kind;

use crate::ground::Ground;

/// Verifiers elsewhere have any HTTP client, and browsers speak grpc-web by either version of HTTP.
#[test]
fn pages_and_grpc_web_are_served_by_http_1_and_2() {
    zonecast_testing::run(Kind::Sqlite, &[&zonecast_users::MIGRATIONS, &MIGRATIONS], async |test| {
        let ground = Ground::new(&test.database).await;
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = made.cert.pem();
        let tls = GrpcTls {
            certificate: certificate.clone(),
            key: made.signing_key.serialize_pem(),
            clients: ClientCertificates::Unwanted,
        };
        let config = GrpcConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            tls,
            limits: GrpcLimits::default(),
            services: &[],
            descriptors: DESCRIPTORS,
        };
        let door = GrpcDoor::open(config, &ground.entrance).await.unwrap();
        let certificate = Certificate::from_pem(certificate.as_bytes()).unwrap();
        let builder = || Client::builder().tls_certs_only([certificate.clone()]);
        let base = format!("https://localhost:{}", door.address().port());
        for (client, version) in
            [(builder().build().unwrap(), Version::HTTP_2), (builder().http1_only().build().unwrap(), Version::HTTP_11)]
        {
            let keys = client.get(format!("{base}/.well-known/jwks.json")).send().await.unwrap();
            assert!(keys.status().is_success() && keys.version() == version, "{keys:?}");
            assert!(!Keys::from_jwks(&keys.text().await.unwrap()).unwrap().is_empty());
            let revoked = client.get(format!("{base}/.well-known/zonecast-revocations.json")).send().await.unwrap();
            assert_eq!(revoked.text().await.unwrap(), r#"{"logins":[]}"#);
            let nothing = client.get(format!("{base}/.well-known/nothing")).send().await.unwrap();
            assert_eq!(nothing.status(), StatusCode::NOT_FOUND);
            // A frame of no bytes: the empty request.
            let call = client.post(format!("{base}/zonecast.auth.v1.AuthService/GetKeys")).body(vec![0; 5]);
            let call = call.header(header::CONTENT_TYPE, "application/grpc-web+proto").header("x-grpc-web", "1");
            let answer = call.send().await.unwrap();
            assert_eq!((answer.status(), answer.version()), (StatusCode::OK, version));
            let answer = answer.bytes().await.unwrap();
            let trailers = String::from_utf8_lossy(&answer);
            assert!(answer.len() > 100 && trailers.contains("grpc-status:0"), "{trailers}");
        }
        let mut registry = Registry::default();
        ground.entrance.metrics().register(&mut registry);
        let mut counted = String::new();
        prometheus_client::encoding::text::encode(&mut counted, &registry).unwrap();
        for (code, times) in [("Ok", 4), ("NotFound", 2)] {
            let line = format!(r#"rpcs_total{{method="pages",code="{code}",door="Grpc"}} {times}"#);
            assert!(counted.lines().any(|found| found == line), "{line} in {counted}");
        }
    });
}
