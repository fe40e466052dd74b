//! Sagas: completing, undoing, time-outs, panics, and going on after a restart.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use aether_log::Log;
use aether_outbox::{Redb, Run, SagaBuilder, SagaError, Sagas, Standing, Step, StepError, Store};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use crate::stage::{open, open_log, order, within};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    number: u64,
    steps: Vec<String>,
}

/// The behaviour of the steps: they fail by the name of the step, and note what was called.
#[derive(Clone, Default)]
struct World {
    calls: Arc<Mutex<Vec<String>>>,
    faults: Arc<Mutex<Vec<(&'static str, &'static str)>>>,
    /// A step that hangs does so for longer than a test takes.
    is_patient: bool,
}

impl World {
    fn fault(&self, name: &str) -> Option<&'static str> {
        self.faults.lock().iter().find(|(step, _)| *step == name).map(|(_, fault)| *fault)
    }

    fn step(&self, name: &'static str, undo: &'static str) -> Step<Order> {
        let attempts = NonZeroU32::new(2).unwrap();
        let within = if self.is_patient { Duration::from_secs(3600) } else { Duration::from_millis(300) };
        Step::new(name, self.action(name))
            .undo(self.action(undo))
            .within(within)
            .attempts(attempts, attempts)
            .pauses(Duration::from_millis(1), Duration::from_millis(1))
    }

    fn action(
        &self,
        name: &'static str,
    ) -> impl Fn(Run<Order>) -> futures_util::future::BoxFuture<'static, Result<Run<Order>, StepError>>
    + Send
    + Sync
    + use<> {
        let world = self.clone();
        move |mut run| {
            let world = world.clone();
            world.calls.lock().push(format!("{name} {}", run.attempt()));
            assert!(world.fault(name) != Some("panic at once"), "{name} panicked at once");
            Box::pin(async move {
                run.state.steps.push(name.to_owned());
                run.emit(order(run.state.number));
                match world.fault(name) {
                    Some("refuse") => Err(StepError::refused("no")),
                    Some("fail") => Err(std::io::Error::other("broken"))?,
                    Some("panic") => panic!("{name} panicked"),
                    Some("hang") => std::future::pending().await,
                    Some("bad change") => {
                        run.emit(aether_core::Wave::builder("a").bytes(vec![0; 1]).build()?);
                        run.change(|change| change.table("t").insert("", &1));
                        Ok(run)
                    }
                    _ => Ok(run),
                }
            })
        }
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock())
    }
}

fn sagas(world: &World, store: &Store<Redb>, log: &Log) -> Sagas<Order> {
    let builder = Sagas::builder("orders").step(world.step("reserve", "release"));
    builder.step(world.step("pay", "refund")).step(world.step("ship", "return")).open(store, log).unwrap()
}

fn start(store: &Store<Redb>, sagas: &Sagas<Order>, number: u64) -> bool {
    let change = store.begin().unwrap();
    let started =
        sagas.start(&change, &format!("order-{number}"), &Order { number, steps: Vec::new() }).unwrap();
    change.commit().unwrap();
    started
}

struct Stage {
    _folder: tempfile::TempDir,
    store: Store<Redb>,
    log: Log,
    world: World,
}

fn stage() -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let (store, log) = (open(folder.path()), open_log(folder.path()));
    Stage { _folder: folder, store, log, world: World::default() }
}

#[tokio::test]
async fn a_saga_makes_its_steps_in_order_and_each_change_once() {
    let Stage { store, log, world, .. } = &stage();
    let sagas = sagas(world, store, log);
    // Started before there is a runner, and while there is one.
    assert!(start(store, &sagas, 1) && !start(store, &sagas, 1));
    let runner = sagas.spawn().unwrap();
    assert!(matches!(sagas.spawn(), Err(SagaError::Running { .. })));
    within(sagas.wait_for(|ledger| ledger.completed == 1)).await;
    assert_eq!(world.calls(), ["reserve 1", "pay 1", "ship 1"]);
    assert!(start(store, &sagas, 2) && !start(store, &sagas, 1), "an ended one is not started again");
    let ledger = within(sagas.wait_for(|ledger| ledger.completed == 2)).await;
    assert!(ledger.adds_up() && ledger.started == 2);
    assert_eq!(store.ledger().committed, 6, "a wave for each step");
    let dropped = store.begin().unwrap();
    assert!(sagas.start(&dropped, "order-3", &Order { number: 3, steps: Vec::new() }).unwrap());
    drop(dropped);
    assert_eq!(
        runner.close(Duration::from_secs(1)).await.started,
        2,
        "what was not committed is not started"
    );
    assert!(sagas.spawn().is_ok());
}

