//! `aether log` on the log of another process: the test, which writes it meanwhile.

use std::fs;
use std::path::Path;

use aether::seal::SealKeys;
use aether_conformance::{NatsServer, ServerOptions};
use aether_core::{Aether, Durability, Emitter, Kind, Vibrator, Wave};
use aether_log::store::{Entry, Store, StoreOptions};
use aether_log::{ConsumerOptions, JetStreamLog, Log};
use serde_json::Value;

use crate::nats::{server, with};
use crate::process::{Said, run};

/// A log that this process writes. Its segments are small, so that there are several.
pub(crate) struct Writing {
    pub(crate) log: Log,
    pub(crate) aether: Aether,
    pub(crate) shop: Emitter,
}

impl Writing {
    pub(crate) async fn open(folder: &Path) -> Self {
        let log = Log::builder(folder).channels(">", Durability::Stored).unwrap();
        let log = log.options(StoreOptions::default().segment_bytes(4096).unwrap()).open().unwrap();
        let aether = log.connect(aether::builder().url("local:")).await.unwrap();
        let shop = aether.emitter("shop").unwrap();
        Self { log, aether, shop }
    }

    pub(crate) async fn emit(&self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let wave = Wave::builder("orders.created").text(format!("number {number}"));
            self.shop.emit(wave.build().unwrap()).await.unwrap();
        }
    }
}

/// Positions 1 to 6, each with something of its own.
async fn various(folder: &Path) -> Writing {
    let writing = Writing::open(folder).await;
    let order = |text: &str| Wave::builder("orders.created").text(text);
    let till = writing.aether.emitter("till").unwrap();
    writing.shop.emit(order("plain").build().unwrap()).await.unwrap();
    writing.shop.emit(order("command").kind(Kind::Command).build().unwrap()).await.unwrap();
    writing.shop.emit(order("weak").amplitude(0.1).build().unwrap()).await.unwrap();
    writing.shop.emit(order("keyed").key("17").build().unwrap()).await.unwrap();
    till.emit(order("of the till").build().unwrap()).await.unwrap();
    writing.shop.emit(Wave::builder("notes.taken").text("note").build().unwrap()).await.unwrap();
    writing
}

