//! Dead letters that survive: waves that a consumer has given up.
//!
//! They are in a store of their own in the folder `dead` of a log, or in a second stream. A letter holds the whole
//! wave, so it stays when the log drops the wave.

mod error;
mod given_up;
mod kept;
mod letter;
#[cfg(feature = "jetstream")]
mod stream;
mod view;

pub use error::DeadError;
pub(crate) use letter::CANCELLED;
pub(crate) use letter::is_sealed_letter;
pub use letter::{Attempt, DeadWave, MAX_FAILED};
#[cfg(feature = "jetstream")]
pub use stream::StreamLetters;
#[cfg(feature = "jetstream")]
pub(crate) use stream::{Noted, Underway};
pub use view::DeadView;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use aether_core::{Durability, Emitter, Receipt, Wave, WaveId};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::dead::given_up::GivenUp;
use crate::dead::kept::{BOUNDS, Bounds, Kept, LETTER, Letters, REMOVED};
use crate::dead::letter::{read, sealed_letter, written};
use crate::sealing::Sealing;
use crate::store::{AppendError, Appended, Entry, OpenError, Store, StoreOptions};
use crate::stored_wave::{StoredWave, entry, identity, sealed};

/// The folder, below the folder of the log.
pub(crate) const FOLDER: &str = "dead";

/// The wave of a letter that was sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SentAgain {
    /// Its identity, which it has kept unless it had none, or another one had to sign it.
    pub wave: WaveId,
    /// How it was emitted.
    pub receipt: Receipt,
}

/// Emits the wave of a letter again, under its identity if there is a wave that has it.
async fn send_again(
    number: u64,
    wave: Wave,
    again: Option<Wave>,
    emitter: &Emitter,
) -> Result<SentAgain, DeadError> {
    let kept = again.as_ref().map(Wave::id);
    let sent = match again {
        Some(again) => emitter.emit_identified(again).await,
        None => emitter.emit_confirmed(wave).await,
    };
    let receipt = sent.map_err(|source| DeadError::Emit { number, source })?;
    Ok(SentAgain { wave: kept.unwrap_or_else(|| emitter.id_of(&receipt)), receipt })
}

/// Small segments, so that those whose letters are all gone can go as well.
const SEGMENT_BYTES: u64 = 1 << 20;

/// The dead letters of a log: at most 65,536, of 1 GiB in total.
#[derive(Debug)]
pub struct DeadStore {
    store: Store,
    sealing: Arc<Sealing>,
    letters: Mutex<Letters>,
    bounds: Bounds,
    given_up: GivenUp,
    /// The log whose waves were given up.
    log: OnceLock<Arc<Store>>,
}

impl DeadStore {
    /// Opens the dead letters of the log in this folder.
    pub(crate) fn open(log: &Path, sealing: Arc<Sealing>) -> Result<Self, OpenError> {
        let options = StoreOptions::default().remembered_ids(0);
        let options = options.segment_bytes(SEGMENT_BYTES).unwrap_or(options);
        let store = Store::open(&log.join(FOLDER), options, 0)?;
        let letters = Letters::read(store.cursor(0))?;
        store.drop_before(letters.first());
        // A letter that stays may keep many that are gone.
        store.rewrite(|record| record.kind != LETTER || letters.kept.contains_key(&record.position))?;
        let (letters, given_up) = (Mutex::new(letters), GivenUp::default());
        Ok(Self { store, sealing, letters, bounds: BOUNDS, given_up, log: OnceLock::new() })
    }

    /// The keys of the log.
    pub(crate) fn sealing(&self) -> &Arc<Sealing> {
        &self.sealing
    }

    /// Names the log, once it is open as well.
    pub(crate) fn belongs_to(&self, log: &Arc<Store>) {
        let _ = self.log.set(Arc::clone(log));
    }

