//! The halves of a vibrator: a receiver owned by a task, a tuner next to it, and a standalone emitter.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use aether_core::{
    Aether, EchoReason, EmitError, Floor, InboxOptions, JoinError, Kind, LocalOptions, Receiver, Vibrator,
    Wave, WhenFull, vibrator::TryReceiveError,
};
use futures::{FutureExt, Stream};

const PATIENCE: Duration = Duration::from_secs(120);

async fn tuned(aether: &Aether, pattern: &str) -> Receiver {
    let (_, receiver) =
        Vibrator::create("listener", aether).await.expect("an open medium and a valid wave").split();
    receiver.resonate_on(pattern).await.expect("an open medium and a valid wave");
    receiver
}

fn numbered(channel: &str, number: u32) -> Wave {
    Wave::new(channel, &number).expect("an open medium and a valid wave")
}

fn number(wave: &Wave) -> u32 {
    wave.json().expect("an open medium and a valid wave")
}

#[tokio::test]
async fn a_tuner_changes_what_a_receiver_hears_that_a_task_owns() {
    let aether = Aether::local();
    let (emitter, mut receiver) = Vibrator::create("listener", &aether).await.unwrap().split();
    let tuner = receiver.tuner();
    assert_eq!(tuner.source(), emitter.source());
    let owner = tokio::spawn(async move {
        let mut heard = Vec::new();
        while let Some(wave) = receiver.receive().await {
            heard.push(number(&wave));
        }
        heard
    });
    let other = aether.emitter("other").unwrap();
    other.emit(numbered("a", 1)).await.unwrap();
    tuner.resonate_on("a").await.unwrap();
    other.emit(numbered("a", 2)).await.unwrap();
    tuner.clone().detune("a").unwrap();
    other.emit(numbered("a", 3)).await.unwrap();
    tuner.resonate_in_group("a", "workers").await.unwrap();
    other.emit(numbered("a", 4)).await.unwrap();
    aether.close().await.unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, owner).await.unwrap().unwrap(), [2, 4]);
    assert_eq!((tuner.ledger().delivered, tuner.ledger().adds_up()), (2, true));
    assert!(tuner.effective_floor().is_open());
}

