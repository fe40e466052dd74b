//! An incident that was found in a recording, and the entries around it.

use std::time::Duration;

use aether::physics::{Cause, Incident, RecordedEntry};

/// An entry and its time.
pub(super) type Entry = (Duration, RecordedEntry);

/// An incident when it began, by the time of the recording.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// When it was found, and when it had ended.
    pub(super) at: Duration,
    pub(super) ended: Option<Duration>,
    pub(super) incident: Incident,
}

impl Found {
    /// When the fault began.
    pub(super) fn since(&self) -> Duration {
        self.at.saturating_sub(self.incident.lasted)
    }

    /// Whether the other one is the same, apart from its times and numbers. Where all services are silent, it
    /// names the ones that were due first.
    pub(super) fn is_same(&self, other: &Incident) -> bool {
        let (one, other) = (&self.incident, other);
        let mut cause = other.cause.clone();
        if let (Cause::Slow { takes, before, .. }, Cause::Slow { takes: now, before: then, .. }) =
            (&one.cause, &mut cause)
        {
            (*now, *then) = (*takes, *before);
        }
        one.cause == cause
            && (one.services == other.services || one.cause == Cause::AllSilent)
            && sorted(&one.streams) == sorted(&other.streams)
            && sorted(&one.followers) == sorted(&other.followers)
            && sorted(&one.waiting) == sorted(&other.waiting)
    }
}

pub(super) fn sorted(names: &[impl ToString]) -> Vec<String> {
    let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.sort_unstable();
    names
}
