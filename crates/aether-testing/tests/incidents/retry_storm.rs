//! Incident 1 of retry_storm.rec as a test.
//!
//! warning: requests on stock.take are repeated more and more; check who answers them
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
fn stock_retry_storm_is_found() {
    let mut sim = Sim::with_seed(1);
    // To test a real service, put it in place of its stand-in: sim.serve("shop", || service()),
    // where service() makes its ServiceBuilder.
    sim.process("shop", |aether, shutdown| shop().run(aether, shutdown));
    sim.process("stock", |aether, shutdown| stock().run(aether, shutdown));
    let found = observe(&mut sim);

    // The fault is in the traffic below.
    sim.run_for(Duration::from_millis(67_000));

    let found = found.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let is_it = |incident: &&Incident| {
        incident.cause.as_str() == "retry_storm" && incident.services == ["stock"]
    };
    let incident = found.iter().find(is_it).unwrap_or_else(|| panic!("not among {found:#?}"));
    assert_eq!(
        as_recorded(incident.clone()).to_string(),
        "requests on stock.take are repeated more and more; check who answers them"
    );
    assert!(incident.streams.is_empty(), "{:?}", incident.streams);
    assert!(incident.followers.is_empty(), "{:?}", incident.followers);
    assert!(incident.waiting.is_empty(), "{:?}", incident.waiting);
    sim.finish();
}

fn shop() -> StandIn {
    StandIn::new("shop")
        .act(
            Act::query("stock.take")
                .every(Duration::from_millis(500))
                .from(Duration::from_millis(2000))
                .tries(4, Duration::from_millis(100)),
        )
}

fn stock() -> StandIn {
    StandIn::new("stock")
        .act(
            Act::answer("stock.take")
                .except(&[
                    80, 81, 82, 84, 85, 86, 88, 89, 90, 92, 93, 94, 96, 97, 98, 100, 101, 102,
                    104, 105, 106, 108, 109, 110, 112, 113, 114, 116, 117, 118, 120, 121, 122,
                    124, 125, 126, 128, 129, 130, 132, 133, 134, 136, 137, 138, 140, 141, 142,
                    144, 145, 146, 148, 149, 150, 152, 153, 154, 156, 157, 158, 160, 161, 162,
                    164, 165, 166, 168, 169, 170, 172, 173, 174, 176, 177, 178, 180, 181, 182,
                    184, 185, 186, 188, 189, 190, 192, 193, 194, 196, 197, 198, 200, 201, 202,
                    204, 205, 206, 208, 209, 210, 212, 213, 214, 216, 217, 218, 220, 221, 222,
                    224, 225, 226, 228, 229, 230, 232, 233, 234,
                ])
                .later(Duration::from_millis(3)),
        )
}

/// The incident with the times of the recording, so that the sentence is the same.
fn as_recorded(mut incident: Incident) -> Incident {
    incident.lasted = Duration::from_nanos(10_000_000_000);
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
