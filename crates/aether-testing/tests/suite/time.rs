//! Time that is paused: everything that depends on time follows it.
//!
//! Each test takes seconds to hours of virtual time and would fail, or not end, if one clock were the machine's.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aether::physics::{Finding, FringeKind, Interfere, Interfering as _, PhysicsEngine, PhysicsObserver};
use aether_core::clock::micros_since_1970;
use aether_core::{Aether, Emitter, Floor, InboxOptions, Kind, ShedReason, Vibrator, Wave, WhenFull};
use aether_service::{Breaker, Resend, Service, State};
use aether_testing::{Call, Faults, TestBus};
use tokio::time::{Instant, sleep, timeout};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A wave that halves every eight seconds.
fn claim() -> Wave {
    Wave::builder("probes.down").key("db").amplitude(0.8).half_life(8 * SECOND).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn waves_age_and_decay() {
    let bus = TestBus::start().await;
    let mut probe = bus.probe("*").await;
    bus.vibrator("a").await.emit(claim()).await.unwrap();
    let wave = probe.wave("probes.down").await;
    assert_eq!((wave.age(), wave.amplitude_now()), (Duration::ZERO, wave.amplitude().as_f32()));
    // Half-lives are powers of two, in milliseconds.
    let half_life = wave.half_life().duration().unwrap();
    sleep(half_life).await;
    assert_eq!(wave.age(), half_life);
    assert!(
        (wave.amplitude_now() - wave.amplitude().as_f32() / 2.0).abs() < 1e-3,
        "{}",
        wave.amplitude_now()
    );
    assert_eq!(wave.age_when(Instant::now().into_std() + SECOND), half_life + SECOND);
    bus.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_wave_falls_below_the_floor_while_it_waits() {
    let bus = TestBus::start().await;
    let mut pager =
        Vibrator::builder("pager").floor(Floor::new(0.5).unwrap()).create(bus.aether()).await.unwrap();
    pager.resonate_on("probes.*").await.unwrap();
    let probe = bus.vibrator("a").await;
    probe.emit(claim()).await.unwrap();
    sleep(8 * SECOND).await;
    probe.emit(claim()).await.unwrap();
    let wave = pager.receive().await.unwrap();
    assert_eq!((wave.sequence(), pager.ledger().expired), (2, 1));
    bus.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_sojourn_cap_ends_a_wait() {
    let bus = TestBus::start().await;
    let inbox = InboxOptions::default().sojourn_cap(Some(20 * MILLI)).on_shed(|_, reason| {
        assert_eq!(reason, ShedReason::Sojourn);
    });
    let mut stock = Vibrator::builder("stock").inbox(inbox).create(bus.aether()).await.unwrap();
    stock.resonate_on("a").await.unwrap();
    let shop = bus.vibrator("shop").await;
    shop.emit_wave("a", &1).await.unwrap();
    sleep(21 * MILLI).await;
    shop.emit_wave("a", &2).await.unwrap();
    assert_eq!(stock.receive().await.unwrap().json::<u32>().unwrap(), 2);
    assert_eq!(stock.ledger().shed_sojourn, 1);
    bus.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_emitter_waits_for_a_full_inbox() {
    let bus = TestBus::start().await;
    let inbox = InboxOptions::default().max_waves(1).when_full(WhenFull::Wait { patience: 30 * SECOND });
    let stock = Vibrator::builder("stock").inbox(inbox).create(bus.aether()).await.unwrap();
    stock.resonate_on("a").await.unwrap();
    let (shop, started) = (bus.vibrator("shop").await, Instant::now());
    for number in 0..2 {
        shop.emit_wave("a", &number).await.unwrap();
    }
    assert_eq!((started.elapsed(), stock.ledger().shed_full), (30 * SECOND, 1));
    bus.finish().await;
}

/// Fails for a number of times, kept in its state.
async fn flaky(State(failures): State<Arc<AtomicU32>>, emitter: Emitter) -> Result<(), BoxError> {
    if failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        return Err("the line is busy".into());
    }
    emitter.emit_wave("alerts.sent", &()).await?;
    Ok(())
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::test(start_paused = true)]
async fn a_breaker_opens_and_closes_again() {
    let bus = TestBus::start().await;
    let failures = Arc::new(AtomicU32::new(2));
    let breaker = Breaker::default().failures(2).open_for(60 * SECOND);
    let pager = bus
        .serve(Service::builder("pager").state(failures).on("alerts", flaky).circuit_breaker(breaker))
        .await;
    let shop = bus.vibrator("shop").await;
    for _ in 0..3 {
        shop.emit(Wave::builder("alerts").never_decays().build().unwrap()).await.unwrap();
        sleep(MILLI).await;
    }
    sleep(59 * SECOND).await;
    assert_eq!((pager.report().failed, pager.report().succeeded), (2, 0), "the circuit is open");
    sleep(2 * SECOND).await;
    assert_eq!(pager.report().succeeded, 1);
    bus.finish().await;
}

#[tokio::test(start_paused = true)]
async fn retries_wait_for_their_pauses_which_are_the_same_in_every_run() {
    let run = async || {
        let bus = TestBus::start().await;
        let mut probe = bus.probe("alerts.sent").await.within(3600 * SECOND);
        let resend = Resend::default().pauses(600 * SECOND, 600 * SECOND).unwrap().most(2);
        let failures = Arc::new(AtomicU32::new(2));
        let pager =
            bus.serve(Service::builder("pager").state(failures).on("alerts", flaky).retry(resend)).await;
        let started = Instant::now();
        let alert = Wave::builder("alerts").never_decays().build().unwrap();
        bus.vibrator("shop").await.emit(alert).await.unwrap();
        probe.wave("alerts.sent").await;
        assert_eq!(pager.report().retried, 2);
        bus.finish().await;
        started.elapsed()
    };
    let took = run().await;
    // Two pauses, each drawn between nothing and ten minutes.
    assert!((SECOND..=1200 * SECOND).contains(&took), "{took:?}");
    assert_eq!(run().await, took);
}

#[tokio::test(start_paused = true)]
async fn a_fringe_falls_by_itself_and_the_timer_does_not_spin() {
    let bus = TestBus::start().await;
    let pager = bus.vibrator("pager").await;
    let options = Interfere::by_key().sources(2).rise(0.7).fall(0.5).window(30 * SECOND);
    let mut fringes = pager.interfere("probes.*", options).await.unwrap();
    for name in ["a", "b"] {
        let claim = Wave::builder("probes.down").key("db").build().unwrap();
        bus.vibrator(name).await.emit(claim).await.unwrap();
    }
    let next = async |fringes: &mut aether::physics::Fringes| {
        std::future::poll_fn(|cx| futures_util::Stream::poll_next(std::pin::Pin::new(&mut *fringes), cx))
            .await
    };
    assert_eq!(next(&mut fringes).await.unwrap().kind, FringeKind::Rise);
    let started = Instant::now();
    let fallen = timeout(60 * SECOND, next(&mut fringes)).await.expect("the fringe falls in time").unwrap();
    assert_eq!(fallen.kind, FringeKind::Fall);
    assert!(started.elapsed() <= 30 * SECOND + 5 * MILLI, "{:?}", started.elapsed());
    bus.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_stops_is_missed() {
    let bus = TestBus::start().await;
    let mut observer =
        PhysicsObserver::open("watch", "beats", PhysicsEngine::default(), bus.aether()).await.unwrap();
    let beating = bus.vibrator("heart").await;
    let beats = tokio::spawn(async move {
        for _ in 0..60 {
            beating.emit(Wave::builder("beats").build().unwrap()).await.unwrap();
            sleep(10 * SECOND).await;
        }
        beating
    });
    let missed = async {
        loop {
            observer.advance(64).await.unwrap().expect("the bus is open");
            while let Some(found) = observer.found() {
                if let Finding::MissingBeat { silence, .. } = found {
                    return silence;
                }
            }
        }
    };
    let silence = timeout(3600 * SECOND, missed).await.expect("the missing beat is found within an hour");
    assert!((10 * SECOND..120 * SECOND).contains(&silence), "{silence:?}");
    drop(beats.await.unwrap());
    bus.finish().await;
}

#[tokio::test(start_paused = true)]
async fn the_wall_clock_moves_with_it() {
    aether_testing::follow_tokio();
    let before = micros_since_1970();
    let real = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
    assert!(u128::from(before).abs_diff(real) < 60_000_000, "it starts at the time of day");
    sleep(3600 * SECOND).await;
    assert_eq!(micros_since_1970() - before, 3_600_000_000);
}

#[tokio::test(start_paused = true)]
async fn a_command_without_a_receiver_is_as_old_as_it_is_when_it_is_replayed() {
    let bus = TestBus::start().await;
    let shop = bus.vibrator("shop").await;
    shop.emit(Wave::builder("stock.reserve").kind(Kind::Command).build().unwrap()).await.unwrap();
    sleep(86_400 * SECOND).await;
    assert_eq!(bus.dead_letters()[0].wave.age(), 86_400 * SECOND);
    bus.finish().await;
}

/// Runs an ignored test below in a process of its own, because the clocks are a switch of the process.
fn passes_alone(test: &str) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output =
        command.args(["--ignored", "--exact", &format!("time::{test}"), "--nocapture"]).output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
}

#[test]
fn the_clocks_are_those_of_the_machine_until_the_kit_is_used() {
    for test in
        ["alone_before_a_bus", "alone_before_faults", "alone_before_a_call", "alone_before_the_switch"]
    {
        passes_alone(test);
    }
}

#[tokio::test(start_paused = true)]
#[ignore = "needs a process in which the kit was not used; the test above runs it"]
async fn alone_before_a_bus() {
    switched_by(|| drop(TestBus::builder())).await;
}

#[tokio::test(start_paused = true)]
#[ignore = "needs a process in which the kit was not used; the test above runs it"]
async fn alone_before_faults() {
    switched_by(|| drop(Faults::with_seed(7))).await;
}

#[tokio::test(start_paused = true)]
#[ignore = "needs a process in which the kit was not used; the test above runs it"]
async fn alone_before_a_call() {
    switched_by(|| drop(Call::new(claim()))).await;
}

#[tokio::test(start_paused = true)]
#[ignore = "needs a process in which the kit was not used; the test above runs it"]
async fn alone_before_the_switch() {
    switched_by(aether_testing::follow_tokio).await;
}

/// A wave that is emitted before ages by the machine's clock, and from then on by the paused one.
async fn switched_by(first_use: impl FnOnce()) {
    const HOUR: Duration = Duration::from_secs(3600);
    let aether = Aether::local();
    let mut stock = Vibrator::create("stock", &aether).await.unwrap();
    stock.resonate_on("a").await.unwrap();
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    shop.emit_wave("a", &1).await.unwrap();
    let (wave, time) = (stock.receive().await.unwrap(), micros_since_1970());
    sleep(HOUR).await;
    let limit = 600 * SECOND;
    assert!(wave.age() < limit && micros_since_1970() - time < limit.as_micros() as u64, "{:?}", wave.age());
    // The age moves on while tokio's clock is paused.
    let age = wave.age();
    std::thread::sleep(MILLI);
    assert!(wave.age() >= age + MILLI);

    first_use();
    // The hour before counts now; tokio's clock began to stand still before the wave was emitted.
    let (age, time) = (wave.age(), micros_since_1970());
    assert!((HOUR - limit..=HOUR).contains(&age), "{age:?}");
    std::thread::sleep(MILLI);
    assert_eq!((wave.age(), micros_since_1970()), (age, time));
    sleep(HOUR).await;
    assert_eq!((wave.age(), micros_since_1970()), (age + HOUR, time + HOUR.as_micros() as u64));
    shop.emit_wave("a", &2).await.unwrap();
    let wave = stock.receive().await.unwrap();
    sleep(HOUR).await;
    assert_eq!(wave.age(), HOUR);
    aether.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn paused_time_waits_for_a_durable_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = aether_log::Log::builder(folder.path());
    let log = log.channels("orders.>", aether_core::Durability::Synced).unwrap().open().unwrap();
    aether_testing::follow_tokio();
    let aether = log.connect(aether::builder().url("local:")).await.unwrap();
    // Time may pass at any moment in which nothing else is to do.
    let ticking = tokio::spawn(async {
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    });
    let shop = aether.emitter("shop").unwrap();
    let start = tokio::time::Instant::now();
    let consumer = log.consumer("billing", "orders.>", aether_log::ConsumerOptions::default()).unwrap();
    for number in 0..20_u64 {
        shop.emit(aether_core::Wave::builder("orders.created").text(number.to_string())).await.unwrap();
        consumer.receive().await.unwrap().ack().await.unwrap();
    }
    assert_eq!(start.elapsed(), std::time::Duration::ZERO, "the disk takes no virtual time");
    ticking.abort();
}
