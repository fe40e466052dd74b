//! The roster: after faults everybody lists exactly the vibrators that are there, with what they hear.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aether_core::{Aether, Vibrator};
use aether_service::CancellationToken;
use aether_testing::sim::{Sim, explore};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tower::BoxError;

use crate::traffic::{Disk, SECOND, key, pause};
use crate::trouble::{self, Faults};

const NAMES: &[&str] = &["one", "two", "three", "four", "five"];
/// How long vibrators come and go.
const CHANGE_FOR: Duration = Duration::from_secs(40);
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Without faults a change is seen at once; a newcomer is answered within a second.
const SEEN_WITHIN: Duration = Duration::from_millis(1500);
/// With faults a vibrator is seen with its next announcement, every 12.5 s at most, once the connection is there.
const THERE_WITHIN: Duration = Duration::from_secs(15);
/// One that has gone without a word is listed for 40 s.
const GONE_WITHIN: Duration = Duration::from_secs(41);

/// Vibrators with what they hear.
type Vibrators = BTreeMap<String, BTreeSet<String>>;

#[derive(Default)]
struct Model {
    /// The vibrators of the present life of each process.
    there: BTreeMap<&'static str, Vibrators>,
    /// Increases with each change of them.
    changes: u64,
    seen: BTreeMap<&'static str, Vibrators>,
    is_over: bool,
    problems: Vec<String>,
}

type Shared = Disk<Model>;

impl Model {
    /// The vibrators of a process change; `None` when it ends.
    fn changed(&mut self, name: &'static str, vibrators: Option<Vibrators>) {
        match vibrators {
            Some(vibrators) => drop(self.there.insert(name, vibrators)),
            None => drop(self.there.remove(name)),
        }
        self.changes += 1;
    }
}

