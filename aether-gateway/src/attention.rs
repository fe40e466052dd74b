//! Concerns that need a look although no queue loses a wave: the headline of the first page names them.
//!
//! Processes that are silent, open circuits, dead letters, refused waves, and channels whose last receiver has left.
//! Read once a second from the accounts and the roster; every table is bounded.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aether_core::account::{KnownProcess, Standing};
use aether_core::presence::{Announcement, Roster};
use aether_core::{Channel, Pattern, Source};
use serde::Serialize;
use tokio::time::Instant;

use crate::observed::Second;

/// The maximum number of concerns that are listed, of patterns that vibrators have left, and of channels without a receiver.
const MOST: usize = 50;
const MOST_LEFT: usize = 256;
const MOST_UNHEARD: usize = 64;
/// A refusal is a concern for this time.
const LATELY: Duration = Duration::from_secs(600);
/// A receiver may be away for this long: it restarts.
const RETURN: Duration = Duration::from_secs(10);
/// A channel flows if it had a wave within this time.
const FLOWS: Duration = Duration::from_secs(60);
/// A vibrator that has left is forgotten after this time.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// One thing to look at, in a sentence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Concern {
    /// `silent`, `circuit`, `dead_letters`, `refused` or `unheard`.
    sort: &'static str,
    text: String,
}

/// What is needed to tell a concern from what was always so.
#[derive(Debug)]
pub(crate) struct Attention {
    started: Instant,
    refused: Refused,
    receivers: Receivers,
    concerns: Vec<Concern>,
}

impl Attention {
    pub(crate) fn new() -> Self {
        let started = Instant::now();
        Self { started, refused: Refused::default(), receivers: Receivers::default(), concerns: Vec::new() }
    }

    /// Ends a second with the accounts and the channels that had waves in it.
    pub(crate) fn end_second(&mut self, processes: &[KnownProcess], roster: &Roster, channels: &[Second]) {
        let now = Instant::now();
        self.refused.read(processes, now.saturating_duration_since(self.started), now);
        self.receivers.read(&roster.vibrators(), channels, now);
        let concerns =
            silent(processes).into_iter().chain(circuits(processes)).chain(self.receivers.concerns());
        let concerns = concerns.chain(letters(processes)).chain(self.refused.concerns(now));
        self.concerns = concerns.take(MOST).collect();
    }

    /// The most severe first.
    pub(crate) fn concerns(&self) -> Vec<Concern> {
        self.concerns.clone()
    }
}

/// Processes that are silent and were not replaced, by program.
fn silent(processes: &[KnownProcess]) -> Vec<Concern> {
    let mut programs: BTreeMap<&str, (Vec<Duration>, usize)> = BTreeMap::new();
    for known in processes {
        let (silences, _) = programs.entry(known.account.process.name()).or_default();
        if known.standing == Standing::Silent {
            silences.push(known.age);
        }
    }
    for known in processes.iter().filter(|known| known.standing != Standing::Silent) {
        if let Some((silences, replaced)) = programs.get_mut(known.account.process.name()) {
            // It began after one of them was heard last.
            let began = known.account.uptime.saturating_add(known.age);
            *replaced += usize::from(silences.iter().any(|silence| began < *silence));
        }
    }
    let concern = |(program, (mut silences, replaced)): (&str, (Vec<Duration>, usize))| {
        silences.sort_unstable();
        silences.truncate(silences.len().saturating_sub(replaced));
        let shortest = silences.first()?.as_secs();
        let text = match silences.len() {
            1 => format!("{program} is silent for {shortest} s: it crashed, hangs, or has no connection"),
            several => format!(
                "{several} processes of {program} are silent: they crashed, hang, or have no connection"
            ),
        };
        Some(Concern { sort: "silent", text })
    };
    programs.into_iter().filter_map(concern).collect()
}

/// Circuits that are open in processes that are there.
fn circuits(processes: &[KnownProcess]) -> Vec<Concern> {
    let mut services: BTreeMap<&str, u64> = BTreeMap::new();
    let present = processes.iter().filter(|known| known.standing == Standing::Present);
    for handlers in present.flat_map(|known| &known.account.handlers) {
        if handlers.breakers_open > 0 {
            let sum = services.entry(&handlers.name).or_default();
            *sum = sum.saturating_add(handlers.breakers_open);
        }
    }
    let text = |(service, open)| match open {
        1_u64 => {
            format!("a circuit of {service} is open: what it calls fails, and its waves are not handled")
        }
        several => format!(
            "{several} circuits of {service} are open: what they call fails, and their waves are not handled"
        ),
    };
    services.into_iter().map(|open| Concern { sort: "circuit", text: text(open) }).collect()
}

