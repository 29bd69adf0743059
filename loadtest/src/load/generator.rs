//! A generator process: hosts publishers or sessions, as the conductor orders.

mod arrivals;
mod moving;
mod publishing;
mod receiving;

use std::{
    cell::Cell,
    io::{self, Write},
    rc::Rc,
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines, Stdin},
    task::{AbortHandle, LocalSet},
};

use super::{
    orders::{Answer, Order, Role},
    transport::{Transport, TransportError},
};

/// How often the conductor hears of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// Connections that a generator makes at a time.
const CONNECTS_AT_ONCE: usize = 32;

/// Why a generator cannot go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GeneratorError {
    /// The broker, or the way there.
    #[error("{who}: {source}")]
    Transport {
        /// Which session or publisher.
        who: String,
        /// Why.
        source: TransportError,
    },
    /// Standard input or output, or a file of times.
    #[error("a generator cannot talk to its conductor: {0}")]
    Io(#[from] io::Error),
    /// The conductor says something else than what is next.
    #[error("a generator was told what it did not expect: {0}")]
    Order(String),
    /// A task ended before its work was done.
    #[error("a task of a generator failed: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// The broker cannot do what is asked for.
    #[error("this broker cannot move zones; choose another --scenario")]
    NoMoves,
}

fn at(who: impl Into<String>) -> impl FnOnce(TransportError) -> GeneratorError {
    let who = who.into();
    |source| GeneratorError::Transport { who, source }
}

/// Does what the conductor says on standard input, and answers on standard output, until the input ends.
///
/// Must run on a single-threaded tokio runtime with time and I/O, which it has to itself.
///
/// # Errors
/// It could not go on. The conductor has been told.
pub async fn generate<T: Transport>() -> Result<(), GeneratorError> {
    let done = LocalSet::new().run_until(work::<T>()).await;
    if let Err(error) = &done {
        // Should the conductor be gone, there is nobody to tell.
        let _ = answer(&Answer::Failed(error.to_string()));
    }
    done
}

async fn work<T: Transport>() -> Result<(), GeneratorError> {
    let mut orders = Orders { lines: BufReader::new(tokio::io::stdin()).lines() };
    match orders.next::<T::Target>().await? {
        Some(Order::Setup { settings, role, target, run, times }) => match role {
            Role::Publishers => publishing::run::<T>(&settings, &target, run, times, &mut orders).await,
            Role::Sessions(from, to) => {
                receiving::run::<T>(&settings, &target, run, from..to, times, &mut orders).await
            }
        },
        None => Ok(()),
        Some(other) => Err(unexpected(&other)),
    }
}

fn unexpected<T: Serialize>(order: &Order<T>) -> GeneratorError {
    GeneratorError::Order(serde_json::to_string(order).unwrap_or_default())
}

/// The conductor's orders.
struct Orders {
    lines: Lines<BufReader<Stdin>>,
}

impl Orders {
    /// The next order; `None` when the conductor has gone. May be cancelled.
    async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<Order<T>>, GeneratorError> {
        let Some(line) = self.lines.next_line().await? else { return Ok(None) };
        serde_json::from_str(&line).map(Some).map_err(|error| GeneratorError::Order(format!("{error}: {line}")))
    }
}

fn answer(answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_string(answer)?;
    line.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.flush()
}

/// Tells the conductor of progress until it is dropped.
struct ProgressTeller(AbortHandle);

impl ProgressTeller {
    fn start(count: Rc<Cell<u64>>) -> Self {
        let task = tokio::task::spawn_local(async move {
            let mut tick = tokio::time::interval(PROGRESS_INTERVAL);
            loop {
                tick.tick().await;
                // The conductor reads as long as it lives; when it does not, the end of the orders ends this process.
                let _ = answer(&Answer::Progress(count.get()));
            }
        });
        Self(task.abort_handle())
    }
}

impl Drop for ProgressTeller {
    fn drop(&mut self) {
        self.0.abort();
    }
}
