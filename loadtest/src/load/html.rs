//! The report of a run as one page, with plots, that needs nothing beside it.

use std::fmt::Write;

use super::{
    LoadOutcome, LoadReport,
    plot::{Axis, Line, short, svg},
    tally::Window,
};

/// Light and dark, by what the reader's system asks for.
const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --grid: #d5dae1; --soft: #f3f5f8;
  --line0: #0b62c4; --line1: #c2410c; --line2: #6b21a8; --good: #166534; --bad: #b91c1c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --paper: #14171b; --grid: #373d46; --soft: #1e2329;
  --line0: #6cb2ff; --line1: #ffa066; --line2: #d0a2ff; --good: #7ee2a0; --bad: #ff8f8f; } }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.verdict { font-weight: 600; } .good { color: var(--good); } .bad { color: var(--bad); }
table { border-collapse: collapse; width: 100%; } td, th { padding: .25rem .75rem; border-bottom: 1px solid var(--grid);
  text-align: left; font-weight: normal; } td { text-align: right; font-variant-numeric: tabular-nums; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 0 2rem; }
.plot { width: 100%; height: auto; margin-top: 1rem; background: var(--soft); border-radius: .5rem; }
.plot text { fill: var(--ink); font: 12px system-ui, sans-serif; } .plot text.title { font-size: 14px; font-weight: 600; }
.plot .grid { stroke: var(--grid); } .plot polyline { fill: none; }
.line0, .line1, .line2 { stroke-width: 2; } .line0 { stroke: var(--line0); } .line1 { stroke: var(--line1); }
.line2 { stroke: var(--line2); }
";

/// Greatest number of nines in the plot of percentiles.
const NINES_MAX: f64 = 5.0;

impl LoadOutcome {
    /// The page. `made_by` says by which program and when.
    #[must_use]
    pub fn html(&self, made_by: &str) -> String {
        let report = &self.report;
        let settings = &report.settings;
        let title = format!("Load test: {}, rate {}", settings.scenario.name(), settings.rate);
        let mut out = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{title}</title>\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<style>{STYLE}</style></head>\n<body>\n\
             <h1>{title}</h1>\n<p>{}</p>\n",
            escaped(made_by)
        );
        out.push_str(&verdict(report));
        out.push_str("<div class=\"sides\">\n");
        out.push_str(&table("Figures", &figures(report)));
        out.push_str(&table("Latency, microseconds", &latencies(report)));
        out.push_str("</div>\n");
        out.push_str(&self.percentiles());
        out.push_str(&self.latency_over_time());
        out.push_str(&self.throughput_over_time());
        out.push_str("<div class=\"sides\">\n");
        out.push_str(&table("Broker and generator", &usage(report)));
        out.push_str(&table("Settings", &setting_rows(report)));
        out.push_str("</div>\n");
        out.push_str(
            "<p>Latency counts from the time at which an event was to be sent (at a rate) or was sent (unpaced) to its \
             arrival at a session. Every delivery, those of the warm-up included, is compared with brute force over all \
             zones.</p>\n</body>\n</html>\n",
        );
        out
    }

    fn percentiles(&self) -> String {
        let count = self.latency.len().max(10) as f64;
        let most = count.log10().clamp(1.0, NINES_MAX);
        let points = (0..=200).map(|n| most * f64::from(n) / 200.0);
        let points: Vec<(f64, f64)> =
            points.map(|nines| (nines, self.latency.value_at_quantile(1.0 - 10_f64.powf(-nines)) as f64)).collect();
        let ticks = [
            (0.0, "0%"),
            (0.301, "50%"),
            (1.0, "90%"),
            (2.0, "99%"),
            (3.0, "99.9%"),
            (4.0, "99.99%"),
            (5.0, "99.999%"),
        ];
        let ticks = ticks.into_iter().filter(|(at, _)| *at <= most).map(|(at, text)| (at, text.to_owned())).collect();
        let y = log_axis(points.iter().map(|(_, latency)| *latency));
        let x = Axis::marked("percentile of deliveries", most, ticks);
        svg("Latency by percentile", &x, &y, &[Line { name: "latency", points }])
    }

    fn latency_over_time(&self) -> String {
        let at = |quantile: f64| {
            let slots = self.tally.latencies().iter().enumerate().filter(|(_, slot)| !slot.is_empty());
            slots.map(|(slot, latency)| (self.middle_s(slot), latency.value_at_quantile(quantile) as f64)).collect()
        };
        let lines = [
            Line { name: "p50", points: at(0.5) },
            Line { name: "p99", points: at(0.99) },
            Line { name: "max", points: at(1.0) },
        ];
        let y = log_axis(lines.iter().flat_map(|line| &line.points).map(|(_, latency)| *latency));
        svg("Latency over time, by time of sending", &self.seconds(), &y, &lines)
    }

    fn throughput_over_time(&self) -> String {
        let window = self.window();
        let points = self.tally.counts().iter().enumerate().map(|(slot, count)| {
            let start = slot as u64 * window.slot_ns();
            let length_ns = window.slot_ns().min(window.end_ns - window.start_ns - start);
            (self.middle_s(slot), *count as f64 * 1e9 / length_ns as f64)
        });
        let points: Vec<_> = points.collect();
        let most = points.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
        let y = Axis::linear("deliveries per second", most);
        svg("Throughput over time", &self.seconds(), &y, &[Line { name: "deliveries", points }])
    }

    fn window(&self) -> Window {
        self.tally.window()
    }

    fn middle_s(&self, slot: usize) -> f64 {
        (slot as f64 + 0.5) * self.window().slot_ns() as f64 / 1e9
    }

    fn seconds(&self) -> Axis {
        Axis::linear("seconds since the measuring began", self.report.settings.seconds)
    }
}

