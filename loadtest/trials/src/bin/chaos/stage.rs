//! What all acts of a run share, and the run itself: one act after the other, then the judgement.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::{
    task::{JoinSet, LocalSet, spawn_local},
    time::{Instant, sleep},
};
use zonecast_trials::BrokerNumber;

use crate::{
    acts,
    broker::Broker,
    certificates::Certificates,
    crew::Peer,
    field::{Fault, Faults, Field},
    journal::{Journal, What},
    options::{Act, Options},
    replay, report,
};

/// How often the brokers' memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What happens in every run in full.
const FAULTS: [&str; 11] = [
    "broker_kills",
    "broker_ends",
    "broker_restarts",
    "broker_stops",
    "client_process_kills",
    "client_process_stops",
    "restart_storms",
    "frozen_readers",
    "certificate_rotations",
    "descriptor_floods",
    "memory_floods",
];
/// What happens besides where packets can be harmed.
const PACKET_FAULTS: [&str; 4] = ["losses", "partitions", "one_way_partitions", "narrow_links"];

/// What the guard tells the stage.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) options: Options,
    pub(crate) field: Field,
    pub(crate) directory: PathBuf,
    /// With which the names of everything begin that outlives processes.
    pub(crate) prefix: String,
    /// The file system as the guard sees it: the stage may be where the system's own directories are others.
    pub(crate) outer_root: PathBuf,
    /// What could not be prepared, in words.
    pub(crate) not_run: Vec<String>,
}

pub(crate) struct Stage {
    pub(crate) options: Options,
    pub(crate) field: Field,
    pub(crate) faults: Faults,
    pub(crate) directory: PathBuf,
    pub(crate) prefix: String,
    pub(crate) outer_root: PathBuf,
    /// This program, which peers run too.
    pub(crate) program: PathBuf,
    pub(crate) certificates: Certificates,
    pub(crate) brokers: RefCell<Vec<Rc<Broker>>>,
    pub(crate) peers: RefCell<Vec<Rc<Peer>>>,
    journal: Journal,
    journals: RefCell<Vec<PathBuf>>,
    /// How many there were when the present acts began.
    journals_before: Cell<usize>,
    began: Instant,
    clients: Cell<u16>,
    counts: RefCell<BTreeMap<&'static str, u64>>,
    figures: RefCell<Map<String, Value>>,
    breaches: RefCell<Vec<String>>,
    not_run: RefCell<Vec<String>>,
    rss_max_bytes: Cell<u64>,
}

impl Stage {
    fn new(assignment: Assignment) -> anyhow::Result<Rc<Self>> {
        let Assignment { options, field, directory, prefix, outer_root, not_run } = assignment;
        let path = directory.join("stage.journal");
        Ok(Rc::new(Self {
            program: std::env::current_exe()?,
            certificates: Certificates::new(&directory)?,
            journal: Journal::open(&path)?,
            journals: RefCell::new(vec![path]),
            journals_before: Cell::new(1),
            began: Instant::now(),
            faults: Faults::default(),
            brokers: RefCell::default(),
            peers: RefCell::default(),
            clients: Cell::new(0),
            counts: RefCell::default(),
            figures: RefCell::default(),
            breaches: RefCell::default(),
            not_run: RefCell::new(not_run),
            rss_max_bytes: Cell::new(0),
            options,
            field,
            directory,
            prefix,
            outer_root,
        }))
    }

    pub(crate) fn next_broker(&self) -> BrokerNumber {
        BrokerNumber(u16::try_from(self.brokers.borrow().len()).unwrap_or(u16::MAX))
    }

    pub(crate) fn next_client(&self) -> u16 {
        self.clients.replace(self.clients.get() + 1)
    }

    /// A file for a process to write what it sees; it is read at the end.
    pub(crate) fn journal_path(&self, name: &str) -> PathBuf {
        let path = self.directory.join(format!("{name}.journal"));
        self.journals.borrow_mut().push(path.clone());
        path
    }

    /// The files of the acts that are played now, and the stage's own.
    pub(crate) fn journals_of_act(&self) -> Vec<PathBuf> {
        let journals = self.journals.borrow();
        journals.iter().take(1).chain(journals.iter().skip(self.journals_before.get())).cloned().collect()
    }

    /// Writes down what the stage does. A hole in it would accuse the innocent, so it counts as a breach.
    pub(crate) fn note(&self, what: What) {
        if let Err(error) = self.journal.write(what) {
            self.breach(format!("the stage's journal cannot be written: {error}"));
        }
    }

    /// Tells people how it goes.
    #[expect(clippy::print_stderr, reason = "standard output is for the figures")]
    pub(crate) fn say(&self, what: &str) {
        eprintln!("{:>7.1} s  {what}", self.began.elapsed().as_secs_f64());
    }

    /// Something happened that must not.
    pub(crate) fn breach(&self, what: String) {
        self.say(&format!("BREACH: {what}"));
        self.breaches.borrow_mut().push(what);
    }

