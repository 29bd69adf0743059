//! A real broker over real QUIC on loopback, talked to by a bare-bones peer that can also misbehave.
//!
//! Whatever does not depend on the number of workers runs with one and with two.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper fails the test")]

mod admission;
mod bad_input;
mod holes;
mod hostile;
mod issuer;
mod knocking;
mod lifecycle;
mod operations;
mod raw;
mod relay;
mod reliability;
mod reload;
mod renewal;
mod restart;
mod resume;
mod routing;
mod tokens;
mod zones;

/// Runs an async test body with one worker and with two.
macro_rules! with_one_and_two_workers {
    ($($name:ident)*) => {
        mod one_worker {
            $(#[test]
            fn $name() {
                crate::raw::block_on(super::$name(1));
            })*
        }
        mod two_workers {
            $(#[test]
            fn $name() {
                crate::raw::block_on(super::$name(2));
            })*
        }
    };
}
pub(crate) use with_one_and_two_workers;
