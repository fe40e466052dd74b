//! Incident 1 of all_silent.rec as a test.
//!
//! critical: all services fell silent at once, 4.80 s ago; check the broker, the network and this
//! observer
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
fn all_silent_is_found() {
    let mut sim = Sim::with_seed(1);
    // To test a real service, put it in place of its stand-in: sim.serve("shop", || service()),
    // where service() makes its ServiceBuilder.
    sim.process("shop", |aether, shutdown| shop().run(aether, shutdown));
    sim.process("stock", |aether, shutdown| stock().run(aether, shutdown));
    let found = observe(&mut sim);

    // The fault.
    let others = ["shop", "stock"];
    sim.at(Duration::from_millis(41_720), move |sim| sim.cut(&["observer"], &others));
    sim.run_for(Duration::from_millis(51_500));

    let found = found.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let is_it = |incident: &&Incident| {
        // It names the services that were due first, which the seed decides.
        incident.cause.as_str() == "all_silent"
    };
    let incident = found.iter().find(is_it).unwrap_or_else(|| panic!("not among {found:#?}"));
    assert_eq!(
        as_recorded(incident.clone()).to_string(),
        "all services fell silent at once, 4.80 s ago; check the broker, the network and this observer"
    );
    assert!(incident.streams.is_empty(), "{:?}", incident.streams);
    assert!(incident.followers.is_empty(), "{:?}", incident.followers);
    assert!(incident.waiting.is_empty(), "{:?}", incident.waiting);
    sim.finish();
}

fn shop() -> StandIn {
    StandIn::new("shop")
        .act(
            Act::event("shop.open")
                .amplitude(1.0)
                .every(Duration::from_millis(500))
                .from(Duration::from_millis(2000)),
        )
}

fn stock() -> StandIn {
    StandIn::new("stock")
        .act(
            Act::event("stock.level")
                .key("lamp")
                .every(Duration::from_millis(500))
                .from(Duration::from_millis(2200)),
        )
}

/// The incident with the times of the recording, so that the sentence is the same.
fn as_recorded(mut incident: Incident) -> Incident {
    incident.lasted = Duration::from_nanos(4_800_000_000);
    incident
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
