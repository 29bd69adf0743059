//! The relay: at least once, in order, by one process at a time.

use std::time::Duration;

use tokio::sync::oneshot;
use zonecast_store::{
    Database, new_id,
    outbox::{Outcome, Pace, Relay, RelayCounts, RelayOptions},
};
use zonecast_testing::{TestDatabase, on_both_databases};

use crate::outbox::{Heard, STORE, change, record};

/// Longer than anything takes; only a failing test waits so long.
const GUARD: Duration = Duration::from_secs(60);

/// Of those who need not spare anybody.
pub(crate) fn pace() -> Pace {
    let (poll_interval, backoff_base) = (Duration::from_millis(5), Duration::from_millis(1));
    Pace { poll_interval, backoff_base, backoff_max: backoff_base, ..Pace::default() }
}

pub(crate) fn quick() -> RelayOptions {
    RelayOptions { pace: pace(), ..RelayOptions::default() }
}

/// A relay at work, until the sender is used or dropped.
pub(crate) fn relay(
    database: &Database,
    heard: Heard,
) -> (impl Future<Output = ()> + Send + 'static, oneshot::Sender<()>) {
    let (stop, stopped) = oneshot::channel();
    let relay = Relay::new(database.clone(), STORE, heard, quick());
    let run = relay.run(async {
        let _ = stopped.await;
    });
    (async { tokio::time::timeout(GUARD, run).await.unwrap() }, stop)
}

fn unconfirmed() -> Outcome {
    Outcome::Unconfirmed("somebody did not".to_owned())
}

/// Runs a relay until so many changes have left it, one way or the other.
async fn run_until(test: &TestDatabase, heard: &Heard, gone: u64) -> RelayCounts {
    run_until_with(test, heard, gone, quick()).await
}

