//! The map: emitters and hearers of each channel, and which channels cause which.
//!
//! Emitters were seen, hearers were announced, and a durable consumer is in its log, so these links are exact. The
//! edges between channels come from the detectors: exact where waves name their cause (L0), guessed by timing
//! elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use aether_core::Pattern;
use serde::Serialize;

use crate::durable::AllLogs;
use crate::observed::Emitted;
use crate::pulses::Pulses;
use crate::status::{StatusSource, WholeProcess};

/// Bounds of the map, so that a browser lays it out in a moment and it is written in milliseconds.
const MOST_CHANNELS: usize = 100;
const MOST_SERVICES: usize = 100;
/// Of those who emit, and of those who hear.
const MOST_LINKS: usize = 200;
/// Each pattern is compared with each channel.
const MOST_PATTERNS: usize = 10_000;

#[derive(Debug, Serialize)]
pub(crate) struct Map {
    services: Vec<ServiceNode>,
    channels: Vec<ChannelNode>,
    emits: Vec<Emits>,
    hears: Vec<Hears>,
    /// As in the map of `/api/status`: `null` without physics, or before the first report.
    causes: Option<serde_json::Value>,
    /// Services, channels, links and patterns beyond the bounds.
    left_out: usize,
}

#[derive(Debug, Default, Serialize)]
struct ServiceNode {
    name: String,
    offered: u64,
    lost: u64,
    /// The recent losses of its inboxes, a second.
    lost_per_second: f64,
    queued: u64,
    /// Whether it announces what it hears.
    is_listed: bool,
}

#[derive(Debug, Serialize)]
struct ChannelNode {
    name: String,
    waves: u64,
    waves_per_second: f64,
    energy_per_second: f64,
    last_seen_seconds_ago: f64,
}

#[derive(Debug, Serialize)]
struct Emits {
    service: String,
    channel: String,
    waves: u64,
    waves_per_second: f64,
}

#[derive(Debug, Serialize)]
struct Hears {
    /// The name of a vibrator, or of a durable consumer.
    service: String,
    channel: String,
    /// The waves of the channel.
    waves_per_second: f64,
    /// The log that a durable consumer reads; null for a vibrator.
    log: Option<String>,
}

impl Map {
    /// `is_whole` with the channels on which programs talk about themselves.
    pub(crate) fn of(source: &StatusSource, pulses: &Pulses, is_whole: bool) -> Self {
        let mut busiest = source.observed().busiest(usize::MAX);
        busiest.retain(|channel| is_whole || !channel.channel.is_plumbing());
        let heard = source.roster().heard_by_name();
        let is_listed: BTreeSet<String> = heard.keys().cloned().collect();
        let heard = Heard::of(heard, &source.durable().last());
        let mut services = Nodes::default();
        for process in source.whole_processes() {
            services.add(&process);
        }
        let channels = &busiest[..busiest.len().min(MOST_CHANNELS)];
        let (mut emits, mut hears) = (Vec::new(), Vec::new());
        for channel in channels {
            emits_on(channel, &mut emits);
            heard.hears(channel, &mut hears);
        }
        let shown: BTreeSet<&String> = emits
            .iter()
            .map(|emits| &emits.service)
            .chain(hears.iter().map(|hears| &hears.service))
            .collect();
        let mut left_out =
            busiest.len() - channels.len() + shown.len().saturating_sub(MOST_SERVICES) + heard.left_out;
        let shown: BTreeSet<String> = shown.into_iter().take(MOST_SERVICES).cloned().collect();
        emits.retain(|emits| shown.contains(&emits.service));
        hears.retain(|hears| shown.contains(&hears.service));
        left_out += emits.len().saturating_sub(MOST_LINKS) + hears.len().saturating_sub(MOST_LINKS);
        emits.sort_by(|a, b| b.waves_per_second.total_cmp(&a.waves_per_second));
        hears.sort_by(|a, b| b.waves_per_second.total_cmp(&a.waves_per_second));
        emits.truncate(MOST_LINKS);
        hears.truncate(MOST_LINKS);
        let report = source.insight().and_then(|insight| insight.report());
        Self {
            services: shown
                .iter()
                .map(|name| services.take(name, is_listed.contains(name), pulses))
                .collect(),
            channels: channels.iter().map(ChannelNode::of).collect(),
            emits,
            hears,
            causes: report.map(|report| match is_whole {
                true => report.map.to_json(),
                false => report.map.clone().without_plumbing().to_json(),
            }),
            left_out,
        }
    }
}

