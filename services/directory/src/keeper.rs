//! What goes on beside calls: leases end, the memory follows the log, keys are replaced.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{DirectoryStore, Index, Ledger, TicketKeys};

/// How often somebody looks for leases, be there none to end: it tells that heartbeats had somewhere to go.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often keys are looked at.
const KEYS_EVERY: Duration = Duration::from_secs(30);

/// Keeps a directory.
pub(crate) struct Keeper<S> {
    pub(crate) store: S,
    pub(crate) ledger: Ledger<S>,
    pub(crate) index: Arc<Index>,
    pub(crate) keys: Arc<TicketKeys>,
    pub(crate) changed: Arc<Notify>,
    pub(crate) is_cut_off: watch::Receiver<bool>,
    pub(crate) poll: Duration,
}

impl<S: DirectoryStore> Keeper<S> {
    /// Until it is to stop.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut ticks = interval(self.poll);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut keys_at, mut is_well) = (Instant::now() + KEYS_EVERY, true);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let outcome = self.turn(&mut keys_at).await;
            // Once when it begins, and once when it ends.
            if let (Err(reason), true) = (&outcome, is_well) {
                tracing::warn!(reason, "the directory is not kept: no lease ends, and what others change is not seen");
            } else if outcome.is_ok() && !is_well {
                tracing::info!("the directory is kept again");
            }
            is_well = outcome.is_ok();
        }
    }

    async fn turn(&self, keys_at: &mut Instant) -> Result<(), &'static str> {
        // Heartbeats have nowhere to go. Once they have, it will look as if nobody had looked, and every lease lasts once more.
        if !*self.is_cut_off.borrow() && self.ledger.sweep_if_due(LOOK_EVERY).await.map_err(|error| error.kind())? {
            self.changed.notify_one();
        }
        self.index.refresh(&self.store).await.map_err(|error| error.kind())?;
        if Instant::now() >= *keys_at {
            self.keys.refresh(&self.store).await.map_err(|error| error.kind())?;
            *keys_at = Instant::now() + KEYS_EVERY;
        }
        Ok(())
    }
}
