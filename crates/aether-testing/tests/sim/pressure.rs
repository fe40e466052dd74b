//! Bursts against inboxes with bounds: pauses over the network, groups of a slow and a fast member, strong waves among weak
//! ones. The accounts of senders and receivers agree.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aether_core::clock::micros_since_1970;
use aether_core::{Aether, Floor, InboxOptions, Ledger, ServeOrder, ShedReason, Vibrator, Wave, WhenFull};
use aether_service::CancellationToken;
use aether_testing::sim::{Link, RandomFaults, Sim, explore};
use tokio::time::sleep;
use tower::BoxError;

use crate::traffic::{Disk, SECOND, STRENGTHS, burst, key, pause, vary_links};

const SOURCES: [&str; 2] = ["source 1", "source 2"];
const OPENS_AFTER: Duration = Duration::from_secs(3);
const FAULTS_WITHIN: Duration = Duration::from_secs(25);
const CALMS_WITHIN: Duration = Duration::from_secs(10);

/// A receiver: its process, what it takes for each wave, and its group.
struct Receiving {
    name: &'static str,
    takes: Duration,
    group: Option<&'static str>,
    inbox: fn() -> InboxOptions,
}

fn patient() -> InboxOptions {
    InboxOptions::default().max_waves(16).when_full(WhenFull::Wait { patience: SECOND / 5 })
}

const RECEIVERS: [Receiving; 6] = [
    Receiving { name: "patient", takes: Duration::from_millis(4), group: None, inbox: patient },
    Receiving {
        name: "hasty",
        takes: Duration::from_millis(4),
        group: None,
        inbox: || InboxOptions::default().max_waves(16).when_full(WhenFull::Shed),
    },
    Receiving {
        name: "in order",
        takes: Duration::from_millis(2),
        group: None,
        inbox: || patient().order(ServeOrder::Arrival).max_bytes(8000).floor(Floor::new(0.3).unwrap()),
    },
    Receiving {
        name: "impatient",
        takes: Duration::from_millis(3),
        group: None,
        inbox: || InboxOptions::overload().max_waves(32),
    },
    Receiving { name: "slow", takes: Duration::from_millis(20), group: Some("crew"), inbox: patient },
    Receiving { name: "fast", takes: Duration::ZERO, group: Some("crew"), inbox: patient },
];

/// The counts of one process.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Count {
    received: u64,
    shed: u64,
}

