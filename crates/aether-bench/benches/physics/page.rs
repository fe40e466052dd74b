//! The output of the benchmark: printed, and inserted into PHYSICS.md on request.

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

/// Writes a part of PHYSICS.md.
pub(crate) fn put(root: &Path, part: &str, text: &str) -> Outcome {
    let path = root.join("PHYSICS.md");
    let page = aether_bench::replaced(&std::fs::read_to_string(&path)?, part, text)?;
    Ok(std::fs::write(path, page)?)
}
