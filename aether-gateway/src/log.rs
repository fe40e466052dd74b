//! The log of the gateway: a bounded list of events, for `/api/log` and the overview.
//!
//! Incidents that began and ended, losses by reason, clients that were refused or did not read, and its connection. The same
//! event again within a minute is counted in the entry that is there, so nobody can push out the others by repeating one.

use std::collections::VecDeque;

use parking_lot::Mutex;
use serde::Serialize;

use crate::readiness::Readiness;
use crate::track::unix_ms;

/// The maximum number of entries. The oldest are dropped, and counted.
const KEPT: usize = 256;
/// How long the same event counts in its last entry, in milliseconds.
const SAME_MS: u64 = 60_000;
/// The maximum size of a text in bytes: incidents name channels, which strangers choose.
const MOST_TEXT: usize = 512;

/// The list.
#[derive(Debug, Default)]
pub(crate) struct Log(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The newest last.
    entries: VecDeque<Entry>,
    number: u64,
    dropped: u64,
    readiness: Option<Readiness>,
}

/// An event, or the same event several times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Entry {
    /// Grows by one with each entry, from 1.
    number: u64,
    unix_ms: u64,
    /// When it happened last.
    last_unix_ms: u64,
    kind: &'static str,
    severity: &'static str,
    /// The cause of an incident, or a reason.
    about: &'static str,
    text: String,
    /// How many waves, clients or requests.
    count: u64,
}

/// The newest entries.
#[derive(Debug, Serialize)]
pub(crate) struct Newest {
    /// The newest first.
    entries: Vec<Entry>,
    /// Older entries that were dropped.
    dropped: u64,
}

impl Log {
    pub(crate) fn incident_began(&self, cause: &'static str, is_critical: bool, text: String) {
        let severity = if is_critical { "critical" } else { "warning" };
        self.add("incident_began", severity, cause, text);
    }

    pub(crate) fn incident_ended(&self, cause: &'static str, text: String) {
        self.add("incident_ended", "info", cause, text);
    }

    /// Waves that processes have reported as lost for a reason.
    pub(crate) fn lost(&self, reason: &'static str, waves: u64, place: Option<&str>) {
        let place = place.map(|place| format!(", most by {place}")).unwrap_or_default();
        self.count("lost", "critical", reason, waves, || format!("waves were lost: {reason}{place}"));
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.count("refused", "warning", reason, 1, || format!("requests of clients were refused: {reason}"));
    }

    pub(crate) fn stalled(&self) {
        let text = || "clients that did not read were disconnected".to_owned();
        self.count("stalled", "warning", "stalled", 1, text);
    }

    /// Notes what has changed since it was told last. A gateway begins connected.
    pub(crate) fn readiness(&self, now: Readiness) {
        let before = self.0.lock().readiness.replace(now).unwrap_or(Readiness::Ready);
        if before == now {
            return;
        }
        let (severity, text) = match now {
            Readiness::Ready => ("info", "the gateway observes again"),
            Readiness::NotConnected => ("critical", "the connection to the bus was lost"),
            Readiness::ObserverEnded => ("warning", "the gateway observes no more"),
            _ => ("critical", "the gateway is not ready"),
        };
        self.add("connection", severity, now.reason(), text.to_owned());
    }

    fn add(&self, kind: &'static str, severity: &'static str, about: &'static str, text: String) {
        self.0.lock().push(unix_ms(), (kind, severity, about), text, 1);
    }

    fn count(
        &self,
        kind: &'static str,
        severity: &'static str,
        about: &'static str,
        count: u64,
        text: impl FnOnce() -> String,
    ) {
        let mut state = self.0.lock();
        let now = unix_ms();
        let same = |entry: &&mut Entry| entry.kind == kind && entry.about == about;
        match state.entries.iter_mut().rev().find(same) {
            Some(entry) if now.saturating_sub(entry.unix_ms) < SAME_MS => {
                entry.count = entry.count.saturating_add(count);
                entry.last_unix_ms = now;
            }
            _ => state.push(now, (kind, severity, about), text(), count),
        }
    }

    /// The newest entries.
    pub(crate) fn newest(&self, most: usize) -> Newest {
        let state = self.0.lock();
        Newest { entries: state.entries.iter().rev().take(most).cloned().collect(), dropped: state.dropped }
    }
}

impl State {
    fn push(
        &mut self,
        now: u64,
        (kind, severity, about): (&'static str, &'static str, &'static str),
        mut text: String,
        count: u64,
    ) {
        text.truncate(text.floor_char_boundary(MOST_TEXT));
        if self.entries.len() == KEPT {
            self.entries.pop_front();
            self.dropped += 1;
        }
        self.number += 1;
        let number = self.number;
        self.entries.push_back(Entry {
            number,
            unix_ms: now,
            last_unix_ms: now,
            kind,
            severity,
            about,
            text,
            count,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_counted_in_one_entry_and_the_oldest_are_dropped() {
        let log = Log::default();
        log.incident_began("lost_service", true, "ö".repeat(MOST_TEXT));
        for _ in 0..1000 {
            log.refused("no_token");
            log.refused("origin");
        }
        log.lost("full", 5, Some("till inbox"));
        log.lost("full", 2, None);
        let Newest { entries, dropped } = log.newest(usize::MAX);
        let counts: Vec<_> = entries.iter().map(|entry| (entry.number, entry.about, entry.count)).collect();
        assert_eq!(
            counts,
            [(4, "full", 7), (3, "origin", 1000), (2, "no_token", 1000), (1, "lost_service", 1)]
        );
        assert!(dropped == 0 && entries[3].text.len() <= MOST_TEXT && entries[0].text.contains("till"));
        for _ in 0..KEPT {
            log.incident_ended("polling", "over".to_owned());
        }
        let Newest { entries, dropped } = log.newest(2);
        assert_eq!((entries.len(), entries[0].number, dropped), (2, 4 + KEPT as u64, 4));
    }

    #[test]
    fn a_connection_is_noted_when_it_changes() {
        let log = Log::default();
        use Readiness::{NotConnected, Ready};
        for readiness in [Ready, NotConnected, NotConnected, Ready] {
            log.readiness(readiness);
        }
        let about: Vec<_> = log.newest(9).entries.iter().map(|entry| entry.about).collect();
        assert_eq!(about, ["ready", "not_connected"]);
    }
}
