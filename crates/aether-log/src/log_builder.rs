//! The options of a log, given before it is opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aether_core::wave::ChannelError;
use aether_core::{Durability, Pattern};
#[cfg(feature = "seal")]
use aether_seal::KeySource;

use crate::channels::Channels;
use crate::consumer::{ConsumerOptions, ConsumerShared};
use crate::dead::DeadStore;
use crate::maintenance::{Maintenance, Rules};
use crate::name::is_name;
use crate::sealing::Sealing;
use crate::snapshots;
use crate::store::{Holds, OpenError, Store, StoreOptions, System};
use crate::whole;

/// The folder of the consumers, below the folder of the log.
pub(crate) const CONSUMERS: &str = "consumers";

/// The options of a log. Made by [`Log::builder`](crate::Log::builder).
#[derive(Debug, Clone)]
#[must_use = "nothing is opened before open()"]
pub struct LogBuilder {
    folder: PathBuf,
    options: StoreOptions,
    consumers: ConsumerOptions,
    channels: Vec<(Pattern, Durability)>,
    rules: Rules,
    clean_up_every: Duration,
    keep_for: Vec<String>,
    #[cfg(feature = "seal")]
    keys: Option<KeySource>,
    #[cfg(test)]
    system: Option<System>,
}

/// The parts of a log that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) store: Arc<Store>,
    pub(crate) sealing: Arc<Sealing>,
    pub(crate) dead: DeadStore,
    pub(crate) channels: Channels,
    pub(crate) consumers: ConsumerOptions,
    pub(crate) maintenance: Option<Maintenance>,
}

