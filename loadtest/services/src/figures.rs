//! What was measured, round by round, and how it is told.

use std::fmt;

use serde_json::{Value, json};

/// Figures, each with its value of every round.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    rows: Vec<Row>,
}

#[derive(Debug, Clone)]
struct Row {
    what: String,
    unit: &'static str,
    /// In order of size.
    rounds: Vec<f64>,
}

impl Figures {
    /// Adds the value of one round.
    pub(crate) fn note(&mut self, what: impl Into<String>, unit: &'static str, value: f64) {
        let what = what.into();
        match self.rows.iter_mut().find(|row| row.what == what) {
            Some(row) => {
                let place = row.rounds.partition_point(|known| *known < value);
                row.rounds.insert(place, value);
            }
            None => self.rows.push(Row { what, unit, rounds: vec![value] }),
        }
    }

    /// What was measured, in the order in which it was.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().map(|row| row.what.as_str())
    }

    /// The median of a figure.
    #[must_use]
    pub fn median(&self, what: &str) -> Option<f64> {
        self.rows.iter().find(|row| row.what == what).map(Row::median)
    }

    /// For machines.
    #[must_use]
    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            let (least, most) = row.spread();
            json!({ "what": row.what, "unit": row.unit, "median": row.median(), "least": least, "most": most,
                "rounds": row.rounds.len() })
        };
        self.rows.iter().map(row).collect()
    }
}

impl Row {
    fn median(&self) -> f64 {
        self.rounds.get(self.rounds.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn spread(&self) -> (f64, f64) {
        let end = |value: Option<&f64>| value.copied().unwrap_or(f64::NAN);
        (end(self.rounds.first()), end(self.rounds.last()))
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<48} {:>12} {:>12} {:>12}  unit", "figure", "median", "least", "most")?;
        for row in &self.rows {
            let (least, most) = row.spread();
            let [median, least, most] = [row.median(), least, most].map(shown);
            writeln!(f, "{:<48} {median:>12} {least:>12} {most:>12}  {}", row.what, row.unit)?;
        }
        Ok(())
    }
}

/// With as many places as are worth reading.
fn shown(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::Figures;

    #[test]
    fn the_median_is_told_between_the_least_and_the_most() {
        let mut figures = Figures::default();
        for value in [3.0, 1.0, 250.4] {
            figures.note("a", "us", value);
        }
        assert_eq!(figures.median("a"), Some(3.0));
        assert_eq!(figures.median("b"), None);
        let line = figures.to_string().lines().nth(1).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        assert_eq!(line.as_deref(), Some("a 3.00 1.00 250 us"));
        assert_eq!(figures.json()[0]["most"], 250.4);
    }
}