impl ChannelNode {
    fn of(channel: &Emitted) -> Self {
        Self {
            name: channel.channel.to_string(),
            waves: channel.waves,
            waves_per_second: shown(channel.per_second),
            energy_per_second: shown(channel.energy),
            last_seen_seconds_ago: channel.last_seen.as_secs_f64(),
        }
    }
}

fn emits_on(channel: &Emitted, emits: &mut Vec<Emits>) {
    emits.extend(channel.emitters.iter().map(|emitter| Emits {
        service: emitter.name.to_string(),
        channel: channel.channel.to_string(),
        waves: emitter.waves,
        waves_per_second: shown(emitter.per_second()),
    }));
}

/// A rate with four decimals: one that fades for ever is 0 at last.
fn shown(per_second: f64) -> f64 {
    (per_second * 10_000.0).round() / 10_000.0
}

/// A hearer of a pattern.
struct Hearer {
    service: String,
    pattern: Pattern,
    log: Option<String>,
}

/// Which services and durable consumers hear which pattern, at most [`MOST_PATTERNS`] of all.
struct Heard {
    patterns: Vec<Hearer>,
    /// The number of patterns beyond the bound.
    left_out: usize,
}

impl Heard {
    fn of(heard: BTreeMap<String, Vec<Pattern>>, logs: &AllLogs) -> Self {
        let each = |(service, patterns): (String, Vec<Pattern>)| {
            patterns.into_iter().map(move |pattern| Hearer { service: service.clone(), pattern, log: None })
        };
        // Of consumers there are few.
        let consumers = logs.consumers().map(|(log, consumer, pattern)| Hearer {
            service: consumer.to_owned(),
            pattern,
            log: Some(log.to_owned()),
        });
        let mut all = consumers.chain(heard.into_iter().flat_map(each));
        let patterns = all.by_ref().take(MOST_PATTERNS).collect();
        Self { patterns, left_out: all.count() }
    }

    /// Adds the hearers of a channel. The hearers of one service follow each other.
    fn hears(&self, channel: &Emitted, hears: &mut Vec<Hears>) {
        let matching = self.patterns.iter().filter(|hearer| hearer.pattern.matches(&channel.channel));
        let mut hearers: Vec<_> = matching.map(|hearer| (&hearer.service, &hearer.log)).collect();
        hearers.dedup();
        hears.extend(hearers.into_iter().take(MOST_SERVICES).map(|(service, log)| Hears {
            service: service.clone(),
            channel: channel.channel.to_string(),
            waves_per_second: shown(channel.per_second),
            log: log.clone(),
        }));
    }
}

/// The counts of the inboxes of each name, in all processes.
#[derive(Default)]
struct Nodes(BTreeMap<String, ServiceNode>);

impl Nodes {
    fn add(&mut self, process: &WholeProcess) {
        for inbox in &process.account().inboxes {
            let node = self.0.entry(inbox.vibrator.clone()).or_default();
            node.offered = node.offered.saturating_add(inbox.ledger.offered);
            node.lost = node.lost.saturating_add(crate::status::lost_of(&inbox.ledger));
            node.queued = node.queued.saturating_add(inbox.ledger.queued);
        }
    }

    fn take(&mut self, name: &str, is_listed: bool, pulses: &Pulses) -> ServiceNode {
        let node = self.0.remove(name).unwrap_or_default();
        let lost_per_second = pulses.lost_per_second(name);
        ServiceNode { name: name.to_owned(), is_listed, lost_per_second, ..node }
    }
}
