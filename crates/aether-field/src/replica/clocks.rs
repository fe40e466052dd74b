//! The clocks of all replicas on a medium, for somebody who is none of them: a diagnosis.

use std::collections::BTreeMap;
use std::time::Duration;

use aether_core::{Aether, Vibrator};
use tokio::time::{Instant, timeout_at};

use super::clock::ClockOffset;
use super::error::JoinFieldError;
use super::shared::wall;
use super::wire::{Beat, VERSION};

/// As many replicas as a replica knows.
const MOST: usize = 1024;

/// The clock of a replica, as it reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaClock {
    /// The field.
    pub field: String,
    /// The name of the replica.
    pub replica: String,
    /// Its clock, seen from the one here.
    pub clock: ClockOffset,
    /// How far its newest stamp is ahead of its clock. Beyond `Limits::max_drift` the others refuse what it writes.
    pub ahead: Duration,
}

/// Listens to all fields on a medium for this time, and returns the clocks that their replicas report: at most 1024, by
/// field and name. Replicas report about once a second. Nobody signs the reports.
///
/// # Errors
/// [`JoinFieldError`] if the medium does not take the subscription.
///
/// # Cancel safety
/// Cancelled before completion, nothing remains.
pub async fn replica_clocks(aether: &Aether, time: Duration) -> Result<Vec<ReplicaClock>, JoinFieldError> {
    let mut listener = Vibrator::builder("field-clocks").observe().create(aether).await?;
    listener.resonate_on("field.*.beats").await?;
    let until = Instant::now() + time;
    let mut clocks = BTreeMap::new();
    while let Ok(Some(wave)) = timeout_at(until, listener.receive()).await {
        let Ok(beat) = postcard::from_bytes::<Beat>(wave.payload()) else { continue };
        let key = (field_of(wave.channel().as_str()), beat.writer);
        if beat.version != VERSION || clocks.len() >= MOST && !clocks.contains_key(&key) {
            continue;
        }
        if beat.leaves {
            clocks.remove(&key);
            continue;
        }
        let clock = ReplicaClock {
            field: key.0.clone(),
            replica: beat.replica.chars().take(64).collect(),
            clock: ClockOffset::of(beat.clock, wall()),
            ahead: Duration::from_micros(beat.newest.saturating_sub(beat.clock)),
        };
        clocks.insert(key, clock);
    }
    Ok(clocks.into_values().collect())
}

fn field_of(channel: &str) -> String {
    channel.split('.').nth(1).unwrap_or_default().to_owned()
}
