//! Plays recorded events through a broker and checks what every session receives.

mod receiver;

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use thiserror::Error;
use tokio::{sync::mpsc, task::JoinSet};
use zonecast_client::{Client, ClientConfig, ConnectError, PendingReceipt, Publish, PublishError, ZoneError};
use zonecast_protocol::{Circle, WorldName};

use crate::{EventRow, InputError, Oracle, Report, SortedLines, WorldFile};

/// Events between the reading thread and the publisher.
const ROWS_AHEAD: usize = 1024;
/// Acknowledgements that may be under way before the publisher waits for the oldest.
const ACKS_UNDER_WAY: usize = 4096;
/// Sessions that connect at a time.
const CONNECTS_AT_ONCE: usize = 32;
/// A session that hears neither a delivery nor the end for so long is given up.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(20);
/// Longer latencies count as an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// The kind of the event that marks the end; every session has a zone for it.
const END_KIND: &str = "replay.end";

/// How fast recorded time passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// So many times as fast as the clock; above 0.
    Times(f64),
    /// Without waiting.
    Max,
}

/// How a replay is made.
#[derive(Debug)]
pub struct ReplayOptions {
    /// The world that zones and events are put into.
    pub world: WorldName,
    /// How fast recorded time passes.
    pub pace: Pace,
    /// Where to write `event_id,session` for every delivery.
    pub out: Option<SortedLines>,
}

/// What can be seen of a replay while it runs, and the way to end it early.
#[derive(Debug)]
pub struct Progress {
    sessions: AtomicU64,
    events: AtomicU64,
    deliveries: AtomicU64,
    unmatched: AtomicU64,
    stop: AtomicBool,
    latency: Mutex<Histogram<u64>>,
}

impl Default for Progress {
    fn default() -> Self {
        let latency = Histogram::new_with_max(LATENCY_US_MAX, 3).expect("the histogram offers 3 significant digits");
        Self {
            sessions: AtomicU64::new(0),
            events: AtomicU64::new(0),
            deliveries: AtomicU64::new(0),
            unmatched: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            latency: Mutex::new(latency),
        }
    }
}

impl Progress {
    /// Sessions connected.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Events published.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Deliveries received.
    #[must_use]
    pub fn deliveries(&self) -> u64 {
        self.deliveries.load(Ordering::Relaxed)
    }

    /// Events that reached nobody.
    #[must_use]
    pub fn unmatched(&self) -> u64 {
        self.unmatched.load(Ordering::Relaxed)
    }

    /// Latencies so far, in microseconds.
    pub fn latency(&self) -> MutexGuard<'_, Histogram<u64>> {
        locked(&self.latency)
    }

    /// Publishes no further events; the replay ends once those under way have arrived.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded are counts and queues, each whole after every operation on it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a replay failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The input is broken.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A client could not connect.
    #[error("client {client:?} cannot connect: {source}")]
    Connect {
        /// Its client id.
        client: String,
        /// Why.
        source: ConnectError,
    },
    /// A session could not take its zones.
    #[error("client {client:?} cannot take its zones: {source}")]
    Zones {
        /// Its client id.
        client: String,
        /// Why.
        source: ZoneError,
    },
    /// An event was refused, or its fate is unknown.
    #[error("event {id:?} cannot be published: {source}")]
    Publish {
        /// The event's name.
        id: String,
        /// Why.
        source: PublishError,
    },
    /// The deliveries cannot be written.
    #[error("the deliveries cannot be written: {0}")]
    Out(#[from] io::Error),
    /// A task ended before its work was done.
    #[error("a task of the replay failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Plays `events` into the world's sessions and compares what they receive with brute force.
///
/// `config` makes the configuration of a client from its id. Each distinct session becomes one client, and one more
/// publishes. Returns when all that was published has arrived or is given up.
///
/// # Errors
/// See [`ReplayError`]. Lost, duplicated or unexpected deliveries are no error but part of the report.
pub async fn replay(
    world: &WorldFile,
    events: impl Iterator<Item = Result<EventRow, InputError>> + Send + 'static,
    config: impl Fn(String) -> ClientConfig,
    options: ReplayOptions,
    progress: Arc<Progress>,
) -> Result<Report, ReplayError> {
    let publisher_id = "replay.publisher".to_owned();
    let connected = Client::connect(config(publisher_id.clone())).await;
    let publisher = connected.map_err(|source| ReplayError::Connect { client: publisher_id, source })?;
    let run = Arc::new(receiver::Run::new(&options.world, publisher.source(), Arc::clone(&progress), options.out));
    let mut receivers = JoinSet::new();
    let books = receiver::connect_all(world, &run, config, &mut receivers).await?;
    let rows = read_ahead(events, Oracle::new(world), Arc::clone(&progress));
    let publishing = Publishing { publisher: &publisher, run: &run, books: &books, pace: options.pace };
    let published = publishing.publish_all(rows).await;
    if published.is_err() {
        receivers.abort_all();
    }
    let counts = published?;
    while let Some(received) = receivers.join_next().await {
        received??;
    }
    // The goodbye is a courtesy: whatever it meets, the replay is over.
    let _ = publisher.close().await;
    let run = Arc::into_inner(run).expect("all receivers have ended, and they held the others");
    let (ended, out) = run.into_parts();
    if let Some(out) = out {
        tokio::task::spawn_blocking(move || out.finish()).await??;
    }
    let sum = |field: fn(&crate::Ledger) -> u64| books.iter().map(|book| field(&locked(book))).sum();
    let latency = progress.latency();
    Ok(Report {
        events: progress.events(),
        sessions: world.sessions.len(),
        zones: world.zones.len(),
        deliveries: progress.deliveries(),
        unmatched_events: progress.unmatched(),
        lost: sum(crate::Ledger::lost),
        duplicated: sum(crate::Ledger::duplicated),
        unexpected: sum(crate::Ledger::unexpected),
        miscounted_acks: counts.miscounted_acks,
        elapsed_s: counts
            .begun
            .map_or(0.0, |begun| ended.unwrap_or(begun).saturating_duration_since(begun).as_secs_f64()),
        latency_us: (&*latency).into(),
    })
}

/// An event and the sessions that it should reach.
type Due = Result<(EventRow, Vec<usize>), InputError>;

/// Reads events and computes whom they should reach, on a thread of its own, a bounded number ahead.
fn read_ahead(
    events: impl Iterator<Item = Result<EventRow, InputError>> + Send + 'static,
    oracle: Oracle,
    progress: Arc<Progress>,
) -> mpsc::Receiver<Due> {
    let (rows, receiver) = mpsc::channel(ROWS_AHEAD);
    tokio::task::spawn_blocking(move || {
        for row in events {
            let due = row.map(|row| {
                let reached = oracle.reached(&row.circle);
                (row, reached)
            });
            if progress.is_stopped() || rows.blocking_send(due).is_err() {
                break;
            }
        }
    });
    receiver
}

#[derive(Default)]
struct Counts {
    begun: Option<Instant>,
    miscounted_acks: u64,
}

/// An acknowledgement under way: the event's name, how many sessions it should name, and itself.
type AckDue = (String, usize, PendingReceipt);

struct Publishing<'a> {
    publisher: &'a Client,
    run: &'a receiver::Run,
    books: &'a receiver::Books,
    pace: Pace,
}

