//! Dead letters that survive: waves that a consumer has given up.
//!
//! A store of its own in the folder `dead` of a log, or a stream beside that of the log. A letter holds the whole wave, so it
//! stays when the log drops the wave.

mod given_up;
#[cfg(feature = "jetstream")]
mod stream;

#[cfg(feature = "jetstream")]
pub use stream::StreamLetters;
#[cfg(feature = "jetstream")]
pub(crate) use stream::{Noted, Underway};

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use aether_core::{Channel, Durability, Wave};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

#[cfg(feature = "jetstream")]
use crate::jetstream::JetStreamError;
use given_up::GivenUp;

use crate::store::{
    AppendError, Cursor, Entry, Item, OpenError, ReadError, Record, Store, StoreOptions, View,
};
use crate::stored_wave::{StoredWave, entry, frame, identity, read_frame};

const LETTER: u8 = 16;
const REMOVED: u8 = 17;

/// The folder, below that of the log.
pub(crate) const FOLDER: &str = "dead";

/// A failed attempt at handling a wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Attempt {
    /// When it failed, in microseconds since 1970.
    pub micros: u64,
    /// What the handler said.
    pub error: String,
}

/// What a letter is about. The wave follows in the record.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct About {
    consumer: String,
    position: u64,
    stored_micros: u64,
    attempts: u32,
    failed: Vec<Attempt>,
}

/// A wave that a consumer has given up.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeadWave {
    /// The number of the letter, which never changes.
    pub number: u64,
    /// The consumer that gave it up.
    pub consumer: String,
    /// The wave, and its position in the log.
    pub stored: StoredWave,
    /// When it was given up.
    pub at: SystemTime,
    /// The number of attempts by anybody: those before a replay included.
    pub attempts: u32,
    /// The attempts that failed, the last one included: at most [`MAX_FAILED`], the first and the latest ones.
    pub failed: Vec<Attempt>,
}

/// The maximum number of failed attempts that a letter lists.
pub const MAX_FAILED: usize = 16;

