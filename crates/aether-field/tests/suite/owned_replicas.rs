//! Owned state between replicas on a medium. Cases C3 of the acceptance.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aether_core::{Aether, Vibrator};
use aether_field::core::{Digest, Limits, Refusal, State, WriterId};
use aether_field::{
    Certificate, Field, FieldBuilder, FieldError, Identity, IdentityError, PeerEvent, Trust, UpdateKind,
};
use bytes::Bytes;
use tokio::time::timeout;

/// The longest time that anything here may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// The version of the messages on the medium.
const VERSION: u8 = 4;

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} takes longer than {PATIENCE:?}"))
}

fn identity(name: &str) -> Identity {
    Identity::generate(name).unwrap()
}

fn replica(name: &str) -> FieldBuilder {
    Field::builder("home").replica(name)
}

fn pinned(identity: &Identity) -> Trust {
    Trust::allow_list([(identity.name(), identity.public_key())])
}

/// Waits until a value of an owner is this one.
async fn shows(field: &Field, owner: &str, name: &str, value: Option<&str>) {
    let mut updates = field.of(owner).watch(name);
    within(name, async {
        while field.of(owner).get::<String>(name).unwrap().as_deref() != value {
            updates.next().await.unwrap();
        }
    })
    .await;
}

/// A beat as it is on the medium.
type Beat = (u8, WriterId, String, Digest, bool, bool, u64, u64, u64, Option<(String, Bytes)>);

async fn send(stranger: &Vibrator, channel: &str, message: &impl serde::Serialize) {
    stranger.emit_bytes(channel, postcard::to_allocvec(message).unwrap()).await.unwrap();
}

/// Everything that was sent before is taken in after this.
async fn settled(aether: &Aether, events: &mut aether_field::PeerEvents) -> Vec<PeerEvent> {
    let marker = replica("marker").join(aether).await.unwrap();
    let mut before = Vec::new();
    within("the marker", async {
        loop {
            match events.next().await.unwrap() {
                PeerEvent::Joined(peer) if peer.writer == marker.writer() => return,
                event => before.push(event),
            }
        }
    })
    .await;
    before
}

#[tokio::test]
async fn c3_16_a_watcher_gets_owner_name_old_and_new() {
    let (aether, pi) = (Aether::local(), identity("pi-2"));
    let hall = replica("hall").trust(pinned(&pi)).join(&aether).await.unwrap();
    let own = replica("pi").identity(pi).join(&aether).await.unwrap();
    let mut updates = hall.of("pi-2").watch("temp/*");
    let mut open = hall.watch("*");
    own.own().unwrap().set("temp/1", "21").unwrap();
    assert_eq!(own.of("pi-2").get::<String>("temp/1").unwrap().as_deref(), Some("21"));
    let update = within("the update", updates.next()).await.unwrap();
    assert_eq!((update.owner(), update.name(), update.by()), (Some("pi-2"), "temp/1", own.writer()));
    let first = UpdateKind::Register { old: None, new: Some("\"21\"".into()) };
    assert_eq!(update.kind(), &first);
    own.own().unwrap().set("temp/1", "22").unwrap();
    let update = within("the update", updates.next()).await.unwrap();
    let second = UpdateKind::Register { old: Some("\"21\"".into()), new: Some("\"22\"".into()) };
    assert_eq!(update.kind(), &second);
    assert_eq!(hall.of("pi-2").list("temp/*"), [("temp/1".to_owned(), Bytes::from("\"22\""))]);
    assert!(own.own().unwrap().remove("temp/1").unwrap());
    assert!(!own.own().unwrap().remove("temp/1").unwrap());
    let update = within("the update", updates.next()).await.unwrap();
    let third = UpdateKind::Register { old: Some("\"22\"".into()), new: None };
    assert_eq!((update.kind(), hall.of("pi-2").list("*").len()), (&third, 0));
    // Watchers of what everybody may write see nothing of it, and nobody else writes it.
    hall.set("temp/1", "0").unwrap();
    let update = within("the update", open.next()).await.unwrap();
    assert_eq!((update.owner(), update.value::<String>().unwrap().as_deref()), (None, Some("0")));
    assert!(matches!(hall.own(), Err(FieldError::NoIdentity)));
    assert!(matches!(own.own().unwrap().set("k", &None::<u8>), Err(FieldError::Null { .. })));
}

