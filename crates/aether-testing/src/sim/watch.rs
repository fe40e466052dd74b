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

/// The waves whose order is kept: of one source and channel, of the same strength, for one hearer.
#[derive(Debug, PartialEq, Eq, Hash)]
struct StreamKey {
    hearer: Hearer,
    source: Source,
    channel: Channel,
    amplitude: u32,
}

/// The waves that arrived so far in all processes.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    last: HashMap<StreamKey, u64>,
    by_groups: HashSet<(String, WaveId)>,
    problems: Vec<String>,
}

impl Arrived {
    /// The problems since this was asked last.
    pub(super) fn problems(&mut self) -> Vec<String> {
        std::mem::take(&mut self.problems)
    }

    fn check(&mut self, process: &str, connection: ConnectionId, wave: &Wave, arrival: Arrival<'_>) {
        let id = wave.id();
        let hearer = Hearer { connection, pattern: arrival.pattern.clone(), member: arrival.member };
        let (source, channel) = (wave.source().clone(), wave.channel().clone());
        let stream = StreamKey { hearer, source, channel, amplitude: wave.amplitude().as_f32().to_bits() };
        let last = self.last.insert(stream, id.sequence).unwrap_or(0);
        if id.sequence <= last {
            let (wave, channel) = (wave_line::short_id(&id), wave.channel());
            let what = if id.sequence == last { "came twice" } else { "came out of order" };
            self.problems.push(format!("{wave} on {channel} {what} at {process}: {last} was there before"));
        }
        if let Some(group) = arrival.group
            && !self.by_groups.insert((group.to_owned(), id.clone()))
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
            arrived.check(&self.name, self.connection, wave, arrival);
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