    /// How many letters there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.letters.lock().kept.len()
    }

    /// Whether there are no letters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many letters a consumer has.
    pub(crate) fn of_consumer(&self, consumer: &str) -> u64 {
        self.letters.lock().kept.values().filter(|kept| kept.consumer == consumer).count() as u64
    }

    /// The numbers of all letters, the oldest first.
    #[must_use]
    pub fn numbers(&self) -> Vec<u64> {
        self.letters.lock().numbers()
    }

    /// Whether a consumer has given up this wave. A log that has lost its end may have given its position to another one.
    pub(crate) fn has(&self, consumer: &str, stored: &StoredWave) -> bool {
        let (position, id) = (stored.position, identity(&stored.wave));
        let is_its = |kept: &Kept| kept.consumer == consumer && kept.position == position && kept.id == id;
        self.letters.lock().kept.values().any(is_its)
    }

    /// The greatest position of a wave in a letter.
    pub(crate) fn last_position(&self) -> u64 {
        self.letters.lock().kept.values().map(|kept| kept.position).max().unwrap_or(0)
    }

    /// At most `most` letters with higher numbers than this, the oldest first. Unreadable letters are left out. Blocks
    /// while it reads.
    pub(crate) fn after(&self, number: u64, most: usize) -> Vec<DeadWave> {
        let numbers = self.numbers().into_iter().filter(|kept| *kept > number);
        // A letter that was dropped meanwhile, or is damaged, is none.
        numbers.filter_map(|number| self.show(number).ok()).take(most).collect()
    }

    /// A letter. Blocks while it reads.
    ///
    /// # Errors
    /// [`DeadError`] if there is no such letter, or it cannot be read.
    pub fn show(&self, number: u64) -> Result<DeadWave, DeadError> {
        // Not locked while it reads: consumers that give up a wave need the lock.
        self.letters.lock().find(number)?;
        read(number, self.store.cursor(number), &self.sealing)
    }

    /// Keeps a wave that is given up, synced.
    pub(crate) async fn bury(
        &self,
        consumer: &str,
        stored: &StoredWave,
        attempts: u32,
        failed: &[Attempt],
    ) -> Result<u64, AppendError> {
        let body = written(consumer, stored, None, attempts, failed);
        let body = sealed_letter(stored.wave.channel().as_str(), body, &self.sealing)?;
        let (consumer, position, id) = (consumer.to_owned(), stored.position, identity(&stored.wave));
        let level = stored.wave.signal().level();
        let name = stored.wave.channel().as_str().to_owned();
        let bytes = body.len() as u64;
        let number = self.append(Entry { kind: LETTER, level, id, name, body }).await?;
        self.letters.lock().insert(number, Kept { consumer, position, id, bytes });
        self.make_room().await;
        Ok(number)
    }

    /// Drops the oldest letters beyond the bounds.
    async fn make_room(&self) {
        loop {
            let oldest = self.letters.lock().beyond(self.bounds);
            let Some(number) = oldest else { return };
            match self.drop_letter(number).await {
                Ok(()) => {
                    let (due, kept) = {
                        let mut letters = self.letters.lock();
                        letters.overflowed += 1;
                        (letters.lines.due(given_up::PAUSE, Instant::now()), letters.kept.len())
                    };
                    if let Some(left_out) = due {
                        tracing::warn!(
                            number,
                            kept,
                            left_out,
                            "the oldest dead letter is dropped, as there are too many"
                        );
                    }
                }
                // Somebody else has dropped it.
                Err(DeadError::Unknown { .. }) => {}
                Err(error) => return tracing::warn!(number, %error, "a dead letter beyond the bound stays"),
            }
        }
    }

    pub(crate) fn overflowed(&self) -> u64 {
        self.letters.lock().overflowed
    }

    /// Keeps a wave that a consumer gives up, and counts it.
    pub(crate) async fn give_up(
        &self,
        consumer: &str,
        stored: &StoredWave,
        attempts: u32,
        failed: &[Attempt],
    ) -> Result<(), AppendError> {
        self.bury(consumer, stored, attempts, failed).await?;
        self.given_up.count(consumer, stored, attempts, failed);
        Ok(())
    }

    pub(crate) fn begin(&self, consumer: &str) {
        self.given_up.begin(consumer);
    }

    pub(crate) fn given_up(&self) -> BTreeMap<String, u64> {
        self.given_up.waves()
    }

    async fn append(&self, entry: Entry) -> Result<u64, AppendError> {
        append(&self.store, entry).await
    }

    /// Drops a letter for good.
    ///
    /// # Errors
    /// [`DeadError`]; the letter then stays, if there is one.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the letter is dropped or stays.
    pub async fn drop_letter(&self, number: u64) -> Result<(), DeadError> {
        self.letters.lock().find(number)?;
        let body = postcard::to_allocvec(&number).unwrap_or_default().into();
        self.append(Entry { kind: REMOVED, level: 0, id: 0, name: String::new(), body }).await?;
        let first = {
            let mut letters = self.letters.lock();
            letters.remove(number);
            letters.first()
        };
        // A letter that is being written has a greater number than the last one that is known.
        self.store.drop_before(first.min(self.store.extent().last));
        Ok(())
    }

    /// Emits the wave of a letter again, and drops the letter once the broker has confirmed it. The wave keeps its
    /// [identity](Wave::again), so receivers that remember identities do nothing twice; a wave without identity gets
    /// one. A wave of the log is first stored in it again, so its consumers get it again.
    ///
    /// # Errors
    /// [`DeadError`]. If the wave was emitted and the letter could not be dropped, it stays.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the wave may have been emitted, and the letter stays.
    pub async fn replay(&self, number: u64, emitter: &Emitter) -> Result<SentAgain, DeadError> {
        let _only = self.replaying(number)?;
        let DeadWave { stored, attempts, .. } = self.show(number)?;
        let again = stored.wave.again(attempts);
        let sent = send_again(number, stored.wave.clone(), again, emitter).await?;
        // The emitter may be one of a bus that does not know the channel as durable.
        if sent.receipt.stored.is_none() && stored.position > 0 {
            self.append_again(number, &stored.wave, attempts).await?;
        }
        self.drop_letter(number).await?;
        Ok(sent)
    }

    /// Stores the wave of a letter again, at the end of the log, synced, so that its consumers get it again, and drops
    /// the letter. For callers without a bus: nobody else hears the wave. Returns the position.
    ///
    /// # Errors
    /// [`DeadError`], also for a letter whose wave does not belong to a log. If the wave was stored and the letter
    /// could not be dropped, it stays.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the wave may have been stored, and the letter stays.
    pub async fn store_again(&self, number: u64) -> Result<u64, DeadError> {
        let _only = self.replaying(number)?;
        let DeadWave { stored, attempts, .. } = self.show(number)?;
        if stored.position == 0 {
            return Err(DeadError::OfNoLog { number });
        }
        let position = self.append_again(number, &stored.wave, attempts).await?;
        self.drop_letter(number).await?;
        Ok(position)
    }

    /// Appends a wave to the log once more.
    async fn append_again(&self, number: u64, wave: &Wave, attempts: u32) -> Result<u64, DeadError> {
        let log = self.log.get().ok_or(DeadError::OfNoLog { number })?;
        let again = wave.again(attempts).unwrap_or_else(|| wave.clone());
        // A wave that came out of a log fits into a frame.
        let entry = entry(&again).map_err(|_| DeadError::Unknown { number })?;
        let mut entry = sealed(entry, &self.sealing).map_err(AppendError::from)?;
        if again.attempts() == wave.attempts() {
            // It cannot be told from its first copy.
            entry.id = 0;
        }
        Ok(append(log, entry).await?)
    }

    /// Makes this the only replay of a letter, until it is dropped: two would send a command twice.
    fn replaying(&self, number: u64) -> Result<Replaying<'_>, DeadError> {
        let mut letters = self.letters.lock();
        letters.find(number)?;
        if !letters.replaying.insert(number) {
            return Err(DeadError::Unknown { number });
        }
        Ok(Replaying { store: self, number })
    }
}

