//! How the broker's pod starts, is watched, ends, and what it may do.

use serde_json::json;

use crate::{instructions::stages, manifests::Manifests, read, seconds};

const FILE: &str = "deployment.yaml";
const POD: &str = "/spec/template/spec";
const CONTAINER: &str = "/spec/template/spec/containers/0";

/// Seconds from the first signal to the certain end of the process, as configured.
fn end_seconds_max(manifests: &Manifests) -> f64 {
    let grace_ms: u32 = manifests.variables()["ZONECAST_SHUTDOWN_GRACE_MS"].parse().unwrap();
    let stop = u32::try_from(seconds("broker/src/broker.rs", "STOP_TIMEOUT")).unwrap();
    f64::from(grace_ms) / 1_000.0 + f64::from(stop)
}

fn seconds_at(manifests: &Manifests, pointer: &str) -> f64 {
    f64::from(u32::try_from(manifests.number(FILE, pointer)).unwrap())
}

#[test]
fn there_is_one_broker_at_a_time() {
    let Some(manifests) = Manifests::read() else { return };
    assert_eq!(manifests.number(FILE, "/spec/replicas"), 1);
    assert_eq!(manifests.text(FILE, "/spec/strategy/type"), "Recreate");
    assert_eq!(manifests.number("poddisruptionbudget.yaml", "/spec/maxUnavailable"), 0);
    assert_eq!(manifests.text("service.yaml", "/spec/sessionAffinity"), "ClientIP");
    assert_eq!(manifests.at(FILE, &format!("{CONTAINER}/args")), &json!(["broker"]));
}

#[test]
fn the_pod_outlives_the_drain() {
    let Some(manifests) = Manifests::read() else { return };
    let patience = seconds_at(&manifests, &format!("{POD}/terminationGracePeriodSeconds"));
    let end = end_seconds_max(&manifests);
    assert!(patience >= end + 5.0, "SIGKILL after {patience} s, and the broker may take {end} s");
    // The first failure comes at once at the worst; what follows takes a period each.
    let probe = format!("{CONTAINER}/readinessProbe");
    let failures = seconds_at(&manifests, &format!("{probe}/failureThreshold"));
    let carried = (failures - 1.0) * seconds_at(&manifests, &format!("{probe}/periodSeconds"));
    assert!(carried >= end, "the Service carries packets for {carried} s of a drain of {end} s");
}

#[test]
fn probes_ask_where_the_broker_answers_and_wait_for_it() {
    let Some(manifests) = Manifests::read() else { return };
    let routes = read("broker/src/admin.rs");
    let answer = seconds("broker/src/admin.rs", "WORKER_ANSWER_TIMEOUT");
    for (probe, path) in [("startupProbe", "/ready"), ("readinessProbe", "/ready"), ("livenessProbe", "/live")] {
        let at = |rest: &str| format!("{CONTAINER}/{probe}/{rest}");
        assert_eq!(manifests.at(FILE, &at("httpGet")), &json!({"path": path, "port": "admin"}), "{probe}");
        assert!(routes.contains(&format!(".route(\"{path}\", ")), "{path}");
        assert!(manifests.number(FILE, &at("timeoutSeconds")) > answer, "{probe} does not wait for the answer");
    }
}

#[test]
fn the_pod_may_do_nothing_that_it_does_not_need() {
    let Some(manifests) = Manifests::read() else { return };
    let image = stages().pop().unwrap();
    let (user, group) = image.one("USER").split_once(':').unwrap();
    let (user, group): (u64, u64) = (user.parse().unwrap(), group.parse().unwrap());
    let pod = json!({
        "runAsNonRoot": true,
        "runAsUser": user,
        "runAsGroup": group,
        "fsGroup": group,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    assert_eq!(manifests.at(FILE, &format!("{POD}/securityContext")), &pod);
    let container = json!({
        "allowPrivilegeEscalation": false,
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    });
    assert_eq!(manifests.at(FILE, &format!("{CONTAINER}/securityContext")), &container);
    for switched_off in ["automountServiceAccountToken", "enableServiceLinks"] {
        assert_eq!(manifests.at(FILE, &format!("{POD}/{switched_off}")), &json!(false));
    }
    assert_eq!(manifests.list(FILE, &format!("{POD}/containers")).len(), 1);
    assert_eq!(manifests.at("networkpolicy.yaml", "/spec/egress"), &json!([]));
}

#[test]
fn the_pod_is_of_the_class_guaranteed() {
    let Some(manifests) = Manifests::read() else { return };
    let of = |which: &str| manifests.at(FILE, &format!("{CONTAINER}/resources/{which}"));
    assert_eq!(of("requests"), of("limits"));
    let cpu = of("limits")["cpu"].as_str().unwrap();
    assert!(cpu.parse::<u8>().is_ok(), "{cpu}: whole cores, so that every worker has one");
    assert!(of("limits")["memory"].is_string());
}

#[test]
fn certificate_files_are_in_the_mounted_secret() {
    let Some(manifests) = Manifests::read() else { return };
    let mount = manifests.at(FILE, &format!("{CONTAINER}/volumeMounts/0"));
    let volume = manifests.at(FILE, &format!("{POD}/volumes/0"));
    assert_eq!((&mount["name"], &mount["readOnly"]), (&volume["name"], &json!(true)));
    let directory = mount["mountPath"].as_str().unwrap();
    let items = volume["secret"]["items"].as_array().unwrap().iter();
    let mut mounted: Vec<String> =
        items.map(|item| format!("{directory}/{}", item["path"].as_str().unwrap())).collect();
    let variables = manifests.variables();
    let named = ["CERTIFICATE", "KEY", "CLIENT_CA"].map(|which| variables[&format!("ZONECAST_TLS_{which}")].clone());
    let mut named = named.to_vec();
    mounted.sort();
    named.sort();
    assert_eq!(mounted, named);
    let mode = volume["secret"]["defaultMode"].as_u64().unwrap();
    assert_eq!(mode, 0o440, "read by owner and group, by nobody else");

    // The page that says how to make the Secret makes this one.
    let page = read("deploy/README.md");
    let name = volume["secret"]["secretName"].as_str().unwrap();
    assert!(page.contains(&format!("create secret generic {name} ")), "{name}");
    for item in volume["secret"]["items"].as_array().unwrap() {
        let key = item["key"].as_str().unwrap();
        assert!(page.contains(&format!("--from-file={key}=")), "{key}");
    }
}
