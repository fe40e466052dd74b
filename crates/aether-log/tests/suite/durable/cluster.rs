//! A cluster of three real servers whose leader of the stream is killed (SIGKILL) or stopped (SIGSTOP) under load.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aether_conformance::NatsCluster;
use aether_core::{Durability, Wave};
use aether_log::{JetStreamLog, JetStreamOptions, Schedule};
use async_nats::jetstream::stream::Info;
use parking_lot::Mutex;

use crate::durable::stage::{order, position, quick, receive, text};

const TASKS: u64 = 8;
const SERVERS: usize = 3;

/// The state of the stream, once all its replicas are up to date. Servers tell of this in no other way than by being asked.
async fn settled(context: &async_nats::jetstream::Context) -> Info {
    let mut every = tokio::time::interval(Duration::from_millis(100));
    loop {
        every.tick().await;
        let Ok(stream) = context.get_stream("shop").await else { continue };
        let info = stream.cached_info();
        let is_current = info.cluster.as_ref().is_some_and(|cluster| {
            cluster.leader.is_some()
                && cluster.replicas.len() == SERVERS - 1
                && cluster.replicas.iter().all(|replica| replica.current && !replica.offline)
        });
        if is_current {
            return info.clone();
        }
    }
}

/// How a leader ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Killed,
    Stopped,
    /// It hands over, as before an update.
    StepsDown,
}

