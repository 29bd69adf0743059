//! What is done beside calls: keys and revocations of other processes are read, keys change, what has had its time goes,
//! and interrupted registrations are undone.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use zonecast_host::Tasks;
use zonecast_store::{StoreError, from_micros, to_micros};

use crate::Auth;

/// How often keys are looked after, and what has had its time goes.
const TIDY_INTERVAL: Duration = Duration::from_secs(60);
/// Most steps of forgetting at one time; the rest has the next.
const PRUNINGS_MAX: u32 = 100;
/// A registration that was given up is forgotten after so many times its life: until then a call that was under way to the
/// users service may still make the user.
const REGISTRATION_LIVES: u32 = 2;

/// Does something again and again until it is told to stop, and says when it begins to fail.
async fn every<W>(pause: Duration, stop: CancellationToken, failing: &'static str, work: impl Fn() -> W)
where
    W: Future<Output = Result<(), StoreError>>,
{
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failures = 0_u64;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        match work().await {
            Ok(()) => failures = 0,
            Err(error) => {
                failures += 1;
                // A line for each doubling: it may take hours.
                if failures.is_power_of_two() {
                    tracing::warn!(failures, reason = error.kind(), "{failing}");
                }
            }
        }
    }
}

impl Auth {
    /// Begins all of it. What calls the users service holds up nothing else.
    pub(crate) fn keep_up(&self, tasks: &Tasks) {
        let (looks, tidies) = (self.clone(), self.clone());
        let pause = self.shared.config.poll_interval;
        let look = move || {
            let issuer = Arc::clone(&looks.shared.issuer);
            async move { issuer.refresh().await }
        };
        tasks.spawn(|stop| every(pause, stop, "keys and revocations cannot be read", look));
        let tidy = move || {
            let auth = tidies.clone();
            async move { auth.tidy().await }
        };
        tasks.spawn(|stop| every(TIDY_INTERVAL, stop, "keys are not looked after, and nothing is tidied", tidy));
    }

    /// What is due at this time.
    pub(crate) async fn tidy(&self) -> Result<(), StoreError> {
        // That one of them fails keeps none of the others.
        let outcomes = [self.shared.issuer.rotate().await, self.prune().await, self.undo_registrations().await];
        outcomes.into_iter().collect()
    }

    /// Forgets what has had its time, some at once: a backlog must neither run into the statements' time-out nor keep others
    /// from writing.
    async fn prune(&self) -> Result<(), StoreError> {
        let (store, now) = (&self.shared.store, self.shared.config.clock.now());
        let (before, audit_from) = (to_micros(now), to_micros(now - self.shared.config.lives.audit));
        for _ in 0..PRUNINGS_MAX {
            let pruned = store.prune_nonces(before).await?
                + store.prune_logins(before).await?
                + store.prune_revocations(before).await?
                + store.prune_audit(audit_from).await?;
            if pruned == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Deletes the users whose registration was interrupted, so that their names are free again.
    pub(crate) async fn undo_registrations(&self) -> Result<(), StoreError> {
        let life = self.shared.config.lives.registration;
        let now = self.shared.config.clock.now();
        for (user, started_at) in self.shared.store.interrupted(to_micros(now - life)).await? {
            if let Err(status) = self.shared.users.delete(user).await {
                tracing::warn!(%user, code = ?status.code(), "an interrupted registration cannot be undone yet");
                continue;
            }
            if from_micros(started_at) < now - life * REGISTRATION_LIVES {
                self.shared.store.forget_registration(user).await?;
            }
            tracing::info!(%user, "an interrupted registration was undone");
        }
        Ok(())
    }
}
