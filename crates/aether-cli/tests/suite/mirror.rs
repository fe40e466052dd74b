//! `aether field mirror` between real processes over a real NATS server, which are killed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use aether_conformance::NatsServer;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::process::{PATIENCE, Running, run};

type Tree = BTreeMap<String, Vec<u8>>;

fn tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        // A folder that is empty may be removed meanwhile, and a file as well.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let place = entry.path();
            let name = place.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if name == ".aether-mirror" {
                continue;
            }
            if place.is_dir() {
                open.push(place);
            } else if let Ok(bytes) = fs::read(place) {
                tree.insert(name, bytes);
            }
        }
    }
    tree
}

fn mirror(folder: &Path, name: &str, url: &str) -> Running {
    let folder = folder.to_str().unwrap();
    let args = ["field", "mirror", folder, "--field", "home", "--machine", name, "--medium", url];
    let mut mirror = Running::start(&args);
    mirror.tells("mirrors ");
    mirror
}

/// Waits for a line of stdout.
fn prints(mirror: &mut Running, part: &str) {
    while !mirror.line().contains(part) {}
}

/// Waits for two lines of stdout, whichever comes first.
fn prints_both(mirror: &mut Running, parts: [&str; 2]) {
    let mut missing = parts.to_vec();
    while !missing.is_empty() {
        let line = mirror.line();
        missing.retain(|part| !line.contains(part));
    }
}

#[tokio::test]
async fn two_folders_are_kept_equal_also_when_a_process_is_killed() {
    let server = NatsServer::start().await.unwrap();
    let url = server.url();
    let folders: [TempDir; 2] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let [a, b] = [folders[0].path(), folders[1].path()];
    fs::write(a.join("before.txt"), "before").unwrap();
    let (mut at_a, mut at_b) = (mirror(a, "pi-1", &url), mirror(b, "pi-2", &url));
    prints(&mut at_b, "wrote \"before.txt\" of pi-1");
    let large = vec![7; 1_000_000];
    fs::create_dir(a.join("sub")).unwrap();
    fs::write(a.join("sub/large"), &large).unwrap();
    prints(&mut at_b, "wrote \"sub/large\" of pi-1");
    assert_eq!(fs::read(b.join("sub/large")).unwrap(), large);
    fs::rename(a.join("before.txt"), a.join("after.txt")).unwrap();
    prints_both(&mut at_b, ["wrote \"after.txt\" of pi-1", "deleted \"before.txt\""]);
    prints_both(&mut at_a, ["sent \"after.txt\"", "sent the deletion of \"before.txt\""]);

    at_b.signal(Signal::SIGKILL);
    drop(at_b);
    fs::write(b.join("after.txt"), "of b, while it was off").unwrap();
    fs::write(b.join("new.txt"), "new").unwrap();
    fs::remove_file(b.join("sub/large")).unwrap();
    fs::write(a.join("after.txt"), "of a, meanwhile").unwrap();
    prints(&mut at_a, "sent \"after.txt\"");
    let mut at_b = mirror(b, "pi-2", &url);
    prints(&mut at_b, "kept the other version of \"after.txt\" as \"after.txt (conflict, pi-2, ");
    fs::write(b.join("z-last"), "last").unwrap();
    prints(&mut at_a, "wrote \"z-last\" of pi-2");
    // The deletion may be the last thing that is done.
    while tree(a) != tree(b) {
        at_a.line();
    }
    let texts: Vec<_> = tree(a).into_values().map(|bytes| String::from_utf8(bytes).unwrap()).collect();
    assert_eq!(texts, ["of a, meanwhile", "of b, while it was off", "new", "last"]);

    at_b.signal(Signal::SIGINT);
    let (said, _) = at_b.end();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("mirror: 4 files of "), "{said:?}");
    assert!(said.out.contains("1 conflicts, 0 not mirrored"), "{said:?}");
    let folder = a.to_str().unwrap();
    let twice = run(&["field", "mirror", folder, "--field", "home", "--medium", &url]);
    assert_eq!(twice.code, Some(1), "{twice:?}");
    assert!(twice.err.contains("another process mirrors the folder"), "{twice:?}");
    at_a.signal(Signal::SIGTERM);
    assert_eq!(at_a.end().0.code, Some(0));
    let elsewhere = run(&["field", "mirror", folder, "--field", "work", "--medium", &url]);
    assert!(
        elsewhere.code == Some(1) && elsewhere.err.contains("belongs to \"home files/\""),
        "{elsewhere:?}"
    );
    let alone = run(&["field", "mirror", folder, "--field", "home"]);
    assert!(alone.code == Some(2) && alone.err.contains("share the folder"), "{alone:?}");
}

