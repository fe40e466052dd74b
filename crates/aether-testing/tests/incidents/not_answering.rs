//! Incident 1 of not_answering.rec as a test.
//!
//! critical: stock lives, and has not answered stock.take for 5.00 s, and shop waits for answers;
//! check its handlers
//!
//! Made by `aether physics --replay FILE --incident N --as-test FILE`. Each process is a stand-in
//! that emits, asks and answers as in the recording, which has no payloads: they are numbers. Times
//! count from the beginning of the simulation, and the recording begins after 2 s.
//!
//! It needs these dependencies: `aether` (the package aether-bus) with the feature `physics`,
//! `aether-testing` (aether-bus-testing), and `tokio` with the feature `macros`.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aether::physics::{Incident, PhysicsEngine, PhysicsObserver};
use aether_testing::sim::{Act, Sim, StandIn};

#[test]
fn stock_not_answering_is_found() {
    let mut sim = Sim::with_seed(1);
    // To test a real service, put it in place of its stand-in: sim.serve("shop", || service()),
    // where service() makes its ServiceBuilder.
    sim.process("shop", |aether, shutdown| shop().run(aether, shutdown));
    sim.process("stock", |aether, shutdown| stock().run(aether, shutdown));
    let found = observe(&mut sim);

    // The fault is the `hangs_from` below.
    sim.run_for(Duration::from_millis(52_000));

    let found = found.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let is_it = |incident: &&Incident| {
        incident.cause.as_str() == "not_answering" && incident.services == ["stock"]
    };
    let incident = found.iter().find(is_it).unwrap_or_else(|| panic!("not among {found:#?}"));
    assert_eq!(
        as_recorded(incident.clone()).to_string(),
        "stock lives, and has not answered stock.take for 5.00 s, and shop waits for answers; check its handlers"
    );
    assert_eq!(sorted(&incident.streams), ["stock.take"]);
    assert!(incident.followers.is_empty(), "{:?}", incident.followers);
    assert_eq!(sorted(&incident.waiting), ["shop"]);
    sim.finish();
}

fn shop() -> StandIn {
    StandIn::new("shop")
        .act(
            Act::query("stock.take")
                .every(Duration::from_millis(250))
                .from(Duration::from_millis(2000)),
        )
}

fn stock() -> StandIn {
    StandIn::new("stock")
        .act(
            Act::answer("stock.take")
                .later(Duration::from_millis(3))
                .hangs_from(Duration::from_millis(41_950)),
        )
        .act(
            Act::event("stock.level")
                .every(Duration::from_millis(1000))
                .from(Duration::from_millis(2100)),
        )
}

/// The incident with the times of the recording, so that the sentence is the same.
fn as_recorded(mut incident: Incident) -> Incident {
    incident.lasted = Duration::from_nanos(5_000_000_000);
    incident
}

fn sorted(names: &[impl ToString]) -> Vec<String> {
    let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.sort_unstable();
    names
}

/// Runs the detectors in a process of their own, and returns the incidents that they find, when they begin.
fn observe(sim: &mut Sim) -> Arc<Mutex<Vec<Incident>>> {
    let found = Arc::<Mutex<Vec<Incident>>>::default();
    let into = Arc::clone(&found);
    sim.process("observer", move |aether, shutdown| {
        let found = Arc::clone(&into);
        async move {
            let engine = PhysicsEngine::default();
            let mut observer = PhysicsObserver::open("observer", ">", engine, &aether).await?;
            loop {
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return Ok::<_, Box<dyn Error + Send + Sync>>(()),
                    advanced = observer.advance(256) => if advanced?.is_none() { return Ok(()) },
                }
                while observer.found().is_some() {}
                while let Some(incident) = observer.incident() {
                    if incident.until.is_none() {
                        found.lock().unwrap_or_else(PoisonError::into_inner).push(incident);
                    }
                }
            }
        }
    });
    found
}
