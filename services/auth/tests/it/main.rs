//! The auth service with the users service beside it, behind an entrance that trusts its tokens, on both databases.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper fails the test")]

mod administration;
mod certificates;
mod certified;
mod credentials;
mod deletion;
mod external;
mod faults;
mod ground;
mod keys;
mod logins;
mod pages;
mod passwords;
mod provider;
