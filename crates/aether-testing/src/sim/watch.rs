//! What is checked of every wave that arrives: its order, and that a group gets it once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use aether_core::medium::{Arrival, ArrivalFilter, ForeignError, Guard, Medium, OnRevoked, Router};
use aether_core::{Channel, Pattern, Source, Wave, WaveId};
use parking_lot::Mutex;

use super::epoch::Epoch;
use super::sums::{ConnectionId, Sums};
use super::trace::{Event, Trace};
use crate::wave_line;

/// Those who hear a wave in one process: by a pattern, or as a member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Hearer {
    connection: ConnectionId,
    pattern: Pattern,
    member: Option<u64>,
}

/// The waves whose order is kept: of one source and channel, of the same strength, for one hearer. Waves of another path, or
/// over another bridge, have other hops.
#[derive(Debug, PartialEq, Eq, Hash)]
struct StreamKey {
    hearer: Hearer,
    source: Source,
    channel: Channel,
    amplitude: u32,
    hops: u8,
}

/// The waves that arrived so far in all processes.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    last: HashMap<StreamKey, u64>,
    /// With the networks, of which each has its own groups.
    by_groups: HashSet<(String, String, WaveId)>,
    /// The waves that came to processes with several paths.
    by_paths: HashSet<(Hearer, WaveId)>,
    problems: Vec<String>,
}

impl Arrived {
    /// The problems since this was asked last.
    pub(super) fn problems(&mut self) -> Vec<String> {
        std::mem::take(&mut self.problems)
    }

    fn check(&mut self, watch: &Watch, wave: &Wave, arrival: Arrival<'_>) {
        let (process, connection) = (&watch.name, watch.connection);
        let id = wave.id();
        let hearer = Hearer { connection, pattern: arrival.pattern.clone(), member: arrival.member };
        let (source, channel) = (wave.source().clone(), wave.channel().clone());
        let amplitude = wave.amplitude().as_f32().to_bits();
        // Notices about paths go by each of them.
        let is_by_paths = watch.networks.contains(' ');
        if is_by_paths && !self.by_paths.insert((hearer.clone(), id.clone())) {
            let (id, channel) = (wave_line::short_id(&id), wave.channel());
            self.problems.push(format!("{id} on {channel} came by two paths to {process}"));
        }
        if is_by_paths && channel.is_reserved() {
            return;
        }
        let stream = StreamKey { hearer, source, channel, amplitude, hops: wave.hops() };
        let last = self.last.insert(stream, id.sequence).unwrap_or(0);
        if id.sequence <= last {
            let (wave, channel) = (wave_line::short_id(&id), wave.channel());
            let what = if id.sequence == last { "came twice" } else { "came out of order" };
            self.problems.push(format!("{wave} on {channel} {what} at {process}: {last} was there before"));
        }
        if let Some(group) = arrival.group
            && !self.by_groups.insert((watch.networks.clone(), group.to_owned(), id.clone()))
        {
            let (id, channel) = (wave_line::short_id(&id), wave.channel());
            self.problems.push(format!("the group {group} got {id} on {channel} twice, now at {process}"));
        }
    }
}

/// Sees all that one connection of a process hears over the network. It allows everything.
pub(super) struct Watch {
    pub(super) process: usize,
    pub(super) name: String,
    pub(super) networks: String,
    pub(super) connection: ConnectionId,
    pub(super) epoch: Epoch,
    pub(super) arrived: Arc<Mutex<Arrived>>,
    pub(super) sums: Arc<Mutex<Sums>>,
    pub(super) trace: Trace,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ArrivalFilter for Watch {
    fn filter(&self, waves: &mut Vec<Wave>, arrival: Arrival<'_>) {
        let now = self.epoch.now();
        let mut arrived = self.arrived.lock();
        for wave in waves.iter() {
            self.trace.note(now, Event::Wave { to: self.process, wave: wave.clone() });
            arrived.check(self, wave, arrival);
        }
        if arrival.member.is_none() {
            let mut sums = self.sums.lock();
            waves.iter().for_each(|wave| sums.arrives(self.connection, arrival.pattern, wave));
        }
    }
}

impl Guard for Watch {
    fn may_listen(&self, _: &str, _: &Pattern) -> Result<(), ForeignError> {
        Ok(())
    }

    fn admit_stored(&self, _: &mut Wave) -> Result<(), ForeignError> {
        Ok(())
    }

    fn around(&self, medium: Arc<dyn Medium>, _: Arc<Router>, _: OnRevoked) -> Arc<dyn Medium> {
        medium
    }
}
