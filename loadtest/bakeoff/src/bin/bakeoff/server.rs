//! Broker processes: each peer's own, on a port of its own, ended with its run.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines},
    process::{Child, ChildStdin, Command},
    task::{JoinHandle, spawn_local},
    time::timeout,
};
use zonecast_bakeoff::{target::PeerTarget, tls::Certificates};

use crate::peer::Peer;

/// How long a broker may take until it listens.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a port is looked for, as somebody else may take it before the broker does.
const PORTS_TRIED: usize = 3;

/// Where the programs are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) ourselves: PathBuf,
    pub(crate) zonecast: PathBuf,
    pub(crate) nats: PathBuf,
    pub(crate) valkey: PathBuf,
    pub(crate) redis: PathBuf,
    /// For zonecast's broker.
    pub(crate) workers: Option<u32>,
}

/// A broker that listens. Its process is killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) pid: u32,
    /// For the generators, as their transport wants it.
    pub(crate) target: Value,
    /// The own brokers end with it.
    _input: Option<ChildStdin>,
    log: JoinHandle<()>,
}

impl Server {
    /// Starts a peer's broker and waits until it listens.
    ///
    /// # Errors
    /// The program is not there, or says something else, or nothing for too long.
    pub(crate) async fn start(
        peer: Peer,
        programs: &Programs,
        certificates: &Certificates,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let mut tried = 1;
        loop {
            let started = timeout(PATIENCE, Self::try_start(peer, programs, certificates, directory)).await;
            match started.unwrap_or_else(|_| bail!("it has not come to listen for {} s", PATIENCE.as_secs())) {
                Ok(server) => return Ok(server),
                Err(error) if tried == PORTS_TRIED => {
                    return Err(error.context(format!("the broker of {peer} cannot be started")));
                }
                Err(_) => tried += 1,
            }
        }
    }

    async fn try_start(
        peer: Peer,
        programs: &Programs,
        certificates: &Certificates,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        match peer {
            Peer::Zonecast => Self::zonecast(programs, certificates).await,
            Peer::Tcp | Peer::Grpc | Peer::Zmq => Self::own(peer, programs, certificates).await,
            Peer::Nats => Self::nats(programs, None, directory).await,
            Peer::NatsTls => Self::nats(programs, Some(certificates), directory).await,
            Peer::Valkey => Self::redis(&programs.valkey, None, directory).await,
            Peer::ValkeyTls => Self::redis(&programs.valkey, Some(certificates), directory).await,
            Peer::Redis => Self::redis(&programs.redis, None, directory).await,
            Peer::RedisTls => Self::redis(&programs.redis, Some(certificates), directory).await,
        }
    }

    async fn zonecast(programs: &Programs, certificates: &Certificates) -> anyhow::Result<Self> {
        let mut command = Command::new(&programs.zonecast);
        command.args(["broker", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-format=json"]);
        command.arg("--tls-certificate").arg(&certificates.certificate).arg("--tls-key").arg(&certificates.key);
        if let Some(workers) = programs.workers {
            command.arg(format!("--workers={workers}"));
        }
        let mut child = spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()))?;
        let mut lines = lines_of(child.stdout.take())?;
        let address = find(&mut lines, |line| {
            let event: Value = serde_json::from_str(line).ok()?;
            (event["message"] == "broker is listening").then(|| event["listen"].as_str().map(str::to_owned))?
        })
        .await?;
        let target = json!({
            "addresses": [address],
            "server_name": zonecast_bakeoff::tls::SERVER_NAME,
            "ca": certificates.ca,
            "identity": null,
        });
        Self::ready(child, None, lines, target)
    }

