//! Runs steps one after the other. The first failure ends the run, and a table lists the durations.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The steps so far.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration)>,
}

impl Steps {
    /// Runs one step. A failure prints the table and is returned with the step's name.
    pub(crate) fn run<T>(&mut self, name: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let result = self.attempt(name, step);
        if result.is_err() {
            print!("{}", self.table());
        }
        result.with_context(|| format!("step \"{name}\" failed; the steps after it were not run"))
    }

    /// Runs one step whose failure does not keep the others from being run.
    pub(crate) fn attempt<T>(&mut self, name: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("==> {name}");
        let start = Instant::now();
        let result = step();
        let label = if result.is_ok() { name.to_owned() } else { format!("{name}: FAILED") };
        self.done.push((label, start.elapsed()));
        result
    }

    /// The steps with their durations and the sum, one per line.
    pub(crate) fn table(&self) -> String {
        let total = self.done.iter().map(|(_, took)| *took).sum();
        let rows = self.done.iter().map(|(name, took)| (name.as_str(), *took)).chain([("total", total)]);
        let width = rows.clone().map(|(name, _)| name.len()).max().unwrap_or(0);
        let lines = rows.map(|(name, took)| format!("{name:<width$}  {:>7.1} s\n", took.as_secs_f64()));
        std::iter::once("\n".to_owned()).chain(lines).collect()
    }
}

/// Runs `command` and passes its output through. A failure is an error that names the command.
pub(crate) fn check(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}`: {status}");
    }
    Ok(())
}

/// Whether `command` starts and succeeds; its output is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// The command line, for messages.
pub(crate) fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_is_named_and_listed() {
        let mut steps = Steps::default();
        steps.run("good", || Ok(())).unwrap();
        let error = steps.run("bad", || -> Result<()> { bail!("why") }).unwrap_err();
        assert!(error.to_string().contains("\"bad\""), "{error}");
        assert_eq!(error.root_cause().to_string(), "why");
        let table = steps.table();
        assert!(
            table.contains("bad: FAILED") && table.contains("good ") && table.contains("total "),
            "{table}"
        );
    }

    #[test]
    fn a_command_is_shown_without_its_folder() {
        assert_eq!(shown(Command::new("/usr/bin/cargo").args(["fmt", "--all"])), "cargo fmt --all");
    }

    #[cfg(unix)]
    #[test]
    fn a_failing_command_is_an_error_that_names_it() {
        let error = check(Command::new("sh").args(["-c", "exit 3"])).unwrap_err().to_string();
        assert!(error.contains("`sh -c exit 3`") && error.contains('3'), "{error}");
        assert!(check(&mut Command::new("no-such-program-here")).is_err());
    }
}
