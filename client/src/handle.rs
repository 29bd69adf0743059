//! What the handles of a client and its driver share.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use rustls::crypto::SecureRandom;
use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore, broadcast, oneshot, watch};
use zonecast_protocol::{ClientId, Limits, Refusal, source_of, wire};

use crate::{
    config::{Queues, Settings},
    connection::{Command, CommandSender, Token},
    error::{LinkError, PublishError, RequestError},
    event::Event,
    intake::Intake,
    lanes::{Freed, LaneQueue},
    publish::{FLAG_BYTES_MAX, flag_resent},
    publisher::{Receipt, RefusedPublish},
    routes::Routes,
    session::{Operation, OperationError},
    state::ConnectionState,
    sync::locked,
};

/// Most operations (subscriptions, changes of zones) of a client that wait for their answers; further ones wait to be
/// taken.
const OPERATIONS_MAX: usize = 256;
/// Most refusals that wait for each listener.
const REFUSALS_MAX: usize = 256;
/// Numbers that a lane can have.
const LANES: usize = 256;

/// The writing end of the answer to an acknowledged publish.
pub(crate) type AckToken = oneshot::Sender<Result<Receipt, PublishError>>;

pub(crate) struct Lane {
    pub(crate) number: u8,
    pub(crate) queue: Mutex<LaneQueue<AckToken>>,
    /// Bytes for which there is room. Closed when the client is.
    pub(crate) room: Semaphore,
    /// Wakes the writer.
    pub(crate) work: Notify,
}

impl Lane {
    /// Sets free what belonged to a frame, and returns who waits for its answer.
    pub(crate) fn free(&self, freed: Option<Freed<AckToken>>) -> Option<AckToken> {
        let freed = freed?;
        self.room.add_permits(freed.room as usize);
        if freed.wake {
            self.work.notify_one();
        }
        freed.token
    }

    /// The broker has answered a publish. Who waits for it.
    pub(crate) fn answered(&self, lane_seq: u64) -> Option<AckToken> {
        let freed = locked(&self.queue).answered(lane_seq);
        self.free(freed)
    }

    /// The broker has routed these publishes. Tells who waits for it.
    pub(crate) fn acked(&self, acks: &[wire::PublishAck]) {
        let (mut tokens, mut room, mut wake) = (Vec::new(), 0, false);
        let mut queue = locked(&self.queue);
        for ack in acks {
            let Some(freed) = queue.answered(ack.lane_seq) else { continue };
            room += freed.room as usize;
            wake |= freed.wake;
            tokens.extend(freed.token.map(|token| (token, Receipt { matched: ack.matched })));
        }
        drop(queue);
        self.room.add_permits(room);
        if wake {
            self.work.notify_one();
        }
        for (token, receipt) in tokens {
            // Whoever asked may have stopped waiting.
            let _ = token.send(Ok(receipt));
        }
    }

    /// There is no connection. How many publishes were dropped that had not been sent.
    pub(crate) fn connection_lost(&self) -> u64 {
        let dropped = locked(&self.queue).connection_lost();
        self.room.add_permits(dropped.room as usize);
        dropped.frames
    }

    /// Nobody wants a publish to be sent any longer.
    pub(crate) fn give_up(&self, lane_seq: u64) {
        let freed = locked(&self.queue).give_up(lane_seq);
        self.free(freed);
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("number", &self.number).finish_non_exhaustive()
    }
}

/// Requests whose reply is awaited.
pub(crate) struct Inbox {
    pub(crate) awaited: Mutex<BTreeMap<u64, oneshot::Sender<Event>>>,
    numbers: Numbers,
    /// The broker has refused to renew the subscription of the topics for replies.
    pub(crate) refused: AtomicBool,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) delivered: AtomicU64,
    pub(crate) undecodable: AtomicU64,
    pub(crate) unclaimed: AtomicU64,
    pub(crate) missing: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) resumed: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) outdated: AtomicU64,
    pub(crate) dropped_unsent: AtomicU64,
}

