//! Identities of other providers, by stand-ins.

use std::time::{Duration, Instant};

use serde_json::json;
use tonic::{Code, Response, Status};
use zonecast_auth::{Algorithm, MIGRATIONS, Provider, ProviderKind};
use zonecast_protocol::auth::v1::{
    BeginExternalRequest, ChangePasswordRequest, ExternalProof, LinkIdentityRequest, ListIdentitiesRequest,
    LogInExternalRequest, LogInExternalResponse, UnlinkIdentityRequest,
};
use zonecast_testing::{Kind, TestDatabase, on_both_databases};

use crate::{
    ground::{Ground, PASSWORD, config, now_s, pass},
    provider::{ISSUER, Key, Mood, Server, claims, jwks, provider, unsigned},
};

/// The services with one provider, its server, and its key.
async fn with_provider(test: &TestDatabase, algorithm: Algorithm) -> (Ground, Server, Key) {
    let key = Key::new(algorithm);
    let server = Server::start(jwks(&[key.jwk("k1")])).await;
    let mut config = config();
    config.providers = vec![provider(&server, &[algorithm])];
    (Ground::with(&test.database, config).await, server, key)
}

async fn nonce(ground: &Ground) -> String {
    let request = BeginExternalRequest { provider: "standin".into() };
    ground.anybody().begin_external(request).await.unwrap().into_inner().nonce
}

fn proof(token: &str, nonce: &str) -> Option<ExternalProof> {
    Some(ExternalProof { provider: "standin".into(), token: token.into(), nonce: nonce.into() })
}

async fn enter(ground: &Ground, token: &str, nonce: &str, name: &str) -> Result<LogInExternalResponse, Status> {
    let request = LogInExternalRequest { proof: proof(token, nonce), name: name.into() };
    ground.anybody().log_in_external(request).await.map(Response::into_inner)
}

async fn an_identity_registers_and_logs_in(test: TestDatabase) {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        let (ground, _server, key) = with_provider(&test, algorithm).await;
        let subject = format!("at-provider-{}", key.alg());
        let first = nonce(&ground).await;
        let token = key.token("k1", &first, &subject);
        let unknown = enter(&ground, &token, &first, "").await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound, "{unknown}");
        // Now that a name is needed, the same proof does.
        let made = enter(&ground, &token, &first, &format!("by-{}", key.alg())).await.unwrap();
        assert!(made.registered);
        let again = nonce(&ground).await;
        let entered = enter(&ground, &key.token("k1", &again, &subject), &again, "").await.unwrap();
        assert!(!entered.registered && entered.user_id == made.user_id);
        let claims = ground.admit(&entered.tokens.unwrap().access_token).unwrap();
        assert_eq!(claims.subject.to_string(), format!("user:{}", made.user_id));
        ground.tasks.end().await;
    }
}

async fn a_nonce_is_good_once_and_for_ten_minutes(test: TestDatabase) {
    let (ground, _server, key) = with_provider(&test, Algorithm::EdDsa).await;
    let first = nonce(&ground).await;
    let token = key.token("k1", &first, "zoe");
    enter(&ground, &token, &first, "zoe").await.unwrap();
    for again in ["zoe2", ""] {
        let replayed = enter(&ground, &token, &first, again).await.unwrap_err();
        assert!(replayed.code() == Code::Unauthenticated && replayed.message().contains("nonce"), "{replayed}");
    }
    let late = nonce(&ground).await;
    pass(Duration::from_secs(601));
    assert_eq!(
        enter(&ground, &key.token("k1", &late, "zoe"), &late, "").await.unwrap_err().code(),
        Code::Unauthenticated
    );
    // One of ours for another token, and one that is not ours.
    let (one, other) = (nonce(&ground).await, nonce(&ground).await);
    for (in_token, given) in [(&one, &other), (&"A".repeat(43), &"A".repeat(43)), (&String::new(), &String::new())] {
        let refused = enter(&ground, &key.token("k1", in_token, "zoe"), given, "").await.unwrap_err();
        assert!(refused.code() == Code::Unauthenticated && refused.message().contains("nonce"), "{refused}");
    }
    // Two at once.
    let once = nonce(&ground).await;
    let token = key.token("k1", &once, "zoe");
    let (one, other) = tokio::join!(enter(&ground, &token, &once, ""), enter(&ground, &token, &once, ""));
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
}

