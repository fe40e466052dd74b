//! Faults: what each does, that a seed repeats them, and that every wave is counted.

use std::time::Duration;

use aether_core::{AskError, EmitError, FlushError, Kind, Vibrator, Wave};
use aether_service::{Json, Service};
use aether_testing::{Fault, FaultCounts, Faults, Probe, TestBus};
use tokio::time::{Instant, sleep, timeout};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

struct Stage {
    bus: TestBus,
    faults: Faults,
    shop: Vibrator,
    probe: Probe,
}

async fn stage(seed: u64) -> Stage {
    let faults = Faults::with_seed(seed);
    let bus = TestBus::builder().faults(&faults).start().await;
    let (shop, probe) = (bus.vibrator("shop").await, bus.probe("*").await);
    Stage { bus, faults, shop, probe }
}

impl Stage {
    async fn emit(&self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            self.shop.emit_wave("a", &number).await.unwrap();
        }
    }

    fn numbers(&mut self) -> Vec<u32> {
        self.probe.rest().iter().map(|wave| wave.json().unwrap()).collect()
    }

    /// Ends the test. The accounts add up.
    async fn finish(self) -> FaultCounts {
        self.bus.finish().await.faults.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn waves_are_lost_by_seed_and_the_same_seed_loses_the_same() {
    let run = async |seed| {
        let mut stage = stage(seed).await;
        stage.faults.add(Fault::lose(0.3));
        stage.emit(0..1000).await;
        (stage.numbers(), stage.finish().await)
    };
    let (numbers, counts) = run(1).await;
    assert_eq!((counts.offered, counts.delivered), (1000, numbers.len() as u64));
    // Five standard deviations of a binomial distribution.
    assert!((628..=772).contains(&counts.delivered), "{counts}");
    assert_eq!(run(1).await.0, numbers);
    assert_ne!(run(2).await.0, numbers);
}

#[tokio::test(start_paused = true)]
async fn the_fate_of_a_wave_does_not_depend_on_the_order_in_which_tasks_run() {
    let run = async |first: &'static str, second: &'static str| {
        let faults = Faults::with_seed(5);
        let bus = TestBus::builder().faults(&faults).start().await;
        faults.add(Fault::lose(0.5));
        let mut probe = bus.probe("*").await;
        for name in [first, second] {
            let vibrator = bus.vibrator(name).await;
            for number in 0..50 {
                vibrator.emit_wave("a", &number).await.unwrap();
            }
        }
        let mut arrived: Vec<_> =
            probe.rest().iter().map(|wave| format!("{}/{}", wave.source().name(), wave.sequence())).collect();
        arrived.sort();
        bus.finish().await;
        arrived
    };
    assert_eq!(run("shop", "stock").await, run("stock", "shop").await);
}

#[tokio::test(start_paused = true)]
async fn delayed_waves_keep_their_order_and_their_age() {
    let mut stage = stage(3).await;
    stage.faults.add(Fault::delay(50 * MILLI).up_to(200 * MILLI));
    stage.emit(0..100).await;
    assert_eq!(stage.numbers(), [0; 0]);
    let first = stage.probe.wave("a").await;
    assert!((50 * MILLI..=201 * MILLI).contains(&first.age()), "{:?}", first.age());
    sleep(201 * MILLI).await;
    assert_eq!(stage.numbers(), (1..100).collect::<Vec<_>>());
    let counts = stage.finish().await;
    assert_eq!((counts.delayed, counts.delivered, counts.held), (100, 100, 0));
}

#[tokio::test(start_paused = true)]
async fn reordered_waves_are_overtaken_by_later_ones() {
    let mut stage = stage(4).await;
    stage.faults.add(Fault::reorder(0.2, 10 * MILLI));
    stage.emit(0..100).await;
    sleep(20 * MILLI).await;
    let numbers = stage.numbers();
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    assert_ne!(numbers, sorted);
    assert!(stage.finish().await.reordered > 0);
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_is_the_same_wave_twice() {
    let mut stage = stage(4).await;
    stage.faults.add(Fault::duplicate(1.0));
    stage.emit(0..1).await;
    let waves = stage.probe.waves(2, "a").await;
    assert_eq!(waves[0].id(), waves[1].id());
    let counts = stage.finish().await;
    assert_eq!((counts.offered, counts.duplicated, counts.delivered), (1, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_corrupted_wave_differs_in_one_bit_and_in_nothing_else() {
    let mut stage = stage(4).await;
    stage.faults.add(Fault::corrupt(1.0));
    let wave =
        Wave::builder("a").key("k").metadata("m", "v").amplitude(0.7).bytes(vec![0; 8]).build().unwrap();
    stage.shop.emit(wave.clone()).await.unwrap();
    stage.shop.emit(Wave::builder("b").build().unwrap()).await.unwrap();
    let arrived = stage.probe.wave("a").await;
    assert_eq!(arrived.payload().iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    assert_eq!((arrived.key(), arrived.amplitude()), (wave.key(), wave.amplitude()));
    assert_eq!((arrived.metadata().value("m"), arrived.source().name()), (Some("v"), "shop"));
    let counts = stage.finish().await;
    assert_eq!((counts.corrupted, counts.delivered), (1, 2), "an empty payload has no bit");
}

#[tokio::test(start_paused = true)]
async fn a_wave_that_the_medium_refuses_is_handed_back_and_meets_no_fault() {
    let stage = stage(4).await;
    stage.faults.add(Fault::duplicate(1.0));
    let large = Wave::builder("a").bytes(vec![0; 2 << 20]).build().unwrap();
    let refused = stage.shop.emit(large).await.unwrap_err();
    assert!(matches!(&refused, EmitError::TooLarge { .. }), "{refused}");
    assert_eq!(refused.into_wave().unwrap().payload().len(), 2 << 20);
    assert_eq!(stage.faults.counts(), FaultCounts::default());
    stage.faults.add(Fault::delay(SECOND));
    stage.shop.emit(Wave::builder("a").bytes(vec![0; 2 << 20]).build().unwrap()).await.unwrap();
    sleep(2 * SECOND).await;
    let counts = stage.finish().await;
    assert_eq!((counts.refused, counts.delivered), (2, 0), "found too large after the delay");
}

#[tokio::test(start_paused = true)]
async fn a_throttle_lets_waves_pass_evenly_spaced() {
    let mut stage = stage(4).await;
    stage.faults.add(Fault::throttle(10, SECOND));
    stage.emit(0..30).await;
    sleep(SECOND + 50 * MILLI).await;
    assert_eq!(stage.numbers(), (0..11).collect::<Vec<_>>());
    sleep(2 * SECOND).await;
    assert_eq!(stage.numbers(), (11..30).collect::<Vec<_>>());
    assert_eq!(stage.finish().await.throttled, 29);
}

#[tokio::test(start_paused = true)]
async fn a_stall_holds_waves_until_it_is_healed() {
    let mut stage = stage(4).await;
    let stall = stage.faults.add(Fault::stall().on("a"));
    stage.emit(0..3).await;
    stage.shop.emit_wave("b", &9).await.unwrap();
    sleep(3600 * SECOND).await;
    assert_eq!(stage.numbers(), [9]);
    let flushed = stage.bus.aether().flush().await;
    assert!(matches!(flushed, Err(FlushError::Unconfirmed { waves: 3, .. })), "{flushed:?}");
    stage.faults.heal(stall);
    stage.emit(3..4).await;
    sleep(MILLI).await;
    assert_eq!(stage.numbers(), [0, 1, 2, 3]);
    assert_eq!(stage.finish().await.stalled, 3);
}

#[tokio::test(start_paused = true)]
async fn a_script_is_windows_of_time() {
    let mut stage = stage(4).await;
    stage.faults.add(Fault::stall().during(10 * SECOND..20 * SECOND));
    stage.faults.add(Fault::lose(1.0).source("shop").during(30 * SECOND..40 * SECOND));
    let started = Instant::now();
    let mut arrived = Vec::new();
    for number in 0..5 {
        stage.emit(number..number + 1).await;
        sleep(10 * SECOND).await;
        arrived.extend(stage.numbers());
    }
    assert_eq!(started.elapsed(), 50 * SECOND);
    assert_eq!(arrived, [0, 1, 2, 4]);
    let ages: Vec<_> = stage.probe.recording().waves().map(Wave::age).collect();
    assert_eq!(ages.len(), 4);
    let counts = stage.finish().await;
    assert_eq!((counts.stalled, counts.lost), (1, 1));
}

async fn double(Json(number): Json<u32>) -> Json<u32> {
    Json(2 * number)
}

fn question() -> Wave {
    Wave::builder("double").kind(Kind::Query).json(21).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_lost_question_and_a_lost_answer_end_in_a_time_out() {
    let stage = stage(4).await;
    let calculator = stage.bus.serve(Service::builder("calculator").on_query("double", double)).await;
    for (lossy, handled) in [("shop", 0), ("calculator", 1)] {
        let fault = stage.faults.add(Fault::lose(1.0).source(lossy));
        let started = Instant::now();
        let asked = stage.shop.ask_within(question(), 3 * SECOND).await;
        assert!(
            matches!(asked, Err(AskError::TimedOut { patience, .. }) if patience == 3 * SECOND),
            "{asked:?}"
        );
        assert_eq!((started.elapsed(), calculator.report().succeeded), (3 * SECOND, handled));
        stage.faults.heal(fault);
    }
    let counts = stage.finish().await;
    assert_eq!((counts.questions, counts.questions_lost, counts.answers_lost), (2, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn questions_and_answers_are_delayed_corrupted_and_repeated() {
    let stage = stage(4).await;
    let calculator = stage.bus.serve(Service::builder("calculator").on_query("double", double)).await;
    let delay = stage.faults.add(Fault::delay(SECOND));
    let started = Instant::now();
    let answer = stage.shop.ask_within(question(), 5 * SECOND).await.unwrap();
    assert_eq!((answer.json::<u32>().unwrap(), started.elapsed()), (42, 2 * SECOND));
    stage.faults.heal(delay);

    let twice = stage.faults.add(Fault::duplicate(1.0).source("shop"));
    assert_eq!(stage.shop.ask(question()).await.unwrap().json::<u32>().unwrap(), 42);
    sleep(SECOND).await;
    assert_eq!(calculator.report().received, 3);
    stage.faults.heal(twice);

    stage.faults.add(Fault::corrupt(1.0).source("calculator"));
    assert_ne!(stage.shop.ask(question()).await.unwrap().payload().as_ref(), b"42");
    let counts = stage.finish().await;
    assert_eq!((counts.delayed, counts.corrupted, counts.questions), (2, 1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_stall_holds_a_question_until_it_is_healed() {
    let stage = stage(4).await;
    stage.bus.serve(Service::builder("calculator").on_query("double", double)).await;
    let stall = stage.faults.add(Fault::stall());
    let asking = {
        let shop = stage.shop.emitter();
        tokio::spawn(async move { shop.ask_within(question(), 60 * SECOND).await })
    };
    sleep(30 * SECOND).await;
    assert!(!asking.is_finished());
    stage.faults.heal(stall);
    assert_eq!(asking.await.unwrap().unwrap().json::<u32>().unwrap(), 42);
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_held_when_the_bus_closes_is_counted_as_abandoned() {
    let stage = stage(4).await;
    stage.faults.add(Fault::stall());
    stage.emit(0..2).await;
    assert_eq!(stage.faults.counts().held, 2);
    let aether = stage.bus.aether().clone();
    let shop = stage.shop.emitter();
    let counts = stage.finish().await;
    assert_eq!((counts.abandoned, counts.held), (2, 0));
    drop(aether);
    assert!(matches!(shop.emit(question()).await, Err(EmitError::Closed { .. })));
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_delayed_waves() {
    let mut stage = stage(4).await;
    stage.faults.add(Fault::delay(2 * SECOND));
    stage.emit(0..2).await;
    timeout(60 * SECOND, stage.bus.aether().close()).await.unwrap().unwrap();
    assert_eq!(stage.numbers(), [0, 1]);
    assert_eq!(stage.finish().await.delivered, 2);
}

#[tokio::test(start_paused = true)]
async fn one_set_of_faults_serves_several_media() {
    let faults = Faults::with_seed(1);
    faults.add(Fault::lose(1.0).on("a"));
    for _ in 0..2 {
        let aether = faults.around(aether::builder()).connect().await.unwrap();
        Vibrator::create("shop", &aether).await.unwrap().emit_wave("a", &1).await.unwrap();
        aether.close().await.unwrap();
    }
    assert_eq!(faults.counts().to_string(), "2 offered = 0 delivered + 2 lost");
}

#[test]
fn a_share_that_is_none_and_a_pattern_that_is_none_are_refused() {
    for wrong in [|| Fault::lose(1.5), || Fault::stall().on("a..b"), || Fault::throttle(0, SECOND)] {
        assert!(std::panic::catch_unwind(wrong).is_err());
    }
}
