//! Emission limits: who goes first, who is refused, and what is counted.

use std::time::Duration;

use aether_core::vibrator::EmissionRate;
use aether_core::{Aether, AskError, EmitError, Vibrator, Wave};
use futures_util::FutureExt;
use futures_util::future::{join_all, poll_fn};
use std::task::Poll;

/// Longer than any machine takes; nothing waits for it to pass.
const LONG: Duration = Duration::from_secs(60);

fn wave(text: &str, amplitude: f32) -> Wave {
    Wave::builder("a").amplitude(amplitude).never_decays().text(text).build().unwrap()
}

/// One token a `period`, which is taken already.
async fn spent(aether: &Aether, rate: &EmissionRate) -> Vibrator {
    let emits = Vibrator::builder("emits").rate(rate.clone()).create(aether).await.unwrap();
    emits.emit(wave("first", 0.5)).await.unwrap();
    emits
}

#[tokio::test]
async fn the_strongest_wave_that_waits_goes_first() {
    let aether = Aether::local();
    let mut hears = Vibrator::create("hears", &aether).await.unwrap();
    hears.resonate_on("a").await.unwrap();
    let rate = EmissionRate::new(1, LONG).unwrap().patience(LONG);
    let emits = spent(&aether, &rate).await;
    let waiting: Vec<_> = [("weak", 0.1), ("early", 0.5), ("late", 0.5), ("strong", 0.9)]
        .map(|(text, amplitude)| emits.emit(wave(text, amplitude)))
        .into();
    let mut waiting = Box::pin(join_all(waiting));
    // All of them are in the queue before there is a token.
    assert!(poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending())).await);
    assert_eq!((rate.waiting(), hears.ledger().queued), (4, 1));
    // Each next wave has to wait for a moment, so that the order shows.
    rate.set(1, Duration::from_millis(5)).unwrap();
    for emitted in waiting.await {
        emitted.unwrap();
    }
    let mut order = Vec::new();
    for _ in 0..5 {
        order.push(hears.receive().await.unwrap());
    }
    order.sort_by_key(Wave::sequence);
    let texts: Vec<_> = order.iter().map(|wave| wave.text().unwrap()).collect();
    assert_eq!(texts, ["first", "strong", "early", "late", "weak"]);
    assert_eq!((emits.account().numbered, emits.account().rate_limited), (5, 0));
}

#[tokio::test]
async fn a_wave_whose_turn_does_not_come_is_handed_back_and_counted() {
    let aether = Aether::local();
    let rate = EmissionRate::new(1, LONG).unwrap().patience(Duration::from_millis(20));
    let emits = spent(&aether, &rate).await;
    match emits.emit(wave("x", 0.5)).await {
        Err(EmitError::RateLimited { wave }) => assert_eq!(wave.text().unwrap(), "x"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(emits.try_emit(wave("x", 1.0)), Err(EmitError::RateLimited { .. })));
    let asked = emits.ask(wave("x", 0.5)).await;
    assert!(matches!(asked, Err(AskError::Emit(EmitError::RateLimited { .. }))), "{asked:?}");
    let refused = emits.emit_all([wave("x", 0.5), wave("y", 0.5)]).await.unwrap_err();
    assert_eq!((refused.emitted, refused.refused.len()), (0, 2));
    // Cancelled while it waits.
    assert!(emits.emit(wave("x", 0.5)).now_or_never().is_none());
    let account = emits.account();
    assert_eq!((account.offered(), account.numbered, account.rate_limited), (7, 1, 6));
    assert_eq!(rate.waiting(), 0);
    // The numbers have no gap.
    rate.set(1000, Duration::from_secs(1)).unwrap();
    assert_eq!(emits.emit(wave("x", 0.5)).await.unwrap().sequence, 2);
}

#[tokio::test]
async fn a_limit_is_kept_over_time_and_a_burst_is_one_period() {
    let aether = Aether::local();
    let rate = EmissionRate::new(50, Duration::from_millis(500)).unwrap();
    let emits = Vibrator::builder("emits").rate(rate).create(&aether).await.unwrap();
    let start = std::time::Instant::now();
    assert_eq!(emits.emit_all((0..75).map(|_| wave("x", 0.5))).await.unwrap().emitted, 75);
    // Fifty at once, and twenty-five in half a period.
    assert!(start.elapsed() >= Duration::from_millis(245), "{:?}", start.elapsed());
}

#[tokio::test]
async fn the_queue_is_bounded_and_the_weakest_leaves_it() {
    let aether = Aether::local();
    let rate = EmissionRate::new(1, LONG).unwrap().patience(LONG);
    let emits = spent(&aether, &rate).await;
    let mut waiting: Vec<_> = (0..1024).map(|_| Box::pin(emits.emit(wave("w", 0.5)))).collect();
    for emit in &mut waiting {
        assert!(emit.as_mut().now_or_never().is_none());
    }
    // As strong, and too late.
    assert!(matches!(emits.emit(wave("w", 0.5)).now_or_never(), Some(Err(EmitError::RateLimited { .. }))));
    let mut strong = Box::pin(emits.emit(wave("s", 0.9)));
    assert!(strong.as_mut().now_or_never().is_none());
    assert_eq!(rate.waiting(), 1024);
    let last = waiting.pop().unwrap().now_or_never();
    assert!(matches!(last, Some(Err(EmitError::RateLimited { .. }))), "{last:?}");
}

#[test]
fn a_limit_that_cannot_be_is_refused_with_what_is_allowed() {
    let second = Duration::from_secs(1);
    for (waves, period) in
        [(0, second), (1, Duration::ZERO), (2_000_000_000, second), (1, 100_000 * second), (1, Duration::MAX)]
    {
        let refused = EmissionRate::new(waves, period).unwrap_err().to_string();
        assert!(refused.contains("at least one wave"), "{refused}");
    }
}

#[tokio::test]
async fn the_limit_of_a_connection_is_shared_by_all_emitters_that_have_none_of_their_own() {
    let rate = EmissionRate::new(2, LONG).unwrap().patience(Duration::ZERO);
    let aether = aether::builder().emission_rate(rate.clone()).connect().await.unwrap();
    let (vibrator, emitter) =
        (Vibrator::create("vibrator", &aether).await.unwrap(), aether.emitter("emitter").unwrap());
    vibrator.emit(wave("first", 0.5)).await.unwrap();
    emitter.emit(wave("second", 0.5)).await.unwrap();
    for limited in [&vibrator.emitter(), &emitter] {
        let refused = limited.emit(wave("third", 0.5)).await;
        assert!(matches!(refused, Err(EmitError::RateLimited { .. })), "{refused:?}");
    }
    let own = EmissionRate::new(1, LONG).unwrap().patience(Duration::ZERO);
    let own = Vibrator::builder("own").rate(own).create(&aether).await.unwrap();
    own.emit(wave("its own token", 0.5)).await.unwrap();
    assert!(matches!(own.emit(wave("no more", 0.5)).await, Err(EmitError::RateLimited { .. })));
    let unlimited = Vibrator::builder("unlimited").unlimited().create(&aether).await.unwrap();
    for _ in 0..10 {
        unlimited.emit(wave("free", 0.5)).await.unwrap();
    }
    // A token is a microsecond by now, and more than that has passed.
    rate.set(1_000_000, Duration::from_secs(1)).unwrap();
    vibrator.emit(wave("a change counts for all", 0.5)).await.unwrap();
}
