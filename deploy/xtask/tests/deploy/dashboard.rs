//! The dashboard asks for metrics that the broker has.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::read;

/// The lists of metrics in the broker's source: how each begins, and what Prometheus puts after the names in it.
const LISTS: [(&str, &[&str]); 5] = [
    ("let gauges = vec![", &[""]),
    ("self.gauge_families = vec![", &[""]),
    ("fn counters(", &["_total"]),
    ("self.families = vec![", &["_total"]),
    ("totals.histograms = vec![", &["_seconds_bucket", "_seconds_count", "_seconds_sum"]),
];

/// The metrics that the broker has, without the prefix that all of them have.
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
fn every_metric_is_one_of_the_broker_s() {
    let there_are = metrics_of_the_broker();
    let dashboard: Value = serde_json::from_str(&read("deploy/dashboards/broker.json")).unwrap();
    let mut used = BTreeSet::new();
    for query in queries(&dashboard) {
        let named = metrics(&query);
        assert!(!named.is_empty(), "asks for no metric of the broker: {query}");
        used.extend(named);
    }
    let unknown: Vec<_> = used.difference(&there_are).collect();
    assert!(unknown.is_empty(), "the broker has no metrics of these names: {unknown:?}\nbut: {there_are:?}");
    assert!(used.len() > 15, "{used:?}");
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
    let dashboard: Value = serde_json::from_str(&read("deploy/dashboards/broker.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "two panels have one id");
    for panel in panels {
        for field in ["title", "description"] {
            assert!(panel[field].as_str().is_some_and(|text| !text.is_empty()), "{field} of panel {}", panel["id"]);
        }
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "unit of panel {}", panel["id"]);
        // Chosen by the reader: an id would be one installation's.
        assert_eq!(panel["datasource"]["uid"], "${datasource}");
    }
}
