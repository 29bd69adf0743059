//! Lookups among ten thousand zones of a hundred servers: in memory, and by each door.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use zonecast_access::RightsClaim;
use zonecast_api::directory::v1::directory_service_client::DirectoryServiceClient;
use zonecast_directory::{Config, Exchange, Index, Ledger, Registration, SqliteDirectory};
use zonecast_protocol::{Rights, Zone, directory::v1::LookupRequest};
use zonecast_store::Database;
use zonecast_testing::{Kind, TestDatabase};

use crate::{
    Figures, Scale,
    doors::Door,
    ground::{Clock, Ground, cpu_s},
};

const WORLD: &str = "earth";
/// A square of zones, each of its rows a server's.
const SIDE: u32 = 100;
/// Steps that visit all of the world.
const STRIDE: u32 = 7_919;
/// No lease ends within a run.
const LEASE: Duration = Duration::from_secs(86_400);
/// By so much more often than by a door a lookup is made in memory, which takes so much less time.
const MORE_IN_MEMORY: u32 = 50;

/// The directory, as it is in memory and behind the doors.
pub(crate) struct Lookups {
    index: Index,
    ground: Ground,
}

impl Lookups {
    pub(crate) async fn prepare() -> Result<Self> {
        let tables = [&zonecast_directory::MIGRATIONS, &zonecast_users::MIGRATIONS];
        let database = TestDatabase::new(Kind::Sqlite, &tables).await.context("there is no SQLite")?;
        let Database::Sqlite(pool) = &database.database else { anyhow::bail!("the database is no file") };
        let store = SqliteDirectory::new(pool.clone());
        fill(&Ledger::new(store.clone(), LEASE, LEASE, SIDE)).await?;
        let index = Index::default();
        index.refresh(&store).await?;
        let config = Config { lease: LEASE, ..Config::default() };
        let services = [zonecast_users::definition(), zonecast_directory::definition(config)];
        Ok(Self { index, ground: Ground::start(database, &services).await? })
    }

    pub(crate) async fn measure(&self, scale: &Scale, figures: &mut Figures) -> Result<()> {
        let count = scale.lookups * MORE_IN_MEMORY;
        let begun = cpu_s(Clock::Thread);
        for at in 0..count {
            let (x, y) = place(at);
            black_box(self.index.lookup(WORLD, black_box(x), black_box(y))).context("a place is nobody's")?;
        }
        let each = (cpu_s(Clock::Thread) - begun) / f64::from(count);
        figures.note("lookup in memory", "lookups/s and core", 1.0 / each);
        for door in &self.ground.doors {
            let name = format!("lookup by {}", door.name);
            let (begun, cpu) = (Instant::now(), cpu_s(Clock::Process));
            at_once(door, scale).await?;
            let made = f64::from(scale.lookups / scale.callers * scale.callers);
            figures.note(&name, "lookups/s", made / begun.elapsed().as_secs_f64());
            let used = (cpu_s(Clock::Process) - cpu) / made;
            figures.note(format!("{name}, of the processor"), "us, all ends", used * 1e6);
            figures.note(format!("{name}, in lookups in memory"), "times", used / each);
            let (alone, begun) = (scale.lookups / scale.callers, Instant::now());
            look(door.clone(), 0..alone).await?;
            figures.note(format!("{name}, one caller"), "us", begun.elapsed().as_secs_f64() * 1e6 / f64::from(alone));
        }
        Ok(())
    }
}

/// All callers together.
async fn at_once(door: &Door, scale: &Scale) -> Result<()> {
    let mut callers = JoinSet::new();
    let each = scale.lookups / scale.callers;
    for caller in 0..scale.callers {
        callers.spawn(look(door.clone(), caller * each..(caller + 1) * each));
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(())
}

/// One after the other.
async fn look(door: Door, places: std::ops::Range<u32>) -> Result<()> {
    let mut client = DirectoryServiceClient::new(door.way.clone());
    for at in places {
        let (x, y) = place(at);
        let found = client.lookup(door.request(LookupRequest { world: WORLD.to_owned(), x, y })).await?;
        found.into_inner().zone.context("a place is nobody's")?;
    }
    Ok(())
}

fn place(at: u32) -> (f64, f64) {
    let at = at.wrapping_mul(STRIDE) % (SIDE * SIDE);
    (f64::from(at % SIDE) + 0.25, f64::from(at / SIDE) + 0.75)
}

async fn fill(ledger: &Ledger<SqliteDirectory>) -> Result<()> {
    for row in 0..SIDE {
        let (name, rights) = (format!("zone-{row}"), RightsClaim::of(&Rights::everything()));
        let (address, pin, worlds) = ("zone.example:7000".to_owned(), vec![7; 32], Vec::new());
        let registration = Registration { name: name.clone(), address, capacity: 0, pin, worlds, rights };
        let (lease, _) = ledger.register(registration).await?;
        let south = f64::from(row);
        let zone = |column: u32| {
            let west = f64::from(column);
            Ok((WORLD.to_owned(), Zone::new(west, south, west + 1.0, south + 1.0)?))
        };
        let claim = (0..SIDE).map(zone).collect::<Result<_>>()?;
        ledger.exchange(&name, lease, Exchange { claim, ..Exchange::default() }).await?;
    }
    Ok(())
}
