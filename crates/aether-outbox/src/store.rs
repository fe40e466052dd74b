//! A store: a service's own tables, the waves that wait to be relayed, and the memory of waves that were handled.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use aether_core::{Source, Wave};

use crate::area::{self, ABOUT, REFUSED, WAVES, key};
#[cfg(feature = "sqlite")]
use crate::backend::Sqlite;
use crate::backend::{Backend, Redb, Rows};
use crate::error::{OpenError, StoreError, VERSION};
use crate::held::{DROPPED, Guarded, LAST, count, read_ledger};
use crate::ledger::OutboxLedger;
use crate::memory::Horizon;
use crate::once::OnceKey;
use crate::shared::{Limits, Shared};
use crate::stored_wave;
use crate::transaction::Transaction;

const VERSION_KEY: &[u8] = b"version";
const SOURCE: &[u8] = b"source";

/// How a store is opened. Made by [`Store::builder`].
#[derive(Debug, Clone)]
#[must_use = "nothing is opened before open()"]
pub struct StoreBuilder {
    pub(crate) name: String,
    pub(crate) limits: Limits,
    pub(crate) is_restored: bool,
}

impl StoreBuilder {
    /// How many waves [`Transaction::once`] remembers, and how many keys, and how long. Default: 262,144 of each, and
    /// 7 days; a wave is forgotten when either is exceeded. Cost: about 150 bytes of the file for each wave.
    ///
    /// A copy of a wave that comes after it was forgotten is handled **again**. So remember more waves than can be on
    /// the way at once, and longer than the longest pause between two deliveries: with consumers of a log that is
    /// [`max_in_flight`](aether_log::ConsumerOptions::max_in_flight) waves, and the time that the service may stand
    /// still. The age is measured by the clock of the day; a clock that is set forward forgets sooner.
    pub fn remember(mut self, waves: u64, age: Duration) -> Self {
        self.limits.once = Horizon { ids: waves.max(1), age };
        self
    }

    /// How many waves may wait to be relayed. Beyond that [`Transaction::emit`] is refused, so that a bus that is away
    /// does not fill the disk. Default: 1,000,000.
    pub fn max_waiting(mut self, waves: u64) -> Self {
        self.limits.max_waiting = waves;
        self
    }

    /// Declares that the file was restored from a backup. New waves then get another source. Without that they would
    /// have the identities of the waves that were emitted after the backup was made, and would be taken for their
    /// copies.
    pub fn restored_from_backup(mut self) -> Self {
        self.is_restored = true;
        self
    }

    /// Opens a store in a redb file, or makes one. Blocks while it reads the file: each page is checked.
    ///
    /// # Errors
    /// [`OpenError`]: another process has it open, a newer program wrote it, it belongs to a service of another name, or it
    /// cannot be read or written.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Store<Redb>, OpenError> {
        self.open_with(Redb::open(path.as_ref())?)
    }

    /// Opens a store in a SQLite file, or makes one. It may be the file of the service's own tables: the store adds the
    /// table `aether_rows`. Blocks.
    ///
    /// # Errors
    /// As [`StoreBuilder::open`].
    #[cfg(feature = "sqlite")]
    pub fn open_sqlite(self, path: impl AsRef<Path>) -> Result<Store<Sqlite>, OpenError> {
        self.open_with(Sqlite::open(path.as_ref())?)
    }

    /// Opens a store in a database of another kind, or makes one. Blocks.
    ///
    /// # Errors
    /// [`OpenError`]: a newer program wrote it, it belongs to a service of another name, or it cannot be read or written.
    pub fn open_with<B: Backend>(self, backend: B) -> Result<Store<B>, OpenError> {
        let rows = backend.begin()?;
        let (source, ledger) = self.read_about(&rows, backend.path())?;
        rows.commit()?;
        let guarded = Guarded::new(backend, ledger);
        let shared = Shared { guarded, source, limits: self.limits, has_relay: AtomicBool::new(false) };
        Ok(Store { shared: Arc::new(shared) })
    }

    /// Reads what the file is, or writes it into a new one.
    fn read_about(&self, rows: &impl Rows, path: &Path) -> Result<(Source, OutboxLedger), OpenError> {
        let damaged = |key: &[u8]| StoreError::Damaged {
            path: path.to_owned(),
            area: ABOUT.to_owned(),
            key: String::from_utf8_lossy(key).into_owned(),
        };
        let fresh = Source::new(&self.name)?;
        let version = rows.get(ABOUT, VERSION_KEY)?.map(|row| row.first().copied().unwrap_or_default());
        if let Some(version) = version.filter(|version| *version != VERSION) {
            return Err(OpenError::Version { path: path.to_owned(), version });
        }
        let stored = rows.get(ABOUT, SOURCE)?;
        let stored = stored.map(|row| {
            let instance = area::number(&row).ok_or_else(|| damaged(SOURCE))?;
            let name = std::str::from_utf8(&row[8..]).map_err(|_| damaged(SOURCE))?;
            Source::with_instance(name, instance).map_err(OpenError::Name)
        });
        let stored = stored.transpose()?;
        if let Some(stored) = stored.as_ref().filter(|stored| stored.name() != self.name) {
            let (stored, given) = (stored.name().to_owned(), self.name.clone());
            return Err(OpenError::OtherName { path: path.to_owned(), stored, given });
        }
        let source = stored.filter(|_| !self.is_restored).unwrap_or(fresh);
        rows.put(ABOUT, VERSION_KEY, &[VERSION])?;
        rows.put(ABOUT, SOURCE, &[&key(source.instance()), source.name().as_bytes()].concat())?;
        let ledger = read_ledger(rows)?;
        if ledger.adds_up() { Ok((source, ledger)) } else { Err(damaged(LAST).into()) }
    }
}

