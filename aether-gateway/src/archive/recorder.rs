//! The recorder: collects what the [views](crate::views) see, and writes a minute of it into the archive.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aether_core::account::Accounts;

use super::moments::{ArchivedIncident, ArchivedSpan};
use super::{Archive, ArchiveError, MINUTE};
use crate::insight::{Insight, NotedIncident};
use crate::status::ProcessLine;
use crate::track::Moment;

/// Queue and reason.
type Place = (&'static str, &'static str);

/// The minute that is collected.
#[derive(Debug)]
pub(crate) struct Recorder {
    archive: Archive,
    /// When the gateway started, in milliseconds since 1970.
    gateway: u64,
    span: ArchivedSpan,
    /// What each process had lost when it was read last.
    sums: BTreeMap<String, BTreeMap<Place, u64>>,
    /// Whether the last attempt to write has failed, so that it is logged once.
    has_failed: bool,
}

impl Recorder {
    pub(crate) fn new(archive: Archive) -> Self {
        let (gateway, span) = (now().as_millis() as u64, ArchivedSpan::beginning(now().as_secs()));
        Self { archive, gateway, span, sums: BTreeMap::new(), has_failed: false }
    }

    /// Adds a second.
    pub(crate) fn add(&mut self, second: Moment) {
        self.span.seconds += 1;
        self.span.waves = self.span.waves.saturating_add(second.waves);
        self.span.payload_bytes = self.span.payload_bytes.saturating_add(second.bytes);
        self.span.energy += second.energy;
    }

    /// Adds what was lost since the last reading, and writes the minute if it is over. What cannot be written stays and is
    /// written with the next attempt, five seconds later.
    pub(crate) fn read(&mut self, accounts: &Accounts, insight: Option<&Insight>) {
        self.lose(accounts);
        if self.span.seconds >= MINUTE {
            self.write(insight);
        }
    }

    /// Writes what is left.
    pub(crate) fn end(&mut self, accounts: &Accounts, insight: Option<&Insight>) {
        self.lose(accounts);
        self.write(insight);
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
                    let error = aether_chassis::error_chain(&error);
                    tracing::error!(%error, "the archive cannot be written; it is tried again every five seconds");
                }
            }
        }
    }

    /// Adds what each process has lost since it was read last. What a process lost before this gateway started is in no
    /// minute of it; another gateway may have recorded that.
    fn lose(&mut self, accounts: &Accounts) {
        let uptime = now().as_millis().saturating_sub(u128::from(self.gateway)) as f64 / 1000.0;
        let mut sums = BTreeMap::new();
        for known in accounts.processes() {
            let process = ProcessLine::from(&known);
            let program = process.process.split('@').next().unwrap_or_default();
            let mut places = BTreeMap::new();
            for (queue, ledger) in [("inbox", &process.inboxes.0), ("outbox", &process.outbox.0)] {
                let shed = ledger.losses().into_iter().map(|(reason, waves)| (reason.as_str(), waves));
                for (reason, waves) in shed.chain([("lost_upstream", ledger.lost_upstream)]) {
                    places.insert((queue, reason), waves);
                }
            }
            let before = self.sums.remove(&process.process);
            if before.is_some() || process.uptime_seconds <= uptime {
                for ((queue, reason), now) in &places {
                    let before = before.as_ref().and_then(|places| places.get(&(*queue, *reason)));
                    self.span.lose(program, queue, reason, now.saturating_sub(before.copied().unwrap_or(0)));
                }
            }
            sums.insert(process.process, places);
        }
        self.sums = sums;
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