pub(crate) struct Shared {
    pub(crate) client_id: ClientId,
    pub(crate) source: u64,
    pub(crate) queues: Queues,
    limits: RwLock<Limits>,
    lanes: Box<[OnceLock<Arc<Lane>>]>,
    pub(crate) routes: Routes,
    pub(crate) intake: Arc<Intake>,
    pub(crate) inbox: Inbox,
    pub(crate) states: watch::Sender<ConnectionState>,
    refusals: Mutex<Option<broadcast::Sender<RefusedPublish>>>,
    pub(crate) counters: Counters,
    /// Whether there is a zone subscription.
    pub(crate) zones_taken: AtomicBool,
    /// What became of the last attempt to connect.
    pub(crate) last_failure: Mutex<Option<LinkError>>,
    /// Publishes that were given up with the client.
    pub(crate) unsent: AtomicUsize,
}

impl Shared {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            client_id: settings.client_id.clone(),
            source: source_of(&settings.client_id, settings.incarnation),
            queues: settings.queues.clone(),
            limits: RwLock::new(Limits::default()),
            lanes: (0..LANES).map(|_| OnceLock::new()).collect(),
            routes: Routes::default(),
            intake: Arc::new(Intake::new()),
            inbox: Inbox::new(settings.seed),
            states: watch::Sender::new(ConnectionState::Connecting { attempt: 1 }),
            refusals: Mutex::new(Some(broadcast::Sender::new(REFUSALS_MAX))),
            counters: Counters::default(),
            zones_taken: AtomicBool::new(false),
            last_failure: Mutex::new(None),
            unsent: AtomicUsize::new(0),
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        self.with_limits(Limits::clone)
    }

    pub(crate) fn with_limits<T>(&self, look: impl FnOnce(&Limits) -> T) -> T {
        look(&self.limits.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_limits(&self, limits: Limits) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    pub(crate) fn lane(&self, number: u8) -> Option<&Arc<Lane>> {
        self.lanes.get(usize::from(number)).and_then(OnceLock::get)
    }

    /// The lane, and whether it was opened just now.
    pub(crate) fn open_lane(&self, number: u8) -> (&Arc<Lane>, bool) {
        let mut opened = false;
        let lane = self.lanes[usize::from(number)].get_or_init(|| {
            opened = true;
            Arc::new(Lane {
                number,
                queue: Mutex::new(LaneQueue::new(flag_resent, FLAG_BYTES_MAX)),
                room: Semaphore::new(self.queues.lane_bytes_max as usize),
                work: Notify::new(),
            })
        });
        (lane, opened)
    }

    pub(crate) fn open_lanes(&self) -> impl Iterator<Item = &Arc<Lane>> {
        self.lanes.iter().filter_map(OnceLock::get)
    }

    /// There is no connection for a lane.
    pub(crate) fn unconnected(&self, lane: &Lane) {
        self.counters.dropped_unsent.fetch_add(lane.connection_lost(), Relaxed);
    }

    /// A publish is refused: tells who waits for its answer, or else whoever listens to refusals.
    pub(crate) fn refuse(&self, lane: u32, lane_seq: u64, token: Option<AckToken>, refusal: Refusal) {
        let count = Self::count(&self.counters.refused);
        if let Some(token) = token {
            // Fails when its receipt was dropped: then nobody is told by it.
            if token.send(Err(PublishError::from_refusal(refusal.clone()))).is_ok() {
                return;
            }
        }
        // One line for each doubling: refusals can come as fast as publishes.
        if count.is_power_of_two() {
            tracing::warn!(lane, lane_seq, %refusal, count, "a publish was refused");
        }
        self.on_refused(RefusedPublish::new(lane, lane_seq, refusal));
    }

    fn on_refused(&self, refused: RefusedPublish) {
        if let Some(listeners) = &*locked(&self.refusals) {
            // Fails when nobody listens.
            let _ = listeners.send(refused);
        }
    }

    pub(crate) fn listen_to_refusals(&self) -> broadcast::Receiver<RefusedPublish> {
        match &*locked(&self.refusals) {
            Some(listeners) => listeners.subscribe(),
            None => broadcast::channel(1).1,
        }
    }

    /// No more will come.
    pub(crate) fn end_refusals(&self) {
        locked(&self.refusals).take();
    }

    /// Counts one and returns how many there are now.
    pub(crate) fn count(counter: &AtomicU64) -> u64 {
        counter.fetch_add(1, Relaxed) + 1
    }
}

/// What every handle holds a part of. When the last part goes, the driver takes its leave.
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: CommandSender,
    /// Bounds the commands that wait: all but those that a drop sends, of which there is one per subscription.
    operations: Arc<Semaphore>,
    pub(crate) publish_timeout: Option<std::time::Duration>,
    /// Whether the topics for replies are subscribed. Locked while that is awaited, and not lost with who awaits it.
    pub(crate) inbox_state: AsyncMutex<InboxState>,
    last_topic_id: AtomicU32,
}

