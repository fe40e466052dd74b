//! Edits beside each other: the later one gets the name, the other one stays beside it, once, on all machines.

use aether_core::Aether;
use aether_mirror::{MirrorEvent, MirrorOptions};
use aether_testing::{Fault, Faults};

use crate::machine::{Machine, Tree, equal, texts};

struct Cut {
    faults: Faults,
    machines: Vec<Machine>,
}

/// Machines that have these files, and do not hear each other any more.
async fn cut(count: usize, files: &[&str]) -> Cut {
    let faults = Faults::with_seed(1);
    let aether = faults.around(aether::builder().url("local:")).connect().await.unwrap();
    let mut machines = Vec::new();
    for at in 0..count {
        machines.push(Machine::new(&aether, &format!("pi-{at}")).await);
    }
    for file in files {
        machines[0].write(file, "before");
    }
    equal(&machines.iter().collect::<Vec<_>>()).await;
    faults.add(Fault::partition());
    Cut { faults, machines }
}

impl Cut {
    async fn heal(&self) -> Tree {
        for machine in &self.machines {
            machine.settled().await;
        }
        self.faults.heal_all();
        equal(&self.machines.iter().collect::<Vec<_>>()).await
    }

    fn conflicts(&self) -> Vec<u64> {
        self.machines.iter().map(|machine| machine.mirror.status().conflicts).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_edits_the_later_one_gets_the_name_and_the_other_one_stays_beside() {
    let cut = cut(3, &["notes.txt"]).await;
    let mut events = cut.machines[0].mirror.events();
    cut.machines[0].write("notes.txt", "of the first");
    cut.machines[0].settled().await;
    cut.machines[1].write("notes.txt", "of the second");
    cut.machines[1].settled().await;
    // And once more, so that what the first one hears of is not what was made beside its own edit.
    cut.machines[1].write("notes.txt", "of the second, again");
    let tree = cut.heal().await;
    let texts = texts(&tree);
    assert_eq!((texts.len(), texts["notes.txt"]), (2, "of the second, again"), "{texts:?}");
    let (kept, text) = texts.iter().find(|(name, _)| **name != "notes.txt").unwrap();
    assert!(kept.starts_with("notes.txt (conflict, pi-0, 20") && *text == "of the first", "{texts:?}");
    // The third one may have had the version that lost for a moment, and keeps it under the same name.
    assert_eq!(cut.conflicts()[..2], [1, 0]);
    loop {
        if let Some(MirrorEvent::Conflict { path, kept: at }) = events.next().await {
            assert_eq!((path.as_str(), at.as_str()), ("notes.txt", *kept));
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_survives_a_deletion_beside_it() {
    let cut = cut(2, &["edited-first", "edited-last", "gone"]).await;
    let [a, b] = cut.machines.as_slice() else { unreachable!() };
    a.write("edited-first", "after");
    a.settled().await;
    std::fs::remove_file(b.place("edited-first")).unwrap();
    std::fs::remove_file(b.place("edited-last")).unwrap();
    b.settled().await;
    a.write("edited-last", "after");
    std::fs::remove_file(a.place("gone")).unwrap();
    std::fs::remove_file(b.place("gone")).unwrap();
    let tree = cut.heal().await;
    assert_eq!(texts(&tree), [("edited-first", "after"), ("edited-last", "after")].into());
    assert_eq!(cut.conflicts(), [0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_edit_on_both_sides_is_no_conflict() {
    let cut = cut(2, &["edited"]).await;
    for machine in &cut.machines {
        machine.write("edited", "after");
        machine.write("new", "new");
    }
    let tree = cut.heal().await;
    assert_eq!(texts(&tree), [("edited", "after"), ("new", "new")].into());
    assert_eq!(cut.conflicts(), [0, 0]);
    // A later edit follows both.
    cut.machines[1].write("edited", "later");
    let tree = equal(&cut.machines.iter().collect::<Vec<_>>()).await;
    assert_eq!((texts(&tree)["edited"], cut.conflicts()), ("later", vec![0, 0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_that_was_tidied_up_does_not_come_back() {
    let aether = Aether::local();
    let (a, b) = (Machine::new(&aether, "a").await, Machine::new(&aether, "b").await);
    a.write("notes.txt", "before");
    equal(&[&a, &b]).await;
    let folder = a.off().await;
    std::fs::write(folder.path().join("notes.txt"), "of a").unwrap();
    b.write("notes.txt", "of b");
    b.settled().await;
    let a = Machine::with(&aether, folder, MirrorOptions::default().machine("a")).await;
    let tree = equal(&[&a, &b]).await;
    assert_eq!(tree.len(), 2, "{:?}", texts(&tree));
    let (kept, other) = texts(&tree).into_iter().find(|(name, _)| *name != "notes.txt").unwrap();
    // A mirror that hears nobody for two seconds sends its own edit, which is the later one then.
    let last = texts(&tree)["notes.txt"];
    assert!([(last, other), (other, last)].contains(&("of a", "of b")), "{last:?} and {other:?}");
    std::fs::remove_file(b.place(kept)).unwrap();
    assert_eq!(texts(&equal(&[&a, &b]).await), [("notes.txt", last)].into());
    let folder = a.off().await;
    let a = Machine::with(&aether, folder, MirrorOptions::default().machine("a")).await;
    assert_eq!(texts(&equal(&[&a, &b]).await), [("notes.txt", last)].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_becomes_a_folder_and_a_folder_becomes_a_file() {
    let cut = cut(2, &["same"]).await;
    let [a, b] = cut.machines.as_slice() else { unreachable!() };
    cut.faults.heal_all();
    std::fs::remove_file(a.place("same")).unwrap();
    a.write("same/below/deep", "a file in a folder");
    assert_eq!(texts(&equal(&[a, b]).await), [("same/below/deep", "a file in a folder")].into());
    std::fs::remove_dir_all(b.place("same")).unwrap();
    b.write("same", "a file again");
    assert_eq!(texts(&equal(&[a, b]).await), [("same", "a file again")].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_file_and_a_folder_of_one_name_the_file_goes_beside() {
    let cut = cut(3, &[]).await;
    cut.machines[0].write("same", "a file");
    cut.machines[0].settled().await;
    cut.machines[1].write("same/below", "in a folder");
    let tree = cut.heal().await;
    let texts = texts(&tree);
    assert_eq!((texts.len(), texts["same/below"]), (2, "in a folder"), "{texts:?}");
    let (kept, text) = texts.iter().next().unwrap();
    assert!(kept.starts_with("same (conflict, pi-0, 20") && *text == "a file", "{texts:?}");
}
