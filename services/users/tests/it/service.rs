//! The service as its callers see it.

use tonic::{Code, Request, Response};
use zonecast_protocol::users::v1::{
    CreateUserRequest, DeleteUserRequest, GetUserRequest, ListUsersRequest, UpdateUserRequest, get_user_request::By,
};
use zonecast_testing::{TestDatabase, by, caller, on_both_databases};
use zonecast_users::MIGRATIONS;

use crate::ground::{by_local, create, service};

async fn a_user_lives(test: TestDatabase) {
    let users = service(&test.database);
    let made = create(&users, "Ｚｏｅ").await.unwrap();
    assert_eq!((made.name.as_str(), made.id.len()), ("Zoe", 36));
    assert_eq!(made.created_at, made.updated_at);
    for way in [By::Id(made.id.to_uppercase()), By::Name("zOE".to_owned())] {
        let got = users.get_user(by_local(GetUserRequest { by: Some(way) })).await.unwrap();
        assert_eq!(got.into_inner().user.as_ref(), Some(&made));
    }
    let change = |etag: &str| UpdateUserRequest { id: made.id.clone(), etag: etag.into(), name: Some("Zoey".into()) };
    let updated = users.update_user(by_local(change(&made.etag))).await.unwrap().into_inner().user.unwrap();
    assert_eq!((updated.name.as_str(), &updated.created_at), ("Zoey", &made.created_at));
    assert_ne!(updated.etag, made.etag);
    let stale = users.update_user(by_local(change(&made.etag))).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted, "{stale}");
    let request = DeleteUserRequest { id: made.id.clone(), etag: made.etag.clone() };
    assert_eq!(users.delete_user(by_local(request)).await.unwrap_err().code(), Code::Aborted);
    let request = DeleteUserRequest { id: made.id.clone(), etag: updated.etag };
    users.delete_user(by_local(request.clone())).await.unwrap();
    assert_eq!(users.delete_user(by_local(request)).await.unwrap_err().code(), Code::NotFound);
    let request = GetUserRequest { by: Some(By::Id(made.id)) };
    assert_eq!(users.get_user(by_local(request)).await.unwrap_err().code(), Code::NotFound);
}

async fn what_cannot_be_is_refused_with_what_to_do(test: TestDatabase) {
    let users = service(&test.database);
    let made = create(&users, "paypal").await.unwrap();
    for (name, code, word) in [
        ("a\u{202e}b", Code::InvalidArgument, "U+202E"),
        ("admin", Code::InvalidArgument, "reserved"),
        ("PayPal", Code::AlreadyExists, "the name is taken"),
        ("paypa1", Code::AlreadyExists, "looks like"),
    ] {
        let refused = create(&users, name).await.unwrap_err();
        assert_eq!(refused.code(), code, "{name:?}: {refused}");
        assert!(refused.message().contains(word), "{name:?}: {refused}");
    }
    for by in [None, Some(By::Id("7".into())), Some(By::Id(String::new()))] {
        let refused = users.get_user(by_local(GetUserRequest { by })).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    for name in [String::new(), "notthere".into(), "x".repeat(100_000), "a\0b".into()] {
        let missing = users.get_user(by_local(GetUserRequest { by: Some(By::Name(name)) })).await.unwrap_err();
        assert_eq!(missing.code(), Code::NotFound);
    }
    for (etag, code) in [("", Code::InvalidArgument), ("nonsense", Code::Aborted)] {
        let request = UpdateUserRequest { id: made.id.clone(), etag: etag.into(), name: None };
        assert_eq!(users.update_user(by_local(request)).await.unwrap_err().code(), code);
    }
}

async fn a_user_with_a_chosen_id_is_made_once_however_often_it_is_asked_for(test: TestDatabase) {
    let users = service(&test.database);
    let id = zonecast_store::new_id().hyphenated().to_string();
    let make = |name: &str| by_local(CreateUserRequest { name: name.into(), id: id.clone() });
    let made = users.create_user(make("persistent")).await.unwrap().into_inner();
    assert_eq!(made.user.as_ref().unwrap().id, id);
    assert_eq!(users.create_user(make("persistent")).await.unwrap().into_inner(), made);
    let other = users.create_user(make("another")).await.unwrap_err();
    assert!(other.code() == Code::AlreadyExists && other.message().contains("id"), "{other}");
    let taken = create(&users, "persistent").await.unwrap_err();
    assert!(taken.code() == Code::AlreadyExists && taken.message().contains("name"), "{taken}");
    let bad = users.create_user(by_local(CreateUserRequest { name: "good-name".into(), id: "7".into() })).await;
    assert_eq!(bad.unwrap_err().code(), Code::InvalidArgument);
    let nobody = CreateUserRequest { name: "good-name".into(), id: zonecast_store::Uuid::nil().to_string() };
    let refused = users.create_user(by_local(nobody)).await.unwrap_err();
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("nil"), "{refused}");
}

async fn pages_are_read_to_the_end(test: TestDatabase) {
    let users = service(&test.database);
    let mut made = Vec::new();
    for number in 0..7 {
        made.push(create(&users, &format!("user{}", "x".repeat(number))).await.unwrap());
    }
    let mut request = ListUsersRequest { page_size: 3, page_token: String::new() };
    let mut sizes = Vec::new();
    let mut listed = Vec::new();
    loop {
        let page = users.list_users(by_local(request.clone())).await.unwrap().into_inner();
        sizes.push(page.users.len());
        listed.extend(page.users);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!((sizes, listed), (vec![3, 3, 1], made));
    for (page_size, page_token) in [(-1, ""), (0, "nonsense")] {
        let request = ListUsersRequest { page_size, page_token: page_token.into() };
        assert_eq!(users.list_users(by_local(request)).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

async fn nothing_is_done_for_who_may_not(test: TestDatabase) {
    let users = service(&test.database);
    let made = create(&users, "somebody7").await.unwrap();
    let unknown = users.create_user(Request::new(CreateUserRequest { name: "intruder".into(), ..Default::default() }));
    let unknown = unknown.await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unauthenticated);
    let reader = || caller("service:reader", &["users.read"]);
    let get = || GetUserRequest { by: Some(By::Id(made.id.clone())) };
    users.get_user(by(reader(), get())).await.unwrap();
    let refused = [
        users
            .create_user(by(reader(), CreateUserRequest { name: "intruder".into(), ..Default::default() }))
            .await
            .map(|_| ()),
        users
            .delete_user(by(reader(), DeleteUserRequest { id: made.id.clone(), etag: String::new() }))
            .await
            .map(|_| ()),
        users.list_users(by(caller("service:x", &[]), ListUsersRequest::default())).await.map(|_| ()),
        users.get_user(by(caller("service:x", &[]), get())).await.map(|_| ()),
    ];
    for outcome in refused {
        assert_eq!(outcome.unwrap_err().code(), Code::PermissionDenied);
    }
    // What is one's own needs no right.
    let own = || caller(&format!("user:{}", made.id), &[]);
    users.get_user(by(own(), get())).await.unwrap();
    let request = UpdateUserRequest { id: made.id.clone(), etag: made.etag.clone(), name: Some("renamed".into()) };
    users.update_user(by(own(), request)).await.map(Response::into_inner).unwrap();
    users.delete_user(by(own(), DeleteUserRequest { id: made.id.clone(), etag: String::new() })).await.unwrap();
}

on_both_databases! {
    [MIGRATIONS]
    a_user_lives
    what_cannot_be_is_refused_with_what_to_do
    a_user_with_a_chosen_id_is_made_once_however_often_it_is_asked_for
    pages_are_read_to_the_end
    nothing_is_done_for_who_may_not
}