/// The reading end of an operation's answer.
pub(crate) type OperationAnswer = oneshot::Receiver<Result<u64, OperationError>>;

/// How far the subscription of the topics for replies has come.
pub(crate) enum InboxState {
    NotAsked,
    Asked(OperationAnswer),
    Ready,
}

/// Why an operation came to nothing.
pub(crate) enum OperateError {
    Operation(OperationError),
    Closed,
}

impl Handle {
    pub(crate) fn new(settings: &Settings, shared: Arc<Shared>, commands: CommandSender) -> Self {
        Self {
            shared,
            commands,
            operations: Arc::new(Semaphore::new(OPERATIONS_MAX)),
            publish_timeout: settings.timing.publish_timeout,
            inbox_state: AsyncMutex::new(InboxState::NotAsked),
            last_topic_id: AtomicU32::new(0),
        }
    }

    /// Has an operation carried out and waits for its epoch. `alive` turns false when its subscription ends.
    ///
    /// Whoever stops waiting does not undo it.
    pub(crate) async fn operate(
        &self,
        operation: Operation,
        alive: Option<Arc<AtomicBool>>,
    ) -> Result<u64, OperateError> {
        let answer = self.ask(operation, alive).await?;
        answer.await.map_err(|_| OperateError::Closed)?.map_err(OperateError::Operation)
    }

    /// As [`operate`](Self::operate), without waiting for the answer.
    pub(crate) async fn ask(
        &self,
        operation: Operation,
        alive: Option<Arc<AtomicBool>>,
    ) -> Result<OperationAnswer, OperateError> {
        let permit = self.operations.clone().acquire_owned().await.map_err(|_| OperateError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let token = Token { reply, _permit: permit };
        let command = Command::Operate { operation, token: Some(token), alive };
        self.commands.send(command).map_err(|_| OperateError::Closed)?;
        Ok(answer)
    }

    /// Has an operation carried out whose answer nobody awaits.
    pub(crate) fn give_up(&self, operation: Operation) {
        // Fails only when the driver has ended, and everything has been given up with it.
        let _ = self.commands.send(Command::Operate { operation, token: None, alive: None });
    }

    pub(crate) fn next_topic_id(&self) -> u32 {
        self.last_topic_id.fetch_add(1, Relaxed) + 1
    }
}

/// Numbers of requests. Who knows the client's source, and any number of its requests, must not know where its next reply is
/// awaited (WIRE.md, section 5).
enum Numbers {
    /// The system's, which nobody guesses.
    System(&'static dyn SecureRandom),
    /// For runs that must repeat exactly.
    Seeded(Mutex<fastrand::Rng>),
}

impl Numbers {
    fn new(seed: Option<u64>) -> Self {
        match seed {
            Some(seed) => Self::Seeded(Mutex::new(fastrand::Rng::with_seed(seed))),
            None => Self::System(rustls::crypto::aws_lc_rs::default_provider().secure_random),
        }
    }

    fn next(&self) -> Result<u64, RequestError> {
        match self {
            Self::System(random) => {
                let mut bytes = [0; 8];
                random.fill(&mut bytes).map_err(|_| RequestError::NoRandomness)?;
                Ok(u64::from_ne_bytes(bytes))
            }
            Self::Seeded(random) => Ok(locked(random).u64(..)),
        }
    }
}

impl Inbox {
    fn new(seed: Option<u64>) -> Self {
        Self { awaited: Mutex::default(), numbers: Numbers::new(seed), refused: AtomicBool::new(false) }
    }

    /// The number of the next request.
    pub(crate) fn next_number(&self) -> Result<u64, RequestError> {
        self.numbers.next()
    }

    /// Hands a reply to the request that awaits it.
    pub(crate) fn take(&self, number: u64) -> Option<oneshot::Sender<Event>> {
        locked(&self.awaited).remove(&number)
    }
}