#[derive(Debug, Default)]
struct Counts {
    emitted: u64,
    /// The sources that emit no more.
    finished: usize,
    received: BTreeMap<&'static str, Count>,
    /// How long strong waves took.
    strong: Vec<Duration>,
    last: BTreeMap<(&'static str, u64, String, u32), u64>,
    problems: Vec<String>,
}

type Board = Disk<Counts>;

async fn receive(
    of: &Receiving,
    aether: Aether,
    shutdown: CancellationToken,
    board: Board,
) -> Result<(), BoxError> {
    let (name, shed) = (of.name, Arc::clone(&board));
    let inbox = (of.inbox)().on_shed(move |_: &Wave, _: ShedReason| {
        shed.lock().received.entry(name).or_default().shed += 1;
    });
    let mut receiver = Vibrator::builder("receiver").inbox(inbox).create(&aether).await?;
    match of.group {
        Some(group) => receiver.resonate_in_group("load.*", group).await?,
        None => receiver.resonate_on("load.*").await?,
    }
    while let Some(Some(wave)) = shutdown.run_until_cancelled(receiver.receive()).await {
        {
            let mut board = board.lock();
            board.received.entry(name).or_default().received += 1;
            let amplitude = wave.amplitude().as_f32();
            let key =
                (name, wave.source().instance(), wave.channel().as_str().to_owned(), amplitude.to_bits());
            let last = board.last.insert(key, wave.id().sequence).unwrap_or(0);
            if last >= wave.id().sequence {
                board.problems.push(format!("{} came to {name} after {last}", wave.id()));
            }
            if amplitude >= STRENGTHS[0] {
                let emitted: u64 = wave.json()?;
                board.strong.push(Duration::from_micros(micros_since_1970().saturating_sub(emitted)));
            }
        }
        if !of.takes.is_zero() {
            sleep(of.takes).await;
        }
    }
    Ok(())
}

async fn emit(aether: &Aether, board: &Board, waves: u64, most: u64) -> Result<(), BoxError> {
    let source = aether.emitter("source")?;
    while board.lock().emitted < waves {
        for _ in 0..burst(most) {
            // Most are weak.
            let strength = STRENGTHS[2 - key(3) as usize];
            let channel = format!("load.kind{}", key(3));
            source
                .emit(Wave::builder(channel).amplitude(strength).never_decays().json(micros_since_1970()))
                .await?;
            board.lock().emitted += 1;
        }
        sleep(pause(SECOND / 8)).await;
    }
    Ok(())
}

fn system(sim: &mut Sim, receivers: &'static [Receiving], waves: u64, most: u64) -> Board {
    let board = Board::default();
    for receiver in receivers {
        let board = Arc::clone(&board);
        sim.process(receiver.name, move |aether, shutdown| {
            receive(receiver, aether, shutdown, Arc::clone(&board))
        });
    }
    for name in SOURCES {
        let board = Arc::clone(&board);
        sim.process(name, move |aether, shutdown| {
            let board = Arc::clone(&board);
            async move {
                sleep(OPENS_AFTER).await;
                emit(&aether, &board, waves, most).await?;
                board.lock().finished += 1;
                shutdown.cancelled().await;
                Ok::<_, BoxError>(())
            }
        });
    }
    let checked = Arc::clone(&board);
    sim.always(move |sim| {
        for receiver in receivers {
            let count = checked.lock().received.get(receiver.name).copied().unwrap_or_default();
            let ledger = ledger(sim, receiver.name);
            let shed = ledger.lost() - ledger.lost_upstream;
            if (ledger.delivered, shed) != (count.received, count.shed) {
                return Err(format!("{} has counted {count:?}: {ledger:?}", receiver.name));
            }
        }
        checked.lock().problems.pop().map_or(Ok(()), Err)
    });
    board
}

fn ledger(sim: &mut Sim, name: &str) -> Ledger {
    let reports = sim.aether(name).map(|aether| aether.inboxes()).unwrap_or_default();
    reports
        .into_iter()
        .find(|report| report.vibrator == "receiver")
        .map(|report| report.ledger)
        .unwrap_or_default()
}

/// The waves that the outboxes of the sources have sent, shed, and still have.
fn sent(sim: &mut Sim) -> Ledger {
    let outboxes =
        SOURCES.map(|name| sim.aether(name).map(|aether| aether.status().outbox).unwrap_or_default());
    outboxes[0] + outboxes[1]
}

/// All that was emitted is sent, offered to each receiver and to one member of the group, and received or shed.
fn without_faults(sim: &mut Sim) {
    let board = system(sim, &RECEIVERS, 250, 150);
    vary_links(sim);
    let emitted = Arc::clone(&board);
    sim.eventually(120 * SECOND, "all waves are emitted and have left their inboxes", move |sim| {
        let all = sent(sim);
        emitted.lock().finished == SOURCES.len()
            && all.queued == 0
            && RECEIVERS.iter().all(|of| ledger(sim, of.name).queued == 0)
    });
    for name in SOURCES {
        sim.run(name, async |aether| aether.flush().await.unwrap());
    }
    sim.run_for(SECOND);
    let (all, emitted) = (sent(sim), board.lock().emitted);
    assert_eq!((all.offered, all.delivered), (emitted, emitted), "{all:?}");
    for of in RECEIVERS.iter().filter(|of| of.group.is_none()) {
        let ledger = ledger(sim, of.name);
        assert_eq!((ledger.offered, ledger.lost_upstream), (emitted, 0), "{}: {ledger:?}", of.name);
    }
    let crew = ledger(sim, "slow") + ledger(sim, "fast");
    assert_eq!(crew.offered, emitted, "{crew:?}");
    for name in SOURCES {
        let status = sim.aether(name).unwrap().status();
        assert_eq!((status.held, status.unconfirmed, status.in_flight), (0, 0, 0), "{name}: {status:?}");
    }
}

/// Nobody dies. Each receiver counts what it did not get as lost upstream; of the group the sources count it.
fn with_faults(sim: &mut Sim) {
    let board = system(sim, &RECEIVERS, 250, 100);
    sim.run_for(OPENS_AFTER);
    sim.random_faults(FAULTS_WITHIN, &RandomFaults::new(4).kills(0));
    sim.run_for(FAULTS_WITHIN);
    sim.heal();
    let finished = Arc::clone(&board);
    sim.eventually(60 * SECOND, "all waves are emitted", move |_| finished.lock().finished == SOURCES.len());
    sim.run_for(CALMS_WITHIN);
    for name in SOURCES {
        sim.run(name, async |aether| aether.flush().await.unwrap());
    }
    sim.run_for(2 * SECOND);
    let (all, emitted) = (sent(sim), board.lock().emitted);
    assert_eq!((all.offered, all.queued), (emitted, 0), "{all:?}");
    for of in RECEIVERS.iter().filter(|of| of.group.is_none()) {
        let ledger = ledger(sim, of.name);
        assert_eq!((ledger.offered, ledger.queued), (all.delivered, 0), "{}: {ledger:?}", of.name);
    }
    let crew = ledger(sim, "slow") + ledger(sim, "fast");
    assert!(crew.offered <= all.delivered, "{crew:?}");
}

const OVERLOADED: [Receiving; 1] =
    [Receiving { name: "busy", takes: Duration::from_millis(4), group: None, inbox: patient }];

/// Twice as much as a receiver can take, most of it weak: strong waves are as fast as on an idle system, by order of
/// magnitude, and all that is shed is weaker.
fn under_overload(sim: &mut Sim) {
    let board = Board::default();
    let of_receiver = Arc::clone(&board);
    sim.process("busy", move |aether, shutdown| {
        receive(&OVERLOADED[0], aether, shutdown, Arc::clone(&of_receiver))
    });
    sim.link_all(Link {
        latency: Duration::from_millis(fastrand::Rng::with_seed(sim.seed()).u64(1..20)),
        ..Link::default()
    });
    for name in SOURCES {
        sim.idle(name);
    }
    sim.run_for(OPENS_AFTER);
    let emitted = |strong: u64, weak: u64| {
        async move |aether: Aether| {
            let source = aether.emitter("source").unwrap();
            for number in 0..strong * (weak + 1) {
                let strength = STRENGTHS[if number % (weak + 1) == 0 { 0 } else { 2 }];
                let wave =
                    Wave::builder("load.all").amplitude(strength).never_decays().json(micros_since_1970());
                if strength >= STRENGTHS[0] {
                    source.emit(wave).await.map(drop).unwrap()
                } else {
                    drop(source.try_emit(wave))
                }
                sleep(Duration::from_millis(if weak == 0 { 20 } else { 2 })).await;
            }
        }
    };
    sim.run(SOURCES[0], emitted(20, 0));
    sim.run_for(SECOND);
    let mut idle = std::mem::take(&mut board.lock().strong);
    let (began, before) = (sim.now(), ledger(sim, "busy").delivered);
    sim.run(SOURCES[0], emitted(60, 9));
    sim.eventually(10 * SECOND, "all waves have left", |sim| {
        sent(sim).queued + ledger(sim, "busy").queued == 0
            && sim.aether("busy").unwrap().status().in_flight == 0
    });
    // The receiver was busy all the time: a pause ends a round trip after there is room.
    let (took, handled) = (sim.now() - began, ledger(sim, "busy").delivered - before);
    assert!(took <= 5 * handled as u32 * Duration::from_millis(1), "{handled} waves in {took:?}");
    sim.run_for(SECOND);
    let mut busy = std::mem::take(&mut board.lock().strong);
    assert_eq!((idle.len(), busy.len()), (20, 60), "no strong wave is shed");
    idle.sort();
    busy.sort();
    let (median, late) = (idle[10], busy[57]);
    assert!(late <= 10 * median.max(Duration::from_millis(5)), "{late:?}, and {median:?} without load");
    let busy = ledger(sim, "busy");
    let source = sim.aether(SOURCES[0]).unwrap().status();
    assert!(source.pauses > 0 || busy.shed_full > 0, "{busy:?} {source:?}");
    assert_eq!((source.held, source.outbox.queued), (0, 0));
    assert_eq!(busy.offered, source.outbox.delivered);
}

pub(crate) const SCENARIOS: [fn(&mut Sim); 3] = [without_faults, with_faults, under_overload];

#[test]
fn the_accounts_of_senders_and_receivers_agree() {
    explore(0..6, without_faults);
}

#[test]
fn waves_that_do_not_arrive_are_counted_where_they_are_missed() {
    explore(0..2, with_faults);
}

#[test]
fn strong_waves_stay_fast_under_overload() {
    explore(0..6, under_overload);
}
