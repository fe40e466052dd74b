//! The tables of the overload benchmark: in full for the command line, compared for docs/internals/benchmarks.md, in
//! short for the README.

use crate::losses::{Counts, Loss};
use crate::overload::Comparison;
use crate::report::{Account, Report};
use crate::storm::Storms;
use crate::table::{Table, latency, percent};

fn lost(counts: &Counts) -> String {
    let told = Loss::ALL.into_iter().filter(|loss| counts.of(*loss) > 0);
    let told: Vec<String> = told.map(|loss| format!("{} {}", counts.of(loss), loss.as_str())).collect();
    if told.is_empty() { "0".to_owned() } else { told.join(" + ") }
}

fn share(percentage: Option<f64>) -> String {
    percentage.map_or_else(|| "-".to_owned(), percent)
}

/// All figures: two lines for each run, strong and weak.
#[must_use]
pub fn in_full(comparison: &Comparison) -> Table {
    let mut table = Table::new(&[
        "load",
        "by",
        "waves",
        "offered",
        "delivered",
        "share",
        "p50",
        "p99",
        "p99.9",
        "goodput",
        "lost",
    ]);
    for run in &comparison.runs {
        for (strength, account) in [("strong", &run.report.strong), ("weak", &run.report.weak)] {
            table.row(cells(&format!("{}x", run.load), &run.report.contestant, strength, account));
        }
    }
    table
}

fn cells(load: &str, contestant: &str, strength: &str, account: &Account) -> Vec<String> {
    vec![
        load.to_owned(),
        contestant.to_owned(),
        strength.to_owned(),
        account.offered.to_string(),
        account.delivered.to_string(),
        percent(account.delivered_percent()),
        latency(account.p50_us),
        latency(account.p99_us),
        latency(account.p999_us),
        share(account.goodput_percent),
        lost(&account.lost),
    ]
}

/// One report without a load, as of the latency benchmark.
#[must_use]
pub fn latencies(report: &Report) -> Table {
    let mut table = Table::new(&["by", "offered/s", "offered", "delivered", "p50", "p99", "p99.9", "lost"]);
    let account = &report.weak;
    table.row([
        report.contestant.clone(),
        format!("{:.0}", report.offered_per_second),
        account.offered.to_string(),
        account.delivered.to_string(),
        latency(account.p50_us),
        latency(account.p99_us),
        latency(account.p999_us),
        lost(&account.lost),
    ]);
    table
}

/// One line for each run: the strong messages, and the cost.
#[must_use]
pub fn compared(comparison: &Comparison) -> Table {
    let mut table = Table::new(&[
        "load",
        "",
        "strong delivered",
        "strong p50",
        "strong p99",
        "strong p99.9",
        "weak delivered",
        "weak p99",
        "goodput",
        "lost, by reason",
    ]);
    for run in &comparison.runs {
        let Report { contestant, strong, weak, goodput_percent, .. } = &run.report;
        table.row([
            format!("{}x", run.load),
            contestant.clone(),
            percent(strong.delivered_percent()),
            latency(strong.p50_us),
            latency(strong.p99_us),
            latency(strong.p999_us),
            percent(weak.delivered_percent()),
            latency(weak.p99_us),
            share(*goodput_percent),
            lost(&strong.lost.plus(weak.lost)),
        ]);
    }
    table
}

/// The note about two mpsc channels, which perform as well here.
#[must_use]
pub fn what_two_queues_lack() -> &'static str {
    "Two channels and a biased `select!` are what a careful user builds, and for two strengths, one process and one \
     receiver they do what is asked. Aether adds: 64 levels instead of two; one bound for all of them, also in bytes; \
     an overloaded inbox drops the weakest that waits where a channel refuses the newest; a time limit for what waits; an \
     account of every loss with its reason; patterns, groups and many receivers; and the same over a network."
}

/// The strong p99 and the delivered strong messages in each window around the step.
#[must_use]
pub fn steps(comparison: &Comparison) -> Table {
    let windows = comparison.steps.first().map_or(&[][..], |step| &step.windows);
    let head: Vec<String> = windows.iter().map(|window| format!("{:+.0} ms", window.from_ms)).collect();
    let head: Vec<&str> = ["strong p99 from"].into_iter().chain(head.iter().map(String::as_str)).collect();
    let mut table = Table::new(&[&head[..], &["delivered after the step"]].concat());
    for step in &comparison.steps {
        let cells = step.windows.iter().map(|window| latency(window.p99_us));
        let after = step.windows.iter().filter(|window| window.from_ms >= 0.0);
        let (offered, delivered) =
            after.fold((0, 0), |sum, window| (sum.0 + window.offered, sum.1 + window.delivered));
        let share = if offered == 0 { 100.0 } else { 100.0 * delivered as f64 / offered as f64 };
        table.row([step.contestant.clone()].into_iter().chain(cells).chain([percent(share)]));
    }
    table
}

