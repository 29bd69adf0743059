//! Trials of the delivery promises: client and broker as they are, on a network that fails on purpose, watched by a
//! model that shares no code with them.
//!
//! [`Observer`] is the model of what may be observed. [`network`] is a network in memory with seeded faults. A [`Plan`] is
//! drawn from a seed, and [`perform`] plays it in virtual time.

pub mod network;
mod observer;
mod plan;
mod report;
mod shares;
mod trial;

pub use observer::*;
pub use plan::{ClientPlan, Place, Plan, PublisherPlan, Trouble, TroubleKind};
pub use report::Report;
pub use shares::{Kind, Shares};
pub use trial::{HEALED_WITHIN, Identity, Outcome, SLOW_CONSUMERS, TROUBLES, Teller, TroubleCounts, perform};
