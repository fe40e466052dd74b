//! The detectors on recorded traffic, whose faults are noted in the recordings.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use aether_bench::Recorded;

use crate::page::say;
use crate::{Outcome, goal};

/// A fault must be found in this time.
const FOUND_WITHIN: Duration = Duration::from_secs(10);
/// The time that the recordings leave for an incident to end.
const ENDED_WITHIN: Duration = Duration::from_secs(15);

/// Plays all recordings. Seeds have no meaning here.
pub(crate) fn run(_: Range<u64>) -> Outcome {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
    say!(
        "| recording | length, s | incidents/faults | false | found after, s | ended after, s | single findings |"
    );
    say!("|---|---|---|---|---|---|---|");
    let (mut faults, mut found, mut unended, mut false_incidents) = (0, 0, 0, 0);
    let (mut healthy, mut slowest) = (Duration::ZERO, Duration::ZERO);
    let (mut least, mut most) = (f64::INFINITY, 0.0f64);
    let (mut fewest, mut waves) = (u64::MAX, 0);
    for path in Recorded::list(&folder)? {
        let recorded = Recorded::play(&path)?;
        let seconds = |times: Vec<Option<Duration>>| {
            let text = |time: &Option<Duration>| {
                time.map_or("-".to_owned(), |time| format!("{:.1}", time.as_secs_f64()))
            };
            times.iter().map(text).collect::<Vec<_>>().join(", ")
        };
        let ended = recorded.faults.iter().map(|fault| fault.ended_after).collect();
        say!(
            "| {} | {:.0} | {}/{} | {} | {} | {} | {} |",
            recorded.name,
            recorded.length.as_secs_f64(),
            recorded.incidents.len(),
            recorded.faults.len(),
            recorded.false_incidents,
            seconds(recorded.faults.iter().map(|fault| fault.found_after).collect()),
            seconds(ended),
            recorded.findings
        );
        let a_wave = recorded.bytes as f64 / recorded.waves.max(1) as f64;
        (fewest, waves) = (fewest.min(recorded.waves), waves.max(recorded.waves));
        (least, most) = (least.min(a_wave), most.max(a_wave));
        faults += recorded.faults.len();
        let times: Vec<Duration> = recorded.faults.iter().filter_map(|fault| fault.found_after).collect();
        found += times.len();
        slowest = times.into_iter().fold(slowest, Duration::max);
        unended += recorded.unended(ENDED_WITHIN).count();
        false_incidents += recorded.false_incidents;
        if recorded.faults.is_empty() {
            healthy += recorded.length;
        }
    }
    say!("\nA recording has {fewest} to {waves} waves, of {least:.1} to {most:.1} bytes each.\n");
    say!("| goal | measured | wanted | reached |");
    say!("|---|---|---|---|");
    let minutes = healthy.as_secs_f64() / 60.0;
    let what = format!("incidents that no fault explains ({minutes:.0} healthy minutes, and all others)");
    goal(&what, false_incidents.to_string(), "0", false_incidents == 0);
    goal(
        "faults named by one incident",
        format!("{found} of {faults}"),
        "all",
        found == faults && faults > 0,
    );
    let is_quick = slowest <= FOUND_WITHIN && found == faults;
    goal("the slowest", format!("{:.1} s", slowest.as_secs_f64()), "<= 10 s", is_quick);
    goal("incidents that outlast their fault", unended.to_string(), "0", unended == 0);
    Ok(())
}
