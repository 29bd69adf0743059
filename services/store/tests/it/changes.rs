//! Reading what has changed, and what the retention leaves of it.

use std::time::Duration;

use zonecast_store::{
    Database, Migrations,
    outbox::{Outcome, RelayOptions},
};
use zonecast_testing::{TestDatabase, on_both_databases};

use crate::{
    outbox::{Heard, STORE, change, record},
    relay::{quick, run_until_with},
};

/// The numbers of the first changes behind one.
pub(crate) async fn numbers(database: &Database, after: i64) -> Vec<i64> {
    let read = database.changes(STORE, after, 1_000).await.unwrap();
    read.changes.iter().map(|change| change.sequence).collect()
}

async fn who_sees_a_change_has_seen_all_before_it(test: TestDatabase) {
    let mut recording = tokio::task::JoinSet::new();
    for number in 0..60 {
        let database = test.database.clone();
        // Some in twos, some rolled back.
        let changes: Vec<_> = (0..=number % 2).map(|_| change(number)).collect();
        recording.spawn(async move { record(&database, &changes, number % 7 != 0).await });
    }
    // Meanwhile, by one who never looks back.
    let mut last = 0;
    let mut looks = 0;
    while !recording.is_empty() {
        for sequence in numbers(&test.database, last).await {
            assert_eq!(sequence, last + 1, "a change was seen before the one before it");
            last = sequence;
        }
        looks += 1;
        while let Some(recorded) = recording.try_join_next() {
            recorded.unwrap().unwrap();
        }
    }
    let rest = numbers(&test.database, last).await;
    let made: i64 = (0..60).filter(|number| number % 7 != 0).map(|number| 1 + number % 2).sum();
    assert_eq!(rest.last().copied().unwrap_or(last), made, "after {looks} looks");
}

/// The same with the transactions laid out by hand: the second may not even have its number before the first has ended.
async fn a_later_change_waits_for_the_commit_of_the_one_before_it(test: TestDatabase) {
    use zonecast_store::outbox::Record;
    let Database::Postgres(pool) = &test.database else { return };
    let mut first = pool.begin().await.unwrap();
    first.record(&change(1)).await.unwrap();
    let later = {
        let database = test.database.clone();
        tokio::spawn(async move { record(&database, &[change(2)], true).await })
    };
    // Until the second is known to wait for the first.
    let waits = "select count(*) from pg_locks where not granted";
    while sqlx::query_scalar::<_, i64>(waits).fetch_one(pool).await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(numbers(&test.database, 0).await.is_empty());
    first.commit().await.unwrap();
    later.await.unwrap().unwrap();
    assert_eq!(numbers(&test.database, 0).await, [1, 2]);
}

async fn a_page_begins_behind_a_number_and_ends_when_it_is_full(test: TestDatabase) {
    record(&test.database, &[change(1), change(2), change(3)], true).await.unwrap();
    let read = test.database.changes(STORE, 1, 1).await.unwrap();
    assert_eq!((read.changes.len(), read.changes[0].sequence, read.pruned), (1, 2, 0));
    assert_eq!(read.changes[0].change.store, STORE);
    assert!(test.database.changes("another", 0, 10).await.unwrap().changes.is_empty());
}

async fn what_is_published_is_kept_for_its_retention_and_what_is_not_for_good(test: TestDatabase) {
    let changes: Vec<_> = (1..=5).map(change).collect();
    record(&test.database, &changes, true).await.unwrap();
    let heard = Heard::judging(|sequence, _| match sequence {
        2 => Outcome::Refused("too large".to_owned()),
        _ => Outcome::Confirmed,
    });
    run_until_with(&test, &heard, 5, quick()).await;
    assert_eq!(numbers(&test.database, 0).await, [1, 2, 3, 4, 5], "a week has not passed");
    // Their retention is over at once, and that of the next is not.
    let at_once = RelayOptions { retention: Duration::ZERO, prune_interval: Duration::ZERO, ..quick() };
    record(&test.database, &[change(6)], true).await.unwrap();
    run_until_with(&test, &heard, 1, at_once).await;
    let read = test.database.changes(STORE, 0, 10).await.unwrap();
    // The sixth may have been pruned by the last look.
    assert!(read.pruned >= 5, "{}", read.pruned);
    let left = read.changes.iter().map(|change| change.sequence).filter(|sequence| *sequence < 6);
    assert_eq!(left.collect::<Vec<_>>(), [2], "what is parked stays");
}

async fn a_database_of_an_earlier_version_is_whole_only_at_its_end(test: TestDatabase) {
    // What an earlier version has left: 4 waited by itself when 5 was published and deleted, 6 and 7 have just been made.
    let changes: Vec<_> = (1..=7).map(change).collect();
    record(&test.database, &changes, true).await.unwrap();
    let backwards = "delete from outbox where sequence in (1, 2, 3, 5); drop table outbox_followers; \
                     alter table outbox drop column published_at; alter table outbox_heads drop column pruned; \
                     delete from zonecast_migrations_outbox where version = 3";
    match &test.database {
        Database::Sqlite(pool) => {
            sqlx::raw_sql(backwards).execute(&mut pool.writer().await.unwrap()).await.unwrap();
        }
        Database::Postgres(pool) => drop(sqlx::raw_sql(backwards).execute(pool).await.unwrap()),
    }
    let outbox: &Migrations = &zonecast_store::MIGRATIONS;
    outbox.apply(&test.database).await.unwrap();
    let read = test.database.changes(STORE, 5, 10).await.unwrap();
    assert_eq!((read.pruned, read.changes.len()), (5, 2));
}

on_both_databases! {
    []
    who_sees_a_change_has_seen_all_before_it
    a_later_change_waits_for_the_commit_of_the_one_before_it
    a_page_begins_behind_a_number_and_ends_when_it_is_full
    what_is_published_is_kept_for_its_retention_and_what_is_not_for_good
    a_database_of_an_earlier_version_is_whole_only_at_its_end
}
