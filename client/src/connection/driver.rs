//! The life of a client over all its connections.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, oneshot},
    time::{Instant, sleep},
};
use zonecast_protocol::{ErrorCode, Limits, Refusal, wire};

use super::{
    Command, Commands, Token,
    dial::{Link, Resumed, Unlinked, dial, introduction},
    dispatch::{Beginning, Dispatcher},
    live::LinkEnd,
};
use crate::{
    backoff::Backoff,
    config::Settings,
    error::{ConnectError, LinkError, PublishError},
    handle::{Lane, Shared},
    lanes::Forbidden,
    publish::too_long,
    session::{Effect, OperationError, Session},
    state::{ClosedReason, ConnectionState},
    sync::locked,
};

/// Clients that a broker sends away together come back within this time of each other.
const SPREAD_MAX: Duration = Duration::from_secs(1);

/// So many tokens that are refused one after the other are enough.
const DENIALS_MAX: u32 = 4;

/// Most of the patience that a broker can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Owns the session, and carries out what it decides. Ends when told to, when no handle is left, or when going on would
/// be wrong.
pub(crate) struct Driver {
    pub(super) settings: Settings,
    pub(super) shared: Arc<Shared>,
    pub(super) session: Session<Token>,
    pub(super) commands: Commands,
    /// Locked by the reader of a connection for as long as that lives.
    pub(super) dispatcher: Arc<AsyncMutex<Dispatcher>>,
    /// The session that the broker keeps, or would if the connection were lost, and that broker's place in the list:
    /// session numbers mean nothing elsewhere.
    resumable: Option<(usize, u64)>,
    /// The place in the list of the broker that was dialled last.
    broker: usize,
    /// Taken by the first connection, or by the reason why there is none.
    pub(super) first: Option<oneshot::Sender<Result<(), ConnectError>>>,
    pub(super) backoff: Backoff,
    /// Who waits for the end.
    closers: Vec<oneshot::Sender<()>>,
    has_ended: bool,
}

/// The application wants to end.
pub(super) struct Leave;

impl Driver {
    pub(crate) fn new(
        settings: Settings,
        shared: Arc<Shared>,
        commands: Commands,
        first: oneshot::Sender<Result<(), ConnectError>>,
    ) -> Self {
        let seed = settings.seed.unwrap_or_else(|| fastrand::u64(..));
        let backoff = Backoff::new(settings.timing.backoff_base, settings.timing.backoff_cap, seed);
        let dispatcher = Arc::new(AsyncMutex::new(Dispatcher::new(shared.clone())));
        Self {
            settings,
            shared,
            session: Session::new(),
            commands,
            dispatcher,
            resumable: None,
            broker: 0,
            first: Some(first),
            backoff,
            closers: Vec::new(),
            has_ended: false,
        }
    }

    pub(crate) async fn run(mut self) {
        let reason = match self.live_on().await {
            Ok(fatal) => fatal,
            Err(Leave) => ClosedReason::ByApplication,
        };
        self.end(reason);
    }

    /// One connection after the other, to the brokers in turn; first again to the one with which a connection was lost,
    /// for it may have kept the session. Between rounds it waits, and after a lost connection.
    async fn live_on(&mut self) -> Result<ClosedReason, Leave> {
        let brokers = self.settings.brokers.len();
        let (mut turn, mut attempt, mut hopeless, mut denied) = (0, 1, 0, 0);
        // Which broker asked not to be dialled before when.
        let mut asked_for_patience = None;
        loop {
            self.set_state(ConnectionState::Connecting { attempt });
            self.broker = turn % brokers;
            let was_resumable = self.resumable.is_some_and(|(broker, _)| broker == self.broker);
            let end = match self.dial().await? {
                Ok(link) => {
                    let end = self.live(link).await?;
                    attempt = if end.was_connected { 0 } else { attempt };
                    end
                }
                Err(Unlinked { error, retry_after }) => {
                    LinkEnd { error, was_connected: false, was_cut: false, retry_after }
                }
            };
            tracing::info!(client_id = %self.shared.client_id, error = %end.error, "no connection");
            *locked(&self.shared.last_failure) = Some(end.error.clone());
            // A broker with fewer lanes than before cannot resume what had more; a new session it may grant.
            if was_resumable && !end.was_connected && end.error.is_invalid_hello() {
                self.resumable = None;
                continue;
            }
            denied = if end.error.is_unauthenticated() && !end.was_connected { denied + 1 } else { 0 };
            // Another token may be taken.
            let may_help = self.settings.token.is_asked() && end.error.is_unauthenticated() && denied < DENIALS_MAX;
            hopeless = if end.error.is_hopeless() && !may_help { hopeless + 1 } else { 0 };
            if end.error.is_fatal() && !may_help {
                return Ok(self.give_up(end.error));
            }
            if self.first.is_some() && hopeless >= brokers {
                self.reject(end.error.clone());
                return Ok(ClosedReason::NeverConnected(end.error));
            }
            attempt += 1;
            turn += usize::from(!(end.was_connected && end.was_cut));
            let round_is_over = turn % brokers == 0 || end.was_connected;
            let jitter = if round_is_over { self.backoff.next_wait() } else { Duration::ZERO };
            let retry_after = end.retry_after.min(RETRY_AFTER_MAX);
            // Whom the broker told when to come back, it told all at once.
            let spread = self.backoff.spread((4 * retry_after).min(SPREAD_MAX));
            if !retry_after.is_zero() {
                asked_for_patience = Some((self.broker, Instant::now() + retry_after));
            }
            let patience = asked_for_patience.filter(|(broker, _)| *broker == turn % brokers);
            let patience =
                patience.map_or(Duration::ZERO, |(_, until)| until.saturating_duration_since(Instant::now()));
            let retry_in = jitter + patience + spread;
            self.set_state(ConnectionState::Disconnected { reason: end.error, retry_in });
            self.wait(retry_in).await?;
        }
    }

