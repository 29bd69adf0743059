//! Line plots as SVG, for a page that has nothing beside it.

use std::fmt::Write;

/// Size of a plot in its own units; a page scales it.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 320.0;
/// Room around the lines: left, right, top, bottom.
const MARGIN: [f64; 4] = [76.0, 36.0, 44.0, 50.0];
/// About so many marks on an axis.
const TICKS: f64 = 6.0;
/// How lines differ beside their colour, for those who see no colours.
const DASHES: [&str; 3] = ["", "7 4", "2 3"];

/// An axis: what it measures, from where to where, and its marks.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub(super) label: &'static str,
    is_log: bool,
    low: f64,
    high: f64,
    ticks: Vec<(f64, String)>,
}

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

impl Axis {
    /// Evenly, from zero to at least `high`.
    pub(super) fn linear(label: &'static str, high: f64) -> Self {
        let high = if high > 0.0 && high.is_finite() { high } else { 1.0 };
        let rough = high / TICKS;
        let decade = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * decade).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let count = (high / step).ceil();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most a dozen")]
        let ticks = (0..=count as u32).map(|n| f64::from(n) * step);
        Self { label, is_log: false, low: 0.0, high: count * step, ticks: ticks.map(|at| (at, short(at))).collect() }
    }

    /// By orders of magnitude, at least around `low` and `high`.
    pub(super) fn log(label: &'static str, low: f64, high: f64) -> Self {
        let low = 10_f64.powf(low.max(1.0).log10().floor());
        let high = 10_f64.powf(high.max(low * 1.001).log10().ceil()).max(low * 10.0);
        let mut ticks = Vec::new();
        let mut decade = low;
        while decade <= high * 1.001 {
            // Over a few decades there is room for marks between them.
            let between: &[f64] = if high / low < 2000.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
            ticks.extend(between.iter().map(|times| times * decade).filter(|at| *at <= high * 1.001));
            decade *= 10.0;
        }
        Self { label, is_log: true, low, high, ticks: ticks.into_iter().map(|at| (at, short(at))).collect() }
    }

    /// With marks of its own.
    pub(super) fn marked(label: &'static str, high: f64, ticks: Vec<(f64, String)>) -> Self {
        Self { label, is_log: false, low: 0.0, high, ticks }
    }

    /// Where a value lies, 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let place = if self.is_log {
            (value.max(self.low) / self.low).log10() / (self.high / self.low).log10()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        place.clamp(0.0, 1.0)
    }
}

/// A number as people read it: 1200000 is 1.2M.
pub(super) fn short(value: f64) -> String {
    let (scaled, unit) = match value {
        value if value >= 999_500.0 => (value / 1e6, "M"),
        value if value >= 999.5 => (value / 1e3, "k"),
        value => (value, ""),
    };
    let digits = if scaled >= 99.5 || scaled.fract().abs() < 1e-9 { 0 } else { 2 };
    let text = format!("{scaled:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// The plot. Its colours are the classes `plot`, `grid` and `line0` to `line2` of the page.
pub(super) fn svg(title: &str, x: &Axis, y: &Axis, lines: &[Line]) -> String {
    let [left, right, top, bottom] = MARGIN;
    let across = |value: f64| left + x.place(value) * (WIDTH - left - right);
    let down = |value: f64| HEIGHT - bottom - y.place(value) * (HEIGHT - top - bottom);
    let mut out = format!(
        "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n\
         <text class=\"title\" x=\"{left}\" y=\"18\">{title}</text>\n"
    );
    // Writing to memory cannot fail.
    for (at, text) in &y.ticks {
        let at = down(*at);
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
            WIDTH - right,
            left - 8.0,
            at + 4.0
        );
    }
    for (at, text) in &x.ticks {
        let at = across(*at);
        let (low, high) = (HEIGHT - bottom, top);
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{high}\" y2=\"{low}\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
            low + 18.0
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
         <text transform=\"translate(16 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        f64::midpoint(left, WIDTH - right),
        HEIGHT - 8.0,
        x.label,
        f64::midpoint(top, HEIGHT - bottom),
        y.label
    );
    for (number, line) in lines.iter().enumerate() {
        let points: Vec<String> =
            line.points.iter().map(|(a, b)| format!("{:.1},{:.1}", across(*a), down(*b))).collect();
        let dash = DASHES[number % DASHES.len()];
        let key = WIDTH - right - 90.0 * (lines.len() - number) as f64;
        let _ = writeln!(
            out,
            "<polyline class=\"line{number}\" stroke-dasharray=\"{dash}\" points=\"{}\"/>\
             <line class=\"line{number}\" stroke-dasharray=\"{dash}\" x1=\"{key:.1}\" x2=\"{:.1}\" y1=\"30\" y2=\"30\"/>\
             <text x=\"{:.1}\" y=\"34\">{}</text>",
            points.join(" "),
            key + 26.0,
            key + 31.0,
            line.name
        );
    }
    out.push_str("</svg>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (20.0, "20"),
            (999.0, "999"),
            (1000.0, "1k"),
            (2500.0, "2.5k"),
            (120_000.0, "120k"),
            (1_250_000.0, "1.25M"),
        ] {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn axes_cover_what_is_shown_with_few_marks() {
        for high in [0.0, 0.3, 1.0, 7.0, 99.0, 101.0, 2_345_678.0, f64::NAN] {
            let axis = Axis::linear("", high);
            assert!(axis.high >= high || high.is_nan());
            assert!((2..=12).contains(&axis.ticks.len()), "{high}: {:?}", axis.ticks);
            assert!((axis.place(axis.high) - 1.0).abs() < 1e-9);
        }
        for (low, high) in [(0.0, 0.0), (90.0, 120.0), (100.0, 1000.0), (1.0, 5e6)] {
            let axis = Axis::log("", low, high);
            assert!(axis.low <= low.max(1.0) && axis.high >= high, "{axis:?}");
            assert!((2..=12).contains(&axis.ticks.len()), "{low}..{high}: {:?}", axis.ticks);
            assert!(axis.place(axis.low).abs() < 1e-9 && (axis.place(axis.high) - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn lines_stay_within_the_plot() {
        let line = Line { name: "a", points: vec![(-5.0, -5.0), (3.0, 50.0), (99.0, 1e9)] };
        let drawn = svg("t", &Axis::linear("x", 10.0), &Axis::log("y", 1.0, 100.0), &[line]);
        let points = drawn.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        for pair in points.split(' ') {
            let (x, y) = pair.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!((MARGIN[0]..=WIDTH - MARGIN[1]).contains(&x), "{pair}");
            assert!((MARGIN[2]..=HEIGHT - MARGIN[3]).contains(&y), "{pair}");
        }
    }
}
