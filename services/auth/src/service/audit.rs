//! What has happened is noted, and can be read.

use tonic::Status;
use zonecast_doors::{Caller, Origin};
use zonecast_protocol::auth::v1::{GetKeysRequest, GetKeysResponse, ListAuditRequest, ListAuditResponse};
use zonecast_store::{PageToken, Uuid};

use super::Auth;
use crate::{store::Entry, throttle::Place};

/// Needed for reading the log.
pub(super) const AUDIT: &str = "auth.audit";
/// The list that page tokens are for.
const LIST: &str = "audit";
/// Rows on a page where none are asked for, and the most.
const PAGE_ROWS: u32 = 50;
const PAGE_ROWS_MAX: u32 = 1_000;
/// Most characters of a name that nobody may have.
const NAME_CHARS_MAX: usize = 64;

impl Auth {
    /// Something that somebody does now.
    pub(super) fn entry(&self, caller: &Caller, event: &'static str, subject: String, outcome: &'static str) -> Entry {
        let origin = match caller.origin() {
            Origin::Address(address) => address.to_string(),
            Origin::Client(source) => format!("client:{source:016x}"),
            Origin::Within => "within".to_owned(),
        };
        Entry { at: self.now(), event, actor: caller.to_string(), subject, origin, outcome, detail: String::new() }
    }

    /// Notes what changed nothing else. That it cannot be is no reason to answer otherwise.
    pub(super) async fn note(&self, entry: Entry) {
        tell(&entry);
        if let Err(error) = self.shared.store.note(&entry).await {
            tracing::error!(reason = error.kind(), event = entry.event, "the audit log cannot be written");
        }
    }

    /// Refuses a caller without a scope, and notes it: as often as somebody there may be wrong, since each takes room, and of
    /// those alone who have said who they are.
    pub(super) async fn allow(&self, caller: &Caller, scope: &str, event: &'static str) -> Result<(), Status> {
        let outcome = caller.require(scope);
        if let Err(status) = &outcome
            && caller.claims().is_some()
            && self.shared.throttle.attempt(None, Place::of(caller.origin()), self.now()).is_ok()
        {
            let detail = status.message().to_owned();
            self.note(Entry { detail, ..self.entry(caller, event, String::new(), "denied") }).await;
        }
        outcome
    }

    pub(super) async fn list_audit(
        &self,
        caller: &Caller,
        request: ListAuditRequest,
    ) -> Result<ListAuditResponse, Status> {
        self.allow(caller, AUDIT, "list_audit").await?;
        let rows_max = rows_max(request.page_size)?;
        let before = page_key(LIST, &request.page_token)?.unwrap_or(Uuid::max());
        let store = &self.shared.store;
        let mut entries = match request.subject.as_str() {
            "" => store.audit(before, rows_max + 1).await?,
            subject => store.audit_of(subject, before, rows_max + 1).await?,
        };
        let last = |entry: &zonecast_protocol::auth::v1::AuditEntry| Uuid::try_parse(&entry.id).unwrap_or_default();
        let next_page_token = next_page(LIST, &mut entries, rows_max, last);
        self.note(self.entry(caller, "list_audit", request.subject.chars().take(NAME_CHARS_MAX).collect(), "ok")).await;
        Ok(ListAuditResponse { entries, next_page_token })
    }

    pub(super) async fn get_keys(&self, _caller: &Caller, _request: GetKeysRequest) -> Result<GetKeysResponse, Status> {
        Ok(GetKeysResponse { jwks: String::from_utf8_lossy(&self.shared.issuer.jwks()).into_owned() })
    }
}

/// One line in the log, whatever the names.
pub(super) fn tell(entry: &Entry) {
    let Entry { event, actor, subject, origin, outcome, detail, .. } = entry;
    tracing::info!(event, actor, subject = shown(subject), origin, outcome, detail = shown(detail), "auth");
}

/// A text that somebody has sent, on one line and not too long.
fn shown(text: &str) -> String {
    text.chars()
        .take(500)
        .flat_map(|character| match character {
            '"' | '\'' => character.to_string().chars().collect::<Vec<_>>(),
            other => other.escape_debug().collect(),
        })
        .collect()
}

/// A name that was given for an account that is not known.
pub(super) fn unknown(name: &str) -> String {
    format!("name:{}", shown(&name.chars().take(NAME_CHARS_MAX).collect::<String>()))
}

/// How many rows a page has.
pub(super) fn rows_max(page_size: i32) -> Result<u32, Status> {
    match u32::try_from(page_size) {
        Ok(0) => Ok(PAGE_ROWS),
        Ok(size) => Ok(size.min(PAGE_ROWS_MAX)),
        Err(_) => Err(Status::invalid_argument("page_size is below 0")),
    }
}

/// The row before the page.
pub(super) fn page_key(list: &'static str, token: &str) -> Result<Option<Uuid>, Status> {
    let bad = |error: zonecast_store::BadPageToken| Status::invalid_argument(error.to_string());
    let key = PageToken::decode(list, token).map_err(bad)?;
    key.map(|key| Uuid::from_slice(&key).map_err(|_| bad(zonecast_store::BadPageToken))).transpose()
}

/// Takes off the row that was read to know whether there is a next page, and gives what to ask for it with.
pub(super) fn next_page<T>(list: &'static str, rows: &mut Vec<T>, rows_max: u32, key: impl Fn(&T) -> Uuid) -> String {
    let is_last = rows.len() <= rows_max as usize;
    rows.truncate(rows_max as usize);
    match rows.last() {
        Some(last) if !is_last => PageToken::encode(list, key(last).as_bytes()),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_name_is_it_stays_on_one_line() {
        let name = "zoe\nlevel=ERROR \u{2028}\u{202e}\r\0\u{1b}[31m";
        let told = unknown(name);
        assert!(!told.contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{202e}')), "{told}");
        assert!(unknown(&"x".repeat(1_000_000)).len() < 100);
    }
}
