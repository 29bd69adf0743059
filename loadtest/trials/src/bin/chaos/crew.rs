//! A peer's process: started with its script, given orders, stopped for a while, killed, started again as the next run.

use std::{
    cell::{Cell, RefCell},
    fs::File,
    path::PathBuf,
    process::Stdio,
    rc::{Rc, Weak},
    time::Duration,
};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{Instant, sleep, timeout},
};
use zonecast_trials::{BrokerNumber, Run};

use crate::{
    broker::Broker,
    journal::What,
    script::{ClientScript, Order, PeerScript, Standing},
    stage::Stage,
};

/// How long a peer may take to obey.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pauses between two questions.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// A peer, over all its processes.
pub(crate) struct Peer {
    stage: Weak<Stage>,
    pub(crate) number: usize,
    brokers: Vec<Rc<Broker>>,
    clients: RefCell<Vec<ClientScript>>,
    starts: Cell<u32>,
    process: RefCell<Option<Process>>,
}

struct Process {
    child: Child,
    pid: Pid,
    /// Taken out by whoever is asking.
    channel: Option<Channel>,
}

struct Channel {
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    /// A peer with these clients. Their runs are numbered by the peer.
    pub(crate) fn new(stage: &Rc<Stage>, brokers: &[Rc<Broker>], mut clients: Vec<ClientScript>) -> Rc<Self> {
        for client in &mut clients {
            client.run = Run { client: stage.next_client(), incarnation: 0 };
        }
        let peer = Rc::new(Self {
            stage: Rc::downgrade(stage),
            number: stage.peers.borrow().len(),
            brokers: brokers.to_vec(),
            clients: RefCell::new(clients),
            starts: Cell::new(0),
            process: RefCell::default(),
        });
        stage.peers.borrow_mut().push(Rc::clone(&peer));
        peer
    }

    fn stage(&self) -> Rc<Stage> {
        self.stage.upgrade().expect("the stage owns its peers")
    }

    /// How many clients it has.
    pub(crate) fn clients(&self) -> usize {
        self.clients.borrow().len()
    }

    /// Its clients, in their present run.
    pub(crate) fn runs(&self) -> Vec<Run> {
        self.clients.borrow().iter().map(|client| client.run).collect()
    }

    /// The link that it is behind.
    pub(crate) fn link(&self) -> usize {
        self.number % crate::field::LINKS
    }

    /// Starts the next run of all its clients.
    ///
    /// # Errors
    /// The process cannot be started.
    pub(crate) async fn start(&self) -> anyhow::Result<()> {
        let stage = self.stage();
        self.starts.set(self.starts.get() + 1);
        self.clients.borrow_mut().iter_mut().for_each(|client| client.run.incarnation += 1);
        let name = format!("peer{}-{}", self.number, self.starts.get());
        let script = self.script(&stage, stage.journal_path(&name))?;
        for client in &script.clients {
            stage.note(What::Started(client.run));
        }
        let mut words = stage.field.at_link(self.link());
        words.push(stage.program.display().to_string());
        words.push("peer".to_owned());
        let complaints = File::create(stage.directory.join(format!("{name}.log")))?;
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(complaints)
            .kill_on_drop(true)
            .spawn()
            .context("a peer cannot be started")?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("a process without a number")?;
        let mut orders = child.stdin.take().context("its standard input is not ours")?;
        let answers = BufReader::new(child.stdout.take().context("its standard output is not ours")?).lines();
        orders.write_all(format!("{}\n", serde_json::to_string(&script)?).as_bytes()).await?;
        let channel = Some(Channel { orders, answers });
        *self.process.borrow_mut() = Some(Process { child, pid, channel });
        Ok(())
    }

    fn script(&self, stage: &Stage, journal: PathBuf) -> anyhow::Result<PeerScript> {
        let addresses = self.brokers.iter().map(|broker| Ok((broker.number, broker.address()?)));
        Ok(PeerScript {
            journal,
            ca: stage.certificates.ca.clone(),
            brokers: addresses.collect::<anyhow::Result<Vec<(BrokerNumber, _)>>>()?,
            clients: self.clients.borrow().clone(),
            seed: stage.options.seed ^ ((self.number as u64) << 32) ^ u64::from(self.starts.get()),
        })
    }