impl Publishing<'_> {
    async fn publish_all(&self, mut rows: mpsc::Receiver<Due>) -> Result<Counts, ReplayError> {
        let mut counts = Counts::default();
        let mut schedule = None;
        let mut acks = VecDeque::new();
        while let Some(due) = rows.recv().await {
            let (row, reached) = due?;
            if let Pace::Times(times) = self.pace {
                let (start, first_ms) = *schedule.get_or_insert((tokio::time::Instant::now(), row.time_ms));
                let after_s = ((row.time_ms - first_ms) / 1000.0 / times).max(0.0);
                let wait = tokio::time::sleep_until(start + Duration::from_secs_f64(after_s.min(1e9)));
                if !self.wait_unless_stopped(wait).await {
                    break;
                }
            }
            counts.begun.get_or_insert_with(Instant::now);
            let matched = reached.len();
            let receipt = self.publish(&row, &reached).await?;
            acks.push_back((row.id, matched, receipt));
            if acks.len() > ACKS_UNDER_WAY {
                self.check_oldest_ack(&mut acks, &mut counts).await?;
            }
        }
        while !acks.is_empty() {
            self.check_oldest_ack(&mut acks, &mut counts).await?;
        }
        let end = Publish::at(self.run.world.as_str(), end_circle()).kind(END_KIND);
        let ended = self.publisher.publish_acked(end).await;
        let receipt = ended.map_err(|source| ReplayError::Publish { id: END_KIND.to_owned(), source })?;
        counts.miscounted_acks += u64::from((receipt.matched as usize) < self.books.len());
        self.run.all_is_published();
        Ok(counts)
    }

    /// False when the replay was stopped meanwhile.
    async fn wait_unless_stopped(&self, wait: impl Future<Output = ()>) -> bool {
        tokio::pin!(wait);
        let mut look = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                () = &mut wait => return !self.run.progress.is_stopped(),
                _ = look.tick() => if self.run.progress.is_stopped() { return false },
            }
        }
    }

    async fn publish(&self, row: &EventRow, reached: &[usize]) -> Result<PendingReceipt, ReplayError> {
        let number = self.run.progress.events.fetch_add(1, Ordering::Relaxed) + 1;
        let now = Instant::now();
        for &session in reached {
            locked(&self.books[session]).expect(number, now);
        }
        let event = Publish::at(self.run.world.as_str(), row.circle).payload(row.payload.as_slice());
        let receipt = self.publisher.publish_with_ack(event).await;
        let receipt = receipt.map_err(|source| ReplayError::Publish { id: row.id.clone(), source })?;
        debug_assert_eq!(receipt.id().lane_seq, number, "the only publisher on its lane numbers like the books");
        Ok(receipt)
    }

    async fn check_oldest_ack(&self, acks: &mut VecDeque<AckDue>, counts: &mut Counts) -> Result<(), ReplayError> {
        let Some((id, matched, receipt)) = acks.pop_front() else { return Ok(()) };
        let receipt = receipt.await.map_err(|source| ReplayError::Publish { id, source })?;
        if receipt.matched == 0 {
            self.run.progress.unmatched.fetch_add(1, Ordering::Relaxed);
        }
        counts.miscounted_acks += u64::from(receipt.matched as usize != matched);
        Ok(())
    }
}

/// Where the end is announced: a point, for zones that are the same point.
fn end_circle() -> Circle {
    Circle::new(0.0, 0.0, 0.0).expect("a point is a circle")
}
