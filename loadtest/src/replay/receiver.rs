//! The receiving side of a replay: one client per session.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use tokio::{sync::Semaphore, task::JoinSet, time::timeout};
use zonecast_client::{Client, ClientConfig, Event, ZoneItem, ZoneSpec, ZoneSubscription};
use zonecast_protocol::{WorldName, Zone};

use super::{CONNECTS_AT_ONCE, END_KIND, Progress, ReplayError, SILENCE_TIMEOUT, end_circle, locked};
use crate::{Ledger, SortedLines, Verdict, WorldFile};

/// The books of all sessions, by the session's index.
pub(super) type Books = Arc<[Mutex<Ledger>]>;

/// What the tasks of a replay share.
pub(super) struct Run {
    pub(super) world: WorldName,
    pub(super) progress: Arc<Progress>,
    /// Events of other publishers are none of ours.
    source: u64,
    /// From here on silence means that nothing more will come.
    all_published: AtomicBool,
    last_delivery: Mutex<Option<Instant>>,
    out: Option<Mutex<SortedLines>>,
}

impl Run {
    pub(super) fn new(world: &WorldName, source: u64, progress: Arc<Progress>, out: Option<SortedLines>) -> Self {
        Self {
            world: world.clone(),
            progress,
            source,
            all_published: AtomicBool::new(false),
            last_delivery: Mutex::default(),
            out: out.map(Mutex::new),
        }
    }

    pub(super) fn all_is_published(&self) {
        self.all_published.store(true, Ordering::Relaxed);
    }

    /// When the last delivery came, and what is to be written out.
    pub(super) fn into_parts(self) -> (Option<Instant>, Option<SortedLines>) {
        let out = self.out.map(|out| out.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner));
        (*locked(&self.last_delivery), out)
    }
}

/// One session of the world: its client, its zones, its books.
struct Receiver {
    run: Arc<Run>,
    books: Books,
    session: usize,
    name: String,
}

/// Connects every session, a bounded number at a time, and leaves them receiving.
pub(super) async fn connect_all(
    world: &WorldFile,
    run: &Arc<Run>,
    config: impl Fn(String) -> ClientConfig,
    receivers: &mut JoinSet<Result<(), ReplayError>>,
) -> Result<Books, ReplayError> {
    let books: Books = world.sessions.iter().map(|_| Mutex::default()).collect();
    let mut zones: Vec<Vec<ZoneSpec>> = vec![Vec::new(); world.sessions.len()];
    for row in &world.zones {
        let of_session = &mut zones[row.session];
        let id = u32::try_from(of_session.len() + 1).unwrap_or(u32::MAX);
        of_session.push(ZoneSpec::new(id, run.world.as_str(), row.zone));
    }
    let gate = Arc::new(Semaphore::new(CONNECTS_AT_ONCE));
    let mut connecting = JoinSet::new();
    for ((session, name), zones) in world.sessions.iter().enumerate().zip(zones) {
        let config = config(format!("replay.{name}"));
        let receiver = Receiver { run: Arc::clone(run), books: Arc::clone(&books), session, name: name.clone() };
        let gate = Arc::clone(&gate);
        connecting.spawn(async move {
            let _turn = gate.acquire_owned().await;
            receiver.connect(config, zones).await.map(|(client, zones)| (receiver, client, zones))
        });
    }
    while let Some(connected) = connecting.join_next().await {
        let (receiver, client, zones) = connected??;
        run.progress.sessions.fetch_add(1, Ordering::Relaxed);
        receivers.spawn(receiver.receive(client, zones));
    }
    Ok(books)
}

impl Receiver {
    async fn connect(
        &self,
        config: ClientConfig,
        mut zones: Vec<ZoneSpec>,
    ) -> Result<(Client, ZoneSubscription), ReplayError> {
        let name = || format!("replay.{}", self.name);
        let connected = Client::connect(config).await;
        let client = connected.map_err(|source| ReplayError::Connect { client: name(), source })?;
        let end = end_circle();
        let end_zone = Zone::new(end.x(), end.y(), end.x(), end.y()).expect("a point is a zone");
        let id = u32::try_from(zones.len() + 1).unwrap_or(u32::MAX);
        zones.push(ZoneSpec::new(id, self.run.world.as_str(), end_zone).kinds([END_KIND]));
        let subscribed = client.subscribe_zones(zones).await;
        let zones = subscribed.map_err(|source| ReplayError::Zones { client: name(), source })?;
        Ok((client, zones))
    }

    /// Receives until the end is announced, or too long nothing comes although something is due.
    async fn receive(self, client: Client, mut zones: ZoneSubscription) -> Result<(), ReplayError> {
        loop {
            let item = match timeout(SILENCE_TIMEOUT, zones.next()).await {
                Ok(Some(item)) => item,
                Ok(None) => break,
                Err(_) if self.run.all_published.load(Ordering::Relaxed) || self.is_overdue() => break,
                Err(_) => continue,
            };
            let ZoneItem::Event(event) = item else { continue };
            if event.source() != self.run.source {
                continue;
            }
            if event.kind() == END_KIND {
                break;
            }
            self.enter(&event)?;
        }
        // The goodbye is a courtesy: whatever it meets, this session has heard all.
        let _ = client.close().await;
        Ok(())
    }

    fn is_overdue(&self) -> bool {
        let oldest = locked(&self.books[self.session]).oldest_outstanding();
        oldest.is_some_and(|published| published.elapsed() > SILENCE_TIMEOUT)
    }

    fn enter(&self, event: &Event) -> Result<(), ReplayError> {
        let now = Instant::now();
        let verdict = locked(&self.books[self.session]).receive(event.lane_seq());
        self.run.progress.deliveries.fetch_add(1, Ordering::Relaxed);
        if let Verdict::Due(published) = verdict {
            let latency = now.saturating_duration_since(published).as_micros();
            self.run.progress.latency().saturating_record(u64::try_from(latency).unwrap_or(u64::MAX));
        }
        {
            let mut last = locked(&self.run.last_delivery);
            *last = (*last).max(Some(now));
        }
        if let Some(out) = &self.run.out {
            locked(out).push(&self.line(event))?;
        }
        Ok(())
    }

    /// `event_id,session`, quoted where CSV wants it.
    fn line(&self, event: &Event) -> Vec<u8> {
        let payload: Option<serde_json::Value> = serde_json::from_slice(event.payload()).ok();
        let id = payload.as_ref().and_then(|payload| payload["id"].as_str()).unwrap_or_default();
        let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::Any(b'\n')).from_writer(Vec::new());
        // Writing to memory cannot fail.
        let _ = writer.write_record([id, &self.name]);
        let mut line = writer.into_inner().unwrap_or_default();
        line.pop();
        line
    }
}
