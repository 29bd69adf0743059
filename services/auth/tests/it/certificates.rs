//! Credentials that are known by a client certificate, by the door where it is shown.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType, date_time_ymd,
};
use tonic::{
    Code,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use zonecast_api::{DESCRIPTORS, auth::v1::auth_service_client::AuthServiceClient};
use zonecast_auth::{Auth, MIGRATIONS};
use zonecast_doors::grpc::{ClientCertificates, GrpcConfig, GrpcDoor, GrpcLimits, GrpcTls};
use zonecast_protocol::auth::v1::{
    CreateCredentialRequest, IssueTokenRequest, ListCredentialsRequest, RevokeCredentialRequest,
};
use zonecast_testing::{Kind, TestDatabase, on_both_databases};

use crate::ground::{Ground, now_s, pass};

const NAME: &str = "marsh.games.example";

/// An authority for clients.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn client(&self, names: &[SanType], last_year: i32) -> Identity {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(last_year, 1, 1));
        let key = KeyPair::generate().unwrap();
        Identity::from_pem(params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// Of somebody with this DNS name, for long.
    fn named(&self, name: &str) -> Identity {
        self.client(&[dns(name)], 2100)
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

/// The door that everybody uses.
struct Open {
    door: GrpcDoor,
    tls: GrpcTls,
}

impl Open {
    async fn new(ground: &Ground, clients: ClientCertificates) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let tls = GrpcTls { certificate: made.cert.pem(), key: made.signing_key.serialize_pem(), clients };
        let config = GrpcConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            tls: tls.clone(),
            limits: GrpcLimits::default(),
            services: &[],
            descriptors: DESCRIPTORS,
        };
        Self { door: GrpcDoor::open(config, &ground.entrance).await.unwrap(), tls }
    }

    /// Whoever shows this. TLS tells who is not met at the first call.
    fn caller(&self, shown: Option<Identity>) -> AuthServiceClient<Channel> {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.tls.certificate));
        let tls = match shown {
            Some(identity) => tls.identity(identity),
            None => tls,
        };
        let endpoint = Endpoint::from_shared(format!("https://localhost:{}", self.door.address().port())).unwrap();
        AuthServiceClient::new(endpoint.tls_config(tls).unwrap().connect_lazy())
    }
}

fn issue(client_id: &str, secret: &str) -> IssueTokenRequest {
    IssueTokenRequest { client_id: client_id.into(), secret: secret.into() }
}

async fn credential(ground: &Ground, subject: &str, certificate_name: &str) -> String {
    let (subject, certificate_name) = (subject.to_owned(), certificate_name.to_owned());
    let request = CreateCredentialRequest { subject, certificate_name, ..Default::default() };
    let made = Auth::bootstrap(&ground.database, &request).await.unwrap();
    assert_eq!(made.secret, "");
    made.client_id
}

async fn whoever_shows_the_certificate_gets_a_token_and_nobody_else(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let open = Open::new(&ground, ClientCertificates::Optional(ours.pem.clone())).await;
    let marsh = credential(&ground, "server:marsh", NAME).await;

    let token = open.caller(Some(ours.named(NAME))).issue_token(issue(&marsh, "")).await.unwrap().into_inner();
    let claims = ground.admit(&token.access_token).unwrap();
    assert_eq!((claims.subject.to_string(), claims.login), ("server:marsh".to_owned(), marsh.clone()));
    // Names stand for themselves, wherever they are among others, and DNS does not know upper case.
    let among = ours.client(&[dns("x"), uri("https://x"), dns("MARSH.games.example")], 2100);
    open.caller(Some(among)).issue_token(issue(&marsh, "")).await.unwrap();

    for (what, shown) in [
        ("none", None),
        ("another name", Some(ours.named("marsh.games.example.org"))),
        ("a wildcard", Some(ours.named("*.games.example"))),
        ("a URI that looks alike", Some(ours.client(&[uri("dns:marsh.games.example")], 2100))),
        ("no name", Some(ours.client(&[], 2100))),
    ] {
        let refused = open.caller(shown).issue_token(issue(&marsh, "")).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{what}: {refused}");
        assert!(refused.message().contains("certificate"), "{what}: {refused}");
    }
    for (what, shown) in [("another authority", theirs.named(NAME)), ("expired", ours.client(&[dns(NAME)], 2024))] {
        let refused = open.caller(Some(shown)).issue_token(issue(&marsh, "")).await.unwrap_err();
        assert!(refused.code() != Code::Unauthenticated && !refused.message().contains("wrong"), "{what}: {refused}");
    }
    // By the broker no certificate is shown, and one is no secret for others.
    let by_broker = ground.anybody().issue_token(issue(&marsh, "")).await.unwrap_err();
    assert_eq!(by_broker.code(), Code::Unauthenticated);
    let entries = ground.audit().await;
    let wrong = entries.iter().filter(|entry| entry.event == "issue_token" && entry.outcome == "wrong").count();
    assert_eq!(wrong, 6, "{entries:?}");
}

