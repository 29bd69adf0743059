//! How the pods start, are watched, end, and what they may do.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    instructions::stages,
    manifests::{COMPONENTS, Folder, Manifests, on_each},
    read, seconds,
};

const FILE: &str = "deployment.yaml";
const POD: &str = "/spec/template/spec";
const CONTAINER: &str = "/spec/template/spec/containers/0";

/// The broker's manifests, and the services'.
fn both(manifests: &Manifests) -> [Folder<'_>; 2] {
    [&COMPONENTS[0], &COMPONENTS[1]].map(|component| manifests.of(component))
}

fn seconds_at(folder: Folder<'_>, pointer: &str) -> f64 {
    f64::from(u32::try_from(folder.number(FILE, pointer)).unwrap())
}

/// Seconds from the first signal to the certain end of the process, as configured.
fn end_seconds_max(folder: Folder<'_>) -> f64 {
    let grace_ms: u32 = folder.setting("shutdown_grace_ms").parse().unwrap();
    // Of the workers of a broker. The services keep all of it within the grace.
    let stop = if folder.component.folder == "broker" { seconds("broker/src/broker.rs", "STOP_TIMEOUT") } else { 0 };
    f64::from(grace_ms) / 1_000.0 + f64::from(u32::try_from(stop).unwrap())
}

#[test]
fn there_is_one_broker_at_a_time() {
    let Some(manifests) = Manifests::read() else { return };
    let [broker, _] = both(&manifests);
    assert_eq!(broker.number(FILE, "/spec/replicas"), 1);
    assert_eq!(broker.text(FILE, "/spec/strategy/type"), "Recreate");
    assert_eq!(broker.number("poddisruptionbudget.yaml", "/spec/maxUnavailable"), 0);
    assert_eq!(broker.text("service.yaml", "/spec/sessionAffinity"), "ClientIP");
}

#[test]
fn there_are_several_replicas_of_the_services_and_always_one() {
    let Some(manifests) = Manifests::read() else { return };
    let [_, services] = both(&manifests);
    let replicas = services.number(FILE, "/spec/replicas");
    assert!(replicas >= 2, "{replicas}");
    assert_eq!(services.setting("database.replicas"), replicas.to_string());
    assert_eq!(services.number("poddisruptionbudget.yaml", "/spec/maxUnavailable"), 1);
    assert_eq!(services.number(FILE, "/spec/strategy/rollingUpdate/maxUnavailable"), 0);
    for spread in services.list(FILE, &format!("{POD}/topologySpreadConstraints")) {
        assert_eq!(&spread["labelSelector"]["matchLabels"], services.at(FILE, "/spec/selector/matchLabels"));
    }
    let own_name = services.setting("services.client_id");
    assert!(own_name.ends_with(".$(POD_NAME)"), "two of one name at the broker: {own_name}");
}

#[test]
fn tables_are_brought_up_to_date_before_a_replica_starts_and_by_none() {
    let Some(manifests) = Manifests::read() else { return };
    let [_, services] = both(&manifests);
    assert_eq!(services.setting("database.migrate"), "false");
    let before = services.at(FILE, &format!("{POD}/initContainers/0"));
    assert_eq!(before["args"], json!(["migrate"]));
    let container = services.at(FILE, CONTAINER);
    for field in ["image", "envFrom"] {
        assert_eq!(before[field], container[field]);
    }
    // Both know the database by a Secret, and by nothing else.
    let url = json!({"name": "ZONECAST_DATABASE_URL",
        "valueFrom": {"secretKeyRef": {"name": "zonecast-services-database", "key": "url"}}});
    assert_eq!((&before["env"], &container["env"][0]), (&json!([url]), &url));
    assert!(!services.variables().values().flatten().any(|value| value.contains("postgres://")));
}

