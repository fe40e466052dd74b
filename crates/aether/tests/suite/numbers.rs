//! Sequence numbers: a refused wave uses none, regardless of the reason and of the handle that emits it.

use aether_core::{
    Aether, Channel, EmitError, InboxOptions, LocalOptions, ServeOrder, Vibrator, Wave, WhenFull,
};

async fn pair(options: InboxOptions) -> (Aether, Vibrator, Vibrator) {
    let aether = aether::builder()
        .options(LocalOptions::default().max_payload(100))
        .connect()
        .await
        .expect("a valid size");
    let ear = Vibrator::builder("ear").inbox(options).create(&aether).await.expect("valid options");
    ear.resonate_on("a").await.expect("a valid pattern");
    let emitter = Vibrator::create("emitter", &aether).await.expect("a valid name");
    (aether, ear, emitter)
}

fn wave(text: impl Into<String>) -> Wave {
    Wave::builder("a").text(text).build().expect("a valid wave")
}

#[tokio::test]
async fn refused_waves_take_no_number_and_leave_no_gap() {
    let (aether, mut ear, emitter) = pair(InboxOptions::default().max_waves(2)).await;
    let too_large = || wave("x".repeat(101));
    assert_eq!(emitter.emit(wave("1")).await.unwrap().sequence, 1);
    let error = emitter.emit(too_large()).await.unwrap_err();
    assert!(matches!(error, EmitError::TooLarge { .. }), "{error}");
    assert_eq!(error.into_wave().unwrap().id().to_string(), "-@0/0");
    assert_eq!(emitter.emitter().try_emit(wave("2")).unwrap().sequence, 2);
    for _ in 0..3 {
        let error = emitter.try_emit(wave("full")).unwrap_err();
        assert!(matches!(error, EmitError::Full { .. }), "{error}");
        assert_eq!(error.into_wave().unwrap().sequence(), 0);
    }
    emitter.ask_within(too_large(), std::time::Duration::from_secs(10)).await.unwrap_err();
    assert_eq!(emitter.account().numbered, 2);
    for number in 1..=3 {
        if number == 3 {
            emitter.try_emit(wave("3")).unwrap();
        }
        assert_eq!(ear.receive().await.unwrap().sequence(), number);
    }
    aether.close().await.unwrap();
    emitter.try_emit(wave("closed")).unwrap_err();
    assert_eq!(emitter.account().numbered, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn numbers_of_concurrently_refused_clones_are_never_reused() {
    const EACH: u64 = 5000;
    // Long enough that the last wave gets its room even on a busy machine.
    let patience = WhenFull::Wait { patience: std::time::Duration::from_secs(600) };
    let (_aether, mut ear, emitter) = pair(InboxOptions::default().max_waves(8).when_full(patience)).await;
    let emitters: Vec<_> = (0..4)
        .map(|_| {
            let emitter = emitter.emitter();
            tokio::spawn(async move {
                let mut taken = 0;
                for _ in 0..EACH {
                    match emitter.try_emit(wave("x")) {
                        Ok(_) => taken += 1,
                        Err(_) => tokio::task::yield_now().await,
                    }
                }
                taken
            })
        })
        .collect();
    let received = tokio::spawn(async move {
        let mut numbers = Vec::new();
        while let Some(wave) = ear.receive().await {
            if wave.payload().is_empty() {
                break;
            }
            numbers.push(wave.sequence());
        }
        numbers
    });
    let mut taken = 0;
    for emitter in emitters {
        taken += emitter.await.unwrap();
    }
    // The weakest wave, so that it arrives last.
    let end = Wave::builder(Channel::new("a").unwrap()).amplitude(0.01).build().unwrap();
    emitter.emit(end).await.unwrap();
    let mut numbers = received.await.unwrap();
    numbers.sort_unstable();
    assert!(numbers.is_sorted_by(|a, b| a < b), "a number was assigned twice");
    assert_eq!(numbers.len() as u64, taken, "every accepted wave arrived");
}

#[tokio::test]
async fn receiving_by_pattern_keeps_the_order_of_the_inbox() {
    for (order, expected) in [(ServeOrder::Strength, ["2", "1", "3"]), (ServeOrder::Arrival, ["1", "2", "3"])]
    {
        let options = InboxOptions::default().order(order).when_full(WhenFull::Shed);
        let (_aether, mut ear, emitter) = pair(options).await;
        ear.resonate_on("b").await.unwrap();
        for (channel, amplitude, text) in [("b", 1.0, "0"), ("a", 0.5, "1"), ("a", 0.9, "2"), ("a", 0.1, "3")]
        {
            let wave = Wave::builder(channel).amplitude(amplitude).text(text).build().unwrap();
            emitter.emit(wave).await.unwrap();
        }
        for text in expected {
            let wave = ear.receive_from("a").await.unwrap().unwrap();
            assert_eq!(wave.text().unwrap(), text, "{order:?}");
        }
    }
}
