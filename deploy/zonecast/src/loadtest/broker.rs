//! The broker of a load test: this same program as a process of its own, with a throwaway certificate.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::Context;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    time::timeout,
};
use zonecast_loadtest::load::{LoadSettings, ZonecastTarget};

use crate::cert;

/// How long the broker may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(15);

/// A broker, killed when this is dropped.
pub(super) struct BrokerProcess {
    child: Child,
    pid: u32,
    address: String,
    directory: TempDir,
    log: tokio::task::JoinHandle<()>,
}

impl BrokerProcess {
    /// Starts it, with room for what the run needs.
    ///
    /// # Errors
    /// It does not start; its own words are in the error.
    pub(super) async fn start(settings: &LoadSettings) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir().context("there is no temporary directory")?;
        let made = cert::throwaway_pem()?;
        let path = |name: &str| directory.path().join(name);
        for (name, text) in [("ca.pem", &made.ca), ("server.pem", &made.certificate), ("server.key", &made.key)] {
            fs::write(path(name), text).with_context(|| format!("{} cannot be written", path(name).display()))?;
        }
        let mut command = Command::new(std::env::current_exe().context("this program cannot be found")?);
        command
            .args(["broker", "--listen", "127.0.0.1:0", "--admin-listen", "off", "--log-format", "json"])
            .arg("--tls-certificate")
            .arg(path("server.pem"))
            .arg("--tls-key")
            .arg(path("server.key"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for (variable, value) in room(settings) {
            // What somebody has chosen counts more.
            if std::env::var_os(variable).is_none() {
                command.env(variable, value.to_string());
            }
        }
        if let Some(workers) = settings.workers {
            command.args(["--workers", &workers.to_string()]);
        }
        let mut child = command.spawn().context("the broker cannot be started")?;
        let mut lines = BufReader::new(child.stdout.take().context("the broker's output is not there")?);
        let pid = child.id().context("the broker has ended")?;
        let address = match timeout(START_TIMEOUT, listening(&mut lines)).await {
            Ok(Ok(address)) => address,
            _ => return Err(why_not(child).await),
        };
        // Read on, or a full pipe would hold it up.
        let log = tokio::spawn(async move {
            let _ = tokio::io::copy(&mut lines, &mut tokio::io::sink()).await;
        });
        Ok(Self { child, pid, address, directory, log })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn target(&self) -> ZonecastTarget {
        ZonecastTarget {
            addresses: vec![self.address.clone()],
            server_name: Some("localhost".to_owned()),
            ca: self.file("ca.pem"),
            identity: None,
            token: None,
            token_file: None,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::join(self.directory.path(), name)
    }

    /// Ends it. When the run failed and the broker had gone before, its words are part of the error.
    ///
    /// # Errors
    /// The run's.
    pub(super) async fn end<T, E>(mut self, outcome: Result<T, E>) -> anyhow::Result<T>
    where
        E: Into<anyhow::Error>,
    {
        let has_gone = matches!(self.child.try_wait(), Ok(Some(_)));
        match outcome {
            Ok(outcome) => {
                // Nothing waits in it any more, so nothing is lost with it.
                let _ = self.child.start_kill();
                let _ = timeout(END_TIMEOUT, self.child.wait()).await;
                self.log.abort();
                Ok(outcome)
            }
            Err(error) if has_gone => Err(error.into().context(why_not(self.child).await)),
            Err(error) => Err(error.into()),
        }
    }
}

/// The address that the broker serves, out of its log.
async fn listening(lines: &mut BufReader<ChildStdout>) -> anyhow::Result<String> {
    loop {
        let mut line = String::new();
        anyhow::ensure!(lines.read_line(&mut line).await? > 0, "the broker's log has ended");
        let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        if event["message"] == "broker is listening"
            && let Some(address) = event["listen"].as_str()
        {
            return Ok(address.to_owned());
        }
    }
}

/// What the broker says of why it did not serve.
async fn why_not(mut child: Child) -> anyhow::Error {
    let _ = child.start_kill();
    let mut said = String::new();
    if let Some(mut errors) = child.stderr.take() {
        let _ = timeout(END_TIMEOUT, errors.read_to_string(&mut said)).await;
    }
    anyhow::anyhow!("the broker cannot serve: {}", said.trim())
}

/// Limits that the run needs to be greater than they are by default.
fn room(settings: &LoadSettings) -> Vec<(&'static str, u32)> {
    let connections = settings.sessions.saturating_add(settings.publishers) + 16;
    let mut room = Vec::new();
    for (variable, default) in
        [("ZONECAST_CONNECTIONS_TOTAL_MAX", 10_000), ("ZONECAST_CONNECTIONS_PER_ADDRESS_MAX", 2_000)]
    {
        if connections > default {
            room.push((variable, connections));
        }
    }
    // Chance may give a session several times its share.
    let zones = (settings.zones / settings.sessions).saturating_mul(4).min(settings.zones);
    if zones > 10_000 {
        room.push(("ZONECAST_LIMITS_ZONES_PER_SESSION_MAX", zones.min(1_000_000)));
    }
    let payload = settings.udp_payload_bytes_max;
    if payload != LoadSettings::default().udp_payload_bytes_max {
        room.push(("ZONECAST_QUIC_UDP_PAYLOAD_BYTES_MAX", payload.into()));
    }
    room
}