/// The file of a service: its own tables, its outbox, and the memory of waves that it has handled. Cloning it bumps a
/// reference count.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aether_core::{Aether, Vibrator, Wave};
/// use aether_outbox::{Relay, Store};
///
/// # let folder = tempfile::tempdir()?; let path = folder.path().join("shop.redb");
/// let aether = Aether::local();
/// let mut billing = Vibrator::create("billing", &aether).await?;
/// billing.resonate_on("orders.>").await?;
///
/// let store = Store::builder("shop").open(path)?;
/// let relay = Relay::spawn(&store, &aether)?;
/// let change = store.begin()?;
/// change.table("orders").insert("17", &"a lamp")?;
/// let id = change.emit(Wave::builder("orders.created").key("17").text("a lamp"))?;
/// change.commit()?; // the order and the wave, or neither
///
/// assert_eq!(billing.receive().await.expect("the medium is open").id(), id);
/// println!("{}", relay.close(std::time::Duration::from_secs(5)).await);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Store<B: Backend = Redb> {
    shared: Arc<Shared<B>>,
}

/// A wave that no bus takes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RefusedWave {
    /// Its number in the outbox, which is its sequence number.
    pub number: u64,
    /// The wave, if it can be read.
    pub wave: Option<Wave>,
    /// Why it was refused.
    pub reason: String,
}

impl<B: Backend> Clone for Store<B> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl Store<Redb> {
    /// How the store of a service is opened. The name becomes the source of its waves.
    pub fn builder(name: &str) -> StoreBuilder {
        let once = Horizon { ids: 262_144, age: Duration::from_secs(7 * 24 * 60 * 60) };
        let limits = Limits { once, max_waiting: 1_000_000 };
        StoreBuilder { name: name.to_owned(), limits, is_restored: false }
    }
}

