//! Accounts: after faults everybody knows which processes are there, and what each has counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aether_core::account::{Accounts, Standing};
use aether_core::{Aether, Ledger, Vibrator};
use aether_service::CancellationToken;
use aether_testing::sim::{Sim, explore};
use tokio::time::{Instant, sleep};
use tower::BoxError;

use crate::traffic::{Disk, SECOND, burst, key, pause};
use crate::trouble::{self, Faults};

const NAMES: &[&str] = &["one", "two", "three", "four", "five"];
/// How long processes work, and come and go.
const WORK_FOR: Duration = Duration::from_secs(50);
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// The next account comes within 5 s of a new connection.
const THERE_WITHIN: Duration = Duration::from_secs(8);
/// A process that has gone without a word is silent after three intervals and a second.
const GONE_WITHIN: Duration = Duration::from_millis(16_500);

/// Processes with their standing and what their inboxes have counted.
type Processes = BTreeMap<String, (Standing, Ledger)>;

#[derive(Default)]
struct Model {
    /// The present life of each process, with what it has counted.
    lives: BTreeMap<&'static str, (String, Ledger)>,
    /// The programs of all lives that have ended by themselves.
    ended: BTreeSet<String>,
    seen: BTreeMap<&'static str, Processes>,
    is_over: bool,
    problems: Vec<String>,
}

type Shared = Disk<Model>;

/// The view of a reader. A view that is wrong on its own is a problem.
struct Reader {
    name: &'static str,
    accounts: Accounts,
    offered: BTreeMap<String, u64>,
}

impl Reader {
    fn read(&mut self, shared: &Shared) {
        let processes = self.accounts.processes();
        let mut model = shared.lock();
        let mut sums = BTreeMap::<String, u64>::new();
        for process in &processes {
            *sums.entry(process.account.process.name().to_owned()).or_default() +=
                process.account.ledger().offered;
            if process.suspicious > 0 {
                let problem =
                    format!("{} suspects {}: {:?}", self.name, process.account.process, process.suspicion);
                model.problems.push(problem);
            }
            let is_ended = model.ended.contains(&process.account.process.to_string());
            if process.standing == Standing::Ended && !is_ended {
                model.problems.push(format!("{} holds {} for ended", self.name, process.account.process));
            }
        }
        for program in self.accounts.programs() {
            let offered = program.ledger.offered;
            let last = self.offered.insert(program.program.clone(), offered).unwrap_or(0);
            if offered < last || offered != sums.get(&program.program).copied().unwrap_or(0) {
                let (name, program) = (self.name, program.program);
                model
                    .problems
                    .push(format!("{name} has {offered} offered to {program} after {last}, of {sums:?}"));
            }
        }
        let seen = processes.into_iter().map(|process| {
            (process.account.process.to_string(), (process.standing, process.account.ledger()))
        });
        model.seen.insert(self.name, seen.collect());
    }
}

async fn member(
    name: &'static str,
    (aether, shutdown): (Aether, CancellationToken),
    shared: Shared,
) -> Result<(), BoxError> {
    let process = aether.account().process.to_string();
    {
        let mut model = shared.lock();
        model.seen.remove(name);
        model.lives.insert(name, (process.clone(), Ledger::default()));
    }
    let mut reader = Reader { name, accounts: aether.accounts().await?, offered: BTreeMap::new() };
    let mut worker = Vibrator::create("worker", &aether).await?;
    worker.resonate_on("jobs.*").await?;
    let mut next = Instant::now();
    let is_stopped = loop {
        while worker.try_receive().is_ok() {}
        let is_over = shared.lock().is_over;
        if Instant::now() >= next && !is_over {
            next = Instant::now() + pause(SECOND);
            for _ in 0..burst(50) {
                worker.emit_wave(format!("jobs.{}", key(5)).as_str(), &17).await?;
            }
            if fastrand::u8(..60) == 0 {
                break false;
            }
        }
        reader.read(&shared);
        shared.lock().lives.insert(name, (process.clone(), aether.account().ledger()));
        if shutdown.run_until_cancelled(sleep(SAMPLE_EVERY)).await.is_none() {
            break true;
        }
    };
    {
        let mut model = shared.lock();
        model.ended.insert(process);
        model.seen.remove(name);
        if !is_stopped {
            model.lives.remove(name);
        }
    }
    Ok(())
}

