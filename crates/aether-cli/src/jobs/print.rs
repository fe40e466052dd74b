//! Queues, their waves and schedules as text and as JSON.

use std::time::Duration;

use aether_service::jobs::{JobRecord, QueueRecord, ScheduleRecord};
use serde::Serialize;

use super::FoundQueue;
use crate::error::CommandError;
use crate::letters::{age, safe};
use crate::output::Output;

/// A record with the service that answered.
#[derive(Serialize)]
struct Of<'a, T> {
    service: &'a str,
    #[serde(flatten)]
    record: &'a T,
}

fn json<T: Serialize>(record: &T) -> String {
    // Texts and numbers can always be written.
    serde_json::to_string(record).unwrap_or_default()
}

pub(super) fn queues(as_json: bool, found: &[FoundQueue]) -> Result<(), CommandError> {
    let mut output = Output::stdout();
    for FoundQueue { store, service, queue } in found {
        match as_json {
            true => output.line(json(&Of { service, record: queue }))?,
            false => output.line(queue_line(&format!("{} ({store:x})", safe(service)), queue))?,
        }
    }
    Ok(())
}

fn queue_line(service: &str, queue: &QueueRecord) -> String {
    let QueueRecord { waiting, limited, unseen, retrying, in_flight, letters, per_second, .. } = queue;
    let of = |text: &str, time: Option<u64>| {
        time.map_or_else(String::new, |time| format!(" ({text} {})", age(time)))
    };
    let (oldest, longest) =
        (of("oldest", queue.oldest_ms.filter(|_| *waiting > 0)), of("for", queue.longest_ms));
    let (due, paused) = (of("next in", queue.due_ms), if queue.paused { "PAUSED, " } else { "" });
    let limited = if *limited > 0 { format!(", {limited} of them for a limit") } else { String::new() };
    let unseen = if *unseen > 0 { format!(" to {}", waiting + unseen) } else { String::new() };
    format!(
        "{} {} {service}: {paused}{waiting}{unseen} wait{oldest}{limited}, {in_flight} run{longest}, {retrying} pause after a failure{due}, \
         {letters} letters, {per_second:.1}/s",
        safe(&queue.consumer),
        safe(&queue.pattern)
    )
}

pub(super) fn jobs(as_json: bool, service: &str, jobs: &[JobRecord]) -> Result<(), CommandError> {
    let mut output = Output::stdout();
    for job in jobs {
        match as_json {
            true => output.line(json(&Of { service, record: job }))?,
            false => output.line(job_line(job))?,
        }
    }
    Ok(())
}

fn job_line(job: &JobRecord) -> String {
    let state = match (job.running_ms, job.due_ms) {
        (Some(running), _) => format!("runs for {}", age(running)),
        (None, due) => format!("due in {}", age(due.unwrap_or(0))),
    };
    let key = job.key.as_deref().map_or_else(String::new, |key| format!(" key {}", safe(key)));
    let error = job.error.as_deref().map_or_else(String::new, |error| format!(": {}", safe(error)));
    format!(
        "{:<8} attempt {} {state} {}{key} {}{error}",
        job.position,
        job.attempt,
        safe(&job.channel),
        safe(&job.wave)
    )
}

pub(super) fn schedules<'a>(
    as_json: bool,
    schedules: impl Iterator<Item = &'a ScheduleRecord>,
) -> Result<(), CommandError> {
    let mut output = Output::stdout();
    for schedule in schedules {
        if as_json {
            output.line(json(schedule))?;
            continue;
        }
        let ScheduleRecord { key, log, schedule, channel, next_unix_ms } = schedule;
        let next = std::time::UNIX_EPOCH.checked_add(Duration::from_millis(*next_unix_ms));
        let next = next.map_or_else(String::new, |next| humantime::format_rfc3339_seconds(next).to_string());
        output.line(format_args!(
            "{} {} {} next {next} in {}",
            safe(key),
            safe(schedule),
            safe(channel),
            safe(log)
        ))?;
    }
    Ok(())
}
