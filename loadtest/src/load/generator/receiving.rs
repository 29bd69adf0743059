//! The receiving side: sessions, their books, and the movement of their zones.

use std::{
    cell::{Cell, RefCell},
    ops::Range,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::sleep,
};

use super::{
    CONNECTS_AT_ONCE, GeneratorError, Orders, ProgressTeller, answer,
    arrivals::{Arrivals, Shared},
    at,
    moving::{self, MoveLog, Times, Touches},
    unexpected,
};
use crate::load::{
    LoadClass, LoadSettings, Scenario,
    books::{Balance, Book},
    clock::now_ns,
    orders::{Answer, Order, Received},
    tally::Tally,
    transport::{Copies, Subscriber, Transport, TransportError},
    world::{POSITIONS, World},
};

/// When deliveries are due and nothing has come for so long, nothing more will.
const SILENCE: Duration = Duration::from_secs(5);
/// The same where it is not known what is due.
const SILENCE_UNCERTAIN: Duration = Duration::from_secs(1);
/// How long one more look is taken after the last delivery that is due, for those that are not.
const AFTERMATH: Duration = Duration::from_millis(100);
/// How often it is looked whether all has come.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Of each receiver: its number, and for each publisher the places in the pool that concern it.
type Due = Vec<(u32, Vec<Arc<[u32]>>)>;

/// Whether sessions go on reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Read,
    Leave,
}

pub(super) async fn run<T: Transport>(
    settings: &LoadSettings,
    target: &T::Target,
    run: u32,
    sessions: Range<u32>,
    times: Option<PathBuf>,
    orders: &mut Orders,
) -> Result<(), GeneratorError> {
    let world = Rc::new(World::build(settings));
    let touches = (settings.scenario == Scenario::Moving).then(|| Touches::new(settings, &world));
    let due = due_of::<T>(settings, &world, touches.as_ref(), sessions.clone());
    let transport = Rc::new(T::open(target, settings).map_err(at("the transport"))?);
    let subscribers = connect(&transport, &world, sessions.clone()).await?;
    answer(&Answer::Ready)?;
    let window = match orders.next::<T::Target>().await? {
        Some(Order::Start { window, .. }) => window,
        None => return Ok(()),
        Some(other) => return Err(unexpected(&other)),
    };
    let shared = Rc::new(Shared {
        run,
        came: Rc::default(),
        first: Cell::new(0),
        last_ns: Cell::new(now_ns()),
        tally: RefCell::new(Tally::new(window)),
    });
    let teller = ProgressTeller::start(shared.came.clone());
    let (phase, phases) = watch::channel(Phase::Read);
    let mut readers = JoinSet::new();
    let mut movers = JoinSet::new();
    for ((session, subscriber), due) in sessions.clone().zip(subscribers).zip(&due) {
        let arrivals = Arrivals::new(&shared, world.pool_len(), due);
        if settings.scenario == Scenario::Moving {
            let mover = subscriber.mover().ok_or(GeneratorError::NoMoves)?;
            movers.spawn_local(moving::drive(mover, session, settings.clone(), world.clone(), window));
        }
        let is_frozen = session < settings.frozen;
        readers.spawn_local(read(session, subscriber, arrivals, is_frozen, phases.clone()));
    }
    drop(phases);
    let published = match orders.next::<T::Target>().await? {
        Some(Order::Drain { published }) => published,
        None => return Ok(()),
        Some(other) => return Err(unexpected(&other)),
    };
    let mut log = MoveLog::default();
    while let Some(moved) = movers.join_next().await {
        log.add(moved??);
    }
    let reading = sessions.clone().zip(&due).filter(|(session, _)| *session >= settings.frozen);
    let books = reading.flat_map(|(_, due)| due).flat_map(|(_, due)| due.iter().zip(&published));
    let expected = books.map(|(places, published)| Book::new(world.pool_len(), places.clone()).due(*published)).sum();
    wait_for_the_rest(settings, &shared, expected).await;
    drop(teller);
    // Readers go on until they are told, and none has gone.
    let _ = phase.send(Phase::Leave);
    let ended = collect(readers).await?;
    let judge = Judge { settings, world: &world, published: &published, touches: touches.as_ref(), log: &log };
    let received = Received {
        balance: judge.balance(&ended, times.as_deref())?,
        tally: shared.tally.borrow().record(),
        moves: log.within(window),
        broken: judge.broken(&ended),
    };
    answer(&Answer::Received(Box::new(received)))?;
    match orders.next::<T::Target>().await? {
        Some(Order::End) | None => {}
        Some(other) => return Err(unexpected(&other)),
    }
    let mut leaving = JoinSet::new();
    for reader in ended {
        leaving.spawn_local(reader.subscriber.close());
    }
    leaving.join_all().await;
    Ok(())
}

/// What concerns each session, by brute force: every zone of it compared with every circle.
fn due_of<T: Transport>(
    settings: &LoadSettings,
    world: &World,
    touches: Option<&Touches>,
    sessions: Range<u32>,
) -> Vec<Due> {
    let mut due: Vec<Vec<(u32, Vec<Vec<u32>>)>> = Vec::new();
    let blank = || vec![Vec::new(); settings.publishers as usize];
    for session in sessions.clone() {
        due.push(match T::COPIES {
            Copies::PerSession => vec![(session, blank())],
            Copies::PerZone => world.of_session(session).into_iter().map(|(zone, _)| (zone, blank())).collect(),
        });
    }
    for publisher in 0..settings.publishers {
        for (place, circle) in (0_u32..).zip(world.pool(publisher)) {
            let zones = match touches {
                Some(touches) => touches.zones(publisher, place),
                None => world.touched(&circle),
            };
            let receivers: Vec<(u32, u32)> = match T::COPIES {
                Copies::PerSession => world.holders(&zones).into_iter().map(|session| (session, session)).collect(),
                Copies::PerZone => zones.into_iter().map(|zone| (world.owners()[zone as usize], zone)).collect(),
            };
            for (session, receiver) in receivers.into_iter().filter(|(session, _)| sessions.contains(session)) {
                let rows = &mut due[(session - sessions.start) as usize];
                if let Ok(row) = rows.binary_search_by_key(&receiver, |(receiver, _)| *receiver) {
                    rows[row].1[publisher as usize].push(place);
                }
            }
        }
    }
    let shared = |rows: Vec<(u32, Vec<Vec<u32>>)>| {
        rows.into_iter().map(|(receiver, due)| (receiver, due.into_iter().map(Arc::from).collect())).collect()
    };
    due.into_iter().map(shared).collect()
}

