//! Results as a page for the browser: one file, no scripts, nothing loaded from elsewhere.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Context as _;

use crate::{
    peer::Peer,
    results::{CellResults, Results, Row},
    statistics::Summary,
    table::{grouped, measured, short},
};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2430;--soft:#667085;--line:#d9dee7;--paper:#fff;--bar:#93a4bd;--ours:#d9622b;--good:#1a7f4b;--bad:#c0322b}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#98a2b3;--line:#343b47;--paper:#14181f;--bar:#5d6f8c;--ours:#ee7d45;--good:#4cc38a;--bad:#ff6b61}}
body{margin:2rem auto;max-width:72rem;padding:0 1rem;font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper)}
h1{margin:0}h2{margin:2.5rem 0 .2rem;border-top:1px solid var(--line);padding-top:1.2rem}p{margin:.3rem 0;color:var(--soft)}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(26rem,1fr));gap:1rem 2rem}figure{margin:.8rem 0}figcaption{font-weight:600}
table{border-collapse:collapse;margin:1rem 0;width:100%}th,td{text-align:left;padding:.25rem .7rem .25rem 0;border-bottom:1px solid var(--line)}
td.n{font-variant-numeric:tabular-nums}.met{color:var(--good)}.missed{color:var(--bad);font-weight:600}code{font-size:.9em}
svg{width:100%;height:auto}svg text{font:13px system-ui,sans-serif;fill:var(--ink)}.bar{fill:var(--bar)}.ours{fill:var(--ours)}.whisker{stroke:var(--ink);stroke-width:1.2}
";

/// Room for names, bars and values of a plot, in the units of its drawing.
const NAME_WIDTH: f64 = 86.0;
const BAR_WIDTH: f64 = 230.0;
const VALUE_WIDTH: f64 = 104.0;
const ROW_HEIGHT: f64 = 24.0;

/// Reads what `--json` wrote, and writes the page.
///
/// # Errors
/// The files.
pub(crate) fn again(results: &Path, html: &Path) -> anyhow::Result<()> {
    let text = fs::read_to_string(results).with_context(|| results.display().to_string())?;
    let results: Results =
        serde_json::from_str(&text).with_context(|| format!("{} is no result", results.display()))?;
    fs::write(html, page(&results)).with_context(|| html.display().to_string())
}

/// The whole page.
pub(crate) fn page(results: &Results) -> String {
    let about = &results.about;
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>zonecast bake-off</title>\n<style>{STYLE}</style>\n<h1>The bake-off</h1>\n\
         <p>{}, {}. Medians of {} interleaved rounds of {} s; the thin line is from the least to the greatest.</p>\n\
         <p><code>{}</code></p>\n",
        escaped(&about.date),
        escaped(&about.machine),
        about.rounds,
        about.seconds,
        escaped(&about.command),
    );
    html.push_str(&targets(results));
    for cell in &results.cells {
        html.push_str(&of_cell(cell));
    }
    html.push_str(&peers(results));
    html.push_str("</html>\n");
    html
}

fn targets(results: &Results) -> String {
    if results.targets.is_empty() {
        return String::new();
    }
    let met = results.targets.iter().filter(|verdict| verdict.met == Some(true)).count();
    let mut html = format!(
        "<h2>Targets: {met} of {} met</h2>\n<table><tr><th>target<th>limit<th>measured<th></tr>\n",
        results.targets.len()
    );
    for verdict in &results.targets {
        let class = match verdict.met {
            Some(true) => "met",
            Some(false) => "missed",
            None => "",
        };
        let (words, limit, (measured, met)) = (escaped(&verdict.words), escaped(&verdict.limit), measured(verdict));
        let _ =
            writeln!(html, "<tr><td>{words}<td class=n>{limit}<td class=n>{measured}<td class=\"{class}\">{met}</tr>");
    }
    html.push_str("</table>\n");
    html
}

fn of_cell(cell: &CellResults) -> String {
    let mut html = format!("<h2>{}</h2>\n<p>{}</p>\n<div class=plots>\n", escaped(&cell.name), escaped(&cell.words));
    let queues = if cell.paced { "" } else { "; queues are full" };
    let mut draw = |caption: &str, drawing: String| {
        let _ = writeln!(html, "<figure><figcaption>{caption}</figcaption>{drawing}</figure>");
    };
    let rows = &cell.rows;
    draw("Deliveries per second", plot(rows, |row| row.deliveries_s, grouped));
    draw("Broker CPU seconds per million deliveries", plot(rows, |row| row.broker_cpu_s_per_million, short));
    draw(&format!("Median latency, µs{queues}"), plot(rows, |row| row.p50_us, grouped));
    draw(&format!("99th percentile, µs{queues}"), plot(rows, |row| row.p99_us, grouped));
    html.push_str("</div>\n");
    html.push_str(&remarks(cell));
    html
}

