//! Keys: published, rotated, and known to other processes.

use std::time::Duration;

use http::{Request, Response};
use tonic::body::Body;
use tower_service::Service;
use zonecast_access::{Keys, Revocations};
use zonecast_auth::MIGRATIONS;
use zonecast_protocol::auth::v1::{GetKeysRequest, LogOutRequest};
use zonecast_store::Database;
use zonecast_testing::{TestDatabase, on_both_databases};

use crate::ground::{Ground, PASSWORD, config, eventually, execute, is_taken, pass};

const DAY: Duration = Duration::from_hours(24);

const KEYS: &str = "/.well-known/jwks.json";
const REVOCATIONS: &str = "/.well-known/zonecast-revocations.json";

async fn get(ground: &Ground, path: &str) -> Response<Body> {
    let request = Request::get(path).body(Body::empty()).unwrap();
    ground.from(1, "").call(request).await.unwrap()
}

async fn page(ground: &Ground, path: &str) -> (String, String) {
    let answer = get(ground, path).await;
    assert_eq!(answer.status(), 200, "{path}");
    let content_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
    let body = axum::body::to_bytes(axum::body::Body::new(answer.into_body()), 1 << 20).await.unwrap();
    (content_type, String::from_utf8(body.to_vec()).unwrap())
}

async fn keys_and_revocations_are_published_for_all(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let tokens = ground.register("zoe").await.unwrap().tokens.unwrap();
    let login = ground.admit(&tokens.access_token).unwrap().login;
    let (content_type, jwks) = page(&ground, KEYS).await;
    assert_eq!(content_type, "application/json");
    assert!(!Keys::from_jwks(&jwks).unwrap().is_empty() && !jwks.contains("\"d\""));
    assert_eq!(ground.anybody().get_keys(GetKeysRequest {}).await.unwrap().into_inner().jwks, jwks);
    let revoked = async || {
        let (_, json) = page(&ground, REVOCATIONS).await;
        serde_json::from_str::<Revocations>(&json).unwrap().logins
    };
    assert!(revoked().await.is_empty());
    ground.bearer(&tokens.access_token).log_out(LogOutRequest::default()).await.unwrap();
    assert!(revoked().await.contains(&login));
}

async fn revocations_that_were_read_long_ago_are_told_to_nobody(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    // As where its database does not answer.
    ground.tasks.end().await;
    pass(Duration::from_secs(9));
    assert_eq!(get(&ground, REVOCATIONS).await.status(), 200);
    pass(Duration::from_secs(60));
    assert_eq!(
        get(&ground, REVOCATIONS).await.status(),
        503,
        "whoever asks keeps what it has, and knows how old that is"
    );
    assert_eq!(get(&ground, KEYS).await.status(), 200);
    let other = Ground::new(&test.database).await;
    assert_eq!(get(&other, REVOCATIONS).await.status(), 200);
}

async fn a_key_rotates_and_no_token_that_lives_is_lost(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let kid = |token: &str| {
        let header =
            base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, token.split('.').next().unwrap());
        serde_json::from_slice::<serde_json::Value>(&header.unwrap()).unwrap()["kid"].as_str().unwrap().to_owned()
    };
    let old = kid(&ground.service(&[]).await);
    pass(30 * DAY - Duration::from_mins(59));
    // The next start finds that a key is due, and publishes it before it signs.
    let mut ground = Ground::new(&test.database).await;
    let before = ground.service(&[]).await;
    assert_eq!(kid(&before), old);
    assert_eq!(page(&ground, KEYS).await.1.matches("\"kid\"").count(), 2);
    pass(Duration::from_mins(55));
    let last = ground.service(&[]).await;
    pass(Duration::from_mins(6));
    // What is due is found by the poll.
    let mut after = String::new();
    eventually(async || {
        after = ground.service(&[]).await;
        kid(&after) != old
    })
    .await;
    assert!(is_taken(&ground, &after).await && is_taken(&ground, &last).await && !is_taken(&ground, &before).await);
    pass(Duration::from_mins(30));
    ground = Ground::new(&test.database).await;
    eventually(async || page(&ground, KEYS).await.1.matches("\"kid\"").count() == 1).await;
}

async fn after_all_keys_were_deleted_there_are_new_ones_and_nothing_is_signed_by_the_old(test: TestDatabase) {
    let mut config_ = config();
    config_.poll_interval = Duration::from_millis(20);
    let ground = Ground::with(&test.database, config_).await;
    let old = ground.register("zoe").await.unwrap().tokens.unwrap();
    assert_eq!(execute(&test.database, "delete from auth_keys").await, 1);
    eventually(async || !is_taken(&ground, &old.access_token).await).await;
    // Whoever looks after keys next makes one: here another replica, at its start.
    let _other = Ground::new(&test.database).await;
    eventually(async || page(&ground, KEYS).await.1.matches("\"kid\"").count() == 1).await;
    // The users service is called by a token of ours, which was by the old key too.
    let new = ground.log_in("zoe", PASSWORD).await.unwrap().tokens.unwrap();
    assert!(is_taken(&ground, &new.access_token).await);
}

async fn a_backlog_of_what_has_had_its_time_is_forgotten(test: TestDatabase) {
    let nonces = "with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < 2500) \
                  insert into auth_nonces (hash, provider, expires_at) select cast(cast(n as text) as BYTES), 'x', 1 from numbers";
    let statement: &'static str = match test.database {
        Database::Sqlite(_) => Box::leak(nonces.replace("BYTES", "blob").into_boxed_str()),
        Database::Postgres(_) => Box::leak(nonces.replace("BYTES", "bytea").into_boxed_str()),
    };
    assert_eq!(execute(&test.database, statement).await, 2_500);
    let _ground = Ground::new(&test.database).await;
    eventually(async || execute(&test.database, "update auth_nonces set provider = 'y'").await == 0).await;
}

async fn what_another_process_changes_counts_here(test: TestDatabase) {
    let mut config_ = config();
    config_.poll_interval = Duration::from_millis(20);
    let one = Ground::with(&test.database, config_).await;
    let other = Ground::new(&test.database).await;
    let tokens = other.register("zoe").await.unwrap().tokens.unwrap();
    assert!(is_taken(&one, &tokens.access_token).await);
    let login = other.admit(&tokens.access_token).unwrap().login;
    other.bearer(&tokens.access_token).log_out(LogOutRequest::default()).await.unwrap();
    let mut trust = one.trust.clone();
    let revoked = trust.wait_for(|trust| trust.revoked.logins.contains(&login));
    tokio::time::timeout(Duration::from_secs(10), revoked).await.unwrap().unwrap();
    assert!(!is_taken(&one, &tokens.access_token).await);
}

on_both_databases! {
    [zonecast_users::MIGRATIONS, MIGRATIONS]
    keys_and_revocations_are_published_for_all
    revocations_that_were_read_long_ago_are_told_to_nobody
    a_key_rotates_and_no_token_that_lives_is_lost
    what_another_process_changes_counts_here
    after_all_keys_were_deleted_there_are_new_ones_and_nothing_is_signed_by_the_old
    a_backlog_of_what_has_had_its_time_is_forgotten
}
