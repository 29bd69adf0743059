//! Nothing lasts for ever: statements, those who wait, and servers that swallow everything.

use std::{path::PathBuf, str::FromStr, time::Duration};

use tokio::time::{Instant, timeout};
use zonecast_store::{Database, DatabaseOptions, DatabaseUrl, StoreError};
use zonecast_testing::{Kind, Proxy, TestDatabase, block_on, run};

use crate::outbox::{change, record};

/// Longer than anything takes; only a failing test waits so long.
const GUARD: Duration = Duration::from_secs(60);

/// What takes for ever by itself, and asks nobody.
const ENDLESS: &str = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n";

fn impatient(url: DatabaseUrl) -> Database {
    let patience = Duration::from_millis(300);
    let options = DatabaseOptions {
        statement_timeout: patience,
        acquire_timeout: patience,
        connections_max: 2,
        ..DatabaseOptions::new(url)
    };
    Database::open_lazily(&options)
}

#[test]
fn a_statement_that_does_not_end_is_ended() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        run(kind, &[], async |test| {
            let database = impatient(DatabaseUrl::from_str(&test.url).unwrap());
            for _ in 0..4 {
                let ended = match &database {
                    Database::Sqlite(pool) => {
                        timeout(GUARD, sqlx::query(ENDLESS).execute(pool)).await.map(|e| e.map(drop))
                    }
                    Database::Postgres(pool) => {
                        timeout(GUARD, sqlx::query(ENDLESS).execute(pool)).await.map(|e| e.map(drop))
                    }
                };
                let error = StoreError::from(ended.unwrap().unwrap_err());
                assert!(matches!(error, StoreError::TimedOut), "{error}");
            }
            // All connections serve again.
            record(&database, &[change(1)], true).await.unwrap();
        });
    }
}

#[test]
fn who_gives_up_a_transaction_leaves_nothing_behind() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        run(kind, &[], async |test| {
            let database = impatient(DatabaseUrl::from_str(&test.url).unwrap());
            // More than there are connections, each given up in the midst.
            for number in 0..5 {
                let given_up = async {
                    match &database {
                        Database::Sqlite(pool) => {
                            let mut transaction = pool.begin().await.unwrap();
                            sqlx::query(ENDLESS).execute(&mut *transaction).await.unwrap();
                        }
                        Database::Postgres(pool) => {
                            let mut transaction = pool.begin().await.unwrap();
                            sqlx::query(ENDLESS).execute(&mut *transaction).await.unwrap();
                        }
                    }
                };
                let _ = timeout(Duration::from_millis(20), given_up).await.unwrap_err();
                while record(&database, &[change(number)], true).await.is_err() {}
            }
            assert_eq!(database.changes("users", 0, 10).await.unwrap().changes.len(), 5);
        });
    }
}

#[test]
fn those_who_wait_to_write_leave_the_readers_their_connections() {
    run(Kind::Sqlite, &[], async |test| {
        let database = impatient(DatabaseUrl::from_str(&test.url).unwrap());
        let Database::Sqlite(pool) = &database else { panic!("no file") };
        let _writing = pool.begin().await.unwrap();
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let pool = pool.clone();
            waiting.spawn(async move { pool.begin().await.map(drop) });
        }
        // All of them are at it.
        tokio::task::yield_now().await;
        database.ping().await.unwrap();
        for refused in waiting.join_all().await {
            let error = StoreError::from(refused.unwrap_err());
            assert!(matches!(error, StoreError::Busy), "{error}");
        }
    });
}

#[test]
fn what_reads_does_not_write_and_sees_one_moment_beside_whoever_writes() {
    run(Kind::Sqlite, &[], async |test| {
        let Database::Sqlite(pool) = &test.database else { panic!("no file") };
        let write = "delete from outbox";
        sqlx::query(write).execute(pool).await.unwrap_err();
        let count = async |transaction: &mut zonecast_store::SqliteConnection| {
            sqlx::query_scalar::<_, i64>("select count(*) from outbox").fetch_one(transaction).await.unwrap()
        };
        let mut snapshot = pool.snapshot().await.unwrap();
        assert_eq!(count(&mut snapshot).await, 0);
        record(&test.database, &[change(1)], true).await.unwrap();
        assert_eq!(count(&mut snapshot).await, 0);
        sqlx::query(write).execute(&mut *snapshot).await.unwrap_err();
        drop(snapshot);
        assert_eq!(count(&mut pool.acquire().await.unwrap()).await, 1);
        sqlx::query(write).execute(&mut pool.writer().await.unwrap()).await.unwrap();
    });
}

#[cfg(unix)]
#[test]
fn a_new_file_is_for_nobody_else() {
    use std::os::unix::fs::PermissionsExt;
    run(Kind::Sqlite, &[], async |test| {
        let path = test.url.strip_prefix("sqlite:").unwrap();
        // The log beside the file goes with the last connection.
        let Database::Sqlite(pool) = &test.database else { panic!("no file") };
        let mut held = pool.writer().await.unwrap();
        sqlx::query("delete from outbox").execute(&mut held).await.unwrap();
        for path in [path.to_owned(), format!("{path}-wal")] {
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{path}");
        }
    });
}

#[test]
fn a_server_that_swallows_everything_holds_nobody_for_ever() {
    block_on(async {
        let Some(test) = TestDatabase::new(Kind::Postgres, &[]).await else { return };
        // postgres://zonecast@localhost/NAME?host=DIRECTORY
        let (place, directory) = test.url.split_once("?host=").unwrap();
        let proxy = Proxy::start(PathBuf::from(directory).join(".s.PGSQL.5432")).await;
        let url = place.replace("@localhost", &format!("@{}", proxy.address())) + "?sslmode=disable";
        let database = impatient(DatabaseUrl::from_str(&url).unwrap());
        let Database::Postgres(pool) = &database else { panic!("no server") };
        record(&database, &[change(1)], true).await.unwrap();

        let mut in_the_midst = pool.begin().await.unwrap();
        let idle = pool.acquire().await.unwrap();
        proxy.hold();
        let began = Instant::now();
        // A statement of a transaction, the way back of a connection, and whoever comes then.
        let statement = timeout(GUARD, sqlx::query("select 1").execute(&mut *in_the_midst)).await.unwrap();
        let error = StoreError::from(statement.unwrap_err());
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
        drop((in_the_midst, idle));
        for number in 2..5 {
            timeout(GUARD, record(&database, &[change(number)], true)).await.unwrap().unwrap_err();
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        proxy.mend();
        // No connection is pinned: both places can be had, by new ones.
        let served = async {
            loop {
                if let (Ok(_one), Ok(_other)) = tokio::join!(pool.begin(), pool.begin()) {
                    break;
                }
            }
        };
        timeout(GUARD, served).await.unwrap();
        record(&database, &[change(9)], true).await.unwrap();
        timeout(GUARD, database.close()).await.unwrap();
    });
}
