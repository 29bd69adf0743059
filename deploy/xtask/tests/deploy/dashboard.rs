//! The dashboards, and the page on deploying, name metrics that are there.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::read;

/// The lists of metrics in the broker's source: how each begins, and what Prometheus puts after the names in it.
const LISTS: [(&str, &[&str]); 5] = [
    ("let gauges = vec![", &[""]),
    ("self.gauge_families = vec![", &[""]),
    ("fn counters(", &["_total"]),
    ("self.families = vec![", &["_total"]),
    ("totals.histograms = vec![", HISTOGRAM),
];

/// What Prometheus puts after the name of a histogram in seconds.
const HISTOGRAM: &[&str] = &["_seconds_bucket", "_seconds_count", "_seconds_sum"];

/// The metrics of the services, as their sources name them, and what Prometheus puts after each.
const OF_THE_SERVICES: [(&str, &[&str]); 23] = [
    ("rpcs", &["_total"]),
    ("rpc_duration", HISTOGRAM),
    ("rpcs_under_way", &[""]),
    ("rpc_answers_dropped", &["_total"]),
    ("rpc_connections", &[""]),
    ("rpc_connections_refused", &["_total"]),
    ("rpc_handshakes_failed", &["_total"]),
    ("tls_certificate_expiry_timestamp_seconds", &[""]),
    ("tls_reloads", &["_total"]),
    ("token_keys_read_timestamp_seconds", &[""]),
    ("token_revocations_read_timestamp_seconds", &[""]),
    ("services_broker_connected", &[""]),
    ("services_broker_calls_taken", &[""]),
    ("outbox_published", &["_total"]),
    ("outbox_parked", &["_total"]),
    ("outbox_setbacks", &["_total"]),
    ("outbox_oldest", &["_seconds"]),
    ("outbox_lease", &[""]),
    ("follower_handled", &["_total"]),
    ("follower_missed", &["_total"]),
    ("follower_setbacks", &["_total"]),
    ("follower_behind", &[""]),
    ("follower_lease", &[""]),
];

/// What the services' sources say before the names of metrics.
const NAMED_BY: [(&str, &str); 6] = [
    ("services/doors/src/metrics.rs", "registry.register(\""),
    ("services/doors/src/metrics.rs", "registry.register_with_unit(\""),
    ("services/host/src/metrics.rs", "encode_descriptor(\""),
    ("services/host/src/metrics.rs", "\"outbox_"),
    ("services/host/src/metrics.rs", "\"follower_"),
    ("services/host/src/metrics.rs", "\"token_"),
];

/// Who has metrics, and a dashboard of this name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Broker,
    Services,
}

impl Whose {
    const ALL: [Self; 2] = [Self::Broker, Self::Services];

    fn dashboard(self) -> Value {
        let name = match self {
            Self::Broker => "broker",
            Self::Services => "services",
        };
        serde_json::from_str(&read(&format!("deploy/dashboards/{name}.json"))).unwrap()
    }

    /// Without the prefix that all of them have.
    fn metrics(self) -> BTreeSet<String> {
        match self {
            Self::Broker => metrics_of_the_broker(),
            Self::Services => {
                let known = OF_THE_SERVICES.iter();
                known.flat_map(|(name, endings)| endings.iter().map(move |ending| format!("{name}{ending}"))).collect()
            }
        }
    }
}

fn metrics_of_the_broker() -> BTreeSet<String> {
    let source = read("broker/src/metrics.rs");
    assert!(source.contains("with_prefix(\"zonecast\")"), "the prefix is another one now");
    let mut metrics = BTreeSet::new();
    for (start, endings) in LISTS {
        let list =
            source.split_once(start).unwrap_or_else(|| panic!("broker/src/metrics.rs has no `{start}` any more")).1;
        // It ends at the first line that closes it; rows are `("name", ...)`, on one line or, when long, on several.
        let end = list.find("];").into_iter().chain(list.find("    ]\n")).min().unwrap();
        let names = list[..end].split('(').filter_map(|row| row.trim_start().strip_prefix('"')?.split('"').next());
        let before = metrics.len();
        metrics.extend(names.flat_map(|name| endings.iter().map(move |ending| format!("{name}{ending}"))));
        assert!(metrics.len() > before, "no metric was found in `{start}`");
    }
    metrics
}

/// All queries of a dashboard: those of its panels, and those that fill its variables.
fn queries(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let of_panels = targets.map(|target| target["expr"].as_str().unwrap().to_owned());
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    let of_variables = variables.filter_map(|variable| variable["query"]["query"].as_str().map(str::to_owned));
    of_panels.chain(of_variables).collect()
}

