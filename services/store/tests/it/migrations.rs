//! Migrations: several stores in one database, each with its own account of what was applied.

use zonecast_store::{Database, MigrationError, Migrations, Step};
use zonecast_testing::{TestDatabase, on_both_databases};

const fn step(version: i64, sql: &'static str) -> Step {
    Step { version, description: "step", sqlite: sql, postgres: sql }
}

const FIRST: Migrations = Migrations { store: "first", steps: &[step(1, "create table one (id bigint)")] };
const SECOND: Migrations = Migrations { store: "second", steps: &[step(1, "create table two (id bigint)")] };
const SECOND_LATER: Migrations = Migrations {
    store: "second",
    steps: &[step(1, "create table two (id bigint)"), step(2, "alter table two add column name text")],
};
const SECOND_BROKEN: Migrations = Migrations {
    store: "second",
    steps: &[step(1, "create table two (id bigint)"), step(2, "create table three (id bigint); create table nonsense")],
};

async fn stores_share_a_database_and_keep_apart(test: TestDatabase) {
    let database = &test.database;
    assert!(matches!(FIRST.check(database).await, Err(MigrationError::Pending { store: "first", steps: 1 })));
    FIRST.apply(database).await.unwrap();
    SECOND.apply(database).await.unwrap();
    FIRST.apply(database).await.unwrap();
    FIRST.check(database).await.unwrap();
    let pending = SECOND_LATER.check(database).await.unwrap_err();
    assert!(pending.to_string().contains("zonecast migrate"), "{pending}");
    SECOND_LATER.apply(database).await.unwrap();
    SECOND_LATER.check(database).await.unwrap();
}

async fn an_older_version_leaves_a_newer_database_alone(test: TestDatabase) {
    SECOND_LATER.apply(&test.database).await.unwrap();
    let refused = SECOND.apply(&test.database).await.unwrap_err();
    assert!(matches!(refused, MigrationError::Failed { store: "second", .. }), "{refused}");
    // Also where it may not migrate.
    let refused = SECOND.check(&test.database).await.unwrap_err();
    assert!(matches!(refused, MigrationError::Failed { store: "second", .. }), "{refused}");
}

async fn a_step_that_was_changed_is_refused(test: TestDatabase) {
    const CHANGED: Migrations = Migrations { store: "first", steps: &[step(1, "create table one (id text)")] };
    FIRST.apply(&test.database).await.unwrap();
    for refused in [CHANGED.apply(&test.database).await, CHANGED.check(&test.database).await] {
        assert!(matches!(refused, Err(MigrationError::Failed { store: "first", .. })), "{refused:?}");
    }
}

async fn a_database_that_does_not_answer_is_not_one_without_tables(test: TestDatabase) {
    FIRST.apply(&test.database).await.unwrap();
    test.database.close().await;
    let failed = FIRST.check(&test.database).await.unwrap_err();
    assert!(matches!(failed, MigrationError::Store(_)), "{failed}");
}

async fn a_step_that_fails_leaves_nothing_behind(test: TestDatabase) {
    SECOND.apply(&test.database).await.unwrap();
    assert!(SECOND_BROKEN.apply(&test.database).await.is_err());
    assert!(!has_table_three(&test.database).await);
    SECOND_LATER.apply(&test.database).await.unwrap();
}

async fn processes_that_migrate_at_once_take_turns(test: TestDatabase) {
    // SQLite serves one process; a second one there may be told that the first has it locked.
    if matches!(test.database, Database::Sqlite(_)) {
        return;
    }
    let mut migrating = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let database = test.database.clone();
        migrating.spawn(async move { SECOND_LATER.apply(&database).await });
    }
    while let Some(migrated) = migrating.join_next().await {
        migrated.unwrap().unwrap();
    }
}

async fn has_table_three(database: &Database) -> bool {
    let query = "select count(*) from three";
    match database {
        Database::Sqlite(pool) => sqlx::query(query).execute(pool).await.is_ok(),
        Database::Postgres(pool) => sqlx::query(query).execute(pool).await.is_ok(),
    }
}

on_both_databases! {
    []
    stores_share_a_database_and_keep_apart
    an_older_version_leaves_a_newer_database_alone
    a_step_that_was_changed_is_refused
    a_database_that_does_not_answer_is_not_one_without_tables
    a_step_that_fails_leaves_nothing_behind
    processes_that_migrate_at_once_take_turns
}
