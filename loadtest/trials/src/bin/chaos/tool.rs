//! Starts the system's tools, so that what was started and how it failed is always told the same way.

use std::{ffi::OsStr, process::Stdio, time::Duration};

use anyhow::{Context, bail};
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

/// A tool that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether a tool can be started: its name is that of a program in the path.
pub(crate) fn is_there(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Root's tools are not in everyone's path.
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory| directory.join(tool).is_file())
}

/// Runs a tool with this input and gives back what it printed.
///
/// # Errors
/// It cannot be started, fails, or hangs. The error carries what it complained of.
pub(crate) async fn run<A: AsRef<OsStr>>(tool: &str, arguments: &[A], input: &str) -> anyhow::Result<String> {
    let shown = || {
        let arguments = arguments.iter().map(|argument| argument.as_ref().to_string_lossy());
        std::iter::once(tool.into()).chain(arguments).collect::<Vec<_>>().join(" ")
    };
    let mut child = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("`{}` cannot be started", shown()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that fails early does not read it; its complaint says more than the broken pipe.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let Ok(output) = timeout(PATIENCE, child.wait_with_output()).await else {
        bail!("`{}` does not end", shown());
    };
    let output = output.with_context(|| format!("`{}`", shown()))?;
    if !output.status.success() {
        bail!("`{}`: {}: {}", shown(), output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