    /// Something was asked for that this machine does not do.
    pub(crate) fn not_run(&self, what: String) {
        self.say(&format!("NOT RUN: {what}"));
        self.not_run.borrow_mut().push(what);
    }

    /// Counts a fault that has happened.
    pub(crate) fn count(&self, fault: &'static str) {
        *self.counts.borrow_mut().entry(fault).or_default() += 1;
    }

    /// Keeps a figure for the end.
    pub(crate) fn figure(&self, name: &str, value: Value) {
        self.figures.borrow_mut().insert(name.to_owned(), value);
    }

    /// Lets something befall packets for a while.
    pub(crate) async fn befall(&self, fault: Fault, lasts: Duration) {
        self.say(&format!("{fault:?} for {} ms", lasts.as_millis()));
        let name = fault.name();
        match self.faults.begin(fault).await {
            Ok(number) => {
                self.count(name);
                sleep(lasts).await;
                if let Err(error) = self.faults.end(number).await {
                    self.breach(format!("a fault does not end: {error:#}"));
                }
            }
            Err(error) => self.breach(format!("a fault does not begin: {error:#}")),
        }
    }

    /// A run in full in which some fault never happened proves less than it says.
    fn check_faults(&self) {
        if !self.options.is_whole() {
            return;
        }
        let packets = if self.field.can_lose_packets() { &PACKET_FAULTS[..] } else { &[] };
        for fault in FAULTS.iter().chain(packets) {
            if !self.counts.borrow().contains_key(fault) {
                self.breach(format!("the fault {fault} never happened"));
            }
        }
    }

    fn look_at_memory(&self) {
        let peaks = self.brokers.borrow().iter().filter_map(|broker| broker.rss_peak_bytes()).max();
        self.rss_max_bytes.set(self.rss_max_bytes.get().max(peaks.unwrap_or(0)));
    }
}

/// Plays all acts, judges, and prints. `Ok(false)` when something must not be.
///
/// # Errors
/// The run could not be played to its end.
pub(crate) fn run(assignment: Assignment) -> anyhow::Result<bool> {
    // The guard removes what outlives processes; without it nobody would.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, play(assignment))
}

async fn play(assignment: Assignment) -> anyhow::Result<bool> {
    let stage = Stage::new(assignment)?;
    let watched = Rc::downgrade(&stage);
    spawn_local(async move {
        while let Some(stage) = watched.upgrade() {
            stage.look_at_memory();
            drop(stage);
            sleep(LOOK_EVERY).await;
        }
    });
    if stage.field.can_lose_packets() {
        Faults::prepare().await?;
    }
    for acts in stage.options.programme() {
        stage.journals_before.set(stage.journals.borrow().len());
        let mut playing = JoinSet::new();
        for act in acts {
            stage.say(&format!("act: {}", act.name()));
            let stage = Rc::clone(&stage);
            playing.spawn_local(async move {
                if let Err(error) = perform(&stage, act).await {
                    stage.breach(format!("the act {} cannot be played: {error:#}", act.name()));
                }
            });
        }
        while playing.join_next().await.is_some() {}
        curtain(&stage).await;
    }
    stage.check_faults();
    let lost = if stage.field.can_lose_packets() { stage.faults.packets_lost().await? } else { 0 };
    stage.counts.borrow_mut().insert("packets_lost", lost);
    stage.say("all acts are over; reading what everyone saw");
    let verdict = replay::judge(&stage.journals.borrow())?;
    let outcome = report::Outcome {
        options: &stage.options,
        field: &stage.field,
        verdict,
        faults: stage.counts.borrow().clone(),
        figures: stage.figures.take(),
        breaches: stage.breaches.take(),
        not_run: stage.not_run.take(),
        rss_max_bytes: stage.rss_max_bytes.get(),
        took: stage.began.elapsed(),
    };
    report::print(outcome)
}

async fn perform(stage: &Rc<Stage>, act: Act) -> anyhow::Result<()> {
    match act {
        Act::Mixed => acts::mixed::play(stage).await,
        Act::Restarts => acts::restarts::play(stage).await,
        Act::Storm => acts::storm::play(stage).await,
        Act::Frozen => acts::frozen::play(stage).await,
        Act::Certificates => acts::certificates::play(stage).await,
        Act::Descriptors => acts::descriptors::play(stage).await,
        Act::Memory => acts::memory::play(stage).await,
    }
}

/// Ends the act's processes, peers first, so that nobody sees a broker go.
async fn curtain(stage: &Rc<Stage>) {
    let peers: Vec<_> = stage.peers.borrow().iter().map(Rc::clone).collect();
    for peer in peers {
        peer.dismiss().await;
    }
    let brokers: Vec<_> = stage.brokers.borrow().iter().map(Rc::clone).collect();
    stage.look_at_memory();
    for broker in brokers {
        broker.dismiss().await;
    }
}
