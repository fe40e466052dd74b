//! Replicas on a medium that loses, repeats, delays and cuts: in paused time, and over a real server that is killed.

use std::time::Duration;

use crate::replica::{all_equal, join, median, within};
use aether_conformance::NatsServer;
use aether_core::{Aether, AetherBuilder};
use aether_field::Field;
use aether_testing::{Fault, Faults};
use tokio::time::Instant;

/// Processes with a medium each, whose faults hit what they send.
async fn processes(count: usize, faults: &Faults) -> Vec<Field> {
    // In process all replicas share one medium; a wave is lost for all of them or for none.
    let aether = faults.around(aether::builder().url("local:")).connect().await.unwrap();
    let mut fields = Vec::new();
    for at in 0..count {
        fields.push(join(&aether, &format!("replica-{at}")).await);
    }
    fields
}

/// Waits until all have one digest. Returns how long it took.
async fn converged(fields: &[Field]) -> Duration {
    let start = Instant::now();
    all_equal(fields).await;
    start.elapsed()
}

/// 1,000 writes of each replica. The faults last beyond the last one.
async fn write_through(faults: &Faults, fields: &[Field]) {
    for round in 0..1000 {
        for (at, field) in fields.iter().enumerate() {
            field.set(&format!("{at}/{round}"), &round).unwrap();
        }
        if round % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert!(faults.counts().lost > 0, "{}", faults.counts());
}

/// C4 1, C2 3: overload sheds changes.
#[tokio::test(start_paused = true)]
async fn five_replicas_whose_changes_are_shed_converge_within_two_seconds() {
    let faults = Faults::with_seed(7);
    let fields = processes(5, &faults).await;
    faults.add(Fault::lose(0.3).on("field.home.changes"));
    write_through(&faults, &fields).await;
    let took = converged(&fields).await;
    println!("equal digests {took:?} after the last write; {}", faults.counts());
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(fields.iter().all(|field| field.list("*").len() == 5000));
}

/// The same for all waves, beats and reconciliations included, which are repeated and come out of order as well.
#[tokio::test(start_paused = true)]
async fn five_replicas_on_a_medium_that_loses_anything_converge() {
    let faults = Faults::with_seed(7);
    let fields = processes(5, &faults).await;
    faults.add(Fault::lose(0.3));
    faults.add(Fault::duplicate(0.1));
    faults.add(Fault::reorder(0.1, Duration::from_millis(20)));
    write_through(&faults, &fields).await;
    let took = converged(&fields).await;
    println!("equal digests {took:?} after the last write; {}", faults.counts());
    assert!(fields.iter().all(|field| field.list("*").len() == 5000));
}

/// C2 5
#[tokio::test(start_paused = true)]
async fn replicas_that_were_cut_off_for_a_minute_converge_within_seconds() {
    let faults = Faults::with_seed(1);
    let fields = processes(2, &faults).await;
    within("agreement", fields[0].agreed(1)).await.unwrap();
    let cut = faults.add(Fault::partition());
    for (at, field) in fields.iter().enumerate() {
        field.set(&format!("own/{at}"), &at).unwrap();
        field.set("same", &at).unwrap();
        // Time is paused, and of two writes in one microsecond any may win.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_ne!(fields[0].digest(), fields[1].digest());
    faults.heal(cut);
    let took = converged(&fields).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(fields[0].get::<u8>("same").unwrap(), Some(1));
    assert_eq!((fields[0].list("own/*").len(), fields[1].list("own/*").len()), (2, 2));
}

/// Lets paused time pass in one step, without the 600,000 beats of a week, and then a round of everything that is repeated.
async fn passes(time: Duration) {
    tokio::time::advance(time).await;
    tokio::time::sleep(Duration::from_secs(61)).await;
}

/// C2 7: the wall clock of the field is the one that tests pause.
#[tokio::test(start_paused = true)]
async fn the_mark_of_a_removal_is_kept_for_a_week_and_dropped_then() {
    aether_testing::follow_tokio();
    let field = join(&Aether::local(), "hall").await;
    field.set("lamp", "on").unwrap();
    let before = field.export("lamp")[0].entry.stamp.micros;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    field.remove("lamp").unwrap();
    let hour = field.export("lamp")[0].entry.stamp.micros - before;
    assert!((3_600_000_000..3_601_000_000).contains(&hour), "{hour}");
    passes(Duration::from_secs(7 * 24 * 3600 - 120)).await;
    assert_eq!(field.status().entries, 1);
    passes(Duration::from_secs(240)).await;
    assert_eq!(field.status().entries, 0);
}

/// Connects like a service: again and again until a server answers.
async fn connected(builder: AetherBuilder) -> Aether {
    loop {
        match builder.clone().connect().await {
            Ok(aether) => return aether,
            Err(error) if error.is_transient() => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// C3 14, C2 5: some replicas start before the broker, which is killed; two islands have written meanwhile.
///
/// One thread runs all of it: a write that waited for the broker would wait for ever, because nothing else runs meanwhile.
#[tokio::test]
async fn fifty_replicas_converge_whenever_they_and_the_broker_start() {
    const REPLICAS: usize = 50;
    let mut server = NatsServer::start().await.unwrap();
    let url = server.url();
    server.kill().await.unwrap();
    let starting = |at: usize| {
        let builder = aether::builder().url(&url);
        tokio::spawn(async move { join(&connected(builder).await, &format!("replica-{at}")).await })
    };
    let early: Vec<_> = (0..REPLICAS / 2).map(starting).collect();
    server.restart().await.unwrap();
    let late: Vec<_> = (REPLICAS / 2..REPLICAS).map(starting).collect();
    let mut fields = Vec::new();
    for joining in early.into_iter().chain(late) {
        fields.push(within("joining", joining).await.unwrap());
    }
    for (at, field) in fields.iter().enumerate() {
        field.set(&format!("first/{at}"), &at).unwrap();
    }
    server.kill().await.unwrap();
    let mut took = Vec::new();
    for (at, field) in fields.iter().enumerate() {
        let start = std::time::Instant::now();
        field.set(&format!("second/{at}"), &at).unwrap();
        took.push(start.elapsed());
        field.set("all", &at).unwrap();
    }
    let typical = median(took);
    // A wait would take as long as a question, half a second at least.
    assert!(typical < Duration::from_millis(100), "nobody waits for the broker (C3 9): {typical:?}");
    server.restart().await.unwrap();
    converged(&fields).await;
    let registers = 2 * REPLICAS + 1;
    assert!(fields.iter().all(|field| field.list("*").len() == registers));
}
