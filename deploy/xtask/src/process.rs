//! Starting other programs, so that what was started and how it ended is always told the same way.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Runs a command to its end on our own output streams, after printing it.
///
/// Standard input is closed: nothing here may wait for a person.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", shown(command));
    run_unseen(command)
}

/// As [`run`], for a command whose output another program may read: nothing of ours is printed.
pub(crate) fn run_unseen(command: &mut Command) -> Result<()> {
    let line = shown(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot start `{line}`"))?;
    ensure!(status.success(), "`{line}` failed: {status}");
    Ok(())
}

/// Runs a command and gives back what it printed; where it fails, the error carries what it complained of.
pub(crate) fn captured(command: &mut Command) -> Result<String> {
    let line = shown(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` printed something that is not UTF-8"))
}

/// The command as one would type it.
fn shown(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{captured, run};

    #[test]
    fn a_failure_names_the_command_and_carries_its_complaint() {
        let error = captured(Command::new("sh").args(["-c", "echo no such luck >&2; exit 3"])).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("sh -c"), "{message}");
        assert!(message.contains("no such luck"), "{message}");
        assert!(message.contains('3'), "{message}");
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let error = run(&mut Command::new("zonecast-no-such-program")).unwrap_err();
        assert!(format!("{error:#}").contains("zonecast-no-such-program"));
    }

    #[test]
    fn output_is_given_back() {
        assert_eq!(captured(Command::new("sh").args(["-c", "echo yes"])).unwrap(), "yes\n");
    }
}
