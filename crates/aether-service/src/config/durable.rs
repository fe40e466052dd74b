//! The settings of durable channels: the section `[durable]`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use aether_core::{Durability, Pattern};
use aether_log::store::{OptionsError, Retention, StoreOptions};
use aether_log::{ConsumerOptions, LogBuilder};
#[cfg(feature = "jetstream")]
use aether_log::{JetStreamLog, JetStreamLogBuilder, JetStreamOptions};
use serde::{Deserialize, Serialize};

use super::bounded::{AckWait, CleanUpInterval, CommitWindow, DuplicateWindow, SEGMENT, SegmentSize};
use super::list::List;
use super::quantity::{Count, OrOff, QuantityError, Size, Time};
use super::shared_log::{SharedLog, SharedLogError, is_name, refuse};
#[cfg(feature = "jetstream")]
use crate::medium_args::MediumArgs;

/// Durable channels: which waves are stored before they are carried, and for how long they are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DurableSettings {
    /// The folder in which each program has its log, in one of its name.
    pub folder: OrOff<PathBuf>,
    /// The log that all programs share, in place of folders.
    pub log: OrOff<SharedLog>,
    /// How many servers keep each wave of the shared log.
    pub replicas: Count<1, 5>,
    /// How long the servers wait for an acknowledgement before another process gets the wave.
    pub ack_wait: AckWait,
    /// For how long the servers recognise a second copy of a wave.
    pub duplicate_window: DuplicateWindow,
    /// Whether the log in the folder is sealed with the keys of `medium.keys`, if there are some.
    pub sealed: bool,
    /// The channels whose waves survive the end of the process.
    pub stored: List<DurablePattern>,
    /// The channels whose waves survive a power cut.
    pub synced: List<DurablePattern>,
    /// How long waves are gathered before they are written and synced together.
    pub commit_window: CommitWindow,
    /// The size of a segment.
    pub segment_bytes: SegmentSize,
    /// How many bytes may wait to be written.
    pub max_queued_bytes: Size,
    /// The age at which waves are dropped.
    pub max_age: OrOff<Time>,
    /// The size of the log beyond which the oldest waves are dropped.
    pub max_bytes: OrOff<Size>,
    /// The number of waves beyond which the oldest are dropped.
    pub max_waves: OrOff<Count<1, { u64::MAX >> 1 }>>,
    /// The consumers that the waves are kept for until they have settled them.
    pub keep_for: List<ConsumerName>,
    /// The age at which waves of some channels are dropped.
    pub max_ages: List<AgeOf>,
    /// The channels of which only the last wave of each key is kept.
    pub compact: List<DurablePattern>,
    /// How often the two rules above are applied.
    pub clean_up_every: CleanUpInterval,
    /// The level that an acknowledgement of a consumer reaches.
    pub acknowledgements: AcknowledgedLevel,
}

/// The name of a consumer of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerName(pub String);

impl FromStr for ConsumerName {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        const ALLOWED: &str = "the name of a consumer: 1 to 64 letters, digits, '-' and '_'";
        if is_name(text) { Ok(Self(text.to_owned())) } else { Err(QuantityError::new(text, ALLOWED)) }
    }
}

impl fmt::Display for ConsumerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pattern of durable channels, which excludes the channels of the framework.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurablePattern(pub Pattern);

impl FromStr for DurablePattern {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        const ALLOWED: &str = "a pattern of channels such as orders.> or *.paid";
        Pattern::new(text).map(Self).map_err(|_| QuantityError::new(text, ALLOWED))
    }
}

impl fmt::Display for DurablePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// The age at which the waves of a pattern are dropped: `notes.>=7d`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgeOf {
    /// The pattern.
    pub pattern: Pattern,
    /// The age.
    pub max_age: Duration,
}

impl FromStr for AgeOf {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        const ALLOWED: &str = "PATTERN=TIME, such as notes.>=7d";
        let refused = || QuantityError::new(text, ALLOWED);
        let (pattern, age) = text.rsplit_once('=').ok_or_else(refused)?;
        let pattern = pattern.trim().parse::<DurablePattern>().map_err(|_| refused())?.0;
        let Time(max_age) = age.trim().parse().map_err(|_| refused())?;
        Ok(Self { pattern, max_age })
    }
}

