//! Emitting many waves at once.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::task::coop;

use super::emitter::Emitter;
use super::tracer::Emission;
use crate::clock::Moment;
use crate::medium::{BatchSettled, EmitError, Waiting};
use crate::router::{MOST_TOGETHER, Receipt, StoredRange};
use crate::wave::Wave;

/// The largest number of waves that are carried together, however many the medium asks for.
const MOST: usize = 4096;
/// A batch ends when the iterator has taken this long to fill it.
const LONGEST: Duration = Duration::from_micros(100);
/// The same for a batch that is stored, which takes longer than filling it.
const LONGEST_TO_STORE: Duration = Duration::from_millis(5);
/// The clock is read once for this many waves.
const WAVES_A_READING: usize = 8;

/// The result of [`Emitter::emit_all`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BatchReceipt {
    /// How many waves were emitted.
    pub emitted: u64,
    /// The places in the log of the waves on durable channels.
    pub stored: Option<StoredRange>,
}

/// Waves that [`Emitter::emit_all`] could not emit.
#[derive(Debug, thiserror::Error)]
#[error("{} waves were not emitted: {}", refused.len(), refused.first().map(ToString::to_string).unwrap_or_default())]
#[non_exhaustive]
pub struct EmitAllError {
    /// How many waves were emitted.
    pub emitted: u64,
    /// The places in the log of the waves on durable channels.
    pub stored: Option<StoredRange>,
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
    /// On durable channels up to 4096 waves are stored together, with one write and one sync, and reach their
    /// receivers after that. [`BatchReceipt::stored`] names the first and the last position. In process, up to 64
    /// waves of one channel are offered together: each receiver takes its lock once for them and is woken once. A
    /// batch is as large as there is room for, and an iterator that is slow to make the next wave ends it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use aether_core::{Aether, Wave};
    ///
    /// let aether = Aether::local();
    /// let counter = aether.emitter("counter")?;
    /// let waves = (0..3).map(|count| Wave::new("counted", &count)).collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(counter.emit_all(waves).await?.emitted, 3);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`EmitAllError`] hands back each wave that was not emitted, with its reason, and counts the others. On a closed
    /// medium it hands back all waves from the first refused one on, so the iterator has to be finite.
    ///
    /// # Panics
    /// As [`Emitter::emit`].
    ///
    /// # Cancel safety
    /// Cancelled while a wave waits for room, every wave that was taken from the iterator has been offered; waves that
    /// were refused by then are dropped. The rest is still in the iterator: pass `&mut iterator` to keep it. That is
    /// all behind the wave that waits, unless other emitters took the room of up to 63 waves behind it. On durable
    /// channels, the waves that were taken are stored; [`Emitter::account`] counts them.
    pub async fn emit_all(
        &self,
        waves: impl IntoIterator<Item = Wave>,
    ) -> Result<BatchReceipt, EmitAllError> {
        let mut waves = waves.into_iter();
        if self.is_limited() {
            return self.emit_in_turn(waves).await;
        }
        let mut batch = Batch::new(self);
        while batch.fill(&mut waves) {
            while let Some(waiting) = batch.carry() {
                let settled = waiting.finish_all().await;
                batch.settle(settled);
            }
            // A batch costs one unit of tokio's budget, as in `receive_many`.
            coop::consume_budget().await;
        }
        batch.finished()
    }

    /// Emits waves one after the other, each when the limit lets it go.
    async fn emit_in_turn(&self, waves: impl Iterator<Item = Wave>) -> Result<BatchReceipt, EmitAllError> {
        let (mut receipt, mut refused) = (BatchReceipt::default(), Vec::new());
        for wave in waves {
            match self.emit(wave).await {
                Ok(Receipt { stored, .. }) => {
                    receipt.emitted += 1;
                    receipt.add(stored.map(|stored| StoredRange::with(None, stored)));
                }
                Err(error) => refused.push(error),
            }
        }
        receipt.unless(refused)
    }
}

impl BatchReceipt {
    fn add(&mut self, stored: Option<StoredRange>) {
        self.stored = match (self.stored, stored) {
            (Some(before), Some(more)) => Some(before.and(more)),
            (before, more) => before.or(more),
        };
    }

    fn unless(self, refused: Vec<EmitError>) -> Result<Self, EmitAllError> {
        let Self { emitted, stored } = self;
        if refused.is_empty() { Ok(self) } else { Err(EmitAllError { emitted, stored, refused }) }
    }
}

/// Waves that have their numbers and were not carried yet.
///
/// When dropped, they are carried without waiting, since they are no longer in the iterator.
struct Batch<'a> {
    emitter: &'a Emitter,
    waves: VecDeque<Wave>,
    receipt: BatchReceipt,
    refused: Vec<EmitError>,
}

impl<'a> Batch<'a> {
    fn new(emitter: &'a Emitter) -> Self {
        let waves = VecDeque::with_capacity(MOST_TOGETHER);
        Self { emitter, waves, receipt: BatchReceipt::default(), refused: Vec::new() }
    }

    /// Takes as many waves as there is room for, at least one. Returns whether there was any.
    fn fill(&mut self, waves: &mut impl Iterator<Item = Wave>) -> bool {
        let Some(first) = waves.next() else { return false };
        let start = Moment::now();
        let room = self.emitter.aether().medium().room_for(&first).min(MOST);
        let longest = if room > MOST_TOGETHER { LONGEST_TO_STORE } else { LONGEST };
        self.number(first, start);
        let mut now = start;
        for count in 1..room {
            if count % WAVES_A_READING == 0 {
                now = Moment::now();
                if now.saturating_duration_since(start) > longest {
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
            self.receipt.emitted += (before - self.waves.len()) as u64;
            match carried {
                Ok(None) => {}
                Ok(Some(waiting)) => return Some(waiting),
                Err(error) => self.refuse([error]),
            }
        }
        None
    }

    /// Notes how waves fared that had to wait.
    fn settle(&mut self, BatchSettled { stored, refused }: BatchSettled) {
        self.receipt.add(stored);
        if !refused.is_empty() {
            self.refuse(refused.into_iter().map(EmitError::from));
        }
    }

    /// Takes back the numbers of refused waves, the last ones that were carried. The waves behind them get the
    /// numbers before theirs.
    #[cold]
    fn refuse(&mut self, errors: impl IntoIterator<Item = EmitError, IntoIter: DoubleEndedIterator>) {
        let sequencer = self.emitter.sequencer();
        self.waves.iter_mut().rev().for_each(|wave| wave.unstamp(sequencer));
        // A number is taken back only if it is the last one.
        let refused: Vec<_> = errors.into_iter().rev().map(|error| self.emitter.unnumbered(error)).collect();
        self.receipt.emitted -= refused.len() as u64;
        self.refused.extend(refused.into_iter().rev());
        let now = Moment::now();
        self.waves.iter_mut().for_each(|wave| wave.stamp(sequencer, now));
    }

    fn finished(mut self) -> Result<BatchReceipt, EmitAllError> {
        self.receipt.unless(std::mem::take(&mut self.refused))
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
