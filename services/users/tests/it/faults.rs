//! What goes wrong with databases and with several callers at once.

use std::{path::PathBuf, str::FromStr, time::Duration};

use tokio::task::JoinSet;
use tonic::{Code, Response};
use zonecast_protocol::users::v1::{ListUsersRequest, UpdateUserRequest};
use zonecast_store::{Database, DatabaseOptions, DatabaseUrl};
use zonecast_testing::{Kind, Proxy, TestDatabase, block_on, on_both_databases};
use zonecast_users::MIGRATIONS;

use crate::ground::{by_local, create, service, topics};

async fn of_many_creates_of_one_name_one_is_done(test: TestDatabase) {
    let users = service(&test.database);
    let mut creating = JoinSet::new();
    for number in 0..16 {
        let users = users.clone();
        let name = if number % 2 == 0 { "contested" } else { "CONTESTED" };
        creating.spawn(async move { create(&users, name).await });
    }
    let outcomes = creating.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for refused in outcomes.into_iter().filter_map(Result::err) {
        assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
    }
    assert_eq!(topics(&test.database).await, ["users.created"]);
}

async fn of_many_updates_of_one_state_one_is_done(test: TestDatabase) {
    let users = service(&test.database);
    let made = create(&users, "contested").await.unwrap();
    let mut updating = JoinSet::new();
    for number in 0..16 {
        let (users, id, etag) = (users.clone(), made.id.clone(), made.etag.clone());
        let name = Some(format!("winner{}", "x".repeat(number)));
        updating.spawn(async move {
            users.update_user(by_local(UpdateUserRequest { id, etag, name })).await.map(Response::into_inner)
        });
    }
    let outcomes = updating.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for refused in outcomes.into_iter().filter_map(Result::err) {
        assert_eq!(refused.code(), Code::Aborted, "{refused}");
    }
    assert_eq!(topics(&test.database).await, ["users.created", "users.updated"]);
}

on_both_databases! {
    [MIGRATIONS]
    of_many_creates_of_one_name_one_is_done
    of_many_updates_of_one_state_one_is_done
}

/// Opened once more, less patient.
fn impatient(options: &DatabaseOptions) -> Database {
    let patience = Duration::from_millis(200);
    let options = DatabaseOptions { statement_timeout: patience, acquire_timeout: patience, ..options.clone() };
    Database::open_lazily(&options)
}

#[test]
fn a_locked_file_is_said_to_be_busy_and_then_serves_again() {
    zonecast_testing::run(Kind::Sqlite, &[&MIGRATIONS], async |test| {
        let Database::Sqlite(pool) = &test.database else { panic!("no file") };
        let users = service(&impatient(&test.options));
        let mut lock = pool.writer().await.unwrap();
        sqlx::raw_sql("begin exclusive").execute(&mut lock).await.unwrap();
        let busy = create(&users, "patient").await.unwrap_err();
        assert_eq!(busy.code(), Code::Unavailable, "{busy}");
        // Who only reads is not kept waiting.
        users.list_users(by_local(ListUsersRequest::default())).await.unwrap();
        sqlx::raw_sql("rollback").execute(&mut lock).await.unwrap();
        create(&users, "patient").await.unwrap();
    });
}

#[test]
fn a_full_disk_is_told_and_what_is_there_can_be_read() {
    zonecast_testing::run(Kind::Sqlite, &[&MIGRATIONS], async |test| {
        let Database::Sqlite(pool) = &test.database else { panic!("no file") };
        let users = service(&test.database);
        create(&users, "early").await.unwrap();
        // The file may not grow: to SQLite the same as a disk that is full. By this connection, the one that writes.
        let may_grow_to = async |pages: &'static str| {
            sqlx::raw_sql(pages).execute(&mut pool.writer().await.unwrap()).await.unwrap();
        };
        may_grow_to("pragma max_page_count = 1").await;
        let mut refused = None;
        for number in 0..500 {
            match create(&users, &format!("u{}", u64::MAX - number)).await {
                Ok(_) => {}
                Err(status) => {
                    refused = Some(status);
                    break;
                }
            }
        }
        assert_eq!(refused.unwrap().code(), Code::ResourceExhausted);
        users.list_users(by_local(ListUsersRequest::default())).await.unwrap();
        may_grow_to("pragma max_page_count = 1000000").await;
        create(&users, "late").await.unwrap();
    });
}

#[test]
fn a_database_that_goes_and_comes_back() {
    block_on(async {
        let Some(test) = TestDatabase::new(Kind::Postgres, &[&MIGRATIONS]).await else { return };
        // postgres://zonecast@localhost/NAME?host=DIRECTORY
        let (place, directory) = test.url.split_once("?host=").unwrap();
        let proxy = Proxy::start(PathBuf::from(directory).join(".s.PGSQL.5432")).await;
        let url = place.replace("@localhost", &format!("@{}", proxy.address())) + "?sslmode=disable";
        let options = DatabaseOptions::new(DatabaseUrl::from_str(&url).unwrap());
        let users = service(&impatient(&options));
        create(&users, "before").await.unwrap();

        proxy.cut();
        let refused = create(&users, "meanwhile").await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        let refused = users.list_users(by_local(ListUsersRequest::default())).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");

        proxy.mend();
        create(&users, "afterwards").await.unwrap();

        // Stopped in the middle of a request, which the caller gives up, as the doors do.
        proxy.hold();
        let stuck = tokio::time::timeout(Duration::from_millis(300), create(&users, "stuck")).await;
        assert!(!matches!(stuck, Ok(Ok(_))), "{stuck:?}");
        proxy.mend();
        create(&users, "in-the-end").await.unwrap();
        // Each that was said to be made is announced, and nothing else but the one of which nothing was said.
        let topics = topics(&test.database).await.len();
        assert!((3..=4).contains(&topics), "{topics}");
    });
}
