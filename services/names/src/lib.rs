//! The names that people give: which there may be, when two are the same, and when two look the same.
//!
//! Users and characters bear them. A service keeps a name's [`shown`](Name::shown) form, and has its database keep
//! [`key`](Name::key) and [`lookalike`](Name::lookalike) unique: they are the same for both databases, byte by byte.
//!
//! Deliberately absent: whose name it is, and what else is taken.
//!
//! Start at [`Name::new`].

mod name;
mod reserved;

pub use name::{Name, NameError, lookup_key};
