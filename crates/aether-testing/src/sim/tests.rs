use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use aether_core::Vibrator;
use aether_core::clock::micros_since_1970;
use aether_service::{Json, Service};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

async fn add_one(Json(number): Json<u32>) -> Json<u32> {
    Json(number + 1)
}

fn stock() -> ServiceBuilder {
    Service::builder("stock").on_query("orders.check", add_one)
}

async fn ask(aether: Aether, number: u32) -> Result<u32, aether_core::AskError> {
    let question = Wave::new("orders.check", number).unwrap();
    let answer = aether.emitter("shop").unwrap().ask_within(question, SECOND).await?;
    Ok(answer.json().unwrap())
}

#[test]
fn a_question_takes_the_time_of_its_links() {
    let mut sim = Sim::with_seed(1);
    sim.serve("stock", stock);
    sim.idle("shop");
    sim.run_for(SECOND);
    let before = sim.now();
    assert_eq!(sim.run("shop", |aether| ask(aether, 1)).unwrap(), 2);
    let took = sim.now() - before;
    assert!((Duration::from_millis(10)..Duration::from_millis(30)).contains(&took), "{took:?}");
    sim.link_all(Link { latency: SECOND / 5, ..Link::default() });
    let before = sim.now();
    assert_eq!(sim.run("shop", |aether| ask(aether, 1)).unwrap(), 2);
    let took = sim.now() - before;
    assert!((SECOND * 2 / 5..SECOND / 2).contains(&took), "{took:?}");
    sim.finish();
}

#[test]
fn a_killed_process_is_gone_and_comes_back() {
    let mut sim = Sim::with_seed(1);
    sim.serve("stock", stock);
    sim.idle("shop");
    sim.run_for(SECOND);
    assert_eq!(sim.run("shop", |aether| ask(aether, 1)).unwrap(), 2);
    sim.kill("stock");
    sim.run_for(5 * SECOND);
    assert!(sim.run("shop", |aether| ask(aether, 1)).is_err());
    sim.restart("stock");
    sim.run_for(5 * SECOND);
    assert_eq!(sim.run("shop", |aether| ask(aether, 1)).unwrap(), 2);
    let accounts = sim.finish();
    assert_eq!(accounts.len(), 2);
}

#[test]
fn a_frozen_process_answers_once_it_goes_on() {
    let mut sim = Sim::with_seed(1);
    sim.serve("stock", stock);
    sim.idle("shop");
    sim.run_for(SECOND);
    sim.freeze("stock");
    sim.at(sim.now() + SECOND / 2, |sim| sim.wake("stock"));
    let before = sim.now();
    assert_eq!(sim.run("shop", |aether| ask(aether, 1)).unwrap(), 2);
    let took = sim.now() - before;
    assert!((SECOND / 2..SECOND).contains(&took), "{took:?}");
    sim.freeze("stock");
    assert!(sim.run("shop", |aether| ask(aether, 1)).is_err());
    sim.finish();
}

#[test]
fn processes_that_are_cut_come_together_again() {
    for one_way in [false, true] {
        let mut sim = Sim::with_seed(1);
        sim.serve("stock", stock);
        sim.idle("shop");
        sim.run_for(SECOND);
        match one_way {
            true => sim.cut_one_way(&["shop"], &["stock"]),
            false => sim.cut(&["shop"], &["stock"]),
        }
        sim.run_for(10 * SECOND);
        assert!(sim.run("shop", |aether| ask(aether, 1)).is_err());
        sim.heal();
        sim.run_for(5 * SECOND);
        assert_eq!(sim.run("shop", |aether| ask(aether, 1)).unwrap(), 2);
        sim.finish();
    }
}

#[test]
fn clocks_are_off_by_what_is_set() {
    let mut sim = Sim::with_seed(1);
    ["one", "other"].into_iter().for_each(|name| sim.idle(name));
    let read = |sim: &mut Sim| {
        let [one, other] =
            ["one", "other"].map(|name| sim.run(name, async |_| micros_since_1970()).cast_signed());
        one - other
    };
    let apart = read(&mut sim);
    assert!(apart.abs() < 100_000, "{apart}");
    sim.set_forward("one", 3600);
    sim.set_forward("other", -60);
    assert!((read(&mut sim) - 3_660_000_000).abs() < 100_000);
    sim.set_forward("one", -3600);
    sim.set_forward("other", 60);
    sim.drift("one", 100);
    sim.run_for(1000 * SECOND);
    let apart = read(&mut sim);
    assert!((apart - 100_000).abs() < 50_000, "{apart}");
    sim.finish();
}

