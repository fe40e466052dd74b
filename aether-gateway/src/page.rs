//! The status page without scripts, `/status`: the status as HTML, for text browsers and where scripts are off.
//!
//! Plain HTML, which reloads every two seconds. The template escapes every value, because the names of
//! channels and vibrators come from the network and can contain anything.

use std::time::Duration;

use aether_core::Floor;
use askama::Template;

use crate::readiness::Readiness;
use crate::status::{LedgerLine, Status};

/// The maximum number of rows in a table of findings.
const MOST_ROWS: usize = 100;
const MOST_FINDINGS: usize = 20;

#[derive(Template)]
#[template(path = "status.html")]
struct Page<'a> {
    status: &'a Status,
}

pub(crate) fn render(status: &Status) -> Result<String, askama::Error> {
    Page { status }.render()
}

impl Page<'_> {
    fn is_ready(&self) -> bool {
        self.status.readiness == Readiness::Ready
    }

    fn uptime(&self) -> String {
        duration(&self.status.uptime_seconds)
    }

    /// The refusals of data from the network, without zeros.
    fn refused(&self) -> Vec<(u64, &'static str)> {
        let (medium, roster) = (&self.status.medium, &self.status.roster);
        let all = [
            (medium.implausible_messages, "messages that said what cannot be true"),
            (self.status.reflected.refused_echoes, "echoes of waves that never were"),
            (roster.implausible_announcements, "contradictory announcements"),
            (roster.left_out_announcements, "announcements too many"),
            (medium.stray_answers, "answers that nobody waited for"),
            (medium.forgotten_streams, "streams of senders too many, whose losses may not be counted"),
        ];
        all.into_iter().filter(|(number, _)| *number > 0).collect()
    }

    fn rate(&self) -> String {
        let rate = self.status.observed.waves_per_second;
        if rate < 10.0 { format!("{rate:.1}") } else { count(&(rate.round() as u64)) }
    }
}

/// The losses by reason, without zeros. A column for each reason would be too wide.
fn losses(ledger: &LedgerLine) -> Vec<(u64, String)> {
    let shed = ledger.0.losses().map(|(reason, waves)| (waves, reason.as_str().replace('_', " ")));
    let lost = shed.into_iter().chain([(ledger.0.lost_upstream, "lost upstream".to_owned())]);
    lost.filter(|(waves, _)| *waves > 0).collect()
}

/// A number with thin spaces between thousands.
fn count(number: &u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{2009}');
        }
        text.push(digit);
    }
    text
}

fn bytes(number: &u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut size = *number as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{number} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}

/// A duration in its two largest units.
fn duration(seconds: &f64) -> String {
    let whole = Duration::try_from_secs_f64(*seconds).unwrap_or_default().as_secs();
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if *seconds < 10.0 => format!("{seconds:.1} s"),
        (0, 0, 0) => format!("{whole} s"),
        (0, 0, _) => format!("{minutes} min {} s", whole % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// A duration that can be short.
fn brief(time: &Duration) -> String {
    let text = format!("{time:.2?}");
    let unit = text.find(char::is_alphabetic).unwrap_or(text.len());
    format!("{} {}", &text[..unit], &text[unit..])
}

fn floor(floor: &Floor) -> String {
    if floor.is_open() { "open".to_owned() } else { format!("{:.3}", floor.as_f32()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_human_readable() {
        assert_eq!(count(&1_234_567), "1\u{2009}234\u{2009}567");
        assert_eq!((count(&0), count(&999)), ("0".to_owned(), "999".to_owned()));
        assert_eq!((bytes(&1023), bytes(&1536)), ("1023 B".to_owned(), "1.5 KiB".to_owned()));
        assert_eq!(bytes(&u64::MAX), "17179869184.0 GiB");
        assert_eq!((duration(&0.04), duration(&59.9)), ("0.0 s".to_owned(), "59 s".to_owned()));
        let brief = |nanos| brief(&Duration::from_nanos(nanos));
        assert_eq!((brief(75_540), brief(50_010_000)), ("75.54 µs".to_owned(), "50.01 ms".to_owned()));
        assert_eq!((duration(&61.0), duration(&90_000.0)), ("1 min 1 s".to_owned(), "1 d 1 h".to_owned()));
    }
}
