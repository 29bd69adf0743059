//! One generator process, as the conductor holds it.

use std::{process::Stdio, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::mpsc,
    time::timeout,
};

use super::{LoadError, LoadProgress};
use crate::load::orders::{Answer, Order, Role};

/// How long a generator has to end by itself.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers that wait to be read: there are never more than one or two.
const ANSWERS_MAX: usize = 16;

/// A generator. It is killed when this is dropped.
pub(super) struct Generator {
    pub(super) role: Role,
    pub(super) pid: u32,
    child: Child,
    orders: Option<ChildStdin>,
    answers: mpsc::Receiver<Result<Answer, LoadError>>,
}

impl Generator {
    pub(super) fn start(mut command: Command, role: Role, progress: Arc<LoadProgress>) -> Result<Self, LoadError> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(LoadError::Start)?;
        let piped = child.stdin.take().zip(child.stdout.take()).zip(child.id());
        let ((orders, output), pid) = piped.ok_or(LoadError::Gone { role })?;
        let (sender, answers) = mpsc::channel(ANSWERS_MAX);
        // Read all the time, or a full pipe would hold the generator up.
        tokio::spawn(listen(role, output, sender, progress));
        Ok(Self { role, pid, child, orders: Some(orders), answers })
    }

    pub(super) async fn order<T: Serialize>(&mut self, order: &Order<T>) -> Result<(), LoadError> {
        let mut line = serde_json::to_vec(order).map_err(|error| LoadError::Start(error.into()))?;
        line.push(b'\n');
        let gone = LoadError::Gone { role: self.role };
        let Some(orders) = &mut self.orders else { return Err(gone) };
        if orders.write_all(&line).await.is_ok() {
            return Ok(());
        }
        // It has ended; why, it may have said before.
        self.answer(END_TIMEOUT).await.and(Err(gone))
    }

    /// The next answer that is not progress.
    pub(super) async fn answer(&mut self, patience: Duration) -> Result<Answer, LoadError> {
        let role = self.role;
        match timeout(patience, self.answers.recv()).await {
            Ok(answer) => answer.unwrap_or(Err(LoadError::Gone { role })),
            Err(_elapsed) => Err(LoadError::Silent { role, waited: patience }),
        }
    }

    /// Lets it say goodbye, and waits until it has ended.
    pub(super) async fn end(mut self) {
        // One that has gone already needs no goodbye, and one that hangs is killed as this is dropped.
        let _ = self.order(&Order::<()>::End).await;
        self.orders = None;
        let _ = timeout(END_TIMEOUT, self.child.wait()).await;
    }
}

/// Passes progress on, and answers to whoever waits for them, until the generator closes its output.
async fn listen(
    role: Role,
    output: ChildStdout,
    answers: mpsc::Sender<Result<Answer, LoadError>>,
    progress: Arc<LoadProgress>,
) {
    let mut lines = BufReader::new(output).lines();
    let mut before = 0;
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match serde_json::from_str(&line) {
            Ok(Answer::Progress(count)) => {
                progress.enter(role, count - before);
                before = count;
                continue;
            }
            Ok(Answer::Failed(reason)) => Err(LoadError::Failed { role, reason }),
            Ok(answer) => Ok(answer),
            Err(_) => Err(LoadError::Nonsense { role, line }),
        };
        if answers.send(answer).await.is_err() {
            break;
        }
    }
}
