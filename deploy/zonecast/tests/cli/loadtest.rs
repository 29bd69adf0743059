//! Short load tests with real brokers and generators.

use std::process::{Child, Output, Stdio};

use serde_json::Value;

use super::{certificates, run, server::Server, text, zonecast};

fn start(arguments: &[&str]) -> Child {
    let small = ["loadtest", "--json", "--sessions", "16", "--publishers", "2", "--seconds", "0.8", "--warm-up", "0.2"];
    let mut command = zonecast();
    command.args(small).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn report(output: &Output) -> Value {
    let (printed, told) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{printed}\n{told}");
    assert_eq!(printed.lines().count(), 1, "one JSON object and nothing else: {printed}");
    serde_json::from_str(&printed).unwrap()
}

fn number(report: &Value, path: &str) -> f64 {
    let found = report.pointer(path).and_then(Value::as_f64);
    assert!(found.is_some(), "{path} in {report}");
    found.unwrap()
}

fn assert_exact(report: &Value) {
    for key in ["lost", "duplicated", "unexpected", "miscounted_acks", "unanswered", "broken_sessions"] {
        assert_eq!(report[key], 0, "{key} in {report}");
    }
    assert_eq!(report["passed"], true, "{report}");
    let latency: Vec<u64> =
        ["p50", "p90", "p99", "p999", "max"].iter().map(|key| report["latency_us"][key].as_u64().unwrap()).collect();
    assert!(latency.is_sorted() && latency[0] > 0, "{report}");
}

#[test]
fn every_scenario_is_exact_at_a_rate() {
    let runs = ["grid", "random", "hotspot", "border", "moving"].map(|scenario| {
        let more = ["--scenario", scenario, "--zones", "64", "--rate", "500", "--moves-per-second", "400"];
        (scenario, start(&more))
    });
    for (scenario, child) in runs {
        let report = report(&child.wait_with_output().unwrap());
        assert_exact(&report);
        assert_eq!(report["settings"]["scenario"], scenario);
        // Of one second at that rate, however slow the machine is.
        assert_eq!((number(&report, "/events"), number(&report, "/offered_events_s")), (500.0, 500.0), "{report}");
        assert_eq!(number(&report, "/events_s"), 500.0, "{report}");
        let fan_out = number(&report, "/deliveries") / 500.0;
        match scenario {
            "grid" => assert_eq!(fan_out, 4.0, "{report}"),
            _ => assert!((2.0..8.0).contains(&fan_out), "{fan_out} in {report}"),
        }
        assert_eq!(number(&report, "/moves_s") > 0.0, scenario == "moving", "{report}");
        for figure in ["/broker/cores", "/broker/rss_mib", "/broker/rss_per_session_kib", "/generator/cores"] {
            assert!(number(&report, figure) > 0.0, "{figure} in {report}");
        }
        assert!(report["generator"]["saturated"].is_boolean());
    }
}

#[test]
fn unpaced_runs_are_exact_with_several_generators_and_workers_and_when_processed() {
    let many = start(&["--rate", "max", "--generators", "3", "--workers", "2", "--window", "64", "--payload", "200"]);
    let processed = start(&["--rate", "max", "--ack", "processed", "--window", "16", "--fan-out", "1"]);
    let frozen = start(&["--rate", "200", "--frozen", "2"]);
    let mut reports = [many, processed, frozen].map(|child| report(&child.wait_with_output().unwrap()));
    for (report, fan_out) in reports.iter().zip([4.0, 1.0]) {
        assert_exact(report);
        assert_eq!(number(report, "/deliveries"), fan_out * number(report, "/events"), "{report}");
        assert!(number(report, "/broker/cpu_s_per_million_deliveries") > 0.0, "{report}");
    }
    let frozen = &mut reports[2];
    assert_exact(frozen);
    assert_eq!(frozen["frozen_sessions"], 2);
    let deliveries = number(frozen, "/deliveries");
    assert!(deliveries > 500.0 && deliveries < 4.0 * number(frozen, "/events"), "only the others count: {frozen}");
}

#[test]
fn a_broker_elsewhere_is_measured_from_outside_and_the_page_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let flags = certificates(directory.path());
    let mut broker = Server::start("127.0.0.1:0", &flags, "json");
    let [listen, _] = broker.addresses();
    let ca = directory.path().join("certs/ca.pem");
    let page = directory.path().join("report.html");
    let connect = ["--connect", &listen, "--ca", ca.to_str().unwrap(), "--server-name", "localhost"];
    let more = ["--rate", "200", "--class", "transient", "--html", page.to_str().unwrap()];
    let report = report(&start(&[&connect[..], &more].concat()).wait_with_output().unwrap());
    assert!(number(&report, "/deliveries") > 0.0);
    for figure in ["cpu_s_per_million_deliveries", "cores", "rss_mib", "rss_per_session_kib"] {
        assert!(report["broker"][figure].is_null(), "{figure} in {report}");
    }
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<svg") && page.contains("deliveries"), "{page}");
    broker.signal("TERM");
    assert_eq!(broker.end().0, Some(0));
}

#[test]
fn settings_that_make_no_sense_are_named_with_a_way_out() {
    for (arguments, words) in [
        (&["--zones", "257"][..], "--zones 257"),
        (&["--fan-out", "5"], "give 1, 4, 9"),
        (&["--rate", "fast"], "or max"),
        (&["--class", "transient", "--ack", "processed"], "--class reliable"),
        (&["--frozen", "32"], "--frozen 32"),
        (&["--payload", "10"], "--payload 10"),
    ] {
        let output = run(&[&["loadtest"], arguments].concat());
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(words), "{words} in {told}");
    }
}

#[test]
fn a_broker_that_is_not_there_is_an_error_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    let ca = directory.path().join("certs/ca.pem");
    let output = start(&["--connect", "127.0.0.1:1", "--ca", ca.to_str().unwrap()]).wait_with_output().unwrap();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("cannot connect"), "{told}");
}
