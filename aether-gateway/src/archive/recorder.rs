//! The recorder: collects what the [views](crate::views) see, and writes a minute of it into the archive.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::moments::{ArchivedAccount, ArchivedIncident, ArchivedSpan};
use super::{Archive, ArchiveError, MINUTE};
use crate::increments::{Increment, Queue};
use crate::insight::{Insight, NotedIncident};
use crate::track::Moment;

/// The minute that is collected.
#[derive(Debug)]
pub(crate) struct Recorder {
    archive: Archive,
    /// When the gateway started, in milliseconds since 1970.
    gateway: u64,
    span: ArchivedSpan,
    /// Whether the last attempt to write has failed, so that it is logged once.
    has_failed: bool,
}

impl Recorder {
    pub(crate) fn new(archive: Archive) -> Self {
        let (gateway, span) = (now().as_millis() as u64, ArchivedSpan::beginning(now().as_secs()));
        Self { archive, gateway, span, has_failed: false }
    }

    /// Adds a second.
    pub(crate) fn add(&mut self, second: Moment) {
        self.span.seconds += 1;
        self.span.waves = self.span.waves.saturating_add(second.waves);
        self.span.payload_bytes = self.span.payload_bytes.saturating_add(second.bytes);
        self.span.energy += second.energy;
    }

    /// Adds the counts of processes, and writes the minute if it is over. A minute that cannot be written stays and is
    /// written with the next attempt, five seconds later.
    pub(crate) fn count(&mut self, grown: &BTreeMap<Queue, Increment>, insight: Option<&Insight>) {
        self.account(grown);
        if self.span.seconds >= MINUTE {
            self.write(insight);
        }
    }

    /// Writes what is left.
    pub(crate) fn end(&mut self, grown: &BTreeMap<Queue, Increment>, insight: Option<&Insight>) {
        self.account(grown);
        self.write(insight);
    }

    fn account(&mut self, grown: &BTreeMap<Queue, Increment>) {
        for (Queue { program, queue }, grown) in grown {
            self.span.account(ArchivedAccount {
                program: program.clone(),
                queue: (*queue).to_owned(),
                offered: grown.offered,
                delivered: grown.delivered,
                lost: grown.lost.values().fold(0, |sum, waves| sum.saturating_add(*waves)),
                queued: grown.queued,
            });
            for (reason, waves) in &grown.lost {
                self.span.lose(program, queue, reason, *waves);
            }
        }
    }

    fn write(&mut self, insight: Option<&Insight>) {
        let incidents = insight.map(|insight| archived(&insight.incidents())).unwrap_or_default();
        match self.archive.write(self.gateway, &self.span, &incidents) {
            Ok(()) => {
                self.span = ArchivedSpan::beginning(now().as_secs());
                self.has_failed = false;
            }
            // A report reads it at this moment.
            Err(ArchiveError::Busy { .. }) => {}
            Err(error) => {
                if !std::mem::replace(&mut self.has_failed, true) {
                    let error = aether_service::error_chain(&error);
                    tracing::error!(%error, "the archive cannot be written; it is tried again every five seconds");
                }
            }
        }
    }
}

fn archived(incidents: &[NotedIncident]) -> Vec<ArchivedIncident> {
    let now = now();
    let incident = |NotedIncident { ago, incident, .. }: &NotedIncident| {
        let begin = now.saturating_sub(*ago).saturating_sub(incident.lasted);
        ArchivedIncident {
            id: incident.id,
            cause: incident.cause.as_str().to_owned(),
            severity: incident.severity.as_str().to_owned(),
            text: incident.to_string(),
            begin_unix_ms: begin.as_millis() as u64,
            seconds: incident.lasted.as_secs_f64(),
            is_open: incident.until.is_none(),
        }
    };
    incidents.iter().map(incident).collect()
}

/// A clock before 1970 is read as 1970.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
