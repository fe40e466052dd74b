//! Random histories of two and three machines that write, delete and rename beside each other, are cut off, killed and
//! switched off: in the end the folders are equal, and nothing is lost that nobody has overwritten or deleted.
//!
//! `AETHER_MIRROR_HISTORIES=200 AETHER_MIRROR_SEED=7` runs more of them, from another seed on.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aether_core::Aether;
use aether_field::Field;
use aether_mirror::{Mirror, MirrorOptions};
use aether_testing::{Fault, FaultId, Faults};
use fastrand::Rng;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::machine::{PATIENCE, Tree, tree, within};
use crate::user;

/// Of which some are the folders of others.
const NAMES: [&str; 10] = ["a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/a", "d/e/b", "f/a"];

/// A machine with a runtime of its own, so that it can be killed at any moment.
struct Process {
    folder: Arc<TempDir>,
    name: String,
    running: Option<(Runtime, Field, Mirror)>,
}

impl Process {
    fn new(name: &str) -> Self {
        Self { folder: Arc::new(tempfile::tempdir().unwrap()), name: name.to_owned(), running: None }
    }

    async fn start(&mut self, aether: &Aether) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (aether, folder, name) = (aether.clone(), Arc::clone(&self.folder), self.name.clone());
        let started = runtime.spawn(async move {
            let field = Field::builder("home").replica(&name).join(&aether).await.unwrap();
            let options = MirrorOptions::default().machine(&name);
            let mirror = Mirror::start(&aether, &field, folder.path(), options).await.unwrap();
            (field, mirror)
        });
        let (field, mirror) = within("the start", started).await.unwrap();
        self.running = Some((runtime, field, mirror));
    }

    /// Nothing that it has not done is done any more.
    async fn kill(&mut self) {
        let Some((runtime, field, mirror)) = self.running.take() else { return };
        let killed = tokio::task::spawn_blocking(move || {
            // A system call that has begun ends, as it does when a process is killed.
            runtime.shutdown_timeout(Duration::from_secs(120));
            drop((field, mirror));
        });
        within("the kill", killed).await.unwrap();
    }

    async fn stop(&mut self) {
        let Some((runtime, field, mirror)) = self.running.take() else { return };
        let stopped = runtime.spawn(async move {
            mirror.stop().await.unwrap();
            field.close().await.unwrap();
        });
        within("the end", stopped).await.unwrap();
        runtime.shutdown_background();
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn parts(&self) -> (&Field, &Mirror) {
        let (_, field, mirror) = self.running.as_ref().unwrap();
        (field, mirror)
    }
}

struct World {
    seed: u64,
    random: Rng,
    aether: Aether,
    faults: Faults,
    cut: Option<FaultId>,
    processes: Vec<Process>,
    /// Everything that was written, and not overwritten or deleted by somebody who had it.
    needed: BTreeSet<Vec<u8>>,
    written: u64,
}

impl World {
    async fn new(seed: u64, machines: usize) -> Self {
        let faults = Faults::with_seed(seed);
        let aether = faults.around(aether::builder().url("local:")).connect().await.unwrap();
        let mut processes = Vec::new();
        for at in 0..machines {
            let mut process = Process::new(&format!("pi-{at}"));
            process.start(&aether).await;
            processes.push(process);
        }
        let random = Rng::with_seed(seed);
        Self { seed, random, aether, faults, cut: None, processes, needed: BTreeSet::new(), written: 0 }
    }

    fn bytes(&mut self) -> Vec<u8> {
        self.written += 1;
        let mut bytes = format!("{} of {:x}", self.written, self.seed).into_bytes();
        let more = match self.random.u8(..) {
            0..200 => 0,
            200..250 => self.random.usize(..40_000),
            _ => self.random.usize(..700_000),
        };
        bytes.resize(bytes.len() + more, b'.');
        bytes
    }

    fn edit(&mut self) {
        let at = self.random.usize(..self.processes.len());
        let (path, other) =
            (NAMES[self.random.usize(..NAMES.len())], NAMES[self.random.usize(..NAMES.len())]);
        let old = match self.random.u8(..10) {
            0..6 => {
                let bytes = self.bytes();
                let written = user::write(self.processes[at].root(), path, &bytes);
                if written.is_ok() {
                    self.needed.insert(bytes);
                }
                written.ok().flatten()
            }
            6..8 => user::delete(self.processes[at].root(), path),
            _ if path != other => user::rename(self.processes[at].root(), path, other),
            _ => None,
        };
        if let Some(old) = old {
            self.needed.remove(&old);
        }
    }