#[test]
fn each_runs_its_command_and_finds_the_other() {
    let Some(manifests) = Manifests::read() else { return };
    let [broker, services] = both(&manifests);
    for folder in [broker, services] {
        assert_eq!(folder.at(FILE, &format!("{CONTAINER}/args")), &json!([folder.component.folder]));
        assert_eq!(folder.text(FILE, &format!("{CONTAINER}/name")), folder.component.folder);
    }
    let address = |folder: Folder<'_>| {
        let port = folder.number("service.yaml", "/spec/ports/0/port");
        format!("{}:{port}", folder.text("service.yaml", "/metadata/name"))
    };
    assert_eq!(services.setting("services.brokers"), address(broker));
    assert_eq!(broker.setting("tokens.authority"), format!("https://{}", address(services)));
    assert_eq!(services.setting("auth.issuer"), broker.setting("tokens.authority"));
    // Whoever goes to the other is let out there, and let in there.
    let pods = |folder: Folder<'_>| folder.at(FILE, "/spec/selector/matchLabels").as_object().unwrap().clone();
    for (from, to) in [(broker, services), (services, broker), (services, services)] {
        let out = from.list("networkpolicy.yaml", "/spec/egress").iter();
        let ports = &to.list("networkpolicy.yaml", "/spec/ingress")[0]["ports"];
        let wanted = json!({"to": [{"podSelector": {"matchLabels": pods(to)}}], "ports": ports});
        assert!(out.clone().any(|rule| *rule == wanted), "{} to {}", from.component.folder, to.component.folder);
        let who = pods(from);
        let lets_in = |peer: &Value| {
            let labels = peer.pointer("/podSelector/matchLabels").and_then(Value::as_object);
            labels.is_some_and(|labels| labels.iter().all(|(name, value)| who.get(name) == Some(value)))
        };
        let within = to.list("networkpolicy.yaml", "/spec/ingress")[0]["from"].as_array().unwrap();
        assert!(within.iter().any(lets_in), "{} from {}", to.component.folder, from.component.folder);
    }
    // The broker goes nowhere else, but to where names are known.
    let out = broker.list("networkpolicy.yaml", "/spec/egress");
    assert_eq!(out.len(), 2);
    assert!(out[1]["ports"].as_array().unwrap().iter().all(|port| port["port"] == 53), "{}", out[1]);
}

#[test]
fn the_pods_outlive_their_leave() {
    on_each(|folder| {
        let patience = seconds_at(folder, &format!("{POD}/terminationGracePeriodSeconds"));
        let end = end_seconds_max(folder);
        assert!(patience >= end + 5.0, "SIGKILL after {patience} s, and it may take {end} s");
    });
}

#[test]
fn the_service_carries_packets_until_the_broker_has_drained() {
    let Some(manifests) = Manifests::read() else { return };
    let [broker, _] = both(&manifests);
    // The first failure comes at once at the worst; what follows takes a period each.
    let probe = format!("{CONTAINER}/readinessProbe");
    let failures = seconds_at(broker, &format!("{probe}/failureThreshold"));
    let carried = (failures - 1.0) * seconds_at(broker, &format!("{probe}/periodSeconds"));
    let end = end_seconds_max(broker);
    assert!(carried >= end, "the Service carries packets for {carried} s of a drain of {end} s");
}

#[test]
fn probes_ask_where_there_is_an_answer_and_wait_for_it() {
    on_each(|folder| {
        let routes = read(folder.component.routes);
        let answer = match folder.component.folder {
            "broker" => seconds("broker/src/admin.rs", "WORKER_ANSWER_TIMEOUT"),
            // For a connection to the database.
            _ => {
                crate::settings::default("database.acquire_timeout_ms").replace('_', "").parse::<u64>().unwrap() / 1_000
            }
        };
        for (probe, path) in [("startupProbe", "/ready"), ("readinessProbe", "/ready"), ("livenessProbe", "/live")] {
            let at = |rest: &str| format!("{CONTAINER}/{probe}/{rest}");
            assert_eq!(folder.at(FILE, &at("httpGet")), &json!({"path": path, "port": "admin"}), "{probe}");
            assert!(routes.contains(&format!(".route(\"{path}\", ")), "{path}");
            assert!(folder.number(FILE, &at("timeoutSeconds")) > answer, "{probe} does not wait for the answer");
        }
    });
}