impl fmt::Display for AgeOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.pattern.as_str(), Time(self.max_age))
    }
}

/// The level that an acknowledgement reaches before it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AcknowledgedLevel {
    /// It survives the end of the process.
    Stored,
    /// It survives a power cut.
    Synced,
}

impl Default for DurableSettings {
    fn default() -> Self {
        Self {
            folder: OrOff::Off,
            log: OrOff::Off,
            replicas: Count::LEAST,
            ack_wait: AckWait(Duration::from_secs(30)),
            duplicate_window: DuplicateWindow(Duration::from_secs(120)),
            sealed: true,
            stored: List::default(),
            synced: List::default(),
            commit_window: CommitWindow(Duration::ZERO),
            segment_bytes: SegmentSize(64 << 20),
            max_queued_bytes: SEGMENT,
            max_age: OrOff::Off,
            max_bytes: OrOff::Off,
            max_waves: OrOff::Off,
            keep_for: List::default(),
            max_ages: List::default(),
            compact: List::default(),
            clean_up_every: CleanUpInterval(Duration::from_secs(3600)),
            acknowledgements: AcknowledgedLevel::Stored,
        }
    }
}

impl DurableSettings {
    /// The log in JetStream, at the server of the medium and with its wait, login, certificates and keys; `None` if
    /// none is named, or no channels. `max_age`, `max_bytes` and `max_waves` apply to the stream, which refuses waves
    /// when it is full.
    ///
    /// # Errors
    /// [`SharedLogError`] if other settings do not go with it.
    #[cfg(feature = "jetstream")]
    pub fn jetstream(&self, medium: &MediumArgs) -> Result<Option<JetStreamLogBuilder>, SharedLogError> {
        let OrOff::On(SharedLog { stream }) = &self.log else { return Ok(None) };
        const ALLOWED: &str = "switch one of them off";
        refuse(
            "log",
            [
                ("folder", self.folder != OrOff::Off, ALLOWED),
                ("keep_for", !self.keep_for.0.is_empty(), ALLOWED),
                ("max_ages", !self.max_ages.0.is_empty(), ALLOWED),
                ("compact", !self.compact.0.is_empty(), ALLOWED),
            ],
        )?;
        if self.stored.0.is_empty() && self.synced.0.is_empty() {
            return Ok(None);
        }
        let url = medium.nats_address().ok_or(SharedLogError::NoServer)?;
        let Retention { max_age, max_bytes, max_records, .. } = self.retention();
        let options = JetStreamOptions::default();
        let mut options = options.ack_wait(self.ack_wait.0).duplicate_window(self.duplicate_window.0);
        options = max_age.map_or(options, |age| options.max_age(age));
        options = max_bytes.map_or(options, |bytes| options.max_bytes(bytes));
        options = max_records.map_or(options, |waves| options.max_waves(waves));
        let log = JetStreamLog::builder(url, stream).nats(medium.nats("aether-log")).wait(medium.wait);
        let log = self.levels().fold(log, |log, (pattern, level)| match self.replicas.as_u8() {
            1 => log.pattern(pattern, level),
            replicas => {
                log.pattern(pattern.clone(), level).pattern(pattern, Durability::Replicated(replicas))
            }
        });
        Ok(Some(log.options(options)))
    }

    fn levels(&self) -> impl Iterator<Item = (Pattern, Durability)> {
        let stored = self.stored.0.iter().map(|pattern| (pattern, Durability::Stored));
        let synced = self.synced.0.iter().map(|pattern| (pattern, Durability::Synced));
        stored.chain(synced).map(|(DurablePattern(pattern), level)| (pattern.clone(), level))
    }