#[tokio::test]
async fn c3_3_what_cannot_be_verified_is_counted_by_its_reason_and_never_shown() {
    let (aether, root, pi) = (Aether::local(), identity("root"), identity("pi-2"));
    let hall = replica("hall").trust(Trust::root(root.public_key())).join(&aether).await.unwrap();
    let mut events = hall.peer_events();
    let wall = || u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
    let stranger = Vibrator::create("stranger", &aether).await.unwrap();
    let mut forger = State::new(WriterId(7), Limits::default()).with_trust("home", pinned(&pi));
    let change = forger.set_owned(&pi, "temp", "\"99\"".into(), wall()).unwrap().0;
    let mut damaged = change.clone();
    damaged.entry.value = Some(Bytes::from_static(&[1; 100]));
    let mut unsigned = change.clone();
    unsigned.entry.value = Some("\"99\"".into());
    // No certificate yet.
    send(&stranger, "field.home.changes", &(VERSION, vec![&change])).await;
    settled(&aether, &mut events).await;
    assert_eq!((hall.status().refused, hall.status().unknown_owners), (1, 1));
    // Certified with another key.
    let real = identity("pi-2");
    hall.publish(&Certificate::issue(&root, "home", "pi-2", real.public_key(), 1, None, wall())).unwrap();
    for changes in [vec![&change], vec![&damaged, &change], vec![&unsigned, &change]] {
        send(&stranger, "field.home.changes", &(VERSION, changes)).await;
    }
    settled(&aether, &mut events).await;
    let status = hall.status();
    assert_eq!((status.refused, status.unknown_owners), (6, 1));
    assert_eq!((status.foreign_keys, status.forged, status.unchecked), (3, 1, 1));
    assert_eq!((hall.of("pi-2").list("*"), hall.status().entries), (vec![], 1));
    // The real one is not blocked by any of it.
    let own = replica("pi").trust(Trust::root(root.public_key())).identity(real).join(&aether).await.unwrap();
    within("agreement", own.agreed(1)).await.unwrap();
    own.own().unwrap().set("temp", "21").unwrap();
    shows(&hall, "pi-2", "temp", Some("21")).await;
}

#[tokio::test]
async fn c3_3_what_an_owner_wrote_before_its_certificate_comes_with_it() {
    let (aether, root, pi) = (Aether::local(), identity("root"), identity("pi-2"));
    let trust = Trust::root(root.public_key());
    let hall = replica("hall").trust(trust.clone()).join(&aether).await.unwrap();
    let own = replica("pi").trust(trust.clone()).identity(pi.clone()).join(&aether).await.unwrap();
    own.own().unwrap().set("temp", "21").unwrap();
    let refused = within("the refusal", own.agreed(1)).await.unwrap_err();
    assert!(matches!(refused, FieldError::NotTaken { .. }), "{refused}");
    assert_eq!(hall.of("pi-2").get_json("temp"), None);
    let authority = replica("root").trust(trust).join(&aether).await.unwrap();
    let at = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
    let certificate = Certificate::issue(&root, "home", "pi-2", pi.public_key(), 1, None, at);
    authority.publish(&certificate).unwrap();
    shows(&hall, "pi-2", "temp", Some("21")).await;
    assert_eq!(hall.of("pi-2").key(), Some((pi.public_key(), 1)));
    assert_eq!(hall.owners(), ["pi-2"]);
    // Agreement with a replica that has neither certificate nor value yet brings both, whoever asks for it.
    let late = replica("late").trust(Trust::root(root.public_key())).join(&aether).await.unwrap();
    within("agreement", late.agreed(3)).await.unwrap();
    assert_eq!(late.of("pi-2").get::<String>("temp").unwrap().as_deref(), Some("21"));
    let later = replica("later").trust(Trust::root(root.public_key())).join(&aether).await.unwrap();
    within("agreement", own.agreed(4)).await.unwrap();
    assert_eq!(later.of("pi-2").get::<String>("temp").unwrap().as_deref(), Some("21"));
}

