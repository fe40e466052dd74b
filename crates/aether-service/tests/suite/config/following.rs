//! Files that change while a service runs.

use std::fs;
use std::future::ready;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aether_core::{Aether, EmitError, Floor, Vibrator, Wave};
use aether_service::config::{Configuration, Reloads};
use aether_service::{CancellationToken, Service};
use tokio::sync::Semaphore;
use tokio::sync::watch::Receiver;

use crate::config::stage::{Folder, Greeter, PATIENCE, next};

/// Follows the files of a folder until the guard is dropped.
fn follow(folder: &Folder) -> (Configuration, tokio_util::sync::DropGuard) {
    let config = folder.load().unwrap();
    let shutdown = CancellationToken::new();
    config.follow(&shutdown);
    (config, shutdown.drop_guard())
}

/// Waits for versions until something holds.
#[cfg(feature = "schema")]
async fn reloaded_until(reloads: &mut Receiver<Reloads>, holds: impl AsyncFn() -> bool) {
    while !holds().await {
        next(reloads).await;
    }
}

#[tokio::test]
async fn live_settings_apply_and_others_are_named() {
    let folder = Folder::with(&[("default.toml", "inbox.floor = 0.0\nmedium.prefix = 'a'\n")]);
    let (config, _following) = follow(&folder);
    let mut reloads = config.reloads();
    let aether = Aether::local();
    let hears = Vibrator::builder("hears").inbox(config.inbox()).create(&aether).await.unwrap();
    hears.resonate_on("a").await.unwrap();
    let emits = aether.emitter("emits").unwrap();

    folder.replace(
        "default.toml",
        "inbox.floor = 0.4\ninbox.max_waves = 2\nmedium.prefix = 'b'\n[service.greeter]\ngreeting = 'hi'\nguests = 9\n",
    );
    let reload = next(&mut reloads).await;
    assert_eq!((reload.applied, reload.refused), (1, 0));
    assert_eq!(reload.needs_restart, ["medium.prefix", "service.greeter.guests"]);
    assert_eq!(hears.effective_floor(), Floor::new(0.4).unwrap());
    emits.emit(Wave::builder("a").amplitude(0.1)).await.unwrap();
    assert_eq!(hears.ledger().shed_below_floor, 1);
    for _ in 0..2 {
        emits.try_emit(Wave::builder("a")).unwrap();
    }
    assert!(emits.try_emit(Wave::builder("a")).is_err(), "the bound is two waves");
    assert_eq!(config.section::<Greeter>().greeting, "hi");

    folder.replace("default.toml", "inbox.floor = 0.0\nmedium.prefix = 'a'\n");
    let reload = next(&mut reloads).await;
    assert!(reload.needs_restart.is_empty(), "it is as it was at the start: {reload:?}");
    assert_eq!(hears.effective_floor(), Floor::OPEN);
}

#[tokio::test]
async fn a_broken_file_keeps_the_settings_and_a_valid_one_replaces_them() {
    let folder = Folder::with(&[("default.toml", "inbox.floor = 0.5\n")]);
    let (config, _following) = follow(&folder);
    let mut reloads = config.reloads();
    for (number, broken) in
        ["inbox.floor = \n", "inbox.flor = 0.1\n", "inbox.floor = 7\n"].into_iter().enumerate()
    {
        folder.replace("default.toml", broken);
        let reload = next(&mut reloads).await;
        assert_eq!((reload.applied, reload.refused), (0, number as u64 + 1));
        assert!(reload.mistakes.unwrap().to_string().contains("default.toml:1: "));
        assert_eq!(config.settings().inbox.floor.0, Floor::new(0.5).unwrap(), "{broken}");
    }
    fs::remove_file(folder.file("default.toml")).unwrap();
    let reload = next(&mut reloads).await;
    assert!(reload.mistakes.unwrap().to_string().contains("the file is gone"));
    assert_eq!(config.settings().inbox.floor.0, Floor::new(0.5).unwrap());
    folder.replace("default.toml", "inbox.floor = 0.25\n");
    let reload = next(&mut reloads).await;
    assert_eq!((reload.applied, reload.refused, reload.mistakes.is_none()), (1, 4, true));
    assert_eq!(config.settings().inbox.floor.0, Floor::new(0.25).unwrap());
}

