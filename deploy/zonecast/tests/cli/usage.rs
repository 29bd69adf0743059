use std::process::Command;

use super::{run, text, zonecast};

#[test]
fn the_version_names_the_commit() {
    let output = run(&["--version"]);
    let shown = text(&output.stdout);
    let commit = shown.strip_prefix(concat!("zonecast ", env!("CARGO_PKG_VERSION"), " (")).expect(&shown);
    let commit = commit.strip_suffix(")\n").expect(&shown);
    assert!(!commit.is_empty() && commit.bytes().all(|b| b.is_ascii_graphic()), "{shown}");
}

#[test]
fn help_is_no_failure_and_a_wrong_call_exits_with_2() {
    let help = run(&["broker", "--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("--limits-payload-bytes-max <N>"));
    for bad in [&["nonsense"][..], &["broker", "--listn", "x"], &["sub"], &[]] {
        let output = run(bad);
        assert_eq!(output.status.code(), Some(2), "{bad:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{bad:?}");
    }
}

#[test]
fn completions_know_the_flags_of_settings() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(text(&output.stdout).contains("limits-payload-bytes-max"), "{shell}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    for arguments in [&["config", "print"][..], &["config", "print", "--example"], &["completions", "bash"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = zonecast().args(arguments).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn a_failure_is_one_line_and_exits_with_1() {
    let directory = tempfile::tempdir().unwrap();
    let occupied = directory.path().join("file");
    std::fs::write(&occupied, "").unwrap();
    let output = zonecast().args(["cert", "--out"]).arg(&occupied).output().unwrap();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.starts_with("error: directory ") && message.lines().count() == 1, "{message}");
}

#[test]
fn a_low_soft_limit_of_open_files_is_raised_without_a_word() {
    let script = format!("ulimit -S -n 64 && exec '{}' config print", env!("CARGO_BIN_EXE_zonecast"));
    let output = Command::new("/bin/sh").args(["-c", &script]).env_clear().output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
}
