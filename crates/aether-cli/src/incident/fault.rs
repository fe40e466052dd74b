//! The fault that explains an incident, and when it began.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use aether::physics::{Cause, RecordedEntry};
use aether_core::{Channel, Kind};

use super::found::{Entry, Found};

/// A process ends so long after its last wave, so that the wave still leaves it.
const AFTER_LAST: Duration = Duration::from_millis(20);
/// A handler hangs at most so long before the first question that it does not answer.
const BEFORE_FIRST: Duration = Duration::from_millis(50);

pub(super) enum Fault {
    /// Services were stopped, each at a time. Some went on later, as after `kill -STOP`.
    Stopped(Vec<(String, Duration, Ended)>),
    /// A service answers no more on a channel.
    Hangs { service: String, channel: Channel, at: Duration },
    /// A service answers late.
    Slow { service: String, at: Duration },
    /// A stream ends.
    StreamStopped { at: Duration },
    /// The observer is cut off.
    CutOff { at: Duration },
    /// The fault is in the traffic, all of which is as usual.
    Traffic { at: Duration },
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Killed,
    Frozen,
}

impl Fault {
    /// The fault behind an incident. `later` are the instances that emitted after it was found.
    pub(super) fn of(found: &Found, entries: &[Entry], later: &HashSet<u64>) -> Self {
        let service = found.incident.services.first().cloned().unwrap_or_default();
        match &found.incident.cause {
            Cause::Stopped => {
                let stopped = found.incident.services.iter().map(|service| {
                    let (at, instance) = last_of(found, entries, |name| name == service);
                    let how = if later.contains(&instance) { Ended::Frozen } else { Ended::Killed };
                    (service.clone(), at + AFTER_LAST, how)
                });
                Self::Stopped(stopped.collect())
            }
            Cause::NotAnswering { channel } => {
                let is_answer =
                    |(at, entry): &&Entry| *at < found.since() && answer(entry, &service, channel);
                let last = entries.iter().rfind(is_answer).map_or(Duration::ZERO, |(at, _)| *at);
                let earlier = BEFORE_FIRST.min(found.since().saturating_sub(last) / 2);
                Self::Hangs { at: found.since().saturating_sub(earlier), service, channel: channel.clone() }
            }
            Cause::Slow { channel, takes, .. } => {
                Self::Slow { at: slow_since(found, entries, &service, channel, *takes), service }
            }
            Cause::StreamStopped { .. } => Self::StreamStopped { at: found.since() },
            Cause::AllSilent | Cause::Disconnected => {
                Self::CutOff { at: last_of(found, entries, |_| true).0 + AFTER_LAST }
            }
            _ => Self::Traffic { at: found.at },
        }
    }

    /// When it began.
    pub(super) fn at(&self) -> Duration {
        match self {
            Self::Stopped(services) => services.iter().map(|(_, at, _)| *at).min().unwrap_or_default(),
            Self::Hangs { at, .. }
            | Self::Slow { at, .. }
            | Self::StreamStopped { at }
            | Self::CutOff { at }
            | Self::Traffic { at } => *at,
        }
    }
}

/// The last wave of a service before the incident was found, and its instance.
fn last_of(found: &Found, entries: &[Entry], is_it: impl Fn(&str) -> bool) -> (Duration, u64) {
    let of_service =
        entries.iter().rev().filter(|(at, _)| *at <= found.at).find_map(|(at, entry)| match entry {
            RecordedEntry::Wave(wave) if wave.source().instance() != 0 && is_it(wave.source().name()) => {
                Some((*at, wave.source().instance()))
            }
            _ => None,
        });
    of_service.unwrap_or_default()
}

fn answer(entry: &RecordedEntry, service: &str, on: &Channel) -> bool {
    matches!(entry, RecordedEntry::Wave(wave)
        if wave.kind() == Kind::Response && wave.channel() == on && wave.source().name() == service)
}

/// The question from which on answers were late: after it there are more late ones, and before it more others, than
/// after and before any other question.
fn slow_since(
    found: &Found,
    entries: &[Entry],
    service: &str,
    channel: &Channel,
    takes: Duration,
) -> Duration {
    let mut asked: HashMap<(u64, u64), Duration> = HashMap::new();
    let mut answered: Vec<(Duration, bool)> = Vec::new();
    for (at, entry) in entries.iter().take_while(|(at, _)| *at <= found.at) {
        let RecordedEntry::Wave(wave) = entry else { continue };
        if wave.channel() != channel {
            continue;
        }
        if wave.kind() != Kind::Response {
            asked.insert((wave.source().instance(), wave.sequence()), *at);
        } else if wave.source().name() == service {
            let question = wave.cause().and_then(|id| asked.remove(&(id.source.instance(), id.sequence)));
            answered.extend(question.map(|question| (question, *at - question >= takes / 2)));
        }
    }
    let (mut late, mut most, mut since) = (0_i64, 0, found.since());
    for (question, is_late) in answered.into_iter().rev() {
        late += if is_late { 1 } else { -1 };
        if late > most {
            (most, since) = (late, question);
        }
    }
    since.saturating_sub(Duration::from_millis(1))
}
