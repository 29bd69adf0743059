//! Registering and logging in by a password.

use std::time::Duration;

use tonic::Code;
use zonecast_access::Subject;
use zonecast_auth::MIGRATIONS;
use zonecast_protocol::{
    auth::v1::{ChangePasswordRequest, RegisterRequest},
    users::v1::{GetUserRequest, get_user_request::By},
};
use zonecast_testing::{TestDatabase, on_both_databases};

use crate::ground::{Ground, PASSWORD, is_taken, now_s, pass};

async fn who_registers_is_logged_in_and_can_log_in_again(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let registered = ground.register("Zoë").await.unwrap();
    let tokens = registered.tokens.unwrap();
    let claims = ground.admit(&tokens.access_token).unwrap();
    assert_eq!(claims.subject, Subject::User(registered.user_id.clone()));
    assert_eq!(claims.expires_at - claims.issued_at, 600);
    assert!(claims.issued_at.abs_diff(now_s()) <= 1 && claims.scopes.is_empty());
    // The name is the users service's: in any case and width.
    let again = ground.log_in("ZOE\u{308}", PASSWORD).await.unwrap();
    assert_eq!(again.user_id, registered.user_id);
    let other = ground.admit(&again.tokens.unwrap().access_token).unwrap();
    assert_ne!(other.login, claims.login);
    // What is one's own, one may see.
    let get = GetUserRequest { by: Some(By::Id(registered.user_id)) };
    assert_eq!(ground.users(&tokens.access_token).get_user(get).await.unwrap().into_inner().user.unwrap().name, "Zoë");
    let events: Vec<_> = ground.audit().await.into_iter().map(|entry| (entry.event, entry.outcome)).collect();
    assert_eq!(events, [("log_in".into(), "ok".into()), ("register".into(), "ok".into())]);
}

async fn a_wrong_password_and_an_unknown_name_are_told_alike(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    ground.register("zoe").await.unwrap();
    let mut told = Vec::new();
    for (name, password) in [
        ("zoe", "correct horse battery stapler"),
        ("nobody7", PASSWORD),
        ("zoe", ""),
        ("a\0b\n", PASSWORD),
        ("zoe", &"x".repeat(100_000)),
        ("zoe", "Correct horse battery staple"),
        ("zoe", "correct horse battery staple "),
    ] {
        let refused = ground.log_in(name, password).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
        told.push(refused.message().to_owned());
    }
    told.dedup();
    assert_eq!(told.len(), 1, "{told:?}");
    let entries = ground.audit().await;
    assert_eq!(entries.iter().filter(|entry| (&*entry.event, &*entry.outcome) == ("log_in", "wrong")).count(), 7);
    assert!(entries.iter().all(|entry| !format!("{entry:?}").contains("horse") && !entry.subject.contains('\n')));
}

async fn what_breaks_a_rule_is_told_and_leaves_nothing(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    ground.register("paypal").await.unwrap();
    for (name, password, code, word) in [
        ("short1", "fourteen chars", Code::InvalidArgument, "15 to 128"),
        ("long1", &*"xy".repeat(65), Code::InvalidArgument, "15 to 128"),
        ("frequent1", "1qaz2wsx3edc4rfv", Code::InvalidArgument, "tried first"),
        ("bartholomew", "Bartholomew-1990!", Code::InvalidArgument, "name"),
        ("a\u{202e}b", PASSWORD, Code::InvalidArgument, "U+202E"),
        ("admin", PASSWORD, Code::InvalidArgument, "reserved"),
        ("PayPal", PASSWORD, Code::AlreadyExists, "the name is taken"),
        ("paypa1", PASSWORD, Code::AlreadyExists, "looks like"),
    ] {
        let request = RegisterRequest { name: name.to_owned(), password: password.to_owned() };
        let refused = ground.anybody().register(request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{name:?}: {refused}");
        assert!(refused.message().contains(word) && !refused.message().contains(password), "{name:?}: {refused}");
    }
    assert_eq!(crate::ground::changes(&test.database, "users.created").await.len(), 1);
    ground.register("short1").await.unwrap();
}

async fn a_changed_password_ends_the_other_logins(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let mine = ground.register("zoe").await.unwrap().tokens.unwrap();
    let other = ground.log_in("zoe", PASSWORD).await.unwrap().tokens.unwrap();
    let change = |old: &str, new: &str| ChangePasswordRequest { old_password: old.into(), new_password: new.into() };
    const NEW: &str = "an entirely different one";
    let nobody = ground.anybody().change_password(change(PASSWORD, NEW)).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated);
    let mut me = ground.bearer(&mine.access_token);
    for (old, new, code) in [
        ("wrong horse battery staple", NEW, Code::PermissionDenied),
        ("", NEW, Code::PermissionDenied),
        (PASSWORD, "too short", Code::InvalidArgument),
        (PASSWORD, "zoezoezoezoezoezoe", Code::InvalidArgument),
    ] {
        assert_eq!(me.change_password(change(old, new)).await.unwrap_err().code(), code, "{old} {new}");
    }
    assert!(is_taken(&ground, &other.access_token).await);
    me.change_password(change(PASSWORD, NEW)).await.unwrap();
    assert!(is_taken(&ground, &mine.access_token).await && !is_taken(&ground, &other.access_token).await);
    assert_eq!(ground.log_in("zoe", PASSWORD).await.unwrap_err().code(), Code::Unauthenticated);
    ground.log_in("zoe", NEW).await.unwrap();
}

async fn too_many_wrong_passwords_hold_back_and_not_for_ever(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    ground.register("zoe").await.unwrap();
    ground.register("eve").await.unwrap();
    for _ in 0..10 {
        assert_eq!(ground.log_in("zoe", "wrong").await.unwrap_err().code(), Code::Unauthenticated);
    }
    // The right one too: else it would be told by the answer.
    let held_back = ground.log_in("ZOE", PASSWORD).await.unwrap_err();
    assert!(held_back.code() == Code::ResourceExhausted && held_back.message().contains("try again in"), "{held_back}");
    ground.log_in("eve", PASSWORD).await.unwrap();
    pass(Duration::from_secs(61));
    ground.log_in("zoe", PASSWORD).await.unwrap();
    let throttled = ground.audit().await.into_iter().filter(|entry| entry.event == "throttled").count();
    assert_eq!(throttled, 1);
}

on_both_databases! {
    [zonecast_users::MIGRATIONS, MIGRATIONS]
    who_registers_is_logged_in_and_can_log_in_again
    a_wrong_password_and_an_unknown_name_are_told_alike
    what_breaks_a_rule_is_told_and_leaves_nothing
    a_changed_password_ends_the_other_logins
    too_many_wrong_passwords_hold_back_and_not_for_ever
}
