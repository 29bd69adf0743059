//! Processes of the simulation: sets of tasks that can be stopped, made to hesitate, and killed.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    task::{JoinHandle, LocalSet, spawn_local},
    time::{Sleep, sleep},
};

/// The longest time for which a thread hesitates, in milliseconds.
const HESITATION_MS_MAX: u64 = 6;

/// A process of one or more threads.
pub(super) struct Process {
    gate: Rc<Gate>,
    threads: Vec<JoinHandle<()>>,
}

/// Whether a process may run at the moment.
#[derive(Default)]
struct Gate {
    stopped: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

/// How often a thread does not get its turn at once, as on a machine that is busy. Without that, all threads would
/// always have done all that they can before anything else happens.
pub(super) struct Hesitation {
    pub(super) random: fastrand::Rng,
    pub(super) share: f64,
}

/// One thread: a set of tasks that run only while the gate is open and the thread does not hesitate.
struct Thread {
    tasks: LocalSet,
    gate: Rc<Gate>,
    hesitation: Hesitation,
    rests: Option<Pin<Box<Sleep>>>,
}

impl Process {
    /// Starts a thread for each future; the tasks that it spawns locally belong to its thread.
    pub(super) fn start<F: Future<Output = ()> + 'static>(mains: impl IntoIterator<Item = (F, Hesitation)>) -> Self {
        let gate = Rc::new(Gate::default());
        let start = |(main, hesitation)| {
            let tasks = LocalSet::new();
            tasks.spawn_local(main);
            spawn_local(Thread { tasks, gate: Rc::clone(&gate), hesitation, rests: None })
        };
        let threads = mains.into_iter().map(start).collect();
        Self { gate, threads }
    }

    /// Stops all threads, as SIGSTOP does, their clocks included.
    pub(super) fn stop(&self) {
        self.gate.stopped.set(true);
    }

    /// Lets all threads go on.
    pub(super) fn go_on(&self) {
        self.gate.stopped.set(false);
        self.gate.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// Waits until all threads have ended by themselves.
    pub(super) async fn ended(&mut self) {
        while let Some(thread) = self.threads.last_mut() {
            // An error means that it panicked, which the runtime tells of.
            let _ = thread.await;
            self.threads.pop();
        }
    }

    /// Ends all threads where they are. Their tasks are gone when this returns.
    pub(super) async fn kill(mut self) {
        self.threads.iter().for_each(JoinHandle::abort);
        self.ended().await;
    }
}

impl Future for Thread {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.gate.stopped.get() {
            this.gate.waiting.borrow_mut().push(cx.waker().clone());
            return Poll::Pending;
        }
        if this.rests.is_none() && this.hesitation.random.f64() < this.hesitation.share {
            let rest_ms = this.hesitation.random.u64(1..=HESITATION_MS_MAX);
            this.rests = Some(Box::pin(sleep(Duration::from_millis(rest_ms))));
        }
        if let Some(rests) = &mut this.rests {
            if rests.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.rests = None;
        }
        Pin::new(&mut this.tasks).poll(cx)
    }
}
