//! `aether physics --replay FILE --as-test OUT`: writes a Rust test in which an incident of a recording happens again.
//!
//! [`Traffic`] is what the processes did, [`source`] the text of the test. Here is what is chosen for it: the incident, the
//! part of the recording that shows it, and the fault that has its cause.

mod fault;
mod found;
mod rust;
mod source;
mod traffic;

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use aether::physics::{
    Cause, Fault as Note, PhysicsEngine, Played, RecordedEntry, RecordingError, RecordingPlayer,
    RecordingReader, RecordingWriter,
};

use crate::output::stderr_line;
use fault::Fault;
use found::{Entry, Found};
use traffic::Traffic;

/// The detectors know most rhythms after a minute.
const BEFORE: Duration = Duration::from_secs(60);
/// The longest time before an incident that is tried.
const LONGEST: Duration = Duration::from_secs(960);
/// The maximum number of entries before an incident. The oldest are left out.
const MAX_ENTRIES: usize = 500_000;
/// By then everything has come that waited for the end of another incident.
const SETTLES: Duration = Duration::from_secs(1);
/// An observer that is cut off finds within this time that all services are silent.
const CUT_OFF: Duration = Duration::from_secs(60);

/// A test to write.
#[derive(Debug, clap::Args)]
pub(crate) struct TestArgs {
    /// Write a Rust test in which an incident of the recording happens again
    #[arg(long, value_name = "FILE", requires = "replay")]
    as_test: Option<PathBuf>,

    /// The incident of the test, by the number that --replay prints
    #[arg(long, value_name = "N", default_value = "1", requires = "as_test", value_parser = crate::values::whole(1))]
    incident: u64,

    /// Replace the file of the test if it exists
    #[arg(long, requires = "as_test")]
    force: bool,
}

/// Why no test was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IncidentError {
    #[error("cannot open {}", .path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Recording(#[from] RecordingError),
    #[error("the recording has no incident")]
    NoIncidents,
    #[error("the recording has no incident {number}; its incidents are {}", .known.iter().map(u64::to_string).collect::<Vec<_>>().join(", "))]
    NoSuchIncident { number: u64, known: Vec<u64> },
    #[error("no test can have this incident: {reason}")]
    NoTest { reason: &'static str },
    #[error("{} exists already: name another file, or replace it with --force", .path.display())]
    Exists { path: PathBuf },
    #[error("cannot write {}", .path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl IncidentError {
    /// Whether the error is wrong usage.
    pub(crate) const fn is_wrong_usage(&self) -> bool {
        matches!(self, Self::NoIncidents | Self::NoSuchIncident { .. } | Self::Exists { .. })
    }
}

impl TestArgs {
    /// Writes the test, if one is wanted. Returns whether it was.
    pub(crate) fn write(&self, recording: &Path) -> Result<bool, IncidentError> {
        let Some(path) = &self.as_test else { return Ok(false) };
        if !self.force && path.exists() {
            return Err(IncidentError::Exists { path: path.clone() });
        }
        let text = test_of(recording, self.incident)?;
        write_whole(path, &text).map_err(|source| IncidentError::Write { path: path.clone(), source })?;
        stderr_line(format_args!(
            "wrote {}: its first lines have the dependencies, docs/guide/testing.md has more",
            path.display()
        ));
        Ok(true)
    }
}

/// Writes a file that is there whole or not at all.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let write = || {
        let mut file = File::create_new(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    let written = write();
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written
}

/// The text of the test of an incident.
fn test_of(recording: &Path, number: u64) -> Result<String, IncidentError> {
    let open = || {
        let failed = |source| IncidentError::Open { path: recording.to_owned(), source };
        Ok::<_, IncidentError>(RecordingReader::new(File::open(recording).map_err(failed)?)?)
    };
    let all = incidents_of(open()?)?;
    let recorded = chosen(&all, number)?;
    let quiet_since =
        all.iter().filter_map(|other| other.ended).filter(|ended| *ended <= recorded.since()).max();
    let quiet_since = quiet_since.map_or(Duration::ZERO, |ended| ended + SETTLES);
    let (mut entries, returned) = entries_until(open()?, recorded.at)?;
    let found = match recorded.incident.cause {
        Cause::Losses => {
            return Err(IncidentError::NoTest { reason: "an observer in virtual time loses no waves" });
        }
        Cause::Claim { .. } => {
            return Err(IncidentError::NoTest { reason: "a recording does not have which waves are claims" });
        }
        Cause::Disconnected => {
            let cut_off = cut_off(&mut entries, recorded.since(), quiet_since)?;
            let reason = "a simulated observer that is cut off only hears nobody, and there is too little before it to know \
                          that this is unusual";
            cut_off.ok_or(IncidentError::NoTest { reason })?
        }
        _ => recorded.clone(),
    };
    let part = shortest(&entries, &found, quiet_since)?;
    let fault = Fault::of(&found, part, &returned);
    let traffic = Traffic::of(part, fault.at());
    let start = part.first().map_or(Duration::ZERO, |(at, _)| *at);
    Ok(source::text(&source::Test {
        recording,
        number,
        recorded: &recorded.incident,
        found: &found,
        start,
        fault,
        traffic,
    }))
}

