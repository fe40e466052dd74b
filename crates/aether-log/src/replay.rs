//! Replay: the waves of a log again, at a chosen speed, into any emitter.
//!
//! The emitter decides where they go: to a live bus, to the bus of a service under test, or nowhere if the caller only looks
//! at them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use aether_core::{EmitError, Emitter};

use crate::reading::{LogItem, LogReader};
use crate::sealing::Unopened;
use crate::store::{Damage, ReadError};
use crate::stored_wave::StoredWave;

/// The maximum number of reasons for waves that were not opened.
const MOST_REASONS: usize = 16;

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A wave was not emitted.
    #[error("the wave at position {position} was not emitted")]
    Emit {
        /// Its position in the log.
        position: u64,
        /// Why.
        source: EmitError,
    },
    /// The speed is not a positive number.
    #[error("the speed {given} is not valid: use a number greater than 0, such as 1 or 0.5")]
    Speed {
        /// The given number.
        given: f64,
    },
}

/// The waves that a replay has emitted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Replayed {
    /// The number of waves that were emitted.
    pub waves: u64,
    /// Places of the log that could not be read.
    pub damaged: Vec<Damage>,
    /// Waves that were not opened, by the reason.
    pub unopened: BTreeMap<String, u64>,
}

/// The waves of a reader again, in their order, each as a new one: with a new id and the present time.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aether_core::{Aether, Durability, Vibrator, Wave};
/// use aether_log::{Log, Replay};
///
/// # let folder = tempfile::tempdir()?; let folder = folder.path();
/// let log = Log::builder(folder).channels("orders.>", Durability::Stored)?.open()?;
/// let shop = log.connect(aether_core::AetherBuilder::new().url("local:")).await?.emitter("shop")?;
/// shop.emit(Wave::builder("orders.created").text("a lamp").build()?).await?;
///
/// let under_test = Aether::local();
/// let mut billing = Vibrator::create("billing", &under_test).await?;
/// billing.resonate_on("orders.>").await?;
/// let replayed = Replay::new(log.read_from(0)).emit_into(&under_test.emitter("replay")?).await?;
/// assert_eq!((replayed.waves, billing.receive().await.unwrap().text()?), (1, "a lamp"));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Replay {
    reader: LogReader,
    speed: Option<f64>,
    before: Option<SystemTime>,
    /// The next wave, whose time has not come yet.
    pending: Option<Box<StoredWave>>,
    damaged: Vec<Damage>,
    unopened: BTreeMap<String, u64>,
}

impl Replay {
    /// The waves of a reader, as fast as they are taken.
    #[must_use]
    pub fn new(reader: LogReader) -> Self {
        let (damaged, unopened) = (Vec::new(), BTreeMap::new());
        Self { reader, speed: None, before: None, pending: None, damaged, unopened }
    }

    /// Keeps the pauses that were between the waves: 1 as they were, 2 for half of them.
    ///
    /// # Errors
    /// [`ReplayError::Speed`] unless it is a number greater than 0.
    pub fn speed(mut self, speed: f64) -> Result<Self, ReplayError> {
        if !speed.is_finite() || speed <= 0.0 {
            return Err(ReplayError::Speed { given: speed });
        }
        self.speed = Some(speed);
        Ok(self)
    }

    /// The position of the next wave, or before it.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.reader.position()
    }

    /// The places so far that could not be read.
    #[must_use]
    pub fn damaged(&self) -> &[Damage] {
        &self.damaged
    }

    /// The numbers of waves so far that were not opened, by the reason.
    #[must_use]
    pub const fn unopened(&self) -> &BTreeMap<String, u64> {
        &self.unopened
    }

    /// The next wave, at its time; `None` at the end. Blocks while it reads the disk.
    ///
    /// # Errors
    /// [`ReadError`] if a file cannot be read.
    ///
    /// # Cancel safety
    /// Cancelled during a pause, the next call returns the wave behind it at once.
    pub async fn next_wave(&mut self) -> Result<Option<StoredWave>, ReadError> {
        loop {
            if let Some(stored) = self.pending.take() {
                return Ok(Some(*stored));
            }
            match self.reader.next_item()? {
                None => return Ok(None),
                Some(LogItem::Damaged(damage)) => self.damaged.push(damage),
                Some(LogItem::Unknown(_)) => {}
                Some(LogItem::Unopened {
                    #[cfg(feature = "seal")]
                    key,
                    reason,
                    ..
                }) => {
                    #[cfg(not(feature = "seal"))]
                    let key = None::<&str>;
                    let reason = match key {
                        Some(key) if reason == Unopened::Locked => format!("sealed with key {key}"),
                        _ => reason.to_string(),
                    };
                    // Anybody who writes the folder can make up keys.
                    let is_known = self.unopened.len() < MOST_REASONS || self.unopened.contains_key(&reason);
                    let reason = if is_known { reason } else { "sealed with further keys".to_owned() };
                    *self.unopened.entry(reason).or_default() += 1;
                }
                Some(LogItem::Wave(stored)) => {
                    let pause = self.before.and_then(|before| stored.at.duration_since(before).ok());
                    self.before = Some(stored.at);
                    self.pending = Some(stored);
                    if let (Some(speed), Some(pause)) = (self.speed, pause) {
                        let pause = Duration::try_from_secs_f64(pause.as_secs_f64() / speed);
                        tokio::time::sleep(pause.unwrap_or(Duration::MAX)).await;
                    } else {
                        // Reading never waits, so others would not get their turn.
                        tokio::task::coop::consume_budget().await;
                    }
                }
            }
        }
    }

    /// Emits all of them. On a durable channel of the other bus they are stored there.
    ///
    /// # Errors
    /// [`ReplayError`]: a file cannot be read, or a wave was not emitted. Those before it were.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the waves so far were emitted.
    pub async fn emit_into(mut self, emitter: &Emitter) -> Result<Replayed, ReplayError> {
        let mut waves = 0;
        while let Some(StoredWave { position, wave, .. }) = self.next_wave().await? {
            let emitted = emitter.emit(wave).await;
            emitted.map_err(|source| ReplayError::Emit { position, source })?;
            waves += 1;
        }
        Ok(Replayed { waves, damaged: self.damaged, unopened: self.unopened })
    }
}
