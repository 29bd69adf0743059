//! A worker's life: its thread with runtime and endpoint, and the loops that accept connections and read the mailbox.

use std::{
    any::Any,
    future::pending,
    io,
    net::{IpAddr, UdpSocket},
    panic::resume_unwind,
    rc::Rc,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot, watch},
    task::{JoinSet, LocalSet},
    time::{Instant, timeout},
};
use tracing::{debug, warn};
use zonecast_protocol::wire::ErrorCode;

use super::{Shared, Worker};
use crate::{connection, endpoint::EndpointSetup, mail::Mail};

/// How long the last packets to clients that are cut off may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Log lines on refused connections come no closer than this.
const REFUSALS_TOLD_EVERY: Duration = Duration::from_secs(1);

/// How far a broker's life has come. Workers watch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Serving.
    Serving,
    /// No new connections; sessions are told, drained and closed.
    Draining,
    /// Whatever is left is closed at once.
    Stopped,
}

/// Counts a worker that has ended, however it did.
struct Ending(watch::Sender<usize>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.send_modify(|ended| *ended += 1);
    }
}

/// Starts a worker's thread. The endpoint is open when this returns. `ended` counts the workers that have ended.
pub(crate) async fn spawn(
    index: u16,
    shared: Arc<Shared>,
    socket: UdpSocket,
    setup: EndpointSetup,
    mailbox: mpsc::Receiver<Mail>,
    phase: watch::Receiver<Phase>,
    ended: watch::Sender<usize>,
) -> io::Result<JoinHandle<()>> {
    let (opened, open) = oneshot::channel();
    let ending = Ending(ended);
    let body = move || {
        // Dropped last.
        let _ending = ending;
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(opened.send(Err(error))),
        };
        let tasks = LocalSet::new();
        tasks.block_on(&runtime, async {
            match setup.open(socket) {
                Ok(endpoint) => {
                    let _ = opened.send(Ok(()));
                    run(Rc::new(Worker::new(index, shared)), endpoint, mailbox, phase).await;
                }
                Err(error) => drop(opened.send(Err(error))),
            }
        });
    };
    let thread = std::thread::Builder::new().name(format!("zonecast-{index}")).spawn(body)?;
    match open.await {
        Ok(result) => result?,
        Err(_) => return Err(io::Error::other("the worker thread ended before it opened its endpoint")),
    }
    Ok(thread)
}

/// Serves on an endpoint until the broker's life is over. Must be called within a `LocalSet`, be it that of a thread of
/// its own or that of an application which embeds the broker.
///
/// # Panics
/// When one of the worker's own tasks did: without it, it would serve on as if tokens never expired, or nothing came from
/// other workers.
pub(crate) async fn run(
    worker: Rc<Worker>,
    endpoint: quinn::Endpoint,
    mailbox: mpsc::Receiver<Mail>,
    phase: watch::Receiver<Phase>,
) {
    // They end with this function.
    let mut tasks = JoinSet::new();
    tasks.spawn_local(read_mailbox(Rc::clone(&worker), mailbox));
    tasks.spawn_local(Rc::clone(&worker).settle_tickets());
    tasks.spawn_local(Rc::clone(&worker).watch_retained());
    tasks.spawn_local(Rc::clone(&worker).watch_grants());
    tasks.spawn_local(accept(Rc::clone(&worker), endpoint.clone()));
    tokio::select! {
        biased;
        () = serve(&worker, &endpoint, phase) => {}
        panic = first_panic(&mut tasks) => resume_unwind(panic),
    }
}

/// What the first of these tasks panicked with; for ever where none does.
async fn first_panic(tasks: &mut JoinSet<()>) -> Box<dyn Any + Send> {
    while let Some(joined) = tasks.join_next().await {
        if let Some(panic) = joined.err().and_then(|error| error.try_into_panic().ok()) {
            return panic;
        }
    }
    pending().await
}