#[tokio::test]
async fn a_step_that_fails_hangs_or_panics_is_made_again_and_then_undone_with_those_before() {
    let all = ["reserve 1", "pay 1", "pay 2", "refund 1", "release 1"];
    let refused = ["reserve 1", "pay 1", "release 1"];
    for (fault, expected) in [
        ("fail", &all[..]),
        ("hang", &all),
        ("panic", &all),
        ("panic at once", &all),
        ("bad change", &all),
        ("refuse", &refused),
    ] {
        let Stage { store, log, world, .. } = &stage();
        let sagas = sagas(world, store, log);
        world.faults.lock().push(("pay", fault));
        let runner = sagas.spawn().unwrap();
        start(store, &sagas, 1);
        let ledger = within(sagas.wait_for(|ledger| ledger.running == 0 && ledger.started == 1)).await;
        assert_eq!(
            (ledger.undone, world.calls()),
            (1, expected.iter().map(|call| (*call).to_owned()).collect()),
            "{fault}"
        );
        // Only steps that were made have emitted: reserve, and what undid it.
        assert_eq!(
            store.ledger().committed,
            expected.len() as u64 - if fault == "refuse" { 1 } else { 2 },
            "{fault}"
        );
        runner.close(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn a_saga_that_cannot_be_undone_is_a_dead_letter_with_its_state_until_it_is_retried() {
    let Stage { store, log, world, .. } = &stage();
    let sagas = sagas(world, store, log);
    world.faults.lock().extend([("ship", "fail"), ("refund", "panic")]);
    let runner = sagas.spawn().unwrap();
    start(store, &sagas, 7);
    within(sagas.wait_for(|ledger| ledger.stuck == 1)).await;
    // The runner writes the letter before it closes.
    let ledger = runner.close(Duration::from_secs(180)).await;
    assert!(ledger.adds_up() && ledger.stuck == 1, "{ledger}");
    let stuck = sagas.stuck().unwrap();
    assert_eq!((stuck[0].id.as_str(), stuck[0].step.as_str(), stuck[0].state.number), ("order-7", "pay", 7));
    assert_eq!(stuck[0].errors.last().unwrap(), "pay: the step panicked: refund panicked");
    let letter = log.dead().show(stuck[0].letter.unwrap()).unwrap();
    let about: serde_json::Value = letter.stored.wave.json().unwrap();
    assert_eq!((about["id"].as_str(), about["state"]["number"].as_u64()), (Some("order-7"), Some(7)));
    assert_eq!((letter.consumer.as_str(), letter.failed.len()), ("saga-orders", 4));
    assert!(matches!(sagas.retry("order-8").await, Err(SagaError::NotStandingStill { .. })));

    // The refund works again, also after a restart.
    world.faults.lock().clear();
    world.calls();
    sagas.retry("order-7").await.unwrap();
    assert!(log.dead().is_empty());
    let runner = sagas.spawn().unwrap();
    let ledger = within(sagas.wait_for(|ledger| ledger.undone == 1)).await;
    assert!(ledger.adds_up() && ledger.stuck == 0);
    assert_eq!(world.calls(), ["refund 1", "release 1"]);
    runner.close(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn an_interrupted_step_is_made_again_by_the_next_runner() {
    let folder = tempfile::tempdir().unwrap();
    let world = World { is_patient: true, ..World::default() };
    let reopened = |folder: &Path| (open(folder), open_log(folder));
    {
        let (store, log) = reopened(folder.path());
        let sagas = sagas(&world, &store, &log);
        world.faults.lock().push(("pay", "hang"));
        let runner = sagas.spawn().unwrap();
        start(&store, &sagas, 1);
        within(async {
            while !world.calls.lock().iter().any(|call| call == "pay 1") {
                tokio::task::yield_now().await;
            }
        })
        .await;
        runner.close(Duration::ZERO).await;
    }
    world.faults.lock().clear();
    world.calls();
    let (store, log) = reopened(folder.path());
    let sagas = sagas(&world, &store, &log);
    assert_eq!(sagas.ledger().running, 1);
    let runner = sagas.spawn().unwrap();
    within(sagas.wait_for(|ledger| ledger.completed == 1)).await;
    assert_eq!(world.calls(), ["pay 1", "ship 1"]);
    runner.close(Duration::from_secs(1)).await;
}

/// One saga that was interrupted at its step `pay`.
async fn interrupted(folder: &Path, world: &World) {
    let (store, log) = (open(folder), open_log(folder));
    let sagas = sagas(world, &store, &log);
    world.faults.lock().push(("pay", "hang"));
    let runner = sagas.spawn().unwrap();
    start(&store, &sagas, 1);
    called(world, "pay 1").await;
    runner.close(Duration::ZERO).await;
    world.faults.lock().clear();
    world.calls();
}

async fn called(world: &World, call: &str) {
    within(async {
        while !world.calls.lock().iter().any(|called| called == call) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_saga_without_a_definition_stands_still_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let world = World { is_patient: true, ..World::default() };
    interrupted(folder.path(), &world).await;
    let (store, log) = (open(folder.path()), open_log(folder.path()));

    // A program that has lost the step.
    let lost = Sagas::builder("orders").step(world.step("reserve", "release")).open(&store, &log).unwrap();
    let runner = lost.spawn().unwrap();
    assert!(start(&store, &lost, 2) && !start(&store, &lost, 1));
    let ledger = within(lost.wait_for(|ledger| ledger.completed == 1)).await;
    assert!(ledger.adds_up() && (ledger.undefined, ledger.running) == (1, 0), "{ledger}");
    let standing = lost.standing_still().unwrap();
    let [one] = &standing[..] else { panic!("{standing:?}") };
    assert_eq!((one.id.as_str(), one.saga.as_str(), one.version), ("order-1", "orders", 1));
    assert_eq!((one.step.as_str(), one.is_undone, one.attempts), ("pay", false, 0));
    let reason = "version 1 of its definition has no step pay in this program";
    assert_eq!(one.why, Standing::Undefined(reason.to_owned()));
    assert!(one.since.is_some());
    for refused in [lost.retry("order-1").await, lost.give_up("order-1").await.map(drop)] {
        assert!(matches!(refused, Err(SagaError::Undefined { .. })), "{refused:?}");
    }
    runner.close(Duration::from_secs(1)).await;
    assert_eq!(world.calls(), ["reserve 1"]);

    // And one whose state has another type.
    let other = Sagas::<u64>::builder("orders").step(Step::new("pay", |run| async move { Ok(run) }));
    let other = other.open(&store, &log).unwrap();
    let standing = other.standing_still().unwrap();
    assert!(
        matches!(&standing[0].why, Standing::Undefined(reason) if reason.contains("another type")),
        "{standing:?}"
    );
    assert_eq!((other.ledger().undefined, standing[0].step.as_str()), (1, "pay"));

    let sagas = sagas(&world, &store, &log);
    assert_eq!((sagas.ledger().running, sagas.ledger().undefined), (1, 0));
    let runner = sagas.spawn().unwrap();
    let ledger = within(sagas.wait_for(|ledger| ledger.completed == 2)).await;
    assert!(ledger.adds_up() && sagas.standing_still().unwrap().is_empty(), "{ledger}");
    assert_eq!(world.calls(), ["pay 1", "ship 1"]);
    runner.close(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_saga_ends_by_the_version_that_it_was_started_with() {
    let folder = tempfile::tempdir().unwrap();
    let world = World { is_patient: true, ..World::default() };
    interrupted(folder.path(), &world).await;
    let (store, log) = (open(folder.path()), open_log(folder.path()));
    let second = |builder: SagaBuilder<Order>| builder.version(2).step(world.step("pack", "unpack"));

    let newest = second(Sagas::builder("orders")).open(&store, &log).unwrap();
    let standing = newest.standing_still().unwrap();
    let reason = "this program has no version 1 of its definition".to_owned();
    assert_eq!((standing.len(), &standing[0].why), (1, &Standing::Undefined(reason)));
    assert_eq!(newest.ledger().undefined, 1);

    let first = Sagas::builder("orders").step(world.step("reserve", "release"));
    let both = second(first.step(world.step("pay", "refund")).step(world.step("ship", "return")));
    let both = both.open(&store, &log).unwrap();
    start(&store, &both, 2);
    let runner = both.spawn().unwrap();
    within(both.wait_for(|ledger| ledger.completed == 2)).await;
    let mut calls = world.calls();
    calls.sort();
    assert_eq!(calls, ["pack 1", "pay 1", "ship 1"]);
    runner.close(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_saga_that_takes_too_long_is_undone_also_after_a_restart() {
    let limited = |world: &World, time| {
        let builder = Sagas::builder("orders").within(time).step(world.step("reserve", "release"));
        builder.step(world.step("pay", "refund")).step(world.step("ship", "return"))
    };
    // In the middle of a step, which may take an hour.
    let Stage { store, log, world, .. } =
        &Stage { world: World { is_patient: true, ..World::default() }, ..stage() };
    let sagas = limited(world, Duration::from_millis(500)).open(store, log).unwrap();
    world.faults.lock().push(("pay", "hang"));
    let runner = sagas.spawn().unwrap();
    start(store, &sagas, 1);
    let ledger = within(sagas.wait_for(|ledger| ledger.undone == 1)).await;
    assert!(ledger.adds_up(), "{ledger}");
    assert_eq!(world.calls(), ["reserve 1", "pay 1", "refund 1", "release 1"]);
    runner.close(Duration::from_secs(1)).await;

    // While no process ran. The next one has no limit for new ones.
    let folder = tempfile::tempdir().unwrap();
    {
        let (store, log) = (open(folder.path()), open_log(folder.path()));
        start(&store, &limited(world, Duration::ZERO).open(&store, &log).unwrap(), 1);
    }
    let (store, log) = (open(folder.path()), open_log(folder.path()));
    let reopened = self::sagas(world, &store, &log);
    let runner = reopened.spawn().unwrap();
    within(reopened.wait_for(|ledger| ledger.undone == 1)).await;
    assert_eq!(world.calls(), ["release 1"], "nobody knows whether it had begun");
    runner.close(Duration::from_secs(1)).await;

    // Started and too late at once: nothing has begun.
    let late = limited(world, Duration::ZERO).open(&store, &log).unwrap();
    let runner = late.spawn().unwrap();
    start(&store, &late, 2);
    // The runner is at work now.
    within(late.wait_for(|ledger| ledger.undone == 2)).await;
    world.calls();
    start(&store, &late, 3);
    within(late.wait_for(|ledger| ledger.undone == 3)).await;
    assert!(world.calls().is_empty());
    runner.close(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn an_operator_sees_what_stands_still_and_lets_it_go_on_or_gives_it_up() {
    let Stage { store, log, world, .. } = &stage();
    let hour = Duration::from_secs(3600);
    let patient = |step: Step<Order>| step.pauses(hour, hour);
    let sagas = Sagas::builder("orders").step(world.step("reserve", "release"));
    let sagas = sagas.step(patient(world.step("pay", "refund"))).open(store, log).unwrap();
    world.faults.lock().push(("pay", "fail"));
    start(store, &sagas, 1);
    assert_eq!(sagas.standing_still().unwrap()[0].why, Standing::Waiting);
    let runner = sagas.spawn().unwrap();
    let retrying = async || {
        within(async {
            loop {
                let standing = sagas.standing_still().unwrap();
                if standing.first().is_some_and(|one| one.why == Standing::Retrying) {
                    return standing;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    };
    let standing = retrying().await;
    assert_eq!((standing.len(), standing[0].step.as_str(), standing[0].attempts), (1, "pay", 1));
    assert_eq!(standing[0].last_error.as_deref(), Some("pay: broken"));
    world.faults.lock().clear();
    sagas.retry("order-1").await.unwrap();
    within(sagas.wait_for(|ledger| ledger.completed == 1)).await;
    assert_eq!(world.calls(), ["reserve 1", "pay 1", "pay 2"]);
    assert!(matches!(sagas.retry("order-1").await, Err(SagaError::NotStandingStill { .. })));
    assert!(!sagas.give_up("order-1").await.unwrap());

    world.faults.lock().push(("pay", "fail"));
    start(store, &sagas, 2);
    retrying().await;
    assert!(sagas.give_up("order-2").await.unwrap());
    let ledger = within(sagas.wait_for(|ledger| ledger.undone == 1)).await;
    assert!(ledger.adds_up() && sagas.standing_still().unwrap().is_empty());
    assert_eq!(world.calls(), ["reserve 1", "pay 1", "refund 1", "release 1"]);
    runner.close(Duration::from_secs(1)).await;
}

#[test]
fn names_that_are_not_allowed_and_steps_of_one_name_are_refused() {
    let Stage { store, log, world, .. } = &stage();
    let step = || world.step("pay", "refund");
    let same = Sagas::builder("orders").step(step()).step(step()).open(store, log).unwrap_err();
    assert!(matches!(same, SagaError::SameStep { .. }), "{same}");
    let none = Sagas::<u64>::builder("orders").open(store, log).unwrap_err();
    assert!(matches!(none, SagaError::NoSteps { .. }), "{none}");
    let empty = Sagas::builder("orders").step(step()).version(2).open(store, log).unwrap_err();
    assert!(matches!(empty, SagaError::NoSteps { .. }), "{empty}");
    let name = Sagas::builder("a.b").step(step()).open(store, log).unwrap_err();
    assert!(matches!(name, SagaError::Name { what: "saga", .. }), "{name}");
    let sagas = Sagas::builder("orders").step(step()).open(store, log).unwrap();
    let change = store.begin().unwrap();
    let id = sagas.start(&change, "", &Order { number: 1, steps: Vec::new() }).unwrap_err();
    assert!(matches!(id, SagaError::Id { .. }), "{id}");
}
