//! The conductor of a run: starts generators, gives the beat, reads what processes use, and adds everything up.

mod process;
mod sum;

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::Serialize;
use thiserror::Error;
use tokio::{process::Command, time::sleep};

use super::{
    LoadSettings, Scenario, SettingError,
    clock::{Timer, now_ns, ns_of},
    orders::{Answer, Order, Published, Received, Role},
    report::LoadOutcome,
    tally::Window,
    usage::{Usage, machine_cpu_s},
};
use process::Generator;
use sum::{BrokerMemory, add_up};

/// How long generators may take to build their world and to connect.
const SETUP_TIMEOUT: Duration = Duration::from_secs(300);
/// How long after the end of the window publishers may wait for acknowledgements, and sessions for deliveries.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
/// From the order to start to the first event: long enough to reach every process.
const LEAD: Duration = Duration::from_millis(100);
/// How long a broker's memory is left to settle before it is read.
const SETTLE: Duration = Duration::from_millis(500);

/// Who takes part in a run.
pub struct Crew<T> {
    /// A new generator process: one whose `main` calls [`generate`](super::generate).
    pub generator: Box<dyn Fn() -> Command + Send + Sync>,
    /// What its transport is told.
    pub target: T,
    /// The broker's processes, if they are of this machine and known.
    pub broker_pids: Vec<u32>,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Sessions and publishers connect.
    Connecting,
    /// Events are published.
    Running,
    /// The rest is awaited, and checked.
    Draining,
}

/// What can be seen of a run while it goes on.
#[derive(Debug, Default)]
pub struct LoadProgress {
    stage: AtomicU8,
    start_ns: AtomicU64,
    events: AtomicU64,
    deliveries: AtomicU64,
}

impl LoadProgress {
    /// How far it has come.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.stage.load(Relaxed) {
            0 => Stage::Connecting,
            1 => Stage::Running,
            _ => Stage::Draining,
        }
    }

    /// When publishing began, or will, by [`now_ns`]; 0 when that is not known yet.
    #[must_use]
    pub fn start_ns(&self) -> u64 {
        self.start_ns.load(Relaxed)
    }

    /// Events published.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events.load(Relaxed)
    }

    /// Deliveries received.
    #[must_use]
    pub fn deliveries(&self) -> u64 {
        self.deliveries.load(Relaxed)
    }

    fn enter(&self, role: Role, more: u64) {
        let count = if role == Role::Publishers { &self.events } else { &self.deliveries };
        count.fetch_add(more, Relaxed);
    }
}

/// Why a run came to nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A setting makes no sense.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// A generator could not be started.
    #[error("a generator process cannot be started: {0}")]
    Start(io::Error),
    /// What processes use cannot be read.
    #[error("what processes use cannot be read from /proc: {0}")]
    Usage(io::Error),
    /// A file or timer of the conductor's own.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A generator ended without a word.
    #[error("the generator of {role} has ended unexpectedly")]
    Gone {
        /// What it hosts.
        role: Role,
    },
    /// A generator gave up.
    #[error("the generator of {role} failed: {reason}")]
    Failed {
        /// What it hosts.
        role: Role,
        /// Its reason.
        reason: String,
    },
    /// A generator says what is not to be understood.
    #[error("the generator of {role} said {line:?}")]
    Nonsense {
        /// What it hosts.
        role: Role,
        /// What it said.
        line: String,
    },
    /// A generator does not answer.
    #[error("the generator of {role} has not answered for {} s", waited.as_secs())]
    Silent {
        /// What it hosts.
        role: Role,
        /// How long it was waited for.
        waited: Duration,
    },
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publishers => f.write_str("the publishers"),
            Self::Sessions(from, to) => write!(f, "sessions {from} to {}", to - 1),
        }
    }
}

