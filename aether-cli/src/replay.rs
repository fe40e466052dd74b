//! `aether physics --replay`: runs the detectors on a recording.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use aether_core::physics::{PhysicsEngine, Played, RecordingPlayer, RecordingReader};

use crate::error::CommandError;
use crate::output::{Output, stderr_line};

/// Plays a recording and prints what is found in it, with the time since its beginning.
pub(crate) fn replay(file: &Path) -> Result<(), CommandError> {
    let open = |source| CommandError::Open { path: file.to_owned(), source };
    let reader = RecordingReader::new(File::open(file).map_err(open)?)?;
    let mut player = RecordingPlayer::new(reader, PhysicsEngine::default());
    let mut output = Output::stdout();
    while let Some(played) = player.next() {
        let (at, played) = played?;
        match played {
            Played::Finding(finding) => output.line(format_args!("{} {finding}", clock(at)))?,
            Played::Incident(incident) => output.line(format_args!("{} ## {incident}", clock(at)))?,
            Played::Fault { fault, begins } => {
                let verb = if begins { "begins" } else { "ends" };
                output.line(format_args!("{} -- fault {verb}: {} {}", clock(at), fault.kind, fault.service))?;
            }
            _ => {}
        }
    }
    let edges = player.report().map.edges.len();
    stderr_line(format_args!("{} waves in {}, {edges} edges", player.waves(), clock(player.length())));
    Ok(())
}

/// The time since the beginning, in seconds.
fn clock(at: Duration) -> String {
    format!("{:9.3} s", at.as_secs_f64())
}
