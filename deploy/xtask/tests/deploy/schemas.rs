//! Kubernetes knows every kind and field of the manifests: `kubernetes-validate`, which brings the schemas along.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::LazyLock,
};

use serde::Deserialize;
use serde_json::Value;

use crate::{manifests::COMPONENTS, root};

/// The Python with the packages of `deploy/xtask/requirements.txt`; `cargo xtask test` makes it and sets this.
const PYTHON_VARIABLE: &str = "ZONECAST_TEST_PYTHON";

/// The oldest Kubernetes that the manifests are for, and the newest that the pinned package knows.
const KUBERNETES: [&str; 2] = ["1.28", "1.37"];

/// Kinds that come with other software, so that Kubernetes publishes no schema for them.
const NO_SCHEMA: [&str; 2] =
    ["kustomize.config.k8s.io/v1beta1/Kustomization", "monitoring.coreos.com/v1/ServiceMonitor"];

/// Where the manifests are, relative to the top level.
const MANIFESTS: &str = "deploy/kubernetes";

/// One document of one file.
#[derive(Debug, Deserialize)]
pub(crate) struct Manifest {
    /// The file, by its path below the manifests' directory: `broker/service.yaml`.
    pub(crate) file: String,
    /// Such as `apps/v1/Deployment`.
    pub(crate) kind: String,
    /// Whether a schema was there to check it with.
    checked: bool,
    /// All of it.
    pub(crate) content: Value,
}

/// Reads the manifests, or says aloud that the test that asks for them does not run. In CI it fails.
pub(crate) fn manifests() -> Option<Vec<Manifest>> {
    // Once for all tests: reading the schemas takes a second or two.
    static CHECKED: LazyLock<Output> = LazyLock::new(|| {
        let files = COMPONENTS.iter().flat_map(|component| files(&root().join(MANIFESTS).join(component.folder)));
        check(&python().unwrap(), &files.collect::<Vec<_>>())
    });
    python()?;
    let mistakes = String::from_utf8_lossy(&CHECKED.stderr);
    assert!(CHECKED.status.success(), "Kubernetes would not take these manifests:\n{mistakes}");
    let mut manifests: Vec<Manifest> = serde_json::from_slice(&CHECKED.stdout).unwrap();
    for manifest in &mut manifests {
        manifest.file = below(Path::new(&manifest.file), &root().join(MANIFESTS));
    }
    Some(manifests)
}

/// The file names of all manifests of a folder.
pub(crate) fn names(folder: &str) -> Vec<String> {
    let directory = root().join(MANIFESTS).join(folder);
    files(&directory).iter().map(|path| below(path, &directory)).collect()
}

/// Everything that lies in the manifests' directory itself: a folder for each component.
pub(crate) fn folders() -> Vec<String> {
    let directory = root().join(MANIFESTS);
    let mut entries: Vec<String> =
        fs::read_dir(&directory).unwrap().map(|entry| below(&entry.unwrap().path(), &directory)).collect();
    entries.sort();
    entries
}

fn below(path: &Path, directory: &Path) -> String {
    path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known)))
        .collect();
    files.sort();
    files
}

/// Runs the checker.
fn check(python: &OsStr, files: &[PathBuf]) -> Output {
    let mut command = Command::new(python);
    command.arg(root().join("deploy/xtask/python/check_manifests.py"));
    command.args(KUBERNETES.iter().flat_map(|version| ["--kubernetes", version]));
    command.args(NO_SCHEMA.iter().flat_map(|kind| ["--no-schema", kind]));
    command.args(files).output().unwrap_or_else(|error| panic!("{PYTHON_VARIABLE}={python:?} does not run: {error}"))
}

/// The Python to run the checker with; where there is none, it is said aloud that the calling test does not run.
fn python() -> Option<OsString> {
    let python = env::var_os(PYTHON_VARIABLE).filter(|python| !python.is_empty());
    if python.is_none() {
        not_run();
    }
    python
}

fn not_run() {
    let test = std::thread::current().name().unwrap_or("a test of the manifests").to_owned();
    let line =
        format!("!!! NOT RUN: {test}: {PYTHON_VARIABLE} is not set; `cargo xtask test` sets it and runs everything");
    assert!(env::var_os("CI").is_none(), "{line}");
    // Not `eprintln!`, which the test harness keeps to itself when a test passes.
    io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

#[test]
fn kubernetes_knows_every_field() {
    let Some(manifests) = manifests() else { return };
    for component in &COMPONENTS {
        let kinds = |checked: bool| {
            let own = manifests.iter().filter(|known| known.file.starts_with(&format!("{}/", component.folder)));
            let mut kinds: Vec<&str> =
                own.filter(|known| known.checked == checked).map(|known| known.kind.as_str()).collect();
            kinds.sort_unstable();
            kinds
        };
        assert_eq!(kinds(false), NO_SCHEMA);
        // No Secret: what is in a manifest is in everybody's hands.
        let wanted = [
            "apps/v1/Deployment",
            "networking.k8s.io/v1/NetworkPolicy",
            "policy/v1/PodDisruptionBudget",
            "v1/ConfigMap",
            "v1/Service",
            "v1/Service",
        ];
        assert_eq!(kinds(true), wanted, "{}", component.folder);
    }
}

/// Without this, a checker that lets everything pass would look the same as manifests without a fault.
#[test]
fn what_kubernetes_does_not_know_is_refused() {
    let whole = crate::read("deploy/kubernetes/broker/deployment.yaml");
    let directory = tempfile::tempdir().unwrap();
    let cases = [
        ("unknown-field", "  replicas: 1\n", "  replica: 1\n", "'replica' was unexpected"),
        ("unknown-field-far-down", "readOnlyRootFilesystem:", "readonlyRootFilesystem:", "'readonlyRootFilesystem'"),
        ("wrong-type", "containerPort: 4433", "containerPort: \"4433\"", "'4433' is not of type 'integer'"),
        ("missing-field", "            - name: tls\n", "            -\n", "'name' is a required property"),
        ("twice", "  replicas: 1\n", "  replicas: 1\n  replicas: 2\n", "the key 'replicas' is there twice"),
        ("unknown-kind", "kind: Deployment", "kind: Deploiment", "Couldn't find schema"),
        ("old-version", "apiVersion: apps/v1", "apiVersion: extensions/v1beta1", "Couldn't find schema"),
    ];
    for (name, right, wrong, _) in cases {
        let spoiled = whole.replacen(right, wrong, 1);
        assert_ne!(spoiled, whole, "{name} spoils nothing");
        fs::write(directory.path().join(format!("{name}.yaml")), spoiled).unwrap();
    }
    let Some(python) = python() else { return };
    let output = check(&python, &files(directory.path()));
    let mistakes = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{mistakes}");
    for (name, _, _, complaint) in cases {
        let found = mistakes.lines().any(|line| line.contains(&format!("{name}.yaml: ")) && line.contains(complaint));
        assert!(found, "{name}: no {complaint:?} in\n{mistakes}");
    }
}