    /// The log of a program in a folder, sealed with these keys if it is to be; `None` if it has no folder or no channels.
    /// The caller may add channels before it opens the log.
    ///
    /// # Errors
    /// [`SharedLogError`] if this program cannot seal it, or a setting is one of a log in JetStream.
    pub fn log(&self, program: &str, keys: Option<&Path>) -> Result<Option<LogBuilder>, SharedLogError> {
        let OrOff::On(folder) = &self.folder else { return Ok(None) };
        let default = Self::default();
        refuse(
            "folder",
            [
                ("replicas", self.replicas != default.replicas, "set it to 1, or use durable.log"),
                ("ack_wait", self.ack_wait != default.ack_wait, "set it to 30s, or use durable.log"),
                (
                    "duplicate_window",
                    self.duplicate_window != default.duplicate_window,
                    "set it to 2m, or use durable.log",
                ),
            ],
        )?;
        if self.stored.0.is_empty() && self.synced.0.is_empty() {
            return Ok(None);
        }
        let mut log = aether_log::Log::builder(folder.join(program))
            .consumers(self.consumers())
            .clean_up_every(self.clean_up_every.0)
            .keep_for(self.keep_for.0.iter().map(|ConsumerName(name)| name.clone()));
        // The types allow nothing that the options refuse.
        if let Ok(options) = self.store() {
            log = log.options(options);
        }
        for (pattern, level) in self.levels() {
            log = log.pattern(pattern, level);
        }
        for AgeOf { pattern, max_age } in &self.max_ages.0 {
            log = log.max_age(pattern.clone(), *max_age);
        }
        for DurablePattern(pattern) in &self.compact.0 {
            log = log.compact(pattern.clone());
        }
        match keys.filter(|_| self.sealed) {
            None => Ok(Some(log)),
            #[cfg(any(feature = "nats", feature = "lan"))]
            Some(keys) => Ok(Some(log.keys(keys))),
            #[cfg(not(any(feature = "nats", feature = "lan")))]
            Some(_) => Err(SharedLogError::Keys),
        }
    }

    /// Retention limits of a log.
    #[must_use]
    pub fn retention(&self) -> Retention {
        let mut retention = Retention::default();
        retention.max_age = self.max_age.on().map(|Time(age)| age);
        retention.max_bytes = self.max_bytes.on().map(|size| size.bytes() as u64);
        retention.max_records = self.max_waves.on().map(Count::get);
        retention
    }

    fn store(&self) -> Result<StoreOptions, OptionsError> {
        Ok(StoreOptions::default()
            .segment_bytes(self.segment_bytes.0)?
            .commit_window(self.commit_window.0)?
            .max_queued_bytes(self.max_queued_bytes.bytes())
            .retention(self.retention()))
    }