fn positions(said: &Said) -> Vec<u64> {
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    let position = |line: &str| serde_json::from_str::<Value>(line).unwrap()["position"].as_u64().unwrap();
    said.out.lines().map(position).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_listed_printed_and_exported_while_another_process_writes_it() {
    let folder = tempfile::tempdir().unwrap();
    let _writing = various(folder.path()).await;
    let path = folder.path().to_str().unwrap();
    let listed = run(&["log", "ls", path]);
    assert_eq!((listed.code, listed.err.as_str()), (Some(0), ""));
    assert!(listed.out.starts_with("positions 1 to 6, "), "{listed:?}");
    let tail = run(&["log", "tail", path, "-n", "2"]);
    let lines: Vec<_> = tail.out.lines().collect();
    assert_eq!((tail.code, lines.len()), (Some(0), 2), "{tail:?}");
    assert!(lines[0].trim_start().starts_with("5 ") && lines[0].contains("of the till"), "{tail:?}");
    assert!(lines[1].contains("notes.taken") && lines[1].contains("note"), "{tail:?}");
    let export = |args: &[&str]| positions(&run(&[&["log", "export", path], args].concat()));
    assert_eq!(export(&[]), [1, 2, 3, 4, 5, 6]);
    assert_eq!(export(&["orders.>"]), [1, 2, 3, 4, 5]);
    assert_eq!(export(&["--kind", "command"]), [2]);
    assert_eq!(export(&["--floor", "0.2"]), [1, 2, 4, 5, 6]);
    assert_eq!(export(&["--source", "till"]), [5]);
    assert_eq!(export(&["--key", "17"]), [4]);
    assert_eq!(export(&["--from", "4"]), [4, 5, 6]);
    assert_eq!(export(&["-n", "2", "orders.>"]), [4, 5], "the last of those that match");
    assert_eq!(export(&["--since", "1h"]), [1, 2, 3, 4, 5, 6]);
    assert_eq!(export(&["--since", "2026-01-01T00:00:00Z", "--from", "6"]), [6]);
    assert_eq!(export(&["--since", "2999-01-01T00:00:00Z"]), [0_u64; 0]);
    let first = run(&["log", "export", path, "-n", "1"]);
    let exported: Value = serde_json::from_str(first.out.trim()).unwrap();
    assert_eq!(exported["wave"]["payload"], "note");
    assert!(exported["stored"].as_str().unwrap().ends_with('Z'), "{exported}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_consumers_of_a_log_are_printed_with_what_waits_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let writing = various(folder.path()).await;
    let path = folder.path().to_str().unwrap();
    let consumers = || run(&["log", "consumers", path]);
    assert_eq!(consumers().out, "no consumers\n");
    let billing = writing.log.consumer("billing", "orders.>", ConsumerOptions::default()).unwrap();
    let _notes = writing.log.consumer("notes", "notes.>", ConsumerOptions::default()).unwrap();
    billing.receive().await.unwrap().ack().await.unwrap();
    let _open = billing.receive().await.unwrap();
    let said = consumers();
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    let lines: Vec<_> = said.out.lines().collect();
    assert!(
        lines[0].starts_with("billing orders.>: 4 wait, 1 in flight, 0 retrying, 1 acknowledged, last at 2"),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with("notes notes.>: 1 wait, 0 in flight, 0 retrying, 0 acknowledged, 0 given"),
        "{lines:?}"
    );
    // A consumer whose files belong to something else is an error, and the others are printed.
    fs::create_dir(folder.path().join("consumers/audit")).unwrap();
    fs::write(folder.path().join("consumers/audit/notes.log"), "").unwrap();
    let said = consumers();
    assert_eq!((said.code, said.out.lines().count()), (Some(1), 2), "{said:?}");
    assert!(said.err.contains("notes.log"), "{said:?}");
    let nowhere = run(&["log", "consumers", "nowhere"]);
    assert_eq!(nowhere.code, Some(1), "{nowhere:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_consumers_of_logs_in_jetstream_are_printed_by_the_address_of_the_server() {
    let streams = tempfile::tempdir().unwrap();
    let jetstream = NatsServer::start_with(ServerOptions::default().jetstream(streams.path())).await.unwrap();
    let consumers = |url: &str| run(&["log", "consumers", url]);
    let url = jetstream.url();
    assert_eq!(consumers(&url).out, "no logs in JetStream\n");
    let log = JetStreamLog::builder(&*url, "shop").channels("orders.>", Durability::Stored).unwrap();
    let log = log.open().await.unwrap();
    let aether = log.connect(aether::builder().url("local:")).await.unwrap();
    for number in 0..5 {
        aether.emitter("shop").unwrap().emit_wave("orders.created", &number).await.unwrap();
    }
    let billing = log.consumer("billing", "orders.>", ConsumerOptions::default()).unwrap();
    billing.receive().await.unwrap().ack().await.unwrap();
    let said = consumers(&url);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    let lines: Vec<_> = said.out.lines().collect();
    assert!(lines[0].starts_with("shop: 5 waves at positions 1 to 5, "), "{lines:?}");
    assert!(lines[1].starts_with("shop/billing orders.>: 4 wait, "), "{lines:?}");
    assert!(lines[1].contains(" 0 redelivered, 0 retrying, 0 given up, delivered up to "), "{lines:?}");
    let (plain, _) = server().await;
    let refused = consumers(&plain.url());
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""), "{refused:?}");
    assert!(refused.err.contains("has no JetStream for this user"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_backed_up_while_it_is_written_and_restored_into_a_new_folder() {
    let folders = tempfile::tempdir().unwrap();
    let [log, backup, restored] = ["log", "backup", "restored"].map(|name| folders.path().join(name));
    let _writing = various(&log).await;
    let [log, backup, restored] = [&log, &backup, &restored].map(|path| path.to_str().unwrap());
    let said = run(&["log", "backup", log, backup]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    assert!(said.out.contains(" files with ") && said.out.ends_with("backup\n"), "{said:?}");
    let said = run(&["log", "restore", backup, restored]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    assert_eq!(positions(&run(&["log", "export", restored])), [1, 2, 3, 4, 5, 6]);
    for again in [["log", "backup", log, backup], ["log", "restore", backup, restored]] {
        let said = run(&again);
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:?}");
        assert!(said.err.contains("exists"), "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_placed_and_everything_else_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    drop(various(folder.path()).await);
    let path = folder.path().to_str().unwrap();
    let whole = run(&["log", "verify", path]);
    assert_eq!((whole.code, whole.out.as_str()), (Some(0), ""), "{whole:?}");
    assert!(
        whole.err.starts_with("6 records in ") && whole.err.lines().count() == 1,
        "no bar in a pipe: {whole:?}"
    );
    let files = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
    let segment = files.filter(|path| path.extension().is_some_and(|end| end == "log")).min().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(7).position(|part| part == b"command").unwrap();
    bytes[at] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let verified = run(&["log", "verify", path]);
    assert_eq!(verified.code, Some(1));
    assert!(verified.out.contains("are damaged (the record at position 2)"), "{verified:?}");
    assert!(verified.out.contains(segment.to_str().unwrap()), "{verified:?}");
    assert!(
        verified.err.contains("5 records") && verified.err.contains("1 places of the log are damaged"),
        "{verified:?}"
    );
    let export = run(&["log", "export", path]);
    assert_eq!((export.code, export.out.lines().count()), (Some(1), 5), "{export:?}");
    assert!(export.err.contains("position 2"), "{export:?}");
}

#[test]
fn wrong_arguments_are_refused_with_what_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    for (args, allowed) in [
        (&["log", "tail", path, "-n", "0"][..], "1"),
        (&["log", "tail", path, "--since", "soon"], "such as 10min"),
        (&["log", "tail", path, "--kind", "wish"], "command"),
        (&["log", "tail", path, "--floor", "2"], "1"),
        (&["log", "tail", path, "orders..x"], "orders..x"),
        (&["log", "export", path, "--from", "-1"], "-1"),
        (&["log", "replay", path, "--speed", "0"], "greater than 0"),
        (&["log", "replay", path, "--speed", "fast"], "greater than 0"),
        (&["log", "replay"], "FOLDER"),
        (&["log", "replay", path], "--medium"),
        (&["letters", "show", "--log", path, "first"], "first"),
    ] {
        let said = run(args);
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{args:?}: {said:?}");
        assert!(said.err.contains(allowed), "{args:?}: {said:?}");
    }
    let nowhere = folder.path().join("nowhere");
    let foreign = tempfile::tempdir().unwrap();
    fs::write(foreign.path().join("notes.log"), "my notes").unwrap();
    for (folder, reason) in [
        (nowhere.as_path(), "cannot read"),
        (folder.path(), "holds no log: name the folder of a log"),
        (foreign.path(), "is not a segment of an Aether log"),
    ] {
        for action in ["ls", "tail", "export", "verify"] {
            let said = run(&["log", action, folder.to_str().unwrap()]);
            assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{action}: {said:?}");
            assert!(said.err.contains(reason), "{action}: {said:?}");
        }
        assert_eq!(run(&["log", "tail", "--follow", folder.to_str().unwrap()]).code, Some(1));
        assert_eq!(run(&["letters", "ls", "--log", folder.to_str().unwrap()]).code, Some(1));
        assert!(!nowhere.exists(), "looking makes nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_goes_to_a_live_bus_or_to_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let _writing = various(folder.path()).await;
    let path = folder.path().to_str().unwrap();
    let (server, medium) = server().await;
    let live = aether::connect(&server.url()).await.unwrap();
    let mut hears = Vibrator::create("live", &live).await.unwrap();
    hears.resonate_on("orders.>").await.unwrap();
    live.flush().await.unwrap();
    let replayed = run(&with(&["log", "replay", path, "orders.>", "--speed", "1000"], &medium));
    assert_eq!((replayed.code, replayed.out.as_str()), (Some(0), ""), "{replayed:?}");
    assert!(replayed.err.ends_with("5 waves were emitted\n"), "{replayed:?}");
    let mut heard = Vec::new();
    for _ in 0..5 {
        let wave = hears.receive().await.unwrap();
        assert_eq!(wave.source().name(), "aether-replay");
        heard.push(wave.text().unwrap().to_owned());
    }
    heard.sort();
    assert_eq!(heard, ["command", "keyed", "of the till", "plain", "weak"]);
    // No medium is needed to look at it.
    let printed = run(&["log", "replay", path, "--print", "--speed", "1000", "--source", "till"]);
    assert_eq!((printed.code, printed.out.lines().count()), (Some(0), 1), "{printed:?}");
    assert!(printed.out.contains("of the till"), "{printed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_log_is_read_with_its_keys_and_without_them_the_commands_name_the_key_and_go_on() {
    let root = tempfile::tempdir().unwrap();
    let (folder, file) = (root.path().join("log"), root.path().join("own.keys"));
    let keys = SealKeys::generate().unwrap();
    keys.save_new(&file).unwrap();
    let id = keys.ids().next().unwrap().0.to_string();
    let log = Log::builder(&folder).channels(">", Durability::Stored).unwrap().keys(keys).open().unwrap();
    let aether = log.connect(aether::builder().url("local:")).await.unwrap();
    let emit = async |text: &str| {
        let wave = Wave::builder("orders.created").text(text).build().unwrap();
        aether.emitter("shop").unwrap().emit(wave).await.unwrap();
    };
    emit("a lamp").await;
    let lost = Wave::builder("orders.lost").text("a chair").build().unwrap();
    let letter = log.dead().keep("saga", &lost, &[]).await.unwrap().to_string();
    let (path, file) = (folder.to_str().unwrap(), file.to_str().unwrap());

    for command in ["tail", "export"] {
        let without = run(&["log", command, path]);
        assert_eq!((without.code, without.out.as_str()), (Some(1), ""), "{without:?}");
        assert!(
            without.err.contains(&format!("1 waves were not opened: sealed with key {id}")),
            "{without:?}"
        );
        let with = run(&["log", command, path, "--keys", file]);
        assert_eq!((with.code, with.err.as_str()), (Some(0), ""), "{with:?}");
        assert!(with.out.contains("a lamp"), "{with:?}");
    }
    let replayed = run(&["log", "replay", path, "--print", "--keys", file]);
    assert!(replayed.code == Some(0) && replayed.out.contains("a lamp"), "{replayed:?}");
    let verified = run(&["log", "verify", path]);
    assert!(verified.code == Some(0) && !verified.err.contains("opened"), "{verified:?}");
    let verified = run(&["log", "verify", path, "--keys", file]);
    assert!(verified.code == Some(0) && verified.err.contains("1 waves were opened"), "{verified:?}");
    let listed = run(&["letters", "ls", "--log", path]);
    assert!(listed.code == Some(0) && listed.err.contains("dead letter 1 cannot be opened"), "{listed:?}");
    let shown = run(&["letters", "show", "--log", path, &letter, "--keys", file]);
    assert!(shown.code == Some(0) && shown.out.contains("a chair"), "{shown:?}");
    drop((aether, log));
    // The numbers are not sealed, and removal is a change of the log, which is sealed as a whole.
    let dropped = run(&["letters", "drop", "--log", path, &letter]);
    assert!(dropped.code == Some(1) && dropped.err.contains("open it with its keys"), "{dropped:?}");
    let dropped = run(&["letters", "drop", "--log", path, &letter, "--keys", file]);
    assert_eq!(dropped.code, Some(0), "{dropped:?}");

    // Somebody without keys puts a wave there. The keys of the bus are of no use for a log that is not sealed.
    let store = Store::open(&folder, StoreOptions::default(), 0).unwrap();
    let (done, stored) = std::sync::mpsc::channel();
    let forged = Entry { kind: 1, level: 0, id: 0, name: "orders.created".into(), body: "forged".into() };
    store.append(forged, Durability::Stored, Box::new(move |result| done.send(result).unwrap())).unwrap();
    stored.recv().unwrap().unwrap();
    drop(store);
    let verified = run(&["log", "verify", path, "--keys", file]);
    assert_eq!(verified.code, Some(1), "{verified:?}");
    assert!(verified.err.contains("1 waves were not opened: the message is not sealed"), "{verified:?}");
    let plain = root.path().join("plain");
    various(&plain).await;
    let tail = run(&["log", "tail", plain.to_str().unwrap(), "--keys", file]);
    assert!(tail.code == Some(0) && tail.out.contains("of the till"), "{tail:?}");
}
