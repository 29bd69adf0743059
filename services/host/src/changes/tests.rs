use tonic::Code;
use zonecast_protocol::users::v1::{User, UserCreated};
use zonecast_store::{
    now,
    outbox::{NewChange, Record},
};
use zonecast_testing::{TestDatabase, by, caller, on_both_databases};

use super::*;

const STORE: &str = "users";

async fn record(database: &Database, count: usize) {
    for _ in 0..count {
        let user = User { name: "x".repeat(200), ..User::default() };
        let change = NewChange::new(STORE, "users.created", now(), &UserCreated { user: Some(user) });
        match database {
            Database::Sqlite(pool) => {
                let mut transaction = pool.begin().await.unwrap();
                transaction.record(&change).await.unwrap();
                transaction.commit().await.unwrap();
            }
            Database::Postgres(pool) => {
                let mut transaction = pool.begin().await.unwrap();
                transaction.record(&change).await.unwrap();
                transaction.commit().await.unwrap();
            }
        }
    }
}

fn request(caller: Caller, store: &str, after_sequence: u64, page_size: i32) -> Request<ListChangesRequest> {
    by(caller, ListChangesRequest { store: store.to_owned(), after_sequence, page_size })
}

fn reader() -> Caller {
    caller("server:reader", &[READ])
}

async fn numbers(listed: &Listed, after: u64, page_size: i32) -> Result<Vec<u64>, Status> {
    let request = request(reader(), STORE, after, page_size);
    let changes = listed.list_changes(request).await?.into_inner().changes;
    assert!(changes.iter().all(|listed| listed.topic == "users.created"));
    Ok(changes.into_iter().map(|listed| listed.change.unwrap().sequence).collect())
}

async fn pages_follow_each_other(test: TestDatabase) {
    record(&test.database, 7).await;
    let listed = Listed { database: test.database.clone(), stores: vec![STORE], message_bytes_max: 100_000 };
    assert_eq!(numbers(&listed, 0, 3).await.unwrap(), [1, 2, 3]);
    assert_eq!(numbers(&listed, 3, 0).await.unwrap(), [4, 5, 6, 7]);
    assert!(numbers(&listed, 7, 0).await.unwrap().is_empty());
    // Two of them fit in an answer of this length, and even where none does one is tried.
    let short = Listed { message_bytes_max: 900, ..listed };
    assert_eq!(numbers(&short, 1, 0).await.unwrap(), [2, 3]);
    let too_short = Listed { message_bytes_max: 1, ..short };
    assert_eq!(numbers(&too_short, 1, 0).await.unwrap(), [2]);
}

async fn what_is_gone_is_told(test: TestDatabase) {
    record(&test.database, 4).await;
    let both = "update outbox_heads set pruned = 3; delete from outbox where sequence in (1, 3)";
    match &test.database {
        Database::Sqlite(pool) => drop(sqlx::raw_sql(both).execute(&mut pool.writer().await.unwrap()).await.unwrap()),
        Database::Postgres(pool) => drop(sqlx::raw_sql(both).execute(pool).await.unwrap()),
    }
    let listed = Listed { database: test.database.clone(), stores: vec![STORE], message_bytes_max: 100_000 };
    let refused = numbers(&listed, 2, 0).await.unwrap_err();
    assert!(refused.code() == Code::OutOfRange && refused.message().contains("after_sequence = 3"), "{refused}");
    assert_eq!(numbers(&listed, 3, 0).await.unwrap(), [4]);
    assert_eq!(numbers(&listed, 0, 0).await.unwrap(), [4], "from the oldest on that is kept, without gaps");
}

async fn who_may_not_and_what_is_not_there(test: TestDatabase) {
    let listed = Listed { database: test.database.clone(), stores: vec![STORE], message_bytes_max: 100_000 };
    for (request, code) in [
        (request(caller("server:x", &["users.read"]), STORE, 0, 0), Code::PermissionDenied),
        (request(reader(), "auth", 0, 0), Code::NotFound),
        (request(reader(), STORE, 0, -1), Code::InvalidArgument),
        (request(reader(), STORE, u64::MAX, 0), Code::InvalidArgument),
    ] {
        assert_eq!(listed.list_changes(request).await.unwrap_err().code(), code);
    }
    let nobody = Request::new(ListChangesRequest::default());
    assert_eq!(listed.list_changes(nobody).await.unwrap_err().code(), Code::Unauthenticated);
}

on_both_databases! {
    []
    pages_follow_each_other
    what_is_gone_is_told
    who_may_not_and_what_is_not_there
}
