//! C2 10: create, edit, rename, delete, in subfolders, while the mirrors run and while they are off.

use std::fs;
use std::time::{Duration, Instant};

use aether_core::Aether;
use aether_field::Field;
use aether_field::core::Limits;
use aether_mirror::{Mirror, MirrorEvent, MirrorEvents, MirrorOptions};

use crate::machine::{Machine, equal, texts, until, within};

/// Waits until a file has this text. A busy machine may write it so slowly that two versions come.
async fn comes(events: &mut MirrorEvents, machine: &Machine, path: &str, text: &str) {
    let is_written =
        |event: &MirrorEvent| matches!(event, MirrorEvent::Written { path: of, .. } if of == path);
    while machine.tree().get(path).is_none_or(|bytes| bytes != text.as_bytes()) {
        until(events, is_written).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2_10_what_is_done_in_one_folder_is_done_in_the_others() {
    let aether = Aether::local();
    let (a, b) = (Machine::new(&aether, "a").await, Machine::new(&aether, "b").await);
    let mut events = b.mirror.events();
    let written = |path: &str| {
        let path = path.to_owned();
        move |event: &MirrorEvent| matches!(event, MirrorEvent::Written { path: of, .. } if *of == path)
    };
    a.write("notes.txt", "one");
    comes(&mut events, &b, "notes.txt", "one").await;
    assert_eq!(texts(&b.tree()), [("notes.txt", "one")].into());
    a.write("notes.txt", "two");
    comes(&mut events, &b, "notes.txt", "two").await;
    a.write("sub/deep/er.txt", "below");
    comes(&mut events, &b, "sub/deep/er.txt", "below").await;
    assert_eq!(texts(&b.tree()), [("notes.txt", "two"), ("sub/deep/er.txt", "below")].into());
    // A whole folder is renamed.
    fs::rename(a.place("sub"), a.place("moved")).unwrap();
    let is_moved = written("moved/deep/er.txt");
    let is_one = |event: &MirrorEvent| is_moved(event) || matches!(event, MirrorEvent::Deleted { .. });
    // A medium may bring the two in any order.
    let both = [until(&mut events, is_one).await, until(&mut events, is_one).await];
    assert!(both.iter().any(&is_moved) && !both.iter().all(&is_moved), "{both:?}");
    assert_eq!(texts(&b.tree()), [("moved/deep/er.txt", "below"), ("notes.txt", "two")].into());
    assert!(!b.place("sub").exists());
    // An editor that saves by rename.
    a.write(".notes.txt.swp", "three");
    fs::rename(a.place(".notes.txt.swp"), a.place("notes.txt")).unwrap();
    comes(&mut events, &b, "notes.txt", "three").await;
    assert_eq!(texts(&b.tree())["notes.txt"], "three");
    fs::remove_file(a.place("notes.txt")).unwrap();
    until(&mut events, |event| *event == MirrorEvent::Deleted { path: "notes.txt".into() }).await;
    // And back.
    let mut events = a.mirror.events();
    let begin = Instant::now();
    b.write("from-b.txt", "b");
    let is_slow = begin.elapsed() >= Duration::from_millis(900);
    until(&mut events, written("from-b.txt")).await;
    let tree = equal(&[&a, &b]).await;
    assert_eq!(texts(&tree), [("from-b.txt", "b"), ("moved/deep/er.txt", "below")].into());
    let (a, b) = (a.mirror.stop().await.unwrap(), b.mirror.stop().await.unwrap());
    assert_eq!((a.conflicts, b.conflicts), (0, 0));
    // No loop: what one has written comes back from nowhere.
    assert!((a.written, b.sent) == (1, 1) || is_slow, "{a:?} {b:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changed_while_a_mirror_was_off_is_found_when_it_starts() {
    let aether = Aether::local();
    let (a, b) = (Machine::new(&aether, "a").await, Machine::new(&aether, "b").await);
    for name in ["edited", "deleted", "edited-there", "deleted-there", "kept"] {
        a.write(name, "before");
    }
    equal(&[&a, &b]).await;
    let folder = a.off().await;
    fs::write(folder.path().join("edited"), "after").unwrap();
    fs::write(folder.path().join("new"), "new").unwrap();
    fs::remove_file(folder.path().join("deleted")).unwrap();
    b.write("edited-there", "after");
    b.write("new-there", "new");
    fs::remove_file(b.place("deleted-there")).unwrap();
    b.settled().await;
    let a = Machine::with(&aether, folder, MirrorOptions::default().machine("a")).await;
    let tree = equal(&[&a, &b]).await;
    let expected = [
        ("edited", "after"),
        ("edited-there", "after"),
        ("kept", "before"),
        ("new", "new"),
        ("new-there", "new"),
    ];
    assert_eq!(texts(&tree), expected.into());
    assert_eq!((a.mirror.status().conflicts, b.mirror.status().conflicts), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_comes_in_blocks_and_a_renamed_one_is_not_fetched_again() {
    let aether = Aether::local();
    let (a, b) = (Machine::new(&aether, "a").await, Machine::new(&aether, "b").await);
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 / 3) as u8).collect();
    a.write("large", &bytes);
    let tree = equal(&[&a, &b]).await;
    assert!(tree["large"] == bytes);
    assert_eq!((b.mirror.status().blocks_received, a.mirror.status().blocks_sent), (12, 12));
    fs::rename(a.place("large"), a.place("renamed")).unwrap();
    let tree = equal(&[&a, &b]).await;
    assert!(tree.len() == 1 && tree["renamed"] == bytes);
    assert_eq!(b.mirror.status().blocks_received, 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_ends_when_its_field_is_closed() {
    let aether = Aether::local();
    let a = Machine::new(&aether, "a").await;
    let mut events = a.mirror.events();
    a.settled().await;
    a.field.clone().close().await.unwrap();
    assert_eq!(within("the end", events.next()).await, None);
    let error = a.mirror.stop().await.unwrap_err();
    assert_eq!(error.to_string(), "the mirror has ended, because its field is closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_register_that_is_removed_deletes_its_file_and_old_deletions_are_forgotten() {
    const HORIZON: Duration = Duration::from_secs(2);
    let aether = Aether::local();
    let mut machines = Vec::new();
    for name in ["a", "b"] {
        let mut limits = Limits::default();
        limits.horizon = HORIZON;
        let field = Field::builder("home").limits(limits).join(&aether).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let options = MirrorOptions::default().machine(name);
        let mirror = Mirror::start(&aether, &field, folder.path(), options).await.unwrap();
        machines.push(Machine { field, mirror, folder });
    }
    let [a, b] = machines.as_slice() else { unreachable!() };
    a.write("removed", "somebody else removes its register");
    a.write("deleted", "deleted");
    equal(&[a, b]).await;
    let mut events = a.mirror.events();
    assert!(b.field.remove("files/removed").unwrap());
    let deleted = Instant::now();
    fs::remove_file(a.place("deleted")).unwrap();
    let is_sent = |event: &MirrorEvent| *event == MirrorEvent::SentDeletion { path: "deleted".into() };
    until(&mut events, is_sent).await;
    assert!(equal(&[a, b]).await.is_empty());
    let version = a.field.get_json("files/deleted");
    // A busy machine may have taken so long that it is forgotten.
    assert!(version.is_some() || deleted.elapsed() >= HORIZON, "the deletion is a version of its own");
    // Time has to pass here.
    tokio::time::sleep(2 * HORIZON).await;
    assert!(equal(&[a, b]).await.is_empty());
    assert_eq!(a.field.get_json("files/deleted"), None);
    b.write("deleted", "once more");
    b.write("removed", "once more");
    assert_eq!(texts(&equal(&[a, b]).await), [("deleted", "once more"), ("removed", "once more")].into());
}