/// Horizontal bars from zero, one for each peer.
fn plot(rows: &[Row], figure: impl Fn(&Row) -> Option<Summary>, number: impl Fn(f64) -> String) -> String {
    let greatest = rows.iter().filter_map(&figure).map(|summary| summary.max).fold(0.0, f64::max);
    let (width, height) = (NAME_WIDTH + BAR_WIDTH + VALUE_WIDTH, ROW_HEIGHT * rows.len() as f64);
    let mut svg = format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\">");
    for (index, row) in rows.iter().enumerate() {
        let top = ROW_HEIGHT * index as f64;
        let (baseline, middle) = (top + 16.0, top + 11.5);
        let _ = write!(svg, "<text x=\"0\" y=\"{baseline}\">{}</text>", row.peer);
        let value_x = NAME_WIDTH + BAR_WIDTH + 6.0;
        let Some(summary) = figure(row) else {
            let _ = write!(svg, "<text x=\"{NAME_WIDTH}\" y=\"{baseline}\">not measured</text>");
            continue;
        };
        let scaled = |value: f64| if greatest > 0.0 { BAR_WIDTH * value / greatest } else { 0.0 };
        let class = if row.peer == Peer::Zonecast { "ours" } else { "bar" };
        let (bar, from, to) =
            (scaled(summary.median), NAME_WIDTH + scaled(summary.min), NAME_WIDTH + scaled(summary.max));
        let _ = write!(
            svg,
            "<rect class=\"{class}\" x=\"{NAME_WIDTH}\" y=\"{:.1}\" width=\"{bar:.1}\" height=\"15\" rx=\"2\"/>\
             <line class=\"whisker\" x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{middle}\" y2=\"{middle}\"/>\
             <text x=\"{value_x}\" y=\"{baseline}\">{}</text>",
            top + 4.0,
            number(summary.median),
        );
    }
    svg.push_str("</svg>");
    svg
}

/// What is not in the plots: losses, failures, and clients that were the limit.
fn remarks(cell: &CellResults) -> String {
    let mut html = String::new();
    for row in &cell.rows {
        if row.lost + row.duplicated + row.unexpected > 0 || !row.failures.is_empty() {
            let failures = escaped(&row.failures.join("; "));
            let _ = writeln!(
                html,
                "<p class=missed>{}: {} lost, {} duplicated, {} unexpected. {failures}</p>",
                row.peer, row.lost, row.duplicated, row.unexpected
            );
        }
        if row.saturated_runs > 0 {
            let (count, all) = (row.saturated_runs, row.runs.len());
            let _ = writeln!(html, "<p>{}: the clients were the limit in {count} of {all} runs.</p>", row.peer);
        }
    }
    if html.is_empty() { "<p>Nothing was lost, duplicated or unexpected.</p>\n".to_owned() } else { html }
}

fn peers(results: &Results) -> String {
    let mut html = "<h2>Who took part</h2>\n<table><tr><th>peer<th>version<th>cipher<th>copies</tr>\n".to_owned();
    for about in &results.peers {
        let (version, cipher, copies) = (escaped(&about.version), escaped(&about.cipher), escaped(&about.copies));
        let _ = writeln!(html, "<tr><td>{}<td>{version}<td>{cipher}<td>{copies}</tr>", about.peer);
    }
    html.push_str("</table>\n");
    html
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cell::Cell,
        results::{About, Run, tests::report},
        targets,
    };

    #[test]
    fn the_page_has_everything_and_needs_nothing() {
        let cell = &Cell::named(&["max-4x64".to_owned()], 2.0, 0.5).unwrap()[0];
        let runs = |deliveries_s| {
            vec![Run { round: 1, report: Some(report(cell.settings.clone(), deliveries_s)), error: None }]
        };
        let none = vec![Run { round: 1, report: None, error: Some("a <broken> pipe".to_owned()) }];
        let of_cell = [(Peer::Zonecast, runs(2.0e6)), (Peer::Tcp, runs(1.0e6)), (Peer::Grpc, none)];
        let cells = vec![CellResults::of(cell, of_cell.to_vec())];
        let about = About {
            date: "2026-01-01T00:00:00Z".to_owned(),
            machine: "2 cores".to_owned(),
            command: "bakeoff".to_owned(),
            rounds: 1,
            seconds: 2.0,
        };
        let results = Results { about, peers: Vec::new(), targets: targets::judge(&cells), cells };
        let html = page(&results);
        assert!(
            html.contains(&format!("class=\"ours\" x=\"86\" y=\"4.0\" width=\"{BAR_WIDTH:.1}\"")),
            "the longest bar"
        );
        assert!(html.contains(&format!("class=\"bar\" x=\"86\" y=\"28.0\" width=\"{:.1}\"", BAR_WIDTH / 2.0)));
        assert!(html.contains("not measured") && html.contains("a &lt;broken&gt; pipe"));
        assert!(html.contains("1 lost"));
        assert!(!html.contains("http") && !html.contains("<script"), "self-contained");
        let json = serde_json::to_string(&results).unwrap();
        assert_eq!(page(&serde_json::from_str(&json).unwrap()), html, "the same page from the file");
    }
}
