//! Followers: each change exactly once, in order, whoever dies and whoever was away.

use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
};
use zonecast_protocol::users::v1::UserCreated;
use zonecast_store::{
    Database,
    outbox::{Committed, Follower, FollowerStats, HandleError, Handler, RelayOptions, Within},
};
use zonecast_testing::{TestDatabase, on_both_databases};

use crate::{
    outbox::{Heard, STORE, change, record},
    relay::{expire_leases, pace, quick, run_until_with},
};

/// Longer than anything takes; only a failing test waits so long.
const GUARD: Duration = Duration::from_secs(60);

const CONSUMER: &str = "characters";

/// Writes the number of each change into a table of its own.
#[derive(Clone, Default)]
struct Notes(Arc<Inside>);

#[derive(Default)]
struct Inside {
    /// Numbers as they came in, again where they were tried again.
    before: Mutex<Vec<i64>>,
    missed: Mutex<Vec<RangeInclusive<i64>>>,
    /// Of this number: fail so often.
    failing: Mutex<Option<(i64, usize)>>,
    /// At this number: write, say so, and stop for ever before the transaction ends.
    stuck_at: Option<i64>,
    stuck: Notify,
}

impl Notes {
    fn stuck_at(sequence: i64) -> Self {
        Self(Arc::new(Inside { stuck_at: Some(sequence), ..Inside::default() }))
    }

    fn before(&self) -> Vec<i64> {
        self.0.before.lock().unwrap().clone()
    }
}

impl Handler for Notes {
    fn wants(&self, topic: &str) -> bool {
        topic == "users.created"
    }

    async fn before(&self, change: &Committed) -> Result<(), HandleError> {
        self.0.before.lock().unwrap().push(change.sequence);
        Ok(())
    }

    async fn handle(&self, change: &Committed, within: Within<'_>) -> Result<(), HandleError> {
        change.detail::<UserCreated>().map_err(|error| HandleError::Failed(error.to_string()))?;
        let insert = "insert into notes (sequence) values ($1)";
        match within {
            Within::Sqlite(connection) => {
                sqlx::query(insert).bind(change.sequence).execute(&mut *connection).await?;
            }
            Within::Postgres(connection) => {
                sqlx::query(insert).bind(change.sequence).execute(&mut *connection).await?;
            }
        }
        if self.0.stuck_at == Some(change.sequence) {
            self.0.stuck.notify_one();
            std::future::pending::<()>().await;
        }
        match &mut *self.0.failing.lock().unwrap() {
            Some((sequence, times)) if *sequence == change.sequence && *times > 0 => {
                *times -= 1;
                Err(HandleError::Failed("not yet".to_owned()))
            }
            _ => Ok(()),
        }
    }

    async fn missed(&self, sequences: RangeInclusive<i64>, _: Within<'_>) -> Result<(), HandleError> {
        self.0.missed.lock().unwrap().push(sequences);
        Ok(())
    }
}

async fn notes(database: &Database) -> Vec<i64> {
    let query = "select sequence from notes order by sequence";
    match database {
        Database::Sqlite(pool) => sqlx::query_scalar(query).fetch_all(pool).await.unwrap(),
        Database::Postgres(pool) => sqlx::query_scalar(query).fetch_all(pool).await.unwrap(),
    }
}

/// With the handler's table.
async fn prepared(test: &TestDatabase) {
    let table = "create table notes (sequence bigint primary key)";
    match &test.database {
        Database::Sqlite(pool) => drop(sqlx::raw_sql(table).execute(&mut pool.writer().await.unwrap()).await.unwrap()),
        Database::Postgres(pool) => drop(sqlx::raw_sql(table).execute(pool).await.unwrap()),
    }
}

async fn made(test: &TestDatabase, numbers: RangeInclusive<u32>) {
    let changes: Vec<_> = numbers.map(change).collect();
    record(&test.database, &changes, true).await.unwrap();
}

struct Running {
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
    stats: Arc<FollowerStats>,
    wake: Arc<Notify>,
}

impl Running {
    fn start(test: &TestDatabase, notes: &Notes) -> Self {
        let (database, changed) = (test.database.clone(), Arc::default());
        let follower = Follower::new(database, CONSUMER, STORE, notes.clone(), changed, pace());
        let (stop, stopped) = oneshot::channel();
        let (stats, wake) = (follower.stats(), follower.wake());
        let task = tokio::spawn(follower.run(async {
            let _ = stopped.await;
        }));
        Self { task, stop, stats, wake }
    }