/// Three services and faults: a shop that emits and asks, and two members of a group.
fn system(sim: &mut Sim) {
    for name in ["stock", "stock two"] {
        sim.process(name, |aether, shutdown| async move {
            let mut stock = Vibrator::create("stock", &aether).await?;
            stock.resonate_in_group("orders.created", "stock").await?;
            while let Some(Some(wave)) = shutdown.run_until_cancelled(stock.receive()).await {
                stock.emit_wave("stock.reserved", &wave.json::<u64>()?).await?;
            }
            Ok::<_, BoxError>(())
        });
    }
    sim.process("shop", |aether, shutdown| async move {
        let mut shop = Vibrator::create("shop", &aether).await?;
        shop.resonate_on("stock.*").await?;
        for number in 0_u64.. {
            shop.emit_wave("orders.created", &number).await?;
            let pause = tokio::time::sleep(Duration::from_millis(50 + fastrand::u64(0..100)));
            if shutdown.run_until_cancelled(pause).await.is_none() {
                break;
            }
            while let Ok(wave) = shop.try_receive() {
                wave.json::<u64>()?;
            }
        }
        Ok::<_, BoxError>(())
    });
    let faults = RandomFaults::new(8).clock_jumps(1);
    sim.random_faults(30 * SECOND, &faults);
    sim.run_for(40 * SECOND);
}

#[test]
fn a_seed_gives_the_same_run_each_time() {
    let run = |seed| {
        thread::spawn(move || {
            let mut sim = Sim::with_seed(seed);
            system(&mut sim);
            sim.finish();
            sim.digest()
        })
    };
    let digests: Vec<[u64; 2]> =
        (0..8).map(|seed| [run(seed), run(seed)].map(|run| run.join().unwrap())).collect();
    for (seed, [one, other]) in digests.iter().enumerate() {
        assert_eq!(one, other, "seed {seed}");
    }
    assert_ne!(digests[0], digests[1]);
}

#[test]
fn a_system_survives_random_faults() {
    explore(0..16, system);
}

#[test]
fn a_failure_is_found_and_its_faults_are_few() {
    let failed = try_explore(0..100, |sim| {
        sim.serve("stock", stock);
        sim.idle("shop");
        sim.random_faults(20 * SECOND, &RandomFaults::new(6));
        sim.always(|sim| match sim.aether("stock") {
            None if sim.now() > 5 * SECOND => Err("stock is dead".to_owned()),
            _ => Ok(()),
        });
        sim.run_for(20 * SECOND);
    });
    let message = failed.unwrap_err().to_string();
    assert!(message.contains("  - stock is dead"), "{message}");
    assert!(message.contains("without 5 of its 6 random faults"), "{message}");
    assert_eq!(message.matches("stock is killed, then starts again").count(), 1, "{message}");
    assert!(message.contains("\nagain: AETHER_TEST_SEED="), "{message}");
}

#[test]
fn what_fails_in_a_process_fails_the_test() {
    let failure = |run: fn(&mut Sim)| {
        let failed = thread::spawn(move || {
            let mut sim = Sim::with_seed(1);
            run(&mut sim);
            sim.run_for(10 * SECOND);
            sim.finish();
        });
        process::message_of(&*failed.join().unwrap_err()).to_owned()
    };
    let message = failure(|sim| sim.process("a", |_, _| async { Err::<(), _>("no stock") }));
    assert!(message.contains("a failed: no stock"), "{message}");
    let message =
        failure(|sim| sim.process("a", |_, _| async { panic!("no {}", "stock") as Result<(), BoxError> }));
    assert!(message.contains("a panicked: no stock"), "{message}");
    let message = failure(|sim| sim.eventually(SECOND, "it is noon", |_| false));
    assert!(message.contains("not within 1s: it is noon"), "{message}");
    let message = failure(|sim| sim.kill("b"));
    assert!(message.contains(r#"there is no process "b""#), "{message}");
    let message = failure(|sim| {
        sim.process("a", |_, _| std::future::pending::<Result<(), BoxError>>());
    });
    assert!(message.contains("a has not stopped within"), "{message}");
}

#[test]
fn a_restarted_process_has_nothing_of_its_last_life() {
    static LIVES: AtomicU64 = AtomicU64::new(0);
    static SEEN: Mutex<Vec<u64>> = Mutex::new(Vec::new());
    let mut sim = Sim::with_seed(1);
    sim.process("a", |aether, shutdown| {
        let life = LIVES.fetch_add(1, Ordering::Relaxed);
        async move {
            SEEN.lock().unwrap().push(life + aether.ledger().offered);
            shutdown.cancelled().await;
            Ok::<_, BoxError>(())
        }
    });
    sim.run_for(SECOND);
    sim.restart("a");
    sim.run_for(SECOND);
    sim.kill("a");
    sim.kill("a");
    sim.restart("a");
    sim.run_for(SECOND);
    sim.finish();
    assert_eq!(*SEEN.lock().unwrap(), [0, 1]);
}