impl<B: Backend> Store<B> {
    /// Begins a transaction. Waits while another one is open, and blocks on the disk: in async code call
    /// [`Store::write`], or make sure that nothing is awaited before the commit.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read or written.
    pub fn begin(&self) -> Result<Transaction<'_, B>, StoreError> {
        Ok(Transaction::new(&self.shared, self.shared.guarded.hold()?))
    }

    /// Makes a change in one transaction, on a thread that may block. It is committed if the closure returns Ok, and
    /// otherwise nothing is changed.
    ///
    /// # Errors
    /// What the closure returned, or a [`StoreError`].
    ///
    /// # Panics
    /// If the closure panics. Nothing is changed then.
    ///
    /// # Cancel safety
    /// Cancelled after the first poll, the change is made all the same.
    pub async fn write<T, E>(
        &self,
        change: impl FnOnce(&Transaction<'_, B>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let store = self.clone();
        let written = aether_files::disk::spawn_blocking(move || {
            let transaction = store.begin()?;
            let done = change(&transaction)?;
            transaction.commit()?;
            Ok(done)
        });
        match written.await {
            Ok(written) => written,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(StoreError::ShutDown.into()),
            },
        }
    }

    /// Makes the change of a job [once](Transaction::once), as [`write`](Self::write) does: a second call for the same
    /// job returns `None`, and its closure is not called.
    ///
    /// # Errors
    /// What the closure returned, or a [`StoreError`]: also if the wave has no identity, or the key is empty or longer than
    /// 512 bytes.
    ///
    /// # Panics
    /// As [`Store::write`].
    ///
    /// # Cancel safety
    /// As [`Store::write`].
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use aether_outbox::{Store, StoreError};
    ///
    /// # let folder = tempfile::tempdir()?; let path = folder.path().join("shop.redb");
    /// let store = Store::builder("shop").open(path)?;
    /// for expected in [Some(()), None] {
    ///     let paid = store.once("payment of order 17", |change| change.table("paid").insert("17", &900));
    ///     assert_eq!(paid.await?, expected);
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn once<'k, T, E>(
        &self,
        job: impl Into<OnceKey<'k>>,
        change: impl FnOnce(&Transaction<'_, B>) -> Result<T, E> + Send + 'static,
    ) -> Result<Option<T>, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let job = job.into();
        let (area, id) = (job.area(), job.bytes()?);
        let written = self.write(move |transaction| match transaction.is_first(area, &id)? {
            true => change(transaction).map(Some),
            false => Ok(None),
        });
        written.await
    }

    /// The source of the waves: the name, and a number that was drawn when the file was made. It stays the same across
    /// restarts.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.shared.source
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.shared.guarded.backend.path()
    }

    /// The account of the outbox: `committed = relayed + waiting + refused + dropped`.
    #[must_use]
    pub fn ledger(&self) -> OutboxLedger {
        *self.shared.guarded.ledger.borrow()
    }

    /// Waits until the outbox has an account like this, for example until nothing waits.
    ///
    /// # Cancel safety
    /// Cancelled at any time, nothing has changed.
    pub async fn wait_for(&self, is_reached: impl FnMut(&OutboxLedger) -> bool) -> OutboxLedger {
        let mut ledger = self.shared.guarded.ledger.subscribe();
        // The store lives as long as this borrow of it.
        ledger.wait_for(is_reached).await.map_or_else(|_| self.ledger(), |ledger| *ledger)
    }

    /// The waves that the bus will never take, the oldest first. Blocks.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read.
    pub fn refused(&self) -> Result<Vec<RefusedWave>, StoreError> {
        let held = self.shared.guarded.hold()?;
        let read = held.rows.scan(REFUSED, &[], usize::MAX)?.into_iter().map(|(key, row)| {
            let (reason, wave) = refused_parts(&row).ok_or_else(|| self.damaged(REFUSED, &key))?;
            let reason = String::from_utf8_lossy(reason).into_owned();
            let number = area::number(&key).unwrap_or_default();
            Ok(RefusedWave { number, wave: stored_wave::read(wave.to_vec()), reason })
        });
        read.collect()
    }

    /// Gives a refused wave to the relay again, under its identity, in front of what waits. Returns whether there is
    /// such a wave. Blocks.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be written.
    pub fn retry_refused(&self, number: u64) -> Result<bool, StoreError> {
        let held = self.shared.guarded.hold()?;
        let rows = &held.rows;
        let Some(row) = rows.get(REFUSED, &key(number))? else { return Ok(false) };
        let (_, wave) = refused_parts(&row).ok_or_else(|| self.damaged(REFUSED, &key(number)))?;
        rows.put(WAVES, &key(number), wave)?;
        rows.remove(REFUSED, &key(number))?;
        let finished = held.finish(|ledger| {
            ledger.refused -= 1;
            ledger.waiting += 1;
        });
        finished.map(|_| true)
    }

    /// Drops a refused wave for good. Returns whether there is such a wave. Blocks.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be written.
    pub fn drop_refused(&self, number: u64) -> Result<bool, StoreError> {
        let held = self.shared.guarded.hold()?;
        let rows = &held.rows;
        if !rows.remove(REFUSED, &key(number))? {
            return Ok(false);
        }
        rows.put(ABOUT, DROPPED, &key(count(rows, DROPPED)? + 1))?;
        let finished = held.finish(|ledger| {
            ledger.refused -= 1;
            ledger.dropped += 1;
        });
        finished.map(|_| true)
    }

    pub(crate) fn damaged(&self, area: &str, key: &[u8]) -> StoreError {
        let text = area::number(key)
            .map_or_else(|| String::from_utf8_lossy(key).into_owned(), |key| key.to_string());
        StoreError::Damaged { path: self.path().to_owned(), area: area.to_owned(), key: text }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<B>> {
        &self.shared
    }
}

/// The row of a refused wave: the length of the reason, the reason, the row of the wave.
pub(crate) fn refused_row(reason: &str, wave: &[u8]) -> Vec<u8> {
    let bytes = u32::try_from(reason.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&bytes, reason.as_bytes(), wave].concat()
}

fn refused_parts(row: &[u8]) -> Option<(&[u8], &[u8])> {
    let (bytes, rest) = row.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*bytes) as usize)
}
