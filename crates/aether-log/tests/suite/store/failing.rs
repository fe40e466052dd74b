//! A full disk, a folder without rights, a second process, and a writer that is behind.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use aether_core::Durability;
use aether_log::store::{AppendError, OpenError, StoreOptions};

use crate::store::stage::{append, entry, open, positions, read, small};

/// A file system of its own, if this user may mount one. Unmounted at the end.
pub(crate) struct Mounted(pub(crate) tempfile::TempDir);

impl Mounted {
    pub(crate) fn new(kilobytes: usize) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={kilobytes}k");
        let none: Option<&str> = None;
        let flags = nix::mount::MsFlags::empty();
        match nix::mount::mount(none, folder.path(), Some("tmpfs"), flags, Some(&*size)) {
            Ok(()) => Some(Self(folder)),
            Err(nix::Error::EPERM) => {
                eprintln!("this user may not mount a file system: the test needs root");
                None
            }
            Err(error) => panic!("mount: {error}"),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        nix::mount::umount(self.0.path()).unwrap();
    }
}

#[test]
fn a_full_disk_refuses_the_record_and_loses_nothing_and_the_log_goes_on_when_there_is_room() {
    let Some(disk) = Mounted::new(256) else { return };
    let folder = disk.0.path().join("log");
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![1; 100 << 10]).unwrap();
    let store = open(&folder, StoreOptions::default()).unwrap();
    let mut stored = 0;
    let refused = loop {
        match append(&store, entry(stored + 1)) {
            Ok(position) => stored = position,
            Err(error) => break error,
        }
    };
    assert!(stored > 300, "{stored}");
    assert!(
        matches!(&refused, AppendError::Write { source, .. }
        if source.kind() == std::io::ErrorKind::StorageFull),
        "{refused:?}"
    );
    assert!(refused.is_transient());
    assert_eq!(positions(&read(store.cursor(0)).0), (1..=stored).collect::<Vec<_>>());
    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(append(&store, entry(stored + 1)).unwrap(), stored + 1);
    drop(store);
    let store = open(&folder, StoreOptions::default()).unwrap();
    assert!(store.torn().is_none() && store.damaged().is_empty());
    assert_eq!(positions(&read(store.cursor(0)).0), (1..=stored + 1).collect::<Vec<_>>());
}

#[test]
fn a_folder_that_cannot_be_written_is_refused_with_its_name() {
    let Some(disk) = Mounted::new(64) else { return };
    let (none, flags) = (None::<&str>, nix::mount::MsFlags::MS_REMOUNT | nix::mount::MsFlags::MS_RDONLY);
    nix::mount::mount(none, disk.0.path(), Some("tmpfs"), flags, none).unwrap();
    let folder = disk.0.path().join("log");
    let refused = open(&folder, small()).unwrap_err();
    let OpenError::Io { path, source, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!((path, source.kind()), (&folder, std::io::ErrorKind::ReadOnlyFilesystem));
}

#[test]
#[ignore = "the second process of another test"]
fn holds_a_log() {
    let folder = std::env::var_os("AETHER_LOG_FOLDER").unwrap();
    let _store = open(folder.as_ref(), small()).unwrap();
    println!("\nopen");
    // Until the other process closes the pipe.
    std::io::stdin().lines().for_each(drop);
}

#[test]
fn a_second_process_is_refused_with_the_number_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::failing::holds_a_log", "--ignored", "--nocapture"])
        .env("AETHER_LOG_FOLDER", folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(first.stdout.take().unwrap()).lines();
    assert!(lines.map(Result::unwrap).any(|line| line == "open"));
    let refused = open(folder.path(), small()).unwrap_err();
    assert!(
        matches!(&refused, OpenError::InUse { process, .. } if *process == Some(first.id())),
        "{refused}"
    );
    assert!(refused.is_transient());
    first.kill().unwrap();
    first.wait().unwrap();
    let store = open(folder.path(), small()).unwrap();
    assert!(matches!(open(folder.path(), small()), Err(OpenError::InUse { .. })), "also in one process");
    append(&store, entry(1)).unwrap();
}

#[cfg(unix)]
#[test]
fn a_log_whose_lock_was_removed_by_hand_is_still_locked() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), small()).unwrap();
    std::fs::remove_file(folder.path().join("lock")).unwrap();
    assert!(matches!(open(folder.path(), small()), Err(OpenError::InUse { .. })));
    append(&store, entry(1)).unwrap();
    drop(store);
    assert_eq!(open(folder.path(), small()).unwrap().extent().last, 1);
}

#[test]
fn records_are_refused_while_too_many_bytes_wait() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), StoreOptions::default().max_queued_bytes(10_000)).unwrap();
    let (go_on, stuck) = mpsc::channel::<()>();
    let (written, is_written) = mpsc::channel();
    // The writing thread is stuck in this call.
    let first = Box::new(move |_: Result<_, _>| {
        written.send(()).unwrap();
        stuck.recv().unwrap();
    });
    store.append(entry(1), Durability::Stored, first).unwrap();
    is_written.recv().unwrap();
    let (done, results) = mpsc::channel();
    let mut taken = 0;
    let refused = loop {
        let done = done.clone();
        let done = Box::new(move |result| done.send(result).unwrap());
        match store.append(entry(taken + 2), Durability::Stored, done) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AppendError::Behind { max_bytes: 10_000, .. }), "{refused}");
    assert!((20..100).contains(&taken), "{taken}");
    go_on.send(()).unwrap();
    for number in 0..taken {
        assert_eq!(results.recv().unwrap().unwrap().position, number + 2);
    }
    assert_eq!(append(&store, entry(1000)).unwrap(), taken + 2);
}
