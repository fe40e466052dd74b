//! Projections: state that is made of the waves of a log, for reading. Also called read models.
//!
//! The waves are applied in the order of the log, and the position is stored with the state in one transaction. So the state
//! is a snapshot at that position: after a restart it goes on with the next wave, and no wave is applied twice or left out.
//! Replay and live waves come from the same log, so there is no seam between them.

mod error;
mod place;

pub use error::ProjectionError;

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use aether_core::Pattern;
use aether_core::wave::ChannelError;
use aether_log::{Log, LogItem, LogReader, StoredWave, Unopened};

use crate::area::is_name;
use crate::backend::{Backend, Redb};
use crate::error::{StoreError, panic_message};
use crate::store::Store;
use crate::transaction::Transaction;
use place::Place;

/// How many waves are applied in one transaction.
const BATCH: usize = 256;
/// And how many bytes, so that the memory for them is bounded.
const BATCH_BYTES: usize = 8 << 20;
/// How many positions without a wave of the pattern are looked at again after a restart, at most.
const UNSAVED: u64 = 65_536;

type Refusal = Box<dyn Error + Send + Sync>;
type Apply<B> = Arc<dyn Fn(&Transaction<'_, B>, &StoredWave) -> Result<(), Refusal> + Send + Sync>;

/// State that is made of the waves of a log.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aether_core::{Aether, Durability, Wave};
/// use aether_log::Log;
/// use aether_outbox::{Projection, Store};
///
/// # let folder = tempfile::tempdir()?; let folder = folder.path();
/// let log = Log::builder(folder.join("log")).channels("orders.>", Durability::Synced)?.open()?;
/// let aether = log.connect(aether_core::AetherBuilder::new().url("local:")).await?;
/// let shop = aether.emitter("shop")?;
/// shop.emit(Wave::builder("orders.created").text("a lamp")).await?;
///
/// let store = Store::builder("reports").open(folder.join("reports.redb"))?;
/// let mut sold = Projection::open(&store, &log, "sold", "orders.*", |change, stored| {
///     let table = change.table("sold");
///     let article = stored.wave.text()?;
///     table.insert(article, &(table.get(article)?.unwrap_or(0_u64) + 1))?;
///     Ok(())
/// })?;
/// assert_eq!(sold.catch_up().await?, 1);
/// assert_eq!(store.begin()?.table::<u64>("sold").get("a lamp")?, Some(1));
/// # Ok(()) }
/// ```
pub struct Projection<B: Backend = Redb> {
    name: String,
    pattern: Pattern,
    store: Store<B>,
    log: Log,
    apply: Apply<B>,
    place: Place,
    /// The place as the store has it.
    saved: Option<Place>,
    /// `None` after it was lost in a task that did not end.
    reader: Option<LogReader>,
    damaged: u64,
}

impl<B: Backend> Projection<B> {
    /// Opens a projection of the waves of a pattern, which begins at the first wave of the log. `apply` changes tables
    /// of the store for one wave; it must do nothing else, because a transaction may be made again.
    ///
    /// # Errors
    /// [`ProjectionError`]: the name or the pattern is not valid, the name belongs to a projection of another pattern or
    /// another log, or the store or the log cannot be read.
    pub fn open<P>(
        store: &Store<B>,
        log: &Log,
        name: &str,
        pattern: P,
        apply: impl Fn(&Transaction<'_, B>, &StoredWave) -> Result<(), Box<dyn Error + Send + Sync>>
        + Send
        + Sync
        + 'static,
    ) -> Result<Self, ProjectionError>
    where
        P: TryInto<Pattern>,
        ChannelError: From<P::Error>,
    {
        if !is_name(name) {
            return Err(ProjectionError::Name { name: name.to_owned() });
        }
        let pattern: Pattern = pattern.try_into().map_err(ChannelError::from)?;
        let stored = Place::read(store.begin()?.rows(), name)?;
        let saved = stored.clone();
        let place = stored.unwrap_or_else(|| Place::at_the_beginning(pattern.as_str()));
        if place.pattern != pattern.as_str() {
            let (name, stored) = (name.to_owned(), place.pattern);
            return Err(ProjectionError::OtherPattern { name, stored, given: pattern });
        }
        place.check(name, log)?;
        let (store, log, name) = (store.clone(), log.clone(), name.to_owned());
        Ok(Self { name, pattern, store, log, apply: Arc::new(apply), place, saved, reader: None, damaged: 0 })
    }

    /// The position up to which all waves are applied.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.place.position
    }

    /// How many parts of the log could not be read since the projection was opened. Their waves are missing in the state.
    #[must_use]
    pub const fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Applies all waves that are in the log now. Returns how many.
    ///
    /// # Errors
    /// [`ProjectionError`]. The waves before the one that failed are applied, and calling it again goes on with that one.
    ///
    /// # Cancel safety
    /// Cancelled before completion, all waves up to a position are applied.
    pub async fn catch_up(&mut self) -> Result<u64, ProjectionError> {
        let end = self.log.extent().last;
        let mut applied = 0;
        while self.place.position < end {
            applied += self.step().await?;
        }
        Ok(applied)
    }

    /// Applies all waves of the log, and those that come, without end.
    ///
    /// # Errors
    /// As [`Projection::catch_up`].
    ///
    /// # Cancel safety
    /// As [`Projection::catch_up`].
    pub async fn run(&mut self) -> Result<Infallible, ProjectionError> {
        let mut last = self.log.last_position();
        loop {
            let newest = *last.borrow_and_update();
            while self.place.position < newest {
                self.step().await?;
            }
            // The log lives as long as this projection.
            let _ = last.changed().await;
        }
    }

    /// Forgets the state, and begins again at the first wave of the log: `clear` removes what the projection has made.
    ///
    /// # Errors
    /// [`ProjectionError::Store`]; then nothing has changed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the state is forgotten or not.
    pub async fn rebuild(
        &mut self,
        clear: impl FnOnce(&Transaction<'_, B>) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), ProjectionError> {
        let (name, place) = (self.name.clone(), Place::at_the_beginning(self.pattern.as_str()));
        let begun = place.clone();
        let cleared = self.store.write(move |change| {
            clear(change)?;
            begun.write(change.rows(), &name)
        });
        cleared.await?;
        (self.saved, self.place, self.reader) = (Some(place.clone()), place, None);
        Ok(())
    }

    /// Forgets the state of a projection that cannot be opened, as [`Projection::rebuild`]. Blocks.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing has changed.
    pub fn forget(
        store: &Store<B>,
        name: &str,
        clear: impl FnOnce(&Transaction<'_, B>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        use crate::backend::Rows as _;
        let change = store.begin()?;
        clear(&change)?;
        change.rows().remove(crate::area::PROJECTIONS, name.as_bytes())?;
        change.commit()
    }

    /// Reads and applies one batch, in a thread that may block.
    async fn step(&mut self) -> Result<u64, ProjectionError> {
        self.place.check_next(&self.name, &self.log)?;
        let open = || self.log.read_from(self.place.position + 1).only(&self.pattern);
        let reader = self.reader.take().unwrap_or_else(open);
        let batch = Batch {
            name: self.name.clone(),
            store: self.store.clone(),
            log: self.log.clone(),
            apply: Arc::clone(&self.apply),
            place: self.place.clone(),
            saved: self.saved.clone(),
            reader,
            damaged: 0,
        };
        let done = aether_files::disk::spawn_blocking(move || batch.run()).await;
        let done = done.map_err(|_| StoreError::ShutDown)?;
        (self.place, self.saved, self.reader) = (done.place, done.saved, done.reader);
        self.damaged += done.damaged;
        done.applied
    }
}

impl<B: Backend> fmt::Debug for Projection<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Projection");
        debug.field("name", &self.name).field("pattern", &self.pattern).field("place", &self.place);
        debug.finish_non_exhaustive()
    }
}

/// Reads waves, and applies them in one transaction.
struct Batch<B: Backend> {
    name: String,
    store: Store<B>,
    log: Log,
    apply: Apply<B>,
    place: Place,
    saved: Option<Place>,
    reader: LogReader,
    damaged: u64,
}

struct Done {
    place: Place,
    saved: Option<Place>,
    /// `None` if what was read is to be read again.
    reader: Option<LogReader>,
    damaged: u64,
    applied: Result<u64, ProjectionError>,
}

impl<B: Backend> Batch<B> {
    fn run(mut self) -> Done {
        let applied = self.read_and_apply();
        let reader = applied.as_ref().is_ok_and(Option::is_some).then_some(self.reader);
        let applied = applied.map(Option::unwrap_or_default);
        Done { place: self.place, saved: self.saved, reader, damaged: self.damaged, applied }
    }

    /// Returns how many waves were applied; `None` if the projection is at another position by now.
    fn read_and_apply(&mut self) -> Result<Option<u64>, ProjectionError> {
        let (waves, position, locked) = self.read()?;
        match self.apply(&waves, position) {
            Ok(is_applied) => match locked {
                Some(position) => Err(ProjectionError::Locked { name: self.name.clone(), position }),
                None => Ok(is_applied.then_some(waves.len() as u64)),
            },
            Err((failed, error)) => {
                // The waves before the one that failed are kept.
                if let Some(before) = failed.checked_sub(1) {
                    self.apply(&waves[..failed], waves[before].position).map_err(|(_, error)| error)?;
                }
                Err(error)
            }
        }
    }

    /// The next waves, the position up to which they are all, and the one of a wave behind them whose key is missing.
    fn read(&mut self) -> Result<(Vec<StoredWave>, u64, Option<u64>), ProjectionError> {
        // The present contents of the log are read below, so everything up to here is looked at.
        let end = self.log.extent().last;
        let (mut waves, mut bytes) = (Vec::new(), 0);
        let mut position = self.place.position;
        while waves.len() < BATCH && bytes < BATCH_BYTES {
            match self.reader.next_item()? {
                None => return Ok((waves, position.max(end), None)),
                Some(LogItem::Wave(stored)) => {
                    position = stored.position;
                    bytes += stored.wave.weight();
                    waves.push(*stored);
                }
                Some(LogItem::Unopened { position: locked, reason: Unopened::Locked, .. }) => {
                    return Ok((waves, position, Some(locked)));
                }
                Some(LogItem::Damaged(damage)) => {
                    tracing::error!(%damage, projection = self.name, "a part of the log is damaged and not applied");
                    self.damaged += 1;
                }
                Some(item) => {
                    tracing::error!(
                        ?item,
                        projection = self.name,
                        "a record cannot be read as a wave and is not applied"
                    );
                    self.damaged += 1;
                }
            }
        }
        Ok((waves, position, None))
    }

    /// Applies waves in one transaction, unless the projection is at another position by now: a call that was cancelled
    /// goes on here, and another handle may have the same name. Returns the index of the wave that failed.
    fn apply(&mut self, waves: &[StoredWave], position: u64) -> Result<bool, (usize, ProjectionError)> {
        let place = self.place.at(position, waves.last());
        // Waves of other channels alone are not worth a sync.
        if waves.is_empty() && position < self.place.position + UNSAVED {
            self.place.position = position;
            return Ok(true);
        }
        let change = self.store.begin().map_err(|error| (0, error.into()))?;
        let saved = Place::read(change.rows(), &self.name).map_err(|error| (0, error.into()))?;
        if saved != self.saved {
            self.place = saved.clone().unwrap_or_else(|| Place::at_the_beginning(&place.pattern));
            self.saved = saved;
            return Ok(false);
        }
        for (index, stored) in waves.iter().enumerate() {
            let (name, position) = (self.name.clone(), stored.position);
            let error = match catch_unwind(AssertUnwindSafe(|| (self.apply)(&change, stored))) {
                Ok(Ok(())) => continue,
                Ok(Err(source)) => match source.downcast::<StoreError>() {
                    Ok(error) => ProjectionError::Store(*error),
                    Err(source) => ProjectionError::Refused { name, position, source },
                },
                Err(panic) => {
                    ProjectionError::Panicked { name, position, message: panic_message(panic.as_ref()) }
                }
            };
            return Err((index, error));
        }
        let written = place.write(change.rows(), &self.name).and_then(|()| change.commit());
        written.map_err(|error| (0, error.into()))?;
        (self.saved, self.place) = (Some(place.clone()), place);
        Ok(true)
    }
}