fn log_axis(values: impl Iterator<Item = f64> + Clone) -> Axis {
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let low = if low.is_finite() { low } else { 1.0 };
    Axis::log("microseconds", low, values.fold(1.0, f64::max))
}

fn verdict(report: &LoadReport) -> String {
    let mut out = if report.passed {
        format!("<p class=\"verdict good\">All {} deliveries are accounted for.</p>\n", report.deliveries)
    } else {
        format!("<p class=\"verdict bad\">Failed: {}.</p>\n", escaped(&report.failures.join("; ")))
    };
    for remark in report.remarks() {
        // Writing to memory cannot fail.
        let _ = writeln!(out, "<p class=\"verdict bad\">{}</p>", escaped(&remark));
    }
    out
}

type Row = (&'static str, String);

fn figures(report: &LoadReport) -> Vec<Row> {
    vec![
        ("events/s offered", format!("{:.0}", report.offered_events_s)),
        ("events/s sent", format!("{:.0}", report.events_s)),
        ("deliveries/s", format!("{:.0}", report.deliveries_s)),
        ("deliveries in all", report.deliveries.to_string()),
        ("lost", report.lost.to_string()),
        ("duplicated", report.duplicated.to_string()),
        ("unexpected", report.unexpected.to_string()),
        ("acknowledgements miscounted", report.miscounted_acks.to_string()),
    ]
}

fn latencies(report: &LoadReport) -> Vec<Row> {
    let latency = &report.latency_us;
    let rows = [
        ("p50", latency.p50),
        ("p90", latency.p90),
        ("p99", latency.p99),
        ("p99.9", latency.p999),
        ("max", latency.max),
    ];
    rows.map(|(name, value)| (name, value.to_string())).into()
}

fn usage(report: &LoadReport) -> Vec<Row> {
    let known =
        |value: Option<f64>, digits: usize| value.map_or("not known".into(), |value| format!("{value:.digits$}"));
    let (broker, generator) = (&report.broker, &report.generator);
    vec![
        ("broker: CPU s per million deliveries", known(broker.cpu_s_per_million_deliveries, 3)),
        ("broker: cores", known(broker.cores, 2)),
        ("broker: memory, MiB", known(broker.rss_mib, 1)),
        ("broker: KiB per idle session", known(broker.rss_per_session_kib, 1)),
        ("generators: cores", format!("{:.2}", generator.cores)),
        ("generators: p99 of lateness, microseconds", generator.late_us.p99.to_string()),
        ("other processes: cores", known(report.machine.others_cores, 2)),
        ("cores of the machine", report.machine.cores.to_string()),
    ]
}

fn setting_rows(report: &LoadReport) -> Vec<Row> {
    let settings = &report.settings;
    let name = |value: serde_json::Result<serde_json::Value>| {
        value.ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    };
    vec![
        ("scenario", settings.scenario.name().to_owned()),
        ("zones", settings.zones.to_string()),
        ("sessions", settings.sessions.to_string()),
        ("of them frozen", settings.frozen.to_string()),
        ("publishers", settings.publishers.to_string()),
        ("fan-out", short(settings.fan_out)),
        ("payload, bytes", settings.payload_bytes.to_string()),
        ("rate, events/s", settings.rate.to_string()),
        ("window, if unpaced", settings.window.to_string()),
        ("UDP payload", format!("{} bytes at most", settings.udp_payload_bytes_max)),
        ("deliveries held back for up to", format!("{} ms", settings.coalesce_ms)),
        ("seconds measured, after a warm-up of", format!("{}, {}", settings.seconds, settings.warm_up_s)),
        (
            "class, ack",
            format!("{}, {}", name(serde_json::to_value(settings.class)), name(serde_json::to_value(settings.ack))),
        ),
        ("broker's workers", settings.workers.map_or("its default".to_owned(), |workers| workers.to_string())),
        ("moves/s asked for, made", format!("{}, {:.0}", settings.moves_per_second, report.moves_s)),
        ("seed", settings.seed.to_string()),
    ]
}

fn table(title: &str, rows: &[Row]) -> String {
    let rows: String =
        rows.iter().map(|(name, value)| format!("<tr><th>{name}</th><td>{}</td></tr>\n", escaped(value))).collect();
    format!("<div><h2>{title}</h2>\n<table>\n{rows}</table></div>\n")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{BrokerReport, GeneratorReport, LoadSettings, MachineReport, Scenario, tally::Tally};

    fn outcome(count: u64) -> LoadOutcome {
        let window = Window { start_ns: 0, end_ns: 2_000_000_000 };
        let mut tally = Tally::new(window);
        for n in 0..count {
            tally.enter(n * 1_000_000, n * 1_000_000 + 100_000 + n * n);
        }
        let latency = tally.latency();
        let report = LoadReport {
            settings: LoadSettings { scenario: Scenario::Border, seconds: 2.0, ..LoadSettings::default() },
            offered_events_s: 1000.0,
            events_s: 1000.0,
            deliveries_s: count as f64 / 2.0,
            latency_us: (&latency).into(),
            events: count,
            deliveries: count,
            lost: 0,
            duplicated: 0,
            unexpected: 0,
            miscounted_acks: 0,
            unanswered: 0,
            moves_s: 0.0,
            held_back_s: 0.0,
            frozen_sessions: 0,
            broken_sessions: 0,
            first_error: None,
            broker: BrokerReport::default(),
            generator: GeneratorReport::default(),
            machine: MachineReport::default(),
            passed: false,
            failures: Vec::new(),
        };
        let mut outcome = LoadOutcome { report, tally, latency };
        outcome.report.judge();
        outcome
    }

    #[test]
    fn the_page_needs_nothing_beside_it_and_has_all_plots() {
        let mut outcome = outcome(1500);
        outcome.report.first_error = Some("<script>".into());
        let page = outcome.html("zonecast & co");
        for part in
            ["Latency by percentile", "Latency over time", "Throughput over time", "zonecast &amp; co", "border"]
        {
            assert!(page.contains(part), "{part}");
        }
        assert_eq!(page.matches("<svg").count(), 3);
        for part in ["http", "src=", "href", "@import", "url(", "<script", "NaN", "inf"] {
            assert!(!page.contains(part), "{part}");
        }
    }

    #[test]
    fn a_run_without_deliveries_fails_and_has_a_page_nevertheless() {
        let outcome = outcome(0);
        assert!(!outcome.report.passed);
        let page = outcome.html("");
        assert!(page.contains("nothing was delivered") && !page.contains("NaN"), "{page}");
    }

    #[test]
    fn reliable_events_must_all_be_accounted_for() {
        let good = outcome(10).report;
        assert!(good.passed);
        type Break = fn(&mut LoadReport);
        let faults: [Break; 5] = [
            |report| report.lost = 1,
            |report| report.duplicated = 1,
            |report| report.unexpected = 1,
            |report| report.miscounted_acks = 1,
            |report| report.unanswered = 1,
        ];
        for fault in faults {
            let mut report = good.clone();
            fault(&mut report);
            report.judge();
            assert!(!report.passed && report.failures.len() == 1, "{report:?}");
            report.settings.class = crate::load::LoadClass::Transient;
            report.judge();
            assert!(report.passed, "transient events promise nothing of that");
        }
    }
}
