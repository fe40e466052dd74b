//! The archive: rates, losses and incidents in a file, so that they survive the gateway. `aether report` reads it.
//!
//! [`Recorder`](recorder::Recorder) collects a minute and writes it. Minutes are kept for a day, and then summed up in
//! hours, which are kept for 90 days; the newest 10,000 incidents are kept. So the file is bounded. It is open only
//! while it is written, for some milliseconds a minute: `aether report` reads it while the gateway runs. A gateway that
//! is killed loses the minute that it has not written yet.

mod moments;
pub(crate) mod recorder;

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aether_files::redb_file;
use redb::{Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use moments::{ArchivedAccount, ArchivedIncident, ArchivedLoss, ArchivedSpan};

/// By their beginning in seconds since 1970, as JSON.
const MINUTES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("minutes");
const HOURS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("hours");
/// By the start of their gateway in milliseconds since 1970, and their number in it.
const INCIDENTS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("incidents");

const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");
/// The version of the layout that this program writes. Files without a number are of version 1.
const VERSION: u64 = 1;

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
/// How long minutes are kept, and hours.
const MINUTES_KEPT: u64 = 24 * HOUR;
const HOURS_KEPT: u64 = 90 * 24 * HOUR;
const MOST_INCIDENTS: u64 = 10_000;
/// How long a reader waits while the gateway writes, and the pause between two attempts: a file has no event for that.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(10);

/// Why an archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// There is no such file.
    #[error("there is no archive {}; `aether gateway --archive FILE` writes one", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Another process has the file open for longer than a gateway writes.
    #[error("another process uses {}", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// A newer gateway wrote the file. It is left as it is.
    #[error("{} has version {version} of the archive, and this program reads version {VERSION}: use a newer program", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        version: u64,
    },
    /// The file cannot be opened, read or written.
    #[error("cannot use the archive {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of redb.
        #[source]
        source: Box<redb::Error>,
    },
    /// An entry is not what a gateway writes.
    #[error("an entry of the archive {} cannot be read", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// The contents of an archive for a span of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Archived {
    /// Minutes of the last day and hours before it, the oldest first.
    pub spans: Vec<ArchivedSpan>,
    /// The oldest first.
    pub incidents: Vec<ArchivedIncident>,
}

/// A file with the history of a gateway.
#[derive(Debug, Clone)]
pub struct Archive {
    path: PathBuf,
}

