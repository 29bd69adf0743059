//! Callers as the entrance would have found them.

use std::collections::BTreeSet;

use tonic::Request;
use zonecast_access::Claims;
use zonecast_doors::Caller;
use zonecast_protocol::Rights;

/// Somebody (`user:ID`, `server:NAME`, `service:NAME`) with these scopes, and no rights at brokers.
#[must_use]
pub fn caller(subject: &str, scopes: &[&str]) -> Caller {
    caller_with(subject, scopes, Rights::default())
}

/// As [`caller`], with these rights.
#[must_use]
pub fn caller_with(subject: &str, scopes: &[&str], rights: Rights) -> Caller {
    Caller::known(Claims {
        issuer: "test".to_owned(),
        audience: BTreeSet::from(["zonecast".to_owned()]),
        subject: subject.parse().unwrap(),
        login: "login".to_owned(),
        issued_at: 0,
        expires_at: u64::MAX,
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        rights,
    })
}

/// A request of this caller.
#[must_use]
pub fn by<T>(caller: Caller, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(caller);
    request
}
