//! Argon2id, a bounded number at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use tokio::sync::Semaphore;
use tonic::Status;

use crate::{HashingConfig, secrets::random, throttle::Place};

/// Bytes of salt and of hash.
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// Hashes passwords on threads of their own, so many at once; some wait, and the others are refused.
pub(crate) struct Hashing {
    params: Params,
    /// What names without a password are checked against, so that they take the same time.
    dummy: String,
    at_work: Arc<Semaphore>,
    /// Who waits or is at work.
    places: Mutex<Places>,
}

struct Places {
    free: usize,
    /// Most of one origin.
    each_max: usize,
    taken: HashMap<Place, usize>,
}

/// A place in the queue.
struct Taken<'a> {
    hashing: &'a Hashing,
    of: Place,
}

impl Hashing {
    /// As the settings want it.
    ///
    /// # Errors
    /// Argon2 knows no such cost, or the system gives no random numbers.
    pub(crate) fn new(config: &HashingConfig) -> Result<Self, String> {
        let params = Params::new(config.memory_kib, config.passes, config.lanes, Some(HASH_BYTES));
        let params = params.map_err(|error| format!("the cost of passwords is none of Argon2: {error}"))?;
        let unknown = random::<HASH_BYTES>().map_err(|status| status.message().to_owned())?;
        let dummy = hash(&params, &unknown).map_err(|status| status.message().to_owned())?;
        let threads = config.threads.max(1);
        let free = threads + config.waiting_max;
        let places = Places { free, each_max: free.div_ceil(2), taken: HashMap::new() };
        Ok(Self { params, dummy, at_work: Arc::new(Semaphore::new(threads)), places: Mutex::new(places) })
    }

    /// The hash to keep, as PHC writes it.
    pub(crate) async fn hash(&self, password: &str, from: Place) -> Result<String, Status> {
        let (params, password) = (self.params.clone(), password.to_owned());
        self.run(from, move || hash(&params, password.as_bytes())).await?
    }

    /// Whether this is the password with that hash; without a hash it takes as long, and is not.
    pub(crate) async fn verify(&self, kept: Option<&str>, password: &str, from: Place) -> Result<bool, Status> {
        let (is_there, kept) = (kept.is_some(), kept.unwrap_or(&self.dummy).to_owned());
        let password = password.to_owned();
        let is_right = self.run(from, move || verify(&kept, password.as_bytes())).await??;
        Ok(is_there && is_right)
    }

    async fn run<T: Send + 'static>(
        &self,
        from: Place,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        let place = self.take(from).ok_or_else(|| Status::resource_exhausted("too many log in at once; try again"))?;
        let permit = Arc::clone(&self.at_work).acquire_owned().await;
        let permit = permit.map_err(|_| Status::unavailable("the service is closing"))?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            // Not before: who gives up waiting does not make room for another thread.
            drop(permit);
            done
        });
        let done = done.await.map_err(|_| Status::internal("a password could not be hashed"));
        drop(place);
        done
    }

    fn take(&self, of: Place) -> Option<Taken<'_>> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let each_max = places.each_max;
        if places.free == 0 || places.taken.get(&of).is_some_and(|taken| *taken >= each_max) {
            return None;
        }
        places.free -= 1;
        *places.taken.entry(of).or_default() += 1;
        Some(Taken { hashing: self, of })
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut places = self.hashing.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.free += 1;
        if let Some(taken) = places.taken.get_mut(&self.of) {
            *taken -= 1;
            if *taken == 0 {
                places.taken.remove(&self.of);
            }
        }
    }
}