#[tokio::test]
async fn a_receiver_ends_when_the_medium_was_closed_and_everything_was_received_and_not_before() {
    let aether = Aether::local();
    let (emitter, mut receiver) = Vibrator::create("listener", &aether).await.unwrap().split();
    receiver.resonate_on("a").await.unwrap();
    let other = aether.emitter("other").unwrap();
    other.emit(numbered("a", 1)).await.unwrap();
    other.emit(numbered("a", 2)).await.unwrap();
    // Other emitters can appear at any time.
    drop((emitter, other));
    assert_eq!(number(&receiver.receive().await.unwrap()), 1);
    assert!(receiver.receive().now_or_never().unwrap().is_some());
    assert!(receiver.receive().now_or_never().is_none(), "it waits for a wave");
    assert_eq!(receiver.try_receive().unwrap_err(), TryReceiveError::Empty);

    aether.emitter("late").unwrap().emit(numbered("a", 3)).await.unwrap();
    aether.close().await.unwrap();
    assert_eq!(number(&receiver.receive().await.unwrap()), 3);
    for _ in 0..2 {
        assert!(receiver.receive().await.is_none());
        assert_eq!(receiver.try_receive().unwrap_err(), TryReceiveError::Closed);
        assert_eq!(receiver.receive_many(&mut Vec::new(), 8).await, 0);
        assert!(receiver.receive_from("a").await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_tuner_outlives_its_receiver_and_joins_nothing_for_it() {
    let aether = Aether::local();
    let receiver = tuned(&aether, "a").await;
    let tuner = receiver.tuner();
    aether.emitter("other").unwrap().emit(numbered("a", 1)).await.unwrap();
    drop(receiver);
    assert_eq!((tuner.ledger().shed_closed, tuner.ledger().adds_up()), (1, true));
    assert!(matches!(tuner.resonate_on("a").await, Err(JoinError::Dropped)));
    assert!(matches!(tuner.resonate_in_group("a", "group").await, Err(JoinError::Dropped)));
    tuner.detune("a").unwrap();
    let receipt = aether.emitter("other").unwrap().emit(numbered("a", 2)).await.unwrap();
    assert_eq!(receipt.receivers, Some(0));
}

#[tokio::test]
async fn a_tuner_learns_that_its_receiver_was_dropped() {
    let aether = Aether::local();
    let receiver = tuned(&aether, "a").await;
    let tuner = receiver.tuner();
    let mut closed = std::pin::pin!(tuner.closed());
    assert!(closed.as_mut().now_or_never().is_none());
    drop(receiver);
    tokio::time::timeout(PATIENCE, closed).await.unwrap();
    tuner.closed().await;
}

/// Drops the receiver before, during or after the join.
#[tokio::test]
async fn a_vibrator_hears_16384_patterns_and_refuses_more_until_it_has_left_one() {
    let aether = Aether::local();
    let vibrator = Vibrator::create("stock", &aether).await.unwrap();
    for number in 0..16_384 {
        vibrator.resonate_on(format!("a.{number}")).await.unwrap();
    }
    let refused = vibrator.resonate_on("b").await.unwrap_err();
    assert!(matches!(refused, JoinError::TooManyPatterns { most: 16_384 }), "{refused:?}");
    let refused = vibrator.resonate_in_group("a.0", "group").await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "a vibrator hears at most 16384 patterns: use wider patterns, or another vibrator"
    );
    vibrator.resonate_on("a.0").await.unwrap();
    vibrator.detune("a.0").unwrap();
    vibrator.resonate_in_group("a.0", "group").await.unwrap();
    assert!(matches!(vibrator.resonate_on("a.0").await, Err(JoinError::TooManyPatterns { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_that_meets_the_end_of_its_receiver_leaves_nothing_subscribed() {
    let aether = Aether::local();
    let other = aether.emitter("other").unwrap();
    for _ in 0..200 {
        let receiver = tuned(&aether, "b").await;
        let tuner = receiver.tuner();
        let joining = tokio::spawn(async move { tuner.resonate_on("a").await });
        tokio::task::yield_now().await;
        drop(receiver);
        match tokio::time::timeout(PATIENCE, joining).await.unwrap().unwrap() {
            Ok(()) | Err(JoinError::Dropped) => {}
            Err(error) => panic!("{error}"),
        }
        assert_eq!(other.emit(numbered("a", 1)).await.unwrap().receivers, Some(0));
    }
}

#[tokio::test]
async fn try_receive_takes_more_waves_in_one_go_than_a_task_has_budget_for() {
    const WAVES: u32 = 20_000;
    let aether = Aether::local();
    let mut receiver = tuned(&aether, "a").await;
    let other = aether.emitter("other").unwrap();
    for count in 0..WAVES {
        other.emit(numbered("a", count)).await.unwrap();
    }
    let mut taken = 0;
    while let Ok(wave) = receiver.try_receive() {
        assert_eq!(number(&wave), taken);
        taken += 1;
    }
    assert_eq!((taken, receiver.ledger().delivered), (WAVES, u64::from(WAVES)));
}

#[derive(Default)]
struct Woken(AtomicU64);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn try_receive_leaves_whoever_waits_to_be_woken() {
    let aether = Aether::local();
    let mut receiver = tuned(&aether, "a").await;
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let polled = Pin::new(&mut receiver).poll_next(&mut Context::from_waker(&waker));
    assert!(matches!(polled, Poll::Pending));
    assert_eq!(receiver.try_receive().unwrap_err(), TryReceiveError::Empty);
    aether.emitter("other").unwrap().emit(numbered("a", 1)).await.unwrap();
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn receive_many_takes_at_least_one_and_at_most_so_many_the_strongest_first() {
    let aether = Aether::local();
    let mut receiver = tuned(&aether, "a").await;
    let mut waves = vec![numbered("kept", 99)];
    assert_eq!(receiver.receive_many(&mut waves, 0).await, 0);
    assert!(receiver.receive_many(&mut waves, 4).now_or_never().is_none(), "it waits for a wave");

    let other = aether.emitter("other").unwrap();
    for (count, amplitude) in (0..).zip([0.2, 0.9, 0.2, 0.9, 0.5]) {
        let wave = Wave::builder("a").amplitude(amplitude).json(count).build().unwrap();
        other.emit(wave).await.unwrap();
    }
    assert_eq!(receiver.receive_many(&mut waves, 4).await, 4);
    assert_eq!(waves.iter().map(number).collect::<Vec<_>>(), [99, 1, 3, 4, 0]);
    assert_eq!(receiver.receive_many(&mut waves, 4).await, 1);
    assert_eq!(number(&waves[5]), 2);
    assert_eq!((receiver.ledger().delivered, receiver.ledger().queued), (5, 0));
}

#[tokio::test]
async fn emit_all_waits_for_room_and_loses_nothing() {
    let aether = Aether::local();
    let options = InboxOptions::interactive().max_waves(4).when_full(WhenFull::Wait { patience: PATIENCE });
    let listener = Vibrator::builder("listener").inbox(options).create(&aether).await.unwrap();
    listener.resonate_on("a").await.unwrap();
    let (_, mut receiver) = listener.split();
    let other = aether.emitter("other").unwrap();
    let emits = tokio::spawn(async move { other.emit_all((0..500).map(|count| numbered("a", count))).await });
    for count in 0..500 {
        let wave = tokio::time::timeout(PATIENCE, receiver.receive()).await.unwrap().unwrap();
        assert_eq!(number(&wave), count);
    }
    assert_eq!(emits.await.unwrap().unwrap().emitted, 500);
}

#[tokio::test]
async fn emit_all_hands_back_what_was_not_taken_and_emits_the_rest() {
    let aether = aether::builder().options(LocalOptions::default().max_payload(100)).connect().await.unwrap();
    let mut receiver = tuned(&aether, "a").await;
    let other = aether.emitter("other").unwrap();
    let too_large = || Wave::from_bytes("a", vec![0; 101]).unwrap();
    let error = other.emit_all([numbered("a", 0), too_large(), numbered("a", 1)]).await.unwrap_err();
    assert_eq!(error.emitted, 2);
    assert!(matches!(&*error.refused, [EmitError::TooLarge { .. }]), "{error}");
    assert_eq!(error.into_waves().map(|wave| wave.payload().len()).collect::<Vec<_>>(), [101]);
    let mut waves = Vec::new();
    assert_eq!(receiver.receive_many(&mut waves, 8).await, 2);
    // The refused wave left no gap in the numbers.
    assert_eq!(waves.iter().map(Wave::sequence).collect::<Vec<_>>(), [1, 2]);

    aether.close().await.unwrap();
    let error = other.emit_all((0..3).map(|count| numbered("a", count))).await.unwrap_err();
    assert_eq!((error.emitted, error.into_waves().map(|wave| number(&wave)).collect()), (0, vec![0, 1, 2]));
}

/// Waves still in the iterator have not been emitted.
#[tokio::test]
async fn emit_all_that_is_cancelled_has_offered_what_it_took_from_the_iterator() {
    let aether = Aether::local();
    let options = InboxOptions::interactive().max_waves(4);
    let listener = Vibrator::builder("listener").inbox(options).create(&aether).await.unwrap();
    listener.resonate_on("a").await.unwrap();
    let other = aether.emitter("other").unwrap();
    let mut waves = (0..100).map(|count| numbered("a", count));
    assert!(other.emit_all(&mut waves).now_or_never().is_none(), "it waits for room");
    let rest = waves.len() as u64;
    assert!(rest > 90, "{rest}");
    assert_eq!(listener.ledger().offered, 100 - rest);
}

#[tokio::test]
async fn emit_all_reaches_each_of_several_receivers_in_order_while_some_make_it_wait() {
    let aether = Aether::local();
    let mut receivers = Vec::new();
    for capacity in [2, 1000, 7] {
        let when_full = WhenFull::Wait { patience: PATIENCE };
        let options = InboxOptions::interactive().max_waves(capacity).when_full(when_full);
        let listener = Vibrator::builder("listener").inbox(options).create(&aether).await.unwrap();
        listener.resonate_on("a").await.unwrap();
        receivers.push(listener.split().1);
    }
    let other = aether.emitter("other").unwrap();
    let emits = tokio::spawn(async move { other.emit_all((0..300).map(|count| numbered("a", count))).await });
    let receive = |mut receiver: aether_core::Receiver| async move {
        let mut waves = Vec::new();
        while waves.len() < 300 {
            let taken = receiver.receive_many(&mut waves, 5);
            assert!((1..=5).contains(&tokio::time::timeout(PATIENCE, taken).await.unwrap()));
        }
        assert_eq!(waves.iter().map(number).collect::<Vec<_>>(), (0..300).collect::<Vec<_>>());
        assert_eq!((receiver.ledger().delivered, receiver.ledger().lost()), (300, 0));
    };
    futures::future::join_all(receivers.into_iter().map(receive)).await;
    assert_eq!(emits.await.unwrap().unwrap().emitted, 300);
}

/// Each of them takes the lock of the inbox once, and all waves of a batch have the numbers of their order.
#[tokio::test]
async fn emit_all_shares_the_waves_of_a_group_and_shows_them_to_observers() {
    let aether = Aether::local();
    let mut members = Vec::new();
    for _ in 0..2 {
        let member = Vibrator::create("member", &aether).await.unwrap();
        member.resonate_in_group("a", "workers").await.unwrap();
        members.push(member);
    }
    let observer = Vibrator::builder("observer").observe().create(&aether).await.unwrap();
    observer.resonate_on("a").await.unwrap();
    let other = aether.emitter("other").unwrap();
    assert_eq!(other.emit_all((0..100).map(|count| numbered("a", count))).await.unwrap().emitted, 100);
    let offered: Vec<_> = members.iter().map(|member| member.ledger().offered).collect();
    assert_eq!((offered, observer.ledger().offered), (vec![50, 50], 100));
}

#[tokio::test]
async fn receive_many_counts_waves_that_came_too_late_and_goes_on_with_the_others() {
    let aether = Aether::local();
    let shed = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&shed);
    let options = InboxOptions::interactive().floor(Floor::new(0.3).unwrap()).on_shed(move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let mut receiver = Vibrator::builder("receiver").inbox(options).create(&aether).await.unwrap();
    receiver.resonate_on("a").await.unwrap();
    let other = aether.emitter("other").unwrap();
    let lasting = |count: u32| Wave::builder("a").json(count).never_decays().build().unwrap();
    let brief = || Wave::builder("a").half_life(std::time::Duration::from_millis(1)).build().unwrap();
    other.emit_all([brief(), lasting(1), brief(), lasting(2)]).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let mut waves = Vec::new();
    assert_eq!(receiver.receive_many(&mut waves, 8).await, 2);
    assert_eq!(waves.iter().map(number).collect::<Vec<_>>(), [1, 2]);
    let ledger = receiver.ledger();
    // On a busy machine a brief one may be too weak on arrival.
    assert_eq!((ledger.delivered, ledger.expired + ledger.shed_below_floor, ledger.queued), (2, 2, 0));
    assert_eq!(shed.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_emitter_of_its_own_has_no_inbox_and_can_ask_and_hear_its_echoes() {
    let aether = Aether::local();
    let emitter = aether.emitter("sensor").unwrap();
    assert!(aether.emitter("").is_err());
    assert_eq!(emitter.source().name(), "sensor");
    assert!(aether.inboxes().is_empty());
    assert!(aether.roster().await.unwrap().vibrators().is_empty());

    let mut echoes = emitter.echoes().await.unwrap();
    let command = Wave::builder("nobody").kind(Kind::Command).build().unwrap();
    let receipt = emitter.emit(command).await.unwrap();
    let echo = tokio::time::timeout(PATIENCE, echoes.receive()).await.unwrap().unwrap();
    assert_eq!((echo.of, echo.reason), (emitter.id_of(&receipt), EchoReason::NoResonator));

    let mut receiver = tuned(&aether, "double").await;
    let answer = tokio::spawn(async move {
        let question = receiver.receive().await.unwrap();
        question.reply(&(2 * number(&question))).await.unwrap();
    });
    assert_eq!(number(&emitter.ask_wave("double", &4).await.unwrap()), 8);
    answer.await.unwrap();
}