    async fn own(peer: Peer, programs: &Programs, certificates: &Certificates) -> anyhow::Result<Self> {
        let mut command = Command::new(&programs.ourselves);
        command.args(["broker", peer.name()]).arg("--ca").arg(&certificates.ca);
        command.arg("--certificate").arg(&certificates.certificate).arg("--key").arg(&certificates.key);
        let mut child = spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()))?;
        let input = child.stdin.take();
        let mut lines = lines_of(child.stdout.take())?;
        let target = find(&mut lines, |line| serde_json::from_str::<Value>(line).ok()).await?;
        Self::ready(child, input, lines, target)
    }

    /// As shipped, which is a port, TLS where asked for, and nothing else.
    async fn nats(programs: &Programs, tls: Option<&Certificates>, directory: &Path) -> anyhow::Result<Self> {
        let mut settings = "listen: \"127.0.0.1:-1\"\n".to_owned();
        if let Some(files) = tls {
            // A thousand handshakes at once take longer than the usual two seconds.
            settings.push_str(&format!(
                "tls {{ cert_file: {:?}, key_file: {:?}, timeout: 30 }}\n",
                files.certificate, files.key
            ));
        }
        let file = directory.join("nats.conf");
        fs::write(&file, settings).with_context(|| file.display().to_string())?;
        let mut command = Command::new(&programs.nats);
        command.arg("--config").arg(&file);
        let mut child = spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()))?;
        let mut lines = lines_of(child.stderr.take())?;
        let address = find(&mut lines, |line| {
            line.split_once("Listening for client connections on ").and_then(|(_, address)| address.parse().ok())
        })
        .await?;
        find(&mut lines, |line| line.contains("Server is ready").then_some(())).await?;
        let target = target(address, tls)?;
        Self::ready(child, None, lines, target)
    }

    /// Without persistence. It has no way to let the system choose a port.
    async fn redis(program: &Path, tls: Option<&Certificates>, directory: &Path) -> anyhow::Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).context("no port")?;
        let port = address.port().to_string();
        let mut command = Command::new(program);
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]).arg(directory);
        match tls {
            None => command.args(["--port", &port]),
            Some(files) => {
                command.args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"]);
                command.args(["--tls-protocols", "TLSv1.3", "--tls-ciphersuites", "TLS_AES_128_GCM_SHA256"]);
                command.arg("--tls-cert-file").arg(&files.certificate).arg("--tls-key-file").arg(&files.key);
                command.arg("--tls-ca-cert-file").arg(&files.ca)
            }
        };
        let mut child = spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()))?;
        let mut lines = lines_of(child.stdout.take())?;
        find(&mut lines, |line| line.contains("Ready to accept connections").then_some(())).await?;
        let target = target(address, tls)?;
        Self::ready(child, None, lines, target)
    }

    fn ready(
        child: Child,
        input: Option<ChildStdin>,
        mut lines: Lines<BufReader<impl AsyncRead + Unpin + 'static>>,
        target: Value,
    ) -> anyhow::Result<Self> {
        let pid = child.id().context("the broker has ended")?;
        // A pipe that nobody reads would hold the broker up.
        let log = spawn_local(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, pid, target, _input: input, log })
    }

    /// Ends the process.
    ///
    /// # Errors
    /// It ended before: whatever was measured is worth nothing.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.log.abort();
        if let Some(status) = self.child.try_wait()? {
            bail!("the broker has ended by itself: {status}");
        }
        Ok(self.child.kill().await?)
    }
}

fn spawn(command: &mut Command) -> anyhow::Result<Child> {
    let program = command.as_std().get_program().to_owned();
    command.kill_on_drop(true).spawn().with_context(|| format!("cannot start {}", program.display()))
}

fn lines_of<R: AsyncRead>(stream: Option<R>) -> anyhow::Result<Lines<BufReader<R>>> {
    Ok(BufReader::new(stream.context("its output is not ours")?).lines())
}

/// Reads lines until one is what is looked for.
async fn find<T>(
    lines: &mut Lines<BufReader<impl AsyncRead + Unpin>>,
    mut wanted: impl FnMut(&str) -> Option<T>,
) -> anyhow::Result<T> {
    let mut last = String::new();
    while let Some(line) = lines.next_line().await? {
        if let Some(found) = wanted(&line) {
            return Ok(found);
        }
        last = line;
    }
    bail!("it ended before it listened; its last words: {last:?}")
}

fn target(address: SocketAddr, tls: Option<&Certificates>) -> anyhow::Result<Value> {
    let ca = tls.map(|files| files.ca.clone());
    Ok(serde_json::to_value(PeerTarget { address, ca, curve_key: None })?)
}
