//! What can go wrong, one type per operation. Each says what to do about it.

use std::time::Duration;

use thiserror::Error;
use zonecast_protocol::{ErrorCode, GeometryError, NameError, Refusal};

use crate::tls::TlsError;

mod link;

pub use link::LinkError;

/// Why [`Client::connect`](crate::Client::connect) failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The client id breaks the grammar.
    #[error(transparent)]
    ClientId(NameError),
    /// No broker's address was given.
    #[error("no broker is named; give ClientConfig::address at least once")]
    NoAddress,
    /// An address is not `host:port`.
    #[error("{address:?} is no address; give host:port, an IPv6 address in brackets")]
    BadAddress {
        /// The text.
        address: String,
    },
    /// It was not said whom to trust.
    #[error("no TLS configuration is given; give ClientConfig::tls the CA that signed the broker's certificate")]
    NoTls,
    /// An option makes no sense.
    #[error("{what}")]
    BadOption {
        /// Which one, and what it may be.
        what: &'static str,
    },
    /// Certificates or key are not usable.
    #[error(transparent)]
    Tls(TlsError),
    /// No UDP socket could be opened.
    #[error("cannot open a UDP socket: {0}; check the limits of open files and the network namespace")]
    Socket(std::io::Error),
    /// No broker could be reached in time.
    #[error("no broker answered within {} s; the last attempt: {last}", waited.as_secs_f64())]
    Unreachable {
        /// How long it was tried.
        waited: Duration,
        /// What became of the last attempt.
        last: LinkError,
    },
    /// A broker was reached, and trying again would not help.
    #[error("{0}")]
    Rejected(LinkError),
}

impl ConnectError {
    /// The variant's name, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ClientId(_) => "client_id",
            Self::NoAddress => "no_address",
            Self::BadAddress { .. } => "bad_address",
            Self::NoTls => "no_tls",
            Self::BadOption { .. } => "bad_option",
            Self::Tls(error) => error.kind(),
            Self::Socket(_) => "socket",
            Self::Unreachable { .. } => "unreachable",
            Self::Rejected(error) => error.kind(),
        }
    }
}

/// Why a publish failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Not sent: the broker would refuse it.
    #[error("not published: {0}")]
    Invalid(Refusal),
    /// The broker refused it; it reached nobody.
    #[error("the broker refused the event: {0}")]
    Refused(Refusal),
    /// Not all whom it concerns have processed it: a receiver was lost ([`ErrorCode::SessionLost`]) or rejected it
    /// ([`ErrorCode::Poison`]). Others may have processed it.
    #[error("the event was not processed by all: {0}")]
    Unprocessed(Refusal),
    /// Not all whom it concerns have said in time that they processed it. They may have, or may still.
    #[error("not everyone has processed the event in time; some may have")]
    Expired,
    /// The connection was lost before the answer came, and the event is of class transient, which is not sent twice: it
    /// may or may not have been routed.
    #[error("the connection was lost before the answer; the event may or may not have been routed")]
    ConnectionLost,
    /// Not sent: the lane had no room for as long as `ClientConfig::publish_timeout` permits.
    #[error("no room on the lane within {} s; is the broker away, or slower than this publisher?", waited.as_secs_f64())]
    TimedOut {
        /// How long it was waited for.
        waited: Duration,
    },
    /// Not sent: the lane has no room now. Only from [`Client::try_publish`](crate::Client::try_publish).
    #[error("the lane is full; wait with Client::publish, or leave the event out")]
    LaneFull,
    /// Not sent: the event that is to be answered names no topic for answers.
    #[error("the event asks for no reply")]
    NoReplyTopic,
    /// The client is closed; an event whose answer was awaited may or may not have been routed.
    #[error("the client is closed; connect a new one")]
    Closed,
}

impl PublishError {
    /// From the broker's refusal.
    pub(crate) fn from_refusal(refusal: Refusal) -> Self {
        match refusal.code {
            ErrorCode::SessionLost | ErrorCode::Poison => Self::Unprocessed(refusal),
            ErrorCode::Expired => Self::Expired,
            _ => Self::Refused(refusal),
        }
    }

