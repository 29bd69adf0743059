//! The image, as far as it can be known without building it.

use crate::{
    instructions::{Stage, stages},
    read, root, settings, version, workspace,
};

/// The stage that compiles, and the one that ships.
fn build_and_final() -> (Stage, Stage) {
    let mut stages = stages();
    assert_eq!(stages.len(), 2, "{stages:?}");
    let last = stages.pop().unwrap();
    (stages.pop().unwrap(), last)
}

/// The name of the package, and so of its binary.
fn package_name() -> String {
    let manifest: toml::Table = read("deploy/zonecast/Cargo.toml").parse().unwrap();
    assert!(!manifest.contains_key("bin"), "the binary has a name of its own now: these tests must learn it");
    manifest["package"]["name"].as_str().unwrap().to_owned()
}

/// `["a", "b"]`: the form that needs no shell.
fn exec_form(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("needs a shell, and there is none: {text}"))
}

#[test]
fn base_images_are_pinned_and_fit_each_other() {
    let (build, last) = build_and_final();
    for image in [&build.image, &last.image] {
        let (name, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("no tag: {image}"));
        assert!(name.contains('/') && !tag.contains('/') && tag != "latest", "{image}");
    }
    let rust = workspace()["workspace"]["package"]["rust-version"].as_str().unwrap().to_owned();
    assert_eq!(build.image, format!("docker.io/library/rust:{rust}-bookworm"), "the compiler of the workspace");
    // Debian 12 is bookworm: the C library that the binary is linked against is the one that it runs with.
    assert_eq!(last.image, "gcr.io/distroless/cc-debian12:nonroot");
}

#[test]
fn the_binary_that_is_built_is_the_one_that_runs() {
    let (build, last) = build_and_final();
    let name = package_name();
    let run = build.one("RUN").split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(run.contains(&format!("cargo build --release --locked -p {name} ")), "{run}");
    for cache in ["/usr/local/cargo/registry", "/src/target"] {
        assert!(run.contains(&format!("--mount=type=cache,target={cache}")), "{run}");
    }
    assert_eq!(build.one("WORKDIR"), "/src");
    assert!(run.ends_with(&format!(" target/release/{name} /out/{name}")), "{run}");

    let installed = format!("/usr/local/bin/{name}");
    assert_eq!(last.one("COPY"), format!("--from={} /out/{name} {installed}", build.name.as_deref().unwrap()));
    assert_eq!(exec_form(last.one("ENTRYPOINT")), [installed]);
    assert_eq!(exec_form(last.one("CMD")), ["broker"]);
    assert!(read("deploy/zonecast/src/cli.rs").contains("Broker(BrokerArgs)"), "is `broker` still a command?");
}

#[test]
fn nothing_in_the_image_needs_root_or_a_shell() {
    let (_, last) = build_and_final();
    let (user, group) = last.one("USER").split_once(':').unwrap();
    for id in [user, group] {
        assert!(id.parse::<u32>().is_ok_and(|id| id > 0), "Kubernetes cannot tell that {id} is not root");
    }
    for keyword in ["RUN", "HEALTHCHECK", "SHELL", "VOLUME"] {
        assert!(last.all(keyword).is_empty(), "{keyword}");
    }
    assert_eq!(last.one("STOPSIGNAL"), "SIGTERM");
    assert!(read("deploy/zonecast/src/signals.rs").contains("SignalKind::terminate()"));
}

#[test]
fn exposed_ports_are_the_defaults() {
    let (_, last) = build_and_final();
    let port = |key: &str| settings::port(&settings::default(key));
    let wanted = format!(
        "{}/udp {}/tcp {}/tcp {}/tcp",
        port("listen"),
        port("admin_listen"),
        port("services.listen"),
        port("services.admin_listen")
    );
    assert_eq!(last.one("EXPOSE"), wanted);
}

#[test]
fn variables_are_settings_with_values_that_are_accepted() {
    let (build, last) = build_and_final();
    let settings = settings::all();
    let variables = last.pairs("ENV");
    assert!(variables.contains(&("ZONECAST_LOG_FORMAT".into(), "json".into())), "{variables:?}");
    for (variable, value) in variables {
        settings::assert_accepted(&settings, &variable, &value);
    }
    // The build's only variable is the one that the build script reads.
    assert_eq!(build.all("ARG"), ["ZONECAST_COMMIT=unknown"]);
    assert_eq!(build.pairs("ENV"), [("ZONECAST_COMMIT".to_owned(), "${ZONECAST_COMMIT}".to_owned())]);
    assert!(read("deploy/zonecast/build.rs").contains("std::env::var(\"ZONECAST_COMMIT\")"));
}

#[test]
fn labels_tell_version_and_commit() {
    let (_, last) = build_and_final();
    let labels = last.pairs("LABEL");
    let label = |name: &str| {
        let name = format!("org.opencontainers.image.{name}");
        labels.iter().find(|(key, _)| *key == name).unwrap_or_else(|| panic!("no label {name}")).1.clone()
    };
    assert_eq!(label("title"), package_name());
    assert_eq!(label("version"), version());
    assert_eq!(label("revision"), "${ZONECAST_COMMIT}");
    assert_eq!(label("licenses"), workspace()["workspace"]["package"]["license"].as_str().unwrap());
}

#[test]
fn what_is_copied_exists_and_reaches_the_builder() {
    let (build, _) = build_and_final();
    for copy in build.all("COPY") {
        let words: Vec<&str> = copy.split_whitespace().collect();
        for source in &words[..words.len() - 1] {
            assert!(!source.starts_with("--"), "not understood: {copy}");
            assert!(root().join(source).exists(), "{source} does not exist");
        }
    }
    let ignored = read(".dockerignore");
    let members = workspace()["workspace"]["members"].as_array().unwrap().clone();
    let manifests = members.iter().map(|member| format!("{}/Cargo.toml", member.as_str().unwrap()));
    for needed in manifests.chain(["Cargo.toml", "Cargo.lock", "protocol/proto/zonecast/v1"].map(str::to_owned)) {
        assert!(root().join(&needed).exists(), "{needed} does not exist: what should be looked for in its place?");
        assert!(!is_ignored(&ignored, &needed), "{needed} is kept out by .dockerignore");
    }
    for unwanted in
        [".git/HEAD", "target/release/zonecast", "certs/server.key", "server.key", "deploy/kubernetes/broker/x.yaml"]
    {
        assert!(is_ignored(&ignored, unwanted), "{unwanted} travels to the builder");
    }
}

/// The three kinds of lines that we use: a path, `**/name`, and `**/*.ending`.
fn is_ignored(ignored: &str, path: &str) -> bool {
    ignored.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).any(|pattern| {
        let name = pattern.strip_prefix("**/").unwrap_or(pattern);
        let ending = name.strip_prefix('*');
        assert!(!ending.unwrap_or(name).contains(['*', '?', '!', '[', '\\']), "not understood: {pattern}");
        match (name == pattern, ending) {
            (true, None) => path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            (false, None) => path.split('/').any(|part| part == name),
            (false, Some(ending)) => path.split('/').any(|part| part.ends_with(ending)),
            (true, Some(_)) => panic!("not understood: {pattern}"),
        }
    })
}
