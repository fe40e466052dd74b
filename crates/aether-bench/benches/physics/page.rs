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

/// Writes a part of the page: without the goals that were reached, and with short tables.
pub(crate) fn put(root: &Path, part: &str, text: &str) -> Outcome {
    let path = root.join(PAGE);
    let page = aether_bench::replaced(&std::fs::read_to_string(&path)?, part, &condensed(text))?;
    Ok(std::fs::write(path, page)?)
}

/// The text with each table in its short form.
fn condensed(text: &str) -> String {
    let (mut kept, mut table) = (Vec::new(), Vec::new());
    for line in text.trim().lines().chain([""]) {
        if line.starts_with('|') {
            table.push(line);
            continue;
        }
        kept.extend(short(&std::mem::take(&mut table)));
        kept.push(line.to_owned());
    }
    kept.join("\n").trim_end().to_owned() + "\n"
}

/// A table with the missed goals alone, and none if all were reached. Rows that differ in their name only become one,
/// columns with one value a line above the table, and a column of goals marks what is missed.
fn short(table: &[&str]) -> Vec<String> {
    let cells = |row: &str| -> Vec<String> {
        let row = row.trim_start_matches('|');
        row.strip_suffix('|').unwrap_or(row).split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    // The head of a table has two lines.
    let Some((head, rows)) = table.split_first() else { return Vec::new() };
    let (mut head, is_of_goals) = (cells(head), head.starts_with("| goal |"));
    let mut merged: Vec<Vec<String>> = Vec::new();
    for row in rows.iter().skip(1).filter(|row| !(is_of_goals && row.ends_with("| yes |"))) {
        let row = cells(row);
        match merged.iter_mut().find(|other| other[1..] == row[1..]) {
            Some(other) if other[0] == row[0] => {}
            Some(other) => other[0] = format!("{}; {}", other[0], row[0]),
            None => merged.push(row),
        }
    }
    if merged.is_empty() {
        return Vec::new();
    }
    if is_of_goals {
        head = vec!["missed goal".to_owned(), "measured".to_owned(), "wanted".to_owned()];
        merged.iter_mut().for_each(|row| row.truncate(3));
    }
    // A goal is a mark in the name.
    if head.len() > 1 && head.last().is_some_and(|last| last == "goal") {
        head.pop();
        for row in &mut merged {
            if let Some(goal) = row.pop().filter(|goal| goal != "reached") {
                row[0] += &format!(" (**{goal}**)");
            }
        }
    }
    let mut common = Vec::new();
    for column in (1..head.len()).rev() {
        let value = merged[0][column].clone();
        if merged.len() > 2 && head.len() > 2 && merged.iter().all(|row| row[column] == value) {
            merged.iter_mut().for_each(|row| drop(row.remove(column)));
            common.insert(0, format!("{} {value}", head.remove(column)));
        }
    }
    let line = |cells: &[String]| {
        cells
            .iter()
            .map(|cell| if cell.is_empty() { " |".to_owned() } else { format!(" {cell} |") })
            .collect::<String>()
    };
    let mut lines = Vec::new();
    if !common.is_empty() {
        lines.extend([format!("All rows: {}.", common.join(", ")), String::new()]);
    }
    lines.push(format!("|{}", line(&head)));
    lines.push(format!("|{}", "---|".repeat(head.len())));
    lines.extend(merged.iter().map(|row| format!("|{}", line(row))));
    lines
}