pub(crate) async fn run_until_with(
    test: &TestDatabase,
    heard: &Heard,
    gone: u64,
    options: RelayOptions,
) -> RelayCounts {
    let relay = Relay::new(test.database.clone(), STORE, heard.clone(), options);
    let stats = relay.stats();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(relay.run(async {
        let _ = stopped.await;
    }));
    let left = async {
        while stats.counts().published + stats.counts().parked < gone {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(GUARD, left).await.unwrap();
    drop(stop);
    running.await.unwrap();
    stats.counts()
}

async fn what_was_not_confirmed_is_published_again_under_the_same_id(test: TestDatabase) {
    // The broker goes away behind the first, and then somebody does not process the second.
    let heard = Heard::judging(|sequence, times| match (sequence, times) {
        (2 | 3, 1) => Outcome::Unpublished("the broker is away".to_owned()),
        (2, 2) => unconfirmed(),
        _ => Outcome::Confirmed,
    });
    record(&test.database, &[change(1), change(2), change(3)], true).await.unwrap();
    let (relay, _stop) = relay(&test.database, heard.clone());
    let running = tokio::spawn(relay);
    assert_eq!(heard.sequences(6).await, [1, 2, 3, 2, 3, 2]);
    let all = heard.all(6).await;
    let id = |at: usize| all[at].change.event_id.clone();
    assert!(id(1) == id(3) && id(3) == id(5) && id(2) == id(4) && id(0) != id(1));
    running.abort();
}

async fn a_relay_that_dies_before_it_has_noted_it_leaves_it_to_be_published_again(test: TestDatabase) {
    record(&test.database, &[change(1)], true).await.unwrap();
    let first = Heard::mute([1]);
    let (dying, _stop) = relay(&test.database, first.clone());
    let dying = tokio::spawn(dying);
    let before = first.all(1).await;
    dying.abort();
    let _ = dying.await;
    // Its lease stands; the next one waits until it has run out, and not for ever.
    expire_leases(&test.database).await;
    let second = Heard::default();
    let (next, _stop) = relay(&test.database, second.clone());
    let running = tokio::spawn(next);
    assert_eq!(second.all(1).await, before);
    running.abort();
}

async fn of_two_processes_one_publishes_and_the_other_takes_over(test: TestDatabase) {
    let (one, other) = (Heard::default(), Heard::default());
    let (first, stop_first) = relay(&test.database, one.clone());
    let first = tokio::spawn(first);
    record(&test.database, &[change(1)], true).await.unwrap();
    one.all(1).await;
    let (second, _stop) = relay(&test.database, other.clone());
    let second = tokio::spawn(second);
    for number in 2..=10 {
        record(&test.database, &[change(number)], true).await.unwrap();
    }
    assert_eq!(one.sequences(10).await, (1..=10).collect::<Vec<_>>());
    assert_eq!(other.count(), 0);
    // Leaving in order, it leaves the lease too.
    drop(stop_first);
    first.await.unwrap();
    record(&test.database, &[change(11)], true).await.unwrap();
    assert_eq!(other.sequences(1).await, [11]);
    second.abort();
}

async fn what_waits_at_the_end_is_published_before_it(test: TestDatabase) {
    let changes: Vec<_> = (1..=200).map(change).collect();
    record(&test.database, &changes, true).await.unwrap();
    let heard = Heard::default();
    let (relay, stop) = relay(&test.database, heard.clone());
    drop(stop);
    relay.await;
    assert_eq!(heard.count(), 200);
}

async fn a_receiver_that_never_processes_does_not_hold_up_the_rest(test: TestDatabase) {
    let attempts = RelayOptions::default().attempts_max as usize;
    // Every second is rejected by somebody, however often it comes.
    let heard = Heard::judging(|sequence, _| if sequence % 2 == 0 { unconfirmed() } else { Outcome::Confirmed });
    let changes: Vec<_> = (1..=64).map(change).collect();
    record(&test.database, &changes, true).await.unwrap();
    let counts = run_until(&test, &heard, 64).await;
    assert_eq!((counts.published, counts.parked, counts.holds_lease), (32, 32, false));
    // All in the attempts of one, and nobody hears again what everybody has processed.
    for sequence in 1..=64 {
        assert_eq!(heard.times(sequence), if sequence % 2 == 0 { attempts } else { 1 }, "{sequence}");
    }
}

async fn a_receiver_that_never_answers_holds_up_nothing_else(test: TestDatabase) {
    let heard = Heard::mute([1, 3]);
    let changes: Vec<_> = (1..=200).map(change).collect();
    record(&test.database, &changes, true).await.unwrap();
    let running =
        tokio::spawn(Relay::new(test.database.clone(), STORE, heard.clone(), quick()).run(std::future::pending()));
    // Far more than are under way at once.
    assert_eq!(heard.sequences(200).await, (1..=200).collect::<Vec<_>>());
    tokio::time::timeout(GUARD, async {
        while waiting(&test.database).await != [1, 3] {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
    // They are under way still, and not sent again meanwhile.
    assert_eq!((heard.times(1), heard.times(3)), (1, 1));
    running.abort();
}

async fn a_relay_that_loses_its_lease_sends_nothing_more_and_notes_what_is_answered(test: TestDatabase) {
    let (answer, answered) = tokio::sync::watch::channel(false);
    let slow = Heard::answering_when(answered);
    let pace = Pace { lease: Duration::from_millis(30), ..pace() };
    let (stop, stopped) = oneshot::channel::<()>();
    let relay = Relay::new(test.database.clone(), STORE, slow.clone(), RelayOptions { pace, ..quick() });
    let stats = relay.stats();
    let running = tokio::spawn(relay.run(async {
        let _ = stopped.await;
    }));
    record(&test.database, &[change(1), change(2)], true).await.unwrap();
    slow.all(2).await;
    // Another process takes the lease in the midst of it, as it may when this one was stopped for long.
    take_lease(&test.database).await;
    tokio::time::timeout(GUARD, async {
        while stats.counts().holds_lease {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
    record(&test.database, &[change(3)], true).await.unwrap();
    answer.send_replace(true);
    drop(stop);
    running.await.unwrap();
    // What was processed is noted, whoever has the lease; what came later is left to the other.
    assert_eq!((slow.count(), waiting(&test.database).await), (2, vec![3]));
    expire_leases(&test.database).await;
    let other = Heard::default();
    run_until(&test, &other, 1).await;
    assert_eq!(other.sequences(1).await, [3]);
}

async fn what_comes_behind_a_change_that_waits_for_its_next_attempt_passes_it(test: TestDatabase) {
    let heard = Heard::judging(|sequence, _| if sequence == 1 { unconfirmed() } else { Outcome::Confirmed });
    let pause = Duration::from_secs(3_600);
    let options = RelayOptions { pace: Pace { backoff_base: pause, backoff_max: pause, ..pace() }, ..quick() };
    let running =
        tokio::spawn(Relay::new(test.database.clone(), STORE, heard.clone(), options).run(std::future::pending()));
    for number in 1..=4 {
        record(&test.database, &[change(number)], true).await.unwrap();
        heard.all(number as usize).await;
    }
    assert_eq!(heard.sequences(4).await, [1, 2, 3, 4]);
    running.abort();
}

async fn what_the_broker_will_never_take_is_parked_at_once_and_can_be_sent_again(test: TestDatabase) {
    let heard = Heard::judging(|sequence, times| match (sequence, times) {
        (1, 1) => Outcome::Refused("too large".to_owned()),
        _ => Outcome::Confirmed,
    });
    record(&test.database, &[change(1), change(2)], true).await.unwrap();
    let counts = run_until(&test, &heard, 2).await;
    assert_eq!((counts.published, counts.parked, heard.sequences(2).await), (1, 1, vec![1, 2]));
    assert_eq!(counts.oldest_seconds, 0.0, "what is parked does not wait");
    assert_eq!(problems(&test.database).await, ["too large"]);
    // As the outbox's page says.
    let again = "update outbox set due_at = occurred_at, attempts = 0 where sequence = 1";
    match &test.database {
        Database::Sqlite(pool) => drop(sqlx::query(again).execute(&mut pool.writer().await.unwrap()).await.unwrap()),
        Database::Postgres(pool) => drop(sqlx::query(again).execute(pool).await.unwrap()),
    }
    run_until(&test, &heard, 1).await;
    assert_eq!(heard.sequences(3).await, [1, 2, 1]);
    assert!(problems(&test.database).await.is_empty());
}

/// Why each change that is left is there.
async fn problems(database: &Database) -> Vec<String> {
    let query = "select problem from outbox where published_at is null order by sequence";
    match database {
        Database::Sqlite(pool) => sqlx::query_scalar(query).fetch_all(pool).await.unwrap(),
        Database::Postgres(pool) => sqlx::query_scalar(query).fetch_all(pool).await.unwrap(),
    }
}

/// The numbers of what waits to be published.
async fn waiting(database: &Database) -> Vec<i64> {
    let query = "select sequence from outbox where due_at is not null order by sequence";
    match database {
        Database::Sqlite(pool) => sqlx::query_scalar(query).fetch_all(pool).await.unwrap(),
        Database::Postgres(pool) => sqlx::query_scalar(query).fetch_all(pool).await.unwrap(),
    }
}

async fn take_lease(database: &Database) {
    let holder = new_id();
    match database {
        Database::Sqlite(pool) => {
            let take = "update outbox_relays set holder = ?, until = 9000000000000";
            sqlx::query(take).bind(holder).execute(&mut pool.writer().await.unwrap()).await.unwrap();
        }
        Database::Postgres(pool) => {
            let take = "update outbox_relays set holder = $1, until = 'infinity'";
            sqlx::query(take).bind(holder).execute(pool).await.unwrap();
        }
    }
}

pub(crate) async fn expire_leases(database: &Database) {
    match database {
        Database::Sqlite(pool) => {
            sqlx::query("update outbox_relays set until = 0")
                .execute(&mut pool.writer().await.unwrap())
                .await
                .map(|_| ())
                .unwrap();
        }
        Database::Postgres(pool) => {
            sqlx::query("update outbox_relays set until = 'epoch'").execute(pool).await.map(|_| ()).unwrap();
        }
    }
}

on_both_databases! {
    []
    what_was_not_confirmed_is_published_again_under_the_same_id
    a_relay_that_dies_before_it_has_noted_it_leaves_it_to_be_published_again
    of_two_processes_one_publishes_and_the_other_takes_over
    what_waits_at_the_end_is_published_before_it
    a_receiver_that_never_processes_does_not_hold_up_the_rest
    a_receiver_that_never_answers_holds_up_nothing_else
    a_relay_that_loses_its_lease_sends_nothing_more_and_notes_what_is_answered
    what_comes_behind_a_change_that_waits_for_its_next_attempt_passes_it
    what_the_broker_will_never_take_is_parked_at_once_and_can_be_sent_again
}
