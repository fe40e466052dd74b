//! A full disk, a second process, and files of others.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use aether_outbox::{Backend, OpenError, Store, StoreError};

use crate::stage::{make_order, open, order};

/// A file system of its own, if this user may mount one. Unmounted at the end.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(kilobytes: usize) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={kilobytes}k");
        let (none, flags) = (None::<&str>, nix::mount::MsFlags::empty());
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

fn a_full_disk_loses_nothing_and_the_store_goes_on_when_there_is_room<B: Backend>(
    disk: &Mounted,
    open: impl Fn() -> Store<B>,
) {
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![1; 4 << 20]).unwrap();
    let store = open();
    let mut made = 0;
    let refused = loop {
        let fill = || {
            let change = store.begin()?;
            change.table("made").insert("last", &(made + 1))?;
            change.table("bulk").insert(&made.to_string(), &"x".repeat(30_000))?;
            change.emit(order(made + 1))?;
            change.commit()
        };
        match fill() {
            Ok(()) => made += 1,
            Err(error) => break error,
        }
        assert!(made < 10_000);
    };
    assert!(matches!(&refused, StoreError::File { path, .. } if path == store.path()), "{refused:?}");
    assert!(refused.to_string().contains("make room"), "{refused}");
    assert_eq!(store.ledger().committed, made);
    std::fs::remove_file(&ballast).unwrap();
    // Where the disk fails at the last moment, the change that was refused may be found.
    let next = make_order(&store);
    assert!(next == made + 1 || next == made + 2, "{next} after {made}");
    assert_eq!((store.ledger().committed, store.ledger().waiting), (next, next));
    drop(store);
    let store = open();
    assert_eq!((store.ledger().committed, store.ledger().waiting), (next, next));
}

#[test]
fn in_redb_a_full_disk_loses_nothing_and_the_store_goes_on_when_there_is_room() {
    let Some(disk) = Mounted::new(16 << 10) else { return };
    a_full_disk_loses_nothing_and_the_store_goes_on_when_there_is_room(&disk, || open(disk.0.path()));
}

#[cfg(feature = "sqlite")]
#[test]
fn in_sqlite_a_full_disk_loses_nothing_and_the_store_goes_on_when_there_is_room() {
    let Some(disk) = Mounted::new(16 << 10) else { return };
    let open = || crate::stage::open_sqlite(disk.0.path());
    a_full_disk_loses_nothing_and_the_store_goes_on_when_there_is_room(&disk, open);
}

#[test]
#[ignore = "the second process of another test"]
fn holds_a_store() {
    let folder = std::env::var_os("AETHER_OUTBOX_FOLDER").unwrap();
    let _store = open(folder.as_ref());
    println!("\nopen");
    // Until the other process closes the pipe.
    std::io::stdin().lines().for_each(drop);
}

#[test]
fn a_second_process_is_refused_with_the_number_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "failing::holds_a_store", "--ignored", "--nocapture"])
        .env("AETHER_OUTBOX_FOLDER", folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(first.stdout.take().unwrap()).lines();
    assert!(lines.map(Result::unwrap).any(|line| line == "open"));
    let path = folder.path().join("shop.redb");
    let refused = Store::builder("shop").open(&path).unwrap_err();
    assert!(
        matches!(&refused, OpenError::InUse { process, .. } if *process == Some(first.id())),
        "{refused}"
    );
    assert!(refused.is_transient());
    first.kill().unwrap();
    first.wait().unwrap();
    let store = open(folder.path());
    assert!(
        matches!(Store::builder("shop").open(&path), Err(OpenError::InUse { .. })),
        "also in one process"
    );
    assert_eq!(make_order(&store), 1);
}

#[test]
fn files_of_others_are_refused_and_left_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.redb");
    std::fs::write(&path, "a text and no database").unwrap();
    let foreign = Store::builder("shop").open(&path).unwrap_err();
    assert!(matches!(foreign, OpenError::Foreign { .. }), "{foreign:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a text and no database");
    std::fs::remove_file(&path).unwrap();
    let instance = open(folder.path()).source().instance();
    let other = Store::builder("mail").open(&path).unwrap_err();
    assert!(matches!(&other, OpenError::OtherName { stored, .. } if stored == "shop"), "{other:?}");
    let nowhere = Store::builder("shop").open(folder.path().join("no/shop.redb")).unwrap_err();
    assert!(matches!(nowhere, OpenError::Io { .. }), "{nowhere:?}");
    assert!(matches!(Store::builder("a\nb").open(folder.path().join("x")), Err(OpenError::Name(_))));
    // A backup whose waves were emitted since.
    let restored = Store::builder("shop").restored_from_backup().open(&path).unwrap();
    assert_ne!(restored.source().instance(), instance);
}

#[test]
fn a_store_of_a_later_version_is_refused_with_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    make_order(&open(folder.path()));
    let path = folder.path().join("shop.redb");
    let database = redb::Database::open(&path).unwrap();
    let change = database.begin_write().unwrap();
    let about: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("aether.about");
    change.open_table(about).unwrap().insert(&b"version"[..], &[2_u8][..]).unwrap();
    change.commit().unwrap();
    drop(database);
    let refused = Store::builder("shop").open(&path).unwrap_err();
    assert!(matches!(refused, OpenError::Version { version: 2, .. }), "{refused:?}");
    assert!(refused.to_string().contains("has version 2 of the store, and this program reads version 1"));
}