    fn give_up(&mut self, error: LinkError) -> ClosedReason {
        self.reject(error.clone());
        ClosedReason::Fatal(error)
    }

    fn reject(&mut self, error: LinkError) {
        if let Some(first) = self.first.take() {
            // Whoever called connect may have stopped waiting.
            let _ = first.send(Err(ConnectError::Rejected(error)));
        }
    }

    /// Dials, and meanwhile takes commands.
    async fn dial(&mut self) -> Result<Result<Link, Unlinked>, Leave> {
        let hello = self.hello().await;
        let Self { settings, shared, session, commands, closers, broker, .. } = self;
        let mut attempt = std::pin::pin!(dial(settings, &settings.brokers[*broker], shared.source, hello));
        loop {
            tokio::select! {
                biased;
                command = commands.next(true) => {
                    if let Some(lane) = take_command(session, closers, command)? {
                        shared.unconnected(&lane);
                    }
                    answer(session);
                }
                result = &mut attempt => return Ok(result),
            }
        }
    }

    /// What the client says of itself, and of the session that it left.
    async fn hello(&self) -> wire::Hello {
        let mut hello = introduction(&self.settings);
        if let Some((broker, session_id)) = self.resumable
            && broker == self.broker
        {
            let position = self.shared.intake.position();
            // Of a session that does not go on nothing was taken, so there is nothing to ask.
            for lane in self.shared.open_lanes() {
                if let Some(lane_seq) = locked(&lane.queue).first_unanswered() {
                    hello.lanes.push(wire::LanePosition { lane: lane.number.into(), lane_seq });
                }
            }
            hello.resume_session_id = session_id;
            hello.delivered_through = position.delivered_through;
            hello.control_through = position.control_through;
            hello.datagrams = self.dispatcher.lock().await.early_datagrams();
        }
        hello
    }

    /// Everything learns of the new connection, before anything of it is read or written. Whether there is something that
    /// may have been sent before.
    pub(super) async fn begin_session(&mut self, link: &Link) -> bool {
        self.shared.set_limits(link.limits.clone());
        let is_first = Shared::count(&self.shared.counters.connections) == 1;
        let resumed = link.resumed.as_ref();
        self.resumable = link.outlives_link.then_some((self.broker, link.session_id));
        self.shared.intake.begin_session(resumed.is_some(), link.outlives_link);
        let beginning = match resumed {
            Some(_) => Beginning::Resumed,
            None if is_first => Beginning::First,
            None => Beginning::Anew,
        };
        self.dispatcher.lock().await.begin_session(beginning);
        match resumed {
            Some(resumed) => {
                Shared::count(&self.shared.counters.resumed);
                self.session.resumed(&link.limits, resumed.last_request_id);
            }
            None => self.session.connected(&link.limits),
        }
        self.reconnect_lanes(&link.limits, resumed)
    }

    fn reconnect_lanes(&self, limits: &Limits, resumed: Option<&Resumed>) -> bool {
        let mut held = false;
        for lane in self.shared.open_lanes() {
            let taken = resumed.map(|resumed| resumed.lanes.get(&lane.number.into()).copied().unwrap_or(0));
            self.refuse_forbidden(lane, limits, taken.unwrap_or(0));
            let reconnected = locked(&lane.queue).reconnected(taken);
            lane.room.add_permits(reconnected.room as usize);
            held |= reconnected.held;
            for token in reconnected.in_doubt {
                let _ = token.send(Err(PublishError::ConnectionLost));
            }
        }
        held
    }