/// The faults in the view of a process. It has to see the processes that are there as present, with what they have counted,
/// and unless `only_lacks` no others.
fn wrong(sim: &mut Sim, shared: &Shared, only_lacks: bool) -> Option<String> {
    let there: BTreeSet<&'static str> =
        NAMES.iter().filter(|name| sim.aether(name).is_some()).copied().collect();
    let model = shared.lock();
    let lives = model.lives.iter().filter(|(name, _)| there.contains(*name));
    let lives: BTreeMap<_, _> = lives.map(|(_, (process, ledger))| (process, ledger)).collect();
    for name in there.iter().filter(|name| model.lives.contains_key(*name)) {
        let Some(seen) = model.seen.get(name) else { return Some(format!("{name} sees nobody")) };
        let present = seen.iter().filter(|(_, (standing, _))| *standing == Standing::Present);
        let present: BTreeMap<_, _> = present.map(|(process, (_, ledger))| (process, ledger)).collect();
        let lacks = lives.keys().any(|process| !present.contains_key(*process));
        let is_more = !only_lacks && present.len() != lives.len();
        if lacks || is_more {
            return Some(format!("{name} sees {:?} and not {:?}", present.keys(), lives.keys()));
        }
        let other = lives.iter().find(|(process, ledger)| *present[*process] != ***ledger);
        if let Some((process, ledger)) = other {
            return Some(format!("{name} has {:?} of {process}, which has {ledger:?}", present[process]));
        }
    }
    None
}

pub(crate) const SCENARIOS: [fn(&mut Sim); 1] = [|sim| scenario(sim, Faults::Some)];

fn scenario(sim: &mut Sim, faults: Faults) {
    let shared = Shared::default();
    for name in NAMES {
        let shared = Arc::clone(&shared);
        sim.process(name, move |aether, shutdown| member(name, (aether, shutdown), Arc::clone(&shared)));
    }
    trouble::skew_clocks(sim, NAMES);
    let of_check = Arc::clone(&shared);
    sim.always(move |_| of_check.lock().problems.pop().map_or(Ok(()), Err));
    if faults == Faults::Some {
        trouble::cause(sim, NAMES, &[], WORK_FOR);
    }
    for at in (1..8).map(|number| WORK_FOR / 8 * number) {
        sim.at(at, |sim| NAMES.iter().for_each(|name| sim.restart(name)));
    }
    sim.run_for(WORK_FOR);
    shared.lock().is_over = true;
    if faults == Faults::None {
        // Those that have ended have told so.
        sim.run_for(SECOND / 2);
        let model = shared.lock();
        for (name, seen) in &model.seen {
            let is_told = |process: &&String| {
                seen.get(*process).is_some_and(|(standing, _)| *standing != Standing::Ended)
            };
            let not_ended = model.ended.iter().find(is_told);
            assert!(not_ended.is_none(), "{name} does not know that {not_ended:?} has ended");
        }
    }
    NAMES.iter().for_each(|name| sim.restart(name));
    sim.run_for(THERE_WITHIN);
    let lacks = wrong(sim, &shared, true);
    assert!(lacks.is_none(), "{THERE_WITHIN:?} after the last fault: {lacks:?}");
    sim.run_for(GONE_WITHIN - THERE_WITHIN);
    trouble::stays(sim, 17 * SECOND, |sim| wrong(sim, &shared, false));
}

#[test]
fn everybody_knows_who_is_there_and_who_has_ended_without_faults() {
    explore(0..2, |sim| scenario(sim, Faults::None));
}

#[test]
fn everybody_knows_exactly_who_is_there_after_faults() {
    explore(0..2, |sim| scenario(sim, Faults::Some));
}