    async fn happen(&mut self) {
        let at = self.random.usize(..self.processes.len());
        match self.random.u8(..10) {
            0..2 => self.processes[at].kill().await,
            2 => self.processes[at].stop().await,
            3..6 => match self.cut.take() {
                Some(cut) => self.faults.heal(cut),
                None => self.cut = Some(self.faults.add(Fault::partition())),
            },
            6..8 => {
                if let Some((_, _, mirror)) = &self.processes[at].running {
                    within("the mirror", mirror.settled()).await.unwrap();
                }
            }
            _ => {
                if self.processes[at].running.is_none() {
                    self.processes[at].start(&self.aether).await;
                }
            }
        }
    }

    /// Everything is joined and switched on again: the folders become equal.
    async fn converge(&mut self) -> Tree {
        if let Some(cut) = self.cut.take() {
            self.faults.heal(cut);
        }
        for process in &mut self.processes {
            if process.running.is_none() {
                process.start(&self.aether).await;
            }
        }
        let others = self.processes.len() - 1;
        let settled = async {
            loop {
                for process in &self.processes {
                    let (field, mirror) = process.parts();
                    mirror.settled().await.unwrap();
                    field.agreed(others).await.unwrap();
                }
                let first = tree(self.processes[0].root());
                let digest = self.processes[0].parts().0.digest();
                let is_equal = self
                    .processes
                    .iter()
                    .all(|process| tree(process.root()) == first && process.parts().0.digest() == digest);
                if is_equal {
                    return first;
                }
            }
        };
        let Ok(first) = timeout(PATIENCE, settled).await else {
            for process in &self.processes {
                let (field, mirror) = process.parts();
                println!("{}: {:?}", process.name, mirror.refused());
                println!("{:?}\n{:?}", tree(process.root()).keys(), mirror.status());
                for (name, value) in field.list("*") {
                    println!("{name} {}", String::from_utf8_lossy(&value[..value.len().min(300)]));
                }
            }
            panic!("the folders do not become equal, seed {}", self.seed);
        };
        let there: BTreeSet<_> = first.values().collect();
        for needed in &self.needed {
            let text = String::from_utf8_lossy(&needed[..needed.len().min(30)]);
            assert!(there.contains(needed), "{text} is lost, seed {}: {:?}", self.seed, first.keys());
        }
        for process in &self.processes {
            // The last change may have come when the folders were equal already.
            within("the mirror", process.parts().1.settled()).await.unwrap();
            let refused = process.parts().1.refused();
            assert!(refused.is_empty(), "seed {}: {refused:?}", self.seed);
        }
        first
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |number| number.parse().unwrap())
}

async fn histories(machines: usize, default: u64) {
    let first = number("AETHER_MIRROR_SEED", 1);
    for seed in first..first + number("AETHER_MIRROR_HISTORIES", default) {
        let mut world = World::new(seed, machines).await;
        for _ in 0..3 {
            for _ in 0..6 {
                for _ in 0..world.random.usize(..12) {
                    world.edit();
                }
                world.happen().await;
            }
            world.converge().await;
        }
        let conflicts: u64 = world.processes.iter().map(|process| process.parts().1.status().conflicts).sum();
        println!("seed {seed}: {} files written, {conflicts} conflicts since the last starts", world.written);
        for process in &mut world.processes {
            process.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_machines_end_with_equal_folders_and_nothing_is_lost() {
    histories(2, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_machines_end_with_equal_folders_and_nothing_is_lost() {
    histories(3, 3).await;
}

/// P10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p10_ten_thousand_operations_on_two_machines_end_in_equal_folders() {
    let mut world = World::new(number("AETHER_MIRROR_SEED", 7), 2).await;
    for round in 0..10 {
        for step in 0..1000 {
            world.edit();
            if step % 250 == 249 && round < 9 {
                world.happen().await;
            }
        }
        if round % 3 == 2 {
            world.converge().await;
        }
    }
    world.converge().await;
    for process in &mut world.processes {
        process.stop().await;
    }
}
