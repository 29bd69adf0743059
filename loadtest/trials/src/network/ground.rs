//! What QUIC endpoints on the network stand on: the clock, where their tasks run, and keys that are the same each time.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use quinn::{
    AsyncTimer, AsyncUdpSocket, ConnectionId, ConnectionIdGenerator, EndpointConfig, Runtime, TokioRuntime,
    crypto::{CryptoError, HmacKey},
};
use tokio::task::AbortHandle;

/// The paused clock, and background tasks in the caller's `LocalSet`, which ends them with everything else in it.
#[derive(Debug)]
pub struct LocalRuntime;

impl Runtime for LocalRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::task::spawn_local(task);
    }

    fn wrap_udp_socket(&self, _: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

/// The paused clock, and background tasks of one client, which are ended when its process is killed.
#[derive(Debug, Default)]
pub struct ClientGround {
    tasks: Mutex<Vec<AbortHandle>>,
}

impl ClientGround {
    /// Ends all tasks.
    pub fn kill(&self) {
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }
}

impl Runtime for ClientGround {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|task| !task.is_finished());
        tasks.push(tokio::spawn(task).abort_handle());
    }

    fn wrap_udp_socket(&self, _: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

/// Settings without randomness for a client's endpoint.
#[must_use]
pub fn endpoint_config(reset_key: u64, seed: u64) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(ResetKey(reset_key)));
    let endpoints = AtomicU64::new(0);
    config.cid_generator(move || {
        let endpoint = endpoints.fetch_add(1, Ordering::Relaxed);
        Box::new(SeededConnectionIds(fastrand::Rng::with_seed(mixed(seed, endpoint))))
    });
    config.rng_seed(Some(seed_bytes(mixed(seed, u64::MAX))));
    config
}

/// A long seed out of a short one.
pub(crate) fn seed_bytes(seed: u64) -> [u8; 32] {
    let mut random = fastrand::Rng::with_seed(seed);
    std::array::from_fn(|_| random.u8(..))
}

/// Two numbers made into one that depends on every bit of both (the finish of MurmurHash3).
pub(crate) fn mixed(a: u64, b: u64) -> u64 {
    let mut x = a ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ x >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ x >> 33
}

/// A signature that anyone could forge, which nobody in the simulation tries.
struct ResetKey(u64);

impl ResetKey {
    fn digest(&self, data: &[u8]) -> [u8; 32] {
        let sum = data.iter().fold(self.0, |sum, byte| mixed(sum, u64::from(*byte)));
        seed_bytes(sum)
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(&self.digest(data)[..signature_out.len()]);
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        if self.digest(data) == *signature { Ok(()) } else { Err(CryptoError) }
    }
}

/// Connection ids drawn from a seed. Unknown ones are taken for those of an earlier run, which is told to its owner.
struct SeededConnectionIds(fastrand::Rng);

impl ConnectionIdGenerator for SeededConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.0.u64(..).to_le_bytes())
    }

    fn cid_len(&self) -> usize {
        size_of::<u64>()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