#[tokio::test(start_paused = true)]
async fn replicas_that_trust_different_owners_come_to_rest() {
    aether_testing::follow_tokio();
    let (aether, pi) = (Aether::local(), identity("pi-2"));
    let (trusts, knows_nobody) = (
        replica("hall").trust(pinned(&pi)).join(&aether).await.unwrap(),
        replica("kitchen").join(&aether).await.unwrap(),
    );
    let own = replica("pi").identity(pi).join(&aether).await.unwrap();
    own.own().unwrap().set("temp", "21").unwrap();
    knows_nobody.set("lamp", "on").unwrap();
    shows(&trusts, "pi-2", "temp", Some("21")).await;
    within("agreement", trusts.agreed(1)).await.unwrap();
    let refused = within("the refusal", trusts.agreed(2)).await.unwrap_err();
    assert!(matches!(refused, FieldError::NotTaken { .. }), "{refused}");
    assert_eq!(trusts.get::<String>("lamp").unwrap().as_deref(), Some("on"));
    assert_ne!(trusts.digest(), knows_nobody.digest());
    let reconciliations = || {
        let of = |field: &Field| field.status().reconciliations;
        of(&trusts) + of(&knows_nobody) + of(&own)
    };
    // Beats come about once a second; a difference that cannot be removed is looked at every 10 s.
    let mut beats = Vibrator::create("counter", &aether).await.unwrap();
    beats.resonate_on("field.home.beats").await.unwrap();
    for _ in 0..6 {
        within("a beat", beats.receive()).await.unwrap();
    }
    let before = reconciliations();
    for _ in 0..15 {
        within("a beat", beats.receive()).await.unwrap();
    }
    assert!(reconciliations() - before <= 4, "{} more", reconciliations() - before);
}