/// Dead letters that wait in processes that are there.
fn letters(processes: &[KnownProcess]) -> Vec<Concern> {
    let mut programs: BTreeMap<&str, u64> = BTreeMap::new();
    for known in processes.iter().filter(|known| known.standing == Standing::Present) {
        if known.account.letters.kept > 0 {
            let sum = programs.entry(known.account.process.name()).or_default();
            *sum = sum.saturating_add(known.account.letters.kept);
        }
    }
    let text = |(program, kept)| match kept {
        1_u64 => format!("a dead letter waits in {program}"),
        several => format!("{several} dead letters wait in {program}"),
    };
    programs.into_iter().map(|kept| Concern { sort: "dead_letters", text: text(kept) }).collect()
}

/// The refusals of processes since the gateway knows them.
#[derive(Debug, Default)]
struct Refused {
    before: HashMap<Source, Vec<(&'static str, u64)>>,
    /// By program and reason: how many, and when the last ones.
    lately: BTreeMap<(String, &'static str), (u64, Instant)>,
}

impl Refused {
    fn read(&mut self, processes: &[KnownProcess], uptime: Duration, now: Instant) {
        let mut before = std::mem::take(&mut self.before);
        for known in processes {
            let (process, counts) = (&known.account.process, known.account.medium.refusals());
            let old = before.remove(process);
            // Refusals from before the gateway was there are not news.
            let is_older = known.account.uptime.saturating_add(known.age) > uptime;
            for (at, (reason, count)) in counts.iter().enumerate() {
                let base = match &old {
                    Some(old) => old[at].1,
                    None if is_older => *count,
                    None => 0,
                };
                if *count > base {
                    let key = (process.name().to_owned(), *reason);
                    let (sum, last) = self.lately.entry(key).or_insert((0, now));
                    (*sum, *last) = (sum.saturating_add(count - base), now);
                }
            }
            self.before.insert(process.clone(), counts.to_vec());
        }
        self.lately.retain(|_, (_, last)| now.saturating_duration_since(*last) < LATELY);
    }

    fn concerns(&self, now: Instant) -> Vec<Concern> {
        let line = |((program, reason), (count, last)): (&(String, &'static str), &(u64, Instant))| {
            let what = match *reason {
                "schema" => {
                    format!("{program} refused {count} waves that do not fit the schema of their channel")
                }
                "rules" => format!("{program} refused {count} waves that its rules forbid"),
                "server" => format!(
                    "the server refused {count} messages or subscriptions of {program}, which lacks permissions"
                ),
                reason => format!("{program} refused {count} messages: {}", reason.replace('_', " ")),
            };
            let ago = now.saturating_duration_since(*last).as_secs();
            Concern { sort: "refused", text: format!("{what}, the last {ago} s ago") }
        };
        self.lately.iter().map(line).collect()
    }
}

/// The receivers that were there, and the channels that have lost their last one.
#[derive(Debug, Default)]
struct Receivers {
    present: HashMap<Source, Vec<Pattern>>,
    left: Vec<Left>,
    /// With the name of the last receiver, and the time of the last wave.
    unheard: BTreeMap<Channel, (String, Instant)>,
}

/// A pattern that a vibrator has left.
#[derive(Debug)]
struct Left {
    vibrator: String,
    pattern: Pattern,
    since: Instant,
}

impl Receivers {
    fn read(&mut self, vibrators: &[Announcement], channels: &[Second], now: Instant) {
        let patterns =
            |announced: &Announcement| announced.heard.iter().map(|heard| heard.pattern.clone()).collect();
        let present: HashMap<_, Vec<Pattern>> =
            vibrators.iter().map(|announced| (announced.vibrator.clone(), patterns(announced))).collect();
        let before = std::mem::replace(&mut self.present, present);
        for (vibrator, patterns) in before {
            if !self.present.contains_key(&vibrator) {
                let left = |pattern| Left { vibrator: vibrator.name().to_owned(), pattern, since: now };
                self.left.extend(patterns.into_iter().map(left));
            }
        }
        let excess = self.left.len().saturating_sub(MOST_LEFT);
        self.left.drain(..excess);
        self.left.retain(|left| now.saturating_duration_since(left.since) < FORGOTTEN);
        if self.left.is_empty() {
            self.unheard.clear();
            return;
        }
        let is_heard =
            |channel: &Channel| self.present.values().flatten().any(|pattern| pattern.matches(channel));
        for Second { channel, .. } in channels {
            let is_left = |left: &&Left| {
                now.saturating_duration_since(left.since) >= RETURN && left.pattern.matches(channel)
            };
            if let Some(left) = self.left.iter().rev().find(is_left)
                && (self.unheard.len() < MOST_UNHEARD || self.unheard.contains_key(channel))
                && !is_heard(channel)
            {
                self.unheard.insert(channel.clone(), (left.vibrator.clone(), now));
            }
        }
        let flows = |last: Instant| now.saturating_duration_since(last) < FLOWS;
        self.unheard.retain(|channel, (_, last)| flows(*last) && !is_heard(channel));
    }

    fn concerns(&self) -> Vec<Concern> {
        let line = |(channel, (vibrator, _)): (&Channel, &(String, Instant))| {
            let text = format!("nobody hears {channel} any more: its last receiver, {vibrator}, has left");
            Concern { sort: "unheard", text }
        };
        self.unheard.iter().map(line).collect()
    }
}
