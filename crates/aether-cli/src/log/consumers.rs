//! `aether log consumers`: who reads a log, and how many waves wait for each.

use std::path::Path;

use aether_log::{ConsumerStanding, Effort, LogView};

use crate::error::{CommandError, LogError};
use crate::output::Output;

/// Reads as much of the log as it takes, so that each lag is exact.
pub(super) fn consumers(folder: &Path) -> Result<(), CommandError> {
    let effort = Effort::default().max_consumers(usize::MAX).max_bytes(u64::MAX);
    let standing =
        LogView::open(folder).and_then(|mut view| view.standing(effort)).map_err(LogError::from)?;
    let mut output = Output::stdout();
    if standing.consumers.is_empty() {
        return Ok(output.line("no consumers")?);
    }
    let mut unread = None;
    for (name, consumer) in standing.consumers {
        match consumer {
            Ok(consumer) => output.line(line(&name, &consumer))?,
            // The others are printed all the same.
            Err(error) => unread = Some(error),
        }
    }
    unread.map_or(Ok(()), |error| Err(LogError::from(error).into()))
}

fn line(name: &str, consumer: &ConsumerStanding) -> String {
    let ConsumerStanding { position, acknowledged, dead, retrying, in_flight, lag, .. } = consumer;
    let pattern = consumer.pattern.as_ref().map_or("(not begun)", |pattern| pattern.as_str());
    let last = match consumer.last_acknowledged {
        Some(at) => format!(", last at {}", humantime::format_rfc3339_seconds(at)),
        None => String::new(),
    };
    format!(
        "{name} {pattern}: {} wait, {in_flight} in flight, {retrying} retrying, {acknowledged} acknowledged{last}, \
         {dead} given up, settled up to {position}",
        lag.at_least
    )
}
