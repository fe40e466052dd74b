//! The map: who emits on which channel, who hears it, and which channels cause which.
//!
//! Who emits was seen and who hears was announced, so these links are exact. The edges between channels come from the
//! detectors: exact where waves name their cause (L0), guessed by timing elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use aether_core::Pattern;
use serde::Serialize;

use crate::observed::Emitted;
use crate::status::{StatusSource, WholeProcess};

/// Bounds of the map, so that it can be drawn and is written in milliseconds.
const MOST_CHANNELS: usize = 200;
const MOST_SERVICES: usize = 200;
const MOST_PATTERNS: usize = 64;

#[derive(Debug, Serialize)]
pub(crate) struct Map {
    services: Vec<ServiceNode>,
    channels: Vec<ChannelNode>,
    emits: Vec<Emits>,
    hears: Vec<Hears>,
    /// As in the map of `/api/status`: `null` without physics, or before the first report.
    causes: Option<serde_json::Value>,
    /// Services and channels beyond the bounds.
    left_out: usize,
}

#[derive(Debug, Default, Serialize)]
struct ServiceNode {
    name: String,
    offered: u64,
    lost: u64,
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
    service: String,
    channel: String,
    waves_per_second: f64,
}

impl Map {
    pub(crate) fn of(source: &StatusSource) -> Self {
        let busiest = source.observed().busiest(usize::MAX);
        let heard = source.roster().heard_by_name();
        let mut services = Nodes::default();
        for process in source.whole_processes() {
            services.add(&process);
        }
        let channels = &busiest[..busiest.len().min(MOST_CHANNELS)];
        let (mut emits, mut hears) = (Vec::new(), Vec::new());
        for channel in channels {
            emits_on(channel, &mut emits);
            hears_it(channel, &heard, &mut hears);
        }
        let shown: BTreeSet<&String> = emits
            .iter()
            .map(|emits| &emits.service)
            .chain(hears.iter().map(|hears| &hears.service))
            .collect();
        let left_out = busiest.len() - channels.len() + shown.len().saturating_sub(MOST_SERVICES);
        let shown: BTreeSet<String> = shown.into_iter().take(MOST_SERVICES).cloned().collect();
        emits.retain(|emits| shown.contains(&emits.service));
        hears.retain(|hears| shown.contains(&hears.service));
        let report = source.insight().and_then(|insight| insight.report());
        Self {
            services: shown.iter().map(|name| services.take(name, heard.contains_key(name))).collect(),
            channels: channels.iter().map(ChannelNode::of).collect(),
            emits,
            hears,
            causes: report.map(|report| report.map.to_json()),
            left_out,
        }
    }
}

impl ChannelNode {
    fn of(channel: &Emitted) -> Self {
        Self {
            name: channel.channel.to_string(),
            waves: channel.waves,
            waves_per_second: channel.per_second,
            energy_per_second: channel.energy,
            last_seen_seconds_ago: channel.last_seen.as_secs_f64(),
        }
    }
}

/// The rate of a channel belongs to its emitters in the proportion of their waves.
fn emits_on(channel: &Emitted, emits: &mut Vec<Emits>) {
    let all: u64 = channel.emitters.iter().map(|(_, waves)| waves).sum();
    emits.extend(channel.emitters.iter().map(|(service, waves)| Emits {
        service: service.clone(),
        channel: channel.channel.to_string(),
        waves: *waves,
        waves_per_second: channel.per_second * *waves as f64 / all.max(1) as f64,
    }));
}

fn hears_it(channel: &Emitted, heard: &BTreeMap<String, Vec<Pattern>>, hears: &mut Vec<Hears>) {
    let services = heard.iter().filter(|(_, patterns)| {
        patterns.iter().take(MOST_PATTERNS).any(|pattern| pattern.matches(&channel.channel))
    });
    hears.extend(services.take(MOST_SERVICES).map(|(service, _)| Hears {
        service: service.clone(),
        channel: channel.channel.to_string(),
        waves_per_second: channel.per_second,
    }));
}

/// What the inboxes of each name did, in all processes.
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

    fn take(&mut self, name: &str, is_listed: bool) -> ServiceNode {
        let node = self.0.remove(name).unwrap_or_default();
        ServiceNode { name: name.to_owned(), is_listed, ..node }
    }
}
