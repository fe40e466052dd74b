//! The recorded counts, which are part of the source.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::callgrind::Cost;

/// By how much the instructions of a wave may grow. Two builds of one source differ by less than one percent.
const GROWTH: f64 = 1.03;
/// By how much its allocations may grow: less than one in fifty waves.
const MORE_ALLOCATIONS: f64 = 0.02;

/// The counts of one compiler.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Recorded {
    compiler: String,
    paths: BTreeMap<String, Cost>,
}

impl Recorded {
    /// Reads a file; no counts if there is none.
    pub(crate) fn read(file: &Path) -> Result<Self, Error> {
        match std::fs::read_to_string(file) {
            Ok(text) => {
                Ok(serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("{}: {error}", file.display()).into()),
        }
    }

    pub(crate) fn write(&mut self, file: &Path) -> Result<(), Error> {
        self.compiler = compiler();
        std::fs::write(file, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(())
    }

    pub(crate) fn of(&self, path: &str) -> Option<Cost> {
        self.paths.get(path).copied()
    }

    /// Rounded, so that the file changes only where a count does.
    pub(crate) fn note(&mut self, path: &str, cost: Cost) {
        let allocations = (cost.allocations * 100.0).round() / 100.0;
        self.paths.insert(path.to_owned(), Cost { instructions: cost.instructions.round(), allocations });
    }

    /// What is worse than recorded.
    pub(crate) fn complaint(&self, path: &str, cost: &Cost) -> Option<String> {
        let Some(before) = self.of(path) else {
            return Some(format!("{path}: not recorded; --record writes it"));
        };
        if cost.instructions > before.instructions * GROWTH {
            let growth = (cost.instructions / before.instructions - 1.0) * 100.0;
            return Some(format!("{path}: {growth:.1} % more instructions; 3 % are allowed"));
        }
        (cost.allocations > before.allocations + MORE_ALLOCATIONS)
            .then(|| format!("{path}: {:.2} more allocations", cost.allocations - before.allocations))
    }

    /// The compiler of the record, if it is not this one.
    pub(crate) fn other_compiler(&self) -> Option<&str> {
        (self.compiler != compiler()).then_some(&self.compiler)
    }
}

fn compiler() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output();
    output.map_or_else(
        |_| "an unknown compiler".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