#[tokio::test]
async fn c3_5_a_forged_or_recorded_beat_moves_no_owner() {
    let (aether, pi) = (Aether::local(), identity("pi-2"));
    // Nobody leaves because the machine is busy.
    let hall = replica("hall").trust(pinned(&pi)).silence(PATIENCE).join(&aether).await.unwrap();
    let mut events = hall.peer_events();
    let mut stranger = Vibrator::create("stranger", &aether).await.unwrap();
    stranger.resonate_on("field.home.beats").await.unwrap();
    let own = replica("pi").identity(pi).join(&aether).await.unwrap();
    let joined = within("the join", events.next()).await.unwrap();
    let PeerEvent::Joined(peer) = joined else { panic!("{joined:?}") };
    assert_eq!(
        (peer.replica.as_str(), peer.owner.as_deref(), peer.writer),
        ("pi", Some("pi-2"), own.writer())
    );
    let recorded: Beat = within("a beat", async {
        loop {
            let wave = stranger.receive().await.unwrap();
            let beat: Beat = postcard::from_bytes(wave.payload()).unwrap();
            if beat.1 == own.writer() {
                return beat;
            }
        }
    })
    .await;
    let (version, writer, name, digest, asks, _, number, clock, newest, proof) = recorded.clone();
    // Numbers are times in microseconds: an hour ahead of all beats that follow, which would make them old.
    let ahead = number + 3_600_000_000;
    let evil = identity("evil");
    let fake = (evil.name().to_owned(), proof.clone().unwrap().1);
    for beat in [
        // Without a signature, with the signature of another beat, in another name, and the same once more.
        (version, writer, name.clone(), digest, asks, true, u64::MAX, clock, newest, None),
        (version, writer, name.clone(), digest, asks, true, ahead, clock, newest, proof.clone()),
        (version, writer, name.clone(), digest, asks, true, ahead, clock, newest, Some(fake)),
        (version, writer, "moved".to_owned(), digest, asks, false, ahead, clock, newest, proof),
        recorded.clone(),
    ] {
        send(&stranger, "field.home.beats", &beat).await;
    }
    assert_eq!(settled(&aether, &mut events).await, []);
    assert_eq!(hall.status().forged, 4);
    assert!(hall.peers().iter().any(|peer| peer.owner.as_deref() == Some("pi-2") && peer.replica == "pi"));
    // After it has left, a recorded beat does not bring it back.
    own.close().await.unwrap();
    within("the leave", async {
        while !matches!(events.next().await.unwrap(), PeerEvent::Left(peer) if peer.writer == writer) {}
    })
    .await;
    send(&stranger, "field.home.beats", &recorded).await;
    let (version, writer, name, digest, asks, _, _, clock, newest, _) = recorded;
    send(
        &stranger,
        "field.home.beats",
        &(version, writer, name, digest, asks, false, ahead, clock, newest, None::<u8>),
    )
    .await;
    let rest = settled(&aether, &mut events).await;
    assert!(
        !rest.iter().any(|event| matches!(event, PeerEvent::Joined(peer) if peer.writer == writer)),
        "{rest:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_7_ten_nodes_lose_no_update_while_the_key_is_rotated() {
    let (aether, first) = (Aether::local(), identity("pi-2"));
    let mut nodes = Vec::new();
    for at in 0..9 {
        nodes.push(replica(&format!("node-{at}")).trust(pinned(&first)).join(&aether).await.unwrap());
    }
    let field = replica("pi").identity(first.clone()).join(&aether).await.unwrap();
    let own = field.own().unwrap();
    for n in 0..200 {
        own.set(&format!("n/{}", n % 50), &n.to_string()).unwrap();
        if n % 60 == 59 {
            own.rotate(&identity("pi-2")).unwrap();
        }
        tokio::task::yield_now().await;
    }
    let error = own.rotate(&identity("pi-3")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "an owner keeps its name when it rotates its key: it is \"pi-2\", and not \"pi-3\""
    );
    within("agreement", field.agreed(9)).await.unwrap();
    for node in &nodes {
        for n in 150..200 {
            let name = format!("n/{}", n % 50);
            assert_eq!(node.of("pi-2").get::<String>(&name).unwrap(), Some(n.to_string()), "{name}");
        }
        assert_eq!(node.of("pi-2").key().unwrap().1, 3);
        assert_eq!(node.digest(), field.digest());
    }
    // The old key still runs somewhere. It hears that it was given up, and is refused.
    let old = replica("old").identity(first).join(&aether).await.unwrap();
    within("agreement", old.agreed(1)).await.unwrap();
    let error = old.own().unwrap().set("n/0", "forged").unwrap_err();
    assert!(matches!(error, FieldError::Refused(Refusal::ForeignKey { .. })), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_11_of_eight_threads_with_1000_updates_each_none_is_lost() {
    let (aether, pi) = (Aether::local(), identity("pi-2"));
    let hall = replica("hall").trust(pinned(&pi)).join(&aether).await.unwrap();
    let field = replica("pi").identity(pi).join(&aether).await.unwrap();
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let own = field.own().unwrap();
            std::thread::spawn(move || {
                for n in 0..1000 {
                    own.set(&format!("thread/{thread}"), &n).unwrap();
                }
            })
        })
        .collect();
    tokio::task::spawn_blocking(|| threads.into_iter().for_each(|thread| thread.join().unwrap()))
        .await
        .unwrap();
    within("agreement", field.agreed(1)).await.unwrap();
    for thread in 0..8 {
        assert_eq!(hall.of("pi-2").get::<u32>(&format!("thread/{thread}")).unwrap(), Some(999));
    }
    assert_eq!((field.status().written, hall.status().refused), (8000, 0));
}

#[tokio::test]
async fn c3_12_a_run_whose_clock_is_behind_the_last_one_keeps_what_it_writes() {
    let (aether, pi) = (Aether::local(), identity("pi-2"));
    let hall = replica("hall").trust(pinned(&pi)).join(&aether).await.unwrap();
    let mut events = hall.peer_events();
    // A value that a former run wrote, with a clock that was ten minutes ahead.
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(600);
    let mut ahead = State::new(WriterId(7), Limits::default()).with_trust("home", pinned(&pi));
    let wall = wall.as_micros().try_into().unwrap();
    let (change, _) = ahead.set_owned(&pi, "temp", "\"old\"".into(), wall).unwrap();
    let stranger = Vibrator::create("stranger", &aether).await.unwrap();
    send(&stranger, "field.home.changes", &(VERSION, vec![change])).await;
    settled(&aether, &mut events).await;
    assert_eq!(hall.of("pi-2").get::<String>("temp").unwrap().as_deref(), Some("old"));
    // No store: the second run does not know how late it is.
    let again = replica("pi").identity(pi).join(&aether).await.unwrap();
    again.own().unwrap().set("temp", "new").unwrap();
    shows(&hall, "pi-2", "temp", Some("new")).await;
    within("agreement", again.agreed(1)).await.unwrap();
    assert_eq!(again.of("pi-2").get::<String>("temp").unwrap().as_deref(), Some("new"));
}

#[tokio::test]
async fn of_two_processes_with_one_identity_the_later_write_wins() {
    let (aether, pi) = (Aether::local(), identity("pi-2"));
    // Each knows that the other one is alive: a value of a former run would be written again.
    let first = replica("pi").identity(pi.clone()).silence(PATIENCE).join(&aether).await.unwrap();
    let second = replica("pi").identity(pi).silence(PATIENCE).join(&aether).await.unwrap();
    within("agreement", first.agreed(1)).await.unwrap();
    crate::replica::knows(&second, std::slice::from_ref(&first)).await;
    for (writes, reads, value) in [(&first, &second, "1"), (&second, &first, "2"), (&first, &second, "3")] {
        writes.own().unwrap().set("temp", value).unwrap();
        shows(reads, "pi-2", "temp", Some(value)).await;
    }
    within("agreement", first.agreed(1)).await.unwrap();
    assert_eq!((first.status().written, second.status().written), (2, 1));
}

#[test]
fn c3_17_a_private_key_is_for_its_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pi-2.identity");
    let pi = identity("pi-2");
    pi.save(&path).unwrap();
    let read = Identity::load(&path).unwrap();
    assert_eq!((read.name(), read.public_key()), ("pi-2", pi.public_key()));
    // It is not replaced.
    assert!(matches!(identity("pi-2").save(&path), Err(IdentityError::File { .. })));
    assert_eq!(Identity::load(&path).unwrap().public_key(), pi.public_key());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;

        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for mode in [0o644, 0o640, 0o602, 0o610] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = Identity::load(&path).unwrap_err().to_string();
            assert!(
                error.contains(&format!("mode {mode:04o}")) && error.contains("run `chmod 600 "),
                "{error}"
            );
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert!(Identity::load(&path).is_ok());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    for text in ["", "aether identity 1\nname pi-2\n", "aether identity 2\nname pi-2\nsecret 00\n", "\u{0}"] {
        std::fs::write(&path, text).unwrap();
        assert!(matches!(Identity::load(&path), Err(IdentityError::Foreign { .. })), "{text:?}");
    }
}

