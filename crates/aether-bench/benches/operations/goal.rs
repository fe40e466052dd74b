//! The goals, what was measured, and the table of both.

use aether_bench::Table;

/// The measurements so far.
#[derive(Debug, Default)]
pub(crate) struct Goals(Vec<Goal>);

#[derive(Debug)]
struct Goal {
    what: String,
    goal: String,
    measured: String,
    how: String,
    /// Nothing for what is shown beside a goal.
    is_reached: Option<bool>,
}

impl Goals {
    /// Adds a figure that has to be below a bound.
    pub(crate) fn below(&mut self, what: &str, most: f64, measured: f64, unit: &str, how: String) {
        self.0.push(Goal {
            what: what.to_owned(),
            goal: format!("< {most} {unit}"),
            measured: format!("{measured:.2} {unit}"),
            how,
            // Not a number is not reached.
            is_reached: Some(measured < most),
        });
    }

    /// Adds a figure that has no bound of its own.
    pub(crate) fn shown(&mut self, what: &str, measured: String, how: String) {
        let (what, goal) = (what.to_owned(), String::new());
        self.0.push(Goal { what, goal, measured, how, is_reached: None });
    }

    /// Adds a number that has to be zero.
    pub(crate) fn none(&mut self, what: &str, measured: u64, how: String) {
        let (what, goal, measured_text) = (what.to_owned(), "0".to_owned(), measured.to_string());
        self.0.push(Goal { what, goal, measured: measured_text, how, is_reached: Some(measured == 0) });
    }

    pub(crate) fn are_reached(&self) -> bool {
        self.0.iter().all(|goal| goal.is_reached != Some(false))
    }

    pub(crate) fn table(&self) -> String {
        let mut table = Table::new(&["figure", "goal", "measured", "", "conditions"]);
        for Goal { what, goal, measured, how, is_reached } in &self.0 {
            let verdict = match is_reached {
                Some(true) => "reached",
                Some(false) => "missed",
                None => "",
            };
            table.row([what.clone(), goal.clone(), measured.clone(), verdict.to_owned(), how.clone()]);
        }
        table.markdown()
    }
}