    /// What a former broker permitted may be forbidden by this one, which would end the connection for it.
    fn refuse_forbidden(&self, lane: &Lane, limits: &Limits, taken: u64) {
        let number = u32::from(lane.number);
        let (frame_bytes_max, refusal) = if number < limits.lanes_max {
            (limits.frame_bytes_max as usize, too_long(limits.frame_bytes_max))
        } else {
            let message = format!("lane is {number}; lanes 0 to {} exist at this broker", limits.lanes_max - 1);
            (0, Refusal::new(ErrorCode::InvalidArgument, message))
        };
        let forbidden = locked(&lane.queue).forbid(taken, frame_bytes_max);
        for Forbidden { seq, token, room } in forbidden {
            lane.room.add_permits(room as usize);
            self.shared.refuse(number, seq, token, refusal.clone());
        }
    }

    async fn wait(&mut self, wait: Duration) -> Result<(), Leave> {
        let mut elapsed = std::pin::pin!(sleep(wait));
        loop {
            tokio::select! {
                biased;
                command = self.commands.next(true) => {
                    if let Some(lane) = take_command(&mut self.session, &mut self.closers, command)? {
                        self.shared.unconnected(&lane);
                    }
                    answer(&mut self.session);
                }
                () = &mut elapsed => return Ok(()),
            }
        }
    }

    /// Takes a command while a connection lives. The lane that was opened, if that is what it says.
    pub(super) fn on_command(&mut self, command: Option<Command>) -> Result<Option<Arc<Lane>>, Leave> {
        take_command(&mut self.session, &mut self.closers, command)
    }

    pub(super) fn set_state(&self, state: ConnectionState) {
        tracing::debug!(client_id = %self.shared.client_id, ?state, "connection state");
        self.shared.states.send_replace(state);
    }

    /// What was under way waits for the next connection. `was_cut`: the broker may not know of the end.
    pub(super) fn after_loss(&mut self, up_since: Option<Instant>, was_cut: bool) {
        if up_since.is_some_and(|since| since.elapsed() >= self.backoff.cap()) {
            self.backoff.reset();
        }
        if !was_cut {
            self.resumable = None;
        }
        self.session.lost(self.resumable.is_some());
        answer(&mut self.session);
        for lane in self.shared.open_lanes() {
            self.shared.unconnected(lane);
        }
    }

    /// Whoever still waits learns that nothing more will happen.
    fn end(&mut self, reason: ClosedReason) {
        self.has_ended = true;
        tracing::info!(client_id = %self.shared.client_id, %reason, "closed");
        self.closers.extend(self.commands.close());
        let mut publishes = 0;
        for lane in self.shared.open_lanes() {
            lane.room.close();
            let (tokens, unsent) = locked(&lane.queue).end();
            publishes += unsent;
            // Dropped tokens read as closed.
            drop(tokens);
        }
        let table = self.shared.routes.table();
        if let Some(zones) = &table.zones {
            zones.end();
        }
        table.topics.iter().for_each(|topic| topic.mailbox.end());
        locked(&self.shared.inbox.awaited).clear();
        if publishes > 0 {
            tracing::warn!(client_id = %self.shared.client_id, publishes, "queued publishes were never sent");
        }
        self.shared.unsent.store(publishes, Relaxed);
        self.shared.end_refusals();
        self.set_state(ConnectionState::Closed { reason });
        for done in std::mem::take(&mut self.closers) {
            let _ = done.send(());
        }
    }
}

impl Drop for Driver {
    /// A task that is stopped, with its runtime or by a panic, must not leave anyone waiting.
    fn drop(&mut self) {
        if !self.has_ended {
            self.end(ClosedReason::Aborted);
        }
    }
}

fn take_command(
    session: &mut Session<Token>,
    closers: &mut Vec<oneshot::Sender<()>>,
    command: Option<Command>,
) -> Result<Option<Arc<Lane>>, Leave> {
    match command {
        Some(Command::Operate { token: Some(token), alive: Some(alive), .. }) if !alive.load(Relaxed) => {
            let _ = token.reply.send(Err(OperationError::Ended));
            Ok(None)
        }
        Some(Command::Operate { operation, token, .. }) => {
            session.submit(operation, token);
            Ok(None)
        }
        Some(Command::LaneOpened(lane)) => Ok(Some(lane)),
        Some(Command::Close(done)) => {
            closers.push(done);
            Err(Leave)
        }
        None => Err(Leave),
    }
}

/// Carries out what a session decides without a connection: there is nothing but answers.
fn answer(session: &mut Session<Token>) {
    while let Some(effect) = session.next_effect() {
        if let Effect::Answer { token, result } = effect {
            let _ = token.reply.send(result);
        }
    }
}
