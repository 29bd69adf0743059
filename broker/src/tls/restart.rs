//! Keys that are the same after a restart, so that clients notice it at once.
//!
//! A broker that was killed cannot say goodbye. Its successor does not know the old connections, but can answer their
//! packets with a stateless reset that the clients believe: if it computes the same reset tokens as its predecessor,
//! and recognises the connection ids as its own kind. Both follow from one secret.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig};
use quinn_proto::InvalidCid;
use thiserror::Error;

/// Labels that keep the keys apart, though they come from one secret.
const RESET_LABEL: &[u8] = b"zonecast v1 stateless reset tokens";
const CONNECTION_ID_LABEL: &[u8] = b"zonecast v1 connection ids";

/// Fewest bytes of a secret: as many as the keys made of it have.
const SECRET_BYTES_MIN: usize = 32;

/// Time between two stateless resets of one endpoint. After a restart every client needs one at the same time; quinn's
/// 20 ms would let 500 of them wait for 10 s. A reset is shorter than what it answers, so nothing is amplified.
const RESET_INTERVAL: Duration = Duration::from_micros(50);

/// A secret that a broker keeps over restarts. Without one of its own the private key of its certificate is it.
#[derive(Clone)]
pub struct ResetSecret(Arc<[u8]>);

/// The secret is too short to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{bytes} bytes are too few for a secret; give at least {SECRET_BYTES_MIN} random ones")]
pub struct SecretTooShort {
    /// How many there are.
    pub bytes: usize,
}

impl ResetSecret {
    /// Takes the bytes for a secret.
    ///
    /// # Errors
    /// There are fewer than 32.
    pub fn new(bytes: &[u8]) -> Result<Self, SecretTooShort> {
        if bytes.len() < SECRET_BYTES_MIN {
            return Err(SecretTooShort { bytes: bytes.len() });
        }
        Ok(Self(bytes.into()))
    }

    /// For the key of a certificate, which is a secret in any case.
    pub(super) fn of_key(der: &[u8]) -> Self {
        Self(der.into())
    }

    /// QUIC's settings for all endpoints of a broker that has this secret.
    pub(crate) fn endpoint_config(&self) -> EndpointConfig {
        let secret = hmac::Key::new(HMAC_SHA256, &self.0);
        let key = |label| hmac::Key::new(HMAC_SHA256, hmac::sign(&secret, label).as_ref());
        let ids = key(CONNECTION_ID_LABEL);
        let mut config = EndpointConfig::new(Arc::new(key(RESET_LABEL)));
        config
            .min_reset_interval(RESET_INTERVAL)
            .cid_generator(move || Box::new(ConnectionIds { key: ids.clone(), random: RandomState::new(), drawn: 0 }));
        config
    }
}

/// Random bytes of a connection id, and bytes that show whose kind it is. quinn's own generator has three random ones:
/// with thousands of clients, some packets of old connections would fall on an id that is in use again, and be ignored.
const RANDOM_BYTES: usize = 5;
const TAG_BYTES: usize = 3;
const ID_BYTES: usize = RANDOM_BYTES + TAG_BYTES;

/// Makes connection ids that a broker with the same secret recognises.
struct ConnectionIds {
    key: hmac::Key,
    /// Ids must differ, no more; who guesses one still lacks the keys of its connection.
    random: RandomState,
    drawn: u64,
}

impl ConnectionIds {
    fn tag(&self, random: &[u8]) -> [u8; TAG_BYTES] {
        hmac::sign(&self.key, random).as_ref().first_chunk().copied().unwrap_or_default()
    }
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        self.drawn += 1;
        let mut id = self.random.hash_one(self.drawn).to_be_bytes();
        let tag = self.tag(&id[..RANDOM_BYTES]);
        id[RANDOM_BYTES..].copy_from_slice(&tag);
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        match id.split_at_checked(RANDOM_BYTES) {
            Some((random, tag)) if tag == self.tag(random) => Ok(()),
            _ => Err(InvalidCid),
        }
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

impl fmt::Debug for ResetSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResetSecret(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_long_and_not_shown() {
        assert_eq!(ResetSecret::new(&[b'x'; 31]).unwrap_err(), SecretTooShort { bytes: 31 });
        let secret = ResetSecret::new(&[b'x'; 32]).unwrap();
        assert!(!format!("{secret:?}").contains("120"), "{secret:?}");
    }

    #[test]
    fn ids_are_recognised_by_who_has_the_secret_and_by_nobody_else() {
        let ids =
            |key: &[u8]| ConnectionIds { key: hmac::Key::new(HMAC_SHA256, key), random: RandomState::new(), drawn: 0 };
        let (mut before, after, other) = (ids(b"a"), ids(b"a"), ids(b"b"));
        let drawn: std::collections::HashSet<_> = (0..1_000).map(|_| before.generate_cid()).collect();
        assert_eq!(drawn.len(), 1_000);
        for id in drawn {
            assert_eq!(id.len(), after.cid_len());
            assert!(after.validate(&id).is_ok() && other.validate(&id).is_err());
        }
        assert!(after.validate(&ConnectionId::new(&[1, 2])).is_err());
    }
}
