//! A broker's process: started, stopped for a while, killed, started again at the same place.

mod admin;

use std::{
    cell::{Cell, RefCell},
    fs::File,
    io::Write,
    net::SocketAddr,
    path::Path,
    process::Stdio,
    rc::{Rc, Weak},
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    task::{JoinHandle, spawn_local},
    time::{sleep, timeout},
};
use zonecast_trials::BrokerNumber;

use crate::{clock::Stamp, journal::What, stage::Stage};

/// How long a broker may take to listen, and to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(20);
/// Attempts to start at the same place again: its port may be another's for a moment.
const STARTS_MAX: u32 = 5;

/// A broker, over all its processes.
pub(crate) struct Broker {
    stage: Weak<Stage>,
    pub(crate) number: BrokerNumber,
    /// Flags beside those that all brokers have.
    settings: Vec<String>,
    /// What stands before its command line.
    prefix: Vec<String>,
    /// QUIC and admin HTTP, known from the first start on.
    addresses: Cell<Option<(SocketAddr, SocketAddr)>>,
    process: RefCell<Option<Process>>,
    starts: Cell<u32>,
}

struct Process {
    child: Child,
    pid: Pid,
    log: JoinHandle<()>,
}

impl Broker {
    pub(crate) fn new(stage: &Rc<Stage>, settings: &[(&str, &str)], prefix: &[&str]) -> Rc<Self> {
        let settings = settings.iter().map(|(key, value)| format!("--{key}={value}")).collect();
        let prefix = prefix.iter().map(|part| (*part).to_owned()).collect();
        let broker = Rc::new(Self {
            stage: Rc::downgrade(stage),
            number: stage.next_broker(),
            settings,
            prefix,
            addresses: Cell::default(),
            process: RefCell::default(),
            starts: Cell::new(0),
        });
        stage.brokers.borrow_mut().push(Rc::clone(&broker));
        broker
    }

    fn stage(&self) -> Rc<Stage> {
        self.stage.upgrade().expect("the stage owns its brokers")
    }

    /// Where it serves QUIC.
    ///
    /// # Errors
    /// It was never started.
    pub(crate) fn address(&self) -> anyhow::Result<SocketAddr> {
        self.addresses.get().map(|(listen, _)| listen).context("the broker was never started")
    }

    /// The process's number.
    pub(crate) fn process_id(&self) -> Option<u32> {
        self.process.borrow().as_ref().map(|process| process.pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// Starts the process and waits until it listens; gives back when that was.
    ///
    /// # Errors
    /// It does not come to listen.
    pub(crate) async fn start(&self) -> anyhow::Result<Stamp> {
        for _ in 1..STARTS_MAX {
            match self.try_start().await {
                Ok(stamp) => return Ok(stamp),
                Err(error) => self.stage().say(&format!("{} does not start: {error:#}", self.number)),
            }
            sleep(Duration::from_millis(500)).await;
        }
        self.try_start().await
    }

    async fn try_start(&self) -> anyhow::Result<Stamp> {
        let stage = self.stage();
        self.starts.set(self.starts.get() + 1);
        let mut child = self.command(&stage).spawn().context("the broker cannot be started")?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("a process without a number")?;
        let mut lines = BufReader::new(child.stdout.take().context("its standard output is not ours")?).lines();
        let log = stage.directory.join(format!("{}-{}.log", self.number, self.starts.get()));
        let mut log = File::create(&log).with_context(|| format!("{}", log.display()))?;
        let listening = timeout(PATIENCE, wait_until_listening(&mut lines, &mut log)).await;
        let addresses = listening.context("the broker does not come to listen")??;
        let ready = Stamp::now();
        self.addresses.set(Some(addresses));
        let log = spawn_local(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                // A full disk is no reason to hold the broker up.
                let _ = writeln!(log, "{line}");
            }
        });
        *self.process.borrow_mut() = Some(Process { child, pid, log });
        Ok(ready)
    }

