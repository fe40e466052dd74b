//! Where the time of a run goes: what was compiled, what of it more than once, and the slowest tests.
//!
//! cargo writes its timings as a page whose data are JSON; nextest writes a JUnit report.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::workspace::Workspace;

/// The numbers of crates and of tests that are listed.
const CRATES: usize = 20;
const TESTS: usize = 40;

/// The timings of one run; empty unless they are wanted.
pub(crate) struct Timings {
    is_wanted: bool,
    /// The page of the last compilation, which cargo replaces each time.
    page: PathBuf,
    junit: PathBuf,
    units: Vec<Unit>,
}

/// One run of the compiler.
struct Unit {
    step: String,
    name: String,
    seconds: f64,
}

impl Timings {
    pub(crate) fn new(workspace: &Workspace, is_wanted: bool) -> Self {
        let target = workspace.target();
        Self {
            is_wanted,
            page: target.join("cargo-timings/cargo-timing.html"),
            junit: target.join("nextest/default/junit.xml"),
            units: Vec::new(),
        }
    }

    /// The argument with which cargo writes its timings.
    pub(crate) fn flag(&self) -> Option<&'static str> {
        self.is_wanted.then_some("--timings")
    }

    /// Reads what cargo has just compiled.
    pub(crate) fn compiled(&mut self, step: &str) -> Result<()> {
        if self.is_wanted {
            let page = fs::read_to_string(&self.page).with_context(|| self.page.display().to_string())?;
            self.units.extend(units(&page, step)?);
        }
        Ok(())
    }

    /// Two tables: the crates that were compiled most often, and the slowest tests.
    pub(crate) fn report(&self) -> Result<String> {
        if !self.is_wanted {
            return Ok(String::new());
        }
        let junit = fs::read_to_string(&self.junit).with_context(|| self.junit.display().to_string())?;
        Ok(compiled_most(&self.units) + &slowest(&junit))
    }
}

/// The units of cargo's page.
fn units(page: &str, step: &str) -> Result<Vec<Unit>> {
    let data = page.split_once("const UNIT_DATA = ").context("cargo's timings have no units")?.1;
    // A program follows the list.
    let list = serde_json::Deserializer::from_str(data).into_iter::<Vec<Value>>().next();
    let list = list.context("cargo's timings are empty")??;
    let unit = |unit: &Value| {
        let (name, version) = (unit["name"].as_str()?, unit["version"].as_str()?);
        Some(Unit {
            step: step.to_owned(),
            name: format!("{name} {version}"),
            seconds: unit["duration"].as_f64()?,
        })
    };
    list.iter().map(unit).collect::<Option<_>>().context("a unit of cargo's timings has no name")
}

fn compiled_most(units: &[Unit]) -> String {
    let mut crates = BTreeMap::<&str, (f64, BTreeMap<&str, u32>)>::new();
    for unit in units {
        let (seconds, steps) = crates.entry(&unit.name).or_default();
        *seconds += unit.seconds;
        *steps.entry(&unit.step).or_default() += 1;
    }
    let total: f64 = units.iter().map(|unit| unit.seconds).sum();
    let mut crates: Vec<_> = crates.into_iter().collect();
    crates.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    let mut text = format!("\n{} runs of the compiler, {total:.0} s one after the other:\n", units.len());
    for (name, (seconds, steps)) in crates.into_iter().take(CRATES) {
        let steps: Vec<_> = steps.iter().map(|(step, count)| format!("{count} for {step}")).collect();
        text += &format!("{seconds:>7.1} s  {name}: {}\n", steps.join(", "));
    }
    text
}

/// The slowest tests of a JUnit report.
fn slowest(junit: &str) -> String {
    let attribute = |case: &str, name: &str| {
        let (_, rest) = case.split_once(&format!(" {name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let mut tests: Vec<(f64, String)> = junit
        .split("<testcase")
        .skip(1)
        .filter_map(|case| {
            let name = format!("{} {}", attribute(case, "classname")?, attribute(case, "name")?);
            Some((attribute(case, "time")?.parse().ok()?, name))
        })
        .collect();
    tests.sort_by(|a, b| b.0.total_cmp(&a.0));
    let total: f64 = tests.iter().map(|test| test.0).sum();
    let mut text = format!("\n{} tests, {total:.0} s one after the other:\n", tests.len());
    for (seconds, name) in tests.into_iter().take(TESTS) {
        text += &format!("{seconds:>7.1} s  {name}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_are_counted_by_step_and_the_most_expensive_is_first() {
        let page = r#"<script>const UNIT_DATA = [
            {"i":0,"name":"a","version":"1.0.0","duration":1.5},
            {"i":1,"name":"b","version":"2.0.0","duration":2.0}];
            const CONCURRENCY_DATA = [];</script>"#;
        let mut all = units(page, "clippy").unwrap();
        all.extend(units(page, "tests").unwrap());
        let text = compiled_most(&all);
        assert!(text.contains("4 runs of the compiler, 7 s"), "{text}");
        let b = text.find("    4.0 s  b 2.0.0: 1 for clippy, 1 for tests").unwrap();
        assert!(b < text.find("    3.0 s  a 1.0.0").unwrap(), "{text}");
        assert!(units("<html></html>", "tests").is_err());
    }

    #[test]
    fn the_slowest_test_is_first() {
        let junit = r#"<testsuite name="x"><testcase name="fast" classname="a" time="0.100">
            </testcase><testcase name="slow" classname="b" timestamp="now" time="2.000"/></testsuite>"#;
        let text = slowest(junit);
        assert!(text.contains("2 tests, 2 s"), "{text}");
        assert!(text.find("    2.0 s  b slow").unwrap() < text.find("    0.1 s  a fast").unwrap(), "{text}");
    }
}