/// Half a file is read by nobody, however long the writer takes.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_is_read_when_it_has_been_written_to_its_end() {
    let folder = Folder::with(&[("default.toml", "inbox.floor = 0.1\n")]);
    let (config, _following) = follow(&folder);
    let mut reloads = config.reloads();
    // Once a change was read, the reading at the start is over as well.
    folder.replace("default.toml", "inbox.floor = 0.3\n");
    next(&mut reloads).await;
    let mut file = fs::File::create(folder.file("default.toml")).unwrap();
    file.write_all(b"[inbox]\nfloor = ").unwrap();
    file.sync_all().unwrap();
    // A change of another file meanwhile must not lead to reading half a file.
    folder.replace("notes.toml", "");
    // A reading would come within a tenth of a second; nothing waits for this time to be enough.
    let early = tokio::time::timeout(Duration::from_millis(700), reloads.changed()).await;
    assert!(early.is_err(), "half a file was read: {:?}", reloads.borrow());
    file.write_all(b"0.2\n").unwrap();
    drop(file);
    let reload = next(&mut reloads).await;
    assert_eq!((reload.applied, reload.refused), (2, 0));
    assert_eq!(config.settings().inbox.floor.0, Floor::new(0.2).unwrap());
}

/// As Kubernetes does it with a ConfigMap: the files are links into a folder that is replaced by renaming a link.
#[cfg(unix)]
#[tokio::test]
async fn links_that_are_switched_are_noticed() {
    use std::os::unix::fs::symlink;
    let folder = Folder::with(&[]);
    for (name, floor) in [("one", "0.1"), ("two", "0.2")] {
        fs::create_dir(folder.file(name)).unwrap();
        fs::write(folder.file(name).join("default.toml"), format!("inbox.floor = {floor}\n")).unwrap();
    }
    symlink("one", folder.file("..data")).unwrap();
    symlink("..data/default.toml", folder.file("default.toml")).unwrap();
    let (config, _following) = follow(&folder);
    let mut reloads = config.reloads();
    assert_eq!(config.settings().inbox.floor.0, Floor::new(0.1).unwrap());
    symlink("two", folder.file("..new")).unwrap();
    fs::rename(folder.file("..new"), folder.file("..data")).unwrap();
    assert_eq!(next(&mut reloads).await.applied, 1);
    assert_eq!(config.settings().inbox.floor.0, Floor::new(0.2).unwrap());
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_that_is_a_link_is_followed_when_it_is_switched_and_afterwards() {
    use std::os::unix::fs::symlink;
    let folder = Folder::with(&[]);
    for (name, floor) in [("r1", "0.1"), ("r2", "0.2")] {
        fs::create_dir(folder.file(name)).unwrap();
        fs::write(folder.file(name).join("default.toml"), format!("inbox.floor = {floor}\n")).unwrap();
    }
    symlink("r1", folder.file("current")).unwrap();
    let mut args = folder.args(None, &[]);
    args.folder = Some(folder.file("current"));
    let config = args.load::<Greeter>().unwrap();
    let shutdown = CancellationToken::new();
    config.follow(&shutdown);
    let mut reloads = config.reloads();
    symlink("r2", folder.file("new")).unwrap();
    fs::rename(folder.file("new"), folder.file("current")).unwrap();
    let floor = |number| Floor::new(number).unwrap();
    assert_eq!(next(&mut reloads).await.applied, 1);
    assert_eq!(config.settings().inbox.floor.0, floor(0.2));
    folder.replace("r2/default.toml", "inbox.floor = 0.3\n");
    assert_eq!(next(&mut reloads).await.applied, 2);
    assert_eq!(config.settings().inbox.floor.0, floor(0.3));
    shutdown.cancel();
}

#[tokio::test]
async fn a_change_before_the_watching_begins_is_not_missed() {
    let folder = Folder::with(&[("default.toml", "inbox.floor = 0.1\n")]);
    let config = folder.load().unwrap();
    let mut reloads = config.reloads();
    folder.write("default.toml", "inbox.floor = 0.2\n");
    let shutdown = CancellationToken::new();
    config.follow(&shutdown);
    assert_eq!(next(&mut reloads).await.applied, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_load_lose_nothing() {
    const LEAST: u64 = 100_000;
    let folder = Folder::with(&[("default.toml", "inbox.patience = '30s'\n")]);
    let (config, _following) = follow(&folder);
    let mut reloads = config.reloads();
    let aether = Aether::local();
    let handled = Arc::new(Semaphore::new(0));
    let service = Service::builder("stock")
        .configured(&config)
        .on("a", {
            let handled = Arc::clone(&handled);
            move |_: Wave| {
                handled.add_permits(1);
                ready(())
            }
        })
        .build(&aether)
        .await
        .unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(service.run_until(shutdown.clone()));
    let emits = aether.emitter("emits").unwrap();
    let may_end = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&may_end);
    let emitting = tokio::spawn(async move {
        let mut waves = 0_u64;
        while waves < LEAST || !ends.load(Ordering::Relaxed) {
            emits.emit(Wave::builder("a").text("x")).await.unwrap();
            waves += 1;
        }
        waves
    });
    let mut changes = 0_u64;
    while !emitting.is_finished() {
        changes += 1;
        // Up and down, and a broken version every third time.
        let text = match changes % 3 {
            0 => "inbox.max_waves = \n".to_owned(),
            1 => format!("inbox.patience = '30s'\ninbox.max_waves = {}\n", 5 + changes),
            _ => {
                format!("inbox.patience = '30s'\ninbox.max_waves = {}\nlog.filter = 'warn'\n", 5000 + changes)
            }
        };
        folder.replace("default.toml", &text);
        let reload = next(&mut reloads).await;
        assert_eq!(reload.applied + reload.refused, changes);
        // One version of each kind, however slowly the files are read.
        may_end.store(changes >= 3, Ordering::Relaxed);
    }
    let waves = emitting.await.unwrap();
    assert!(changes >= 3, "the files changed {changes} times while waves were emitted");
    let all = tokio::time::timeout(PATIENCE, handled.acquire_many(waves as u32)).await;
    let _all = all.expect("every wave is handled").unwrap();
    shutdown.cancel();
    let report = tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
    let ledger = aether.ledger();
    assert_eq!((ledger.offered, ledger.delivered, ledger.lost()), (waves, waves, 0));
    assert_eq!(report.left + report.abandoned, 0, "{report}");
}

#[tokio::test]
async fn the_emission_limit_counts_for_every_emitter_of_the_connection_and_follows_the_file() {
    let folder = Folder::with(&[("default.toml", "emit.rate = '1/1h'\nemit.patience = '1ms'\n")]);
    let config = folder.load().unwrap();
    let shutdown = CancellationToken::new();
    let _following = shutdown.clone().drop_guard();
    let aether = config.connect_until(&shutdown, "shop").await.unwrap().unwrap();
    let mut reloads = config.reloads();
    // Neither knows of the configuration.
    let vibrator = Vibrator::create("vibrator", &aether).await.unwrap();
    let emitter = aether.emitter("emitter").unwrap();
    emitter.emit_bytes("a", "x").await.unwrap();
    for limited in [&vibrator.emitter(), &emitter] {
        let refused = limited.emit_bytes("a", "x").await;
        assert!(matches!(refused, Err(EmitError::RateLimited { .. })), "{refused:?}");
    }
    folder.replace("default.toml", "emit.rate = '1000000/s'\nemit.patience = '1ms'\n");
    assert!(next(&mut reloads).await.needs_restart.is_empty());
    for limited in [&vibrator.emitter(), &emitter] {
        limited.emit_bytes("a", "x").await.unwrap();
    }
}

/// A bus of the program, an emitter that the rules name, and one that they do not.
async fn bus(config: &Configuration) -> (Aether, aether_core::Emitter, aether_core::Emitter) {
    let aether = config.builder("shop").connect().await.unwrap();
    let [shop, stranger] = ["shop", "stranger"].map(|name| aether.emitter(name).unwrap());
    (aether, shop, stranger)
}

#[tokio::test]
async fn a_program_that_started_without_rules_takes_those_of_a_changed_file_and_gives_them_up_again() {
    let folder = Folder::with(&[("default.toml", "")]);
    let (config, _following) = follow(&folder);
    let mut reloads = config.reloads();
    let (aether, shop, stranger) = bus(&config).await;
    let mut audit = Vibrator::create("audit", &aether).await.unwrap();
    audit.resonate_on("orders.>").await.unwrap();
    stranger.emit_bytes("orders.created", "without rules").await.unwrap();
    assert_eq!(audit.receive().await.unwrap().text().unwrap(), "without rules");

    folder.replace("default.toml", "[border]\nrules = ['shop: emit orders.>', 'audit: listen orders.>']\n");
    let reload = next(&mut reloads).await;
    assert!(reload.needs_restart.is_empty(), "{reload:?}");
    let refused = stranger.emit_bytes("orders.created", "by rules").await.unwrap_err();
    assert!(matches!(refused, EmitError::NotAllowed { .. }), "{refused}");
    shop.emit_bytes("orders.created", "by rules").await.unwrap();
    assert_eq!(audit.receive().await.unwrap().text().unwrap(), "by rules");

    folder.replace("default.toml", "[border]\nrules = ['*: emit >', 'audit: listen invoices.>']\n");
    next(&mut reloads).await;
    stranger.emit_bytes("orders.created", "to nobody").await.unwrap();
    assert_eq!(audit.ledger().offered, 2);
    assert_eq!(config.border().refused().revoked, 1);

    // Rules with a mistake leave those that are in force.
    folder.replace("default.toml", "[border]\nrules = ['*: emit >', 'a: deny emit >', 'a: emit x']\n");
    assert!(next(&mut reloads).await.mistakes.is_some());
    assert!(audit.resonate_on("orders.>").await.is_err());
    folder.replace("default.toml", "");
    next(&mut reloads).await;
    audit.resonate_on("orders.>").await.unwrap();
}

#[tokio::test]
async fn a_change_of_another_setting_gives_nobody_more_than_the_rate_of_the_rules() {
    const RULES: &str = "border.rules = ['shop: emit >; max_rate 10']\n";
    let folder = Folder::with(&[("default.toml", RULES)]);
    let (config, _following) = follow(&folder);
    let mut reloads = config.reloads();
    let (_aether, shop, _) = bus(&config).await;
    let begun = Instant::now();
    let mut emitted = 0;
    let mut exhaust = async || {
        while shop.emit_bytes("a", "x").await.is_ok() {
            emitted += 1;
        }
    };
    exhaust().await;
    folder.replace("default.toml", &format!("{RULES}inbox.floor = 0.1\n"));
    next(&mut reloads).await;
    exhaust().await;
    let most = 11.0 + 10.0 * begun.elapsed().as_secs_f64();
    assert!(f64::from(emitted) <= most, "{emitted} of {most}");
}

#[cfg(feature = "schema")]
#[tokio::test]
async fn a_schema_in_another_folder_applies_when_its_file_changes_and_a_broken_one_leaves_the_old_one() {
    let schemas = Folder::with(&[("order.json", r#"{"type": "integer"}"#)]);
    let lines = format!("[border]\nschemas = [\"orders.>: {}\"]\n", schemas.file("order.json").display());
    let folder = Folder::with(&[("default.toml", &lines)]);
    let (config, _following) = follow(&folder);
    let mut reloads = config.reloads();
    let (_aether, shop, _) = bus(&config).await;
    let fits = async |payload: &'static str| shop.emit_bytes("orders.created", payload).await.is_ok();
    assert!(fits("1").await && !fits("\"one\"").await);
    schemas.replace("order.json", r#"{"type": "string"}"#);
    next(&mut reloads).await;
    assert!(!fits("1").await && fits("\"one\"").await);
    schemas.replace("order.json", "{");
    assert!(next(&mut reloads).await.mistakes.unwrap().to_string().contains("is not JSON"));
    // Settings are read once, whatever has become of the files.
    assert!(config.settings().border.schemas.compiled().is_some());
    assert!(!fits("1").await && fits("\"one\"").await);
    // A file that is named for the first time is watched before it can be used.
    let more = Folder::with(&[("more.json", "{")]);
    let file = more.file("more.json");
    folder.replace("default.toml", &format!("[border]\nschemas = [\"a: {}\"]\n", file.display()));
    assert!(next(&mut reloads).await.mistakes.is_some());
    more.replace("more.json", "false");
    assert!(next(&mut reloads).await.mistakes.is_none());
    assert!(fits("1").await && shop.emit_bytes("a", "1").await.is_err());
}

#[cfg(feature = "schema")]
#[tokio::test]
async fn a_folder_of_schemas_may_be_replaced_or_go_and_come_back() {
    let around = Folder::with(&[]);
    let schemas = around.file("schemas");
    let fill = |text: &str| {
        fs::create_dir(&schemas).unwrap();
        fs::write(schemas.join("order.json"), text).unwrap();
    };
    fill(r#"{"type": "integer"}"#);
    let lines = format!("[border]\nschemas = [\"orders.>: {}\"]\n", schemas.join("order.json").display());
    let folder = Folder::with(&[("default.toml", &lines)]);
    let (config, _following) = follow(&folder);
    let mut reloads = config.reloads();
    let (_aether, shop, _) = bus(&config).await;
    let fits = async |payload: &'static str| shop.emit_bytes("orders.created", payload).await.is_ok();
    // As a deployment does: another folder takes its name.
    fs::rename(&schemas, around.file("before")).unwrap();
    fill(r#"{"type": "string"}"#);
    reloaded_until(&mut reloads, async || fits("\"one\"").await).await;
    fs::write(schemas.join("order.json"), r#"{"type": "boolean"}"#).unwrap();
    reloaded_until(&mut reloads, async || fits("true").await).await;
    // While it is gone, its last schema stays in force.
    fs::remove_dir_all(&schemas).unwrap();
    assert!(next(&mut reloads).await.mistakes.is_some());
    assert!(fits("true").await && !fits("1").await);
    fill(r#"{"type": "integer"}"#);
    reloaded_until(&mut reloads, async || fits("1").await).await;
    fs::write(schemas.join("order.json"), r#"{"type": "string"}"#).unwrap();
    reloaded_until(&mut reloads, async || fits("\"one\"").await).await;
    // What happens beside it concerns nobody.
    fs::write(around.file("other"), "").unwrap();
    fs::remove_file(around.file("other")).unwrap();
    let before = reloads.borrow().applied;
    folder.replace("default.toml", &format!("inbox.floor = 0.1\n{lines}"));
    assert_eq!(next(&mut reloads).await.applied, before + 1);
}
