//! The verdict: the conditions that must hold at the end, printed line by line.

use crate::forger::Forged;
use crate::jobs::Jobs;
use crate::memory::Memory;
use crate::receiver::Received;
use crate::sender::Sent;
use crate::{Args, Outcome, Part};

/// The checks and the failures.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    failures: Vec<String>,
}

impl Verdict {
    fn check(&mut self, holds: bool, what: String) {
        println!("{} {what}", if holds { "ok    " } else { "FAILED" });
        if !holds {
            self.failures.push(what);
        }
    }

    /// Checks that the ledgers of sender and receiver balance to the wave.
    pub(crate) fn of_overload(&mut self, kills: u64, sent: Sent, received: Received) {
        let strong = 100.0 * received.strong as f64 / sent.strong.max(1) as f64;
        println!(
            "\nthe server was killed {kills} times; sender connected {} times, receiver {}; unconfirmed: at most {}",
            sent.connects, received.connects, sent.unconfirmed
        );
        println!(
            "sender:   {} offered = {} delivered + {} shed + {} queued",
            sent.offered, sent.delivered, sent.lost, sent.queued
        );
        println!("receiver: {}", account(&received));
        println!("strong:   {} emitted, {} received ({strong:.2} %)", sent.strong, received.strong);
        self.check(sent.emitted == sent.offered, "the outbox was offered what was emitted".into());
        let adds_up = sent.offered == sent.delivered + sent.lost + sent.queued;
        self.check(adds_up, "the sender's account adds up".into());
        self.check(received.adds_up, "the receiver's account adds up".into());
        let whole = sent.lost + sent.queued + accounted(&received);
        let what = format!("together they add up to the wave: {} = {whole}", sent.emitted);
        self.check(sent.emitted == whole, what);
        self.of_receiving("receiver", &received);
        let is_same = received.missing == received.lost_upstream;
        self.check(is_same, "the medium counts the same losses".into());
    }

    fn of_receiving(&mut self, name: &str, received: &Received) {
        let Received { out_of_order, malformed, .. } = received;
        self.check(
            received.received == received.delivered,
            format!("{name}: what was received is what was delivered"),
        );
        self.check(*out_of_order == 0, format!("{name}: {out_of_order} waves out of order or twice"));
        self.check(*malformed == 0, format!("{name}: {malformed} malformed messages"));
    }

    /// Checks that an observer's ledger also balances against the sender's, and that an unpolled observer has no
    /// effect.
    pub(crate) fn of_observers(&mut self, sent: Sent, observed: Received) {
        println!("\nobserver: {}", account(&observed));
        let whole = accounted(&observed);
        let what = format!("the observer's account adds up with the sender's: {} = {whole}", sent.delivered);
        self.check(observed.adds_up && sent.delivered == whole, what);
        self.of_receiving("observer", &observed);
        let what = format!("the idle observer's account adds up, too: {}", observed.idle_offered);
        let is_whole = observed.idle_offered == sent.delivered && observed.idle_delivered == 0;
        self.check(observed.idle_adds_up && is_whole, what);
    }

    /// Checks that all commands of safe periods are accounted for and none arrived twice.
    pub(crate) fn of_jobs(&mut self, args: &Args, jobs: &Jobs) {
        let (bossed, worked) = (&jobs.bossed, &jobs.worked);
        println!();
        for missing in &jobs.unsettled {
            self.check(false, missing.clone());
        }
        if args.has(Part::Groups) {
            println!(
                "group:    of {} jobs {} came; of {} around the kills {}, and {} echoes; {} to {} a member",
                bossed.jobs,
                worked.jobs,
                bossed.risky_jobs,
                worked.risky_jobs,
                bossed.echoed_jobs,
                worked.fewest,
                worked.most
            );
            let what =
                format!("each job of a safe time came to one member: {} = {}", bossed.jobs, worked.jobs);
            self.check(bossed.jobs == worked.jobs, what);
            let what = "no more jobs came than were given around the kills".to_owned();
            self.check(worked.risky_jobs <= bossed.risky_jobs, what);
            self.check(worked.twice == 0, format!("{} jobs came twice", worked.twice));
            self.check(worked.fewest > 0, "no member of the group went without".into());
            let what =
                format!("a member left {} times and had {} jobs", worked.leavings, worked.passing_jobs);
            self.check(worked.leavings > 0 && worked.passing_jobs > 0, what);
            self.check(
                bossed.below_floor == 0,
                format!("{} jobs stopped by a floor that nobody has", bossed.below_floor),
            );
        }
        if args.has(Part::Circuits) {
            println!(
                "circuit:  {} tasks = {} succeeded + {} unhandled",
                bossed.tasks, worked.succeeded, worked.unhandled
            );
            let whole = worked.succeeded + worked.unhandled;
            let adds_up = worked.adds_up && worked.in_flight == 0 && bossed.tasks == whole;
            self.check(adds_up, format!("each task was handled, or failed: {} = {whole}", bossed.tasks));
            let what = format!("each that failed came back: {} = {}", worked.unhandled, bossed.echoed_tasks);
            self.check(worked.unhandled == bossed.echoed_tasks, what);
            self.check(worked.unhandled > 0, "some tasks failed, as they should".into());
            let what = format!("{} tasks refused by the open circuit", worked.refused_by_circuit);
            self.check(worked.refused_by_circuit == 0, what);
            if args.has(Part::Forged) {
                let what = format!(
                    "{} echoes of waves that were never sent, and {} of more waves than were sent, were refused",
                    bossed.unknown_echoes, bossed.implausible_echoes
                );
                self.check(bossed.unknown_echoes > 0 && bossed.implausible_echoes > 0, what);
            }
        }
    }

    /// Checks that forged messages have no effect. The other checks cover most of this.
    pub(crate) fn of_forgeries(&mut self, received: &Received, forged: Forged) {
        println!("\nforged:   {forged:?}");
        self.check(forged.positions > 0, "somebody forged, as he should".into());
        let what = format!("{} messages of the forger were found to be implausible", received.implausible);
        self.check(received.implausible > 0, what);
        let what = format!("{} waves expired, as nobody believed that they were old", received.expired);
        self.check(received.expired == 0, what);
    }

    pub(crate) fn of_memory(&mut self, name: &str, memory: &Memory) {
        let mib: Vec<_> =
            memory.peaks.iter().map(|peak| format!("{:.1}", *peak as f64 / 1048576.0)).collect();
        let peaks = mib.join(" ");
        match (memory.is_flat(), memory.growth()) {
            (Some(flat), Some(growth)) => {
                self.check(
                    flat,
                    format!("memory of the {name} is flat: x {growth:.3}; peaks in MiB {peaks}"),
                );
            }
            _ => println!("-      memory of the {name}: too few kills to say; peaks in MiB {peaks}"),
        }
    }

    pub(crate) fn end(self) -> Outcome<()> {
        if self.failures.is_empty() { Ok(()) } else { Err(self.failures.join("; ").into()) }
    }
}

fn account(received: &Received) -> String {
    let Received { offered, delivered, shed, expired, lost_upstream, queued, .. } = received;
    format!(
        "{offered} offered = {delivered} delivered + {shed} shed + {expired} expired + {lost_upstream} lost_upstream + \
         {queued} queued"
    )
}

fn accounted(received: &Received) -> u64 {
    received.delivered + received.shed + received.expired + received.lost_upstream + received.queued
}
