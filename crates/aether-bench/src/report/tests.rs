use super::*;
use crate::losses::Losses;
use crate::outcome::{Handled, Heard};
use crate::pacer::Paced;
use crate::schedule::Phase;

const SECOND: Duration = Duration::from_secs(1);

fn schedule() -> Schedule {
    Schedule::poisson(&[Phase { rate: 1000.0, lasts: SECOND }], 0.2, 3).unwrap()
}

/// Everything handled 2 ms after it was due, except for messages that `is_lost` picks by number and arrival.
fn outcome(schedule: &Schedule, is_lost: impl Fn(usize, Strength) -> bool) -> Outcome {
    let start = 5_000_000;
    let handled = schedule
        .arrivals()
        .iter()
        .enumerate()
        .filter(|(number, arrival)| !is_lost(*number, arrival.strength))
        .map(|(number, arrival)| Handled { number: number as u32, done: start + arrival.due + 2_000_000 })
        .collect();
    let heard = Heard { handled, ..Heard::default() };
    let paced = Paced { sent: schedule.arrivals().len() as u64, late: 3 };
    Outcome { start, paced, lost: Default::default(), heard }
}

fn strong(schedule: &Schedule) -> u64 {
    schedule.arrivals().iter().filter(|arrival| arrival.strength == Strength::Strong).count() as u64
}

#[test]
fn a_run_without_losses_is_delivered_whole_at_its_latency() {
    let schedule = schedule();
    let report = Report::of("all", &schedule, &outcome(&schedule, |_, _| false), Some(2000.0)).unwrap();
    let all = schedule.arrivals().len() as f64;
    assert_eq!((report.strong.offered, report.strong.delivered), (strong(&schedule), strong(&schedule)));
    assert!(report.adds_up() && report.silent() == 0);
    assert!((report.offered_per_second - all).abs() < 1e-6);
    assert!((report.sent_late_percent - 300.0 / all).abs() < 1e-9);
    for account in [&report.strong, &report.weak] {
        for latency in [account.p50_us, account.p99_us, account.p999_us] {
            assert!((latency.unwrap() - 2000.0).abs() < 2.0, "{latency:?}");
        }
    }
    // Messages due in the last 2 ms were handled too late to count.
    let late = schedule.arrivals().iter().filter(|arrival| arrival.due > 998_000_000).count() as f64;
    assert!((report.goodput_percent.unwrap() - 100.0 * (all - late) / 2000.0).abs() < 1e-9);
    let both = report.strong.goodput_percent.unwrap() + report.weak.goodput_percent.unwrap();
    assert!((report.goodput_percent.unwrap() - both).abs() < 1e-9);
}

#[test]
fn what_was_counted_keeps_its_reason_and_what_nobody_counted_is_silent() {
    let schedule = schedule();
    // Every third message is lost; of the weak ones five were counted.
    let mut outcome = outcome(&schedule, |number, _| number % 3 == 0);
    let losses = Losses::default();
    for _ in 0..3 {
        losses.count(Strength::Weak, Loss::Refused);
    }
    outcome.lost = losses.so_far();
    let losses = Losses::default();
    for _ in 0..2 {
        losses.count(Strength::Weak, Loss::Sojourn);
    }
    outcome.heard.lost = losses.so_far();
    let report = Report::of("some", &schedule, &outcome, None).unwrap();
    assert!(report.adds_up());
    let weak = &report.weak;
    assert_eq!((weak.lost.of(Loss::Refused), weak.lost.of(Loss::Sojourn)), (3, 2));
    assert_eq!(weak.lost.of(Loss::Silent), weak.offered - weak.delivered - 5);
    assert_eq!(report.strong.lost.of(Loss::Silent), report.strong.offered - report.strong.delivered);
    assert!((report.weak.delivered_percent() - 66.7).abs() < 3.0);
    assert_eq!((report.goodput_percent, report.strong.goodput_percent), (None, None));
}

#[test]
fn a_number_of_missed_messages_explains_them_only_if_it_is_theirs() {
    let schedule = schedule();
    let mut outcome = outcome(&schedule, |number, _| number < 10);
    outcome.heard.lagged = 10;
    let report = Report::of("lagged", &schedule, &outcome, None).unwrap();
    assert_eq!(report.strong.lost.of(Loss::Lagged) + report.weak.lost.of(Loss::Lagged), 10);
    outcome.heard.lagged = 9;
    assert_eq!(Report::of("less", &schedule, &outcome, None).unwrap().silent(), 10);
}

#[test]
fn a_schedule_without_messages_is_a_report_of_nothing() {
    let nothing = Schedule::poisson(&[], 0.2, 3).unwrap();
    let report = Report::of("nothing", &nothing, &outcome(&nothing, |_, _| false), Some(1.0)).unwrap();
    assert_eq!((report.strong.offered, report.strong.p50_us), (0, None));
    assert!(report.adds_up() && (report.strong.delivered_percent() - 100.0).abs() < 1e-9);
}

#[test]
fn outcomes_that_contradict_themselves_are_errors() {
    let schedule = schedule();
    let whole = outcome(&schedule, |_, _| false);
    let refused = |change: fn(&mut Outcome)| {
        let mut outcome = whole.clone();
        change(&mut outcome);
        Report::of("wrong", &schedule, &outcome, None).unwrap_err()
    };
    assert_eq!(
        refused(|outcome| outcome.heard.handled[0].number = u32::MAX),
        ReportError::NeverSent { number: u32::MAX }
    );
    assert_eq!(
        refused(|outcome| outcome.heard.handled[1].number = outcome.heard.handled[0].number),
        ReportError::Twice { number: 0 }
    );
    let counted_too = refused(|outcome| {
        let losses = Losses::default();
        losses.count(Strength::Weak, Loss::Full);
        outcome.heard.lost = losses.so_far();
    });
    assert_eq!(counted_too, ReportError::TooManyLost { counted: 1, missing: 0 });
}