async fn a_token_that_is_not_as_it_should_be_is_refused(test: TestDatabase) {
    for algorithm in [Algorithm::Rs256, Algorithm::EdDsa] {
        let (ground, _server, key) = with_provider(&test, algorithm).await;
        let nonce = nonce(&ground).await;
        let header = json!({"alg": key.alg(), "kid": "k1"});
        let with = |field: &str, value: serde_json::Value| {
            let mut claims = claims(&nonce, "zoe");
            claims[field] = value;
            key.sign(&header, &claims)
        };
        let good = unsigned(&header, &claims(&nonce, "zoe"));
        let hs256 = jsonwebtoken::encode(
            &jsonwebtoken::Header { kid: Some("k1".into()), ..Default::default() },
            &claims(&nonce, "zoe"),
            &jsonwebtoken::EncodingKey::from_secret(&key.public_der()),
        );
        let other = Key::new(if algorithm == Algorithm::Rs256 { Algorithm::EdDsa } else { Algorithm::Rs256 });
        let cases = [
            ("another issuer", with("iss", json!("https://evil.test"))),
            ("another audience", with("aud", json!("somebody-else"))),
            ("another audience", with("aud", json!(["our-client-id", "somebody-else"]))),
            ("another audience", with("azp", json!("somebody-else"))),
            ("expired", with("exp", json!(now_s()))),
            ("future", with("iat", json!(now_s() + 120))),
            ("future", with("nbf", json!(now_s() + 120))),
            ("nobody", with("sub", json!(""))),
            ("nobody", with("sub", json!("x".repeat(256)))),
            ("no ID token", with("sub", json!(7))),
            ("nonce", with("nonce", json!(null))),
            ("no ID token", with("exp", json!("soon"))),
            ("algorithm", hs256.unwrap()),
            ("no ID token", format!("{}.", unsigned(&json!({"alg": "none", "kid": "k1"}), &claims(&nonce, "zoe")))),
            ("signature", format!("{good}.{}", "A".repeat(86))),
            ("no ID token", good.clone()),
            ("algorithm", other.token("k1", &nonce, "zoe")),
            ("signature", Key::new(algorithm).token("k1", &nonce, "zoe")),
            ("none of the provider's", key.token("k2", &nonce, "zoe")),
            ("names no key", key.sign(&json!({"alg": key.alg()}), &claims(&nonce, "zoe"))),
            ("too long", format!("{good}.{}", "A".repeat(9_000))),
            ("no ID token", "x".into()),
            ("no ID token", String::new()),
        ];
        for (word, token) in cases {
            let refused = enter(&ground, &token, &nonce, "zoe").await.unwrap_err();
            assert_eq!(refused.code(), Code::Unauthenticated, "{word}: {refused}");
            assert!(refused.message().contains(word), "{word}: {refused}");
        }
        // What is good in other words: the second issuer, several audiences with us as the one it was given to.
        for (field, value) in [("iss", json!("provider.test")), ("email_verified", json!(true))] {
            let unknown = enter(&ground, &with(field, value), &nonce, "").await.unwrap_err();
            assert_eq!(unknown.code(), Code::NotFound, "{unknown}");
        }
        let entries = format!("{:?}", ground.audit().await);
        assert!(entries.contains("another audience") && !entries.contains(&nonce));
        ground.tasks.end().await;
    }
}

