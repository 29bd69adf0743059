//! The broker without its input and output: who is interested in what, what a session may do, what waits for it.
//!
//! [`Router`] holds the interest of all sessions (zones on an R-tree per world, topic patterns in a trie) and matches
//! events against it. [`SessionRules`] checks what a session asks for and turns it into an [`InterestChange`].
//! [`Outbox`] holds what waits for one session and what it has not acknowledged, [`ControlLog`] what it was told, and
//! [`Tickets`] the publishes that wait to be processed.
//!
//! Deliberately absent: sockets, threads, clocks and randomness. Time is an argument, so that a recorded run can be
//! replayed to the byte. The shell around this is the `zonecast-broker` crate.
//!
//! Start at [`Router::route`].

mod control_log;
mod histogram;
mod interest;
mod limits;
mod outbound;
mod outbox;
mod rights;
mod router;
mod session;
mod standing;
mod tickets;
mod token_bucket;

pub use control_log::{ControlLog, LeftFrames, NeverSaid};
pub use histogram::DurationHistogram;
pub use interest::{InterestChange, InterestOp, KindFilter, SessionId, TopicInterest, ZoneInterest};
pub use limits::OutboxLimits;
pub use outbound::{Arrival, EventHead, OutboundEvent, Outcome, Ticket};
pub use outbox::{Chunks, Datagrams, Drained, LeftDeliveries, NeverSent, Outbox, Pushed, ResumePoint, Succession};
pub use rights::SessionRights;
pub use router::{Holdings, Router, WorldStats};
pub use session::{Admitted, RefusedPublish, SessionRules};
pub use standing::Standing;
pub use tickets::{Settled, Tickets};
pub use token_bucket::TokenBucket;
