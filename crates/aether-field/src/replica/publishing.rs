//! The task that sends changes and beats.

use std::sync::Arc;
use std::time::Duration;

use aether_core::{Amplitude, EmitError, Emitter, Wave};
use tokio::time::{Instant, sleep_until};

use super::shared::{Shared, wall};
use super::wire::{Beat, Changes, VERSION};

/// The size of a wave of changes in bytes, but for a single change that is larger.
const BATCH: usize = 60_000;

/// The longest time between two beats.
const BEAT: Duration = Duration::from_secs(1);

/// How long after the last change a beat is sent, so that what got lost is noticed soon.
const AFTER_CHANGES: Duration = Duration::from_millis(100);

/// How often marks of removals that are older than the horizon are dropped.
const COLLECTION: Duration = Duration::from_secs(60);

/// The amplitude of beats: weaker than changes, and soon repeated.
const BEAT_AMPLITUDE: f32 = 0.3;

/// Sends what waits, until the medium is closed.
pub(super) async fn publish(shared: Arc<Shared>, emitter: Emitter) -> Result<(), EmitError> {
    let mut asks = true;
    let mut next_beat = Instant::now();
    let mut collection = tokio::time::interval(COLLECTION);
    loop {
        tokio::select! {
            biased;
            () = sleep_until(next_beat) => {
                beat(&shared, &emitter, asks, false).await;
                // Replicas that joined together do not stay in step.
                next_beat = Instant::now() + BEAT.mul_f64(0.75 + 0.5 * fastrand::f64());
                asks = false;
                let mut peers = shared.peers.lock();
                peers.forget_silent(Instant::now());
            }
            _ = collection.tick() => {
                shared.collect();
                shared.maintain();
            }
            () = shared.maintain_now.notified() => shared.maintain(),
            () = shared.to_send.notified() => {
                send(&shared, &emitter).await?;
                next_beat = next_beat.min(Instant::now() + AFTER_CHANGES);
            }
            // Changes do not starve it, because each brings a beat.
            () = shared.beat_now.notified() => next_beat = Instant::now(),
        }
    }
}

/// Sends the changes that wait.
///
/// # Errors
/// Only if the medium is closed: what was not sent otherwise is brought by a reconciliation.
pub(super) async fn send(shared: &Shared, emitter: &Emitter) -> Result<(), EmitError> {
    while let Some((wave, count)) = batch(shared) {
        if let Err(error) = emitter.emit(wave).await {
            tracing::debug!(%error, count, "changes were not sent");
            if matches!(error, EmitError::Closed { .. }) {
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Sends a beat. One that is not sent is repeated soon.
pub(super) async fn beat(shared: &Shared, emitter: &Emitter, asks: bool, leaves: bool) {
    let (writer, digest, newest) = {
        let state = shared.state();
        (state.writer(), state.digest(), state.last_stamp().micros)
    };
    let number = shared.next_beat();
    let replica = shared.replica.clone();
    let (version, clock, proof) = (VERSION, wall(), None);
    let mut beat = Beat { version, writer, replica, digest, asks, leaves, number, clock, newest, proof };
    if let Some(identity) = &*shared.identity.lock() {
        beat.sign(identity, &shared.field);
    }
    let Ok(payload) = postcard::to_allocvec(&beat) else { return };
    let wave = Wave::builder(shared.channels.beats.clone()).amplitude(BEAT_AMPLITUDE).bytes(payload).build();
    match wave {
        Ok(wave) => drop(emitter.emit(wave).await),
        Err(error) => tracing::debug!(%error, "a beat of the field was not made"),
    }
}

/// The next wave of changes, and how many are in it.
fn batch(shared: &Shared) -> Option<(Wave, usize)> {
    let (mut changes, mut bytes, mut strongest) = (Vec::new(), 0, None::<Amplitude>);
    let mut outgoing = shared.outgoing.lock();
    while bytes < BATCH
        && let Some((_, (change, amplitude))) = outgoing.pop_first()
    {
        bytes += change.size();
        strongest = strongest.max(Some(amplitude));
        changes.push(change);
    }
    drop(outgoing);
    let count = changes.len();
    let payload = postcard::to_allocvec(&Changes { version: VERSION, changes }).ok()?;
    let wave = Wave::builder(shared.channels.changes.clone()).amplitude(strongest?).bytes(payload);
    Some((wave.build().ok()?, count))
}

/// Sends the waiting changes, and announces that the replica leaves.
pub(super) async fn leave(shared: &Shared, emitter: &Emitter) {
    if send(shared, emitter).await.is_ok() {
        beat(shared, emitter, false, true).await;
    }
}
