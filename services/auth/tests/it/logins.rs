//! How logins go on and end.

use std::time::Duration;

use tonic::Code;
use zonecast_auth::MIGRATIONS;
use zonecast_protocol::auth::v1::{LogOutEverywhereRequest, LogOutRequest, LoginsRevoked, RefreshRequest, Tokens};
use zonecast_testing::{TestDatabase, on_both_databases};

use crate::ground::{Ground, PASSWORD, changes, is_taken, now_s, pass};

const DAY: Duration = Duration::from_hours(24);

async fn refresh(ground: &Ground, token: &str) -> Result<Tokens, Code> {
    let request = RefreshRequest { refresh_token: token.to_owned() };
    let answer = ground.anybody().refresh(request).await;
    answer.map(|answer| answer.into_inner().tokens.unwrap()).map_err(|status| status.code())
}

async fn revoked(ground: &Ground) -> Vec<LoginsRevoked> {
    let changes = changes(&ground.database, "auth.revoked").await;
    changes.iter().map(|change| change.detail.as_ref().unwrap().to_msg().unwrap()).collect()
}

async fn a_login_goes_on_by_ever_new_refresh_tokens(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let mut tokens = ground.register("zoe").await.unwrap().tokens.unwrap();
    let login = ground.admit(&tokens.access_token).unwrap().login;
    for _ in 0..3 {
        pass(Duration::from_secs(590));
        let next = refresh(&ground, &tokens.refresh_token).await.unwrap();
        assert_ne!(next.refresh_token, tokens.refresh_token);
        assert_eq!(ground.admit(&next.access_token).unwrap().login, login);
        tokens = next;
    }
    pass(Duration::from_secs(600));
    assert!(!is_taken(&ground, &tokens.access_token).await);
    for bad in ["", "x", &tokens.access_token, &tokens.refresh_token[1..], &"A".repeat(86)] {
        assert_eq!(refresh(&ground, bad).await, Err(Code::Unauthenticated));
    }
    refresh(&ground, &tokens.refresh_token).await.unwrap();
}

async fn a_refresh_token_that_comes_again_ends_the_login(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let first = ground.register("zoe").await.unwrap().tokens.unwrap();
    let other = ground.log_in("zoe", PASSWORD).await.unwrap().tokens.unwrap();
    let second = refresh(&ground, &first.refresh_token).await.unwrap();
    let third = refresh(&ground, &second.refresh_token).await.unwrap();
    assert_eq!(refresh(&ground, &first.refresh_token).await, Err(Code::Unauthenticated));
    // The whole family, and nobody else.
    assert_eq!(refresh(&ground, &third.refresh_token).await, Err(Code::Unauthenticated));
    assert!(!is_taken(&ground, &third.access_token).await && is_taken(&ground, &other.access_token).await);
    refresh(&ground, &other.refresh_token).await.unwrap();
    let told = revoked(&ground).await;
    assert_eq!((told.len(), told[0].reason.as_str(), told[0].logins.len()), (1, "reused", 1));
    assert!(ground.audit().await.iter().any(|entry| (&*entry.event, &*entry.outcome) == ("refresh", "reused")));
}

async fn of_two_refreshes_at_once_one_ends_the_login(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let tokens = ground.register("zoe").await.unwrap().tokens.unwrap();
    let (one, other) = tokio::join!(refresh(&ground, &tokens.refresh_token), refresh(&ground, &tokens.refresh_token));
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    let won = one.or(other).unwrap();
    assert!(!is_taken(&ground, &won.access_token).await);
    assert_eq!(refresh(&ground, &won.refresh_token).await, Err(Code::Unauthenticated));
}

async fn a_login_that_nobody_uses_ends_and_so_does_one_that_is_old(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let idle = ground.register("zoe").await.unwrap().tokens.unwrap();
    let mut busy = ground.log_in("zoe", PASSWORD).await.unwrap().tokens.unwrap();
    pass(29 * DAY);
    busy = refresh(&ground, &busy.refresh_token).await.unwrap();
    pass(DAY);
    assert_eq!(refresh(&ground, &idle.refresh_token).await, Err(Code::Unauthenticated));
    for _ in 0..2 {
        pass(28 * DAY);
        busy = refresh(&ground, &busy.refresh_token).await.unwrap();
    }
    // 86 days old; of the 30 days that an idle one lasts four are left.
    pass(4 * DAY);
    assert_eq!(refresh(&ground, &busy.refresh_token).await, Err(Code::Unauthenticated));
}

async fn an_access_token_does_not_outlast_its_login(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let mut tokens = ground.register("zoe").await.unwrap().tokens.unwrap();
    for _ in 0..3 {
        pass(28 * DAY);
        tokens = refresh(&ground, &tokens.refresh_token).await.unwrap();
    }
    pass(6 * DAY - Duration::from_secs(60));
    let last = refresh(&ground, &tokens.refresh_token).await.unwrap();
    let seconds = last.access_expires_at.unwrap().seconds - i64::try_from(now_s()).unwrap();
    assert!((50..=60).contains(&seconds), "{seconds}");
    assert!(is_taken(&ground, &last.access_token).await);
    // From here on the login is nowhere any more, and nobody could revoke it.
    pass(Duration::from_secs(61));
    assert!(!is_taken(&ground, &last.access_token).await);
}

