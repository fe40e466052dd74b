//! The output of the benchmark: printed, and inserted into the page on detectors on request.

use std::fmt::Arguments;
use std::path::Path;
use std::sync::Mutex;

use crate::Outcome;

static SAID: Mutex<String> = Mutex::new(String::new());

/// Prints a line and records it for the page.
macro_rules! say {
    ($($line:tt)*) => { $crate::page::line(format_args!($($line)*)) };
}
pub(crate) use say;

pub(crate) fn line(line: Arguments<'_>) {
    println!("{line}");
    if let Ok(mut said) = SAID.lock() {
        said.push_str(&format!("{line}\n"));
    }
}

/// The lines recorded since the last call.
pub(crate) fn taken() -> String {
    SAID.lock().map(|mut said| std::mem::take(&mut *said)).unwrap_or_default()
}

/// The page, from the root of the repository.
const PAGE: &str = "docs/internals/physics.md";

/// Writes a part of the page, without the goals that were reached.
pub(crate) fn put(root: &Path, part: &str, text: &str) -> Outcome {
    let path = root.join(PAGE);
    let page = aether_bench::replaced(&std::fs::read_to_string(&path)?, part, &without_reached(text))?;
    Ok(std::fs::write(path, page)?)
}

/// Leaves out each goal that was reached, and a table of goals that then has no row.
fn without_reached(text: &str) -> String {
    let mut kept = String::new();
    let mut goals: Option<Vec<&str>> = None;
    for line in text.lines().chain([""]) {
        match &mut goals {
            None if line.starts_with("| goal |") => goals = Some(vec![line]),
            Some(rows) if line.starts_with('|') => {
                if !line.ends_with("| yes |") {
                    rows.push(line);
                }
            }
            _ => {
                // The head of a table has two lines.
                let missed = goals.take().filter(|rows| rows.len() > 2).unwrap_or_default();
                for row in missed.into_iter().chain([line]) {
                    kept.push_str(row);
                    kept.push('\n');
                }
            }
        }
    }
    kept.trim_end().to_owned() + "\n"
}
