//! Noise floors over processes: senders that respect them stop what an overloaded receiver would shed, nothing else, and
//! for no longer than it is overloaded and there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aether_core::{Aether, EmitError, InboxOptions, Kind, Vibrator, Wave, WhenFull};
use aether_service::CancellationToken;
use aether_testing::sim::{Sim, explore};
use tokio::time::{Instant, sleep, sleep_until};
use tower::BoxError;

use crate::traffic::{Disk, SECOND};
use crate::trouble::{self, Faults};

const NAMES: &[&str] = &["worker one", "worker two", "shop one", "shop two", "shop three"];
const WORKERS: usize = 2;
const WEAK: f32 = 0.1;
const NORMAL: f32 = 0.5;
const STRONG: f32 = 0.9;
/// How long faults happen.
const FAULTS_FOR: Duration = Duration::from_secs(40);
/// How long a flood lasts. Nothing is stopped in the first two seconds of a sender, and one whose connection was broken
/// knows a receiver again with its next announcement, every second while its floor is up.
const FLOOD_FOR: Duration = Duration::from_secs(8);
/// How long a floor counts that nobody repeats: 2 s. Then it halves each second, from the greatest strength down to the
/// weak waves.
const HELD_FOR: Duration = Duration::from_millis(2000 + 3400);
/// A floor that falls is announced within 250 ms.
const FALLS_WITHIN: Duration = Duration::from_millis(400);
/// A receiver that has gone without a word is forgotten with the first heartbeat after 40 s.
const FORGOTTEN_WITHIN: Duration = Duration::from_millis(40_000 + 12_500);
/// The time that an announcement may be on its way over a connection that then breaks, or on a slow link.
const ON_THE_WAY: Duration = Duration::from_millis(3500);

#[derive(Default)]
struct Model {
    now: Duration,
    is_flood: bool,
    is_over: bool,
    /// When each worker last had a floor above the weak waves.
    raised: BTreeMap<&'static str, Duration>,
    /// When each shop went on after it had been frozen.
    woke: BTreeMap<&'static str, Duration>,
    /// When each shop last had a weak wave stopped, and when it last had one that was not.
    stopped: BTreeMap<&'static str, Duration>,
    passed: BTreeMap<&'static str, Duration>,
    /// Waves that were sent to all workers, and those that were offered to each.
    sent: u64,
    offered: BTreeMap<&'static str, u64>,
    /// How long weak waves may be stopped after a floor was up.
    limit: Duration,
    problems: Vec<String>,
}

type Shared = Disk<Model>;

impl Model {
    fn worked(&mut self, name: &'static str, floor: f32, offered: u64) {
        if floor > WEAK {
            self.raised.insert(name, self.now);
        }
        self.offered.insert(name, offered);
    }

    fn passed(&mut self, name: &'static str, sent: u64) {
        self.passed.insert(name, self.now);
        self.sent += sent;
    }

    /// A weak wave was stopped, which is right for a time after a floor was up.
    fn stopped(&mut self, name: &'static str, sent: u64) {
        self.stopped.insert(name, self.now);
        self.sent += sent;
        let raised = self.raised.values().max().copied();
        let since = raised.max(self.woke.get(name).copied()).unwrap_or_default();
        if raised.is_none() || self.now > since + self.limit {
            self.problems
                .push(format!("{name} stops weak waves {:?} after a floor was up", self.now - since));
        }
    }
}

/// A receiver that takes a wave each 10 ms, or any number if it is quick.
async fn work(
    name: &'static str,
    (aether, shutdown): (Aether, CancellationToken),
    is_quick: bool,
    shared: Shared,
) -> Result<(), BoxError> {
    let room = if is_quick { 10_000 } else { 16 };
    let options = InboxOptions::default().max_waves(room).when_full(WhenFull::Shed);
    let mut worker = Vibrator::builder("worker").inbox(options).create(&aether).await?;
    worker.resonate_on("jobs.*").await?;
    let mut next = Instant::now();
    loop {
        match is_quick {
            true => while worker.try_receive().is_ok() {},
            false => drop(worker.try_receive()),
        }
        let floor = worker.effective_floor().as_f32();
        shared.lock().worked(name, floor, worker.ledger().offered);
        next += SECOND / 100;
        if shutdown.run_until_cancelled(sleep_until(next)).await.is_none() {
            return Ok(());
        }
    }
}

fn wave(channel: &str, amplitude: f32) -> Result<Wave, BoxError> {
    Ok(Wave::builder(channel).kind(Kind::Event).amplitude(amplitude).text("17").build()?)
}