async fn refresh_tokens_that_nobody_has_change_nothing(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let tokens = ground.register("zoe").await.unwrap().tokens.unwrap();
    let made_up = "A".repeat(tokens.refresh_token.len());
    // More than the wrong passwords that an origin may try.
    for _ in 0..150 {
        assert_eq!(refresh(&ground, &made_up).await, Err(Code::Unauthenticated));
        ground.anybody().log_out(LogOutRequest { refresh_token: made_up.clone() }).await.unwrap();
    }
    refresh(&ground, &tokens.refresh_token).await.unwrap();
    ground.log_in("zoe", PASSWORD).await.unwrap();
}

async fn who_logs_out_is_out_at_once(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let by_access = ground.register("zoe").await.unwrap().tokens.unwrap();
    let by_refresh = ground.log_in("zoe", PASSWORD).await.unwrap().tokens.unwrap();
    let stays = ground.log_in("zoe", PASSWORD).await.unwrap().tokens.unwrap();
    ground.bearer(&by_access.access_token).log_out(LogOutRequest::default()).await.unwrap();
    let request = LogOutRequest { refresh_token: by_refresh.refresh_token.clone() };
    for _ in 0..2 {
        ground.anybody().log_out(request.clone()).await.unwrap();
    }
    for out in [&by_access, &by_refresh] {
        assert!(!is_taken(&ground, &out.access_token).await);
        assert_eq!(refresh(&ground, &out.refresh_token).await, Err(Code::Unauthenticated));
    }
    assert!(is_taken(&ground, &stays.access_token).await);
    let nothing = ground.anybody().log_out(LogOutRequest::default()).await.unwrap_err();
    assert_eq!(nothing.code(), Code::InvalidArgument);
    assert_eq!(revoked(&ground).await.len(), 2);
}

async fn who_logs_out_everywhere_is_out_everywhere(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let other = ground.register("eve").await.unwrap().tokens.unwrap();
    let mut mine = vec![ground.register("zoe").await.unwrap().tokens.unwrap()];
    for _ in 0..3 {
        mine.push(ground.log_in("zoe", PASSWORD).await.unwrap().tokens.unwrap());
    }
    let mut me = ground.bearer(&mine[0].access_token);
    me.log_out_everywhere(LogOutEverywhereRequest {}).await.unwrap();
    for tokens in &mine {
        assert!(!is_taken(&ground, &tokens.access_token).await);
        assert_eq!(refresh(&ground, &tokens.refresh_token).await, Err(Code::Unauthenticated));
    }
    assert!(is_taken(&ground, &other.access_token).await);
    let told = revoked(&ground).await;
    assert_eq!((told.len(), told[0].logins.len(), told[0].reason.as_str()), (1, 4, "log_out_everywhere"));
    // By who has no login there is nothing to end.
    let service = ground.service(&[]).await;
    let refused = ground.bearer(&service).log_out_everywhere(LogOutEverywhereRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

async fn a_revocation_lasts_as_long_as_a_token_could(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let tokens = ground.register("zoe").await.unwrap().tokens.unwrap();
    let login = ground.admit(&tokens.access_token).unwrap().login;
    ground.bearer(&tokens.access_token).log_out(LogOutRequest::default()).await.unwrap();
    assert!(ground.trust.borrow().revoked.logins.contains(&login));
    pass(Duration::from_secs(601));
    ground.register("eve").await.unwrap();
    assert!(ground.trust.borrow().revoked.logins.contains(&login));
    pass(Duration::from_secs(60));
    let mut trust = ground.trust.clone();
    let forgotten = trust.wait_for(|trust| !trust.revoked.logins.contains(&login));
    tokio::time::timeout(Duration::from_secs(10), forgotten).await.unwrap().unwrap();
}

async fn of_too_many_logins_the_oldest_ends(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let first = ground.register("zoe").await.unwrap().tokens.unwrap();
    for _ in 0..99 {
        ground.log_in("zoe", PASSWORD).await.unwrap();
    }
    assert!(is_taken(&ground, &first.access_token).await);
    ground.log_in("zoe", PASSWORD).await.unwrap();
    assert!(!is_taken(&ground, &first.access_token).await);
    assert_eq!(revoked(&ground).await[0].reason, "too_many");
}

on_both_databases! {
    [zonecast_users::MIGRATIONS, MIGRATIONS]
    a_login_goes_on_by_ever_new_refresh_tokens
    a_refresh_token_that_comes_again_ends_the_login
    of_two_refreshes_at_once_one_ends_the_login
    a_login_that_nobody_uses_ends_and_so_does_one_that_is_old
    an_access_token_does_not_outlast_its_login
    refresh_tokens_that_nobody_has_change_nothing
    who_logs_out_is_out_at_once
    who_logs_out_everywhere_is_out_everywhere
    a_revocation_lasts_as_long_as_a_token_could
    of_too_many_logins_the_oldest_ends
}