/// A change of the vibrators of a process.
async fn change(aether: &Aether, vibrators: &mut Vec<(Vibrator, BTreeSet<String>)>) -> Result<(), BoxError> {
    let pattern = format!("{}.*", ["orders", "stock", "letters", "prices", "jobs"][key(5) as usize]);
    match fastrand::u8(..6) {
        0..3 if vibrators.len() < 5 => {
            let vibrator = Vibrator::create(&format!("service {}", key(4)), aether).await?;
            vibrator.resonate_on(pattern.as_str()).await?;
            vibrators.push((vibrator, BTreeSet::from([pattern])));
        }
        3 if !vibrators.is_empty() => drop(vibrators.swap_remove(fastrand::usize(..vibrators.len()))),
        4 if !vibrators.is_empty() => {
            let place = fastrand::usize(..vibrators.len());
            let (vibrator, heard) = &mut vibrators[place];
            if heard.insert(pattern.clone()) {
                vibrator.resonate_on(pattern.as_str()).await?;
            }
        }
        _ if !vibrators.is_empty() => {
            let place = fastrand::usize(..vibrators.len());
            let (vibrator, heard) = &mut vibrators[place];
            if let Some(pattern) = heard.pop_first() {
                vibrator.detune(pattern.as_str())?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// The vibrators that hear anything.
fn listed(vibrators: &[(Vibrator, BTreeSet<String>)]) -> Vibrators {
    let tuned = vibrators.iter().filter(|(_, heard)| !heard.is_empty());
    tuned.map(|(vibrator, heard)| (vibrator.emitter().source().to_string(), heard.clone())).collect()
}

async fn member(
    name: &'static str,
    (aether, shutdown): (Aether, CancellationToken),
    shared: Shared,
) -> Result<(), BoxError> {
    {
        let mut model = shared.lock();
        model.seen.remove(name);
        model.changed(name, Some(Vibrators::new()));
    }
    let roster = aether.roster().await?;
    let mut vibrators = Vec::new();
    let mut next = Instant::now();
    loop {
        let is_over = shared.lock().is_over;
        if Instant::now() >= next && !is_over {
            next = Instant::now() + pause(5 * SECOND);
            change(&aether, &mut vibrators).await?;
            let ends = fastrand::u8(..20) == 0;
            shared.lock().changed(name, if ends { None } else { Some(listed(&vibrators)) });
            if ends {
                return Ok(());
            }
        }
        {
            let seen = roster.vibrators().into_iter().map(|announced| {
                let heard = announced.heard.iter().map(|heard| heard.pattern.as_str().to_owned()).collect();
                (announced.vibrator.to_string(), heard)
            });
            let mut model = shared.lock();
            model.seen.insert(name, seen.collect());
            if roster.left_out() + roster.implausible() > 0 {
                model.problems.push(format!("{name} has left out or doubted announcements"));
            }
        }
        if shutdown.run_until_cancelled(sleep(SAMPLE_EVERY)).await.is_none() {
            // The sample of a process that stops is over.
            shared.lock().seen.remove(name);
            return Ok(());
        }
    }
}

/// The faults in the list of a process; with `only_lacks` it may list too many.
fn wrong(sim: &mut Sim, shared: &Shared, only_lacks: bool) -> Option<String> {
    let there: BTreeSet<&'static str> =
        NAMES.iter().filter(|name| sim.aether(name).is_some()).copied().collect();
    let model = shared.lock();
    let of_present = model.there.iter().filter(|(name, _)| there.contains(*name));
    let all: Vibrators = of_present.flat_map(|(_, vibrators)| vibrators.clone()).collect();
    for name in there.iter().filter(|name| model.there.contains_key(*name)) {
        let seen = model.seen.get(name).cloned().unwrap_or_default();
        let is_right = match only_lacks {
            true => all.iter().all(|(vibrator, heard)| seen.get(vibrator) == Some(heard)),
            false => seen == all,
        };
        if !is_right {
            return Some(format!("{name} lists {seen:?} and not {all:?}"));
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
        trouble::cause(sim, NAMES, &[], CHANGE_FOR);
    }
    for at in (1..8).map(|number| CHANGE_FOR / 8 * number) {
        sim.at(at, |sim| NAMES.iter().for_each(|name| sim.restart(name)));
    }
    if faults == Faults::None {
        let of_check = Arc::clone(&shared);
        let (mut last, mut since) = (0, Duration::ZERO);
        sim.always(move |sim| {
            let changes = of_check.lock().changes;
            if std::mem::replace(&mut last, changes) != changes {
                since = sim.now();
            }
            let is_quiet = sim.now() - since > SEEN_WITHIN && !of_check.lock().is_over;
            let wrong = is_quiet.then(|| wrong(sim, &of_check, false)).flatten();
            wrong.map_or(Ok(()), |wrong| Err(format!("{SEEN_WITHIN:?} after a change: {wrong}")))
        });
    }
    sim.run_for(CHANGE_FOR);
    shared.lock().is_over = true;
    NAMES.iter().for_each(|name| sim.restart(name));
    sim.run_for(THERE_WITHIN);
    let lacks = wrong(sim, &shared, true);
    assert!(lacks.is_none(), "{THERE_WITHIN:?} after the last change: {lacks:?}");
    sim.run_for(GONE_WITHIN - THERE_WITHIN);
    // Longer than anybody is listed without a heartbeat.
    trouble::stays(sim, 45 * SECOND, |sim| wrong(sim, &shared, false));
}

#[test]
fn a_change_is_listed_at_once_without_faults() {
    explore(0..2, |sim| scenario(sim, Faults::None));
}

#[test]
fn exactly_those_who_are_there_are_listed_after_faults() {
    explore(0..3, |sim| scenario(sim, Faults::Some));
}

/// A process hears nothing any more, and ends or drops its vibrator at once: the others must not list it.
#[test]
fn a_vibrator_that_hears_nothing_any_more_is_gone_when_it_goes() {
    for is_kept in [true, false] {
        let mut sim = Sim::with_seed(1);
        sim.idle("one");
        let kept = Arc::new(Mutex::new(None));
        let of_other = Arc::clone(&kept);
        sim.process("other", move |aether, _| {
            let kept = Arc::clone(&of_other);
            async move {
                let vibrator = Vibrator::create("goes", &aether).await?;
                vibrator.resonate_on("orders.*").await?;
                sleep(2 * SECOND).await;
                vibrator.detune("orders.*")?;
                *kept.lock() = is_kept.then_some(vibrator);
                Ok::<_, BoxError>(())
            }
        });
        let roster = sim.run("one", async |aether| aether.roster().await.unwrap());
        let names = |sim: &mut Sim| {
            let roster = roster.clone();
            let listed = sim.run("one", async move |_| roster.vibrators());
            listed.iter().map(|listed| listed.vibrator.name().to_owned()).collect::<Vec<_>>()
        };
        sim.run_for(SECOND);
        assert_eq!(names(&mut sim), ["goes"]);
        sim.run_for(2 * SECOND);
        assert_eq!(names(&mut sim), [""; 0], "it was kept: {is_kept}");
        kept.lock().take();
        drop(roster);
        sim.finish();
    }
}