/// The metrics that a query names, without the prefix that all of them have.
fn metrics(query: &str) -> BTreeSet<String> {
    let of_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words = query.split(|character: char| !of_name(character));
    words.filter_map(|word| word.strip_prefix("zonecast_")).map(str::to_owned).collect()
}

#[test]
fn every_metric_of_a_dashboard_is_there() {
    for whose in Whose::ALL {
        let there_are = whose.metrics();
        let mut used = BTreeSet::new();
        for query in queries(&whose.dashboard()) {
            let named = metrics(&query);
            assert!(!named.is_empty(), "asks for no metric of ours: {query}");
            used.extend(named);
        }
        let unknown: Vec<_> = used.difference(&there_are).collect();
        assert!(unknown.is_empty(), "there are no metrics of these names: {unknown:?}\nbut: {there_are:?}");
        assert!(used.len() >= 12, "{used:?}");
    }
}

#[test]
fn every_metric_of_the_page_is_there() {
    let there_are: BTreeSet<String> = Whose::ALL.into_iter().flat_map(Whose::metrics).collect();
    let named = metrics(&read("deploy/README.md"));
    let unknown: Vec<_> = named.difference(&there_are).collect();
    assert!(unknown.is_empty() && named.len() > 15, "{unknown:?} of {named:?}");
}

#[test]
fn the_services_metrics_are_those_of_their_sources() {
    let mut found = BTreeSet::new();
    for (path, before) in NAMED_BY {
        let source = read(path);
        assert!(source.contains(before), "{path} names no metric by `{before}` any more");
        let own = source.split("#[cfg(test)]").next().unwrap();
        // What the pattern says of the name belongs to it.
        let begins = before.rsplit('"').next().unwrap();
        found.extend(own.split(before).skip(1).map(|rest| format!("{begins}{}", rest.split('"').next().unwrap())));
    }
    let known: BTreeSet<String> = OF_THE_SERVICES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(found, known);
    assert!(
        read("services/host/src/metrics.rs").contains("with_prefix(\"zonecast\")"),
        "the prefix is another one now"
    );
}

#[test]
fn names_are_read_with_their_endings() {
    let there_are = metrics_of_the_broker();
    for good in ["sessions", "interest_epoch", "world_zones", "events_in_total", "deliveries_out_total"] {
        assert!(there_are.contains(good), "{good}");
    }
    for good in ["match_seconds_bucket", "delivery_residence_seconds_sum", "sessions_opened_total"] {
        assert!(there_are.contains(good), "{good}");
    }
    for bad in ["session", "sessions_total", "events_in", "match_total", "match_bucket", "world_zones_total", "class"] {
        assert!(!there_are.contains(bad), "{bad}");
    }
    let named = metrics("sum by (le) (rate(zonecast_a_total{job=\"x\"}[1m])) / zonecast_b");
    assert_eq!(named, ["a_total", "b"].map(str::to_owned).into());
}

#[test]
fn every_panel_can_be_read() {
    let dashboards = Whose::ALL.map(Whose::dashboard);
    let uids: BTreeSet<&str> = dashboards.iter().map(|dashboard| dashboard["uid"].as_str().unwrap()).collect();
    assert_eq!(uids.len(), dashboards.len(), "one would replace the other");
    for dashboard in &dashboards {
        let panels = dashboard["panels"].as_array().unwrap();
        let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len(), "two panels have one id");
        let places: BTreeSet<String> = panels.iter().map(|panel| panel["gridPos"].to_string()).collect();
        assert_eq!(places.len(), panels.len(), "two panels have one place");
        for panel in panels {
            for field in ["title", "description"] {
                assert!(panel[field].as_str().is_some_and(|text| !text.is_empty()), "{field} of panel {}", panel["id"]);
            }
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "unit of panel {}", panel["id"]);
            // Chosen by the reader: an id would be one installation's.
            assert_eq!(panel["datasource"]["uid"], "${datasource}");
        }
    }
}

/// The methods that the services' dashboard asks for, by name, are there.
#[test]
fn every_method_of_a_dashboard_is_there() {
    let mut asked = 0;
    for query in queries(&Whose::Services.dashboard()) {
        for (package, rest) in query.split("zonecast.").skip(1).map(|rest| rest.split_once(".v1.").unwrap()) {
            let methods = rest.split_once("Service/(").map(|(_, rest)| rest.split(')').next().unwrap());
            let proto = read(&format!("protocol/proto/zonecast/{package}/v1/{package}.proto"));
            for method in methods.into_iter().flat_map(|list| list.split('|')) {
                assert!(proto.contains(&format!("rpc {method}(")), "{package} has no method {method}");
                asked += 1;
            }
        }
    }
    assert!(asked > 10, "{asked}");
}
