//! Plays a recording of `crates/aether-bench/recordings` and compares the incidents with the truth that is noted in it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aether::physics::{
    Cause, Fault, Incident, PhysicsEngine, Played, RecordingError, RecordingPlayer, RecordingReader,
};

/// The kinds of faults that an operator should learn of. Others are part of healthy operation: a deployment, a pause of
/// the observer.
const PAGED: [&str; 5] = ["killed", "stopped", "frozen", "restarted", "slowed"];

/// Why a recording could not be judged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordedError {
    /// The file cannot be opened, or the folder not listed.
    #[error("cannot open {}", .path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file does not hold a complete recording.
    #[error(transparent)]
    Recording(#[from] RecordingError),
}

/// The result of playing a recording.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Recorded {
    /// The name of the file, without its extension.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The number of waves.
    pub waves: u64,
    /// Its length.
    pub length: Duration,
    /// The faults that an operator should learn of.
    pub faults: Vec<RecordedFault>,
    /// The incidents as they began, with their times.
    pub incidents: Vec<(Duration, Incident)>,
    /// The number of incidents that no fault explains.
    pub false_incidents: usize,
    /// The number of single findings.
    pub findings: usize,
}

/// A fault of a recording, and what became of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RecordedFault {
    /// The fault.
    pub fault: Fault,
    /// When it began.
    pub from: Duration,
    /// When it ended.
    pub until: Duration,
    /// The time until the incident that names it; `None` if there is none.
    pub found_after: Option<Duration>,
    /// The time from its end to the end of the incident; `None` if it did not end.
    pub ended_after: Option<Duration>,
}

impl Recorded {
    /// Plays a recording to the detectors with default options.
    ///
    /// # Errors
    /// [`RecordedError`] if the file cannot be read to its end.
    pub fn play(path: &Path) -> Result<Self, RecordedError> {
        let failed = |source| RecordedError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Self::play_from(name, file, bytes)
    }

    /// Plays a recording from anywhere, as [`Recorded::play`] does.
    ///
    /// # Errors
    /// [`RecordedError::Recording`] if it cannot be read to its end.
    pub fn play_from(name: String, file: impl Read, bytes: u64) -> Result<Self, RecordedError> {
        let mut player = RecordingPlayer::new(RecordingReader::new(file)?, PhysicsEngine::default());
        let (mut faults, mut began, mut ended) = (Vec::<RecordedFault>::new(), Vec::new(), Vec::new());
        let mut findings = 0;
        for played in player.by_ref() {
            match played? {
                (_, Played::Finding(_)) => findings += 1,
                (at, Played::Incident(incident)) if incident.until.is_some() => ended.push((at, incident.id)),
                (at, Played::Incident(incident)) => began.push((at, incident)),
                (at, Played::Fault { fault, begins: true }) => faults.push(RecordedFault {
                    fault,
                    from: at,
                    until: Duration::MAX,
                    found_after: None,
                    ended_after: None,
                }),
                (at, Played::Fault { fault, .. }) => {
                    if let Some(known) = faults.iter_mut().rev().find(|known| known.fault == fault) {
                        known.until = at;
                    }
                }
                _ => {}
            }
        }
        faults.retain(|fault| PAGED.contains(&fault.fault.kind.as_str()));
        let mut false_incidents = 0;
        for (at, incident) in &began {
            // The first incident that names a fault while it lasts, or soon after, is true.
            let fits = |fault: &&mut RecordedFault| {
                fault.found_after.is_none()
                    && *at >= fault.from
                    && at.saturating_sub(fault.until).is_zero()
                    && names(incident, &fault.fault)
            };
            match faults.iter_mut().find(fits) {
                Some(fault) => {
                    fault.found_after = Some(*at - fault.from);
                    let end = ended.iter().find(|(_, id)| *id == incident.id);
                    fault.ended_after = end.map(|(at, _)| at.saturating_sub(fault.until));
                }
                None => false_incidents += 1,
            }
        }
        let (waves, length) = (player.waves(), player.length());
        Ok(Self { name, bytes, waves, length, faults, incidents: began, false_incidents, findings })
    }

    /// The recordings of a folder, in the order of their names.
    ///
    /// # Errors
    /// [`RecordedError::Open`] if the folder cannot be listed.
    pub fn list(folder: &Path) -> Result<Vec<PathBuf>, RecordedError> {
        let failed = |source| RecordedError::Open { path: folder.to_owned(), source };
        let entries = std::fs::read_dir(folder).map_err(failed)?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        let mut paths = paths.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "rec"));
        paths.sort_unstable();
        Ok(paths)
    }

    /// The longest time until a fault was found; `None` if one was not found, or if there was none.
    #[must_use]
    pub fn found_after(&self) -> Option<Duration> {
        let times: Option<Vec<_>> = self.faults.iter().map(|fault| fault.found_after).collect();
        times?.into_iter().max()
    }

    /// The faults that had ended `grace` before the end of the recording, and whose incidents had not.
    pub fn unended(&self, grace: Duration) -> impl Iterator<Item = &RecordedFault> {
        let has_ended = move |fault: &&RecordedFault| fault.until.saturating_add(grace) <= self.length;
        self.faults.iter().filter(has_ended).filter(|fault| fault.ended_after.is_none())
    }
}

/// Whether an incident names a fault.
fn names(incident: &Incident, fault: &Fault) -> bool {
    if fault.service.is_empty() {
        matches!(incident.cause, Cause::Disconnected | Cause::AllSilent)
    } else {
        incident.services.len() == 1 && incident.services[0] == fault.service
    }
}