/// Lets sessions be until the broker's life is over, and ends them in the order of its phases.
async fn serve(worker: &Worker, endpoint: &quinn::Endpoint, mut phase: watch::Receiver<Phase>) {
    // An error means that the broker's handle is gone, which is the same as being stopped.
    let drain = phase.wait_for(|phase| *phase >= Phase::Draining).await.is_ok();
    worker.end_all(ErrorCode::ShuttingDown, "the broker is shutting down");
    if drain {
        tokio::select! {
            biased;
            () = endpoint.wait_idle() => {}
            _ = phase.wait_for(|phase| *phase >= Phase::Stopped) => debug!("draining was cut short"),
        }
    }
    endpoint.close(connection::close_code(ErrorCode::ShuttingDown), b"the broker has stopped");
    // The close is only queued yet: without this, clients would find out by their idle timeout.
    let _ = timeout(CLOSE_TIMEOUT, endpoint.wait_idle()).await;
}

async fn read_mailbox(worker: Rc<Worker>, mut mailbox: mpsc::Receiver<Mail>) {
    while let Some(mail) = mailbox.recv().await {
        if let Some(take) = worker.take_mail(mail) {
            let worker = Rc::clone(&worker);
            tokio::task::spawn_local(async move { worker.take_zones(take).await });
        }
    }
}

async fn accept(worker: Rc<Worker>, endpoint: quinn::Endpoint) {
    let (admission, limits) = (&worker.shared.admission, &worker.shared.config.connections);
    let mut refusals = Refusals::default();
    while let Some(incoming) = endpoint.accept().await {
        if worker.is_draining() {
            incoming.refuse();
            continue;
        }
        if !incoming.remote_address_validated() && admission.is_pressed(limits) {
            worker.count(|stats| stats.retries_out += 1);
            // Only an address that is validated already cannot be asked; dropping such a one refuses it.
            let _ = incoming.retry();
            continue;
        }
        let address = incoming.remote_address().ip();
        match admission.enter(address, limits) {
            Ok(place) => {
                let worker = Rc::clone(&worker);
                tokio::task::spawn_local(async move { connection::serve(&worker, incoming, place).await });
            }
            Err(limit) => {
                refusals.tell(address, limit);
                worker.count(|stats| *stats.handshakes_failed.entry(limit).or_default() += 1);
                incoming.refuse();
            }
        }
    }
}

/// Tells of refused connections, but not of each: the log must not be what a flood fills.
#[derive(Debug, Default)]
struct Refusals {
    told: Option<Instant>,
    untold: u64,
}

impl Refusals {
    fn tell(&mut self, address: IpAddr, limit: &'static str) {
        if self.told.is_some_and(|told| told.elapsed() < REFUSALS_TOLD_EVERY) {
            self.untold += 1;
            return;
        }
        warn!(%address, limit, untold_before = self.untold, "connection refused: limit reached");
        *self = Self { told: Some(Instant::now()), untold: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_seen_and_one_that_ends_is_not() {
        let tasks = LocalSet::new();
        let panic = tasks.run_until(async {
            let mut tasks = JoinSet::new();
            tasks.spawn_local(async {});
            assert!(timeout(Duration::from_millis(10), first_panic(&mut tasks)).await.is_err());
            tasks.spawn_local(pending());
            tasks.spawn_local(async { panic!("as it must not") });
            first_panic(&mut tasks).await
        });
        assert_eq!(*panic.await.downcast::<&str>().unwrap(), "as it must not");
    }

    #[tokio::test]
    async fn a_worker_that_panics_has_ended() {
        let (sender, mut ended) = watch::channel(0);
        let ending = Ending(sender.clone());
        let thread = std::thread::spawn(move || {
            let _ending = ending;
            panic!("as a worker must not");
        });
        ended.wait_for(|ended| *ended == 1).await.unwrap();
        assert!(thread.join().is_err());
    }
}
