//! Paths: a medium of two networks of which either fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aether::paths::paths;
use aether_core::{Aether, Vibrator, Wave};
use aether_service::CancellationToken;
use aether_testing::sim::{Sim, explore};
use tokio::time::sleep;
use tower::BoxError;

use crate::traffic::{Disk, SECOND, STRENGTHS, burst, key, pause};
use crate::trouble::{self, Faults};

const NETWORKS: [&str; 2] = ["west", "east"];
const ALL: &[&str] = &["shop", "ledger", "stock 1", "stock 2"];
const OPENS_AFTER: Duration = Duration::from_secs(6);
const EMIT_FOR: Duration = Duration::from_secs(60);
/// All agree on a path again: beats that did not come, and the trial of a path that failed often.
const BACK_WITHIN: Duration = Duration::from_secs(150);

#[derive(Default)]
struct Books {
    ordered: u64,
    /// How often each order was heard, by the listener.
    heard: BTreeMap<(&'static str, u64), u64>,
    /// How often a process has switched its path.
    switches: u64,
    is_open: bool,
}

impl Books {
    fn heard_by(&self, listener: &str) -> u64 {
        self.heard.iter().filter(|((name, _), _)| *name == listener).map(|(_, times)| times).sum()
    }
}

type Shelf = Disk<Books>;

async fn sell(aether: Aether, shutdown: CancellationToken, books: Shelf) -> Result<(), BoxError> {
    let shop = aether.emitter("shop")?;
    loop {
        let is_open = books.lock().is_open;
        for _ in 0..if is_open { burst(60) } else { 0 } {
            let number = {
                let mut books = books.lock();
                books.ordered += 1;
                books.ordered
            };
            let strength = STRENGTHS[fastrand::usize(..STRENGTHS.len())];
            shop.emit(Wave::builder(format!("orders.{}", key(4))).amplitude(strength).json(number)).await?;
        }
        books.lock().switches = paths(&aether)[0].switches;
        if shutdown.run_until_cancelled(sleep(pause(SECOND / 8))).await.is_none() {
            return Ok(());
        }
    }
}

async fn hear(
    name: &'static str,
    (aether, shutdown): (Aether, CancellationToken),
    books: Shelf,
) -> Result<(), BoxError> {
    let mut vibrator = Vibrator::create(name, &aether).await?;
    // The stocks share what the ledger hears alone.
    match name {
        "ledger" => vibrator.resonate_on("orders.*").await?,
        _ => vibrator.resonate_in_group("orders.*", "stocks").await?,
    }
    let name = if name == "ledger" { name } else { "stocks" };
    while let Some(Some(wave)) = shutdown.run_until_cancelled(vibrator.receive()).await {
        *books.lock().heard.entry((name, wave.json()?)).or_default() += 1;
    }
    Ok(())
}

/// One network fails for all or for one machine, and then the other.
fn cause(sim: &mut Sim) {
    let mut random = trouble::random(sim, 11);
    let mut at = sim.now() + SECOND;
    let end = sim.now() + EMIT_FOR;
    while at + 20 * SECOND < end {
        let network = NETWORKS[random.usize(..2)];
        let some = if random.bool() { ALL } else { &ALL[random.usize(..ALL.len())..][..1] };
        let until = at + Duration::from_millis(random.u64(200..15_000));
        sim.at(at, move |sim| sim.cut_on(network, some, ALL));
        sim.at(until, move |sim| sim.join_on(network, some, ALL));
        at = until + Duration::from_millis(random.u64(0..8000));
    }
}

pub(crate) const SCENARIOS: [fn(&mut Sim); 2] =
    [|sim| scenario(sim, Faults::None), |sim| scenario(sim, Faults::Some)];

fn scenario(sim: &mut Sim, faults: Faults) {
    let books = Shelf::default();
    sim.on(&NETWORKS);
    let of_shop = Arc::clone(&books);
    sim.process("shop", move |aether, shutdown| sell(aether, shutdown, Arc::clone(&of_shop)));
    for name in &ALL[1..] {
        let books = Arc::clone(&books);
        sim.process(name, move |aether, shutdown| hear(name, (aether, shutdown), Arc::clone(&books)));
    }
    let of_check = Arc::clone(&books);
    sim.always(move |_| {
        let twice = of_check.lock().heard.iter().find(|(_, times)| **times > 1).map(|(order, _)| *order);
        twice.map_or(Ok(()), |order| Err(format!("{order:?} was heard twice")))
    });
    sim.run_for(OPENS_AFTER);
    books.lock().is_open = true;
    if faults == Faults::Some {
        cause(sim);
    }
    sim.run_for(EMIT_FOR);
    let is_back = |sim: &mut Sim| {
        ALL.iter().all(|name| {
            let aether = sim.aether(name);
            aether.is_some_and(|aether| paths(&aether)[0].is_current && !paths(&aether)[1].is_current)
        })
    };
    sim.eventually(BACK_WITHIN, "all use the first path again", is_back);
    let before = books.lock().ordered;
    sim.run_for(5 * SECOND);
    books.lock().is_open = false;
    sim.run_for(5 * SECOND);
    let shop = sim.aether("shop").unwrap().status();
    let ledger = sim.aether("ledger").unwrap().status();
    {
        let books = books.lock();
        assert_eq!((shop.outbox.offered, shop.outbox.delivered), (books.ordered, books.ordered));
        for listener in ["ledger", "stocks"] {
            let lacks =
                (before + 1..=books.ordered).find(|order| !books.heard.contains_key(&(listener, *order)));
            assert_eq!(lacks, None, "{listener} has not heard it, after all came back");
        }
        // While the shop takes the ledger for gone, it sends it nothing: then only the ledger counts what it lacks.
        let heard = books.heard_by("stocks");
        assert!(heard + shop.unconfirmed >= books.ordered, "the stocks heard {heard} of {}", books.ordered);
        let accounted = books.heard_by("ledger") + ledger.lost_upstream;
        assert_eq!(accounted, books.ordered, "heard by the ledger, or lost on the way: {ledger:?}");
        if faults == Faults::None {
            assert_eq!((shop.unconfirmed, books.switches, books.heard_by("ledger")), (0, 0, books.ordered));
        }
    }
    sim.finish();
}

#[test]
fn nothing_is_lost_on_two_paths_without_faults() {
    explore(0..2, |sim| scenario(sim, Faults::None));
}

#[test]
fn nothing_is_heard_twice_and_losses_are_counted_when_either_path_fails() {
    explore(0..4, |sim| scenario(sim, Faults::Some));
}

/// Of two processes each took the other for gone, just after they were connected again, and neither told the other of
/// itself.
#[test]
fn all_use_the_first_path_again_after_a_silence() {
    explore(25..26, |sim| scenario(sim, Faults::Some));
}