/// A sender that respects floors, and beside it one that does not, which makes the flood.
async fn shop(
    name: &'static str,
    (aether, shutdown): (Aether, CancellationToken),
    faults: Faults,
    shared: Shared,
) -> Result<(), BoxError> {
    let sender = Vibrator::builder("shop").respect_floor().create(&aether).await?;
    let flood = Vibrator::create("flood", &aether).await?;
    let mut last = Instant::now();
    while !shared.lock().is_over {
        if last.elapsed() > SECOND {
            let mut model = shared.lock();
            let now = model.now;
            model.woke.insert(name, now);
        }
        last = Instant::now();
        let mut sent = 0;
        if shared.lock().is_flood {
            for _ in 0..5 {
                flood.emit(wave("jobs.flood", NORMAL)?).await?;
                sent += 1;
            }
        }
        let weak = sender.emit(wave("jobs.check", WEAK)?).await;
        let strong = sender.emit(wave("jobs.check", STRONG)?).await;
        match strong {
            Ok(_) => sent += 1,
            // A worker that was frozen may have had to drop strong waves.
            Err(EmitError::BelowFloor { .. }) if faults == Faults::Some => {}
            Err(error) => return Err(error.into()),
        }
        match weak {
            Ok(_) => shared.lock().passed(name, sent + 1),
            Err(EmitError::BelowFloor { .. }) => shared.lock().stopped(name, sent),
            Err(error) => return Err(error.into()),
        }
        if shutdown.run_until_cancelled(sleep(SECOND / 10)).await.is_none() {
            return Ok(());
        }
    }
    shutdown.cancelled().await;
    let account = sender.account();
    if account.shed_at_source == 0 && account.numbered == 0 {
        shared.lock().problems.push(format!("{name} has counted nothing"));
    }
    Ok(())
}

/// A flood, in which each shop must stop weak waves if all workers are overloaded; none otherwise. Afterwards nothing is
/// stopped.
fn flood(sim: &mut Sim, shared: &Shared, is_quick: bool) {
    let begin = sim.now();
    shared.lock().is_flood = true;
    sim.run_for(FLOOD_FOR);
    {
        let mut model = shared.lock();
        model.is_flood = false;
        for name in &NAMES[WORKERS..] {
            let was_stopped = model.stopped.get(name).is_some_and(|at| *at > begin);
            assert_eq!(was_stopped, !is_quick, "{name} in the flood at {begin:?}");
        }
    }
    // Evictions count for two seconds at most.
    sim.run_for(2 * SECOND + HELD_FOR);
    open(sim, shared);
}

/// No shop stops anything.
fn open(sim: &mut Sim, shared: &Shared) {
    let begin = sim.now();
    sim.run_for(SECOND);
    let model = shared.lock();
    for name in &NAMES[WORKERS..] {
        assert!(
            model.stopped.get(name).is_none_or(|at| *at < begin),
            "{name} stops weak waves after {begin:?}"
        );
        assert!(model.passed.get(name).is_some_and(|at| *at > begin), "{name} sends nothing after {begin:?}");
    }
}

pub(crate) const SCENARIOS: [fn(&mut Sim); 1] = [|sim| scenario(sim, Faults::Some)];

fn scenario(sim: &mut Sim, faults: Faults) {
    let shared = Shared::default();
    let is_quick = trouble::random(sim, 3).u8(..4) == 0;
    shared.lock().limit = match faults {
        Faults::None => FALLS_WITHIN,
        Faults::Some => HELD_FOR + ON_THE_WAY,
    };
    for (place, name) in NAMES.iter().copied().enumerate() {
        let shared = Arc::clone(&shared);
        match place < WORKERS {
            true => sim.process(name, move |aether, shutdown| {
                work(name, (aether, shutdown), is_quick && place == 0, Arc::clone(&shared))
            }),
            false => sim.process(name, move |aether, shutdown| {
                shop(name, (aether, shutdown), faults, Arc::clone(&shared))
            }),
        }
    }
    let of_check = Arc::clone(&shared);
    sim.always(move |sim| {
        let mut model = of_check.lock();
        model.now = sim.now();
        model.problems.pop().map_or(Ok(()), Err)
    });
    sim.run_for(3 * SECOND);
    if faults == Faults::Some {
        trouble::cause(sim, NAMES, &[], FAULTS_FOR);
        for number in 0..4 {
            let (of_begin, of_end) = (Arc::clone(&shared), Arc::clone(&shared));
            sim.at(sim.now() + FAULTS_FOR / 4 * number, move |_| of_begin.lock().is_flood = true);
            let end = sim.now() + FAULTS_FOR / 4 * number + FAULTS_FOR / 8;
            sim.at(end, move |_| of_end.lock().is_flood = false);
        }
        sim.run_for(FAULTS_FOR);
        // Connections come back, and what was held up arrives.
        sim.run_for(ON_THE_WAY + HELD_FOR);
        open(sim, &shared);
        // The last life of a worker counts as one that hears everything, until it is forgotten.
        sim.run_for(FORGOTTEN_WITHIN);
    }
    flood(sim, &shared, is_quick);
    flood(sim, &shared, is_quick);
    if faults == Faults::None {
        let model = shared.lock();
        for name in &NAMES[..WORKERS] {
            // The last waves are on their way.
            let missing = model.sent - model.offered[name];
            assert!(missing < 20, "{name} was offered {missing} waves less than were sent");
        }
    }
    // Nobody keeps the floor of a process that has gone.
    shared.lock().is_flood = true;
    sim.run_for(FLOOD_FOR / 2);
    shared.lock().limit = HELD_FOR + FALLS_WITHIN;
    NAMES[..WORKERS].iter().for_each(|name| sim.kill(name));
    sim.run_for(HELD_FOR + FALLS_WITHIN);
    open(sim, &shared);
    shared.lock().is_over = true;
}

#[test]
fn floors_rise_and_fall_with_the_load_without_faults() {
    explore(0..2, |sim| scenario(sim, Faults::None));
}

#[test]
fn no_floor_is_kept_after_faults() {
    explore(0..2, |sim| scenario(sim, Faults::Some));
}