fn hash(params: &Params, password: &[u8]) -> Result<String, Status> {
    let salt = random::<SALT_BYTES>()?;
    let hash = argon2id(params.clone(), password, &salt)?;
    let (memory, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
    let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
    Ok(format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${hash}"))
}

fn verify(kept: &str, password: &[u8]) -> Result<bool, Status> {
    let (params, salt, hash) = parse(kept).ok_or_else(|| {
        tracing::error!("a password's hash cannot be read");
        Status::internal("a password's hash cannot be read")
    })?;
    Ok(verify_slices_are_equal(&argon2id(params, password, &salt)?, &hash).is_ok())
}

fn argon2id(params: Params, password: &[u8], salt: &[u8]) -> Result<[u8; HASH_BYTES], Status> {
    let mut hash = [0; HASH_BYTES];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password_into(password, salt, &mut hash).map_err(|error| {
        tracing::error!(%error, "a password could not be hashed");
        Status::internal("a password could not be hashed")
    })?;
    Ok(hash)
}

/// A hash as [`hash`] writes it, and nothing else.
fn parse(kept: &str) -> Option<(Params, Vec<u8>, Vec<u8>)> {
    let mut parts = kept.strip_prefix("$argon2id$v=19$")?.split('$');
    let (cost, salt, hash) = (parts.next()?, parts.next()?, parts.next()?);
    let mut numbers = cost.split(',').zip(["m=", "t=", "p="]).map(|(part, name)| part.strip_prefix(name)?.parse().ok());
    let (memory, passes, lanes) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let params = Params::new(memory, passes, lanes, Some(HASH_BYTES)).ok()?;
    Some((params, STANDARD_NO_PAD.decode(salt).ok()?, STANDARD_NO_PAD.decode(hash).ok()?))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    const CHEAP: HashingConfig = HashingConfig { memory_kib: 8, passes: 1, lanes: 1, threads: 1, waiting_max: 5 };

    #[test]
    fn a_hash_says_what_it_cost_and_by_the_default_that_is_what_is_recommended() {
        let defaults = Hashing::new(&HashingConfig::default()).unwrap();
        assert!(defaults.dummy.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", defaults.dummy);
        let (params, salt, hash) = parse(&defaults.dummy).unwrap();
        assert_eq!((params.m_cost(), params.t_cost(), params.p_cost()), (19_456, 2, 1));
        assert_eq!((salt.len(), hash.len()), (SALT_BYTES, HASH_BYTES));
    }

    /// Made by the reference implementation's own test (argon2 `test.c`, version 0x13, t=2, m=2^8, p=1).
    #[test]
    fn the_reference_hash_is_ours() {
        let reference = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        assert!(verify(reference, b"password").unwrap());
        assert!(!verify(reference, b"passwore").unwrap());
    }

    #[test]
    fn what_is_no_hash_of_ours_is_not_read() {
        for bad in ["", "$argon2i$v=19$m=8,t=1,p=1$AAAA$AAAA", "$argon2id$v=19$m=8,t=1$AAAA$AAAA", "password"] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_password_is_right_or_wrong_and_without_one_wrong() {
        let hashing = Hashing::new(&CHEAP).unwrap();
        let from = Place::default();
        let kept = hashing.hash("correct horse battery", from).await.unwrap();
        assert!(hashing.verify(Some(&kept), "correct horse battery", from).await.unwrap());
        assert!(!hashing.verify(Some(&kept), "Correct horse battery", from).await.unwrap());
        assert!(!hashing.verify(None, "correct horse battery", from).await.unwrap());
        assert_ne!(kept, hashing.hash("correct horse battery", from).await.unwrap());
    }

    #[tokio::test]
    async fn one_origin_takes_at_most_half_of_the_places_and_all_are_bounded() {
        let hashing = Hashing::new(&CHEAP).unwrap();
        let of = |number| Place::of_number(number);
        let some: Vec<_> = (0..3).map(|_| hashing.take(of(1)).unwrap()).collect();
        assert!(hashing.take(of(1)).is_none());
        let others: Vec<_> = (0..3).map(|_| hashing.take(of(2)).unwrap()).collect();
        let refused = hashing.hash("x", of(3)).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        drop((some, others));
        hashing.hash("x", of(3)).await.unwrap();
        let places = hashing.places.lock().unwrap();
        assert!(places.free == 6 && places.taken.is_empty());
    }
}
