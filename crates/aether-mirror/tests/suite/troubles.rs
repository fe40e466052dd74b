//! Troubles at home: a folder that disappears, a disk that is full, files that somebody is writing.

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aether_core::Aether;
use aether_field::Field;
use aether_mirror::{Mirror, MirrorError, MirrorEvent, MirrorOptions, RefusedReason};

use crate::machine::{Machine, equal, texts, until, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_disappears_deletes_nothing_elsewhere() {
    let aether = Aether::local();
    let (a, b) = (Machine::new(&aether, "a").await, Machine::new(&aether, "b").await);
    a.write("precious", "precious");
    equal(&[&a, &b]).await;
    let mut events = a.mirror.events();
    // As if the disk were taken out, and its empty place stayed.
    let gone = a.folder.path().with_extension("gone");
    fs::rename(a.folder.path(), &gone).unwrap();
    fs::create_dir(a.folder.path()).unwrap();
    // It ends by itself, or when it looks.
    let _ = a.mirror.settled().await;
    while within("the end", events.next()).await.is_some() {}
    let error = a.mirror.stop().await.unwrap_err();
    assert!(matches!(error, MirrorError::Gone { .. }), "{error}");
    within("agreement", a.field.agreed(1)).await.unwrap();
    b.settled().await;
    assert_eq!(texts(&b.tree()), [("precious", "precious")].into());
    fs::remove_dir(a.folder.path()).unwrap();
    fs::rename(&gone, a.folder.path()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_never_sees_half_a_file_and_half_a_file_is_never_sent() {
    let aether = Aether::local();
    let (a, b) = (Machine::new(&aether, "a").await, Machine::new(&aether, "b").await);
    // Each file is one byte repeated, and its length belongs to the byte.
    let whole = |byte: u8| vec![byte; 300_000 + usize::from(byte) * 1000];
    let mut events = b.mirror.events();
    // A file that is left alone for a second counts as written, and so may one of which a busy machine writes so slowly.
    let is_slow_since = |begin: Instant| begin.elapsed() >= Duration::from_millis(900);
    let begin = Instant::now();
    a.write("file", whole(1));
    let mut is_slow = is_slow_since(begin);
    until(&mut events, |event| matches!(event, MirrorEvent::Written { .. })).await;
    let (stop, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let reader = std::thread::spawn({
        let (place, stop, reads) = (b.place("file"), Arc::clone(&stop), Arc::clone(&reads));
        move || {
            let (mut seen, mut halves) = (std::collections::BTreeSet::new(), 0);
            while !stop.load(Ordering::Relaxed) {
                let bytes = fs::read(&place).expect("it is always there");
                match bytes.first() {
                    Some(&byte) if bytes == whole(byte) => drop(seen.insert(byte)),
                    _ => halves += 1,
                }
                reads.fetch_add(1, Ordering::Relaxed);
            }
            (seen, halves)
        }
    });
    for byte in 2..20 {
        // A writer who takes his time, and does not close the file between two parts.
        let (bytes, begin) = (whole(byte), Instant::now());
        let mut file = fs::File::create(a.place("file")).unwrap();
        for part in bytes.chunks(50_000) {
            file.write_all(part).unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        drop(file);
        is_slow |= is_slow_since(begin);
        until(&mut events, |event| matches!(event, MirrorEvent::Written { .. })).await;
        while fs::read(b.place("file")).unwrap() != bytes {
            assert!(is_slow, "{byte}");
            until(&mut events, |event| matches!(event, MirrorEvent::Written { .. })).await;
        }
        // The reader reads each version, also on a busy machine: the second of two reads has begun by now.
        let before = reads.load(Ordering::Relaxed);
        within("the reader", async {
            while reads.load(Ordering::Relaxed) < before + 2 {
                assert!(!reader.is_finished(), "the reader has failed");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    let (seen, halves) = reader.join().unwrap();
    assert!(halves == 0 || is_slow, "half a file, {halves} times");
    assert_eq!(seen.iter().filter(|byte| **byte > 1).count(), 18, "{seen:?}");
}

/// A small disk, which root can mount.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new(size: &str) -> Option<Self> {
        if std::env::var_os("AETHER_NO_NAMESPACES").is_some() {
            eprintln!("skipped, because AETHER_NO_NAMESPACES is set: this needs root to mount a small disk");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(folder.path())
            .status()
            .unwrap();
        assert!(mounted.success(), "root can mount a disk; AETHER_NO_NAMESPACES=1 leaves this out");
        Some(Self(folder))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_counted_and_files_follow_when_there_is_room() {
    let Some(disk) = Disk::new("4m") else { return };
    let aether = Aether::local();
    let a = Machine::new(&aether, "a").await;
    let field = Field::builder("home").replica("b").join(&aether).await.unwrap();
    let mirrored = disk.0.path().join("mirrored");
    let mirror =
        Mirror::start(&aether, &field, &mirrored, MirrorOptions::default().machine("b")).await.unwrap();
    within("the mirror", mirror.settled()).await.unwrap();
    fs::write(disk.0.path().join("filler"), vec![1; 1_500_000]).unwrap();
    let mut events = mirror.events();
    a.write("large", vec![2; 3_000_000]);
    a.settled().await;
    until(&mut events, |event| matches!(event, MirrorEvent::Refused { reason: RefusedReason::DiskFull, .. }))
        .await;
    assert!(!mirrored.join("large").exists() && mirror.status().waiting == 1);
    // The field goes on.
    within("agreement", a.field.agreed(1)).await.unwrap();
    fs::remove_file(disk.0.path().join("filler")).unwrap();
    until(&mut events, |event| matches!(event, MirrorEvent::Written { .. })).await;
    assert!(fs::read(mirrored.join("large")).unwrap() == vec![2; 3_000_000]);
    assert!(mirror.refused().is_empty() && mirror.status().refused[&RefusedReason::DiskFull] == 1);
    assert_eq!(fs::read_dir(mirrored.join(".aether-mirror/staging")).unwrap().count(), 0);
    mirror.stop().await.unwrap();
    field.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_belongs_to_one_process_and_to_one_field() {
    let aether = Aether::local();
    let a = Machine::new(&aether, "a").await;
    let start = async |field: &Field, options: MirrorOptions| {
        Mirror::start(&aether, field, a.folder.path(), options).await.unwrap_err()
    };
    let error = start(&a.field, MirrorOptions::default()).await;
    assert!(matches!(error, MirrorError::InUse { .. }), "{error}");
    for name in ["", "..", "a/b", "a\\b", &"m".repeat(65)] {
        let error = start(&a.field, MirrorOptions::default().machine(name)).await;
        assert!(matches!(error, MirrorError::Machine { .. }), "{name:?}: {error}");
    }
    a.mirror.stop().await.unwrap();
    let other = Field::builder("work").join(&aether).await.unwrap();
    let error = Mirror::start(&aether, &other, a.folder.path(), MirrorOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("belongs to \"home files/\", and not to \"work files/\""), "{error}");
    let file = a.folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Mirror::start(&aether, &a.field, &file, MirrorOptions::default()).await.unwrap_err();
    assert!(matches!(error, MirrorError::Folder { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_to_the_last_byte_ends_no_mirror() {
    let Some(disk) = Disk::new("4m") else { return };
    let aether = Aether::local();
    let a = Machine::new(&aether, "a").await;
    let field = Field::builder("home").replica("b").join(&aether).await.unwrap();
    let mirrored = disk.0.path().join("mirrored");
    let mirror =
        Mirror::start(&aether, &field, &mirrored, MirrorOptions::default().machine("b")).await.unwrap();
    let mut events = mirror.events();
    a.write("before", "before");
    until(&mut events, |event| matches!(event, MirrorEvent::Written { .. })).await;
    let mut filler = fs::File::create(disk.0.path().join("filler")).unwrap();
    while filler.write_all(&[1; 512]).is_ok() {}
    // Every record of these is larger than the last one of the file that was there.
    for n in 0..200 {
        a.write(&format!("{n}/{}", "n".repeat(200)), vec![2; 3_000]);
    }
    until(&mut events, |event| matches!(event, MirrorEvent::Refused { reason: RefusedReason::DiskFull, .. }))
        .await;
    // What is done here while the disk is full is sent, at the latest when there is room.
    let mut events_of_a = a.mirror.events();
    fs::remove_file(mirrored.join("before")).unwrap();
    drop(filler);
    fs::remove_file(disk.0.path().join("filler")).unwrap();
    until(&mut events_of_a, |event| *event == MirrorEvent::Deleted { path: "before".into() }).await;
    let mut written = mirror.status().written;
    while written < 201 {
        until(&mut events, |event| matches!(event, MirrorEvent::Written { .. })).await;
        written = mirror.status().written;
    }
    within("the mirror", mirror.settled()).await.unwrap();
    assert_eq!(crate::machine::tree(&mirrored), a.tree());
    mirror.stop().await.unwrap();
    field.close().await.unwrap();
}
