//! Replicas that are kept in a file: processes that are killed, files that are damaged, disks that are full.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::replica::{open, within};
use aether_core::Aether;
use aether_field::core::{Change, Entry, Key, Stamp, WriterId};
use aether_field::{Field, StoreError, check_store};

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
    assert_eq!((field.get_json("gone"), field.count("visits"), field.members("tags").len()), (None, 3, 1));
}

/// The number of times that the writing process is killed; `AETHER_FIELD_KILLS` sets more.
const KILLS: usize = 5;

const CHILD: &str = "AETHER_FIELD_CHILD";

/// The process that is killed: writes with several tasks at once, and prints each name that is durable.
async fn write_until_killed(path: &Path) {
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
        return write_until_killed(Path::new(&path)).await;
    }
    let kills = std::env::var("AETHER_FIELD_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("home.field");
    let mut acknowledged = BTreeMap::new();
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

/// Builds without optimisation take many times as long as those that users run.
const RESTART: Duration =
    if cfg!(debug_assertions) { Duration::from_secs(10) } else { Duration::from_secs(1) };

/// The process that is killed: writes `registers` registers, prints when they are durable, and writes the next ones.
async fn write_registers_until_killed(path: &Path, registers: usize) {
    let field = open(&Aether::local(), path).await;
    for n in 0..registers {
        field.set(&format!("key/{n}"), &n).unwrap();
    }
    field.durable().await.unwrap();
    println!("durable .");
    for n in 0.. {
        field.set(&format!("key/{}", n % registers), &format!("again {n}")).unwrap();
        if n % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// C1 12. The test of this name runs itself as the process that is killed.
async fn restarts(test: &str, registers: usize) {
    use tokio::io::{AsyncBufReadExt as _, BufReader};

    if let Some(path) = std::env::var_os(CHILD) {
        return write_registers_until_killed(Path::new(&path), registers).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("home.field");
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, &path)
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    within("the writes", async {
        while !lines.next_line().await.unwrap().unwrap().ends_with("durable .") {}
    })
    .await;
    child.kill().await.unwrap();
    // The machine may do something else meanwhile, but hardly each time.
    let mut took = Vec::new();
    for time in 0..3 {
        let copy = folder.path().join(format!("{time}.field"));
        std::fs::copy(&path, &copy).unwrap();
        let begin = std::time::Instant::now();
        let field = open(&Aether::local(), &copy).await;
        took.push(begin.elapsed());
        // None is missing, and each has one of its values.
        assert_eq!(field.list("*").len(), registers);
        assert_eq!(field.status().damaged, 0);
    }
    println!("readable after {took:?}");
    assert!(took.iter().min() < Some(&RESTART), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_with_10_000_registers_after_kill_9_misses_none() {
    restarts("store::a_restart_with_10_000_registers_after_kill_9_misses_none", 10_000).await;
}

mod long {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_restart_with_100_000_registers_after_kill_9_takes_less_than_a_second() {
        let test = "store::long::a_restart_with_100_000_registers_after_kill_9_takes_less_than_a_second";
        super::restarts(test, 100_000).await;
    }
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

/// Every entry of a replica, and its digest.
async fn everything(path: &Path) -> (BTreeMap<String, String>, Field) {
    let field = open(&Aether::local(), path).await;
    let text = |value: &bytes::Bytes| String::from_utf8(value.to_vec()).unwrap();
    (field.list("*").iter().map(|(name, value)| (name.clone(), text(value))).collect(), field)
}

/// The number of bytes that are flipped, each in a copy; `AETHER_FIELD_FLIPS` sets more.
const FLIPS: usize = 100;

/// C1 13
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_any_flipped_byte_is_reported_what_it_costs_and_the_rest_is_kept() {
    let flips = std::env::var("AETHER_FIELD_FLIPS").map_or(FLIPS, |flips| flips.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("home.field");
    let field = open(&Aether::local(), &path).await;
    for n in 0..300 {
        field.set(&format!("key/{n}"), &format!("value {n}")).unwrap();
    }
    field.close().await.unwrap();
    let (all, field) = everything(&path).await;
    field.close().await.unwrap();
    let original = std::fs::read(&path).unwrap();
    println!("a file of {} bytes", original.len());
    let (all, original) = (Arc::new(all), Arc::new(original));
    let (mut noticed, mut lost) = (0, 0);
    // The first bytes are the header of the file, in which a flip is worst. Several at once: most of the time is spent
    // on the disk.
    let random = (32..flips).map(|_| fastrand::usize(..original.len()));
    // One entry in each copy that the file has of it: one of them counts, whatever the others hit.
    let entry = original.windows(9).enumerate().filter(|(_, part)| part == b"value 150").map(|(at, _)| at);
    let places: Vec<_> = (0..32).chain(random).chain(entry).collect();
    for (part, places) in places.chunks(10).enumerate() {
        let mut flipping = tokio::task::JoinSet::new();
        for (number, &place) in places.iter().enumerate() {
            let path = folder.path().join(format!("{part}-{number}.field"));
            flipping.spawn(flipped(path, place, Arc::clone(&original), Arc::clone(&all)));
        }
        for (is_noticed, missing) in flipping.join_all().await {
            noticed += usize::from(is_noticed);
            lost += missing;
        }
    }
    println!("{noticed} noticed, {lost} lost of {}", places.len());
    assert!(noticed > 0 && lost > 0, "{noticed} noticed, {lost} lost of {}", places.len());
}

/// Opens a copy of which one bit is flipped. Returns whether that was noticed, and the number of entries that it cost.
async fn flipped(
    path: PathBuf,
    place: usize,
    original: Arc<Vec<u8>>,
    all: Arc<BTreeMap<String, String>>,
) -> (bool, usize) {
    let mut bytes = original.to_vec();
    bytes[place] ^= 1 << fastrand::u8(..8);
    std::fs::write(&path, &bytes).unwrap();
    let check = check_store(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "a check changes nothing");
    let (left, field) = everything(&path).await;
    assert!(left.iter().all(|(name, value)| all[name] == *value), "byte {place}");
    let missing = all.len() - left.len();
    assert!(missing <= 1, "byte {place} cost {missing} entries");
    assert_eq!(check.is_intact, field.status().damaged == 0, "byte {place}");
    assert_eq!(check.entries, left.len(), "byte {place}");
    assert!(missing == 0 || check.damaged.iter().any(|record| record.place.is_some()), "byte {place}");
    let is_noticed = field.salvage().is_some_and(|salvage| {
        assert_eq!(std::fs::read(&salvage.set_aside).unwrap(), bytes, "byte {place}");
        true
    });
    // The saved entries are whole again.
    field.close().await.unwrap();
    assert!(check_store(&path).unwrap().is_intact, "byte {place}");
    (is_noticed, missing)
}

/// C1 12: as a crash in the middle of a write leaves it.
#[tokio::test]
async fn a_file_that_is_cut_off_anywhere_gives_what_is_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("home.field");
    let field = open(&Aether::local(), &path).await;
    for n in 0..2000 {
        field.set(&format!("key/{n}"), &format!("value {n}")).unwrap();
    }
    field.close().await.unwrap();
    let whole = std::fs::read(&path).unwrap();
    for part in 1..8 {
        let path = folder.path().join(format!("{part}.field"));
        std::fs::write(&path, &whole[..whole.len() * part / 8]).unwrap();
        match Field::builder("home").store(&path).join(&Aether::local()).await {
            Ok(field) => {
                assert_eq!(field.salvage().unwrap().entries, field.list("*").len());
                assert!(field.status().damaged > 0);
                // Known where the page with the number of entries is before the cut.
                let salvage = field.salvage().unwrap();
                assert!(salvage.entries + salvage.missing <= 2000, "{salvage:?}");
                field.close().await.unwrap();
            }
            // Nothing was left in this part.
            Err(error) => {
                let cause = std::error::Error::source(&error).unwrap().downcast_ref::<StoreError>();
                assert!(matches!(cause, Some(StoreError::Foreign { .. })), "{error:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_foreign_file_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    let text = "not a store\n".repeat(1000);
    std::fs::write(&path, &text).unwrap();
    let error = Field::builder("home").store(&path).join(&Aether::local()).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("is not a store of a field"), "{cause}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    assert!(matches!(check_store(&path), Err(StoreError::Foreign { .. })));
    assert!(matches!(check_store(folder.path().join("absent")), Err(StoreError::File { .. })));
}

/// A folder in which nobody can make a file, not even root.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_folder_that_cannot_be_written_is_a_typed_error() {
    let error = Field::builder("home").store("/proc/home.field").join(&Aether::local()).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().downcast_ref::<StoreError>();
    assert!(matches!(cause, Some(StoreError::File { .. })), "{error:?}");
}

/// A file that this user may not write: a replica does not start, and the file can still be checked.
#[cfg(unix)]
#[tokio::test]
async fn a_file_that_cannot_be_written_is_a_typed_error_and_stays_as_it_is() {
    use std::os::unix::fs::PermissionsExt;

    const NOBODY: u32 = 65_534;
    if let Some(path) = std::env::var_os(CHILD) {
        let error = Field::builder("home").store(&path).join(&Aether::local()).await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().downcast_ref::<StoreError>();
        assert!(matches!(cause, Some(StoreError::File { .. })), "{error:?}");
        let check = check_store(&path).unwrap();
        return println!("intact {} with {} .", check.is_intact, check.entries);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("home.field");
    let field = open(&Aether::local(), &path).await;
    field.set("lamp", "on").unwrap();
    field.close().await.unwrap();
    let before = std::fs::read(&path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o444)).unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o555)).unwrap();
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child
        .args([
            "--exact",
            "store::a_file_that_cannot_be_written_is_a_typed_error_and_stays_as_it_is",
            "--nocapture",
        ])
        .env(CHILD, &path);
    if nix::unistd::geteuid().is_root() {
        // Root may write everything.
        child.uid(NOBODY);
    }
    let output = within("the child", child.output()).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("intact true with 1 ."), "{said}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
}

/// The process whose disk is full: it writes until that shows, and goes on in memory.
async fn write_until_full(path: &Path) {
    let field = open(&Aether::local(), path).await;
    assert!(field.store_failure().is_none());
    for n in 0..100_000_u32 {
        let name = format!("key/{n}");
        field.set(&name, &"v".repeat(1000)).unwrap();
        match field.durable().await {
            Ok(()) => println!("durable {name} ."),
            Err(error) => {
                println!("full {error} .");
                assert!(field.store_failure().is_some());
                break;
            }
        }
    }
    field.set("after", "memory").unwrap();
    assert_eq!(field.get::<String>("after").unwrap().as_deref(), Some("memory"));
    field.durable().await.unwrap_err();
    println!("alive .");
}

/// A full disk is a limit on the size of files here: both refuse to make the file longer.
#[cfg(unix)]
#[tokio::test]
async fn a_full_disk_is_an_error_of_durable_and_loses_nothing_that_was_acknowledged() {
    if let Some(path) = std::env::var_os(CHILD) {
        return write_until_full(Path::new(&path)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("home.field");
    let child = tokio::process::Command::new("sh")
        .args(["-c", "ulimit -f 4096; trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "store::a_full_disk_is_an_error_of_durable_and_loses_nothing_that_was_acknowledged",
        ])
        .arg("--nocapture")
        .env(CHILD, &path)
        .output();
    let output = within("the child", child).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("alive ."), "{said}");
    assert!(said.contains("full the store of the field failed ."), "{said}");
    let acknowledged: Vec<_> =
        said.lines().filter_map(|line| line.split_once("durable ")?.1.strip_suffix(" .")).collect();
    assert!(acknowledged.len() > 100, "{said}");
    let (left, field) = everything(&path).await;
    assert!(acknowledged.iter().all(|name| left.contains_key(*name)));
    assert_eq!(field.status().damaged, 0);
}

/// The process whose disk is full for a while.
#[cfg(unix)]
async fn write_until_there_is_room(path: &Path) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let field = open(&Aether::local(), path).await;
    let (_, most) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    let mut full = 0;
    // It is full twice: the first time the field goes on, the second time it is closed.
    for n in 0..100_000_u32 {
        field.set(&format!("key/{n}"), &"v".repeat(1000)).unwrap();
        if field.durable().await.is_ok() {
            continue;
        }
        full += 1;
        field.set(&format!("full/{full}"), "waits").unwrap();
        setrlimit(Resource::RLIMIT_FSIZE, 1024 * 4096 * (1 + full), most).unwrap();
        if full == 2 {
            println!("full twice with {n} .");
            break;
        }
        field.durable().await.unwrap();
        assert!(field.store_failure().is_none());
    }
    field.close().await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn a_store_that_failed_is_tried_again_and_has_everything_at_the_end() {
    if let Some(path) = std::env::var_os(CHILD) {
        return write_until_there_is_room(Path::new(&path)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("home.field");
    let child = tokio::process::Command::new("sh")
        .args(["-c", "ulimit -S -f 4096; trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "store::a_store_that_failed_is_tried_again_and_has_everything_at_the_end"])
        .arg("--nocapture")
        .env(CHILD, &path)
        .output();
    let output = within("the child", child).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
    let (_, last) = said.split_once("full twice with ").unwrap();
    let last: u32 = last.split_once(' ').unwrap().0.parse().unwrap();
    let (left, field) = everything(&path).await;
    assert_eq!((left.len(), field.status().damaged), (last as usize + 3, 0));
}

/// The remains of a file that redb cannot make on a full disk.
#[tokio::test]
async fn a_file_that_was_never_whole_is_made_anew_and_another_one_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("home.field");
    let field = open(&Aether::local(), &path).await;
    field.close().await.unwrap();
    let mut whole = std::fs::read(&path).unwrap();
    whole.truncate(73_728);
    whole[..9].fill(0);
    for never_whole in [&whole[..], &[0; 73_728], &[]] {
        std::fs::write(&path, never_whole).unwrap();
        let field = open(&Aether::local(), &path).await;
        field.set("lamp", "on").unwrap();
        field.close().await.unwrap();
        let (left, field) = everything(&path).await;
        assert_eq!(left.len(), 1);
        field.close().await.unwrap();
    }
    let files: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["home.field"], "nothing is left beside it");
    // An image of a disk begins with zeros, too.
    let mut image = vec![0; 73_728];
    image[40_000] = 1;
    std::fs::write(&path, &image).unwrap();
    Field::builder("home").store(&path).join(&Aether::local()).await.unwrap_err();
    assert_eq!(std::fs::read(&path).unwrap(), image);
}

/// A disk that is full when the file is made.
#[cfg(unix)]
#[tokio::test]
async fn a_full_disk_leaves_no_file() {
    if let Some(path) = std::env::var_os(CHILD) {
        Field::builder("home").store(path).join(&Aether::local()).await.unwrap_err();
        return println!("refused .");
    }
    let folder = tempfile::tempdir().unwrap();
    let child = tokio::process::Command::new("sh")
        .args(["-c", "ulimit -f 8; trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "store::a_full_disk_leaves_no_file", "--nocapture"])
        .env(CHILD, folder.path().join("home.field"))
        .output();
    let output = within("the child", child).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("refused ."), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// C1 14
#[tokio::test]
async fn late_changes_and_dropped_marks_are_the_same_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("home.field");
    let field = open(&Aether::local(), &path).await;
    for n in 0..500 {
        field.set(&format!("key/{n}"), &n).unwrap();
        if n % 3 == 0 {
            field.remove(&format!("key/{n}")).unwrap();
        }
        if n % 50 == 0 {
            // A write of another replica that was on the way for ten seconds, between our own.
            let micros = aether_core::clock::micros_since_1970() - 10_000_000;
            let stamp = Stamp { micros, logical: n, writer: WriterId(7) };
            let entry = Entry { stamp, replaces: None, value: Some("\"late\"".into()) };
            let late = Change { key: Key::Register(format!("late/{n}").into()), entry };
            assert_eq!(field.import([late]).taken, 1);
            field.durable().await.unwrap();
        }
    }
    field.durable().await.unwrap();
    let digest = field.digest();
    field.close().await.unwrap();
    let field = open(&Aether::local(), &path).await;
    assert_eq!((field.digest(), field.list("late/*").len()), (digest, 10));
}
