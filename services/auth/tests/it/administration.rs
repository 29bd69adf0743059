//! Bans, and the audit log.

use std::time::Duration;

use tonic::Code;
use zonecast_auth::MIGRATIONS;
use zonecast_protocol::auth::v1::{BanUserRequest, LiftBanRequest, ListAuditRequest, LoginsRevoked, RefreshRequest};
use zonecast_store::timestamp;
use zonecast_testing::{TestDatabase, on_both_databases};

use crate::ground::{Ground, PASSWORD, changes, is_taken, now, pass};

fn ban(user_id: &str, until: Option<Duration>, reason: &str) -> BanUserRequest {
    let until = until.map(|until| timestamp(now() + until));
    BanUserRequest { user_id: user_id.into(), until, reason: reason.into() }
}

async fn who_is_banned_is_out_until_the_ban_ends(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let zoe = ground.register("zoe").await.unwrap();
    let tokens = zoe.tokens.unwrap();
    let judge = ground.service(&["auth.ban"]).await;
    let mut judge = ground.bearer(&judge);
    judge.ban_user(ban(&zoe.user_id, Some(Duration::from_secs(300)), "cheating")).await.unwrap();
    assert!(!is_taken(&ground, &tokens.access_token).await);
    let request = RefreshRequest { refresh_token: tokens.refresh_token };
    assert_eq!(ground.anybody().refresh(request).await.unwrap_err().code(), Code::Unauthenticated);
    let refused = ground.log_in("zoe", PASSWORD).await.unwrap_err();
    assert!(refused.code() == Code::PermissionDenied && refused.message().contains("cheating"), "{refused}");
    // Who does not know the password is told nothing of it.
    assert_eq!(ground.log_in("zoe", "wrong").await.unwrap_err().code(), Code::Unauthenticated);
    let told: LoginsRevoked =
        changes(&test.database, "auth.revoked").await[0].detail.as_ref().unwrap().to_msg().unwrap();
    assert_eq!((told.subject, told.reason.as_str()), (format!("user:{}", zoe.user_id), "ban"));
    pass(Duration::from_secs(301));
    ground.log_in("zoe", PASSWORD).await.unwrap();
    let outcomes: Vec<_> = ground.audit().await.into_iter().map(|entry| entry.outcome).collect();
    assert!(outcomes.contains(&"banned".to_owned()));
}

async fn a_ban_for_good_lasts_until_it_is_lifted(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let zoe = ground.register("zoe").await.unwrap();
    let judge = ground.service(&["auth.ban"]).await;
    let mut judge = ground.bearer(&judge);
    judge.ban_user(ban(&zoe.user_id, None, "")).await.unwrap();
    pass(Duration::from_hours(24 * 365 * 50));
    let judge = ground.service(&["auth.ban"]).await;
    let mut judge = ground.bearer(&judge);
    assert_eq!(ground.log_in("zoe", PASSWORD).await.unwrap_err().message(), "banned for good");
    judge.lift_ban(LiftBanRequest { user_id: zoe.user_id.clone() }).await.unwrap();
    judge.lift_ban(LiftBanRequest { user_id: zoe.user_id.clone() }).await.unwrap();
    ground.log_in("zoe", PASSWORD).await.unwrap();
    let nobody = zonecast_store::new_id().to_string();
    for (bad, code) in [
        (ban("7", None, ""), Code::InvalidArgument),
        (ban(&nobody, None, ""), Code::NotFound),
        (ban(&zoe.user_id, Some(Duration::ZERO), ""), Code::InvalidArgument),
        (ban(&zoe.user_id, None, "two\nlines"), Code::InvalidArgument),
        (ban(&zoe.user_id, None, &"x".repeat(501)), Code::InvalidArgument),
    ] {
        assert_eq!(judge.ban_user(bad.clone()).await.unwrap_err().code(), code, "{bad:?}");
    }
}

async fn the_audit_log_is_read_by_pages_and_by_subject_and_has_its_time(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let zoe = ground.register("zoe").await.unwrap();
    for _ in 0..5 {
        ground.log_in("zoe", PASSWORD).await.unwrap();
    }
    ground.register("eve").await.unwrap();
    let token = ground.service(&["auth.audit"]).await;
    let mut reader = ground.bearer(&token);
    let subject = format!("user:{}", zoe.user_id);
    let mut request = ListAuditRequest { subject: subject.clone(), page_size: 4, page_token: String::new() };
    let mut events = Vec::new();
    loop {
        let page = reader.list_audit(request.clone()).await.unwrap().into_inner();
        assert!(page.entries.iter().all(|entry| entry.subject == subject || entry.event == "list_audit"));
        assert!(page.entries.iter().all(|entry| entry.origin == "client:0000000000000001" && entry.at.is_some()));
        events.extend(page.entries.into_iter().map(|entry| entry.event).filter(|event| event != "list_audit"));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(events, ["log_in", "log_in", "log_in", "log_in", "log_in", "register"]);
    for (page_size, page_token) in [(-1, ""), (0, "nonsense")] {
        let request = ListAuditRequest { page_size, page_token: page_token.into(), ..Default::default() };
        assert_eq!(reader.list_audit(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    // Half a year later, at the next start.
    pass(Duration::from_hours(24 * 181));
    let ground = Ground::new(&test.database).await;
    crate::ground::eventually(async || ground.audit().await.iter().all(|entry| entry.event != "register")).await;
}

on_both_databases! {
    [zonecast_users::MIGRATIONS, MIGRATIONS]
    who_is_banned_is_out_until_the_ban_ends
    a_ban_for_good_lasts_until_it_is_lifted
    the_audit_log_is_read_by_pages_and_by_subject_and_has_its_time
}
