//! C2 9: what others send, however it was made, changes nothing outside of the folder, and the mirror goes on.

use std::fs;

use aether_core::{Aether, Vibrator};
use aether_field::Field;
use aether_mirror::{MirrorEvent, MirrorOptions, RefusedReason};
use serde_json::{Value, json};

use crate::machine::{Machine, equal, texts, until, within};

/// Registers with small files, as a mirror makes them.
async fn versions(aether: &Aether, texts: &[String]) -> Vec<Value> {
    let maker = Machine::with(
        aether,
        tempfile::tempdir().unwrap(),
        MirrorOptions::default().machine("evil").prefix("made/"),
    )
    .await;
    for (at, text) in texts.iter().enumerate() {
        maker.write(&at.to_string(), text);
    }
    maker.settled().await;
    let registers = (0..texts.len()).map(|at| maker.field.get(&format!("made/{at}")).unwrap().unwrap());
    let versions = registers.collect();
    maker.off().await;
    versions
}

async fn version(aether: &Aether, text: &str) -> Value {
    versions(aether, &[text.to_owned()]).await.remove(0)
}

/// A machine whose folder is in another one, where a file that leaves the folder would be seen.
async fn guarded(aether: &Aether, options: MirrorOptions) -> (tempfile::TempDir, Machine) {
    let around = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir_in(around.path()).unwrap();
    let machine = Machine::with(aether, folder, options.machine("a")).await;
    (around, machine)
}