/// Why a dead letter was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeadError {
    /// There is no such letter, or another caller of this process replays it.
    #[error("there is no dead letter {number}: it was replayed or dropped, or is being replayed")]
    Unknown {
        /// The number.
        number: u64,
    },
    /// Its wave was never in a log.
    #[error("the wave of dead letter {number} was in no log: emit it again on its bus")]
    OfNoLog {
        /// The number.
        number: u64,
    },
    /// The letter cannot be read.
    #[error("the dead letters cannot be read")]
    Read(#[from] ReadError),
    /// The change was not written.
    #[error("the dead letters cannot be written")]
    Write(#[from] AppendError),
    /// The server did not answer or refused.
    #[cfg(feature = "jetstream")]
    #[error("the dead letters cannot be reached")]
    Server(#[from] JetStreamError),
    /// The wave was not emitted. The letter stays.
    #[error("dead letter {number} was not sent again and stays")]
    Emit {
        /// The number.
        number: u64,
        /// Why.
        source: aether_core::ConfirmError,
    },
}

/// Small segments, so that those whose letters are all gone can go as well.
const SEGMENT_BYTES: u64 = 1 << 20;

/// The dead letters of a log.
#[derive(Debug)]
pub struct DeadStore {
    store: Store,
    letters: Mutex<Letters>,
    given_up: GivenUp,
    /// The log whose waves were given up.
    log: OnceLock<Arc<Store>>,
}

#[derive(Debug, Default)]
struct Letters {
    /// The letters by number, with the consumer, the position and the identity of their waves.
    kept: BTreeMap<u64, (String, u64, u128)>,
    /// Those that are sent again at this moment. As many as callers wait.
    replaying: BTreeSet<u64>,
}

impl Letters {
    fn read(mut cursor: Cursor) -> Result<Self, ReadError> {
        let mut letters = Self::default();
        letters.read_on(&mut cursor)?;
        Ok(letters)
    }

    /// Reads what a cursor has before it.
    fn read_on(&mut self, cursor: &mut Cursor) -> Result<(), ReadError> {
        while let Some(item) = cursor.next_item()? {
            match item {
                Item::Record(record) if record.kind == LETTER => {
                    if let Some(about) = about(&record) {
                        let id = if record.id == 0 { decoded_identity(&record) } else { record.id };
                        self.kept.insert(record.position, (about.consumer, about.position, id));
                    }
                }
                Item::Record(record) => {
                    if let Ok(number) = postcard::from_bytes::<u64>(&record.body) {
                        self.kept.remove(&number);
                    }
                }
                Item::Damaged(damage) => tracing::error!(%damage, "a dead letter is damaged"),
            }
        }
        Ok(())
    }

    fn numbers(&self) -> Vec<u64> {
        self.kept.keys().copied().collect()
    }

    /// What is before this is not needed.
    fn first(&self) -> u64 {
        self.kept.first_key_value().map_or(u64::MAX, |(number, _)| *number)
    }

    /// An error unless a letter is kept.
    fn find(&self, number: u64) -> Result<(), DeadError> {
        if self.kept.contains_key(&number) { Ok(()) } else { Err(DeadError::Unknown { number }) }
    }
}

/// Reads the letter at which a cursor is.
fn read(number: u64, mut at: Cursor) -> Result<DeadWave, DeadError> {
    let unknown = || DeadError::Unknown { number };
    match at.next_item()? {
        Some(Item::Record(record)) if record.position == number => letter(&record).ok_or_else(unknown),
        _ => Err(unknown()),
    }
}

/// The dead letters of a log that another process may have open, for reading only, as they were when it was opened or last
/// [refreshed](DeadView::refresh).
#[derive(Debug)]
pub struct DeadView {
    view: View,
    letters: Letters,
    /// Behind what was read.
    cursor: Cursor,
}

impl DeadView {
    /// Opens the dead letters of the log in this folder. Changes nothing.
    ///
    /// # Errors
    /// [`OpenError`]: there is no log, or it cannot be read.
    pub fn open(log: &Path) -> Result<Self, OpenError> {
        let view = View::open(&log.join(FOLDER))?;
        let (mut letters, mut cursor) = (Letters::default(), view.cursor(0));
        letters.read_on(&mut cursor)?;
        Ok(Self { view, letters, cursor })
    }

    /// Reads what was written since.
    ///
    /// # Errors
    /// [`OpenError`]: the folder cannot be read any more.
    pub fn refresh(&mut self) -> Result<(), OpenError> {
        self.view.refresh()?;
        Ok(self.letters.read_on(&mut self.cursor)?)
    }

    /// The numbers of all letters, the oldest first.
    #[must_use]
    pub fn numbers(&self) -> Vec<u64> {
        self.letters.numbers()
    }

    /// How many letters each consumer has.
    #[must_use]
    pub fn by_consumer(&self) -> BTreeMap<&str, u64> {
        let mut letters = BTreeMap::new();
        for (consumer, ..) in self.letters.kept.values() {
            *letters.entry(consumer.as_str()).or_default() += 1;
        }
        letters
    }

    /// A letter. Blocks while it reads.
    ///
    /// # Errors
    /// [`DeadError`] if there is no such letter, or it cannot be read.
    pub fn show(&self, number: u64) -> Result<DeadWave, DeadError> {
        self.letters.find(number)?;
        read(number, self.view.cursor(number))
    }
}

impl DeadStore {
    /// Opens the dead letters of the log in this folder.
    pub(crate) fn open(log: &Path) -> Result<Self, OpenError> {
        let options = StoreOptions::default().remembered_ids(0);
        let options = options.segment_bytes(SEGMENT_BYTES).unwrap_or(options);
        let store = Store::open(&log.join(FOLDER), options, 0)?;
        let letters = Letters::read(store.cursor(0))?;
        store.drop_before(letters.first());
        // A letter that stays may keep many that are gone.
        store.rewrite(|record| record.kind != LETTER || letters.kept.contains_key(&record.position))?;
        let (letters, given_up) = (Mutex::new(letters), GivenUp::default());
        Ok(Self { store, letters, given_up, log: OnceLock::new() })
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

    /// The numbers of all letters, the oldest first.
    #[must_use]
    pub fn numbers(&self) -> Vec<u64> {
        self.letters.lock().numbers()
    }

    /// Whether a consumer has given up this wave. A log that has lost its end may have given its position to another one.
    pub(crate) fn has(&self, consumer: &str, stored: &StoredWave) -> bool {
        let (position, id) = (stored.position, identity(&stored.wave));
        let is_its = |(by, at, of): &(String, u64, u128)| by == consumer && *at == position && *of == id;
        self.letters.lock().kept.values().any(is_its)
    }

    /// The greatest position of a wave in a letter.
    pub(crate) fn last_position(&self) -> u64 {
        self.letters.lock().kept.values().map(|(_, position, _)| *position).max().unwrap_or(0)
    }

    /// A letter. Blocks while it reads.
    ///
    /// # Errors
    /// [`DeadError`] if there is no such letter, or it cannot be read.
    pub fn show(&self, number: u64) -> Result<DeadWave, DeadError> {
        // Not locked while it reads: consumers that give up a wave need the lock.
        self.letters.lock().find(number)?;
        read(number, self.store.cursor(number))
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
        let (consumer, position, id) = (consumer.to_owned(), stored.position, identity(&stored.wave));
        let level = stored.wave.signal().level();
        let name = stored.wave.channel().as_str().to_owned();
        let number = self.append(Entry { kind: LETTER, level, id, name, body }).await?;
        self.letters.lock().kept.insert(number, (consumer, position, id));
        Ok(number)
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
            letters.kept.remove(&number);
            letters.first()
        };
        // A letter that is being written has a greater number than the last one that is known.
        self.store.drop_before(first.min(self.store.extent().last));
        Ok(())
    }

    /// Emits the wave of a letter again, and drops the letter once the broker has confirmed it. The wave keeps its
    /// [identity](Wave::again), so receivers that remember identities do nothing twice; one that has none gets one. A wave of the
    /// log is stored in it again before that, so its consumers get it anew.
    ///
    /// # Errors
    /// [`DeadError`]. If the wave was emitted and the letter could not be dropped, it stays.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the wave may have been emitted, and the letter stays.
    pub async fn replay(
        &self,
        number: u64,
        emitter: &aether_core::Emitter,
    ) -> Result<aether_core::Receipt, DeadError> {
        let _only = self.replaying(number)?;
        let DeadWave { stored, attempts, .. } = self.show(number)?;
        let sent = match stored.wave.again(attempts) {
            Some(again) => emitter.emit_identified(again).await,
            None => emitter.emit_confirmed(stored.wave.clone()).await,
        };
        let receipt = sent.map_err(|source| DeadError::Emit { number, source })?;
        // The emitter may be one of a bus that does not know the channel as durable.
        if receipt.stored.is_none() && stored.position > 0 {
            self.append_again(number, &stored.wave, attempts).await?;
        }
        self.drop_letter(number).await?;
        Ok(receipt)
    }

    /// Stores the wave of a letter again, at the end of the log, synced, so that its consumers get it anew, and drops the
    /// letter. For callers that have no bus: nobody else hears the wave. Returns the position.
    ///
    /// # Errors
    /// [`DeadError`]: also for a letter whose wave is of no log. If the wave was stored and the letter could not be dropped, it
    /// stays.
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
        let mut entry = entry(&again).map_err(|_| DeadError::Unknown { number })?;
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
    let answering = Box::new(move |result| drop(answer.send(result)));
    store.append(entry, Durability::Synced, answering)?;
    done.await.unwrap_or(Err(AppendError::Closed))
}

/// The content of a letter. Those attempts are its consumer's; there may have been others before a replay.
fn written(
    consumer: &str,
    stored: &StoredWave,
    channel: Option<&Channel>,
    attempts: u32,
    failed: &[Attempt],
) -> Bytes {
    let since = stored.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let stored_micros = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
    let (consumer, position) = (consumer.to_owned(), stored.position);
    let attempts = attempts.saturating_add(stored.wave.attempts() - 1);
    let about = About { consumer, position, stored_micros, attempts, failed: failed.to_vec() };
    // Writing to memory does not fail; a wave that came out of a log fits into a frame.
    let mut body = postcard::to_allocvec(&about).unwrap_or_default();
    let now = tokio::time::Instant::now().into_std();
    body.extend_from_slice(&frame(&stored.wave, channel, now).unwrap_or_default());
    body.into()
}

fn about(record: &Record) -> Option<About> {
    postcard::take_from_bytes::<About>(&record.body).ok().map(|(about, _)| about)
}

/// The identity of the wave of a letter that was written before letters had it beside the wave.
fn decoded_identity(record: &Record) -> u128 {
    letter(record).map_or(0, |letter| identity(&letter.stored.wave))
}

fn letter(record: &Record) -> Option<DeadWave> {
    read_letter(record.position, record.micros, Some(&record.name), &record.body)
}

fn read_letter(number: u64, micros: u64, name: Option<&[u8]>, body: &Bytes) -> Option<DeadWave> {
    let (about, rest) = postcard::take_from_bytes::<About>(body).ok()?;
    let frame = body.slice(body.len() - rest.len()..);
    let mut stored = read_frame(about.position, micros, name, &frame).ok()?;
    stored.at = SystemTime::UNIX_EPOCH + Duration::from_micros(about.stored_micros);
    let at = SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
    let About { consumer, attempts, failed, .. } = about;
    Some(DeadWave { number, consumer, stored, at, attempts, failed })
}
