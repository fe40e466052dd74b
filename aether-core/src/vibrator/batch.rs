//! Emitting many waves at once.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::task::coop;

use super::emitter::Emitter;
use super::tracer::Emission;
use crate::clock::Moment;
use crate::medium::{EmitError, Waiting};
use crate::wave::Wave;

/// The largest number of waves that are offered together: more save nothing and keep the receiver waiting.
const BATCH: usize = 64;
/// A batch ends when the iterator has taken this long to fill it.
const LONGEST: Duration = Duration::from_micros(100);
/// The clock is read once for this many waves.
const WAVES_A_READING: usize = 8;

/// Waves that [`Emitter::emit_all`] could not emit.
#[derive(Debug, thiserror::Error)]
#[error("{} waves were not emitted: {}", refused.len(), refused.first().map(ToString::to_string).unwrap_or_default())]
#[non_exhaustive]
pub struct EmitAllError {
    /// How many waves were emitted.
    pub emitted: u64,
    /// Why each of the others was not, with the wave. Never empty.
    pub refused: Vec<EmitError>,
}

impl EmitAllError {
    /// The waves that were not emitted, in their order.
    pub fn into_waves(self) -> impl Iterator<Item = Wave> {
        self.refused.into_iter().filter_map(EmitError::into_wave)
    }
}

impl Emitter {
    /// Emits waves in their order, each as [`Emitter::emit`] does, and returns how many were emitted. Waits for room where
    /// that is needed. A wave that is refused does not keep the next one from being emitted.
    ///
    /// In process, up to 64 waves of one channel are offered together: each receiver takes its lock once for them and is
    /// woken once. A batch is as large as there is room for, and an iterator that is slow to make the next wave ends it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use aether_core::{Aether, Wave};
    ///
    /// let aether = Aether::local();
    /// let counter = aether.emitter("counter")?;
    /// let waves = (0..3).map(|count| Wave::from_json("counted", &count)).collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(counter.emit_all(waves).await?, 3);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`EmitAllError`] hands back each wave that was not emitted, with its reason, and says how many were. On a closed
    /// medium these are all waves from the first that was refused on, so the iterator has to be finite.
    ///
    /// # Panics
    /// As [`Emitter::emit`].
    ///
    /// # Cancel safety
    /// Cancelled while a wave waits for room, every wave that was taken from the iterator has been offered; waves that
    /// were refused by then are dropped. The rest is still in the iterator: pass `&mut iterator` to keep it. That is all
    /// behind the wave that waits, unless other emitters took the room of up to 63 waves behind it.
    pub async fn emit_all(&self, waves: impl IntoIterator<Item = Wave>) -> Result<u64, EmitAllError> {
        let mut waves = waves.into_iter();
        if self.is_limited() {
            return self.emit_in_turn(waves).await;
        }
        let mut batch = Batch::new(self);
        while batch.fill(&mut waves) {
            while let Some(waiting) = batch.carry() {
                if let Err(error) = waiting.finish().await {
                    batch.refuse(error.into());
                }
            }
            // A batch costs one unit of tokio's budget, as in `receive_many`.
            coop::consume_budget().await;
        }
        batch.finished()
    }

    /// Emits waves one after the other, each when the limit lets it go.
    async fn emit_in_turn(&self, waves: impl Iterator<Item = Wave>) -> Result<u64, EmitAllError> {
        let (mut emitted, mut refused) = (0, Vec::new());
        for wave in waves {
            match self.emit(wave).await {
                Ok(_) => emitted += 1,
                Err(error) => refused.push(error),
            }
        }
        if refused.is_empty() { Ok(emitted) } else { Err(EmitAllError { emitted, refused }) }
    }
}

/// Waves that have their numbers and were not carried yet.
///
/// When dropped, they are carried without waiting, since they are no longer in the iterator.
struct Batch<'a> {
    emitter: &'a Emitter,
    waves: VecDeque<Wave>,
    emitted: u64,
    refused: Vec<EmitError>,
}

impl<'a> Batch<'a> {
    fn new(emitter: &'a Emitter) -> Self {
        Self { emitter, waves: VecDeque::with_capacity(BATCH), emitted: 0, refused: Vec::new() }
    }

    /// Takes as many waves as there is room for, at least one. Returns whether there was any.
    fn fill(&mut self, waves: &mut impl Iterator<Item = Wave>) -> bool {
        let Some(first) = waves.next() else { return false };
        let start = Moment::now();
        let room = self.emitter.aether().medium().room_for(&first).min(BATCH);
        self.number(first, start);
        let mut now = start;
        for count in 1..room {
            if count % WAVES_A_READING == 0 {
                now = Moment::now();
                if now.saturating_duration_since(start) > LONGEST {
                    break;
                }
            }
            let Some(wave) = waves.next() else { break };
            self.number(wave, now);
        }
        true
    }

    fn number(&mut self, wave: Wave, now: Moment) {
        match self.emitter.stamped_at(wave, || now) {
            Ok(mut wave) => {
                drop(self.emitter.begin_span(&mut wave, Emission::Create));
                self.waves.push_back(wave);
            }
            Err(error) => self.refused.push(error),
        }
    }

    /// Carries the waves, in order, until some have to wait. Those that were not carried stay.
    fn carry(&mut self) -> Option<Waiting> {
        while !self.waves.is_empty() {
            let before = self.waves.len();
            let carried = self.emitter.aether().medium().carry_all(&mut self.waves);
            self.emitted += (before - self.waves.len()) as u64;
            match carried {
                Ok(None) => {}
                Ok(Some(waiting)) => return Some(waiting),
                Err(error) => self.refuse(error),
            }
        }
        None
    }

    /// Takes back the number of a refused wave. The waves behind it get the numbers before theirs.
    #[cold]
    fn refuse(&mut self, error: EmitError) {
        self.emitted -= 1;
        let sequencer = self.emitter.sequencer();
        self.waves.iter_mut().rev().for_each(|wave| wave.unstamp(sequencer));
        self.refused.push(self.emitter.unnumbered(error));
        let now = Moment::now();
        self.waves.iter_mut().for_each(|wave| wave.stamp(sequencer, now));
    }

    fn finished(mut self) -> Result<u64, EmitAllError> {
        let (emitted, refused) = (self.emitted, std::mem::take(&mut self.refused));
        if refused.is_empty() { Ok(emitted) } else { Err(EmitAllError { emitted, refused }) }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        // Cancelled: a wave without room sheds the weakest of its receiver at once.
        while let Some(wave) = self.waves.pop_front() {
            drop(self.emitter.aether().medium().carry(wave));
        }
    }
}