/// The incident with this number.
fn chosen(all: &[Found], number: u64) -> Result<&Found, IncidentError> {
    if all.is_empty() {
        return Err(IncidentError::NoIncidents);
    }
    let found = all.iter().find(|found| found.incident.id == number);
    let known = || all.iter().map(|found| found.incident.id).collect();
    found.ok_or_else(|| IncidentError::NoSuchIncident { number, known: known() })
}

/// The incidents of a recording.
fn incidents_of(reader: RecordingReader<impl Read>) -> Result<Vec<Found>, IncidentError> {
    let mut all: Vec<Found> = Vec::new();
    for played in RecordingPlayer::new(reader, PhysicsEngine::default()) {
        let (at, Played::Incident(incident)) = played? else { continue };
        match all.iter_mut().find(|found| found.incident.id == incident.id) {
            Some(found) => found.ended = Some(at),
            None => all.push(Found { at, ended: None, incident }),
        }
    }
    Ok(all)
}

/// The entries up to a second after a time, and the instances that emit later.
fn entries_until(
    reader: RecordingReader<impl Read>,
    found: Duration,
) -> Result<(Vec<Entry>, HashSet<u64>), IncidentError> {
    let (mut entries, mut later) = (VecDeque::new(), HashSet::new());
    for entry in reader {
        let (at, entry) = entry?;
        if let RecordedEntry::Wave(wave) = &entry
            && at > found
        {
            later.insert(wave.source().instance());
        }
        if at <= found + Duration::from_secs(1) {
            if entries.len() == MAX_ENTRIES {
                entries.pop_front();
            }
            entries.push_back((at, entry));
        }
    }
    Ok((entries.into(), later))
}

/// Makes the entries as of an observer that hears nobody from a time on: a simulated network has no broker that it could
/// lose. Returns the incident that this observer finds.
fn cut_off(
    entries: &mut Vec<Entry>,
    since: Duration,
    quiet_since: Duration,
) -> Result<Option<Found>, IncidentError> {
    entries.retain(|(at, entry)| *at < since && !matches!(entry, RecordedEntry::Link { .. }));
    let note = Note { kind: "cut off".to_owned(), service: String::new() };
    entries.push((since + CUT_OFF, RecordedEntry::Fault { fault: note, begins: true }));
    let all = incidents_of(RecordingReader::new(&rewritten(entries)?[..])?)?;
    Ok(all.into_iter().find(|found| found.at > quiet_since && found.incident.cause == Cause::AllSilent))
}

/// The shortest part of the recording in which the detectors find the incident: a minute before it, or more, if possible
/// without another incident.
fn shortest<'a>(
    entries: &'a [Entry],
    found: &Found,
    quiet_since: Duration,
) -> Result<&'a [Entry], IncidentError> {
    let before = |time| found.since().saturating_sub(time);
    let longer =
        std::iter::successors(Some(BEFORE), |time| Some(*time * 2)).take_while(|time| *time <= LONGEST);
    let starts = [before(BEFORE).max(quiet_since)].into_iter().chain(longer.map(before));
    for start in starts {
        let part = &entries[entries.partition_point(|(at, _)| *at < start)..];
        let all = incidents_of(RecordingReader::new(&rewritten(part)?[..])?)?;
        if all.iter().any(|shown| found.is_same(&shown.incident)) {
            return Ok(part);
        }
    }
    Ok(entries)
}

/// The entries as a recording.
fn rewritten(entries: &[Entry]) -> Result<Vec<u8>, IncidentError> {
    let failed = |source| IncidentError::Recording(RecordingError::Io { offset: 0, source });
    let begins = Instant::now();
    let mut writer = RecordingWriter::new(Vec::new(), begins, SystemTime::UNIX_EPOCH).map_err(failed)?;
    let start = entries.first().map_or(Duration::ZERO, |(at, _)| *at);
    for (at, entry) in entries {
        writer.copy(entry, begins + (*at - start)).map_err(failed)?;
    }
    writer.finish().map_err(failed)
}