    /// Kills the process, and with it the runs of all its clients.
    pub(crate) async fn kill(&self) {
        let Some(mut process) = self.process.borrow_mut().take() else { return };
        let stage = self.stage();
        for run in self.runs() {
            stage.note(What::Ended(run));
        }
        if let Ok(Some(status)) = process.child.try_wait() {
            stage.breach(format!("peer {} ended by itself: {status}", self.number));
            return;
        }
        let _ = kill_process(process.pid, Signal::KILL);
        let _ = process.child.wait().await;
    }

    /// Ends the process without holding anything against it.
    pub(crate) async fn dismiss(&self) {
        let Some(mut process) = self.process.borrow_mut().take() else { return };
        if let Ok(Some(status)) = process.child.try_wait() {
            self.stage().breach(format!("peer {} ended by itself: {status}", self.number));
            return;
        }
        let _ = kill_process(process.pid, Signal::KILL);
        let _ = process.child.wait().await;
    }

    /// Stops the process, or lets it go on.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(process) = &*self.process.borrow() {
            // It has ended by itself then, which shows later.
            let _ = kill_process(process.pid, signal);
        }
    }

    /// Gives an order that needs no answer.
    pub(crate) async fn tell(&self, order: Order) {
        let _ = self.exchange(order, false).await;
    }

    /// How it stands; `None` when it does not say.
    pub(crate) async fn ask(&self) -> Option<Standing> {
        self.exchange(Order::Report, true).await
    }

    async fn exchange(&self, order: Order, answered: bool) -> Option<Standing> {
        let mut channel = self.process.borrow_mut().as_mut()?.channel.take()?;
        let exchange = async {
            channel.orders.write_all(format!("{}\n", serde_json::to_string(&order).ok()?).as_bytes()).await.ok()?;
            if !answered {
                return None;
            }
            let line = channel.answers.next_line().await.ok()??;
            serde_json::from_str(&line).ok()
        };
        match timeout(PATIENCE, exchange).await {
            Ok(standing) => {
                if let Some(process) = &mut *self.process.borrow_mut() {
                    process.channel = Some(channel);
                }
                standing
            }
            // The answer to this would be taken for one to a later question.
            Err(_) => None,
        }
    }
}

/// Waits until all clients of these peers are connected with all that they want; says whether they are in time.
pub(crate) async fn all_ready(peers: &[Rc<Peer>], patience: Duration) -> bool {
    until(peers, patience, |standing| standing.ready.min(standing.linked)).await
}

/// Waits until all clients of these peers have connected since they were told [`Order::Mark`]; says whether they are in
/// time.
pub(crate) async fn all_relinked(peers: &[Rc<Peer>], patience: Duration) -> bool {
    until(peers, patience, |standing| standing.relinked).await
}

/// Waits until this counts all clients of each peer.
async fn until(peers: &[Rc<Peer>], patience: Duration, count: impl Fn(Standing) -> usize) -> bool {
    let end = Instant::now() + patience;
    loop {
        let mut all = true;
        for peer in peers {
            all &= peer.ask().await.is_some_and(|standing| count(standing) == peer.clients());
        }
        if all || Instant::now() > end {
            return all;
        }
        sleep(ASK_EVERY).await;
    }
}

/// Gives all of them an order that needs no answer.
pub(crate) async fn tell_all(peers: &[Rc<Peer>], order: Order) {
    for peer in peers {
        peer.tell(order).await;
    }
}

/// Waits until all clients of these peers are connected, all answers have come, and nothing has been delivered for
/// `quiet`; says whether that is so in time.
pub(crate) async fn settle(peers: &[Rc<Peer>], quiet: Duration, patience: Duration) -> bool {
    let end = Instant::now() + patience;
    let mut delivered = 0;
    let mut quiet_since = Instant::now();
    while Instant::now() < end {
        let mut total = 0;
        let mut settled = true;
        for peer in peers {
            let standing = peer.ask().await;
            settled &= standing.is_some_and(|standing| standing.linked == peer.clients() && standing.awaited == 0);
            total += standing.unwrap_or_default().delivered;
        }
        if !settled || total != delivered {
            delivered = total;
            quiet_since = Instant::now();
        } else if quiet_since.elapsed() >= quiet {
            return true;
        }
        sleep(ASK_EVERY).await;
    }
    false
}