    fn command(&self, stage: &Stage) -> Command {
        let listen = self.addresses.get().map_or_else(
            || SocketAddr::new(stage.field.broker_address(), 0).to_string(),
            |(listen, _)| listen.to_string(),
        );
        // Should the stage be killed, its brokers go with it.
        let mut words: Vec<String> = self.prefix.clone();
        words.extend(["setpriv", "--pdeathsig", "KILL"].map(str::to_owned));
        words.push(stage.options.zonecast.display().to_string());
        let file = |path: &Path| path.display().to_string();
        words.extend(["broker".to_owned(), format!("--listen={listen}"), "--admin-listen=127.0.0.1:0".to_owned()]);
        words.push(format!("--tls-certificate={}", file(&stage.certificates.certificate)));
        words.push(format!("--tls-key={}", file(&stage.certificates.key)));
        words.push(format!("--tls-reset-secret={}", file(&stage.certificates.reset_secret)));
        words.extend(["--log-format=json", "--workers=2", "--connections-idle-timeout-ms=2500"].map(str::to_owned));
        // Its clients show nothing, also where faults are injected on a network of its own.
        words.push("--open-to-all=true".to_owned());
        words.extend(self.settings.iter().cloned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Kills the process, as nothing else does.
    pub(crate) async fn kill(&self) {
        self.stage().note(What::BrokerEnded(self.number));
        self.end(Signal::KILL).await;
    }

    /// Ends the process when its act is over. Nobody is left to lose anything by it.
    pub(crate) async fn dismiss(&self) {
        self.end(Signal::KILL).await;
    }

    /// Asks the process to end, and kills it when it does not.
    pub(crate) async fn terminate(&self) {
        self.stage().note(What::BrokerEnded(self.number));
        self.end(Signal::TERM).await;
    }

    async fn end(&self, signal: Signal) {
        let stage = self.stage();
        let Some(mut process) = self.process.borrow_mut().take() else { return };
        if let Ok(Some(status)) = process.child.try_wait() {
            stage.breach(format!("{} ended by itself: {status}", self.number));
            return;
        }
        let _ = kill_process(process.pid, signal);
        if timeout(PATIENCE, process.child.wait()).await.is_err() {
            stage.breach(format!("{} does not end when it is asked to", self.number));
            let _ = process.child.kill().await;
        }
        let _ = process.log.await;
    }

    /// Stops the process, or lets it go on.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(process) = &*self.process.borrow() {
            // It has ended by itself then, which shows later.
            let _ = kill_process(process.pid, signal);
        }
    }

    /// The most memory that the process had so far.
    pub(crate) fn rss_peak_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process_id()?)).ok()?;
        let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(kilobytes.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
    }

    /// What its admin HTTP answers to a path.
    ///
    /// # Errors
    /// No answer in time, or another status than 200.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<String> {
        let (_, admin) = self.addresses.get().context("the broker was never started")?;
        admin::get(admin, path).await
    }

    /// Opens connections to its admin HTTP and says nothing on them.
    pub(crate) async fn crowd(&self, connections: usize) -> anyhow::Result<Vec<tokio::net::TcpStream>> {
        let (_, admin) = self.addresses.get().context("the broker was never started")?;
        admin::crowd(admin, connections).await
    }

    /// Adds up the metric of this name, over all labels that contain `label`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) async fn metric(&self, name: &str, label: &str) -> anyhow::Result<f64> {
        let text = self.get("/metrics").await?;
        Ok(admin::sum(&text, name, label))
    }
}

/// Reads the log up to the line that tells the addresses.
async fn wait_until_listening(
    lines: &mut Lines<BufReader<ChildStdout>>,
    log: &mut File,
) -> anyhow::Result<(SocketAddr, SocketAddr)> {
    while let Some(line) = lines.next_line().await? {
        writeln!(log, "{line}")?;
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        if event["message"] == "broker is listening" {
            let [listen, admin] =
                ["listen", "admin"].map(|field| event[field].as_str().and_then(|text| text.parse().ok()));
            return listen.zip(admin).with_context(|| format!("no addresses in {line}"));
        }
    }
    bail!("its log ends before it listens")
}
