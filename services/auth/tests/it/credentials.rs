//! Credentials of game servers and backend services.

use std::time::Duration;

use tonic::Code;
use zonecast_api::auth::v1::auth_service_client::AuthServiceClient;
use zonecast_auth::{Auth, MIGRATIONS, sha256};
use zonecast_protocol::auth::v1::{
    BanUserRequest, CreateCredentialRequest, IssueTokenRequest, ListCredentialsRequest, LoginsRevoked,
    RevokeCredentialRequest,
};
use zonecast_testing::{TestDatabase, on_both_databases};

use crate::ground::{Ground, changes, config, is_taken, pass};

const RIGHTS: &str = r#"{"worlds": ["earth"], "zones": [[0, 0, 10, 10]], "publish": {"within": "*", "kinds": ["*"]}}"#;

fn create(subject: &str, scopes: &[&str], rights: &str) -> CreateCredentialRequest {
    let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    CreateCredentialRequest { subject: subject.into(), scopes, rights: rights.into(), ..Default::default() }
}

fn issue(client_id: &str, secret: &str) -> IssueTokenRequest {
    IssueTokenRequest { client_id: client_id.into(), secret: secret.into() }
}

async fn a_server_gets_tokens_with_the_rights_that_it_was_given(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let admin = ground.service(&["auth.admin"]).await;
    let mut admin = ground.bearer(&admin);
    let made = admin.create_credential(create("server:zone-7", &["users.read"], RIGHTS)).await.unwrap().into_inner();
    let (credential, secret) = (made.credential.unwrap(), made.secret);
    assert_eq!((credential.subject.as_str(), credential.created_by.as_str()), ("server:zone-7", "service:test"));
    let token = ground.anybody().issue_token(issue(&credential.client_id, &secret)).await.unwrap().into_inner();
    let claims = ground.admit(&token.access_token).unwrap();
    assert_eq!((claims.subject.to_string(), claims.login), ("server:zone-7".into(), credential.client_id.clone()));
    assert!(claims.scopes.contains("users.read") && claims.scopes.len() == 1);
    claims.rights.check_world("earth").unwrap();
    assert!(claims.rights.check_world("mars").is_err());
    assert_eq!(claims.expires_at - claims.issued_at, 600);
    for (client_id, secret) in [
        (credential.client_id.as_str(), ""),
        (&credential.client_id, &secret[1..]),
        (&credential.client_id, &"A".repeat(43)),
        ("", &secret),
        ("7", &secret),
        ("admin", &secret),
        (&zonecast_store::new_id().to_string(), &secret),
    ] {
        let refused = ground.anybody().issue_token(issue(client_id, secret)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{client_id}");
    }
    let entries = format!("{:?}", ground.audit().await);
    assert!(entries.contains("create_credential") && !entries.contains(&secret));
}

async fn a_revoked_credential_is_worth_nothing_at_once(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let admin = ground.service(&["auth.admin"]).await;
    let mut admin = ground.bearer(&admin);
    let made = admin.create_credential(create("service:chat", &[], "")).await.unwrap().into_inner();
    let client_id = made.credential.unwrap().client_id;
    let token = ground.anybody().issue_token(issue(&client_id, &made.secret)).await.unwrap().into_inner().access_token;
    assert!(is_taken(&ground, &token).await);
    let revoke = RevokeCredentialRequest { client_id: client_id.clone() };
    admin.revoke_credential(revoke.clone()).await.unwrap();
    assert!(!is_taken(&ground, &token).await);
    let refused = ground.anybody().issue_token(issue(&client_id, &made.secret)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(admin.revoke_credential(revoke).await.unwrap_err().code(), Code::NotFound);
    let told: LoginsRevoked =
        changes(&test.database, "auth.revoked").await[0].detail.as_ref().unwrap().to_msg().unwrap();
    assert_eq!(
        (told.subject.as_str(), told.logins, told.reason.as_str()),
        ("service:chat", vec![client_id], "revoke_credential")
    );
}

async fn credentials_are_listed_without_secrets(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let admin = ground.service(&["auth.admin"]).await;
    let mut admin = ground.bearer(&admin);
    for number in 0..4 {
        admin.create_credential(create(&format!("server:s{number}"), &[], "")).await.unwrap();
    }
    let mut request = ListCredentialsRequest { page_size: 2, page_token: String::new() };
    let mut subjects = Vec::new();
    loop {
        let page = admin.list_credentials(request.clone()).await.unwrap().into_inner();
        subjects.extend(page.credentials.into_iter().map(|credential| credential.subject));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(subjects, ["service:test", "server:s0", "server:s1", "server:s2", "server:s3"]);
    request.page_size = -1;
    assert_eq!(admin.list_credentials(request).await.unwrap_err().code(), Code::InvalidArgument);
}

async fn what_a_credential_cannot_be_is_told(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let admin = ground.service(&["auth.admin"]).await;
    let mut admin = ground.bearer(&admin);
    let many: Vec<String> = (0..33).map(|number| format!("s{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for bad in [
        create("user:7", &[], ""),
        create("server:", &[], ""),
        create("server:a b", &[], ""),
        create("server:a", &["two words"], ""),
        create("server:a", &[""], ""),
        create("server:a", &many, ""),
        create("server:a", &[], "[]"),
        create("server:a", &[], r#"{"world": ["earth"]}"#),
        create("server:a", &[], r#"{"zones": [[1, 0, 0, 0]]}"#),
        create("server:a", &[], &format!(r#"{{"worlds": ["{}"]}}"#, "x".repeat(5_000))),
    ] {
        let refused = admin.create_credential(bad.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{bad:?}: {refused}");
    }
    // The largest there may be are still looked at by who verifies.
    let zones = vec!["[-1234.5678, -1234.5678, 1234.5678, 1234.5678]"; 95].join(",");
    let names: Vec<String> = (0..32).map(|number| format!("{number:x>64}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let made = admin.create_credential(create("server:a", &names, &format!(r#"{{"zones": [{zones}]}}"#))).await;
    if let Ok(made) = made {
        let made = made.into_inner();
        let request = issue(&made.credential.unwrap().client_id, &made.secret);
        let token = ground.anybody().issue_token(request).await.unwrap().into_inner().access_token;
        ground.admit(&token).unwrap();
    }
}

async fn without_the_scope_nothing_is_done_and_that_is_noted(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let player = ground.register("zoe").await.unwrap().tokens.unwrap().access_token;
    let service = ground.service(&["users.read", "users.write"]).await;
    for token in [player, service] {
        let mut caller = ground.bearer(&token);
        let ban = BanUserRequest { user_id: zonecast_store::new_id().to_string(), ..Default::default() };
        let refused = [
            caller.create_credential(create("server:a", &[], "")).await.unwrap_err(),
            caller.revoke_credential(RevokeCredentialRequest::default()).await.unwrap_err(),
            caller.list_credentials(ListCredentialsRequest::default()).await.unwrap_err(),
            caller.list_audit(zonecast_protocol::auth::v1::ListAuditRequest::default()).await.unwrap_err(),
            caller.ban_user(ban).await.unwrap_err(),
            caller.lift_ban(zonecast_protocol::auth::v1::LiftBanRequest::default()).await.unwrap_err(),
        ];
        for status in refused {
            assert!(status.code() == Code::PermissionDenied && status.message().contains("auth."), "{status}");
        }
    }
    let nobody = ground.anybody().create_credential(create("server:a", &[], "")).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated);
    // Of nobody, nothing.
    assert_eq!(ground.audit().await.iter().filter(|entry| entry.outcome == "denied").count(), 12);
}

async fn who_may_not_cannot_fill_the_log(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let player = ground.register("zoe").await.unwrap().tokens.unwrap().access_token;
    let mut nobody = AuthServiceClient::new(ground.from(7, ""));
    let mut player = AuthServiceClient::new(ground.from(7, &player));
    for _ in 0..150 {
        let refused = nobody.list_credentials(ListCredentialsRequest::default()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        let refused = player.list_credentials(ListCredentialsRequest::default()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
    let denied = ground.audit().await.iter().filter(|entry| entry.outcome == "denied").count();
    assert!((100..110).contains(&denied), "{denied}");
}

async fn a_credential_is_noted_under_its_id_however_that_is_written(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let made = Auth::bootstrap(&test.database, &create("server:a", &[], r#"{"worlds": ["earth"]}"#)).await.unwrap();
    let strange = made.client_id.replace('-', "").to_uppercase();
    ground.anybody().issue_token(issue(&strange, &made.secret)).await.unwrap();
    ground.anybody().issue_token(issue(&strange, "wrong")).await.unwrap_err();
    let audit = ground.audit().await;
    let of_it: Vec<_> = audit.iter().filter(|entry| entry.subject == made.client_id).collect();
    let outcomes: Vec<_> = of_it.iter().map(|entry| (entry.event.as_str(), entry.outcome.as_str())).collect();
    assert_eq!(outcomes, [("issue_token", "wrong"), ("issue_token", "ok"), ("create_credential", "ok")]);
    assert!(of_it[2].detail.contains("earth"), "what it permitted: {}", of_it[2].detail);
}

async fn the_admin_of_the_settings_exists_only_where_there_is_one(test: TestDatabase) {
    let first = Ground::new(&test.database).await;
    let made = Auth::bootstrap(&test.database, &create("service:x", &[], "")).await.unwrap();
    let refused = first.anybody().issue_token(issue("admin", &made.secret)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);

    let mut config = config();
    config.admin_secret_hash = Some(sha256(made.secret.as_bytes()));
    let ground = Ground::with(&test.database, config).await;
    let token = ground.anybody().issue_token(issue("admin", &made.secret)).await.unwrap().into_inner().access_token;
    assert!(ground.admit(&token).unwrap().scopes.contains("auth.admin"));
    ground.bearer(&token).create_credential(create("server:a", &[], "")).await.unwrap();
    pass(Duration::from_secs(600));
    assert!(!is_taken(&ground, &token).await);
}

on_both_databases! {
    [zonecast_users::MIGRATIONS, MIGRATIONS]
    a_server_gets_tokens_with_the_rights_that_it_was_given
    a_revoked_credential_is_worth_nothing_at_once
    credentials_are_listed_without_secrets
    what_a_credential_cannot_be_is_told
    without_the_scope_nothing_is_done_and_that_is_noted
    who_may_not_cannot_fill_the_log
    a_credential_is_noted_under_its_id_however_that_is_written
    the_admin_of_the_settings_exists_only_where_there_is_one
}
