//! Logins: how they begin, go on and end.

use std::collections::BTreeSet;

use tonic::Status;
use zonecast_access::{RightsClaim, Subject};
use zonecast_doors::Caller;
use zonecast_protocol::auth::v1::{
    LogOutEverywhereRequest, LogOutEverywhereResponse, LogOutRequest, LogOutResponse, RefreshRequest, RefreshResponse,
    Tokens,
};
use zonecast_store::{Uuid, from_micros, new_id, timestamp, to_micros};

use super::{Auth, audit::tell, player};
use crate::{
    secrets::RefreshToken,
    store::{Entry, LoggedIn, NewLogin, NextTurn, Refreshed, subject},
};

impl Auth {
    /// A login that begins now, with its first refresh token.
    pub(super) fn new_login(&self) -> Result<(NewLogin, RefreshToken), Status> {
        let (now, lives) = (self.shared.config.clock.now(), &self.shared.config.lives);
        let token = RefreshToken::new()?;
        let login = NewLogin {
            id: new_id(),
            family: token.family(),
            turn: token.turn(),
            created_at: to_micros(now),
            expires_at: to_micros(now + lives.refresh_token.min(lives.login)),
            ending: self.shared.issuer.ending("too_many"),
        };
        Ok((login, token))
    }

    /// What a player is given.
    pub(super) fn tokens(
        &self,
        user: Uuid,
        login: Uuid,
        refresh: &RefreshToken,
        expires_at: i64,
    ) -> Result<Tokens, Status> {
        let (subject, login) = (Subject::User(user.hyphenated().to_string()), login.hyphenated().to_string());
        let ends_at = Some(from_micros(expires_at));
        let access = self.shared.issuer.sign(subject, login, ends_at, BTreeSet::new(), &RightsClaim::default())?;
        Ok(Tokens {
            access_token: access.text,
            access_expires_at: Some(timestamp(access.expires_at)),
            refresh_token: refresh.show(),
            refresh_expires_at: Some(timestamp(from_micros(expires_at))),
        })
    }

    /// After a login that was tried in the store: the tokens, or what to tell instead.
    pub(super) async fn settled(
        &self,
        caller: &Caller,
        event: &'static str,
        user: Uuid,
        outcome: LoggedIn,
        (login, refresh): (&NewLogin, &RefreshToken),
    ) -> Result<Tokens, Status> {
        match outcome {
            LoggedIn::Done { others_ended } => {
                tell(&self.entry(caller, event, subject(user), "ok"));
                if others_ended {
                    self.revoked().await;
                }
                self.tokens(user, login.id, refresh, login.expires_at)
            }
            LoggedIn::Banned(until, reason) => {
                self.note(self.entry(caller, event, subject(user), "banned")).await;
                Err(Status::permission_denied(banned(until, &reason)))
            }
            LoggedIn::Changed => {
                self.note(self.entry(caller, event, subject(user), "refused")).await;
                Err(Status::unauthenticated("what was shown has just changed or was used already; begin again"))
            }
        }
    }

    pub(super) async fn refresh(&self, caller: &Caller, request: RefreshRequest) -> Result<RefreshResponse, Status> {
        let unknown = || Status::unauthenticated("the refresh token is not known or has expired; log in again");
        let shown = RefreshToken::parse(&request.refresh_token).ok_or_else(unknown)?;
        let next = shown.next()?;
        let lives = &self.shared.config.lives;
        let step = NextTurn {
            family: shown.family(),
            turn: shown.turn(),
            next: next.turn(),
            idle_until: to_micros(self.shared.config.clock.now() + lives.refresh_token),
            lasts: i64::try_from(lives.login.as_micros()).unwrap_or(i64::MAX),
        };
        // Made-up ones cost no more than a look.
        if !self.shared.store.has_family(&step.family).await? {
            return Err(unknown());
        }
        let ending = self.shared.issuer.ending("reused");
        let reused = self.entry(caller, "refresh", String::new(), "reused");
        match self.shared.store.refresh(&step, &ending, &reused).await? {
            Refreshed::Done { login, user, expires_at } => {
                tracing::debug!(%user, "a login was refreshed");
                Ok(RefreshResponse { tokens: Some(self.tokens(user, login, &next, expires_at)?) })
            }
            Refreshed::Reused { user, .. } => {
                tell(&Entry { subject: subject(user), ..reused });
                self.revoked().await;
                Err(Status::unauthenticated(
                    "the refresh token was used before, and so the login has ended; log in again",
                ))
            }
            Refreshed::Unknown => Err(unknown()),
        }
    }

    pub(super) async fn log_out(&self, caller: &Caller, request: LogOutRequest) -> Result<LogOutResponse, Status> {
        let ending = self.shared.issuer.ending("log_out");
        let entry = self.entry(caller, "log_out", String::new(), "ok");
        let user = if request.refresh_token.is_empty() {
            if caller.claims().is_none() {
                return Err(Status::invalid_argument("give the refresh token, or send the access token"));
            }
            let (user, login) = player(caller)?;
            self.shared.store.log_out(user, login, &ending, &entry).await?;
            Some(user)
        } else {
            match RefreshToken::parse(&request.refresh_token) {
                Some(token) if self.shared.store.has_family(&token.family()).await? => {
                    self.shared.store.log_out_family(&token.family(), &ending, &entry).await?
                }
                _ => None,
            }
        };
        if let Some(user) = user {
            tell(&Entry { subject: subject(user), ..entry });
            self.revoked().await;
        }
        Ok(LogOutResponse {})
    }

    pub(super) async fn log_out_everywhere(
        &self,
        caller: &Caller,
        _request: LogOutEverywhereRequest,
    ) -> Result<LogOutEverywhereResponse, Status> {
        let (user, _) = player(caller)?;
        let entry = self.entry(caller, "log_out_everywhere", subject(user), "ok");
        let ending = self.shared.issuer.ending("log_out_everywhere");
        self.shared.store.log_out_everywhere(user, &ending, &entry).await?;
        tell(&entry);
        self.revoked().await;
        Ok(LogOutEverywhereResponse {})
    }
}

/// What who is banned is told.
fn banned(until: i64, reason: &str) -> String {
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    match until {
        super::bans::FOREVER => format!("banned for good{why}"),
        until => {
            let until = from_micros(until);
            format!("banned until {} {:02}:{:02} UTC{why}", until.date(), until.hour(), until.minute())
        }
    }
}
