//! What receivers tell senders when they have no room: the notice, as it is written, and the counts of both sides.
//!
//! A *pause* names a pattern and a level: senders keep waves that match it, and that are at this level or weaker, in their
//! outbox. It holds for a short lease and is renewed while it is needed, so that a lost notice, a connection that breaks
//! and a receiver that dies need no care of their own. [`crowd`](super::crowd) sends them, [`holds`](super::holds) obeys.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::channel::{Channel, Pattern};
use crate::clock::Instant;
use crate::source::{Sequencer, Source};
use crate::wave::{ContentType, Wave};
use crate::wire;

/// Where receivers ask senders to pause.
pub(super) const FLOW: &str = "_aether.flow";

/// How long a pause holds that is not renewed, and when it is renewed. Two of three notices may be lost or late.
pub(super) const LEASE: Duration = Duration::from_millis(250);
pub(super) const RENEW_EVERY: Duration = Duration::from_millis(80);

/// A longer lease than this is taken for this one, whoever asks for it.
const MAX_LEASE: Duration = Duration::from_secs(1);

/// The counts of both sides.
pub(super) struct Flow {
    sequencer: Sequencer,
    last_id: AtomicU64,
    /// Bytes of messages that wait in this process behind a wave for which an inbox has no room.
    pub(super) waiting_bytes: AtomicUsize,
    /// Pauses that this process has obeyed, renewals left out.
    pub(super) pauses: AtomicU64,
    /// Waves in the outbox that are held, as of the last look at it.
    pub(super) held: AtomicU64,
}

/// A pause, or its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pause {
    /// Of those of a sender of notices.
    pub(super) id: u64,
    pub(super) pattern: Pattern,
    /// Waves of this level and weaker ones are held.
    pub(super) level: u8,
    /// Zero to resume.
    pub(super) lease: Duration,
}

#[derive(Serialize, Deserialize)]
struct PauseRecord {
    id: u64,
    pattern: String,
    level: u8,
    lease_ms: u64,
}

impl Flow {
    pub(super) fn new() -> Self {
        Self {
            sequencer: Sequencer::new(Source::framework()),
            last_id: AtomicU64::new(0),
            waiting_bytes: AtomicUsize::new(0),
            pauses: AtomicU64::new(0),
            held: AtomicU64::new(0),
        }
    }

    /// A number for whoever sends pauses.
    pub(super) fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A pause as a control message.
    pub(super) fn wave(&self, pause: &Pause) -> Option<Wave> {
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

/// The pauses in a message, and the node that sent them; nothing if it is malformed.
pub(super) fn read(message: &Bytes) -> Option<(u64, Vec<Pause>)> {
    let channel = Channel::with_reserved(FLOW).ok()?;
    let frame = wire::decode(message, Some(&channel), Instant::now(), |_| Duration::ZERO).ok()?;
    let pauses = frame.waves.iter().map(|wave| {
        let PauseRecord { id, pattern, level, lease_ms } = serde_json::from_slice(wave.payload()).ok()?;
        let lease = Duration::from_millis(lease_ms).min(MAX_LEASE);
        Some(Pause { id, pattern: Pattern::new(&pattern).ok()?, level, lease })
    });
    Some((frame.sender.node, pauses.collect::<Option<_>>()?))
}

/// For ever if there is no such moment.
pub(super) async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep(moment.saturating_duration_since(Instant::now())).await,
        None => std::future::pending().await,
    }
}
