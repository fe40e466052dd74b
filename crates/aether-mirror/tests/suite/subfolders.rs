//! C2 10: each machine has a subfolder of its own.

use std::fs;

use aether_core::Aether;
use aether_mirror::{MirrorOptions, RefusedReason};

use crate::machine::{Machine, equal, texts, within};

async fn machine(aether: &Aether, name: &str) -> Machine {
    let options = MirrorOptions::default().machine(name).per_machine(true);
    Machine::with(aether, tempfile::tempdir().unwrap(), options).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2_10_each_machine_sends_its_own_subfolder_and_has_those_of_all() {
    let aether = Aether::local();
    let (a, b) = (machine(&aether, "pi-1").await, machine(&aether, "pi-2").await);
    a.write("pi-1/temperature.json", "21");
    b.write("pi-2/temperature.json", "19");
    let both = [("pi-1/temperature.json", "21"), ("pi-2/temperature.json", "19")];
    assert_eq!(texts(&equal(&[&a, &b]).await), both.into());
    // An edit in the subfolder of another machine, or beside all of them, stays here.
    b.write("pi-1/temperature.json", "99");
    b.write("pi-1/new", "new");
    b.write("beside", "beside");
    b.settled().await;
    within("agreement", b.field.agreed(1)).await.unwrap();
    a.settled().await;
    assert_eq!(texts(&a.tree()), both.into());
    let refused = b.mirror.refused();
    for path in ["pi-1/temperature.json", "pi-1/new", "beside"] {
        assert_eq!(refused[path], RefusedReason::Owner, "{refused:?}");
    }
    // And is kept beside when the owner goes on.
    a.write("pi-1/temperature.json", "22");
    a.settled().await;
    within("agreement", a.field.agreed(1)).await.unwrap();
    b.settled().await;
    let tree = b.tree();
    let kept: Vec<_> = texts(&tree).into_iter().filter(|(name, _)| name.contains("conflict")).collect();
    assert_eq!((texts(&tree)["pi-1/temperature.json"], kept.len(), kept[0].1), ("22", 1, "99"));
    // A peer that writes below the name of another machine does not change what that one has.
    let stolen = b.field.get::<serde_json::Value>("files/pi-2/temperature.json").unwrap().unwrap();
    b.field.set("files/pi-1/temperature.json", &stolen).unwrap();
    within("agreement", b.field.agreed(1)).await.unwrap();
    a.settled().await;
    within("agreement", a.field.agreed(1)).await.unwrap();
    b.settled().await;
    assert_eq!(texts(&a.tree())["pi-1/temperature.json"], "22");
    assert_eq!(texts(&b.tree())["pi-1/temperature.json"], "22");
    fs::remove_file(a.place("pi-1/temperature.json")).unwrap();
    a.settled().await;
    within("agreement", a.field.agreed(1)).await.unwrap();
    b.settled().await;
    assert!(!b.place("pi-1/temperature.json").exists());
    // A machine that has lost its folder gets it back.
    b.mirror.stop().await.unwrap();
    b.field.close().await.unwrap();
    let b = machine(&aether, "pi-2").await;
    within("agreement", b.field.agreed(1)).await.unwrap();
    b.settled().await;
    assert_eq!(texts(&b.tree()), [("pi-2/temperature.json", "19")].into());
}
