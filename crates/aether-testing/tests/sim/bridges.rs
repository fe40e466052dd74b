//! Bridges: three networks with a bridge between every two, which relay what others emit and never what bridges do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aether::bridge::Bridge;
use aether_core::{Aether, Pattern, Vibrator};
use aether_service::CancellationToken;
use aether_testing::sim::{RandomFaults, Sim, connect, explore};
use tokio::time::sleep;
use tower::BoxError;

use crate::traffic::{Disk, SECOND, STRENGTHS, burst, key, pause};
use crate::trouble::{self, Faults};

/// Each is on the network of its first letter.
const MEMBERS: [&str; 6] = ["a1", "a2", "b1", "b2", "c1", "c2"];
const BRIDGES: [(&str, &str, &str); 3] = [("ab", "a", "b"), ("bc", "b", "c"), ("ca", "c", "a")];
const ALL: &[&str] = &["a1", "a2", "b1", "b2", "c1", "c2", "ab", "bc", "ca"];
const OPENS_AFTER: Duration = Duration::from_secs(4);
const EMIT_FOR: Duration = Duration::from_secs(30);
const CALMS_WITHIN: Duration = Duration::from_secs(15);

#[derive(Default)]
struct Model {
    /// The number of orders of each member.
    emitted: BTreeMap<&'static str, u64>,
    /// How often each life of a member has heard an order: the member, its life, the emitter, and the number.
    heard: BTreeMap<(&'static str, u64, String, u64), u64>,
    /// The present life of each member.
    lives: BTreeMap<&'static str, u64>,
    is_open: bool,
    problems: Vec<String>,
}

type Shared = Disk<Model>;

async fn member(
    name: &'static str,
    (aether, shutdown): (Aether, CancellationToken),
    shared: Shared,
) -> Result<(), BoxError> {
    let life = fastrand::u64(..);
    shared.lock().lives.insert(name, life);
    let mut vibrator = Vibrator::create(name, &aether).await?;
    vibrator.resonate_on("orders.>").await?;
    loop {
        while let Ok(wave) = vibrator.try_receive() {
            let of = (name, life, wave.source().name().to_owned(), wave.json()?);
            let mut model = shared.lock();
            let heard = model.heard.entry(of).or_default();
            *heard += 1;
            let (heard, hops) = (*heard, wave.hops());
            if heard > 1 || hops > 1 {
                model.problems.push(format!("{name} heard {} {heard} times, after {hops} hops", wave.id()));
            }
        }
        let is_open = shared.lock().is_open;
        for _ in 0..if is_open { burst(30) } else { 0 } {
            let number = {
                let mut model = shared.lock();
                let emitted = model.emitted.entry(name).or_default();
                *emitted += 1;
                *emitted
            };
            let strength = STRENGTHS[fastrand::usize(..STRENGTHS.len())];
            let channel = format!("orders.{}", key(4));
            vibrator.emit(aether_core::Wave::builder(channel).amplitude(strength).json(number)).await?;
        }
        if shutdown.run_until_cancelled(sleep(pause(SECOND / 4))).await.is_none() {
            return Ok(());
        }
    }
}

async fn bridge(
    far: &'static str,
    (here, shutdown): (Aether, CancellationToken),
    shared: Shared,
) -> Result<(), BoxError> {
    let there = connect(far).await?;
    let builder = Bridge::builder([Pattern::new("orders.>")?]).max_hops(1);
    let bridge = builder.between(&here, &there).await?;
    shutdown.cancelled().await;
    let account = bridge.close().await;
    if !account.adds_up() {
        shared.lock().problems.push(format!("the account of a bridge does not add up: {account:?}"));
    }
    Ok(())
}

/// The orders that were not heard once by each of the others that are there, from these numbers on.
fn missing(shared: &Shared, from: &BTreeMap<&'static str, u64>) -> Option<String> {
    let model = shared.lock();
    for (listener, life) in &model.lives {
        for (emitter, last) in model.emitted.iter().filter(|(emitter, _)| *emitter != listener) {
            for number in from.get(emitter).copied().unwrap_or(0) + 1..=*last {
                let heard = (*listener, *life, (*emitter).to_owned(), number);
                if !model.heard.contains_key(&heard) {
                    return Some(format!("{listener} has not heard {number} of {emitter}"));
                }
            }
        }
    }
    None
}

pub(crate) const SCENARIOS: [fn(&mut Sim); 2] =
    [|sim| scenario(sim, Faults::None), |sim| scenario(sim, Faults::Some)];

fn scenario(sim: &mut Sim, faults: Faults) {
    let shared = Shared::default();
    for name in MEMBERS {
        let shared = Arc::clone(&shared);
        sim.on(&[&name[..1]]);
        sim.process(name, move |aether, shutdown| member(name, (aether, shutdown), Arc::clone(&shared)));
    }
    for (name, near, far) in BRIDGES {
        let shared = Arc::clone(&shared);
        sim.on(&[near]);
        sim.process(name, move |aether, shutdown| bridge(far, (aether, shutdown), Arc::clone(&shared)));
    }
    let of_check = Arc::clone(&shared);
    sim.always(move |_| of_check.lock().problems.pop().map_or(Ok(()), Err));
    sim.run_for(OPENS_AFTER);
    shared.lock().is_open = true;
    if faults == Faults::Some {
        trouble::cause(sim, ALL, &[], EMIT_FOR);
        // A bridge is killed again and again.
        sim.random_faults(EMIT_FOR, &RandomFaults::new(4).among(BRIDGES.map(|(name, ..)| name)));
    }
    sim.run_for(EMIT_FOR);
    let before = match faults {
        Faults::None => BTreeMap::new(),
        Faults::Some => {
            ALL.iter().for_each(|name| sim.restart(name));
            sim.run_for(CALMS_WITHIN);
            let before = shared.lock().emitted.clone();
            sim.run_for(5 * SECOND);
            before
        }
    };
    shared.lock().is_open = false;
    sim.eventually(10 * SECOND, "all have heard the orders of all", |_| missing(&shared, &before).is_none());
    sim.run_for(SECOND);
    sim.finish();
    assert_eq!(shared.lock().problems, [""; 0]);
}

#[test]
fn each_order_arrives_once_on_each_network() {
    explore(0..2, |sim| scenario(sim, Faults::None));
}

#[test]
fn no_order_arrives_twice_and_bridges_recover_after_faults() {
    explore(0..3, |sim| scenario(sim, Faults::Some));
}
