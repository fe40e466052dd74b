//! When a wave is due: once, at intervals, or by a calendar.
//!
//! It is only arithmetic of times; [`Schedules`](crate::Schedules) keeps schedules.

use std::fmt;
use std::time::{Duration, SystemTime};

use aether_core::Channel;
use aether_core::clock::wall_time;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// The shortest interval of a schedule.
pub(crate) const SHORTEST: Duration = Duration::from_secs(1);

/// When the waves of a schedule are due.
///
/// ```
/// use std::time::Duration;
/// use aether_log::Schedule;
///
/// let nightly = Schedule::cron("0 3 * * *", "Europe/Berlin")?;
/// assert_eq!(nightly.to_string(), "0 3 * * * Europe/Berlin");
/// assert_eq!(Schedule::every(Duration::from_secs(90)).to_string(), "@every 90s");
/// # Ok::<(), aether_log::CronError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(pub(crate) Rule);

/// A schedule of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scheduled {
    /// Its key.
    pub key: String,
    /// When its waves are due.
    pub schedule: Schedule,
    /// The next time. In JetStream this process works it out, because the server does not tell.
    pub next: SystemTime,
    /// The channel of its waves.
    pub channel: Channel,
}

/// The form in files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Rule {
    /// In microseconds since 1970.
    At(u64),
    Every(Duration),
    /// Five fields, and the name of a time zone. Both were checked.
    Cron(String, String),
}

/// Why a text cannot be read as a schedule.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CronError {
    /// The expression is not one of cron.
    #[error(
        "{expression:?} cannot be a schedule: use five fields (minute, hour, day of the month, month, day of the week) of \
         numbers, names, `*`, lists, ranges and steps, or @hourly, @daily, @weekly, @monthly, @yearly"
    )]
    Expression {
        /// The expression.
        expression: String,
        /// Why, if the fields have the right form.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The time zone is not known.
    #[error("there is no time zone {zone:?}: use a name of IANA, such as Europe/Berlin or UTC")]
    Zone {
        /// The name.
        zone: String,
    },
}

impl Schedule {
    /// Once, at this time of day. A time that has passed is now.
    #[must_use]
    pub fn at(time: SystemTime) -> Self {
        Self(Rule::At(micros(time)))
    }

