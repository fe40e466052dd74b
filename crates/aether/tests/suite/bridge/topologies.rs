//! More than one bridge: several in parallel, and a ring.

use std::collections::HashMap;

use aether_core::Channel;

use super::*;

const WAVES: usize = 300;

/// Each command travels alone, so the members of a group share them one by one.
fn command(number: usize) -> Wave {
    Wave::builder("jobs.new").kind(Kind::Command).text(number.to_string()).build().unwrap()
}

/// How often each text came.
fn copies(texts: Vec<String>) -> HashMap<String, usize> {
    texts.into_iter().fold(HashMap::new(), |mut copies, text| {
        *copies.entry(text).or_default() += 1;
        copies
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_bridges_of_a_group_relay_each_wave_once_and_one_goes_on_alone() {
    let (edge, hub) = (server().await, server().await);
    let grouped = async || {
        let (here, there) = (connected(&edge).await, connected(&hub).await);
        let group = Channel::new("edge-hub").unwrap();
        (of("jobs.>").group(group).between(&here, &there).await.unwrap(), here, there)
    };
    let (first, first_here, first_there) = grouped().await;
    let (second, _here, there) = grouped().await;
    let (edge, hub) = (connected(&edge).await, connected(&hub).await);
    let (mut at_edge, mut at_hub) = (ear(&edge, "jobs.>").await, ear(&hub, "jobs.>").await);
    let emitter = edge.emitter("office").unwrap();
    for number in 0..WAVES {
        emitter.emit(command(number)).await.unwrap();
    }
    let mut seen = HashMap::new();
    while seen.len() < WAVES {
        *seen.entry(next(&mut at_hub).await.text().unwrap().to_owned()).or_insert(0) += 1;
    }
    let account = first.close().await;
    let (relayed, back) = (account.there.relayed, account.back.unwrap());
    assert!((1..WAVES as u64).contains(&relayed) && back.relayed == 0 && account.adds_up(), "{account:?}");
    first_here.close().await.unwrap();
    first_there.close().await.unwrap();
    emitter.emit(command(WAVES)).await.unwrap();
    for (number, copies) in &seen {
        assert_eq!(*copies, 1, "{number}");
    }
    assert_eq!(next(&mut at_hub).await.text().unwrap(), WAVES.to_string());
    let account = second.close().await;
    flushed(&there).await;
    assert_eq!(relayed + account.there.relayed, WAVES as u64 + 1);
    assert_eq!(account.back.unwrap().relayed, 0, "what comes back through the other one is not relayed back");
    hub.emitter("office").unwrap().emit(end("jobs.end")).await.unwrap();
    assert_eq!(until(&mut at_hub, "end").await, [""; 0]);
    emitter.emit(end("jobs.end")).await.unwrap();
    assert_eq!(copies(until(&mut at_edge, "end").await).values().max(), Some(&1));
}

/// Emits on one of three media with a bridge between every two. Returns how often each wave was heard on each of them.
async fn ring(max_hops: u8) -> [HashMap<String, usize>; 3] {
    let servers = [server().await, server().await, server().await];
    let mut ears = Vec::new();
    let mut own = Vec::new();
    for server in &servers {
        own.push(connected(server).await);
        ears.push(ear(&own[own.len() - 1], "ring.>").await);
    }
    let mut bridges = Vec::new();
    for (here, there) in [(0, 1), (1, 2), (2, 0)] {
        let (here, there) = (connected(&servers[here]).await, connected(&servers[there]).await);
        bridges.push((of("ring.>").max_hops(max_hops).between(&here, &there).await.unwrap(), here, there));
    }
    let emitter = own[0].emitter("source").unwrap();
    for number in 0..WAVES {
        emitter.emit(text("ring.wave", number)).await.unwrap();
    }
    let mut heard = [HashMap::new(), HashMap::new(), HashMap::new()];
    for (heard, ear) in heard.iter_mut().zip(&mut ears) {
        while heard.len() < WAVES {
            *heard.entry(next(ear).await.text().unwrap().to_owned()).or_insert(0) += 1;
        }
    }
    for (bridge, here, there) in bridges {
        let account = bridge.close().await;
        assert!(account.adds_up(), "{account:?}");
        here.close().await.unwrap();
        there.close().await.unwrap();
    }
    // Nothing is relayed any more, so this is behind all of it.
    for ((own, ear), heard) in own.iter().zip(&mut ears).zip(&mut heard) {
        own.emitter("end").unwrap().emit(end("ring.end")).await.unwrap();
        for (text, more) in copies(until(ear, "end").await) {
            *heard.entry(text).or_insert(0) += more;
        }
    }
    heard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ring_of_three_ends_and_with_one_hop_gives_each_wave_once() {
    for heard in ring(1).await {
        assert_eq!((heard.len(), heard.values().max()), (WAVES, Some(&1)));
    }
    let [source, second, third] = ring(8).await;
    // At most once by each of the two ways, and nothing goes round again.
    for heard in [second, third] {
        assert!(heard.len() == WAVES && heard.values().all(|copies| *copies <= 2), "{heard:?}");
    }
    assert!(source.len() == WAVES && source.values().all(|copies| *copies <= 3), "{source:?}");
}
