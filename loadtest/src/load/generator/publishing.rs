//! The sending side: publishers, each at its fixed times or with its window of events under way.

use std::{
    cell::Cell,
    collections::VecDeque,
    future::{Future, poll_fn},
    path::{Path, PathBuf},
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::{
    task::{JoinSet, unconstrained},
    time::timeout,
};
use zonecast_protocol::Circle;

use super::{GeneratorError, Orders, ProgressTeller, answer, at, moving::Times, unexpected};
use crate::load::{
    LoadSettings, Rate, Scenario,
    clock::{Timer, now_ns},
    orders::{Answer, Order, Published},
    payload::Stamp,
    schedule::Schedule,
    tally::{HistogramRecord, Window, latency_histogram},
    transport::{Outgoing, Publisher, Transport, TransportError},
    world::World,
};

/// How long publishers wait for acknowledgements after the last event.
const ACKS_TIMEOUT: Duration = Duration::from_secs(20);
/// Most events that are sent in one go before other publishers of the process get their turn.
const BURST_MAX: u32 = 256;

pub(super) async fn run<T: Transport>(
    settings: &LoadSettings,
    target: &T::Target,
    run: u32,
    times: Option<PathBuf>,
    orders: &mut Orders,
) -> Result<(), GeneratorError> {
    let world = World::build(settings);
    let transport = T::open(target, settings).map_err(at("the transport"))?;
    let progress = Rc::new(Cell::new(0));
    let mut lines = Vec::new();
    for index in 0..settings.publishers {
        let publisher = transport.publisher(index).await.map_err(at(format!("publisher {index}")))?;
        lines.push((publisher, Pool::new(&world, index)));
    }
    answer(&Answer::Ready)?;
    let (start_ns, window) = match orders.next::<T::Target>().await? {
        Some(Order::Start { start_ns, window }) => (start_ns, window),
        None => return Ok(()),
        Some(other) => return Err(unexpected(&other)),
    };
    let mut publishing = JoinSet::new();
    for (index, (publisher, pool)) in (0..).zip(lines) {
        let line = Line::new(settings, run, index, publisher, pool, (start_ns, window), progress.clone());
        publishing.spawn_local(line.work(settings.rate, times.clone()));
    }
    let teller = ProgressTeller::start(progress);
    let mut all = Published { by_publisher: vec![0; settings.publishers as usize], ..Published::default() };
    let mut late = latency_histogram();
    let mut publishers = Vec::new();
    loop {
        tokio::select! {
            next = publishing.join_next() => match next {
                Some(ended) => {
                    let (index, publisher, books) = ended??;
                    all.by_publisher[index as usize] = books.published;
                    all.within += books.within;
                    all.miscounted_acks += books.miscounted_acks;
                    all.unanswered += books.unanswered;
                    all.held_back_s += Duration::from_nanos(books.held_back_ns).as_secs_f64();
                    late += &books.late_us;
                    publishers.push(publisher);
                }
                None => break,
            },
            order = orders.next::<T::Target>() => match order? {
                Some(other) => return Err(unexpected(&other)),
                None => return Ok(()),
            },
        }
    }
    drop(teller);
    all.late_us = HistogramRecord::from(&late);
    answer(&Answer::Published(Box::new(all)))?;
    match orders.next::<T::Target>().await? {
        Some(Order::End) | None => {}
        Some(other) => return Err(unexpected(&other)),
    }
    let mut leaving = JoinSet::new();
    for publisher in publishers {
        leaving.spawn_local(publisher.close());
    }
    leaving.join_all().await;
    Ok(())
}

/// The circles that a publisher goes round in, with what each should reach.
struct Pool {
    circles: Vec<Circle>,
    zones: Vec<Box<[u32]>>,
    sessions: Vec<u32>,
}

impl Pool {
    fn new(world: &World, publisher: u32) -> Self {
        let circles = world.pool(publisher);
        let zones: Vec<Vec<u32>> = circles.iter().map(|circle| world.touched(circle)).collect();
        let sessions = zones.iter().map(|zones| u32::try_from(world.holders(zones).len()).unwrap_or(u32::MAX));
        Self { sessions: sessions.collect(), zones: zones.into_iter().map(Into::into).collect(), circles }
    }
}

/// What a publisher has done.
struct Done {
    published: u64,
    within: u64,
    miscounted_acks: u64,
    unanswered: u64,
    held_back_ns: u64,
    late_us: Histogram<u64>,
}

/// One publisher at work.
struct Line<P> {
    index: u32,
    run: u32,
    publisher: P,
    pool: Pool,
    payload: Vec<u8>,
    start_ns: u64,
    window: Window,
    schedule: Option<Schedule>,
    /// Most events under way, where there is no schedule.
    under_way_max: u64,
    /// Whether brute force knows how many sessions an acknowledgement should name.
    counts_are_certain: bool,
    /// Sessions that the broker may end during the run, because they do not read.
    frozen: u32,
    under_way: u64,
    /// When the events under way were sent; only where it matters.
    sent_ns: Option<VecDeque<u64>>,
    times: Vec<(u64, u64)>,
    answers: Vec<Option<u32>>,
    /// Until when the transport had no room; before that nothing could be sent, whatever the schedule says.
    held_until_ns: u64,
    progress: Rc<Cell<u64>>,
    done: Done,
}

impl<P: Publisher> Line<P> {
    fn new(
        settings: &LoadSettings,
        run: u32,
        index: u32,
        publisher: P,
        pool: Pool,
        (start_ns, window): (u64, Window),
        progress: Rc<Cell<u64>>,
    ) -> Self {
        let schedule = match settings.rate {
            Rate::PerSecond(rate) => Some(Schedule::new(rate, index, settings.publishers, start_ns, window.end_ns)),
            Rate::Max => None,
        };
        let is_moving = settings.scenario == Scenario::Moving;
        // Filler that no compression makes smaller, the same in every run.
        let mut payload = vec![0; settings.payload_bytes as usize];
        fastrand::Rng::with_seed(settings.seed).fill(&mut payload);
        let done = Done {
            published: 0,
            within: 0,
            miscounted_acks: 0,
            unanswered: 0,
            held_back_ns: 0,
            late_us: latency_histogram(),
        };
        Self {
            index,
            run,
            publisher,
            pool,
            payload,
            start_ns,
            window,
            schedule,
            under_way_max: u64::from(settings.window),
            counts_are_certain: !is_moving,
            frozen: settings.frozen,
            under_way: 0,
            sent_ns: is_moving.then(VecDeque::new),
            times: Vec::new(),
            answers: Vec::new(),
            held_until_ns: 0,
            progress,
            done,
        }
    }

    /// Publishes until the window ends, and waits for all answers.
    async fn work(mut self, rate: Rate, times: Option<PathBuf>) -> Result<(u32, P, Done), GeneratorError> {
        let who = format!("publisher {}", self.index);
        let mut timer = Timer::new()?;
        timer.sleep_until(self.start_ns).await?;
        match rate {
            Rate::PerSecond(_) => self.keep_to_schedule(&mut timer).await?,
            Rate::Max => self.keep_window_full().await.map_err(at(&*who))?,
        }
        let answered = timeout(ACKS_TIMEOUT, async {
            while self.under_way > 0 {
                self.publisher.completed(&mut self.answers).await?;
                self.take_answers();
            }
            Ok(())
        });
        match answered.await {
            Ok(answered) => answered.map_err(at(&*who))?,
            Err(_elapsed) => self.done.unanswered = self.under_way,
        }
        if let Some(directory) = times {
            self.write_times(&directory)?;
        }
        Ok((self.index, self.publisher, self.done))
    }

    async fn keep_to_schedule(&mut self, timer: &mut Timer) -> Result<(), GeneratorError> {
        let failed = |index| at(format!("publisher {index}"));
        while let Some(next_ns) = self.schedule.as_ref().and_then(Schedule::next_ns) {
            timer.sleep_until(next_ns).await?;
            let mut burst = 0;
            // The clock is read anew for each event, so that one that comes due meanwhile goes along.
            while let Some(due_ns) = self.schedule.as_mut().and_then(|schedule| schedule.take_due(now_ns())) {
                self.note_lateness(due_ns);
                self.send(due_ns).await.map_err(failed(self.index))?;
                burst += 1;
                if burst == BURST_MAX {
                    break;
                }
            }
            self.publisher.flush().await.map_err(failed(self.index))?;
            self.publisher.try_completed(&mut self.answers).map_err(failed(self.index))?;
            self.take_answers();
            if burst == BURST_MAX {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// How much later than it should an event goes out, for a reason that lies in this process.
    fn note_lateness(&mut self, due_ns: u64) {
        if self.window.slot(due_ns).is_some() {
            let late_ns = now_ns().saturating_sub(due_ns.max(self.held_until_ns));
            self.done.late_us.saturating_record(late_ns / 1000);
        }
    }

    async fn keep_window_full(&mut self) -> Result<(), TransportError> {
        loop {
            let mut burst = 0;
            while self.under_way < self.under_way_max && burst < BURST_MAX {
                let now = now_ns();
                if now >= self.window.end_ns {
                    return self.publisher.flush().await;
                }
                self.send(now).await?;
                burst += 1;
            }
            self.publisher.flush().await?;
            if self.under_way < self.under_way_max {
                self.publisher.try_completed(&mut self.answers)?;
                tokio::task::yield_now().await;
            } else {
                self.publisher.completed(&mut self.answers).await?;
            }
            self.take_answers();
        }
    }

    async fn send(&mut self, sent_ns: u64) -> Result<(), TransportError> {
        let sequence = self.done.published;
        #[allow(clippy::cast_possible_truncation, reason = "a pool has at most 4,096 circles")]
        let place = (sequence % self.pool.circles.len() as u64) as usize;
        Stamp { publisher: self.index, run: self.run, sequence, sent_ns }.write(&mut self.payload);
        if let Some(sent) = &mut self.sent_ns {
            sent.push_back(now_ns());
        }
        let event = Outgoing {
            circle: self.pool.circles[place],
            zones: &self.pool.zones[place],
            pool_index: place as u32,
            payload: &self.payload,
        };
        let was_held = hold_watched(pin!(self.publisher.publish(event))).await?;
        if let Some(held_ns) = was_held {
            self.held_until_ns = now_ns();
            if self.window.slot(self.held_until_ns).is_some() {
                self.done.held_back_ns += held_ns;
            }
        }
        self.done.published += 1;
        self.under_way += 1;
        self.progress.update(|published| published + 1);
        self.done.within += u64::from(self.window.slot(sent_ns).is_some());
        Ok(())
    }

    /// Compares answers with what brute force says of the oldest events under way.
    fn take_answers(&mut self) {
        let acked_ns = if self.sent_ns.is_some() && !self.answers.is_empty() { now_ns() } else { 0 };
        for matched in self.answers.drain(..) {
            let sequence = self.done.published - self.under_way;
            #[allow(clippy::cast_possible_truncation, reason = "a pool has at most 4,096 circles")]
            let place = (sequence % self.pool.circles.len() as u64) as usize;
            let most = self.pool.sessions[place];
            let is_right = |matched: u32| (most.saturating_sub(self.frozen)..=most).contains(&matched);
            let is_wrong = matched.is_some_and(|matched| !is_right(matched));
            self.done.miscounted_acks += u64::from(is_wrong && self.counts_are_certain);
            if let Some(sent) = &mut self.sent_ns {
                self.times.extend(sent.pop_front().map(|sent_ns| (sent_ns, acked_ns)));
            }
            self.under_way -= 1;
        }
    }

    /// Leaves the times for those who must judge what arrived.
    fn write_times(&mut self, directory: &Path) -> std::io::Result<()> {
        let unanswered = self.sent_ns.iter_mut().flatten().map(|sent_ns| (*sent_ns, u64::MAX));
        self.times.extend(unanswered);
        Times::write(directory, self.index, &self.times)
    }
}

/// Awaits what may have to wait for room, and tells for how long it did, in nanoseconds; `None` when it did not.
async fn hold_watched(
    work: Pin<&mut impl Future<Output = Result<(), TransportError>>>,
) -> Result<Option<u64>, TransportError> {
    // Without tokio's budget, which makes a task wait that does much, and would be taken for a lack of room.
    let mut work = pin!(unconstrained(work));
    let mut since_ns = None;
    let done = poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Pending => {
            since_ns.get_or_insert_with(now_ns);
            Poll::Pending
        }
        ready => ready,
    });
    done.await?;
    Ok(since_ns.map(|since| now_ns() - since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_waiting_counts_as_being_held_back() {
        assert!(hold_watched(pin!(async { Ok(()) })).await.unwrap().is_none());
        let room = tokio::sync::Semaphore::new(1);
        for _ in 0..10_000 {
            let takes = async { room.acquire().await.map(drop).map_err(|error| TransportError::new("cannot", error)) };
            assert!(hold_watched(pin!(takes)).await.unwrap().is_none(), "there was room each time");
        }
        let waits = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(())
        };
        assert!(hold_watched(pin!(waits)).await.unwrap().unwrap() >= 4_000_000);
        assert!(hold_watched(pin!(async { Err(TransportError::new("cannot", "no")) })).await.is_err());
    }
}
