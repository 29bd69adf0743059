//! Calls of the users service at times fixed before: each kind's latency by each door.
//!
//! An open loop: a call is made when its time has come, whatever became of those before, and its latency counts from that
//! time. Each user is created, read a second later, renamed after another and deleted after a third; lists of the first 50
//! come between.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use tokio::{
    runtime::Handle,
    task::{JoinHandle, JoinSet, spawn_blocking},
};
use tonic::Status;
use zonecast_api::users::v1::users_service_client::UsersServiceClient;
use zonecast_protocol::users::v1::{
    CreateUserRequest, DeleteUserRequest, GetUserRequest, ListUsersRequest, UpdateUserRequest, get_user_request::By,
};
use zonecast_store::{Etag, Uuid, new_id};
use zonecast_testing::{Kind, TestDatabase};

use crate::{Figures, Scale, doors::Door, ground::Ground};

/// Letters for the digits of an id that nobody takes for each other.
const LETTERS: &[u8; 16] = b"abdefghjkpqstxyz";

/// What is called, in turn.
const DEEDS: [Deed; 5] = [Deed::Create, Deed::Read, Deed::Update, Deed::List, Deed::Delete];

#[derive(Debug, Clone, Copy)]
enum Deed {
    Create,
    Read,
    Update,
    List,
    Delete,
}

impl Deed {
    fn name(self) -> &'static str {
        match self {
            Self::Create => "CreateUser",
            Self::Read => "GetUser",
            Self::Update => "UpdateUser",
            Self::List => "ListUsers",
            Self::Delete => "DeleteUser",
        }
    }

    /// How many seconds before a user's deletion it is this one's turn.
    fn ahead_s(self) -> usize {
        match self {
            Self::Create => 3,
            Self::Read => 2,
            Self::Update => 1,
            Self::List | Self::Delete => 0,
        }
    }
}

/// The users service on one database.
pub(crate) struct Users {
    database: &'static str,
    ground: Ground,
}

impl Users {
    /// None where there is no such database.
    pub(crate) async fn prepare(kind: Kind) -> Result<Option<Self>> {
        let Some(database) = TestDatabase::new(kind, &[&zonecast_users::MIGRATIONS]).await else { return Ok(None) };
        let name = match kind {
            Kind::Sqlite => "SQLite",
            Kind::Postgres => "PostgreSQL",
        };
        Ok(Some(Self { database: name, ground: Ground::start(database, &[zonecast_users::definition()]).await? }))
    }

    pub(crate) async fn measure(&self, scale: &Scale, round: usize, figures: &mut Figures) -> Result<()> {
        let doors = &self.ground.doors;
        for at in 0..doors.len() {
            let door = &doors[(at + round) % doors.len()];
            self.measure_by(door, scale, figures).await?;
        }
        Ok(())
    }

    async fn measure_by(&self, door: &Door, scale: &Scale, figures: &mut Figures) -> Result<()> {
        let (latencies, refusals) = play(door, scale).await?;
        let calls = (scale.rate * u32::try_from(scale.lasts.as_secs())?) as usize;
        let place = format!("on {} by {}", self.database, door.name);
        for (deed, latency) in DEEDS.iter().zip(&latencies) {
            for (quantile, name) in [(0.5, "p50"), (0.99, "p99")] {
                let ms = Duration::from_micros(latency.value_at_quantile(quantile)).as_secs_f64() * 1e3;
                figures.note(format!("{} {place}, {name}", deed.name()), "ms", ms);
            }
        }
        let count = u32::try_from(refusals.len()).unwrap_or(u32::MAX);
        figures.note(format!("calls refused {place}"), "calls", f64::from(count));
        // A few are a figure; one in ten and more are none.
        match refusals.first() {
            Some(first) if refusals.len() > calls / 10 => Err(first.clone()).context(place),
            _ => Ok(()),
        }
    }
}

/// All calls of a round: latencies in the order of [`DEEDS`], and what was refused.
async fn play(door: &Door, scale: &Scale) -> Result<([Histogram<u64>; 5], Vec<Status>)> {
    let a_second = scale.rate as usize / DEEDS.len();
    let turns = a_second * usize::try_from(scale.lasts.as_secs())?;
    let ids: Vec<Uuid> = (0..turns + 3 * a_second).map(|_| new_id()).collect();
    be_there(door, &ids[..3 * a_second], a_second).await?;
    let calls = (0..turns).flat_map(|turn| DEEDS.map(|deed| (deed, turn + deed.ahead_s() * a_second)));
    let calls: Vec<(Deed, Uuid)> = calls.map(|(deed, at)| (deed, ids[at])).collect();
    let mut latencies = [(); 5].map(|()| Histogram::<u64>::new_with_max(60_000_000, 3));
    let mut refusals = Vec::new();
    for (at, call) in begin_on_time(door, calls, Duration::from_secs(1) / scale.rate).await?.into_iter().enumerate() {
        let (latency, outcome) = call.await?;
        if let Ok(latencies) = &mut latencies[at % DEEDS.len()] {
            latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        }
        refusals.extend(outcome.err());
    }
    let [create, read, update, list, delete] = latencies;
    Ok(([create?, read?, update?, list?, delete?], refusals))
}

type Call = JoinHandle<(Duration, Result<(), Status>)>;

/// Begins each call when its time has come, and comes back with the last. A thread of its own keeps the time: the runtime's
/// timers are exact to a millisecond only.
async fn begin_on_time(door: &Door, calls: Vec<(Deed, Uuid)>, pause: Duration) -> Result<Vec<Call>> {
    let (runtime, door) = (Handle::current(), door.clone());
    let begun = spawn_blocking(move || {
        let mut due = Instant::now();
        let mut begin = |(deed, id): (Deed, Uuid)| {
            due += pause;
            // It may come back early.
            while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                thread::park_timeout(left);
            }
            let (door, due) = (door.clone(), due);
            runtime.spawn(async move {
                let outcome = call(&door, deed, id).await;
                (due.elapsed(), outcome)
            })
        };
        calls.into_iter().map(&mut begin).collect()
    });
    Ok(begun.await?)
}

/// Makes the users that the first calls are about.
async fn be_there(door: &Door, ids: &[Uuid], at_once: usize) -> Result<()> {
    for some in ids.chunks(at_once.clamp(1, 8)) {
        let mut calls = JoinSet::new();
        for id in some {
            let (door, id) = (door.clone(), *id);
            calls.spawn(async move { call(&door, Deed::Create, id).await });
        }
        while let Some(made) = calls.join_next().await {
            made??;
        }
    }
    Ok(())
}

async fn call(door: &Door, deed: Deed, id: Uuid) -> Result<(), Status> {
    let mut client = UsersServiceClient::new(door.way.clone());
    let text = id.hyphenated().to_string();
    match deed {
        Deed::Create => drop(client.create_user(door.request(CreateUserRequest { name: name(id), id: text })).await?),
        Deed::Read => drop(client.get_user(door.request(GetUserRequest { by: Some(By::Id(text)) })).await?),
        Deed::Update => {
            let (name, etag) = (Some(name(new_id())), Etag::of_revision(1).to_string());
            drop(client.update_user(door.request(UpdateUserRequest { id: text, etag, name })).await?);
        }
        Deed::List => drop(client.list_users(door.request(ListUsersRequest::default())).await?),
        Deed::Delete => {
            let etag = String::new();
            drop(client.delete_user(door.request(DeleteUserRequest { id: text, etag })).await?);
        }
    }
    Ok(())
}

fn name(id: Uuid) -> String {
    let digits = id.as_bytes().iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(LETTERS[usize::from(digit)])).collect()
}
