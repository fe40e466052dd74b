//! Tables: a process that stays keeps nothing of the many that came and went.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aether_core::{Aether, InboxOptions, Vibrator, Wave, WhenFull};
use aether_lan::LanInside;
use aether_service::CancellationToken;
use aether_testing::sim::{Link, Sim, explore};
use tokio::time::sleep;
use tower::BoxError;

use crate::traffic::{Disk, SECOND, STRENGTHS, burst, key, pause};
use crate::trouble::{self, Faults};

const VISITORS: [&str; 8] = ["v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8"];
const ALL: &[&str] = &["keeper", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8"];
/// How long visitors come and go. One that has ended is started again after this time at most.
const VISITS_FOR: Duration = Duration::from_secs(40);
const STARTED_EVERY: Duration = Duration::from_millis(700);
const SAMPLE_EVERY: Duration = Duration::from_millis(500);
/// How many entries a table has at most for each visitor: a life that was killed is known for 3.5 s more, which is as long
/// as five lives, and a life has at most four vibrators.
const LIVES: usize = 6;
const VIBRATORS: usize = 4;
/// A peer that was killed has gone after 3.5 s, a vibrator after 40 s, and the next look, every ten
/// seconds, forgets it.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(55);
/// A process that has gone keeps its account for ten minutes.
const ACCOUNTS_FORGOTTEN_WITHIN: Duration = Duration::from_secs(605);

#[derive(Default)]
struct Model {
    is_over: bool,
    /// The tables of the keeper, at its last look.
    tables: BTreeMap<&'static str, usize>,
    lives: usize,
}

type Shared = Disk<Model>;

/// Emits and asks, and answers what comes.
async fn work(vibrator: &mut Vibrator, asks: &str) -> Result<(), BoxError> {
    for _ in 0..burst(100) {
        let strength = STRENGTHS[fastrand::usize(..STRENGTHS.len())];
        // A member may get waves in place of one that has left, out of order: each task has a channel of its own.
        let channel = match fastrand::bool() {
            true => format!("jobs.{}", key(20)),
            false => format!("tasks.{}", fastrand::u64(..)),
        };
        let wave = Wave::builder(channel).amplitude(strength).text("a lamp");
        // An emitter that respects floors is refused some.
        let _ = vibrator.emit(wave).await;
    }
    if fastrand::bool() {
        // It may have no answer.
        let _ = vibrator.ask_within(Wave::new(asks, 17)?, SECOND / 2).await;
    }
    while let Ok(wave) = vibrator.try_receive() {
        if wave.expects_reply() {
            let _ = wave.reply(&18).await;
        }
    }
    Ok(())
}

async fn keep(aether: Aether, shutdown: CancellationToken, shared: Shared) -> Result<(), BoxError> {
    let (roster, accounts) = (aether.roster().await?, aether.accounts().await?);
    let mut vibrator = Vibrator::builder("keeper").respect_floor().create(&aether).await?;
    vibrator.resonate_on("questions").await?;
    vibrator.resonate_on("jobs.*").await?;
    while shutdown.run_until_cancelled(sleep(SAMPLE_EVERY)).await.is_some() {
        work(&mut vibrator, "visitors").await?;
        let inside = aether.details::<LanInside>();
        let tables = aether.tables().into_iter().chain(inside.iter().flat_map(LanInside::tables));
        let mut tables: BTreeMap<_, _> = tables.collect();
        tables.insert("listed", roster.vibrators().len() - 1);
        tables.insert("accounts", accounts.processes().len() - 1);
        shared.lock().tables = tables;
    }
    Ok(())
}

async fn visit(aether: Aether, shutdown: CancellationToken, shared: Shared) -> Result<(), BoxError> {
    shared.lock().lives += 1;
    let full = [WhenFull::Shed, WhenFull::Wait { patience: SECOND }][fastrand::usize(..2)];
    let inbox = InboxOptions::default().max_waves(fastrand::usize(5..500)).when_full(full);
    let mut vibrators = Vec::new();
    for _ in 0..fastrand::usize(1..=VIBRATORS) {
        let name = format!("visitor {}", key(4));
        let builder = Vibrator::builder(&name).inbox(inbox.clone()).respect_floor();
        let vibrator = builder.create(&aether).await?;
        match fastrand::u8(..3) {
            0 => vibrator.resonate_on("visitors").await?,
            1 => vibrator.resonate_on(format!("jobs.{}", key(20)).as_str()).await?,
            _ => vibrator.resonate_in_group("tasks.*", "visitors").await?,
        }
        vibrators.push(vibrator);
    }
    while !shared.lock().is_over && fastrand::u8(..12) > 0 {
        let place = fastrand::usize(..vibrators.len());
        work(&mut vibrators[place], "questions").await?;
        if shutdown.run_until_cancelled(sleep(pause(SECOND / 3))).await.is_none() {
            break;
        }
    }
    Ok(())
}

/// The tables that have more entries than they should.
fn too_large(shared: &Shared, most: impl Fn(&str) -> usize) -> Option<String> {
    let model = shared.lock();
    let large: BTreeMap<_, _> = model.tables.iter().filter(|(name, size)| **size > most(name)).collect();
    (!large.is_empty()).then(|| format!("the keeper has {large:?}"))
}

/// The most entries that a table has after a number of lives.
fn busy(name: &str, lives: usize) -> usize {
    match name {
        // The routes of each channel are kept until a table changes.
        "bytes of peers" | "bytes of receivers" | "routes" => usize::MAX,
        // For 40 s, and for ten minutes.
        "listed" | "receivers" | "announcers" | "indexed receivers" => VIBRATORS * lives,
        "accounts" => lives,
        _ => LIVES * VISITORS.len(),
    }
}

/// The entries that are left when nobody else is there, for the way to itself.
fn resting(name: &str) -> usize {
    match name {
        "flights and pauses" => 1,
        "accounts" => usize::MAX,
        _ => 0,
    }
}

pub(crate) const SCENARIOS: [fn(&mut Sim); 1] = [|sim| scenario(sim, Faults::Some)];

fn scenario(sim: &mut Sim, faults: Faults) {
    let shared = Shared::default();
    sim.link_all(Link { latency: SECOND / 100, ..Link::default() });
    let of_keeper = Arc::clone(&shared);
    sim.process("keeper", move |aether, shutdown| keep(aether, shutdown, Arc::clone(&of_keeper)));
    for name in VISITORS {
        let shared = Arc::clone(&shared);
        sim.process(name, move |aether, shutdown| visit(aether, shutdown, Arc::clone(&shared)));
    }
    if faults == Faults::Some {
        trouble::cause(sim, ALL, &["keeper"], VISITS_FOR);
    }
    let mut at = STARTED_EVERY;
    while at < VISITS_FOR {
        sim.at(at, |sim| VISITORS.iter().for_each(|name| sim.restart(name)));
        at += STARTED_EVERY;
    }
    let of_check = Arc::clone(&shared);
    sim.always(move |_| {
        let lives = of_check.lock().lives;
        too_large(&of_check, |name| busy(name, lives)).map_or(Ok(()), Err)
    });
    sim.run_for(VISITS_FOR);
    shared.lock().is_over = true;
    // Some go without a word.
    let mut random = trouble::random(sim, 9);
    for name in VISITORS {
        if random.bool() {
            sim.kill(name);
        }
    }
    assert!(shared.lock().lives > VISITORS.len());
    sim.run_for(FORGOTTEN_WITHIN);
    let left = too_large(&shared, resting);
    assert!(left.is_none(), "{FORGOTTEN_WITHIN:?} after the others went, {}", left.unwrap_or_default());
    sim.run_for(ACCOUNTS_FORGOTTEN_WITHIN - FORGOTTEN_WITHIN);
    let left = too_large(&shared, |_| 1);
    assert!(left.is_none(), "ten minutes after the others went, {}", left.unwrap_or_default());
    assert_eq!(shared.lock().tables["accounts"], 0);
}

#[test]
fn nothing_is_kept_of_those_who_left_without_faults() {
    explore(0..2, |sim| scenario(sim, Faults::None));
}

#[test]
fn nothing_is_kept_of_those_who_left_after_faults() {
    explore(0..3, |sim| scenario(sim, Faults::Some));
}
