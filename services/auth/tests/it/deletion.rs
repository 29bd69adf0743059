//! What is here of a user goes with the user.

use tonic::Code;
use zonecast_auth::MIGRATIONS;
use zonecast_protocol::{
    auth::v1::{LoginsRevoked, RefreshRequest},
    users::v1::DeleteUserRequest,
};
use zonecast_testing::{TestDatabase, on_both_databases};

use crate::ground::{Ground, PASSWORD, changes, is_taken};

async fn what_is_here_of_a_user_goes_with_the_user(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let zoe = ground.register("zoe").await.unwrap();
    let eve = ground.register("eve").await.unwrap().tokens.unwrap();
    let tokens = zoe.tokens.unwrap();
    let request = DeleteUserRequest { id: zoe.user_id.clone(), etag: String::new() };
    ground.users(&tokens.access_token).delete_user(request).await.unwrap();
    let login = "every login of hers";
    let mut trust = ground.trust.clone();
    let revoked = trust.wait_for(|trust| !trust.revoked.logins.is_empty());
    tokio::time::timeout(std::time::Duration::from_secs(10), revoked).await.expect(login).unwrap();
    assert!(!is_taken(&ground, &tokens.access_token).await && is_taken(&ground, &eve.access_token).await);
    let request = RefreshRequest { refresh_token: tokens.refresh_token };
    assert_eq!(ground.anybody().refresh(request).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(ground.log_in("zoe", PASSWORD).await.unwrap_err().code(), Code::Unauthenticated);
    let told = changes(&test.database, "auth.revoked").await;
    let told: Vec<LoginsRevoked> =
        told.iter().map(|change| change.detail.as_ref().unwrap().to_msg().unwrap()).collect();
    assert_eq!((told.len(), told[0].reason.as_str()), (1, "user_deleted"));
    // The name is free, and another user's.
    let other = ground.register("zoe").await.unwrap();
    assert_ne!(other.user_id, zoe.user_id);
}

on_both_databases! {
    [zonecast_users::MIGRATIONS, MIGRATIONS]
    what_is_here_of_a_user_goes_with_the_user
}
