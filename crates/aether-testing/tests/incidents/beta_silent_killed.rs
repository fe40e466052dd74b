//! Incident 1 of beta-silent-killed.rec as a test.
//!
//! critical: beta stopped: its 3 streams are silent for 5.00 s, so are 3 channels that follow, and
//! alpha waits for answers; check the process
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
fn beta_stopped_is_found() {
    let mut sim = Sim::with_seed(1);
    // To test a real service, put it in place of its stand-in: sim.serve("alpha", || service()),
    // where service() makes its ServiceBuilder.
    sim.process("alpha", |aether, shutdown| alpha().run(aether, shutdown));
    sim.process("beta", |aether, shutdown| beta().run(aether, shutdown));
    sim.process("payments", |aether, shutdown| payments().run(aether, shutdown));
    let found = observe(&mut sim);

    // The fault.
    sim.at(Duration::from_millis(37_067), |sim| sim.kill("beta"));
    sim.run_for(Duration::from_millis(47_047));

    let found = found.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let is_it = |incident: &&Incident| {
        incident.cause.as_str() == "stopped" && incident.services == ["beta"]
    };
    let incident = found.iter().find(is_it).unwrap_or_else(|| panic!("not among {found:#?}"));
    assert_eq!(
        as_recorded(incident.clone()).to_string(),
        "beta stopped: its 3 streams are silent for 5.00 s, so are 3 channels that follow, and alpha waits for answers; check the process"
    );
    assert_eq!(
        sorted(&incident.streams),
        ["inventory.commit", "inventory.reserve", "inventory.reserved"]
    );
    assert_eq!(
        sorted(&incident.followers),
        ["orders.completed", "orders.created", "payments.charge"]
    );
    assert_eq!(sorted(&incident.waiting), ["alpha"]);
    sim.finish();
}

fn alpha() -> StandIn {
    StandIn::new("alpha")
        .act(
            Act::command("inventory.reserve")
                .after("orders.created")
                .tries(18, Duration::from_micros(166_139)),
        )
        .act(
            Act::event("orders.created")
                .every(Duration::from_micros(250_001))
                .jitter(0.01)
                .from(Duration::from_millis(2047))
                .until(Duration::from_millis(40_922)),
        )
        .act(Act::command("payments.charge").amplitude(0.6).after_answer("inventory.reserve"))
        .act(
            Act::command("inventory.commit")
                .amplitude(0.8)
                .after_answer("payments.charge")
                .except(&[14, 24, 25, 31, 33, 69, 88, 103, 105, 111, 122, 127, 134])
                .tries(15, Duration::from_micros(489_855)),
        )
        .act(Act::event("orders.completed").amplitude(0.8).after_answer("inventory.commit"))
        .act(
            Act::command("inventory.release")
                .amplitude(0.9)
                .after_answer("payments.charge")
                .only(&[14, 24, 25, 31, 33, 69, 88, 103, 105, 111, 122, 127, 134]),
        )
        .act(Act::event("orders.compensated").amplitude(0.9).after_answer("inventory.release"))
}

fn beta() -> StandIn {
    StandIn::new("beta")
        .act(Act::event("inventory.reserved").on("inventory.reserve"))
        .act(Act::answer("inventory.reserve"))
        .act(Act::answer("inventory.commit"))
        .act(Act::event("inventory.released").on("inventory.release"))
        .act(Act::answer("inventory.release"))
}

fn payments() -> StandIn {
    StandIn::new("payments")
        .act(
            Act::event("payments.charged")
                .amplitude(0.6)
                .on("payments.charge")
                .except(&[14, 24, 25, 31, 33, 69, 88, 103, 105, 111, 122, 127, 134]),
        )
        .act(Act::answer("payments.charge"))
        .act(
            Act::event("payments.declined")
                .amplitude(0.7)
                .on("payments.charge")
                .only(&[14, 24, 25, 31, 33, 69, 88, 103, 105, 111, 122, 127, 134]),
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