/// The highest load, as a short table.
#[must_use]
pub fn summary(comparison: &Comparison) -> Table {
    let most = comparison.runs.iter().map(|run| run.load).fold(0.0, f64::max);
    let title = format!("at {most} times what the receiver can take");
    let mut table = Table::new(&[&title, "important delivered", "their p99", "who learns what was lost"]);
    for run in comparison.runs.iter().filter(|run| run.load >= most) {
        let Report { contestant, strong, weak, .. } = &run.report;
        let lost = strong.lost.plus(weak.lost);
        let told = [
            (Loss::Refused, "the sender: each one"),
            (Loss::Full, "the ledger: each one, with its reason"),
            (Loss::Sojourn, "the ledger: each one, with its reason"),
            (Loss::Lagged, "the receiver: how many"),
            (Loss::Silent, "nobody"),
        ];
        // The most frequent reason of loss.
        let told = told.into_iter().max_by_key(|(loss, _)| lost.of(*loss));
        let told = told.filter(|(loss, _)| lost.of(*loss) > 0).map_or("nothing was lost", |(_, who)| who);
        table.row([
            contestant.clone(),
            percent(strong.delivered_percent()),
            latency(strong.p99_us),
            told.to_owned(),
        ]);
    }
    table
}

/// Goodput over time, a column for each retry policy, two windows per line.
#[must_use]
pub fn storm_windows(storms: &Storms) -> Table {
    let names: Vec<String> =
        storms.reports.iter().map(|report| format!("{} retries", report.retries.as_str())).collect();
    let head: Vec<&str> =
        ["seconds after the fault"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let mut table = Table::new(&head);
    let windows = storms.reports.iter().map(|report| report.windows.len()).min().unwrap_or(0);
    for index in 0..windows {
        let from = storms.reports[0].windows[index].from_s;
        let cells = storms.reports.iter().map(|report| percent(report.windows[index].percent()));
        table.row([format!("{from:+.2}")].into_iter().chain(cells));
    }
    table
}

/// The results, a line for each retry policy.
#[must_use]
pub fn storm_ends(storms: &Storms) -> Table {
    let mut table =
        Table::new(&["retries", "asked", "answered", "failed", "attempts", "95 % in time again after"]);
    for report in &storms.reports {
        table.row([
            report.retries.as_str().to_owned(),
            report.asked.to_string(),
            report.answered.to_string(),
            report.failed.to_string(),
            report.attempts.to_string(),
            report.back_after_s.map_or_else(|| "never".to_owned(), |seconds| format!("{seconds:.2} s")),
        ]);
    }
    table
}

/// The measurement, in a sentence.
#[must_use]
pub fn conditions(comparison: &Comparison) -> String {
    let Comparison { service_us, capacity, stalls, seconds, rounds, strong, seed, payload_bytes, .. } =
        comparison;
    format!(
        "Handler: {service_us:.0} us a message, {capacity:.0} a second; {:.0} % strong, {seconds} s a load in \
         each of {rounds} rounds, of which the median is shown; {payload_bytes} bytes a message, seed {seed}.\n\
         {stalls}\n\
         Sent more than 1 ms late, because the sender itself was held up, in the worst run: {}.",
        strong * 100.0,
        sent_late(comparison)
    )
}

/// The maximum over all loads for each contestant.
fn sent_late(comparison: &Comparison) -> String {
    let mut most: Vec<(&str, f64)> = Vec::new();
    for Report { contestant, sent_late_percent: late, .. } in comparison.runs.iter().map(|run| &run.report) {
        match most.iter_mut().find(|(name, _)| name == contestant) {
            Some((_, most)) => *most = most.max(*late),
            None => most.push((contestant, *late)),
        }
    }
    if most.is_empty() {
        return "none has ended".to_owned();
    }
    let most = most.iter().map(|(name, late)| format!("{name} {}", percent(*late)));
    most.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::overload::{Run, Step};
    use crate::stalls::Stalls;
    use crate::windows::Window;

    pub(crate) fn comparison() -> Comparison {
        let account = |delivered: u64, loss: Loss| {
            let mut lost = Counts::default();
            lost.add(loss, 100 - delivered);
            Account {
                offered: 100,
                delivered,
                lost,
                p50_us: Some(80.0),
                p99_us: Some(900.0),
                p999_us: Some(2500.0),
                goodput_percent: Some(49.5),
            }
        };
        let run = |load: f64, contestant: &str, strong: u64, weak: u64, loss: Loss| Run {
            load,
            report: Report {
                contestant: contestant.to_owned(),
                offered_per_second: 200.0,
                sent_late_percent: load / 4.0,
                strong: account(strong, loss),
                weak: account(weak, loss),
                goodput_percent: Some(99.0),
            },
        };
        let window =
            |from_ms: f64, delivered| Window { from_ms, offered: 10, delivered, p99_us: Some(300.0) };
        Comparison {
            service_us: 50.0,
            capacity: 19_800.0,
            stalls: Stalls {
                seconds: 2.0,
                threads: 2,
                count: 3,
                lost_ms: 14.0,
                longest_ms: 8.2,
                waited_ms: Some(9.5),
            },
            seconds: 3.0,
            rounds: 3,
            strong: 0.05,
            seed: 1,
            payload_bytes: 128,
            complete: true,
            runs: vec![
                run(0.5, "tokio mpsc", 100, 100, Loss::Refused),
                run(0.5, "Aether", 100, 100, Loss::Full),
                run(10.0, "tokio mpsc", 10, 10, Loss::Refused),
                run(10.0, "Aether", 100, 5, Loss::Full),
            ],
            steps: vec![Step {
                contestant: "Aether".to_owned(),
                loads: (0.5, 5.0),
                windows: vec![window(-50.0, 10), window(0.0, 10), window(50.0, 9)],
            }],
        }
    }

    #[test]
    fn each_run_has_its_lines_with_its_own_figures() {
        let full = in_full(&comparison()).to_string();
        assert_eq!(full.lines().count(), 9, "{full}");
        let line = full.lines().find(|line| line.starts_with(" 10x") && line.contains("weak")).unwrap();
        let cells: Vec<&str> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(
            cells,
            [
                "10x",
                "tokio mpsc",
                "weak",
                "100",
                "10",
                "10 %",
                "80 us",
                "900 us",
                "2.50 ms",
                "49.5 %",
                "90 refused"
            ]
        );
        let markdown = compared(&comparison()).markdown();
        let aether = "| 10x | Aether | 100 % | 80 us | 900 us | 2.50 ms | 5 % | 900 us | 99 % | 95 full |";
        assert!(markdown.contains(aether), "{markdown}");
    }

    #[test]
    fn the_step_shows_its_windows_and_what_was_delivered_after_it() {
        let markdown = steps(&comparison()).markdown();
        assert!(
            markdown.starts_with("| strong p99 from | -50 ms | +0 ms | +50 ms | delivered after"),
            "{markdown}"
        );
        assert!(markdown.contains("| Aether | 300 us | 300 us | 300 us | 95 % |"), "{markdown}");
    }

    #[test]
    fn the_summary_is_of_the_highest_load_and_says_who_knows() {
        let markdown = summary(&comparison()).markdown();
        assert_eq!(markdown.lines().count(), 4, "{markdown}");
        assert!(markdown.contains("at 10 times"), "{markdown}");
        assert!(markdown.contains("| tokio mpsc | 10 % | 900 us | the sender: each one |"), "{markdown}");
        assert!(markdown.contains("| Aether | 100 % | 900 us | the ledger: each one"), "{markdown}");
    }

    #[test]
    fn a_storm_is_shown_over_time_and_how_it_ended() {
        use crate::storm::{Retries, StormReport, StormWindow};
        let report = |retries, in_time, back_after_s| StormReport {
            retries,
            asked: 20,
            answered: 15,
            failed: 5,
            attempts: 30,
            back_after_s,
            windows: vec![
                StormWindow { from_s: -0.25, asked: 10, in_time: 0 },
                StormWindow { from_s: 0.0, asked: 10, in_time },
            ],
        };
        let storms = Storms {
            capacity: 1600.0,
            load: 0.8,
            fault_s: 5.0,
            seed: 1,
            complete: true,
            reports: vec![report(Retries::Bounded, 10, Some(0.0)), report(Retries::Naive, 1, None)],
        };
        let windows = storm_windows(&storms).markdown();
        assert!(windows.contains("| -0.25 | 0 % | 0 % |\n| +0.00 | 100 % | 10 % |"), "{windows}");
        let ends = storm_ends(&storms).markdown();
        assert!(ends.contains("| bounded | 20 | 15 | 5 | 30 | 0.00 s |"), "{ends}");
        assert!(ends.contains("| naive | 20 | 15 | 5 | 30 | never |"), "{ends}");
    }

    #[test]
    fn the_conditions_are_those_of_the_runs() {
        let text = conditions(&comparison());
        for part in [
            "50 us",
            "19800 a second",
            "5 % strong",
            "3 s a load",
            "seed 1",
            "9.5 ms other",
            "tokio mpsc 2.5 %, Aether 2.5 %",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn the_json_has_every_reason_and_the_accounts_add_up() {
        let json = serde_json::to_value(comparison()).unwrap();
        let run = &json["runs"][2];
        assert_eq!((run["load"].as_f64(), run["contestant"].as_str()), (Some(10.0), Some("tokio mpsc")));
        for strength in ["strong", "weak"] {
            let account = &run[strength];
            let lost: u64 = account["lost"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
            assert_eq!(account["offered"].as_u64().unwrap(), account["delivered"].as_u64().unwrap() + lost);
            assert_eq!(account["lost"].as_object().unwrap().len(), Loss::ALL.len());
        }
    }
}
