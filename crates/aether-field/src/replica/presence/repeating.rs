//! The task that sends the participants of this replica, and lets those that are silent expire.

use std::time::Duration;

use aether_core::{Amplitude, Channel, EmitError, Emitter, Wave};
use tokio::time::{Instant, sleep_until};

use super::bounds::LIFETIME;
use super::state::PresenceState;
use crate::replica::wire::{Participants, VERSION};

/// How often everything is repeated: three times within a lifetime, so that two repetitions in a row may be lost.
const REPETITION: Duration = Duration::from_secs(3);

/// The shortest time between two repetitions, however often strangers ask.
const SOONEST: Duration = Duration::from_secs(1);

/// The size of a wave of participants in bytes.
const BATCH: usize = 60_000;

/// The amplitude of participants: weaker than changes and beats.
const AMPLITUDE: f32 = 0.2;

const _: () = assert!(LIFETIME.as_secs() > 3 * REPETITION.as_secs());

/// Sends and expires, until the medium is closed.
pub(in crate::replica) async fn repeat(
    state: &PresenceState,
    channel: &Channel,
    emitter: &Emitter,
) -> Result<(), EmitError> {
    let mut repeated = Instant::now();
    loop {
        let (expiry, repetition) = {
            let mut participants = state.participants.lock();
            let expiry = participants.expire(Instant::now());
            (expiry, repeated + if participants.asked { SOONEST } else { REPETITION })
        };
        tokio::select! {
            biased;
            () = sleep_until(repetition) => {
                repeated = Instant::now();
                state.participants.lock().repeat();
                send(state, channel, emitter).await?;
            }
            () = sleep_until(expiry.unwrap_or(repetition)), if expiry.is_some() => {}
            () = state.changed.notified() => send(state, channel, emitter).await?,
        }
    }
}

/// Tells the others that everything that this replica has announced leaves.
pub(in crate::replica) async fn leave(state: &PresenceState, channel: &Channel, emitter: &Emitter) {
    state.participants.lock().leave_all();
    if let Err(error) = send(state, channel, emitter).await {
        tracing::debug!(%error, "participants of the field leave by expiry");
    }
}

async fn send(state: &PresenceState, channel: &Channel, emitter: &Emitter) -> Result<(), EmitError> {
    while let Some(wave) = next(state, channel) {
        match emitter.emit(wave).await {
            Ok(_) => {}
            Err(error @ EmitError::Closed { .. }) => return Err(error),
            // A repetition brings what was not sent.
            Err(error) => tracing::debug!(%error, "participants of the field were not sent"),
        }
    }
    Ok(())
}

fn next(state: &PresenceState, channel: &Channel) -> Option<Wave> {
    let (writer, participants) = state.participants.lock().outgoing(BATCH, Instant::now())?;
    let payload = postcard::to_allocvec(&Participants { version: VERSION, writer, participants }).ok()?;
    let amplitude = Amplitude::new(AMPLITUDE).ok()?;
    Wave::builder(channel.clone()).amplitude(amplitude).bytes(payload).build().ok()
}
