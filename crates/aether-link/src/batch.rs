//! Packs the waves of a batch into frames: which waves share a message.
//!
//! For the sending tasks of media over a network. It encodes nothing.

use std::collections::HashMap;

use crate::wire::{frame_bound, record_bound};
use aether_core::{Channel, Kind, Wave};

/// How many of these waves share the next message, at least one, and how many bytes they take at most. A wave that is
/// too large by the estimate travels alone: it fits nevertheless, because its exact size was checked before it was
/// accepted. So do commands, if `commands_alone`: a server hands a whole message to one member of a group.
pub fn fitting(waves: &[Wave], max_bytes: usize, commands_alone: bool) -> (usize, usize) {
    let is_alone = |wave: &Wave| commands_alone && wave.kind() == Kind::Command;
    let mut bound = frame_bound(None);
    for (index, wave) in waves.iter().enumerate() {
        let bytes = record_bound(wave);
        if index > 0 && (bound + bytes > max_bytes || is_alone(wave)) {
            return (index, bound);
        }
        bound += bytes;
        if is_alone(wave) {
            return (index + 1, bound);
        }
    }
    (waves.len(), bound)
}

/// Whether all waves of a batch are of one channel, the usual case.
pub fn is_of_one_channel(batch: &[Wave]) -> bool {
    batch.windows(2).all(|pair| pair[0].channel() == pair[1].channel())
}

/// A batch grouped by channel, in the order of each channel's first wave. Kept from batch to batch to reuse its memory.
#[derive(Default)]
pub struct Batches {
    places: HashMap<Channel, usize>,
    groups: Vec<Vec<Wave>>,
    used: usize,
}

impl Batches {
    /// Moves the waves of a batch into their groups.
    pub fn sort(&mut self, batch: &mut Vec<Wave>) {
        self.clear();
        let mut last = usize::MAX;
        for wave in batch.drain(..) {
            // Runs of waves on one channel are the common case.
            let is_run = self
                .groups
                .get(last)
                .and_then(|group| group.last())
                .is_some_and(|before| before.channel() == wave.channel());
            if !is_run {
                last = *self.places.entry(wave.channel().clone()).or_insert_with(|| {
                    self.used += 1;
                    self.used - 1
                });
                if self.groups.len() <= last {
                    self.groups.push(Vec::new());
                }
            }
            self.groups[last].push(wave);
        }
    }

    /// Forgets all groups.
    pub fn clear(&mut self) {
        self.places.clear();
        self.groups[..self.used].iter_mut().for_each(Vec::clear);
        self.used = 0;
    }

    /// The groups, in the order of their first waves.
    pub fn in_order(&self) -> impl Iterator<Item = &[Wave]> {
        self.groups[..self.used].iter().map(Vec::as_slice)
    }
}
