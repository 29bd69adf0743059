//! Bans.

use tonic::Status;
use zonecast_doors::Caller;
use zonecast_protocol::auth::v1::{BanUserRequest, BanUserResponse, LiftBanRequest, LiftBanResponse};

use super::{Auth, audit::tell, user_id};
use crate::store::{Entry, subject};

/// Needed for banning.
pub(super) const BAN: &str = "auth.ban";
/// Most bytes of a reason.
const REASON_BYTES_MAX: usize = 500;
/// Before which a ban ends that ends by itself: the year 10000, in microseconds since 1970.
const UNTIL_MAX: i64 = 253_402_300_800_000_000;
/// The end of a ban that does not end by itself.
pub(super) const FOREVER: i64 = i64::MAX;

impl Auth {
    pub(super) async fn ban_user(&self, caller: &Caller, request: BanUserRequest) -> Result<BanUserResponse, Status> {
        self.allow(caller, BAN, "ban").await?;
        let BanUserRequest { user_id: text, until, reason } = request;
        let user = user_id(&text)?;
        if reason.len() > REASON_BYTES_MAX || reason.contains(char::is_control) {
            return Err(Status::invalid_argument("a reason has at most 500 bytes, and no control characters"));
        }
        let until = match until {
            None => FOREVER,
            Some(until) => micros(until.seconds, until.nanos)
                .filter(|until| (self.now() + 1..UNTIL_MAX).contains(until))
                .ok_or_else(|| {
                    Status::invalid_argument("until is no time to come before the year 10000; leave it out")
                })?,
        };
        if self.shared.users.name(user).await?.is_none() {
            return Err(Status::not_found("there is no such user"));
        }
        let entry = Entry { detail: reason.clone(), ..self.entry(caller, "ban", subject(user), "ok") };
        let ending = self.shared.issuer.ending("ban");
        self.shared.store.ban(user, until, &reason, &ending, &entry).await?;
        tell(&entry);
        self.revoked().await;
        Ok(BanUserResponse {})
    }

    pub(super) async fn lift_ban(&self, caller: &Caller, request: LiftBanRequest) -> Result<LiftBanResponse, Status> {
        self.allow(caller, BAN, "lift_ban").await?;
        let user = user_id(&request.user_id)?;
        let entry = self.entry(caller, "lift_ban", subject(user), "ok");
        self.shared.store.lift_ban(user, &entry).await?;
        tell(&entry);
        Ok(LiftBanResponse {})
    }
}

/// A protocol's time in microseconds since 1970.
fn micros(seconds: i64, nanos: i32) -> Option<i64> {
    seconds.checked_mul(1_000_000)?.checked_add(i64::from(nanos.clamp(0, 999_999_999) / 1_000))
}
