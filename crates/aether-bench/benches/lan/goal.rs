//! The goals, what was measured, and the table of both.

use aether_bench::{Table, median};

/// The measurements so far.
#[derive(Debug, Default)]
pub(crate) struct Goals(Vec<Goal>);

#[derive(Debug)]
struct Goal {
    what: String,
    goal: String,
    measured: String,
    is_reached: bool,
}

impl Goals {
    fn add(&mut self, what: &str, goal: String, measured: String, is_reached: bool) {
        self.0.push(Goal { what: what.to_owned(), goal, measured, is_reached });
    }

    /// Adds a figure that has to be at least a bound. Not a number is not reached.
    pub(crate) fn at_least(&mut self, what: &str, least: f64, measured: f64, unit: &str) {
        self.add(what, format!(">= {least}{unit}"), format!("{measured:.2}{unit}"), measured >= least);
    }

    /// Adds a figure that has to be at most a bound. Not a number is not reached.
    pub(crate) fn at_most(&mut self, what: &str, most: f64, measured: f64, unit: &str) {
        self.add(what, format!("<= {most}{unit}"), format!("{measured:.2}{unit}"), measured <= most);
    }

    /// Adds something that has to be so.
    pub(crate) fn is(&mut self, what: &str, measured: String, is_reached: bool) {
        self.add(what, "yes".to_owned(), measured, is_reached);
    }

    pub(crate) fn are_reached(&self) -> bool {
        self.0.iter().all(|goal| goal.is_reached)
    }

    pub(crate) fn table(&self) -> String {
        let mut table = Table::new(&["figure", "goal", "measured", ""]);
        for Goal { what, goal, measured, is_reached } in &self.0 {
            let verdict = if *is_reached { "reached" } else { "missed" };
            table.row([what.clone(), goal.clone(), measured.clone(), verdict.to_owned()]);
        }
        table.markdown()
    }
}

/// The median of some rounds, with the least and the greatest.
pub(crate) fn spread(rounds: &[f64], digits: usize) -> String {
    let least = rounds.iter().copied().fold(f64::INFINITY, f64::min);
    let most = rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.digits$} ({least:.digits$} to {most:.digits$})", median(rounds.iter().copied()))
}
