//! Tickets: checked by keys that are known already, each taken once.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;
use zonecast_access::{Keys, Ticket, TokenError};

use crate::AdmitError;

/// Lets players in.
#[derive(Debug)]
pub(crate) struct Admission {
    server: String,
    known: Mutex<Known>,
    /// Notified when a ticket names a key that is not known.
    pub(crate) wants_keys: Notify,
}

#[derive(Debug)]
struct Known {
    keys: Keys,
    issuer: String,
    /// Tickets that were taken, until they expire.
    used: HashMap<String, u64>,
}

impl Admission {
    pub(crate) fn new(server: String, keys: Keys, issuer: String) -> Self {
        let known = Mutex::new(Known { keys, issuer, used: HashMap::new() });
        Self { server, known, wants_keys: Notify::new() }
    }

    /// Newer keys.
    pub(crate) fn learn(&self, keys: Keys, issuer: String) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        (known.keys, known.issuer) = (keys, issuer);
    }

    /// Takes a ticket, at this time in seconds since 1970.
    pub(crate) fn admit(&self, token: &str, now_s: u64) -> Result<Ticket, AdmitError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = Ticket::admit(token, &known.keys, &known.issuer, &self.server, now_s).inspect_err(|error| {
            if *error == TokenError::UnknownKey {
                self.wants_keys.notify_one();
            }
        })?;
        known.used.retain(|_, expires_at| *expires_at > now_s);
        match known.used.insert(ticket.id.clone(), ticket.expires_at) {
            None => Ok(ticket),
            Some(_) => Err(AdmitError::Used),
        }
    }
}

#[cfg(test)]
mod tests {
    use zonecast_access::SigningKey;

    use super::*;

    #[test]
    fn a_ticket_lets_in_once_and_while_it_lasts() {
        let key = SigningKey::generate("k").unwrap();
        let keys = Keys::from_jwks(&Keys::jwks([(key.id(), key.public())])).unwrap();
        let admission = Admission::new("zone-7".to_owned(), Keys::default(), "i".to_owned());
        let token = |id: &str, server: &str| {
            let (issuer, server, user, id) = ("i".into(), server.into(), "u".into(), id.into());
            let (character, world) = ("c".into(), "earth".into());
            let ticket =
                Ticket { issuer, server, user, id, issued_at: 100, expires_at: 160, character, world, x: 0.0, y: 0.0 };
            ticket.sign(&key).unwrap()
        };
        let first = token("1", "zone-7");
        assert_eq!(admission.admit(&first, 100), Err(AdmitError::Ticket(TokenError::UnknownKey)));
        admission.learn(keys, "i".to_owned());
        assert_eq!(admission.admit(&first, 100).unwrap().character, "c");
        assert_eq!(admission.admit(&first, 159), Err(AdmitError::Used));
        assert_eq!(admission.admit(&first, 160), Err(AdmitError::Ticket(TokenError::Expired)));
        assert_eq!(admission.admit(&token("2", "zone-8"), 100), Err(AdmitError::Ticket(TokenError::Audience)));
        admission.admit(&token("3", "zone-7"), 100).unwrap();
        assert_eq!(admission.known.lock().unwrap().used.len(), 2);
    }
}
