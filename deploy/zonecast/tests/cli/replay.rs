//! Recorded worlds through real brokers, held against brute force that is written here once more.

use std::{collections::BTreeSet, fmt::Write, path::Path, process::Output};

use serde_json::Value;

use super::{certificates, server::Server, text, zonecast};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../loadtest/samples/quakes");

fn replay(zones: &Path, events: &Path, more: &[&str]) -> Output {
    let mut command = zonecast();
    command.arg("replay").arg("--zones").arg(zones).arg("--events").arg(events).args(more);
    command.output().unwrap()
}

fn report(output: &Output) -> Value {
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn assert_exact(report: &Value) {
    for key in ["lost", "duplicated", "unexpected", "miscounted_acks"] {
        assert_eq!(report[key], 0, "{report}");
    }
}

fn assert_is_the_sample(report: &Value) {
    for (key, value) in
        [("events", 1707), ("sessions", 175), ("zones", 286), ("deliveries", 1853), ("unmatched_events", 73)]
    {
        assert_eq!(report[key], value, "{report}");
    }
    assert_exact(report);
    assert!(report["elapsed_s"].as_f64().unwrap() > 0.0);
    let latency: Vec<u64> =
        ["p50", "p90", "p99", "p999", "max"].iter().map(|key| report["latency_us"][key].as_u64().unwrap()).collect();
    assert!(latency.is_sorted() && latency[0] > 0, "{report}");
}

#[test]
fn the_sample_gives_its_figures_with_one_worker_and_with_two() {
    let sample = Path::new(SAMPLE);
    for workers in ["1", "2"] {
        let output = replay(&sample.join("zones.csv"), &sample.join("events.csv"), &["--json", "--workers", workers]);
        assert_is_the_sample(&report(&output));
    }
}

#[test]
fn a_broker_elsewhere_gives_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let flags = certificates(directory.path());
    let mut broker = Server::start("127.0.0.1:0", &flags, "json");
    let [listen, _] = broker.addresses();
    let ca = directory.path().join("certs/ca.pem");
    let connect = ["--json", "--connect", &listen, "--ca", ca.to_str().unwrap(), "--server-name", "localhost"];
    let sample = Path::new(SAMPLE);
    assert_is_the_sample(&report(&replay(&sample.join("zones.csv"), &sample.join("events.csv"), &connect)));
    broker.signal("TERM");
    assert_eq!(broker.end().0, Some(0));
}

/// Numbers that look random and are the same every time (Knuth's MMIX generator).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: f64) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.0 >> 32).unwrap()) / 4_294_967_296.0 * bound
    }

    /// A coordinate on a grid, so that circles just touch edges and just miss corners.
    fn on_grid(&mut self, bound: f64) -> f64 {
        (self.below(bound) * 2.0).floor() / 2.0
    }
}

#[test]
fn a_random_world_of_five_thousand_zones_equals_brute_force() {
    let directory = tempfile::tempdir().unwrap();
    let (zones_csv, events_csv) = (directory.path().join("zones.csv"), directory.path().join("events.csv"));
    let mut numbers = Numbers(7);
    let (mut zones, mut events) = (Vec::new(), Vec::new());
    let mut zone_text = "zone,min_x,min_y,max_x,max_y,session\n".to_owned();
    for number in 0..5_000 {
        let session = format!("s-{}", number % 100);
        let (x, y) = (numbers.on_grid(1000.0), numbers.on_grid(1000.0));
        let (width, height) = (numbers.on_grid(20.0), numbers.on_grid(20.0));
        writeln!(zone_text, "{number},{x},{y},{},{},{session}", x + width, y + height).unwrap();
        zones.push((session, [x, y, x + width, y + height]));
    }
    let mut event_text = "radius,id,x,y,time_ms\n".to_owned();
    for number in 0..2_000 {
        let (x, y, radius) = (numbers.on_grid(1000.0), numbers.on_grid(1000.0), numbers.on_grid(6.0));
        writeln!(event_text, "{radius},\"e,{number}\",{x},{y},{number}").unwrap();
        events.push((format!("\"e,{number}\""), [x, y, radius]));
    }
    std::fs::write(&zones_csv, zone_text).unwrap();
    std::fs::write(&events_csv, event_text).unwrap();
    let mut expected = BTreeSet::new();
    for (id, [x, y, radius]) in &events {
        for (session, [min_x, min_y, max_x, max_y]) in &zones {
            let (dx, dy) = (x - x.clamp(*min_x, *max_x), y - y.clamp(*min_y, *max_y));
            if dx * dx + dy * dy <= radius * radius {
                expected.insert(format!("{id},{session}"));
            }
        }
    }
    let expected: Vec<String> = expected.into_iter().collect();
    for workers in ["1", "2"] {
        let out = directory.path().join(format!("deliveries-{workers}.csv"));
        let more = ["--json", "--workers", workers, "--out", out.to_str().unwrap()];
        let report = report(&replay(&zones_csv, &events_csv, &more));
        assert_exact(&report);
        assert_eq!(report["deliveries"], expected.len());
        let written = std::fs::read_to_string(&out).unwrap();
        assert!(written.lines().eq(expected.iter().map(String::as_str)), "--out differs from brute force");
    }
}

#[test]
fn a_bad_row_is_named_before_anything_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    let events = directory.path().join("bad.csv");
    std::fs::write(&events, "time_ms,id,x,y,radius\n1,a,0,0,1\n2,b,0,east,1\n").unwrap();
    let output = replay(&Path::new(SAMPLE).join("zones.csv"), &events, &[]);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    for part in ["bad.csv", "line 3", "\"y\"", "\"east\"", "finite number"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert_eq!(message.lines().count(), 1, "{message}");
}
