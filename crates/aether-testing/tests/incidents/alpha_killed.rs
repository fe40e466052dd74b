//! Incident 1 of alpha-killed.rec as a test.
//!
//! critical: alpha stopped: its 5 streams are silent for 5.00 s, so are 5 channels that follow;
//! check the process
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
fn alpha_stopped_is_found() {
    let mut sim = Sim::with_seed(1);
    // To test a real service, put it in place of its stand-in: sim.serve("alpha", || service()),
    // where service() makes its ServiceBuilder.
    sim.process("alpha", |aether, shutdown| alpha().run(aether, shutdown));
    sim.process("beta", |aether, shutdown| beta().run(aether, shutdown));
    sim.process("payments", |aether, shutdown| payments().run(aether, shutdown));
    let found = observe(&mut sim);

    // The fault.
    sim.at(Duration::from_millis(42_068), |sim| sim.kill("alpha"));
    sim.run_for(Duration::from_millis(52_048));

    let found = found.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let is_it = |incident: &&Incident| {
        incident.cause.as_str() == "stopped" && incident.services == ["alpha"]
    };
    let incident = found.iter().find(is_it).unwrap_or_else(|| panic!("not among {found:#?}"));
    assert_eq!(
        as_recorded(incident.clone()).to_string(),
        "alpha stopped: its 5 streams are silent for 5.00 s, so are 5 channels that follow; check the process"
    );
    assert_eq!(
        sorted(&incident.streams),
        [
            "inventory.commit", "inventory.reserve", "orders.completed", "orders.created",
            "payments.charge",
        ]
    );
    assert_eq!(
        sorted(&incident.followers),
        [
            "inventory.commit", "inventory.reserve", "inventory.reserved", "payments.charge",
            "payments.charged",
        ]
    );
    assert!(incident.waiting.is_empty(), "{:?}", incident.waiting);
    sim.finish();
}

fn alpha() -> StandIn {
    StandIn::new("alpha")
        .act(Act::command("inventory.reserve").after("orders.created"))
        .act(
            Act::event("orders.created")
                .every(Duration::from_micros(166_664))
                .jitter(0.03)
                .from(Duration::from_millis(2047)),
        )
        .act(Act::command("payments.charge").amplitude(0.6).after_answer("inventory.reserve"))
        .act(
            Act::command("inventory.commit")
                .amplitude(0.8)
                .after_answer("payments.charge")
                .except(&[
                    14, 24, 25, 31, 33, 69, 88, 103, 105, 111, 122, 127, 134, 144, 154, 160, 178,
                    179, 226, 228, 230, 236,
                ]),
        )
        .act(Act::event("orders.completed").amplitude(0.8).after_answer("inventory.commit"))
        .act(
            Act::command("inventory.release")
                .amplitude(0.9)
                .after_answer("payments.charge")
                .only(&[
                    14, 24, 25, 31, 33, 69, 88, 103, 105, 111, 122, 127, 134, 144, 154, 160, 178,
                    179, 226, 228, 230, 236,
                ]),
        )
        .act(Act::event("orders.compensated").amplitude(0.9).after_answer("inventory.release"))
}

fn beta() -> StandIn {
    StandIn::new("beta")
        .act(Act::event("inventory.reserved").on("inventory.reserve"))
        .act(Act::answer("inventory.reserve"))
        .act(Act::answer("inventory.commit"))
        .act(
            Act::event("inventory.level")
                .every(Duration::from_micros(1_000_389))
                .jitter(0.01)
                .from(Duration::from_millis(3002)),
        )
        .act(Act::answer("inventory.release"))
        .act(Act::event("inventory.released").on("inventory.release"))
        .act(
            Act::event("inventory.restocked")
                .at_millis(&[
                    5001, 5001, 5001, 5001, 8002, 8002, 8002, 8002, 8002, 11_001, 11_001, 11_001,
                    11_001, 11_001, 14_001, 14_001, 14_001, 14_001, 14_001, 17_002, 17_002,
                    17_002, 17_002, 17_002, 20_001, 20_001, 20_001, 20_001, 20_001, 23_005,
                    23_005, 23_005, 23_005, 23_005, 26_001, 26_001, 26_001, 26_001, 26_001,
                    29_001, 29_001, 29_001, 29_001, 29_001, 32_002, 32_002, 32_002, 32_002,
                    35_005, 35_005, 35_005, 35_005, 35_005, 38_001, 38_001, 38_001, 38_001,
                    38_001, 41_002, 41_002, 41_002, 41_002, 41_002, 44_002, 44_002, 44_002,
                ]),
        )
}

fn payments() -> StandIn {
    StandIn::new("payments")
        .act(
            Act::event("payments.charged")
                .amplitude(0.6)
                .on("payments.charge")
                .except(&[
                    14, 24, 25, 31, 33, 69, 88, 103, 105, 111, 122, 127, 134, 144, 154, 160, 178,
                    179, 226, 228, 230, 236,
                ]),
        )
        .act(Act::answer("payments.charge"))
        .act(
            Act::event("payments.declined")
                .amplitude(0.7)
                .on("payments.charge")
                .only(&[
                    14, 24, 25, 31, 33, 69, 88, 103, 105, 111, 122, 127, 134, 144, 154, 160, 178,
                    179, 226, 228, 230, 236,
                ]),
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