async fn identities_are_linked_and_never_the_last_way_in_is_taken(test: TestDatabase) {
    let (ground, _server, key) = with_provider(&test, Algorithm::Es256).await;
    let zoe = ground.register("zoe").await.unwrap();
    let eve = ground.register("eve").await.unwrap();
    let mut zoe_ = ground.bearer(&zoe.tokens.unwrap().access_token);
    let mut eve_ = ground.bearer(&eve.tokens.unwrap().access_token);
    let first = nonce(&ground).await;
    let link = LinkIdentityRequest { proof: proof(&key.token("k1", &first, "zoe-there"), &first) };
    let anybody = ground.anybody().link_identity(link.clone()).await.unwrap_err();
    assert_eq!(anybody.code(), Code::Unauthenticated);
    let identity = zoe_.link_identity(link.clone()).await.unwrap().into_inner().identity.unwrap();
    assert_eq!((identity.issuer.as_str(), identity.subject.as_str()), (ISSUER, "zoe-there"));
    assert_eq!(zoe_.link_identity(link).await.unwrap_err().code(), Code::Unauthenticated);
    let second = nonce(&ground).await;
    let stolen = LinkIdentityRequest { proof: proof(&key.token("k1", &second, "zoe-there"), &second) };
    assert_eq!(eve_.link_identity(stolen).await.unwrap_err().code(), Code::AlreadyExists);
    let listed = zoe_.list_identities(ListIdentitiesRequest {}).await.unwrap().into_inner();
    assert!(listed.has_password && listed.identities == [identity.clone()]);
    // By the same e-mail address somebody else is somebody else.
    let third = nonce(&ground).await;
    let other = enter(&ground, &key.token("k1", &third, "eve-there"), &third, "by-mail").await.unwrap();
    assert!(other.registered && other.user_id != zoe.user_id);

    let unlink = |issuer: &str, subject: &str| UnlinkIdentityRequest { issuer: issuer.into(), subject: subject.into() };
    assert_eq!(eve_.unlink_identity(unlink(ISSUER, "zoe-there")).await.unwrap_err().code(), Code::NotFound);
    zoe_.unlink_identity(unlink(ISSUER, "zoe-there")).await.unwrap();
    assert_eq!(zoe_.unlink_identity(unlink(ISSUER, "zoe-there")).await.unwrap_err().code(), Code::NotFound);
    let mut other_ = ground.bearer(&other.tokens.unwrap().access_token);
    let last = other_.unlink_identity(unlink(ISSUER, "eve-there")).await.unwrap_err();
    assert_eq!(last.code(), Code::FailedPrecondition, "{last}");
    // With a password of its own it is not the last any more.
    let set = ChangePasswordRequest { old_password: String::new(), new_password: PASSWORD.into() };
    other_.change_password(set).await.unwrap();
    other_.unlink_identity(unlink(ISSUER, "eve-there")).await.unwrap();
    ground.log_in("by-mail", PASSWORD).await.unwrap();
}

on_both_databases! {
    [zonecast_users::MIGRATIONS, MIGRATIONS]
    an_identity_registers_and_logs_in
    a_nonce_is_good_once_and_for_ten_minutes
    a_token_that_is_not_as_it_should_be_is_refused
    identities_are_linked_and_never_the_last_way_in_is_taken
}

fn on_sqlite<F: Future<Output = ()>>(test: impl FnOnce(TestDatabase) -> F) {
    zonecast_testing::run(Kind::Sqlite, &[&zonecast_users::MIGRATIONS, &MIGRATIONS], test);
}

#[test]
fn a_provider_that_is_down_or_slow_is_told_in_bounded_time_and_others_go_on() {
    on_sqlite(async |test| {
        let (ground, server, key) = with_provider(&test, Algorithm::EdDsa).await;
        ground.register("zoe").await.unwrap();
        for mood in [Mood::Down, Mood::Endless, Mood::Elsewhere, Mood::Silent] {
            server.feels(mood);
            let nonce = nonce(&ground).await;
            let token = key.token("k1", &nonce, "zoe");
            let started = Instant::now();
            // Some at once: the second does not wait for a turn of its own.
            let (one, other, login) = tokio::join!(
                enter(&ground, &token, &nonce, ""),
                enter(&ground, &token, &nonce, ""),
                ground.log_in("zoe", PASSWORD)
            );
            assert!(started.elapsed() < Duration::from_secs(9), "{mood:?}: {:?}", started.elapsed());
            login.unwrap();
            for outcome in [one, other] {
                assert_eq!(outcome.unwrap_err().code(), Code::Unavailable, "{mood:?}");
            }
            pass(Duration::from_secs(6));
        }
        server.feels(Mood::Well);
        let nonce = nonce(&ground).await;
        let token = key.token("k1", &nonce, "zoe");
        enter(&ground, &token, &nonce, "zoe-there").await.unwrap();
        // With keys that it has, it needs nobody.
        server.feels(Mood::Down);
        pass(Duration::from_hours(2));
        let later = self::nonce(&ground).await;
        enter(&ground, &key.token("k1", &later, "zoe"), &later, "").await.unwrap();
    });
}

