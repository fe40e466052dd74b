//! Incident 2 of broker-killed.rec as a test.
//!
//! critical: the observer has no connection for 2.00 s and sees nothing; check the broker and the
//! network
//!
//! A simulated network has no broker: the observer is cut off, and finds that all services are
//! silent.
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
    // To test a real service, put it in place of its stand-in: sim.serve("alpha", || service()),
    // where service() makes its ServiceBuilder.
    sim.process("alpha", |aether, shutdown| alpha().run(aether, shutdown));
    sim.process("beta", |aether, shutdown| beta().run(aether, shutdown));
    sim.process("payments", |aether, shutdown| payments().run(aether, shutdown));
    let found = observe(&mut sim);

    // The fault.
    let others = ["alpha", "beta", "payments"];
    sim.at(Duration::from_millis(25_821), move |sim| sim.cut(&["observer"], &others));
    sim.run_for(Duration::from_millis(35_753));

    let found = found.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let is_it = |incident: &&Incident| {
        // It names the services that were due first, which the seed decides.
        incident.cause.as_str() == "all_silent"
    };
    let incident = found.iter().find(is_it).unwrap_or_else(|| panic!("not among {found:#?}"));
    assert_eq!(
        as_recorded(incident.clone()).to_string(),
        "all services fell silent at once, 5.00 s ago; check the broker, the network and this observer"
    );
    assert!(incident.streams.is_empty(), "{:?}", incident.streams);
    assert!(incident.followers.is_empty(), "{:?}", incident.followers);
    assert!(incident.waiting.is_empty(), "{:?}", incident.waiting);
    sim.finish();
}

fn alpha() -> StandIn {
    StandIn::new("alpha")
        .act(
            Act::event("orders.created")
                .every(Duration::from_micros(200_006))
                .jitter(0.01)
                .from(Duration::from_millis(2000)),
        )
        .act(Act::command("inventory.reserve").after("orders.created"))
        .act(Act::command("payments.charge").amplitude(0.6).after_answer("inventory.reserve"))
        .act(
            Act::command("inventory.commit")
                .amplitude(0.8)
                .after_answer("payments.charge")
                .except(&[8, 14, 32, 33, 80, 82, 84, 90, 96, 102, 114]),
        )
        .act(Act::event("orders.completed").amplitude(0.8).after_answer("inventory.commit"))
        .act(
            Act::command("inventory.release")
                .amplitude(0.9)
                .after_answer("payments.charge")
                .only(&[8, 14, 32, 33, 80, 82, 84, 90, 96, 102, 114]),
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
                .every(Duration::from_micros(1_000_006))
                .from(Duration::from_millis(2751)),
        )
        .act(Act::event("inventory.released").on("inventory.release"))
        .act(Act::answer("inventory.release"))
        .act(
            Act::event("inventory.restocked")
                .at_millis(&[
                    3751, 3751, 3751, 3751, 3751, 6752, 6752, 6752, 6752, 6752, 9751, 9751, 9751,
                    9751, 12_751, 12_752, 12_752, 12_752, 12_752, 15_752, 15_752, 15_752, 15_752,
                    15_752, 18_751, 18_751, 18_751, 18_751, 18_751, 21_751, 21_751, 21_751,
                    21_751, 24_751, 24_751, 24_751, 24_751, 24_751,
                ]),
        )
}

fn payments() -> StandIn {
    StandIn::new("payments")
        .act(
            Act::event("payments.charged")
                .amplitude(0.6)
                .on("payments.charge")
                .except(&[8, 14, 32, 33, 80, 82, 84, 90, 96, 102, 114]),
        )
        .act(Act::answer("payments.charge"))
        .act(
            Act::event("payments.declined")
                .amplitude(0.7)
                .on("payments.charge")
                .only(&[8, 14, 32, 33, 80, 82, 84, 90, 96, 102, 114]),
        )
}

/// The incident with the times of the recording, so that the sentence is the same.
fn as_recorded(mut incident: Incident) -> Incident {
    incident.lasted = Duration::from_nanos(4_999_998_220);
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
