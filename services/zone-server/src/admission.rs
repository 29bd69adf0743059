//! Tickets: checked by keys that are known already, each taken once.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use zonecast_access::{Keys, Ticket, TokenError};

use crate::AdmitError;

/// How long it is known that a ticket was taken: much longer than any lasts, by a clock that nobody sets back.
const KNOWN_FOR: Duration = Duration::from_secs(3_600);

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
    /// Tickets that were taken, and when.
    used: HashMap<String, Instant>,
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

    /// Takes a ticket, at this time in seconds since 1970, which is now.
    pub(crate) fn admit(&self, token: &str, now_s: u64, now: Instant) -> Result<Ticket, AdmitError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = Ticket::admit(token, &known.keys, &known.issuer, &self.server, now_s).inspect_err(|error| {
            if *error == TokenError::UnknownKey {
                self.wants_keys.notify_one();
            }
        })?;
        known.used.retain(|_, taken_at| now.duration_since(*taken_at) < KNOWN_FOR);
        match known.used.entry(ticket.id.clone()) {
            Entry::Vacant(free) => {
                free.insert(now);
                Ok(ticket)
            }
            Entry::Occupied(_) => Err(AdmitError::Used),
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
        let (first, begun) = (token("1", "zone-7"), Instant::now());
        let admit = |token: &str, now_s: u64| admission.admit(token, now_s, begun);
        assert_eq!(admit(&first, 100), Err(AdmitError::Ticket(TokenError::UnknownKey)));
        admission.learn(keys, "i".to_owned());
        assert_eq!(admit(&first, 100).unwrap().character, "c");
        assert_eq!(admit(&first, 159), Err(AdmitError::Used));
        assert_eq!(admit(&first, 160), Err(AdmitError::Ticket(TokenError::Expired)));
        assert_eq!(admit(&token("2", "zone-8"), 100), Err(AdmitError::Ticket(TokenError::Audience)));
        // The machine's clock was an hour ahead for a moment.
        let _ = admit(&token("3", "zone-7"), 3_700);
        assert_eq!(admit(&first, 101), Err(AdmitError::Used));
        assert!(admission.admit(&token("4", "zone-7"), 100, begun + KNOWN_FOR).is_ok());
        assert_eq!(admission.known.lock().unwrap().used.len(), 1, "what was long ago is forgotten");
    }
}