impl LogBuilder {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            options: StoreOptions::default(),
            consumers: ConsumerOptions::default(),
            channels: Vec::new(),
            rules: Rules::default(),
            clean_up_every: Duration::from_secs(3600),
            keep_for: Vec::new(),
            #[cfg(feature = "seal")]
            keys: None,
            #[cfg(test)]
            system: None,
        }
    }

    /// Stores the waves of the channels that match a pattern. Of several patterns that match, the highest level counts.
    ///
    /// # Errors
    /// [`ChannelError`] if the pattern is not valid.
    pub fn channels<P>(self, pattern: P, durability: Durability) -> Result<Self, ChannelError>
    where
        P: TryInto<Pattern>,
        ChannelError: From<P::Error>,
    {
        Ok(self.pattern(pattern.try_into()?, durability))
    }

    /// As [`LogBuilder::channels`], for a pattern that was checked.
    pub fn pattern(mut self, pattern: Pattern, durability: Durability) -> Self {
        self.channels.push((pattern, durability));
        self
    }

    /// How the waves are kept.
    pub fn options(mut self, options: StoreOptions) -> Self {
        self.options = options;
        self
    }

    /// The options of the consumers that are made by [`ResonateDurable`](crate::ResonateDurable). Default: the defaults
    /// of [`ConsumerOptions`].
    pub fn consumers(mut self, options: ConsumerOptions) -> Self {
        self.consumers = options;
        self
    }

    /// Removes the waves of these channels when they are older than this, whatever the retention of the whole log is.
    /// A wave is removed within this time and two intervals of [`LogBuilder::clean_up_every`]. Cost: as there.
    pub fn max_age(mut self, pattern: Pattern, max_age: Duration) -> Self {
        self.rules.max_ages.push((pattern, max_age));
        self
    }

    /// Keeps of these channels only the last wave of each [key](aether_core::Wave::key), for channels that carry
    /// state. The segment that is being written keeps all. Cost: as [`LogBuilder::clean_up_every`], and memory for
    /// each key.
    pub fn compact(mut self, pattern: Pattern) -> Self {
        self.rules.compacted.push(pattern);
        self
    }

    /// How often the rules of [`LogBuilder::max_age`] and [`LogBuilder::compact`] are applied, by a thread of the log.
    /// Default: one hour. Cost: the full segments are read once for each rule, and rewritten where something is
    /// removed.
    pub fn clean_up_every(mut self, interval: Duration) -> Self {
        self.clean_up_every = interval;
        self
    }

    /// Keeps what these consumers have not settled, whatever the retention and the rules of the channels want. A
    /// consumer that does not exist yet holds everything. Default: none. Cost: where the log is larger than
    /// [`Retention`] allows and one of them holds the oldest segment, a wave that needs a new segment is refused with
    /// [`AppendError::Held`](crate::store::AppendError), so the log takes at most one segment more.
    ///
    /// [`Retention`]: crate::store::Retention
    pub fn keep_for<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.keep_for.extend(names.into_iter().map(Into::into));
        self
    }

    /// Seals what is in the folder with one of these keys, and opens it with all of them: waves, also for later, dead
    /// letters, the errors of failed attempts, and snapshots. Names of channels, consumers, schedules and snapshots, sizes,
    /// times, strengths and identities are not sealed, so retention, backups and [`verify`](fn@crate::verify) need no keys.
    /// Default: nothing is sealed.
    ///
    /// A log is sealed as a whole: one that was begun without keys is refused with them, and the other way round. A record
    /// that is not sealed, or was altered or moved to another channel, is passed over and counted in the
    /// [status](aether_core::medium::MediumStatus) of the bus. One whose key is missing waits for it. A file that has
    /// changed is read again within a second or so. Cost: 78 bytes for each record, and some microseconds to seal it and to
    /// open it.
    #[cfg(feature = "seal")]
    pub fn keys(mut self, keys: impl Into<KeySource>) -> Self {
        self.keys = Some(keys.into());
        self
    }

    /// A machine that fails, for tests.
    #[cfg(test)]
    pub(crate) fn on(mut self, system: System) -> Self {
        self.system = Some(system);
        self
    }

    /// Opens the parts of a log, or makes one. Blocks while it reads one segment, 64 MiB by default.
    pub(crate) fn open_parts(self) -> Result<Opened, OpenError> {
        if let Some((pattern, level)) =
            self.channels.iter().find(|(_, level)| matches!(level, Durability::Replicated(_)))
        {
            return Err(OpenError::Replicated { pattern: pattern.clone(), level: *level });
        }
        if let Some(name) = self.keep_for.iter().find(|name| !is_name(name)) {
            return Err(OpenError::KeepFor { name: name.clone() });
        }
        #[cfg(feature = "seal")]
        let sealing = match self.keys {
            Some(keys) => Sealing::of_folder(&self.folder, keys)?,
            None => Sealing::default(),
        };
        #[cfg(not(feature = "seal"))]
        let sealing = Sealing::default();
        let sealing = Arc::new(sealing);
        let dead = DeadStore::open(&self.folder, Arc::clone(&sealing))?;
        let noted = noted_position(&self.folder)?.max(dead.last_position() + 1);
        let system = System::current();
        #[cfg(test)]
        let system = self.system.unwrap_or(system);
        let consumers = self.folder.join(CONSUMERS);
        let settled = self.keep_for.into_iter().map(|name| {
            let settled = ConsumerShared::settled_in(&consumers.join(&name))?;
            Ok((name, settled))
        });
        let holds = Holds::new(settled.collect::<Result<Vec<_>, OpenError>>()?);
        let store = Arc::new(Store::open_on(system, &self.folder, self.options, noted, holds)?);
        whole::check(&store, &sealing)?;
        dead.belongs_to(&store);
        if let Some(torn) = store.torn() {
            let (path, bytes) = (torn.path.display(), torn.bytes);
            tracing::warn!(%path, bytes, "the last record was not written to its end and is cut off");
        }
        for damage in store.damaged() {
            tracing::error!(%damage, "the log is damaged; what is before and behind is kept");
        }
        let maintenance = Maintenance::start(&store, &sealing, self.rules, self.clean_up_every);
        let maintenance =
            maintenance.map_err(|source| OpenError::io(&self.folder, "start the thread of", source))?;
        Ok(Opened {
            store,
            sealing,
            dead,
            channels: Channels::new(self.channels),
            consumers: self.consumers,
            maintenance,
        })
    }
}

/// The smallest position that a new record may get. After a power cut consumers and snapshots may know positions that
/// the log has lost; a new wave there would count as acknowledged, as failed before, or as a part of the state.
fn noted_position(folder: &Path) -> Result<u64, OpenError> {
    let mut noted = snapshots::last_position(folder)
        .map_err(|source| OpenError::io(folder, "list the snapshots of", source))?;
    let folder = folder.join(CONSUMERS);
    if !folder.is_dir() {
        return Ok(noted + 1);
    }
    let listed = std::fs::read_dir(&folder);
    for consumer in listed.map_err(|source| OpenError::io(&folder, "list", source))? {
        let path = consumer.map_err(|source| OpenError::io(&folder, "list", source))?.path();
        if path.is_dir() {
            noted = noted.max(ConsumerShared::last_noted(&path)?);
        }
    }
    Ok(noted + 1)
}
