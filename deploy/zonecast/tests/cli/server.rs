//! A serving process, and what it logs.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::Value;

use super::{text, zonecast};

/// A broker, or services, on ports that the system picked; killed when a test ends early.
pub(crate) struct Server {
    child: Child,
    pub(crate) log: BufReader<ChildStdout>,
}

impl Server {
    pub(crate) fn start(listen: &str, tls: &[String], format: &str) -> Self {
        Self::with_workers(1, listen, tls, format)
    }

    pub(crate) fn with_workers(workers: usize, listen: &str, tls: &[String], format: &str) -> Self {
        Self::run(zonecast(), workers, listen, tls, format)
    }

    /// With no more than so many open files.
    pub(crate) fn with_open_files(files: usize, tls: &[String]) -> Self {
        let mut limited = Command::new("/bin/sh");
        limited.env_clear().args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")]);
        limited.arg(env!("CARGO_BIN_EXE_zonecast"));
        Self::run(limited, 1, "127.0.0.1:0", tls, "json")
    }

    fn run(mut command: Command, workers: usize, listen: &str, tls: &[String], format: &str) -> Self {
        let workers = workers.to_string();
        command.args(["broker", "--listen", listen, "--admin-listen", "127.0.0.1:0", "--workers", &workers]);
        command.args(["--log-format", format]).args(tls);
        Self::spawn(command)
    }

    /// Any command that serves, and logs JSON.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stdout.take().unwrap());
        Self { child, log }
    }

    /// The addresses of QUIC and of admin HTTP, read from the log.
    pub(crate) fn addresses(&mut self) -> [String; 2] {
        let event = self.event("broker is listening");
        ["listen", "admin"].map(|field| event[field].as_str().unwrap().to_owned())
    }

    /// Reads the log up to the event with this message.
    pub(crate) fn event(&mut self, message: &str) -> Value {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            let length = self.log.read_line(&mut line).unwrap();
            assert!(length > 0, "the log ended before {message:?}:\n{seen}{}", self.errors());
            let event: Value = serde_json::from_str(&line).expect(&line);
            if event["message"] == message {
                return event;
            }
            seen.push_str(&line);
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Waits for the end; gives the exit code and standard error.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let errors = self.errors();
        (self.child.wait().unwrap().code(), errors)
    }

    /// Standard error up to its end.
    fn errors(&mut self) -> String {
        let mut errors = Vec::new();
        self.child.stderr.take().unwrap().read_to_end(&mut errors).unwrap();
        text(&errors)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already wherever a test waited for it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// By the shell, whose `kill` needs no package.
pub(crate) fn signal(process: &Child, name: &str) {
    let kill = format!("kill -s {name} {}", process.id());
    assert!(Command::new("/bin/sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
}
