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
    say!("| recording | incidents/faults | false | found after, s | ended after, s |");
    say!("|---|---|---|---|---|");
    let (mut faults, mut found, mut unended, mut false_incidents) = (0, 0, 0, 0);
    let (mut healthy, mut slowest) = (Duration::ZERO, Duration::ZERO);
    let mut sizes = Vec::new();
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
            "| {} | {}/{} | {} | {} | {} |",
            recorded.name,
            recorded.incidents.len(),
            recorded.faults.len(),
            recorded.false_incidents,
            seconds(recorded.faults.iter().map(|fault| fault.found_after).collect()),
            seconds(ended),
        );
        let a_wave = recorded.bytes as f64 / recorded.waves.max(1) as f64;
        sizes.push([recorded.waves as f64, recorded.length.as_secs_f64(), a_wave, recorded.findings as f64]);
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
    let range = |size: usize| {
        let of = || sizes.iter().map(|sizes| sizes[size]);
        (of().fold(f64::INFINITY, f64::min), of().fold(0.0, f64::max))
    };
    let [waves, length, bytes, findings] = [0, 1, 2, 3].map(range);
    say!(
        "\nA recording has {} to {} waves in {:.0} to {:.0} s, {:.1} to {:.1} bytes each, and {} to {} single findings.\n",
        waves.0,
        waves.1,
        length.0,
        length.1,
        bytes.0,
        bytes.1,
        findings.0,
        findings.1
    );
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