    /// Once, after this time.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        let now = wall_time();
        Self::at(now.checked_add(time).unwrap_or(now))
    }

    /// Regularly, the first time after one interval. An interval of less than a second is refused when the schedule is
    /// put.
    #[must_use]
    pub const fn every(interval: Duration) -> Self {
        Self(Rule::Every(interval))
    }

    /// By a calendar: five fields as in crontab(5), and a time zone by its IANA name. Sunday is 0 or 7. If both days are
    /// restricted, either is enough. Or one of `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly` and
    /// `@annually`.
    ///
    /// A time that a clock skips in spring is due right after the gap, and a time that it has twice in autumn is due the
    /// first time. With `*` or steps in minutes or hours, the skipped times are left out, and the repeated ones are due
    /// twice. In JetStream the server decides: there a skipped time is left out, and a repeated one is due twice.
    ///
    /// # Errors
    /// [`CronError`]: the expression or the time zone is not valid, or no day has such a date.
    pub fn cron(expression: &str, zone: &str) -> Result<Self, CronError> {
        let fields = match expression.trim() {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            fields => fields,
        };
        let fields = fields.split_whitespace().collect::<Vec<_>>().join(" ");
        let refused = |source| CronError::Expression { expression: expression.to_owned(), source };
        // The library knows more than cron does: `L`, `W`, `#` and `?`, and lists of nothing.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"*,-/ ".contains(&byte);
        let mut words = fields.split(|letter: char| !letter.is_ascii_alphabetic());
        if !fields.bytes().all(is_plain) || !words.all(|word| matches!(word.len(), 0 | 3)) {
            return Err(refused(None));
        }
        let cron = parser().parse(&fields).map_err(|error| refused(Some(error.into())))?;
        let known = TimeZone::get(zone).map_err(|_| CronError::Zone { zone: zone.to_owned() })?;
        let now = Timestamp::try_from(wall_time()).unwrap_or_default().to_zoned(known);
        // A date that does not exist, such as the 30th of February.
        cron.find_next_occurrence(&now, false).map_err(|error| refused(Some(error.into())))?;
        Ok(Self(Rule::Cron(fields, zone.to_owned())))
    }

    /// The form that a NATS server reads, and the time zone. Its fields begin with the seconds, and its week ends with 6.
    #[cfg(feature = "jetstream")]
    pub(crate) fn of_server(&self) -> (String, Option<&str>) {
        match &self.0 {
            Rule::Cron(fields, zone) => {
                let (first, week) = fields.rsplit_once(' ').unwrap_or_default();
                (format!("0 {first} {}", week_of_server(week)), Some(zone))
            }
            _ => (self.to_string(), None),
        }
    }

    /// Whether there is more than one time.
    #[must_use]
    pub const fn is_regular(&self) -> bool {
        !matches!(self.0, Rule::At(_))
    }

    /// The interval, if it has one.
    pub(crate) const fn interval(&self) -> Option<Duration> {
        match self.0 {
            Rule::Every(interval) => Some(interval),
            _ => None,
        }
    }

    /// The first time, in microseconds since 1970, of a schedule that begins now.
    pub(crate) fn first(&self, now: u64) -> Option<u64> {
        match &self.0 {
            Rule::At(time) => Some(*time),
            Rule::Every(interval) => now.checked_add(u64::try_from(interval.as_micros()).ok()?),
            Rule::Cron(fields, zone) => next_of(fields, zone, now),
        }
    }

    /// The next time after now, when one time of the schedule was `due`. Times that were missed are left out.
    pub(crate) fn next(&self, due: u64, now: u64) -> Option<u64> {
        match &self.0 {
            Rule::At(_) => None,
            Rule::Every(interval) => {
                let interval = u64::try_from(interval.as_micros()).ok()?.max(1);
                let missed = now.saturating_sub(due) / interval;
                due.checked_add(interval.checked_mul(missed + 1)?)
            }
            Rule::Cron(fields, zone) => next_of(fields, zone, now.max(due)),
        }
    }
}

/// Days of the week with Sunday as 0 only: a range to 7 becomes a list.
#[cfg(feature = "jetstream")]
fn week_of_server(field: &str) -> String {
    let days = field.split(',').map(|part| {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let number = |day: &str| {
            let names = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
            let named = names.iter().position(|name| day.eq_ignore_ascii_case(name));
            named.or_else(|| day.parse().ok())
        };
        match (number(from), number(to), step.parse()) {
            (Some(from), Some(7), Ok(step @ 1..)) => {
                let days = (from..=7).step_by(step).map(|day| (day % 7).to_string());
                days.collect::<Vec<_>>().join(",")
            }
            _ => part.to_owned(),
        }
    });
    days.collect::<Vec<_>>().join(",")
}

fn parser() -> CronParser {
    CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build()
}

fn next_of(fields: &str, zone: &str, after: u64) -> Option<u64> {
    let after = Timestamp::from_microsecond(i64::try_from(after).ok()?).ok()?;
    let cron: Cron = parser().parse(fields).ok()?;
    let next = cron.find_next_occurrence(&after.to_zoned(TimeZone::get(zone).ok()?), false).ok()?;
    u64::try_from(next.timestamp().as_microsecond()).ok()
}

/// In microseconds since 1970.
pub(crate) fn micros(time: SystemTime) -> u64 {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX)
}