/// What happens to the leader of each round. The load ends with the last one, or when the cluster has settled after it.
async fn leader_fails(rounds: &[End], load_ends: bool) {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = NatsCluster::start(SERVERS, folder.path()).await.unwrap();
    let options =
        JetStreamOptions::default().patience(Duration::from_secs(60)).ack_wait(Duration::from_secs(5));
    let log = JetStreamLog::builder(cluster.url(), "shop").options(options);
    let log = log.channels("orders.>", Durability::Replicated(3)).unwrap().open().await.unwrap();
    let aether = log.connect(aether::builder().url("local:")).await.unwrap();
    let client = async_nats::ConnectOptions::new().ping_interval(Duration::from_secs(2));
    let client = client.connect(cluster.url().split(',').collect::<Vec<_>>()).await.unwrap();
    let context = async_nats::jetstream::new(client);

    // The load: each task emits one wave after the other, and notes what was acknowledged.
    let (stored, is_over) = (Arc::new(Mutex::new(BTreeMap::new())), Arc::new(AtomicBool::new(false)));
    let emitters: Vec<_> = (0..TASKS)
        .map(|task| {
            let (shop, stored, is_over) =
                (aether.emitter("shop").unwrap(), Arc::clone(&stored), Arc::clone(&is_over));
            tokio::spawn(async move {
                for number in 0_u64.. {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let name = format!("{task}.{number}");
                    let receipt = shop.emit(order(name.clone(), 0.5)).await.unwrap();
                    assert_eq!(receipt.stored.unwrap().durability, Durability::Replicated(3));
                    stored.lock().insert(name, position(&receipt));
                }
            })
        })
        .collect();
    let billing = log.consumer("billing", "orders.>", quick()).unwrap();
    let (handled, mut counted) = tokio::sync::watch::channel(BTreeSet::new());
    let handling = tokio::spawn(async move {
        loop {
            let delivery = billing.receive().await.unwrap();
            let name = text(&delivery);
            assert!(!handled.borrow().contains(&name), "{name} came again after it was acknowledged");
            delivery.ack().await.unwrap();
            handled.send_modify(|handled| {
                handled.insert(name);
            });
        }
    });

    let probe = aether.emitter("probe").unwrap();
    for (round, &end) in rounds.iter().enumerate() {
        let leader = settled(&context).await.cluster.unwrap().leader.unwrap();
        // In the middle of the load, in each round.
        let is_loaded = counted.wait_for(|handled| handled.len() >= 300 * (round + 1));
        drop(tokio::time::timeout(Duration::from_secs(180), is_loaded).await.unwrap().unwrap());
        let before = stored.lock().len();
        let server = cluster.server(&leader).unwrap();
        match end {
            End::Killed => server.kill().await.unwrap(),
            End::Stopped => server.stop().await.unwrap(),
            End::StepsDown => {
                let subject = "$JS.API.STREAM.LEADER.STEPDOWN.shop";
                let answer = context.client().request(subject, "".into()).await.unwrap();
                let text = String::from_utf8_lossy(&answer.payload).into_owned();
                assert!(text.contains("\"success\":true"), "{text}");
            }
        }
        let started = Instant::now();
        // Begun after the failure, so only a new leader can have acknowledged it.
        probe.emit(order(format!("probe.{round}"), 0.9)).await.unwrap();
        let recovered = started.elapsed();
        println!(
            "round {round}: leader {leader} {end:?} after {before} waves, stored again after {recovered:.1?}"
        );
        match end {
            End::Killed => server.restart().await.unwrap(),
            End::Stopped => server.resume().unwrap(),
            End::StepsDown => {}
        }
    }
    is_over.store(load_ends, Ordering::Relaxed);
    settled(&context).await;
    is_over.store(true, Ordering::Relaxed);
    for emitter in emitters {
        emitter.await.unwrap();
    }
    let end = position(&probe.emit(order("end.0", 0.1)).await.unwrap());
    let stored = stored.lock().clone();
    println!("{} waves were acknowledged", stored.len());

    // Everything is there, where its receipt said, once and in order.
    let audit = log.consumer("audit", "orders.>", quick()).unwrap();
    let mut kept = BTreeMap::new();
    while (kept.len() as u64) < end {
        let delivery = receive(&audit).await;
        let before = kept.insert(delivery.position(), text(&delivery));
        assert_eq!(before, None);
        delivery.ack().await.unwrap();
    }
    for (name, position) in &stored {
        assert_eq!(kept.get(position), Some(name), "{name} was acknowledged at {position}");
    }
    let mut next = BTreeMap::<&str, u64>::new();
    for name in kept.values() {
        let (task, number) = name.split_once('.').unwrap();
        let expected = next.entry(task).or_default();
        assert_eq!(number.parse::<u64>().unwrap(), *expected, "the waves of {task} are in order, none twice");
        *expected += 1;
    }
    // And everything is handled, also what a failing leader had delivered.
    let all = counted.wait_for(|handled| handled.len() as u64 == end);
    let all = tokio::time::timeout(Duration::from_secs(180), all).await;
    assert!(all.is_ok_and(|all| all.is_ok()), "{} of {end} waves were handled", counted.borrow().len());
    assert!(!handling.is_finished());
    handling.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_gets_more_replicas_with_its_waves_and_never_fewer() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = NatsCluster::start(SERVERS, folder.path()).await.unwrap();
    let options = JetStreamOptions::default().patience(Duration::from_secs(60));
    let open = async |level| {
        let log = JetStreamLog::builder(cluster.url(), "shop").options(options);
        log.channels("orders.>", level).unwrap().open().await.unwrap()
    };
    let client = async_nats::connect(cluster.url().split(',').collect::<Vec<_>>()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    let replicas = async || {
        let mut found = Vec::new();
        for stream in ["shop", "shop-dead", "shop-schedules", "shop-parts"] {
            found.push(context.get_stream(stream).await.unwrap().cached_info().config.num_replicas);
        }
        found
    };
    // Each of them is in another stream.
    let emit = async |log: &JetStreamLog, name: &str| {
        let shop = log.connect(aether::builder().url("local:")).await.unwrap().emitter("shop").unwrap();
        let nightly = Schedule::cron("0 3 * * *", "UTC").unwrap();
        log.schedules().put("nightly", nightly, order(name, 0.5)).await.unwrap();
        let large = Wave::builder("orders.created").bytes(vec![7; 2 << 20]).build().unwrap();
        shop.emit(large).await.unwrap();
        shop.emit(order(name, 0.5)).await.unwrap().stored.unwrap()
    };

    let one = open(Durability::Stored).await;
    assert_eq!(emit(&one, "before").await.durability, Durability::Stored);
    assert_eq!(replicas().await, [1; 4]);
    let three = open(Durability::Replicated(3)).await;
    assert_eq!(emit(&three, "after").await.durability, Durability::Replicated(3));
    assert_eq!(replicas().await, [3; 4]);
    // A program that wants one goes on, and one that starts likewise.
    one.ready().await.unwrap();
    let late = open(Durability::Stored).await;
    emit(&late, "late").await;
    assert_eq!(replicas().await, [3; 4]);
    let billing = three.consumer("billing", "orders.>", quick()).unwrap();
    for name in ["before", "after", "late"] {
        receive(&billing).await.ack().await.unwrap();
        let delivery = receive(&billing).await;
        assert_eq!(text(&delivery), name);
        delivery.ack().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_wave_is_lost_when_the_leader_hands_over() {
    leader_fails(&[End::StepsDown], true).await;
}

/// Servers take four to nine seconds to find out that a leader is gone, and have no option for it.
mod long {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_acknowledged_wave_is_lost_when_the_leader_is_killed_and_when_it_is_stopped() {
        leader_fails(&[End::Killed, End::Stopped], false).await;
    }
}

/// Run it with `cargo test -p aether-bus-log --test suite ten_times -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn no_acknowledged_wave_is_lost_when_leaders_fail_ten_times() {
    leader_fails(&[End::Killed, End::Stopped].repeat(5), false).await;
}