#[cfg(feature = "store")]
#[tokio::test]
async fn owned_state_is_there_after_a_restart_and_a_flipped_byte_of_it_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("home.field");
    let pi = identity("pi-2");
    let open = || {
        let builder = replica("pi").identity(pi.clone()).store(&path);
        async move { builder.join(&Aether::local()).await.unwrap() }
    };
    let field = open().await;
    let own = field.own().unwrap();
    own.set("temp", "spoiled value").unwrap();
    own.set("door", "open").unwrap();
    own.set("gone", "1").unwrap();
    own.remove("gone").unwrap();
    let next = identity("pi-2");
    own.rotate(&next).unwrap();
    let digest = field.digest();
    // A handle keeps the file open.
    drop(own);
    field.close().await.unwrap();
    let builder = replica("pi").trust(pinned(&pi)).identity(next.clone()).store(&path);
    let field = builder.join(&Aether::local()).await.unwrap();
    assert_eq!((field.digest(), field.of("pi-2").list("*").len()), (digest, 2));
    field.own().unwrap().set("door", "closed").unwrap();
    field.close().await.unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let places = bytes.windows(13).enumerate().filter(|(_, part)| part == b"spoiled value");
    let places: Vec<_> = places.map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at] ^= 1);
    std::fs::write(&path, bytes).unwrap();
    let builder = replica("pi").trust(pinned(&pi)).identity(next).store(&path);
    let field = builder.join(&Aether::local()).await.unwrap();
    assert_eq!(field.of("pi-2").get::<String>("door").unwrap().as_deref(), Some("closed"));
    assert_eq!(field.of("pi-2").get_json("temp"), None);
}

#[tokio::test]
async fn an_owner_that_is_trusted_while_the_field_is_open_is_read_and_proven() {
    let aether = Aether::local();
    let pi = identity("pi");
    let owner = replica("pi").identity(pi.clone()).join(&aether).await.unwrap();
    owner.own().unwrap().set("temperature", "21").unwrap();
    let reader = replica("reader").join(&aether).await.unwrap();
    let mut events = reader.peer_events();
    assert_eq!(reader.of("pi").get::<String>("temperature").unwrap(), None);
    assert!(reader.trust("pi", pi.public_key()).unwrap());
    assert!(!reader.trust("pi", identity("pi").public_key()).unwrap());
    shows(&reader, "pi", "temperature", Some("21")).await;
    within("the proof", async {
        while reader.peers().iter().all(|peer| peer.owner.as_deref() != Some("pi")) {
            events.next().await.unwrap();
        }
    })
    .await;
}
