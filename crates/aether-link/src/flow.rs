//! Flow control: the wire format of the notices that full receivers send to senders, and the counters of both sides.
//!
//! A *pause* names a pattern and a level. Senders keep waves that match the pattern, and that are at this level or
//! weaker, in their outbox. A pause is valid for a short lease and is renewed while it is needed. Lost notices, broken
//! connections and dead receivers therefore need no special handling. Media over a network send them when an inbox has no
//! room, and obey them with a [`HoldTable`]. This module sends nothing itself.

mod asked_pause;
mod holds;

pub use asked_pause::AskedPause;
pub use holds::{HoldTable, Noted};

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire;
use aether_core::medium::Sequencer;
use aether_core::wave::ContentType;
use aether_core::{Channel, Pattern, Source, Wave, clock};

/// The channel on which receivers ask senders to pause.
pub const FLOW: &str = "_aether.flow";

/// How long a pause is valid without renewal. Two of three notices may be lost or late.
const LEASE: Duration = Duration::from_millis(250);
/// The interval at which a pause is renewed.
const RENEW_EVERY: Duration = Duration::from_millis(80);

/// The maximum lease. Longer leases are shortened to this one, whichever receiver asks for them.
const MAX_LEASE: Duration = Duration::from_secs(1);

/// The counters of both sides.
pub struct Flow {
    sequencer: Sequencer,
    last_id: AtomicU64,
    /// The number of pauses that this process has obeyed, not counting renewals.
    pub pauses: AtomicU64,
    /// The number of waves held in the outbox, as of the last check.
    pub held: AtomicU64,
}

/// A pause, or the end of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Identifies the pause among all pauses of the same node.
    pub id: u64,
    /// The channels whose waves are held.
    pub pattern: Pattern,
    /// Waves at this level or weaker are held.
    pub level: u8,
    /// How long the pause is valid unless it is renewed. Zero ends it.
    pub lease: Duration,
}

#[derive(Serialize, Deserialize)]
struct PauseRecord {
    id: u64,
    pattern: String,
    level: u8,
    lease_ms: u64,
}

impl Default for Flow {
    fn default() -> Self {
        Self::new()
    }
}

impl Flow {
    /// Counters of a medium that is connecting.
    #[must_use]
    pub fn new() -> Self {
        Self {
            sequencer: Sequencer::new(Source::framework()),
            last_id: AtomicU64::new(0),
            pauses: AtomicU64::new(0),
            held: AtomicU64::new(0),
        }
    }

    /// Returns a new id for a sender of pauses.
    pub fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Encodes a pause as a control message.
    pub fn wave(&self, pause: &Pause) -> Option<Wave> {
        let record = PauseRecord {
            id: pause.id,
            pattern: pause.pattern.as_str().to_owned(),
            level: pause.level,
            lease_ms: u64::try_from(pause.lease.as_millis()).unwrap_or(u64::MAX),
        };
        let payload = serde_json::to_vec(&record).ok()?;
        let channel = Channel::with_reserved(FLOW).ok()?;
        Some(Wave::plain(channel, payload.into(), ContentType::Json).noticed(&self.sequencer))
    }
}

/// The node that sent a message and the pauses in it, or `None` if the message is malformed.
pub fn read(message: &Bytes) -> Option<(u64, Vec<Pause>)> {
    let channel = Channel::with_reserved(FLOW).ok()?;
    let frame = wire::decode(message, Some(&channel), clock::now(), |_| Duration::ZERO).ok()?;
    let pauses = frame.waves.iter().map(|wave| {
        let PauseRecord { id, pattern, level, lease_ms } = serde_json::from_slice(wave.payload()).ok()?;
        let lease = Duration::from_millis(lease_ms).min(MAX_LEASE);
        Some(Pause { id, pattern: Pattern::new(&pattern).ok()?, level, lease })
    });
    Some((frame.sender.node, pauses.collect::<Option<_>>()?))
}

/// Reads a message as pauses, which are written as they were read.
#[cfg(fuzzing)]
pub fn fuzz(message: &Bytes) {
    let Some((_, pauses)) = read(message) else { return };
    let flow = Flow::new();
    for pause in pauses {
        assert!(pause.lease <= MAX_LEASE);
        let wave = flow.wave(&pause).expect("what was read is written");
        let sender = wire::Sender { node: 1, sent_micros: 0 };
        let frame = wire::encode(sender, None, std::slice::from_ref(&wave), clock::now()).expect("a frame");
        assert_eq!(read(&frame), Some((1, vec![pause])));
    }
}
