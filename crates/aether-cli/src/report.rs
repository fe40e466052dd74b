//! `aether report`: the losses with their places and reasons, the accounts, and the incidents, from the archive of a
//! gateway.

use std::cmp::Reverse;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aether_gateway::{Archive, ArchivedAccount, ArchivedIncident, ArchivedSpan};
use serde_json::json;

use crate::error::CommandError;
use crate::output::Output;
use crate::record::printable;

/// Print what was lost, where and why, and the incidents, from the archive of a gateway
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReportArgs {
    /// The archive, which `aether gateway --archive FILE` writes
    archive: PathBuf,
    /// How far to look back, such as 1d, 12h or 30min. Minutes are kept for a day, hours for 90 days
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = humantime::parse_duration)]
    since: Duration,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// The longest text of the archive that is printed, in characters: its names come from the network.
const MOST: usize = 300;

const EXAMPLES: &str = "\
Examples:
  aether gateway --archive history.redb
  aether report history.redb --since 1d

It may run beside the gateway, which writes each minute when it is over.";

impl ReportArgs {
    pub(crate) fn run(self) -> Result<(), CommandError> {
        let from = SystemTime::now().checked_sub(self.since).unwrap_or(UNIX_EPOCH);
        let archived = Archive::new(self.archive).since(from)?;
        let mut all = ArchivedSpan::default();
        archived.spans.iter().for_each(|span| all.add(span));
        all.lost.sort_by_key(|lost| Reverse(lost.waves));
        all.accounts.sort_by_key(|account| Reverse((account.lost, account.offered)));
        let mut output = Output::stdout();
        if self.json {
            output.line(json!({
                "since_unix_seconds": unix_seconds(from),
                "observed_seconds": all.seconds,
                "waves": all.waves,
                "payload_bytes": all.payload_bytes,
                "lost_waves": all.lost_waves(),
                "lost": all.lost,
                "accounts": all.accounts,
                "incidents": archived.incidents,
                "spans": archived.spans,
            }))?;
            return Ok(());
        }
        output.line(format_args!(
            "since {}: observed for {}",
            time(unix_seconds(from)),
            humantime::format_duration(Duration::from_secs(all.seconds))
        ))?;
        let per_second = all.waves as f64 / all.seconds.max(1) as f64;
        output.line(format_args!("waves: {}, {per_second:.1} a second", all.waves))?;
        losses(&mut output, &all, &archived.spans)?;
        accounts(&mut output, &all.accounts)?;
        incidents(&mut output, &archived.incidents)
    }
}

fn losses(output: &mut Output, all: &ArchivedSpan, spans: &[ArchivedSpan]) -> Result<(), CommandError> {
    if all.lost.is_empty() {
        output.line("lost: nothing")?;
        return Ok(());
    }
    output.line(format_args!("lost: {} waves", all.lost_waves()))?;
    for lost in &all.lost {
        let (program, reason) = (printable(&lost.program, MOST), printable(&lost.reason, MOST));
        output.line(format_args!(
            "{:>12}  {program} {}: {reason}",
            lost.waves,
            printable(&lost.queue, MOST)
        ))?;
    }
    if let Some(worst) = spans.iter().max_by_key(|span| span.lost_waves()) {
        output.line(format_args!(
            "most of them from {}: {} in {}",
            time(worst.begin_unix_seconds),
            worst.lost_waves(),
            humantime::format_duration(Duration::from_secs(worst.seconds))
        ))?;
    }
    Ok(())
}

/// A line for each place, with numbers that add up.
fn accounts(output: &mut Output, accounts: &[ArchivedAccount]) -> Result<(), CommandError> {
    for account in accounts {
        let ArchivedAccount { program, queue, offered, delivered, lost, queued, .. } = account;
        output.line(format_args!(
            "{} {}: {offered} offered = {delivered} delivered + {lost} lost + {queued} more queued",
            printable(program, MOST),
            printable(queue, MOST)
        ))?;
    }
    Ok(())
}

fn incidents(output: &mut Output, incidents: &[ArchivedIncident]) -> Result<(), CommandError> {
    if incidents.is_empty() {
        output.line("incidents: none")?;
        return Ok(());
    }
    output.line(format_args!("incidents: {}", incidents.len()))?;
    for incident in incidents {
        let lasted = humantime::format_duration(Duration::from_secs(incident.seconds.max(0.0) as u64));
        let open = if incident.is_open { ", not ended when it was written last" } else { "" };
        let (severity, text) = (printable(&incident.severity, MOST), printable(&incident.text, MOST));
        output.line(format_args!(
            "  {}  {severity}, {lasted}{open}: {text}",
            time(incident.begin_unix_ms / 1000)
        ))?;
    }
    Ok(())
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// In UTC.
fn time(unix_seconds: u64) -> String {
    match UNIX_EPOCH.checked_add(Duration::from_secs(unix_seconds)) {
        Some(time) => humantime::format_rfc3339_seconds(time).to_string(),
        None => format!("{unix_seconds} s after 1970"),
    }
}