    /// The options of consumers that are made without.
    #[must_use]
    pub fn consumers(&self) -> ConsumerOptions {
        ConsumerOptions::default().acknowledgements(match self.acknowledgements {
            AcknowledgedLevel::Stored => Durability::Stored,
            AcknowledgedLevel::Synced => Durability::Synced,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<DurableSettings, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    #[test]
    fn the_defaults_are_those_of_the_log() {
        let settings = DurableSettings::default();
        assert_eq!(settings.store(), Ok(StoreOptions::default()));
        assert_eq!(settings.consumers(), ConsumerOptions::default());
        assert!(settings.log("shop", None).unwrap().is_none());
        let only_a_folder =
            DurableSettings { folder: OrOff::On("logs".into()), ..DurableSettings::default() };
        assert!(
            only_a_folder.log("shop", None).unwrap().is_none(),
            "a program without durable channels needs no log"
        );
    }

    #[test]
    fn all_settings_reach_the_log() {
        let text = "folder = '/var/lib/aether'\nstored = ['notes.>']\nsynced = 'orders.>, *.paid'\ncommit_window = '2ms'\n\
             segment_bytes = '1 MiB'\nmax_queued_bytes = '3 MiB'\nmax_age = '7d'\nmax_bytes = '1 GiB'\nmax_waves = 5\n\
             keep_for = 'billing, audit'\nmax_ages = ['notes.>=1h']\ncompact = ['state.*']\nclean_up_every = '5m'\nacknowledgements = 'synced'\n";
        let settings = read(text).unwrap();
        let options = format!("{:?}", settings.store().unwrap());
        for part in [
            "segment_bytes: 1048576",
            "commit_window: 2ms",
            "max_queued_bytes: 3145728",
            "max_age: Some(604800s)",
            "max_bytes: Some(1073741824)",
            "max_records: Some(5)",
        ] {
            assert!(options.contains(part), "{part}: {options}");
        }
        assert_eq!(settings.consumers(), ConsumerOptions::default().acknowledgements(Durability::Synced));
        let log = format!("{:?}", settings.log("shop", Some(Path::new("own.keys"))).unwrap().unwrap());
        for part in [
            "/var/lib/aether/shop",
            "notes.>",
            "orders.>",
            "*.paid",
            "billing",
            "audit",
            "3600s",
            "state.*",
            "300s",
            "own.keys",
        ] {
            assert!(log.contains(part), "{part}: {log}");
        }
        assert_eq!(read(&toml::to_string(&settings).unwrap()), Ok(settings.clone()));
        let plain = DurableSettings { sealed: false, ..settings };
        let log = format!("{:?}", plain.log("shop", Some(Path::new("own.keys"))).unwrap().unwrap());
        assert!(!log.contains("own.keys"), "{log}");
    }

    #[test]
    fn settings_of_a_log_in_jetstream_are_refused_with_a_folder() {
        for (text, setting, allowed) in [
            ("replicas = 3", "replicas", "set it to 1"),
            ("ack_wait = '1m'", "ack_wait", "set it to 30s"),
            ("duplicate_window = '5m'", "duplicate_window", "set it to 2m"),
        ] {
            let settings = read(&format!("folder = 'logs'\nstored = ['notes.>']\n{text}")).unwrap();
            let refused = settings.log("shop", None).unwrap_err();
            let start = format!("durable.folder does not go with durable.{setting}: {allowed}");
            assert!(refused.to_string().starts_with(&start), "{refused}");
        }
    }

    #[cfg(feature = "jetstream")]
    #[test]
    fn all_settings_reach_a_log_in_jetstream() {
        let text = "log = 'jetstream:orders'\nstored = ['notes.>']\nsynced = ['orders.>']\nreplicas = 3\nack_wait = '1m'\n\
             duplicate_window = '5m'\nmax_age = '7d'\nmax_bytes = '1 GiB'\nmax_waves = 5\n";
        let settings = read(text).unwrap();
        assert_eq!(read(&toml::to_string(&settings).unwrap()), Ok(settings.clone()));
        let medium = MediumArgs { medium: "nats://127.0.0.1:4222".to_owned(), ..MediumArgs::default() };
        let log = format!("{:?}", settings.jetstream(&medium).unwrap().unwrap());
        for part in [
            "name: \"orders\"",
            "max_bytes: Some(1073741824)",
            "max_waves: Some(5)",
            "max_age: Some(604800s)",
            "duplicate_window: 300s",
            "ack_wait: 60s",
            "Synced",
            "Replicated(3)",
        ] {
            assert!(log.contains(part), "{part}: {log}");
        }
        let one = DurableSettings { replicas: Count::LEAST, ..settings };
        let log = format!("{:?}", one.jetstream(&medium).unwrap().unwrap());
        assert!(!log.contains("Replicated"), "{log}");
    }

    #[test]
    fn a_wrong_value_is_refused_with_what_is_allowed() {
        for (text, allowed) in [
            ("synced = ['orders..paid']", "a pattern of channels such as orders.>"),
            ("log = 'orders'", "jetstream:NAME, such as jetstream:orders"),
            ("log = 'jetstream:or.ders'", "1 to 64 letters"),
            ("stored = ['a b']", "a pattern of channels"),
            ("keep_for = ['bill/ing']", "the name of a consumer"),
            ("max_ages = ['notes.>']", "PATTERN=TIME, such as notes.>=7d"),
            ("max_ages = ['notes.>=soon']", "PATTERN=TIME"),
            ("commit_window = '2s'", "a time from 0 to 1s"),
            ("segment_bytes = '1 KiB'", "a size from 4 KiB to 1 GiB"),
            ("segment_bytes = '2 GiB'", "a size from 4 KiB to 1 GiB"),
            ("clean_up_every = '0'", "a time of at least 1s"),
            ("replicas = 6", "a whole number from 1 to 5"),
            ("ack_wait = '500ms'", "a time from 1s to 1d"),
            ("duplicate_window = '30s'", "a time from 1m to 1d"),
            ("acknowledgements = 'always'", "`stored` or `synced`"),
            ("max_waves = 0", "a whole number from 1"),
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.contains(allowed), "{text}: {refused}");
        }
    }
}
