//! Mirrors over real NATS servers: the largest file, and machines that are cut off.

use std::time::Instant;

use aether_conformance::NatsServer;
use aether_mirror::MirrorOptions;

use crate::machine::{Machine, equal, texts, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_64_mib_comes_whole_over_a_nats_server_and_a_larger_one_is_refused() {
    let server = NatsServer::start().await.unwrap();
    let mut machines = Vec::new();
    for name in ["a", "b"] {
        let aether = aether::connect(&server.url()).await.unwrap();
        machines.push(Machine::new(&aether, name).await);
    }
    let [a, b] = machines.as_slice() else { unreachable!() };
    let mut bytes = vec![0; 64 << 20];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    a.write("largest", &bytes);
    let since = Instant::now();
    let tree = equal(&[a, b]).await;
    assert!(tree["largest"] == bytes, "it came, but not whole");
    println!("64 MiB took {:?}", since.elapsed());
    assert_eq!(b.mirror.status().blocks_received, 256);
    // One byte more.
    bytes.push(0);
    a.write("larger", &bytes);
    a.settled().await;
    assert_eq!(a.mirror.refused()["larger"], aether_mirror::RefusedReason::Size);
    assert_eq!(a.field.get_json("files/larger"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_go_on_without_the_server_and_agree_when_it_is_back() {
    let mut server = NatsServer::start().await.unwrap();
    let mut machines = Vec::new();
    for name in ["a", "b", "c"] {
        let aether = aether::connect(&server.url()).await.unwrap();
        let options = MirrorOptions::default().machine(name);
        machines.push(Machine::with(&aether, tempfile::tempdir().unwrap(), options).await);
    }
    let all: Vec<_> = machines.iter().collect();
    machines[0].write("before", "1");
    equal(&all).await;
    server.kill().await.unwrap();
    for (machine, name) in machines.iter().zip(["a", "b", "c"]) {
        machine.write(&format!("during/{name}"), vec![b'.'; 20_000]);
        machine.write("same", name);
        within("the mirror", machine.mirror.settled()).await.unwrap();
    }
    std::fs::remove_file(machines[1].place("before")).unwrap();
    within("the mirror", machines[1].mirror.settled()).await.unwrap();
    server.restart().await.unwrap();
    let mut tree = equal(&all).await;
    tree.retain(|name, _| !name.starts_with("during/"));
    let texts = texts(&tree);
    assert_eq!((texts.len(), texts["same"]), (3, "c"), "{texts:?}");
    let kept: Vec<_> = texts.iter().filter(|(name, _)| name.starts_with("same (conflict, ")).collect();
    assert_eq!(kept.iter().map(|(_, text)| **text).collect::<Vec<_>>(), ["a", "b"]);
}