async fn a_certificate_and_a_secret_do_not_stand_for_each_other(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let ours = Authority::new("ours");
    let open = Open::new(&ground, ClientCertificates::Optional(ours.pem.clone())).await;
    let marsh = credential(&ground, "server:marsh", "https://games.example/marsh").await;
    let mut marsh_shows = open.caller(Some(ours.client(&[uri("https://games.example/marsh")], 2100)));
    marsh_shows.issue_token(issue(&marsh, "")).await.unwrap();
    let request = CreateCredentialRequest { subject: "server:marsh".into(), ..Default::default() };
    let by_secret = Auth::bootstrap(&ground.database, &request).await.unwrap();
    for (client_id, secret) in [(&marsh, &by_secret.secret), (&by_secret.client_id, &String::new())] {
        let refused = marsh_shows.issue_token(issue(client_id, secret)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{client_id}");
    }
    // With the secret the certificate does no harm.
    marsh_shows.issue_token(issue(&by_secret.client_id, &by_secret.secret)).await.unwrap();

    let admin = ground.service(&["auth.admin"]).await;
    let listed = ground
        .bearer(&admin)
        .list_credentials(ListCredentialsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .credentials;
    assert!(listed.iter().any(|credential| credential.certificate_name == "https://games.example/marsh"));
    for bad in ["*.games.example", "a b", "ä.example", &"a".repeat(256)] {
        let certificate_name = bad.to_owned();
        let request = CreateCredentialRequest { subject: "server:a".into(), certificate_name, ..Default::default() };
        let refused = ground.bearer(&admin).create_credential(request).await.unwrap_err();
        assert!(refused.code() == Code::InvalidArgument && refused.message().contains("certificate's"), "{refused}");
    }
}

async fn a_certificate_that_expires_or_a_credential_that_is_revoked_is_worth_nothing(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let ours = Authority::new("ours");
    let open = Open::new(&ground, ClientCertificates::Required(ours.pem.clone())).await;
    let marsh = credential(&ground, "server:marsh", NAME).await;
    let next_year = i32::try_from(1971 + now_s() / 31_556_952).unwrap();
    let (mut short, mut long) =
        (open.caller(Some(ours.client(&[dns(NAME)], next_year))), open.caller(Some(ours.named(NAME))));
    short.issue_token(issue(&marsh, "")).await.unwrap();
    // The connection stays, and what was shown on it has expired since.
    pass(Duration::from_secs(366 * 86_400));
    assert_eq!(short.issue_token(issue(&marsh, "")).await.unwrap_err().code(), Code::Unauthenticated);
    long.issue_token(issue(&marsh, "")).await.unwrap();
    let admin = ground.service(&["auth.admin"]).await;
    let revoke = RevokeCredentialRequest { client_id: marsh.clone() };
    ground.bearer(&admin).revoke_credential(revoke).await.unwrap();
    assert_eq!(long.issue_token(issue(&marsh, "")).await.unwrap_err().code(), Code::Unauthenticated);
}

on_both_databases! {
    [zonecast_users::MIGRATIONS, MIGRATIONS]
    whoever_shows_the_certificate_gets_a_token_and_nobody_else
    a_certificate_and_a_secret_do_not_stand_for_each_other
    a_certificate_that_expires_or_a_credential_that_is_revoked_is_worth_nothing
}

/// Who must show one and shows none is not met at all; after a reload other authorities count, for new connections.
#[test]
fn authorities_are_replaced_while_the_door_is_open() {
    zonecast_testing::run(Kind::Sqlite, &[&zonecast_users::MIGRATIONS, &MIGRATIONS], async |test| {
        let ground = Ground::new(&test.database).await;
        let (old, new) = (Authority::new("old"), Authority::new("new"));
        let open = Open::new(&ground, ClientCertificates::Required(old.pem.clone())).await;
        let marsh = credential(&ground, "server:marsh", NAME).await;
        let is_met = async |mut caller: AuthServiceClient<Channel>| {
            caller.issue_token(issue(&marsh, "")).await.map_err(|status| assert_ne!(status.code(), Code::Ok)).is_ok()
        };
        let mut stays = open.caller(Some(old.named(NAME)));
        stays.issue_token(issue(&marsh, "")).await.unwrap();
        assert!(!is_met(open.caller(None)).await && !is_met(open.caller(Some(new.named(NAME)))).await);

        let clients = ClientCertificates::Required("no PEM".to_owned());
        open.door.reload(&GrpcTls { clients, ..open.tls.clone() }).unwrap_err();
        assert!(is_met(open.caller(Some(old.named(NAME)))).await, "the old ones go on");
        let clients = ClientCertificates::Required(new.pem.clone());
        open.door.reload(&GrpcTls { clients, ..open.tls.clone() }).unwrap();
        assert!(is_met(open.caller(Some(new.named(NAME)))).await);
        assert!(!is_met(open.caller(Some(old.named(NAME)))).await);
        stays.issue_token(issue(&marsh, "")).await.unwrap();
    });
}