/// The time of these microseconds since 1970.
pub(crate) fn time(micros: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(micros)).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The form that NATS servers read for single times and intervals: `@at` with RFC 3339, and `@every`. A calendar is its
/// five fields, and its time zone.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Rule::At(micros) => {
                let time =
                    i64::try_from(*micros).ok().and_then(|micros| Timestamp::from_microsecond(micros).ok());
                write!(f, "@at {}", time.unwrap_or(Timestamp::MAX))
            }
            Rule::Every(interval) => write!(f, "@every {interval:?}"),
            Rule::Cron(fields, zone) => write!(f, "{fields} {zone}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros_of(text: &str) -> u64 {
        let zoned: jiff::Zoned = text.parse().unwrap();
        u64::try_from(zoned.timestamp().as_microsecond()).unwrap()
    }

    /// The next times after one, in the time zone of Berlin.
    fn times(expression: &str, after: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::cron(expression, "Europe/Berlin").unwrap();
        let mut now = micros_of(after);
        let mut times = Vec::new();
        for _ in 0..count {
            now = schedule.first(now).unwrap();
            let time = Timestamp::from_microsecond(i64::try_from(now).unwrap()).unwrap();
            let time = time.to_zoned(TimeZone::get("Europe/Berlin").unwrap());
            times.push(time.strftime("%a %m-%d %H:%M%:z").to_string());
        }
        times
    }

    #[test]
    fn an_hour_that_the_clock_skips_is_made_up_for_and_one_that_it_has_twice_counts_once() {
        let spring = "2026-03-28T12:00:00[Europe/Berlin]";
        assert_eq!(times("30 2 * * *", spring, 2), ["Sun 03-29 03:00+02:00", "Mon 03-30 02:30+02:00"]);
        assert_eq!(times("*/30 2 * * *", spring, 1), ["Mon 03-30 02:00+02:00"]);
        let autumn = "2026-10-24T12:00:00[Europe/Berlin]";
        assert_eq!(times("30 2 * * *", autumn, 2), ["Sun 10-25 02:30+02:00", "Mon 10-26 02:30+01:00"]);
        let hourly = times("15 * * * *", "2026-10-25T01:20:00[Europe/Berlin]", 3);
        assert_eq!(hourly, ["Sun 10-25 02:15+02:00", "Sun 10-25 02:15+01:00", "Sun 10-25 03:15+01:00"]);
    }

    #[test]
    fn days_have_their_usual_numbers_and_either_day_is_enough() {
        let start = "2026-06-01T00:00:00[Europe/Berlin]";
        for sunday in ["0 0 * * 0", "0 0 * * 7", "0 0 * * sun", "@weekly"] {
            assert_eq!(times(sunday, start, 1), ["Sun 06-07 00:00+02:00"], "{sunday}");
        }
        assert_eq!(times("0 0 3 * fri", start, 2), ["Wed 06-03 00:00+02:00", "Fri 06-05 00:00+02:00"]);
    }

    #[test]
    fn what_cron_does_not_know_is_refused() {
        for expression in [
            "",
            "* * * *",
            "* * * * * *",
            "61 * * * *",
            "0 0 L * *",
            "0 0 * * 1#2",
            "0 0 30 2 *",
            "@often",
            "0 0 * * ?",
        ] {
            let refused = Schedule::cron(expression, "UTC");
            assert!(matches!(refused, Err(CronError::Expression { .. })), "{expression:?}: {refused:?}");
        }
        assert!(matches!(Schedule::cron("@daily", "Europe/Atlantis"), Err(CronError::Zone { .. })));
    }

    #[test]
    fn times_that_were_missed_are_left_out() {
        let every = Schedule::every(Duration::from_secs(10));
        assert_eq!(every.first(5_000_000), Some(15_000_000));
        assert_eq!(every.next(15_000_000, 15_000_001), Some(25_000_000));
        assert_eq!(every.next(15_000_000, 61_000_000), Some(65_000_000), "on its grid");
        assert_eq!(every.next(15_000_000, 0), Some(25_000_000), "a clock that went back");
        let at = Schedule::at(time(7));
        assert_eq!((at.first(9), at.next(7, 9)), (Some(7), None));
    }

    #[cfg(feature = "jetstream")]
    #[test]
    fn a_server_gets_the_same_days_of_the_week() {
        let of = |week: &str| Schedule::cron(&format!("5 4 * * {week}"), "UTC").unwrap().of_server().0;
        assert_eq!(of("7"), "0 5 4 * * 0");
        assert_eq!(of("mon,5-7"), "0 5 4 * * mon,5,6,0");
        assert_eq!(of("1-7/3"), "0 5 4 * * 1,4,0");
        assert_eq!(of("1-5"), "0 5 4 * * 1-5");
    }
}