#[test]
fn an_unknown_key_is_looked_for_once_a_minute() {
    on_sqlite(async |test| {
        let (ground, server, key) = with_provider(&test, Algorithm::EdDsa).await;
        let first = nonce(&ground).await;
        enter(&ground, &key.token("k1", &first, "zoe"), &first, "zoe").await.unwrap();
        assert_eq!(server.asked(), 1);
        let new = Key::new(Algorithm::EdDsa);
        server.answers(jwks(&[key.jwk("k1"), new.jwk("k2")]));
        let second = nonce(&ground).await;
        for number in 0..20 {
            let forged = new.token(&format!("made-up-{number}"), &second, "zoe");
            assert_eq!(enter(&ground, &forged, &second, "").await.unwrap_err().code(), Code::Unauthenticated);
        }
        assert_eq!(server.asked(), 1);
        pass(Duration::from_secs(60));
        enter(&ground, &new.token("k2", &second, "zoe"), &second, "").await.unwrap();
        assert_eq!(server.asked(), 2);
    });
}

#[test]
fn facebook_is_asked_whose_a_token_is() {
    on_sqlite(async |test| {
        let answer = |data: serde_json::Value| json!({ "data": data }).to_string();
        let good =
            || json!({"app_id": "app", "type": "USER", "is_valid": true, "expires_at": now_s() + 60, "user_id": "7"});
        let server = Server::start(answer(good())).await;
        let mut config = config();
        let mut facebook = Provider::facebook("app".into(), "app-secret".into());
        facebook.name = "standin".into();
        facebook.kind =
            ProviderKind::Facebook { app_id: "app".into(), app_secret: "app-secret".into(), url: server.url() };
        config.providers = vec![facebook];
        let ground = Ground::with(&test.database, config).await;
        let first = nonce(&ground).await;
        let made = enter(&ground, "opaque & strange", &first, "zoe").await.unwrap();
        assert_eq!(*server.last.lock().unwrap(), "input_token=opaque+%26+strange&access_token=app%7Capp-secret");
        assert_eq!(enter(&ground, "opaque", &first, "").await.unwrap_err().code(), Code::Unauthenticated);
        for (field, value, word) in [
            ("app_id", json!("another"), "audience"),
            ("is_valid", json!(false), "not valid"),
            ("expires_at", json!(now_s()), "expired"),
            ("type", json!("PAGE"), "no user"),
            ("user_id", json!(""), "nobody"),
        ] {
            let mut data = good();
            data[field] = value;
            server.answers(answer(data));
            let nonce = nonce(&ground).await;
            let refused = enter(&ground, "opaque", &nonce, "").await.unwrap_err();
            assert!(refused.code() == Code::Unauthenticated && refused.message().contains(word), "{word}: {refused}");
        }
        for broken in ["", "[]", r#"{"error": {}}"#] {
            server.answers(broken.into());
            let nonce = nonce(&ground).await;
            assert_eq!(enter(&ground, "opaque", &nonce, "").await.unwrap_err().code(), Code::Unavailable);
        }
        let mut forever = good();
        forever["expires_at"] = json!(0);
        server.answers(answer(forever));
        let nonce = nonce(&ground).await;
        assert_eq!(enter(&ground, "opaque", &nonce, "").await.unwrap().user_id, made.user_id);
    });
}

#[test]
fn a_provider_that_nobody_knows_is_not_there() {
    on_sqlite(async |test| {
        let ground = Ground::new(&test.database).await;
        let request = BeginExternalRequest { provider: "standin".into() };
        assert_eq!(ground.anybody().begin_external(request).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(enter(&ground, "x", "x", "").await.unwrap_err().code(), Code::NotFound);
        let request = LogInExternalRequest::default();
        assert_eq!(ground.anybody().log_in_external(request).await.unwrap_err().code(), Code::InvalidArgument);
    });
}