    /// The variant's name, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::Refused(_) => "refused",
            Self::Unprocessed(_) => "unprocessed",
            Self::Expired => "expired",
            Self::ConnectionLost => "connection_lost",
            Self::TimedOut { .. } => "timed_out",
            Self::LaneFull => "lane_full",
            Self::NoReplyTopic => "no_reply_topic",
            Self::Closed => "closed",
        }
    }
}

/// Why zones could not be subscribed, changed or handed over.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ZoneError {
    /// The client has a zone subscription already.
    #[error("this client has a zone subscription already; change its zones, or drop it first")]
    AlreadySubscribed,
    /// Not sent: the broker would refuse it.
    #[error("the zones were not changed: {0}")]
    Invalid(Refusal),
    /// The broker refused it; nothing changed.
    #[error("the broker refused the change of zones: {0}")]
    Refused(Refusal),
    /// A hand-over's answer did not come. The zones are still wanted here, and may be held by the receiver as well.
    #[error("the connection was lost during the hand-over; ask the receiver what it holds before handing over again")]
    ConnectionLost,
    /// The zone subscription was dropped.
    #[error("the zone subscription was dropped; subscribe again")]
    SubscriptionEnded,
    /// The client is closed.
    #[error("the client is closed; connect a new one")]
    Closed,
}

impl ZoneError {
    /// The variant's name, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::AlreadySubscribed => "already_subscribed",
            Self::Invalid(_) => "invalid",
            Self::Refused(_) => "refused",
            Self::ConnectionLost => "connection_lost",
            Self::SubscriptionEnded => "subscription_ended",
            Self::Closed => "closed",
        }
    }
}

/// Why a topic could not be subscribed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// Pattern or queue group break the grammar.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A topic could match both this and another subscription of the client, at least one of them in a queue group.
    ///
    /// The broker sends a client each event once and does not say for which subscription, so the client could not tell
    /// whether it is its group's turn.
    #[error("{pattern} overlaps with {other}, and one of them is in a queue group; use a second Client for it")]
    OverlapsQueueGroup {
        /// The new pattern.
        pattern: String,
        /// The pattern of the subscription that exists.
        other: String,
    },
    /// The broker refused it.
    #[error("the broker refused the subscription: {0}")]
    Refused(Refusal),
    /// The client is closed.
    #[error("the client is closed; connect a new one")]
    Closed,
}

impl SubscribeError {
    /// The variant's name, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Name(_) => "name",
            Self::OverlapsQueueGroup { .. } => "overlaps_queue_group",
            Self::Refused(_) => "refused",
            Self::Closed => "closed",
        }
    }
}

/// Why a request has no reply.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Nobody listens to the topic.
    #[error("nobody listens to {topic}; is the service running, and connected?")]
    NoResponder {
        /// The topic.
        topic: String,
    },
    /// No reply came in time; the request may have been carried out.
    #[error("no reply within {} s; the request may have been carried out", waited.as_secs_f64())]
    TimedOut {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The system gives no random numbers, without which others could guess where the reply is awaited.
    #[error("the system gives no random numbers, by which the reply would be awaited")]
    NoRandomness,
    /// The request could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The topic for replies could not be subscribed.
    #[error("cannot listen for replies: {0}")]
    Subscribe(#[from] SubscribeError),
}

impl RequestError {
    /// The variant's name, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoResponder { .. } => "no_responder",
            Self::TimedOut { .. } => "timed_out",
            Self::NoRandomness => "no_randomness",
            Self::Publish(error) => error.kind(),
            Self::Subscribe(error) => error.kind(),
        }
    }
}

/// What an orderly end left undone.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CloseError {
    /// Publishes that had not been sent when the time was up, or when there was no connection.
    #[error("{publishes} queued publishes were never sent; wait for their acknowledgements before closing")]
    Unsent {
        /// How many.
        publishes: usize,
    },
    /// As [`ClosedReason::Aborted`](crate::ClosedReason::Aborted): what was on its way may not have arrived.
    #[error(
        "the client's task was stopped, with its runtime or by a panic, before it took leave; {publishes} queued \
         publishes were never sent; close before the runtime ends"
    )]
    Aborted {
        /// How many publishes were certainly never sent.
        publishes: usize,
    },
}

impl From<GeometryError> for ZoneError {
    fn from(error: GeometryError) -> Self {
        Self::Invalid(error.into())
    }
}