impl Archive {
    /// The archive in this file. Nothing is opened yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the spans that end, and the incidents that last, after a time. Blocks: it reads a file, and waits for up to two
    /// seconds while a gateway writes it.
    ///
    /// # Errors
    /// [`ArchiveError`] if there is no file, it is in use, or it cannot be read.
    pub fn since(&self, time: SystemTime) -> Result<Archived, ArchiveError> {
        if !self.path.exists() {
            return Err(ArchiveError::Missing { path: self.path.clone() });
        }
        let database = self.open(PATIENCE)?;
        let from = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut archived = Archived::default();
        let read = database.begin_read().map_err(|error| self.failed(error))?;
        // An hour may have been observed in part, whichever part it was.
        for (table, whole) in [(HOURS, HOUR), (MINUTES, 0)] {
            let table = match read.open_table(table) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => continue,
                Err(error) => return Err(self.failed(error)),
            };
            // A span of an hour may begin before and still reach into it.
            for entry in table.range(from.saturating_sub(HOUR)..).map_err(|error| self.failed(error))? {
                let (_, value) = entry.map_err(|error| self.failed(error))?;
                let span: ArchivedSpan = self.parsed(value.value())?;
                let end = span.end_unix_seconds().max(span.begin_unix_seconds.saturating_add(whole));
                if end > from {
                    archived.spans.push(span);
                }
            }
        }
        archived.spans.sort_by_key(|span| span.begin_unix_seconds);
        match read.open_table(INCIDENTS) {
            Ok(table) => {
                for entry in table.iter().map_err(|error| self.failed(error))? {
                    let (_, value) = entry.map_err(|error| self.failed(error))?;
                    let incident: ArchivedIncident = self.parsed(value.value())?;
                    if incident.end_unix_ms() >= from.saturating_mul(1000) {
                        archived.incidents.push(incident);
                    }
                }
            }
            Err(redb::TableError::TableDoesNotExist(_)) => {}
            Err(error) => return Err(self.failed(error)),
        }
        archived.incidents.sort_by_key(|incident| incident.begin_unix_ms);
        Ok(archived)
    }

    /// Whether it can be written: makes the file if there is none.
    pub(crate) fn check(&self) -> Result<(), ArchiveError> {
        match self.open(PATIENCE) {
            // Another gateway writes it now and then, and reports it when it is in the way.
            Ok(_) | Err(ArchiveError::Busy { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes a span and incidents of the gateway that started at this time, and sums up and drops what is old.
    pub(crate) fn write(
        &self,
        gateway: u64,
        span: &ArchivedSpan,
        incidents: &[ArchivedIncident],
    ) -> Result<(), ArchiveError> {
        let database = self.open(Duration::ZERO)?;
        let write = database.begin_write().map_err(|error| self.failed(error))?;
        {
            let mut about = write.open_table(ABOUT).map_err(|error| self.failed(error))?;
            about.insert("version", VERSION).map_err(|error| self.failed(error))?;
            let mut minutes = write.open_table(MINUTES).map_err(|error| self.failed(error))?;
            let mut hours = write.open_table(HOURS).map_err(|error| self.failed(error))?;
            self.sum_up(&mut minutes, span.begin_unix_seconds, span)?;
            let day_ago = span.begin_unix_seconds.saturating_sub(MINUTES_KEPT);
            let old = minutes.extract_from_if(..day_ago, |_, _| true).map_err(|error| self.failed(error))?;
            let old: Vec<_> = old
                .map(|entry| {
                    let (_, value) = entry.map_err(|error| self.failed(error))?;
                    self.parsed::<ArchivedSpan>(value.value())
                })
                .collect::<Result<_, _>>()?;
            for minute in old {
                let begin = minute.begin_unix_seconds / HOUR * HOUR;
                self.sum_up(&mut hours, begin, &minute)?;
            }
            let oldest = span.begin_unix_seconds.saturating_sub(HOURS_KEPT);
            hours.retain_in(..oldest, |_, _| false).map_err(|error| self.failed(error))?;
            let mut table = write.open_table(INCIDENTS).map_err(|error| self.failed(error))?;
            for incident in incidents {
                let value = serde_json::to_vec(incident).map_err(|source| self.broken(source))?;
                table.insert((gateway, incident.id), &*value).map_err(|error| self.failed(error))?;
            }
            while redb::ReadableTableMetadata::len(&table).map_err(|error| self.failed(error))?
                > MOST_INCIDENTS
            {
                table.pop_first().map_err(|error| self.failed(error))?;
            }
        }
        write.commit().map_err(|error| self.failed(error))
    }

    fn open(&self, patience: Duration) -> Result<Database, ArchiveError> {
        let begin = Instant::now();
        loop {
            match redb_file::open_or_make(&Database::builder(), &self.path) {
                Ok(database) => {
                    self.check_version(&database)?;
                    return Ok(database);
                }
                Err(DatabaseError::DatabaseAlreadyOpen) if begin.elapsed() < patience => sleep(PAUSE),
                Err(DatabaseError::DatabaseAlreadyOpen) => {
                    return Err(ArchiveError::Busy { path: self.path.clone() });
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    fn check_version(&self, database: &Database) -> Result<(), ArchiveError> {
        let read = database.begin_read().map_err(|error| self.failed(error))?;
        let about = match read.open_table(ABOUT) {
            Ok(about) => about,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
            Err(error) => return Err(self.failed(error)),
        };
        let version = about.get("version").map_err(|error| self.failed(error))?;
        match version.map(|version| version.value()) {
            Some(version) if version > VERSION => {
                Err(ArchiveError::Version { path: self.path.clone(), version })
            }
            _ => Ok(()),
        }
    }

    /// Adds a span to the one that begins then, if there is one.
    fn sum_up(
        &self,
        table: &mut redb::Table<'_, u64, &'static [u8]>,
        begin: u64,
        span: &ArchivedSpan,
    ) -> Result<(), ArchiveError> {
        let known = table.get(begin).map_err(|error| self.failed(error))?;
        let known = known.map(|value| self.parsed::<ArchivedSpan>(value.value())).transpose()?;
        let mut sum = known.unwrap_or_else(|| ArchivedSpan::beginning(begin));
        sum.add(span);
        let value = serde_json::to_vec(&sum).map_err(|source| self.broken(source))?;
        table.insert(begin, &*value).map_err(|error| self.failed(error))?;
        Ok(())
    }

    fn parsed<T: DeserializeOwned>(&self, value: &[u8]) -> Result<T, ArchiveError> {
        serde_json::from_slice(value).map_err(|source| self.broken(source))
    }

    fn broken(&self, source: serde_json::Error) -> ArchiveError {
        ArchiveError::Entry { path: self.path.clone(), source }
    }

    fn failed(&self, error: impl Into<redb::Error>) -> ArchiveError {
        ArchiveError::File { path: self.path.clone(), source: Box::new(error.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_900_000_000 / HOUR * HOUR;

    fn minute(begin: u64, lost: u64) -> ArchivedSpan {
        let mut span = ArchivedSpan::beginning(begin);
        span.seconds = MINUTE;
        span.waves = 600;
        span.lose("shop", "inbox", "full", lost);
        span.account(ArchivedAccount {
            program: "shop".to_owned(),
            queue: "inbox".to_owned(),
            offered: 600 + lost,
            delivered: 601,
            lost,
            queued: -1,
        });
        span
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn minutes_become_hours_and_nothing_is_lost_by_that() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::new(folder.path().join("history.redb"));
        assert!(matches!(archive.since(at(0)), Err(ArchiveError::Missing { .. })));
        // Two hours, and then a minute a day later, in which they are old.
        for at in 0..120 {
            archive.write(7, &minute(START + at * MINUTE, at % 2), &[]).unwrap();
        }
        assert_eq!(archive.since(at(START)).unwrap().spans.len(), 120);
        assert_eq!(archive.since(at(START + HOUR)).unwrap().spans.len(), 60);
        archive.write(7, &minute(START + MINUTES_KEPT + 2 * HOUR, 0), &[]).unwrap();
        let spans = archive.since(at(START)).unwrap().spans;
        let sums: Vec<_> = spans.iter().map(|span| (span.seconds, span.waves, span.lost_waves())).collect();
        assert_eq!(sums, [(3600, 36_000, 30), (3600, 36_000, 30), (60, 600, 0)]);
        let accounts = spans.iter().map(|span| match &*span.accounts {
            [only] => (only.offered, only.delivered, only.lost, only.queued),
            other => panic!("{other:?}"),
        });
        let hour = (36_030, 36_060, 30, -60);
        assert_eq!(accounts.collect::<Vec<_>>(), [hour, hour, (600, 601, 0, -1)]);
        archive.write(7, &minute(START + HOURS_KEPT + 3 * HOUR, 0), &[]).unwrap();
        assert_eq!(archive.since(at(0)).unwrap().spans.len(), 2, "hours are dropped after their time");
    }

    #[test]
    fn an_hour_of_which_only_the_end_was_observed_is_found_until_it_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::new(folder.path().join("history.redb"));
        archive.write(7, &minute(START + 50 * MINUTE, 3), &[]).unwrap();
        archive.write(7, &minute(START + MINUTES_KEPT + 2 * HOUR, 0), &[]).unwrap();
        let lost_since = |time| -> u64 {
            archive.since(at(time)).unwrap().spans.iter().map(ArchivedSpan::lost_waves).sum()
        };
        assert_eq!((lost_since(START + 40 * MINUTE), lost_since(START + HOUR)), (3, 0));
    }

    #[test]
    fn an_archive_of_each_version_is_read_and_goes_on() {
        const FILE: &str = "history.redb";
        let incident = ArchivedIncident {
            id: 3,
            cause: "stopped".to_owned(),
            severity: "critical".to_owned(),
            text: "beta stopped".to_owned(),
            begin_unix_ms: START * 1000,
            seconds: 30.0,
            is_open: false,
        };
        let write = |folder: &Path| {
            let archive = Archive::new(folder.join(FILE));
            archive.write(7, &minute(START, 3), std::slice::from_ref(&incident)).unwrap();
            archive.write(7, &minute(START + MINUTES_KEPT + 2 * HOUR, 1), &[]).unwrap();
        };
        for (version, folder) in aether_files::corpus::copies(env!("CARGO_MANIFEST_DIR"), write).unwrap() {
            let archive = Archive::new(folder.path().join(FILE));
            let mut expected = [minute(START, 3), minute(START + MINUTES_KEPT + 2 * HOUR, 1)];
            let found = archive.since(at(0)).unwrap();
            assert_eq!(found.spans, expected, "{version}");
            assert_eq!(found.incidents, std::slice::from_ref(&incident), "{version}");
            archive.write(8, &expected[1], &[]).unwrap();
            expected[1].add(&expected[1].clone());
            assert_eq!(archive.since(at(0)).unwrap().spans, expected, "{version}");
        }
    }

    /// Sets the number of a file, or removes it.
    fn number(path: &Path, version: Option<u64>) {
        let database = Database::open(path).unwrap();
        let write = database.begin_write().unwrap();
        match version {
            Some(version) => drop(write.open_table(ABOUT).unwrap().insert("version", version).unwrap()),
            None => drop(write.delete_table(ABOUT).unwrap()),
        }
        write.commit().unwrap();
    }

    #[test]
    fn an_archive_without_a_number_is_of_version_1_and_one_of_a_later_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.redb");
        let archive = Archive::new(&path);
        archive.write(7, &minute(START, 0), &[]).unwrap();
        number(&path, None);
        assert_eq!(archive.since(at(START)).unwrap().spans.len(), 1);
        archive.write(7, &minute(START + MINUTE, 0), &[]).unwrap();
        number(&path, Some(2));
        let refused = [
            archive.since(at(0)).map(drop),
            archive.check(),
            archive.write(7, &minute(START + 2 * MINUTE, 0), &[]),
        ];
        for refused in refused.map(Result::unwrap_err) {
            assert!(matches!(refused, ArchiveError::Version { version: 2, .. }), "{refused:?}");
            let text = refused.to_string();
            assert!(
                text.contains("has version 2 of the archive, and this program reads version 1"),
                "{text}"
            );
        }
        number(&path, Some(VERSION));
        assert_eq!(archive.since(at(START)).unwrap().spans.len(), 2, "it was left as it was");
    }

    #[test]
    fn an_incident_is_replaced_by_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::new(folder.path().join("history.redb"));
        let mut incident = ArchivedIncident {
            id: 3,
            cause: "stopped".to_owned(),
            severity: "critical".to_owned(),
            text: "beta stopped".to_owned(),
            begin_unix_ms: START * 1000,
            seconds: 5.0,
            is_open: true,
        };
        archive.write(7, &minute(START, 0), &[incident.clone()]).unwrap();
        (incident.is_open, incident.seconds) = (false, 30.0);
        archive.write(7, &minute(START + MINUTE, 0), &[incident.clone()]).unwrap();
        assert_eq!(archive.since(at(START + 10)).unwrap().incidents, [incident]);
        assert_eq!(archive.since(at(START + 31)).unwrap().incidents, []);
    }

    #[test]
    fn a_file_that_was_never_whole_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.redb");
        std::fs::write(&path, [0; 73_728]).unwrap();
        let archive = Archive::new(&path);
        archive.write(7, &minute(START, 0), &[]).unwrap();
        assert_eq!(archive.since(at(START)).unwrap().spans.len(), 1);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_no_archive_and_one_that_is_open_are_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.redb");
        std::fs::write(&path, "this is a text").unwrap();
        assert!(matches!(Archive::new(&path).since(at(0)), Err(ArchiveError::File { .. })));
        let path = folder.path().join("open.redb");
        let open = Database::create(&path).unwrap();
        assert!(matches!(
            Archive::new(&path).write(7, &minute(START, 0), &[]),
            Err(ArchiveError::Busy { .. })
        ));
        drop(open);
        Archive::new(&path).write(7, &minute(START, 0), &[]).unwrap();
    }
}
