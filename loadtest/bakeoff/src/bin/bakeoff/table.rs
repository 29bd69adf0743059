//! Results as text.

use std::fmt::Write as _;

use crate::{
    peer::Peer,
    results::{CellResults, Results, Run},
    statistics::Summary,
    targets::Verdict,
};

const HEAD: &str = "| peer | deliveries/s (min-max) | x | CPU s per million (min-max) | x | p50 us (min-max) | x \
                    | p99 us (min-max) | x | RSS MiB | lost/dup./unexp. | clients the limit |";
const RULE: &str = "|---|---|---|---|---|---|---|---|---|---|---|---|";

/// One run in one line.
pub(crate) fn line(cell: &str, peer: Peer, run: &Run) -> String {
    let head = format!("{cell:<16} {peer:<10}");
    let Some(report) = &run.report else {
        return format!("{head} FAILED: {}", run.error.as_deref().unwrap_or_default());
    };
    let latency = &report.latency_us;
    let mut line = format!(
        "{head} {:>10}/s {:>6} CPU s/M, p50 {} p99 {} us",
        grouped(report.deliveries_s),
        report.broker.cpu_s_per_million_deliveries.map_or_else(|| "-".to_owned(), short),
        latency.p50,
        latency.p99,
    );
    if report.generator.saturated {
        line.push_str(", clients the limit");
    }
    if !report.failures.is_empty() {
        let _ = write!(line, "; {}", report.failures.join(", "));
    }
    line
}

/// Everything, in Markdown.
pub(crate) fn all(results: &Results) -> String {
    let about = &results.about;
    let mut text = format!(
        "\n{}; {}; medians of {} rounds of {} s; x: over zonecast\n`{}`\n",
        about.date, about.machine, about.rounds, about.seconds, about.command
    );
    for peer in &results.peers {
        let _ = writeln!(text, "- {}: {}; {}; {}", peer.peer, peer.version, peer.cipher, peer.copies);
    }
    for cell in &results.cells {
        text.push_str(&of_cell(cell));
    }
    text.push_str(&of_targets(&results.targets));
    text
}

fn of_cell(cell: &CellResults) -> String {
    let mut text = format!("\n{}: {}\n\n{HEAD}\n{RULE}\n", cell.name, cell.words);
    for row in &cell.rows {
        let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {}/{}/{} | {} |",
            row.peer,
            spread(row.deliveries_s.as_ref(), grouped),
            ratio(row.to_zonecast.deliveries_s),
            spread(row.broker_cpu_s_per_million.as_ref(), short),
            ratio(row.to_zonecast.broker_cpu),
            spread(row.p50_us.as_ref(), grouped),
            ratio(row.to_zonecast.p50),
            spread(row.p99_us.as_ref(), grouped),
            ratio(row.to_zonecast.p99),
            row.broker_rss_mib.map_or_else(|| "-".to_owned(), |summary| grouped(summary.median)),
            row.lost,
            row.duplicated,
            row.unexpected,
            format_args!("{} of {}", row.saturated_runs, row.runs.len()),
        );
    }
    for row in &cell.rows {
        for failure in &row.failures {
            let _ = writeln!(text, "\n{}: {failure}", row.peer);
        }
    }
    text
}

fn of_targets(targets: &[Verdict]) -> String {
    if targets.is_empty() {
        return "\nNone of the targets' cells was played.\n".to_owned();
    }
    let mut text = "\n| target | limit | measured | |\n|---|---|---|---|\n".to_owned();
    for verdict in targets {
        let (measured, met) = measured(verdict);
        let _ = writeln!(text, "| {} | {} | {measured} | {met} |", verdict.words, verdict.limit);
    }
    text.push_str(
        "\nThe match and the fan-out list without I/O are measured by the benches of `publish` and `router`.\n",
    );
    text
}

/// What was measured and what that means, in words.
pub(crate) fn measured(verdict: &Verdict) -> (String, &'static str) {
    let measured = verdict.measured.map_or_else(|| "-".to_owned(), |measured| format!("{measured:.2}"));
    let met = match verdict.met {
        Some(true) => "met",
        Some(false) => "NOT met",
        None => "not measured",
    };
    (measured, met)
}

fn spread(summary: Option<&Summary>, number: impl Fn(f64) -> String) -> String {
    match summary {
        None => "-".to_owned(),
        Some(Summary { median, count: 1, .. }) => number(*median),
        Some(Summary { median, min, max, .. }) => format!("{} ({}-{})", number(*median), number(*min), number(*max)),
    }
}

/// A whole number with its digits in threes.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    if number < 0.0 { format!("-{grouped}") } else { grouped }
}

/// Two significant digits or more.
pub(crate) fn short(number: f64) -> String {
    if number.abs() < 10.0 { format!("{number:.2}") } else { format!("{number:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(grouped(0.4), "0");
        assert_eq!(grouped(999.0), "999");
        assert_eq!(grouped(1_234_567.8), "1 234 568");
        assert_eq!(grouped(-12_345.0), "-12 345");
        assert_eq!((short(0.123), short(12.34)), ("0.12".to_owned(), "12.3".to_owned()));
    }

    #[test]
    fn a_spread_is_shown_where_there_is_one() {
        let several = Summary { median: 2000.0, min: 1000.0, max: 4000.0, count: 3 };
        assert_eq!(spread(Some(&several), grouped), "2 000 (1 000-4 000)");
        assert_eq!(spread(Some(&Summary { count: 1, ..several }), grouped), "2 000");
        assert_eq!(spread(None, grouped), "-");
    }
}
