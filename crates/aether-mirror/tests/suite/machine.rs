//! Machines of tests: each has a folder, a replica of the field, and a mirror.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aether_core::Aether;
use aether_field::Field;
use aether_mirror::{Mirror, MirrorEvent, MirrorEvents, MirrorOptions};
use tempfile::TempDir;
use tokio::time::timeout;

/// The longest time that anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} takes longer than {PATIENCE:?}"))
}

pub(crate) struct Machine {
    pub(crate) field: Field,
    pub(crate) mirror: Mirror,
    pub(crate) folder: TempDir,
}

impl Machine {
    pub(crate) async fn new(aether: &Aether, name: &str) -> Self {
        Self::with(aether, tempfile::tempdir().unwrap(), MirrorOptions::default().machine(name)).await
    }

    pub(crate) async fn with(aether: &Aether, folder: TempDir, options: MirrorOptions) -> Self {
        let field = Field::builder("home").join(aether).await.unwrap();
        let mirror = Mirror::start(aether, &field, folder.path(), options).await.unwrap();
        Self { field, mirror, folder }
    }

    /// Ends the mirror and leaves the field; the folder stays.
    pub(crate) async fn off(self) -> TempDir {
        self.mirror.stop().await.unwrap();
        self.field.close().await.unwrap();
        self.folder
    }

    pub(crate) fn place(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub(crate) fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let place = self.place(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, bytes).unwrap();
    }

    pub(crate) fn tree(&self) -> Tree {
        tree(self.folder.path())
    }

    pub(crate) async fn settled(&self) {
        within("the mirror", self.mirror.settled()).await.unwrap();
    }
}

/// The files of a folder, without links.
pub(crate) type Tree = BTreeMap<String, Vec<u8>>;

pub(crate) fn tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        // A mirror may delete what was listed.
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let entry = entry.unwrap();
            let place = entry.path();
            let name = place.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if name == ".aether-mirror" {
                continue;
            }
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                open.push(place);
            } else if kind.is_file()
                && let Ok(bytes) = fs::read(place)
            {
                tree.insert(name, bytes);
            }
        }
    }
    tree
}

/// Waits until all machines have done everything, and their folders are equal.
pub(crate) async fn equal(machines: &[&Machine]) -> Tree {
    within("equal folders", async {
        loop {
            for machine in machines {
                machine.settled().await;
                machine.field.agreed(machines.len() - 1).await.unwrap();
            }
            let first = machines[0].tree();
            let is_equal = machines.iter().all(|machine| machine.tree() == first);
            let is_done = machines.iter().all(|machine| machine.field.digest() == machines[0].field.digest());
            if is_equal && is_done {
                return first;
            }
        }
    })
    .await
}

/// Waits for an event.
pub(crate) async fn until(events: &mut MirrorEvents, is_meant: impl Fn(&MirrorEvent) -> bool) -> MirrorEvent {
    within("the event", async {
        loop {
            let event = events.next().await.expect("the mirror runs");
            if is_meant(&event) {
                return event;
            }
        }
    })
    .await
}

pub(crate) fn texts(tree: &Tree) -> BTreeMap<&str, &str> {
    tree.iter().map(|(name, bytes)| (name.as_str(), std::str::from_utf8(bytes).unwrap())).collect()
}
