//! The connection: one driver task per client, which dials, reads, writes and, when the link breaks, begins again.
//!
//! [`dial`] makes a connection and greets the broker; [`driver`] is the life over all connections; [`live`] is the life
//! of one. While one lives there are, beside the driver, a task that reads its [`delivery`] stream and one for each
//! [`lane`] that is written. They end with it, so what the next connection finds is at rest.

use std::sync::{Arc, atomic::AtomicBool};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

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
mod renewing;

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

/// Where handles tell the driver what to do.
#[derive(Debug, Clone)]
pub(crate) struct CommandSender {
    commands: mpsc::UnboundedSender<Command>,
    closes: mpsc::UnboundedSender<oneshot::Sender<()>>,
}

/// Where the driver hears of it. Who closes does not wait behind commands for which there is no room.
pub(crate) struct Commands {
    commands: mpsc::UnboundedReceiver<Command>,
    closes: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
}

/// From handles to driver.
pub(crate) fn commands() -> (CommandSender, Commands) {
    let (commands, commands_receiver) = mpsc::unbounded_channel();
    let (closes, closes_receiver) = mpsc::unbounded_channel();
    (CommandSender { commands, closes }, Commands { commands: commands_receiver, closes: closes_receiver })
}

/// The driver has ended.
#[derive(Debug)]
pub(crate) struct DriverEnded;

impl CommandSender {
    pub(crate) fn send(&self, command: Command) -> Result<(), DriverEnded> {
        match command {
            Command::Close(done) => self.closes.send(done).map_err(|_| DriverEnded),
            command => self.commands.send(command).map_err(|_| DriverEnded),
        }
    }
}

impl Commands {
    /// The next command, `None` when there are no handles any more. Without `has_room`, only that to close. May be dropped
    /// while it waits without losing anything.
    async fn next(&mut self, has_room: bool) -> Option<Command> {
        tokio::select! {
            biased;
            Some(done) = self.closes.recv() => Some(Command::Close(done)),
            command = self.commands.recv(), if has_room => command,
            else => None,
        }
    }

    /// Takes no more. Who has asked for the end meanwhile.
    fn close(&mut self) -> Vec<oneshot::Sender<()>> {
        self.commands.close();
        self.closes.close();
        while self.commands.try_recv().is_ok() {}
        std::iter::from_fn(|| self.closes.try_recv().ok()).collect()
    }
}

/// By which an operation's answer finds its way back.
pub(crate) struct Token {
    pub(crate) reply: oneshot::Sender<Result<u64, OperationError>>,
    /// Held until the answer, so that waiting operations are bounded even when those who asked have stopped waiting.
    pub(crate) _permit: OwnedSemaphorePermit,
}