    /// Until the change with this number is handled.
    async fn reach(&self, sequence: i64) {
        let reached = async {
            while self.stats.counts().sequence < sequence {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(GUARD, reached).await.unwrap();
    }

    async fn end(self) {
        drop(self.stop);
        self.task.await.unwrap();
    }

    /// As a process that is killed: nothing is left in order.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn a_consumer_that_was_away_hears_of_everything(test: TestDatabase) {
    prepared(&test).await;
    // Published before anybody followed.
    made(&test, 1..=100).await;
    run_until_with(&test, &Heard::default(), 100, quick()).await;
    let notebook = Notes::default();
    let running = Running::start(&test, &notebook);
    running.reach(100).await;
    running.end().await;
    made(&test, 101..=150).await;
    run_until_with(&test, &Heard::default(), 50, quick()).await;
    let running = Running::start(&test, &notebook);
    running.wake.notify_one();
    running.reach(150).await;
    // Also what nobody has published yet.
    made(&test, 151..=151).await;
    running.reach(151).await;
    running.end().await;
    assert_eq!(notebook.before(), (1..=151).collect::<Vec<_>>(), "in order, and none twice");
    assert_eq!(notes(&test.database).await.len(), 151);
}

async fn who_is_killed_between_handling_and_noting_it_has_handled_nothing(test: TestDatabase) {
    prepared(&test).await;
    made(&test, 1..=5).await;
    let dying = Notes::stuck_at(3);
    let running = Running::start(&test, &dying);
    tokio::time::timeout(GUARD, dying.0.stuck.notified()).await.unwrap();
    running.kill().await;
    expire_leases(&test.database).await;
    let next = Notes::default();
    let running = Running::start(&test, &next);
    running.reach(5).await;
    running.end().await;
    // What lies outside of the transaction was done twice, and what lies within it once: its key would tell.
    assert_eq!((dying.before(), next.before()), (vec![1, 2, 3], vec![3, 4, 5]));
    assert_eq!(notes(&test.database).await, [1, 2, 3, 4, 5]);
}

async fn a_change_that_fails_is_tried_again_and_nothing_passes_it(test: TestDatabase) {
    prepared(&test).await;
    made(&test, 1..=4).await;
    let notebook = Notes::default();
    *notebook.0.failing.lock().unwrap() = Some((2, 3));
    let running = Running::start(&test, &notebook);
    running.reach(4).await;
    let counts = running.stats.counts();
    running.end().await;
    assert_eq!(notebook.before(), [1, 2, 2, 2, 2, 3, 4]);
    assert_eq!((notes(&test.database).await, counts.handled, counts.setbacks), (vec![1, 2, 3, 4], 4, 3));
}

async fn how_many_wait_behind_a_change_that_fails_is_known(test: TestDatabase) {
    prepared(&test).await;
    made(&test, 1..=4).await;
    let notebook = Notes::default();
    *notebook.0.failing.lock().unwrap() = Some((2, usize::MAX));
    let running = Running::start(&test, &notebook);
    let waiting = async {
        while running.stats.counts().setbacks < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(GUARD, waiting).await.unwrap();
    assert_eq!((running.stats.counts().handled, running.stats.counts().behind), (1, 3));
    running.end().await;
}

async fn what_was_pruned_before_it_was_read_is_told_and_the_rest_is_handled(test: TestDatabase) {
    prepared(&test).await;
    made(&test, 1..=2).await;
    let notebook = Notes::default();
    let running = Running::start(&test, &notebook);
    running.reach(2).await;
    running.end().await;
    // Away for too long.
    made(&test, 3..=9).await;
    run_until_with(&test, &Heard::default(), 9, quick()).await;
    let at_once = RelayOptions { retention: Duration::ZERO, prune_interval: Duration::ZERO, ..quick() };
    // What was made at the same tick of the database's clock is not older than nothing yet.
    while !test.database.changes(STORE, 0, 1).await.unwrap().changes.is_empty() {
        run_until_with(&test, &Heard::default(), 0, at_once.clone()).await;
    }
    made(&test, 10..=11).await;
    let running = Running::start(&test, &notebook);
    running.reach(11).await;
    assert_eq!((running.stats.counts().missed, running.stats.counts().behind), (7, 0));
    running.end().await;
    assert_eq!(*notebook.0.missed.lock().unwrap(), [3..=9]);
    assert_eq!(notes(&test.database).await, [1, 2, 10, 11]);
}

async fn one_process_follows_and_the_other_takes_over(test: TestDatabase) {
    prepared(&test).await;
    let (one, other) = (Notes::default(), Notes::default());
    let first = Running::start(&test, &one);
    made(&test, 1..=1).await;
    first.reach(1).await;
    let second = Running::start(&test, &other);
    made(&test, 2..=10).await;
    first.reach(10).await;
    first.end().await;
    made(&test, 11..=11).await;
    second.reach(11).await;
    second.end().await;
    assert_eq!((one.before().len(), other.before()), (10, vec![11]));
}

on_both_databases! {
    []
    a_consumer_that_was_away_hears_of_everything
    who_is_killed_between_handling_and_noting_it_has_handled_nothing
    a_change_that_fails_is_tried_again_and_nothing_passes_it
    how_many_wait_behind_a_change_that_fails_is_known
    what_was_pruned_before_it_was_read_is_told_and_the_rest_is_handled
    one_process_follows_and_the_other_takes_over
}
