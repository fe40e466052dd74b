//! Replicas on a medium: in process, over a real NATS server that is killed, and in a store.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;

use aether_core::conformance::NatsServer;
use aether_core::{Aether, Vibrator};
use aether_field::{Field, UpdateKind};
use tokio::time::timeout;

/// The longest time that anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} takes longer than {PATIENCE:?}"))
}

async fn join(aether: &Aether, replica: &str) -> Field {
    Field::builder("home").replica(replica).join(aether).await.unwrap()
}

/// Waits until a register of a replica has this value.
async fn shows(field: &Field, name: &str, value: Option<&str>) {
    let mut updates = field.watch(name);
    within(name, async {
        while field.get::<String>(name).unwrap().as_deref() != value {
            updates.next().await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_write_is_readable_at_once_here_and_soon_elsewhere() {
    let aether = Aether::local();
    let (hall, kitchen) = (join(&aether, "hall").await, join(&aether, "kitchen").await);
    let mut lamps = kitchen.watch("lamp/*");
    hall.set("lamp/1", "on").unwrap();
    assert_eq!(hall.get::<String>("lamp/1").unwrap().as_deref(), Some("on"));
    let update = within("the update", lamps.next()).await.unwrap();
    assert_eq!((update.name(), update.by()), ("lamp/1", hall.writer()));
    assert_eq!(update.value::<String>().unwrap().as_deref(), Some("on"));
    assert!(hall.remove("lamp/1").unwrap());
    let update = within("the removal", lamps.next()).await.unwrap();
    let removal = UpdateKind::Register { old: Some("\"on\"".into()), new: None };
    assert_eq!((update.kind(), kitchen.get_json("lamp/1")), (&removal, None));
}

#[tokio::test]
async fn a_slow_watcher_gets_one_update_with_the_first_and_the_last_value() {
    let field = join(&Aether::local(), "hall").await;
    field.set("n", "0").unwrap();
    let mut updates = field.watch("n");
    for n in 1..=1000 {
        field.set("n", &n.to_string()).unwrap();
    }
    let update = updates.next().await.unwrap();
    let all = UpdateKind::Register { old: Some("\"0\"".into()), new: Some("\"1000\"".into()) };
    assert_eq!(update.kind(), &all);
    field.close().await.unwrap();
    assert_eq!(updates.next().await, None);
}

#[tokio::test]
async fn counters_and_sets_lose_no_concurrent_addition() {
    let aether = Aether::local();
    let (a, b) = (join(&aether, "a").await, join(&aether, "b").await);
    for field in [&a, &b] {
        for _ in 0..100 {
            field.add("visits", 1).unwrap();
        }
        field.insert("tags", field.writer().to_string()).unwrap();
    }
    within("agreement", a.agreed(1)).await.unwrap();
    for field in [&a, &b] {
        assert_eq!((field.count("visits"), field.members("tags").len()), (200, 2));
    }
    assert!(a.discard("tags", b.writer().to_string()).unwrap());
    within("agreement", a.agreed(1)).await.unwrap();
    assert_eq!(b.members("tags"), [a.writer().to_string()]);
}

#[tokio::test]
async fn of_two_concurrent_writes_exactly_the_loser_hears() {
    let aether = Aether::local();
    let (a, b) = (join(&aether, "a").await, join(&aether, "b").await);
    let (mut lost_a, mut lost_b) = (a.superseded(), b.superseded());
    for round in 0..40 {
        let name = format!("race/{round}");
        // Neither has seen the other's: nothing is sent before this task waits.
        a.set(&name, "a").unwrap();
        b.set(&name, "b").unwrap();
    }
    within("agreement", a.agreed(1)).await.unwrap();
    assert_eq!((a.status().superseded, b.status().superseded), (40, 0));
    for _ in 0..40 {
        let lost = within("the loss", lost_a.next()).await.unwrap();
        assert_eq!(lost.lost.as_deref(), Some(b"\"a\"".as_slice()));
        assert_eq!((lost.winner.as_deref(), lost.by()), (Some(b"\"b\"".as_slice()), Some(b.writer())));
    }
    // A write that follows one supersedes nobody.
    b.set("race/0", "again").unwrap();
    shows(&a, "race/0", Some("again")).await;
    a.set("race/0", "and again").unwrap();
    shows(&b, "race/0", Some("and again")).await;
    assert_eq!((a.status().superseded, b.status().superseded), (40, 0));
    drop((a, b));
    assert_eq!(within("the end", lost_b.next()).await, None);
}

#[tokio::test]
async fn a_late_joiner_gets_everything_and_deletions_stay() {
    let aether = Aether::local();
    let first = join(&aether, "first").await;
    for n in 0..5000 {
        first.set(&format!("key/{n}"), &n.to_string()).unwrap();
    }
    first.remove("key/17").unwrap();
    let late = join(&aether, "late").await;
    within("agreement", late.agreed(1)).await.unwrap();
    assert_eq!(late.digest(), first.digest());
    assert_eq!((late.list("key/*").len(), late.get_json("key/17")), (4999, None));
}

#[tokio::test]
async fn bad_input_is_refused_and_nothing_of_it_is_seen() {
    let aether = Aether::local();
    let (a, b) = (join(&aether, "a").await, join(&aether, "b").await);
    let before = a.digest();
    for (name, value, part) in [
        ("", "v", "at least one byte"),
        (&*"n".repeat(257), "v", "257 bytes; 256 are allowed"),
        ("k", &*"v".repeat(32_767), "32769 bytes; 32768 are allowed"),
    ] {
        let error = a.set(name, value).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    let error = a.set("k", &None::<u8>).unwrap_err();
    assert_eq!(error.to_string(), "a field holds no null; remove \"k\" instead");
    assert_eq!(a.digest(), before);
    // Names that are special elsewhere are ordinary here.
    for name in ["__proto__", "../../etc", "lamp.*", "\u{1f600}"] {
        a.set(name, "v").unwrap();
        shows(&b, name, Some("v")).await;
    }
    // Foreign messages on the channels of the field are counted and skipped.
    let stranger = Vibrator::create("stranger", &aether).await.unwrap();
    for channel in ["field.home.changes", "field.home.beats"] {
        for payload in [&b""[..], b"\x02", b"\x01\xff\xff\xff\xff\xff", &[0; 64]] {
            stranger.emit_bytes(channel, payload.to_vec()).await.unwrap();
        }
    }
    a.set("k", "after").unwrap();
    shows(&b, "k", Some("after")).await;
    assert_eq!(b.status().unreadable, 8);
    let error = Field::builder("a b").join(&aether).await.unwrap_err();
    assert!(error.to_string().contains("cannot be the name of a field"), "{error}");
}

#[tokio::test]
async fn five_replicas_that_write_at_once_converge() {
    let aether = Aether::local();
    let fields = five(&aether).await;
    for round in 0..1000 {
        for (at, field) in fields.iter().enumerate() {
            field.set(&format!("{at}/{}", round % 200), &round.to_string()).unwrap();
        }
        if round % 10 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for field in &fields {
        within("agreement", field.agreed(4)).await.unwrap();
    }
    // The first ones have not seen what the last ones exchanged.
    within("agreement", fields[0].agreed(4)).await.unwrap();
    assert!(fields.iter().all(|field| field.digest() == fields[0].digest()));
    assert_eq!(fields[3].list("*").len(), 1000);
}

async fn five(aether: &Aether) -> Vec<Field> {
    let mut fields = Vec::new();
    for at in 0..5 {
        fields.push(join(aether, &format!("replica-{at}")).await);
    }
    fields
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_nats_writes_survive_a_server_that_is_killed() {
    let mut server = NatsServer::start().await.unwrap();
    let (for_a, for_b) =
        (Aether::connect(&server.url()).await.unwrap(), Aether::connect(&server.url()).await.unwrap());
    let (a, b) = (join(&for_a, "a").await, join(&for_b, "b").await);
    a.set("before", "1").unwrap();
    shows(&b, "before", Some("1")).await;
    server.kill().await.unwrap();
    // Nothing waits for the server.
    a.set("during/a", "2").unwrap();
    b.set("during/b", "3").unwrap();
    b.remove("before").unwrap();
    server.restart().await.unwrap();
    shows(&a, "during/b", Some("3")).await;
    shows(&b, "during/a", Some("2")).await;
    shows(&a, "before", None).await;
    within("agreement", a.agreed(1)).await.unwrap();
    assert_eq!(a.digest(), b.digest());
}

#[cfg(feature = "store")]
mod store {
    use super::*;

    async fn open(aether: &Aether, path: &std::path::Path) -> Field {
        Field::builder("home").store(path).join(aether).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_durable_is_there_after_a_restart_without_any_peer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("home.field");
        let field = open(&Aether::local(), &path).await;
        let writer = field.writer();
        field.set("lamp", "on").unwrap();
        field.set("gone", "1").unwrap();
        field.remove("gone").unwrap();
        field.add("visits", 3).unwrap();
        field.insert("tags", "x").unwrap();
        field.durable().await.unwrap();
        let digest = field.digest();
        field.close().await.unwrap();
        let field = open(&Aether::local(), &path).await;
        assert_eq!(field.digest(), digest);
        assert_ne!(field.writer(), writer);
        assert_eq!(field.get::<String>("lamp").unwrap().as_deref(), Some("on"));
        assert_eq!(
            (field.get_json("gone"), field.count("visits"), field.members("tags").len()),
            (None, 3, 1)
        );
    }

    /// The number of times that the writing process is killed; `AETHER_FIELD_KILLS` sets more.
    const KILLS: usize = 5;

    const CHILD: &str = "AETHER_FIELD_CHILD";

    /// The process that is killed: writes with several tasks at once, and prints each name that is durable.
    async fn write_until_killed(path: &std::path::Path) {
        let field = open(&Aether::local(), path).await;
        let first = field.list("*").len();
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..8 {
            let field = field.clone();
            writers.spawn(async move {
                for n in first.. {
                    let name = format!("{writer}/{n}");
                    field.set(&name, &n).unwrap();
                    field.durable().await.unwrap();
                    println!("durable {name} {n} .");
                }
            });
        }
        writers.join_all().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_acknowledged_survives_kill_9() {
        use tokio::io::{AsyncBufReadExt as _, BufReader};

        // The test runs itself as the process that is killed.
        if let Some(path) = std::env::var_os(CHILD) {
            return write_until_killed(std::path::Path::new(&path)).await;
        }
        let kills = std::env::var("AETHER_FIELD_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("home.field");
        let mut acknowledged = std::collections::BTreeMap::new();
        for kill in 0..kills {
            let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "store::what_was_acknowledged_survives_kill_9", "--nocapture"])
                .env(CHILD, &path)
                .stdout(std::process::Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut enough = 20 + fastrand::usize(..200);
            // Killed at a random moment; what it printed until then was acknowledged.
            within("the writes of the child", async {
                while let Some(line) = lines.next_line().await.unwrap() {
                    let Some(told) = line.split_once("durable ").map(|(_, told)| told) else { continue };
                    let mut parts = told.split(' ');
                    let (Some(name), Some(n), Some(".")) = (parts.next(), parts.next(), parts.next()) else {
                        continue;
                    };
                    acknowledged.insert(name.to_owned(), n.parse::<u64>().unwrap());
                    enough = enough.saturating_sub(1);
                    if enough == 0 {
                        child.start_kill().unwrap();
                    }
                }
                child.wait().await.unwrap();
            })
            .await;
            let field = open(&Aether::local(), &path).await;
            for (name, n) in &acknowledged {
                assert_eq!(field.get::<u64>(name).unwrap(), Some(*n), "{name} after {kill} kills");
            }
            field.close().await.unwrap();
        }
        assert!(acknowledged.len() >= 20 * kills);
    }

    #[tokio::test]
    async fn a_file_serves_one_replica_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("home.field");
        let _field = open(&Aether::local(), &path).await;
        let error = Field::builder("home").store(&path).join(&Aether::local()).await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("is open in another process"), "{cause}");
    }

    #[tokio::test]
    async fn a_flipped_byte_of_a_value_is_found_and_the_rest_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("home.field");
        let field = open(&Aether::local(), &path).await;
        field.set("good", "kept").unwrap();
        field.set("bad", "spoiled value").unwrap();
        field.close().await.unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let places: Vec<_> = bytes
            .windows(13)
            .enumerate()
            .filter(|(_, part)| part == b"spoiled value")
            .map(|(at, _)| at)
            .collect();
        assert!(!places.is_empty());
        for at in places {
            bytes[at] ^= 1;
        }
        std::fs::write(&path, bytes).unwrap();
        let field = open(&Aether::local(), &path).await;
        assert_eq!(field.get::<String>("good").unwrap().as_deref(), Some("kept"));
        assert_eq!(field.get_json("bad"), None);
    }
}