struct Replaying<'a> {
    store: &'a DeadStore,
    number: u64,
}

impl Drop for Replaying<'_> {
    fn drop(&mut self) {
        self.store.letters.lock().replaying.remove(&self.number);
    }
}

/// Appends a record, synced.
async fn append(store: &Store, entry: Entry) -> Result<u64, AppendError> {
    let (answer, done) = oneshot::channel();
    let answering =
        Box::new(move |result: Result<Appended, _>| drop(answer.send(result.map(|letter| letter.position))));
    store.append(entry, Durability::Synced, answering)?;
    done.await.unwrap_or(Err(AppendError::Closed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn beyond_the_bounds_the_oldest_letters_go_and_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut letters = DeadStore::open(folder.path(), Arc::default()).unwrap();
        letters.bounds = Bounds { letters: 3, bytes: 3000 };
        let wave = |bytes| Wave::builder("a").bytes(vec![7; bytes]).build().unwrap();
        let mut numbers = Vec::new();
        for _ in 0..5 {
            numbers.push(letters.keep("saga", &wave(10), &[]).await.unwrap());
        }
        assert_eq!((letters.numbers(), letters.overflowed()), (numbers[2..].to_vec(), 2));
        let large = letters.keep("saga", &wave(2500), &[]).await.unwrap();
        let last = letters.keep("saga", &wave(2500), &[]).await.unwrap();
        assert_eq!((letters.numbers(), letters.overflowed()), (vec![last], 6));
        // One that is sent again at this moment stays.
        let sent = letters.replaying(last).unwrap();
        letters.keep("saga", &wave(2500), &[]).await.unwrap();
        assert_eq!((letters.numbers(), letters.overflowed()), (vec![last], 7));
        assert!(large < last);
        drop(sent);
        drop(letters);
        let again = DeadStore::open(folder.path(), Arc::default()).unwrap();
        assert_eq!((again.numbers(), again.overflowed()), (vec![last], 0));
        drop(again);
    }
}