async fn refuses(machine: &Machine, name: &str, reason: RefusedReason) {
    machine.settled().await;
    assert_eq!(machine.mirror.refused().get(name), Some(&reason), "{name:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2_9_no_name_leads_out_of_the_folder() {
    let aether = Aether::local();
    let version = version(&aether, "evil").await;
    let (around, a) = guarded(&aether, MirrorOptions::default()).await;
    let evil = Field::builder("home").replica("evil").join(&aether).await.unwrap();
    let long = "n".repeat(250 - "files/".len());
    let names = [
        "../out",
        "../../out",
        "a/../../out",
        "/etc/out",
        "",
        ".",
        "..",
        "a//b",
        "a/",
        "./a",
        "a\0b",
        "a\nb",
        "..\\out",
        "C:out",
        "c:/out",
        ".aether-mirror/state.redb",
        ".AETHER-mirror/x",
        "sub/.aether-mirror/x",
        "\u{202e}\u{0}",
    ];
    for name in names {
        evil.set(&format!("files/{name}"), &version).unwrap();
    }
    // A name may be long, and a path deep.
    evil.set(&format!("files/{long}"), &version).unwrap();
    evil.set(&format!("files/{}", "d/".repeat(120) + "f"), &version).unwrap();
    within("agreement", evil.agreed(1)).await.unwrap();
    a.settled().await;
    let refused = a.mirror.refused();
    for name in names {
        assert_eq!(refused.get(&format!("files/{name}")), Some(&RefusedReason::Name), "{name:?}");
    }
    assert_eq!(a.mirror.status().refused, [(RefusedReason::Name, names.len() as u64)].into());
    assert_eq!(fs::read_dir(around.path()).unwrap().count(), 1);
    let tree = a.tree();
    let deep = "d/".repeat(120) + "f";
    assert_eq!(tree.keys().collect::<Vec<_>>(), [&deep, &long], "the two that are paths");
    // And it goes on.
    evil.set("files/good", &version).unwrap();
    within("agreement", evil.agreed(1)).await.unwrap();
    a.settled().await;
    assert_eq!(a.tree()["good"], b"evil");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2_9_links_files_and_folders_in_the_way_are_left_alone() {
    let aether = Aether::local();
    let version = version(&aether, "evil").await;
    let (around, a) = guarded(&aether, MirrorOptions::default()).await;
    let outside = around.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink(&outside, a.place("way-out")).unwrap();
    std::os::unix::fs::symlink(outside.join("secret"), a.place("link")).unwrap();
    a.write("file", "a file");
    a.write("folder/file", "in a folder");
    a.write("in-the-way", "goes beside");
    a.settled().await;
    let evil = Field::builder("home").replica("evil").join(&aether).await.unwrap();
    within("agreement", evil.agreed(1)).await.unwrap();
    for name in ["way-out/new", "way-out/secret", "link", "folder", "in-the-way/below"] {
        evil.set(&format!("files/{name}"), &version).unwrap();
    }
    within("agreement", evil.agreed(1)).await.unwrap();
    for (name, reason) in [
        ("way-out/new", RefusedReason::Place),
        ("way-out/secret", RefusedReason::Place),
        ("link", RefusedReason::Kind),
        ("folder", RefusedReason::Place),
    ] {
        refuses(&a, name, reason).await;
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read(outside.join("secret")).unwrap(), b"secret");
    let tree = a.tree();
    let texts = texts(&tree);
    assert_eq!(
        (texts["file"], texts["folder/file"], texts["in-the-way/below"]),
        ("a file", "in a folder", "evil")
    );
    let kept: Vec<_> =
        texts.iter().filter(|(name, _)| name.starts_with("in-the-way (conflict, a, ")).collect();
    assert_eq!((texts.len(), kept.len(), *kept[0].1), (4, 1, "goes beside"));
    // Neither a link nor what is behind it was sent.
    assert!(
        evil.list("files/link*")
            .iter()
            .chain(&evil.list("files/way-out*"))
            .all(|(_, value)| { serde_json::from_slice::<Value>(value).unwrap() == version })
    );
    // A file of ours that becomes a link is not deleted elsewhere.
    fs::remove_file(a.place("file")).unwrap();
    std::os::unix::fs::symlink(outside.join("secret"), a.place("file")).unwrap();
    refuses(&a, "file", RefusedReason::Kind).await;
    assert!(evil.get::<Value>("files/file").unwrap().unwrap()["content"].is_object());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2_9_registers_that_are_no_versions_are_refused_and_never_overwritten() {
    let aether = Aether::local();
    let good = version(&aether, "evil").await;
    let (_around, a) = guarded(&aether, MirrorOptions::default()).await;
    let evil = Field::builder("home").replica("evil").join(&aether).await.unwrap();
    let with = |part: &str, value: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(part).unwrap() = value;
        bad
    };
    let hash = "0".repeat(64);
    let wrong = [
        json!(7),
        json!("text"),
        json!([[[[]]]]),
        json!({}),
        with("/content/size", json!(-1)),
        with("/content/size", json!(u64::MAX)),
        with("/content/hash", json!(hash)),
        with("/content/hash", json!("../../x")),
        with("/data", json!("AAAA")),
        with("/data", json!("not base64!")),
        with("/machine", json!("m".repeat(1000))),
        with("/time", json!(-5)),
        with(
            "/seen",
            json!((0..100).map(|n| (format!("{n:x}"), n)).collect::<std::collections::BTreeMap<_, _>>()),
        ),
        with("/seen", json!({ "zz": 1 })),
    ];
    for (at, wrong) in wrong.iter().enumerate() {
        evil.set(&format!("files/{at}"), wrong).unwrap();
    }
    within("agreement", evil.agreed(1)).await.unwrap();
    a.settled().await;
    assert!(a.tree().is_empty(), "{:?}", a.tree());
    for at in 0..wrong.len() {
        refuses(&a, &at.to_string(), RefusedReason::Foreign).await;
    }
    // A value of somebody else stays what it is, although a file of its name comes.
    a.write("0", "a file");
    refuses(&a, "0", RefusedReason::Foreign).await;
    assert_eq!(evil.get::<Value>("files/0").unwrap(), Some(json!(7)));
    // A machine may have any name: it is made safe before it becomes a part of one.
    let mut named = with("/machine", json!("../../../out\u{0}"));
    named["seen"] = json!({ "5": 1 });
    a.write("notes", "mine");
    a.settled().await;
    evil.set("files/notes", &named).unwrap();
    within("agreement", evil.agreed(1)).await.unwrap();
    a.settled().await;
    named["seen"] = json!({ "6": 1 });
    evil.set("files/notes", &named).unwrap();
    within("agreement", evil.agreed(1)).await.unwrap();
    a.settled().await;
    let names: Vec<_> = a.tree().into_keys().collect();
    assert!(names.iter().all(|name| !name.contains('/') && !name.contains('\0')), "{names:?}");
    assert_eq!(a.tree()["notes"], b"evil");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2_9_wrong_bytes_never_become_a_file() {
    let aether = Aether::local();
    let (a, b) = (Machine::new(&aether, "a").await, Machine::new(&aether, "b").await);
    // Claims to have every file, with blocks of zeros.
    let mut liar = Vibrator::create("liar", &aether).await.unwrap();
    liar.resonate_on("field.home.mirror.>").await.unwrap();
    let lying = tokio::spawn(async move {
        while let Some(question) = liar.receive().await {
            let _ = question.reply_bytes(vec![0_u8; 40]).await;
        }
    });
    let mut events = b.mirror.events();
    let bytes: Vec<u8> = (0..600_000_u32).map(|n| (n / 5) as u8).collect();
    a.write("large", &bytes);
    a.settled().await;
    // Whether the liar or the machine that has it answers first is a matter of chance: no half and no wrong file either way.
    let event = until(&mut events, |event| {
        matches!(event, MirrorEvent::Written { .. } | MirrorEvent::Refused { .. })
    })
    .await;
    match event {
        MirrorEvent::Refused { reason, .. } => {
            assert_eq!(reason, RefusedReason::Content);
            // It is tried again after a second, which may be over.
            assert!(b.tree().values().all(|there| *there == bytes));
        }
        _ => assert!(b.tree()["large"] == bytes),
    }
    lying.abort();
    let _ = lying.await;
    assert!(equal(&[&a, &b]).await["large"] == bytes);
    // Questions that mean nothing are answered with a failure, or with nothing.
    let stranger = Vibrator::create("stranger", &aether).await.unwrap();
    for payload in [&b""[..], b"\x01", &[255; 64], &[1; 33]] {
        stranger.ask_wave("field.home.mirror.find", payload).await.unwrap_err();
    }
    b.write("more", "more");
    equal(&[&a, &b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_can_make_so_many_files_and_so_many_bytes_here() {
    let aether = Aether::local();
    let (_around, a) =
        guarded(&aether, MirrorOptions::default().max_files(3).max_bytes(100_000).max_file(60_000)).await;
    let b = Machine::new(&aether, "b").await;
    b.write("a-too-large", vec![1; 60_001]);
    b.write("b", vec![2; 50_000]);
    b.write("c-too-much", vec![3; 50_001]);
    b.write("d", "d");
    b.write("e", "e");
    b.settled().await;
    b.write("f-too-many", "f");
    b.settled().await;
    within("agreement", b.field.agreed(1)).await.unwrap();
    a.settled().await;
    assert_eq!(a.tree().len(), 3, "{:?}", a.tree().keys());
    let status = a.mirror.status();
    assert_eq!(status.refused[&RefusedReason::Size], 1);
    assert!(status.refused[&RefusedReason::Room] >= 2, "{status:?}");
    // What is deleted makes room.
    fs::remove_file(b.place("d")).unwrap();
    fs::remove_file(b.place("b")).unwrap();
    fs::remove_file(b.place("c-too-much")).unwrap();
    b.settled().await;
    within("agreement", b.field.agreed(1)).await.unwrap();
    a.settled().await;
    a.settled().await;
    let names: Vec<_> = a.tree().into_keys().collect();
    assert_eq!(names, ["e", "f-too-many"]);
    // One's own files are not bounded by that.
    for name in ["1", "2", "3"] {
        a.write(name, "of a");
    }
    a.settled().await;
    within("agreement", a.field.agreed(1)).await.unwrap();
    b.settled().await;
    assert_eq!(b.tree()["3"], b"of a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_beside_each_other_fill_no_folder() {
    let aether = Aether::local();
    let good = version(&aether, "evil").await;
    let (_around, a) = guarded(&aether, MirrorOptions::default().max_files(4)).await;
    a.write("notes", "mine");
    a.settled().await;
    let evil = Field::builder("home").replica("evil").join(&aether).await.unwrap();
    within("agreement", evil.agreed(1)).await.unwrap();
    let texts: Vec<_> = (0..20).map(|n| format!("evil {n}")).collect();
    for (n, mut version) in versions(&aether, &texts).await.into_iter().enumerate() {
        // Made from nothing that is here, each with other bytes.
        version["seen"] = json!({ format!("{:x}", 100 + n): 1 });
        version["time"] = json!(n);
        evil.set("files/notes", &version).unwrap();
        within("agreement", evil.agreed(1)).await.unwrap();
        a.settled().await;
    }
    let tree = a.tree();
    assert_eq!(tree.len(), 4, "{:?}", tree.keys());
    assert!(tree.values().any(|bytes| bytes == b"mine"), "what was here is still here");
    assert!(a.mirror.status().refused[&RefusedReason::Room] > 0);
    // And no bytes are fetched that have no place.
    let asked = Vibrator::create("asked", &aether).await.unwrap();
    asked.resonate_on("field.home.mirror.find").await.unwrap();
    a.write("in-the-way/file", "a file in a folder");
    a.settled().await;
    let mut large = good;
    large["content"]["size"] = json!(60 << 20);
    large.as_object_mut().unwrap().remove("data");
    evil.set("files/in-the-way", &large).unwrap();
    within("agreement", evil.agreed(1)).await.unwrap();
    refuses(&a, "in-the-way", RefusedReason::Place).await;
    assert_eq!(asked.ledger().offered, 0);
}