async fn connect<T: Transport>(
    transport: &Rc<T>,
    world: &Rc<World>,
    sessions: Range<u32>,
) -> Result<Vec<T::Subscriber>, GeneratorError> {
    let gate = Arc::new(Semaphore::new(CONNECTS_AT_ONCE));
    let mut connecting = JoinSet::new();
    for session in sessions {
        let (transport, world, gate) = (transport.clone(), world.clone(), gate.clone());
        connecting.spawn_local(async move {
            let _turn = gate.acquire_owned().await;
            let connected = transport.subscriber(session, &world.of_session(session)).await;
            connected.map(|subscriber| (session, subscriber)).map_err(at(format!("session {session}")))
        });
    }
    let mut connected = Vec::new();
    while let Some(subscriber) = connecting.join_next().await {
        connected.push(subscriber??);
    }
    connected.sort_by_key(|(session, _)| *session);
    Ok(connected.into_iter().map(|(_, subscriber)| subscriber).collect())
}

/// A session that has read all that it was to read.
struct Reader<S> {
    session: u32,
    subscriber: S,
    arrivals: Arrivals,
    broken: Option<TransportError>,
}

async fn read<S: Subscriber>(
    session: u32,
    mut subscriber: S,
    mut arrivals: Arrivals,
    is_frozen: bool,
    mut phases: watch::Receiver<Phase>,
) -> Reader<S> {
    let mut broken = None;
    while !is_frozen && broken.is_none() {
        tokio::select! {
            biased;
            received = subscriber.receive(&mut arrivals) => broken = received.err(),
            _ = phases.wait_for(|phase| *phase == Phase::Leave) => break,
        }
    }
    // Fails when the sender has gone, which is an end as well.
    let _ = phases.wait_for(|phase| *phase == Phase::Leave).await;
    Reader { session, subscriber, arrivals, broken }
}

async fn collect<S: 'static>(mut readers: JoinSet<Reader<S>>) -> Result<Vec<Reader<S>>, GeneratorError> {
    let mut ended = Vec::new();
    while let Some(reader) = readers.join_next().await {
        ended.push(reader?);
    }
    ended.sort_by_key(|reader| reader.session);
    Ok(ended)
}

/// Waits until so much has come, or nothing comes any more.
async fn wait_for_the_rest(settings: &LoadSettings, shared: &Shared, expected: u64) {
    let is_certain = settings.scenario != Scenario::Moving && settings.class == LoadClass::Reliable;
    let silence = if is_certain { SILENCE } else { SILENCE_UNCERTAIN };
    // What came before the last event was published says nothing about what is still to come.
    let begun = now_ns();
    loop {
        if shared.first.get() >= expected {
            sleep(AFTERMATH).await;
            return;
        }
        let since = now_ns().saturating_sub(shared.last_ns.get().max(begun));
        if Duration::from_nanos(since) > silence {
            return;
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// What is known at the end of a run, to say what came of it.
struct Judge<'a> {
    settings: &'a LoadSettings,
    world: &'a World,
    published: &'a [u64],
    /// Where zones move.
    touches: Option<&'a Touches>,
    log: &'a MoveLog,
}

impl Judge<'_> {
    /// Sessions that read.
    fn reading<'b, S>(&self, ended: &'b [Reader<S>]) -> impl Iterator<Item = &'b Reader<S>> {
        let frozen = self.settings.frozen;
        ended.iter().filter(move |reader| reader.session >= frozen)
    }

    fn balance<S>(&self, ended: &[Reader<S>], times: Option<&Path>) -> Result<Balance, GeneratorError> {
        let times = times.map(|directory| {
            (0..self.settings.publishers)
                .map(|publisher| Times::read(directory, publisher))
                .collect::<Result<Vec<_>, _>>()
        });
        let times = times.transpose()?.unwrap_or_default();
        let mut balance = Balance::default();
        for reader in self.reading(ended) {
            let holds = |zone: u32| self.world.owners()[zone as usize] == reader.session;
            balance += reader.arrivals.balance(|_, publisher, book| {
                let published = self.published.get(publisher).copied().unwrap_or(0);
                match (self.touches, times.get(publisher)) {
                    (Some(touches), Some(times)) => book
                        .balance_by(published, |sequence| touches.verdict(publisher, sequence, times, self.log, holds)),
                    _ => book.balance(published),
                }
            });
        }
        Ok(balance)
    }

    /// How many sessions ended by an error, and the first of these.
    fn broken<S>(&self, ended: &[Reader<S>]) -> Option<(u32, String)> {
        let mut broken = self.reading(ended).filter_map(|reader| {
            let error = reader.broken.as_ref()?;
            Some(format!("session {}: {error}", reader.session))
        });
        let first = broken.next()?;
        Some((u32::try_from(broken.count() + 1).unwrap_or(u32::MAX), first))
    }
}

const _: () = assert!(POSITIONS <= 8, "a zone's positions are bits of a byte");
