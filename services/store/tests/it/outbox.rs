//! Recording changes, and an announcer that remembers what it was given.

use std::{
    future::{pending, ready},
    sync::{Arc, Mutex},
};

use tokio::sync::{Notify, watch};
use zonecast_protocol::users::v1::{User, UserCreated};
use zonecast_store::{
    Database, StoreError, now,
    outbox::{Announcer, Answer, Committed, NewChange, Outcome, Record},
};
use zonecast_testing::{TestDatabase, on_both_databases};

/// The store of these tests.
pub(crate) const STORE: &str = "users";

/// A change that carries a number.
pub(crate) fn change(number: u32) -> NewChange {
    let user = User { name: number.to_string(), ..User::default() };
    NewChange::new(STORE, "users.created", now(), &UserCreated { user: Some(user) })
}

/// Records changes in one transaction, and commits it or rolls it back.
pub(crate) async fn record(database: &Database, changes: &[NewChange], commit: bool) -> Result<(), StoreError> {
    match database {
        Database::Sqlite(pool) => {
            let mut transaction = pool.begin().await?;
            for change in changes {
                transaction.record(change).await?;
            }
            if commit { transaction.commit().await? } else { transaction.rollback().await? }
        }
        Database::Postgres(pool) => {
            let mut transaction = pool.begin().await?;
            for change in changes {
                transaction.record(change).await?;
            }
            if commit { transaction.commit().await? } else { transaction.rollback().await? }
        }
    }
    Ok(())
}

/// What is to become of a change that is heard for the so manieth time.
type Judge = dyn Fn(i64, usize) -> Outcome + Send + Sync;

/// Remembers what it was given; does what it was told, and succeeds when it was told nothing.
#[derive(Clone, Default)]
pub(crate) struct Heard {
    announcements: Arc<Mutex<Vec<Committed>>>,
    /// Of a change's number, and how often it was heard.
    judge: Option<Arc<Judge>>,
    /// Of these numbers it never answers.
    mute: Vec<i64>,
    /// Answers once this is true.
    gate: Option<watch::Receiver<bool>>,
    changed: Arc<Notify>,
}

impl Heard {
    pub(crate) fn judging(judge: impl Fn(i64, usize) -> Outcome + Send + Sync + 'static) -> Self {
        Self { judge: Some(Arc::new(judge)), ..Self::default() }
    }

    pub(crate) fn mute(sequences: impl IntoIterator<Item = i64>) -> Self {
        Self { mute: sequences.into_iter().collect(), ..Self::default() }
    }

    pub(crate) fn answering_when(gate: watch::Receiver<bool>) -> Self {
        Self { gate: Some(gate), ..Self::default() }
    }

    /// How often a change was heard.
    pub(crate) fn times(&self, sequence: i64) -> usize {
        self.announcements.lock().unwrap().iter().filter(|heard| heard.sequence == sequence).count()
    }

    /// Waits until there were so many, and gives their numbers.
    pub(crate) async fn sequences(&self, count: usize) -> Vec<i64> {
        self.all(count).await.iter().map(|announcement| announcement.sequence).collect()
    }

    pub(crate) async fn all(&self, count: usize) -> Vec<Committed> {
        loop {
            let changed = self.changed.notified();
            let heard = self.announcements.lock().unwrap().clone();
            if heard.len() >= count {
                return heard;
            }
            changed.await;
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.announcements.lock().unwrap().len()
    }
}

impl Announcer for Heard {
    async fn announce(&self, batch: &[Committed]) -> Vec<Answer> {
        self.announcements.lock().unwrap().extend_from_slice(batch);
        self.changed.notify_waiters();
        let judged = |committed: &Committed| -> Answer {
            let outcome = match &self.judge {
                _ if self.mute.contains(&committed.sequence) => return Box::pin(pending()),
                Some(judge) => judge(committed.sequence, self.times(committed.sequence)),
                None => Outcome::Confirmed,
            };
            match self.gate.clone() {
                None => Box::pin(ready(outcome)),
                Some(mut gate) => Box::pin(async move {
                    gate.wait_for(|is_open| *is_open).await.unwrap();
                    outcome
                }),
            }
        };
        batch.iter().map(judged).collect()
    }
}

async fn numbers_rise_without_gaps_in_the_order_of_commit(test: TestDatabase) {
    let mut recording = tokio::task::JoinSet::new();
    for number in 0..40 {
        let database = test.database.clone();
        // Every fifth is rolled back; its number is given to another.
        recording.spawn(async move { record(&database, &[change(number)], number % 5 != 0).await });
    }
    while let Some(recorded) = recording.join_next().await {
        recorded.unwrap().unwrap();
    }
    let heard = Heard::default();
    let (relay, _stop) = crate::relay::relay(&test.database, heard.clone());
    let running = tokio::spawn(relay);
    assert_eq!(heard.sequences(32).await, (1..=32).collect::<Vec<_>>());
    running.abort();
}

async fn one_transaction_may_record_several_changes(test: TestDatabase) {
    record(&test.database, &[change(1), change(2)], true).await.unwrap();
    record(&test.database, &[change(3), change(4)], false).await.unwrap();
    record(&test.database, &[change(5)], true).await.unwrap();
    let heard = Heard::default();
    let (relay, _stop) = crate::relay::relay(&test.database, heard.clone());
    let running = tokio::spawn(relay);
    let all = heard.all(3).await;
    let names = all.iter().map(|announcement| {
        let detail = announcement.change.detail.as_ref().unwrap();
        detail.to_msg::<UserCreated>().unwrap().user.unwrap().name
    });
    assert_eq!(names.collect::<Vec<_>>(), ["1", "2", "5"]);
    assert!(all.iter().all(|announcement| announcement.topic == "users.created"));
    assert!(all.iter().all(|announcement| announcement.change.store == STORE));
    running.abort();
}

on_both_databases! {
    []
    numbers_rise_without_gaps_in_the_order_of_commit
    one_transaction_may_record_several_changes
}
