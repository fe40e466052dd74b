//! The sending task: from the outbox to the client, many waves in a message.
//!
//! Batching is natural: while one batch is on its way to the broker, waves queue up and leave together with the next.
//! There is no timer, and a lone wave leaves at once. Commands never share a message: a queue group of the server
//! hands a message to one member as a whole, and the members shall share the work.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::Instant;

use super::{Root, Shared, cloudevents};
use crate::aether::Wire;
use crate::channel::Channel;
use crate::wave::{Kind, Wave};
use crate::wire::{encode, frame_bound, record_bound};

/// A batch holds at most so many waves and bytes, and at most so many batches are under way before one is confirmed.
/// Together they bound what a strong wave may have to wait for.
const BATCH_WAVES: usize = 512;
const BATCH_BYTES: usize = 256 << 10;
const BATCHES_UNDER_WAY: usize = 8;

/// A message holds about so much. A message that the server cannot read at once it puts together in memory of its own:
/// messages of 8 KiB cost it half of the processor time of those of 300 KiB, for the same waves.
const FRAME_BYTES: usize = 8 << 10;

/// Sends until the outbox is closed and empty.
pub(super) async fn send(shared: Arc<Shared>) {
    let mut batch = Vec::with_capacity(BATCH_WAVES);
    let mut groups = Groups::default();
    while shared.outbox.filled().await {
        shared.link.standing().await;
        batch.clear();
        shared.outbox.take_many(BATCH_WAVES, BATCH_BYTES, &mut batch);
        // After taking: so whatever was left before one of these waves was emitted does not hear it.
        shared.left().await;
        match shared.wire {
            Wire::Frames => {
                groups.sort(&mut batch);
                for waves in groups.in_order() {
                    send_frames(&shared, waves).await;
                }
            }
            Wire::CloudEvents => {
                for wave in &batch {
                    let subject = shared.subject(Root::Waves, wave.channel().as_str());
                    let headers = cloudevents::headers(wave, Instant::now());
                    // The client refuses only when it has ended; the link writes the waves off then.
                    let _ =
                        shared.client.publish_with_headers(subject, headers, wave.payload().clone()).await;
                }
            }
        }
        shared.link.mark(&shared.client).await;
        shared.link.fewer_marks_than(BATCHES_UNDER_WAY, &shared.client).await;
    }
    // The client ends with its last handle, which may be ours, and does not write what it still holds then.
    let _ = shared.client.flush().await;
}

/// Sends waves of one channel, in their order, in as few messages as the server's limit and commands allow.
async fn send_frames(shared: &Shared, waves: &[Wave]) {
    let Some(first) = waves.first() else { return };
    let max_bytes = shared.client.max_payload().min(FRAME_BYTES);
    let mut rest = waves;
    while !rest.is_empty() {
        let mut bytes = frame_bound(None);
        let fitting = rest
            .iter()
            .take_while(|wave| {
                bytes += record_bound(wave);
                bytes <= max_bytes && wave.kind() != Kind::Command
            })
            .count()
            // A command travels alone. So does what is too large by the bound: it fits, that was checked exactly
            // before it was taken.
            .max(1);
        let (now, later) = rest.split_at(fitting);
        match encode(shared.sender(), None, now, Instant::now()) {
            Ok(frame) => {
                let subject = shared.subject(Root::Waves, first.channel().as_str());
                let _ = shared.client.publish(subject, frame).await;
            }
            // Waves of one channel, far fewer than a frame may have sources, none too large.
            Err(error) => tracing::error!(%error, "waves of one batch make no frame"),
        }
        rest = later;
    }
}

/// A batch by channel, in the order of each channel's first wave. Kept from batch to batch for its memory.
#[derive(Default)]
struct Groups {
    places: HashMap<Channel, usize>,
    groups: Vec<Vec<Wave>>,
    used: usize,
}

impl Groups {
    /// Moves the waves of a batch into their groups.
    fn sort(&mut self, batch: &mut Vec<Wave>) {
        self.places.clear();
        for group in &mut self.groups {
            group.clear();
        }
        self.used = 0;
        let mut last = usize::MAX;
        for wave in batch.drain(..) {
            // Runs of one channel are the rule.
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

    fn in_order(&self) -> impl Iterator<Item = &[Wave]> {
        self.groups[..self.used].iter().map(Vec::as_slice)
    }
}
