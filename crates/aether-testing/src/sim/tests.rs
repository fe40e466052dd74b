use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use aether_core::Vibrator;
use aether_core::clock::micros_since_1970;
use aether_files::disk::{Writing, create, current};
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

/// Writes a file, syncs it and its folder, and then writes more.
fn written(folder: &Path) -> std::io::Result<()> {
    let (disk, file) = (current(), create(&folder.join("orders"))?);
    let mut writing = Writing { disk: &*disk, file: &file };
    writing.write_all(&[1; 1000])?;
    disk.sync_data(&file)?;
    disk.sync_folder(folder)?;
    writing.write_all(&[2; 3000])
}

fn on_a_disk(seed: u64) -> (Sim, PathBuf) {
    let mut sim = Sim::with_seed(seed);
    let folder = sim.disk("shop");
    sim.idle("shop");
    (sim, folder)
}

#[test]
fn a_kill_leaves_what_was_written_and_a_power_cut_what_was_synced_and_a_part_of_the_rest() {
    let mut lengths = BTreeSet::new();
    for seed in 0..60 {
        let (mut sim, folder) = on_a_disk(seed);
        let there = folder.clone();
        sim.run("shop", async move |_| written(&there).unwrap());
        sim.kill("shop");
        assert_eq!(fs::read(folder.join("orders")).unwrap().len(), 4000);
        sim.cut_power("shop");
        let left = fs::read(folder.join("orders")).unwrap();
        assert!(left.len() >= 1000 && left[..1000] == [1; 1000], "seed {seed}");
        assert!(left[1000..].iter().all(|byte| [0, 2].contains(byte)), "seed {seed}");
        lengths.insert(left.len());
        sim.cut_power("shop");
        assert_eq!(fs::read(folder.join("orders")).unwrap(), left, "what is left has survived");
    }
    assert!(lengths.len() > 5 && lengths.contains(&1000) && lengths.contains(&4000), "{lengths:?}");
}

#[test]
fn a_power_cut_takes_names_back_as_long_as_their_folder_is_not_synced() {
    let mut found = BTreeSet::new();
    for seed in 0..60 {
        let (mut sim, folder) = on_a_disk(seed);
        let there = folder.clone();
        sim.run("shop", async move |_| {
            written(&there).unwrap();
            fs::rename(there.join("orders"), there.join("old orders")).unwrap();
            fs::create_dir(there.join("more")).unwrap();
            written(&there.join("more")).unwrap();
        });
        sim.cut_power("shop");
        let names = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name());
        let names: BTreeSet<String> = names.map(|name| name.to_str().unwrap().to_owned()).collect();
        let renamed = ["orders", "old orders"].map(|name| names.contains(name));
        assert!(renamed[0] != renamed[1], "seed {seed}: {names:?}");
        found.insert(names);
    }
    assert_eq!(found.len(), 4, "{found:?}");
}

#[test]
fn after_its_end_a_process_writes_nothing() {
    /// Writes when it is dropped, as a store may.
    struct Late(PathBuf, std::sync::Arc<dyn aether_files::disk::Disk>, fs::File);

    impl Drop for Late {
        fn drop(&mut self) {
            let written = Writing { disk: &*self.1, file: &self.2 }.write_all(b"late");
            fs::write(self.0.join("result"), format!("{}", written.is_ok())).unwrap();
        }
    }

    for is_killed in [true, false] {
        let mut sim = Sim::with_seed(1);
        let folder = sim.disk("shop");
        let there = folder.clone();
        sim.process("shop", move |_, shutdown| {
            let late = Late(there.clone(), current(), create(&there.join("orders")).unwrap());
            async move {
                shutdown.cancelled().await;
                drop(late);
                Ok::<_, BoxError>(())
            }
        });
        sim.run_for(SECOND);
        if is_killed {
            sim.kill("shop");
        } else {
            sim.finish();
        }
        assert_eq!(fs::read(folder.join("result")).unwrap(), (!is_killed).to_string().as_bytes());
        assert_eq!(fs::read(folder.join("orders")).unwrap().is_empty(), is_killed);
    }
}

#[test]
fn a_full_disk_takes_nothing_more_and_what_was_not_synced_once_is_never_synced() {
    for seed in 0..20 {
        let (mut sim, folder) = on_a_disk(seed);
        sim.fill_disk("shop");
        let there = folder.join("full");
        fs::create_dir(&there).unwrap();
        let refused = sim
            .run("shop", async move |_| (0..4).find_map(|_| written(&there).err()).map(|error| error.kind()));
        assert_eq!(refused, Some(std::io::ErrorKind::StorageFull));
        sim.free_disk("shop");
        sim.fail_syncs("shop", true);
        let there = folder.clone();
        sim.run("shop", async move |_| written(&there).unwrap_err());
        sim.fail_syncs("shop", false);
        let there = folder.clone();
        sim.run("shop", async move |_| {
            let (disk, file) = (current(), fs::File::open(there.join("orders")).unwrap());
            disk.sync_data(&file).unwrap();
            disk.sync_folder(&there).unwrap();
        });
        sim.cut_power("shop");
        let left = fs::read(folder.join("orders")).unwrap();
        assert!(!left.starts_with(&[1; 1000]), "seed {seed}: the system believes that it was written");
        sim.restart("shop");
        sim.run("shop", async move |_| written(&folder).unwrap());
        sim.finish();
    }
}
