//! The connection: one driver task per client, which dials, reads, writes and, when the link breaks, begins again.
//!
//! [`dial`] makes a connection and greets the broker; [`driver`] is the life over all connections; [`live`] is the life
//! of one. While one lives there are, beside the driver, a task that reads its [`delivery`] stream and one for each
//! [`lane`] that is written. They end with it, so what the next connection finds is at rest.

use std::sync::{Arc, atomic::AtomicBool};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    handle::Lane,
    session::{Operation, OperationError},
};

mod delivery;
mod dial;
mod dispatch;
mod driver;
mod effects;
mod lane;
mod live;

pub(crate) use driver::Driver;

/// What a handle tells the driver.
pub(crate) enum Command {
    /// Carry this out, unless the subscription that it is for has ended.
    Operate { operation: Operation, token: Option<Token>, alive: Option<Arc<AtomicBool>> },
    /// The first publish on this lane is queued.
    LaneOpened(Arc<Lane>),
    /// Take leave of the broker, then answer.
    Close(oneshot::Sender<()>),
}

/// By which an operation's answer finds its way back.
pub(crate) struct Token {
    pub(crate) reply: oneshot::Sender<Result<u64, OperationError>>,
    /// Held until the answer, so that waiting operations are bounded even when those who asked have stopped waiting.
    pub(crate) _permit: OwnedSemaphorePermit,
}