/// A process whose lines wake the test.
fn woken(folder: &Path, name: &str, url: &str, wake: &Sender<()>) -> Running {
    let mut running = mirror(folder, name, url);
    let (lines, wake) = (running.take_lines(), wake.clone());
    std::thread::spawn(move || {
        while lines.recv().is_ok() {
            let _ = wake.send(());
        }
    });
    running
}

/// Whether the folders are equal by now.
fn now_equal(roots: &[&Path; 2]) -> bool {
    tree(roots[0]) == tree(roots[1])
}

/// P10: a reader in a loop, random operations, and SIGKILL at any moment.
#[tokio::test]
async fn p10_no_kill_makes_half_a_file_or_folders_that_differ() {
    let server = NatsServer::start().await.unwrap();
    let url = server.url();
    let folders: [TempDir; 2] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let roots = [folders[0].path(), folders[1].path()];
    let (wake, woke) = channel();
    let names = ["pi-1", "pi-2"];
    let mut running = [0, 1].map(|at| woken(roots[at], names[at], &url, &wake));
    let mut random = fastrand::Rng::with_seed(3);
    // Each file is a byte repeated, and its length belongs to the byte.
    let whole = |byte: u8| vec![byte; 5_000 + usize::from(byte) * 2_000];
    let check = |tree: &Tree| {
        for (name, bytes) in tree {
            let byte = bytes.first().copied().unwrap_or_else(|| panic!("{name} is empty"));
            assert!(*bytes == whole(byte), "{name} is half a file");
        }
    };
    let mut kills = 0;
    for operation in 0..400 {
        let (at, name) = (random.usize(..2), format!("{}/{}", random.u8(..3), random.u8(..4)));
        let place = roots[at].join(&name);
        match random.u8(..4) {
            0 => drop(fs::remove_file(&place)),
            _ => {
                let beside = roots[at].with_extension("new");
                fs::write(&beside, whole(random.u8(1..))).unwrap();
                // An empty folder may be removed between the two.
                while fs::create_dir_all(place.parent().unwrap()).is_err()
                    || fs::rename(&beside, &place).is_err()
                {}
            }
        }
        if operation % 10 == 0 {
            roots.map(tree).iter().for_each(check);
        }
        if operation % 50 == 49 {
            // Once it is in the middle of something.
            let _ = woke.recv_timeout(Duration::from_secs(5));
            running[at].signal(Signal::SIGKILL);
            kills += 1;
            running[at] = woken(roots[at], names[at], &url, &wake);
        }
    }
    assert_eq!(kills, 8);
    for (at, root) in roots.iter().enumerate() {
        fs::write(root.join(format!("end-{at}")), whole(1)).unwrap();
    }
    loop {
        let trees = roots.map(tree);
        trees.iter().for_each(check);
        let has_both = |tree: &Tree| tree.contains_key("end-0") && tree.contains_key("end-1");
        if trees[0] == trees[1] && trees.iter().all(has_both) {
            break;
        }
        if woke.recv_timeout(PATIENCE).is_err() {
            let held = trees.map(|tree| tree.into_iter().map(|(name, bytes)| (name, bytes.len())));
            let held = held.map(Iterator::collect::<Vec<_>>);
            panic!("the folders do not become equal: {held:?}, and now {:?}", now_equal(&roots));
        }
    }
    for process in running {
        process.signal(Signal::SIGINT);
        assert_eq!(process.end().0.code, Some(0));
    }
}

#[cfg(feature = "lan")]
#[test]
fn a_file_of_64_mib_comes_whole_over_the_local_network() {
    let ports = [(); 2].map(|()| aether_conformance::free_port().unwrap());
    let folders: [TempDir; 2] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let mut running = [0, 1].map(|at| {
        let medium =
            format!("lan:?multicast=off&listen=127.0.0.1:{}&peer=127.0.0.1:{}", ports[at], ports[1 - at]);
        let folder = folders[at].path().to_str().unwrap();
        let name = ["pi-1", "pi-2"][at];
        let mut command = crate::process::aether(&[
            "field",
            "mirror",
            folder,
            "--field",
            "home",
            "--machine",
            name,
            "--medium",
            &medium,
        ]);
        command.env("AETHER_LAN_SECRET", "a secret of these tests");
        let mut running = Running::of(command);
        running.tells("mirrors ");
        running
    });
    let mut bytes = vec![0; 64 << 20];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    fs::write(folders[0].path().join("largest"), &bytes).unwrap();
    prints(&mut running[1], "wrote \"largest\" of pi-1");
    assert!(fs::read(folders[1].path().join("largest")).unwrap() == bytes, "it came, but not whole");
    for process in running {
        process.signal(Signal::SIGINT);
        assert_eq!(process.end().0.code, Some(0));
    }
}
