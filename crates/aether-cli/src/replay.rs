//! `aether physics --replay`: runs the detectors on a recording.

use std::fmt::Display;
use std::fs::File;
use std::path::Path;

use aether::physics::{PhysicsEngine, Played, RecordingPlayer, RecordingReader};

use crate::error::CommandError;
use crate::output::{Output, stderr_line};
use crate::record::printable;

/// Plays a recording and prints the incidents, with the time since its beginning; with details also the findings.
pub(crate) fn replay(file: &Path, details: bool) -> Result<(), CommandError> {
    let open = |source| CommandError::Open { path: file.to_owned(), source };
    let reader = RecordingReader::new(File::open(file).map_err(open)?)?;
    let mut player = RecordingPlayer::new(reader, PhysicsEngine::default());
    let mut output = Output::stdout();
    let mut incidents = 0;
    for played in player.by_ref() {
        let (at, played) = played?;
        let at = at.as_secs_f64();
        match played {
            Played::Finding(finding) if details => {
                output.line(format_args!("{at:.3} s {}", shown(&finding)))?
            }
            Played::Incident(incident) => {
                incidents += u64::from(incident.until.is_none());
                let number = incident.id;
                output.line(format_args!(
                    "{at:.3} s incident {number}, {}: {}",
                    incident.severity,
                    shown(&incident)
                ))?;
            }
            Played::Fault { fault, begins } => {
                let verb = if begins { "begins" } else { "ends" };
                let service = if fault.service.is_empty() { "medium" } else { &fault.service };
                let note = shown(&format_args!("{service} {}, {verb}", fault.kind));
                output.line(format_args!("{at:.3} s noted in the recording: {note}"))?;
            }
            _ => {}
        }
    }
    let edges = player.report().map.edges.len();
    let (waves, seconds) = (player.waves(), player.length().as_secs_f64());
    stderr_line(format_args!("{waves} waves in {seconds:.1} s, {edges} edges, {incidents} incidents"));
    Ok(())
}

/// The text without control characters: the names in it come from the file.
fn shown(what: &dyn Display) -> String {
    printable(&what.to_string(), usize::MAX)
}
