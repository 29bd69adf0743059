//! What is done beside calls: keys and revocations of other processes are read, keys change, what has had its time goes,
//! and interrupted registrations are undone.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use zonecast_store::{StoreError, from_micros, to_micros};

use crate::Auth;

/// How often keys are looked after, and what has had its time goes.
const TIDY_INTERVAL: Duration = Duration::from_secs(60);
/// A registration that was given up is forgotten after so many times its life: until then a call that was under way to the
/// users service may still make the user.
const REGISTRATION_LIVES: u32 = 2;

impl Auth {
    /// Until it is told to stop.
    pub(crate) async fn keep_up(self, stop: CancellationToken) {
        let mut polls = interval(self.shared.config.poll_interval);
        let mut tidyings = interval(TIDY_INTERVAL);
        for ticks in [&mut polls, &mut tidyings] {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let mut failures = 0_u64;
        loop {
            let outcome = tokio::select! {
                () = stop.cancelled() => return,
                _ = polls.tick() => self.shared.issuer.refresh().await,
                _ = tidyings.tick() => self.tidy().await,
            };
            match outcome {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    // A line for each doubling: it may take hours.
                    if failures.is_power_of_two() {
                        tracing::warn!(failures, reason = error.kind(), "keys and revocations cannot be read");
                    }
                }
            }
        }
    }

    /// What is due at this time.
    pub(crate) async fn tidy(&self) -> Result<(), StoreError> {
        let now = self.shared.config.clock.now();
        self.shared.issuer.rotate().await?;
        self.shared.store.prune(to_micros(now), to_micros(now - self.shared.config.lives.audit)).await?;
        self.undo_registrations().await
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