#[test]
fn the_pods_may_do_nothing_that_they_do_not_need() {
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
    let container = json!({
        "allowPrivilegeEscalation": false,
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    });
    on_each(|folder| {
        assert_eq!(folder.at(FILE, &format!("{POD}/securityContext")), &pod);
        for known in folder.containers() {
            assert_eq!(known["securityContext"], container, "{}", known["name"]);
            for needed in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
                assert!(known["resources"].pointer(needed).is_some(), "{} has no {needed}", known["name"]);
            }
        }
        for switched_off in ["automountServiceAccountToken", "enableServiceLinks"] {
            assert_eq!(folder.at(FILE, &format!("{POD}/{switched_off}")), &json!(false));
        }
    });
}

#[test]
fn the_brokers_pod_is_of_the_class_guaranteed() {
    let Some(manifests) = Manifests::read() else { return };
    let [broker, _] = both(&manifests);
    assert_eq!(broker.containers().len(), 1);
    let of = |which: &str| broker.at(FILE, &format!("{CONTAINER}/resources/{which}"));
    assert_eq!(of("requests"), of("limits"));
    let cpu = of("limits")["cpu"].as_str().unwrap();
    assert!(cpu.parse::<u8>().is_ok(), "{cpu}: whole cores, so that every worker has one");
    assert!(of("limits")["memory"].is_string());
}

/// The files of one volume's Secret, where a container finds them.
fn mounted(container: &Value, volume: &Value) -> Vec<String> {
    let mounts = container["volumeMounts"].as_array().into_iter().flatten();
    let Some(mount) = mounts.clone().find(|mount| mount["name"] == volume["name"]) else { return Vec::new() };
    assert_eq!(mount["readOnly"], json!(true), "{mount}");
    let items = volume["secret"]["items"].as_array().unwrap().iter();
    items.map(|item| format!("{}/{}", mount["mountPath"].as_str().unwrap(), item["path"].as_str().unwrap())).collect()
}

#[test]
fn files_that_settings_name_are_in_the_mounted_secrets() {
    on_each(|folder| {
        let container = folder.at(FILE, CONTAINER);
        let secrets = folder.list(FILE, &format!("{POD}/volumes")).iter().filter(|volume| volume["secret"].is_object());
        let there: BTreeSet<String> = secrets.flat_map(|volume| mounted(container, volume)).collect();
        let variables = folder.variables();
        let named: BTreeSet<String> =
            variables.values().flatten().filter(|value| value.starts_with("/etc/")).cloned().collect();
        let missing: Vec<_> = named.difference(&there).collect();
        assert!(missing.is_empty(), "no Secret has {missing:?}");
        // Of PostgreSQL: the URL names it.
        let unnamed: Vec<_> =
            there.difference(&named).filter(|file| !file.starts_with("/etc/zonecast/database/")).collect();
        assert!(unnamed.is_empty(), "no setting names {unnamed:?}");
    });
}

/// The page that says how to make the Secrets makes these.
#[test]
fn every_secret_is_made_by_a_command_of_the_page() {
    let page = read("deploy/README.md");
    let made = |name: &str, key: &str| {
        let command = page.split(&format!("create secret generic {name} ")).nth(1);
        let command = command.unwrap_or_else(|| panic!("the page does not make {name}"));
        // It ends at the first line that is not continued.
        let end = command.lines().position(|line| !line.ends_with('\\')).unwrap();
        let command = command.lines().take(end + 1).collect::<String>();
        assert!(command.contains(&format!("--from-file={key}=")), "{name} is made without {key}");
    };
    on_each(|folder| {
        for secret in folder.list(FILE, &format!("{POD}/volumes")).iter().filter_map(|volume| volume.get("secret")) {
            assert_eq!(secret["defaultMode"], json!(0o440), "read by owner and group, by nobody else");
            for item in secret["items"].as_array().unwrap() {
                made(secret["secretName"].as_str().unwrap(), item["key"].as_str().unwrap());
            }
        }
        for container in folder.containers() {
            for source in container["env"].as_array().into_iter().flatten() {
                if let Some(key) = source.pointer("/valueFrom/secretKeyRef") {
                    made(key["name"].as_str().unwrap(), key["key"].as_str().unwrap());
                }
            }
        }
    });
}