/// Makes a run.
///
/// The broker must be there already. What it is told to deliver wrongly, or not at all, is no error but part of the
/// report.
///
/// # Errors
/// See [`LoadError`].
pub async fn conduct<T: Serialize + Clone>(
    settings: &LoadSettings,
    crew: &Crew<T>,
    progress: Arc<LoadProgress>,
) -> Result<LoadOutcome, LoadError> {
    settings.check()?;
    let run = fastrand::u32(..);
    let times = (settings.scenario == Scenario::Moving).then(tempfile::tempdir).transpose()?;
    let setup = |role| Order::Setup {
        settings: Box::new(settings.clone()),
        role,
        target: crew.target.clone(),
        run,
        times: times.as_ref().map(|directory| directory.path().to_owned()),
    };
    let before = broker_usage(crew)?;
    let mut all = Vec::new();
    for role in roles(settings) {
        all.push(Generator::start((crew.generator)(), role, progress.clone())?);
    }
    // Sessions first, so that what they add to the broker's memory can be told from the publishers'.
    let (publishers, sessions) = all.split_at_mut(1);
    for generator in sessions.iter_mut() {
        generator.order(&setup(generator.role)).await?;
    }
    expect_ready(sessions).await?;
    sleep(SETTLE).await;
    let idle = broker_usage(crew)?;
    publishers[0].order(&setup(Role::Publishers)).await?;
    expect_ready(publishers).await?;

    let start_ns = now_ns() + u64::try_from(LEAD.as_nanos()).unwrap_or(u64::MAX);
    let window_ns = start_ns + ns_of(settings.warm_up_s);
    let window = Window { start_ns: window_ns, end_ns: window_ns + ns_of(settings.seconds) };
    for generator in &mut all {
        generator.order(&Order::<T>::Start { start_ns, window }).await?;
    }
    progress.start_ns.store(start_ns, Relaxed);
    progress.stage.store(1, Relaxed);
    let pids: Vec<u32> = all.iter().map(|generator| generator.pid).collect();
    let (publishers, sessions) = all.split_at_mut(1);
    let (readings, published, received) =
        perform(settings, crew, &progress, window, &pids, &mut publishers[0], sessions).await?;
    for generator in all {
        generator.end().await;
    }
    let brokers = BrokerMemory { before, idle };
    Ok(add_up(settings, window, &brokers, &readings, published, received))
}

fn roles(settings: &LoadSettings) -> impl Iterator<Item = Role> {
    let (sessions, generators) = (u64::from(settings.sessions), u64::from(settings.generators));
    let bound = move |part: u64| u32::try_from(sessions * part / generators).unwrap_or(u32::MAX);
    std::iter::once(Role::Publishers)
        .chain((0..generators).map(move |part| Role::Sessions(bound(part), bound(part + 1))))
}

fn broker_usage<T>(crew: &Crew<T>) -> Result<Option<Usage>, LoadError> {
    if crew.broker_pids.is_empty() {
        return Ok(None);
    }
    Usage::of_all(&crew.broker_pids).map(Some).map_err(LoadError::Usage)
}

async fn expect_ready(generators: &mut [Generator]) -> Result<(), LoadError> {
    for generator in generators {
        match generator.answer(SETUP_TIMEOUT).await? {
            Answer::Ready => {}
            other => return Err(nonsense(generator.role, &other)),
        }
    }
    Ok(())
}

fn nonsense(role: Role, answer: &Answer) -> LoadError {
    LoadError::Nonsense { role, line: serde_json::to_string(answer).unwrap_or_default() }
}

/// What everybody has used at one time.
struct Reading {
    at_ns: u64,
    broker: Option<Usage>,
    generators: Vec<Usage>,
    machine: (f64, f64),
}

impl Reading {
    fn take<T>(crew: &Crew<T>, generators: &[u32]) -> Result<Self, LoadError> {
        let generators = generators.iter().map(|pid| Usage::of(*pid)).collect::<io::Result<_>>();
        Ok(Self {
            at_ns: now_ns(),
            broker: broker_usage(crew)?,
            generators: generators.map_err(LoadError::Usage)?,
            machine: machine_cpu_s().map_err(LoadError::Usage)?,
        })
    }
}

/// The run itself: reads what is used at both ends of the window, then has everything that was sent arrive.
async fn perform<T: Serialize>(
    settings: &LoadSettings,
    crew: &Crew<T>,
    progress: &LoadProgress,
    window: Window,
    pids: &[u32],
    publishers: &mut Generator,
    sessions: &mut [Generator],
) -> Result<([Reading; 2], Published, Vec<Received>), LoadError> {
    let until_end = Duration::from_secs_f64(settings.warm_up_s + settings.seconds);
    let patience = until_end + DRAIN_TIMEOUT;
    let readings = async {
        let mut timer = Timer::new()?;
        timer.sleep_until(window.start_ns).await?;
        let first = Reading::take(crew, pids)?;
        timer.sleep_until(window.end_ns).await?;
        Ok::<_, LoadError>([first, Reading::take(crew, pids)?])
    };
    let publishing = async {
        match publishers.answer(patience).await? {
            Answer::Published(published) => Ok(*published),
            other => Err(nonsense(Role::Publishers, &other)),
        }
    };
    let (readings, published) = tokio::try_join!(readings, publishing)?;
    progress.stage.store(2, Relaxed);
    for generator in sessions.iter_mut() {
        generator.order(&Order::<T>::Drain { published: published.by_publisher.clone() }).await?;
    }
    let mut received = Vec::new();
    for generator in sessions {
        match generator.answer(DRAIN_TIMEOUT).await? {
            Answer::Received(more) => received.push(*more),
            other => return Err(nonsense(generator.role, &other)),
        }
    }
    Ok((readings, published, received))
}
