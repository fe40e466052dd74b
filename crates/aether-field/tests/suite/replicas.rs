//! Replicas on a medium: in process, and over a real NATS server that is killed.

use crate::replica::{join, shows, within};
use aether_conformance::NatsServer;
use aether_core::clock::micros_since_1970;
use aether_core::{Aether, Vibrator, Wave};
use aether_field::{AFTER, Field, UpdateKind};

#[tokio::test]
async fn a_write_is_readable_at_once_here_and_soon_elsewhere() {
    let aether = Aether::local();
    let (hall, kitchen) = (join(&aether, "hall").await, join(&aether, "kitchen").await);
    let mut lamps = kitchen.watch("lamp/*");
    hall.set("lamp/1", "on").unwrap();
    assert_eq!(hall.get::<String>("lamp/1").unwrap().as_deref(), Some("on"));
    let update = within("the update", lamps.next()).await.unwrap();
    assert_eq!((update.name(), update.by()), ("lamp/1", hall.writer()));
    assert_eq!(update.value::<String>().unwrap().as_deref(), Some("on"));
    assert!(hall.remove("lamp/1").unwrap());
    let update = within("the removal", lamps.next()).await.unwrap();
    let removal = UpdateKind::Register { old: Some("\"on\"".into()), new: None };
    assert_eq!((update.kind(), kitchen.get_json("lamp/1")), (&removal, None));
}

#[tokio::test]
async fn a_slow_watcher_gets_one_update_with_the_first_and_the_last_value() {
    let field = join(&Aether::local(), "hall").await;
    field.set("n", "0").unwrap();
    let mut updates = field.watch("n");
    for n in 1..=1000 {
        field.set("n", &n.to_string()).unwrap();
    }
    let update = updates.next().await.unwrap();
    let all = UpdateKind::Register { old: Some("\"0\"".into()), new: Some("\"1000\"".into()) };
    assert_eq!(update.kind(), &all);
    field.close().await.unwrap();
    assert_eq!(updates.next().await, None);
}

#[tokio::test]
async fn counters_and_sets_lose_no_concurrent_addition() {
    let aether = Aether::local();
    let (a, b) = (join(&aether, "a").await, join(&aether, "b").await);
    for field in [&a, &b] {
        for _ in 0..100 {
            field.add("visits", 1).unwrap();
        }
        field.insert("tags", field.writer().to_string()).unwrap();
    }
    within("agreement", a.agreed(1)).await.unwrap();
    for field in [&a, &b] {
        assert_eq!((field.count("visits"), field.members("tags").len()), (200, 2));
    }
    assert!(a.discard("tags", b.writer().to_string()).unwrap());
    within("agreement", a.agreed(1)).await.unwrap();
    assert_eq!(b.members("tags"), [a.writer().to_string()]);
}

#[tokio::test]
async fn of_two_concurrent_writes_exactly_the_loser_hears() {
    let aether = Aether::local();
    let (a, b) = (join(&aether, "a").await, join(&aether, "b").await);
    let (mut lost_a, mut lost_b) = (a.superseded(), b.superseded());
    for round in 0..40 {
        let name = format!("race/{round}");
        // Neither has seen the other's: nothing is sent before this task waits.
        a.set(&name, "a").unwrap();
        // Of two writes in one microsecond any may win.
        let written = micros_since_1970();
        while micros_since_1970() <= written {
            std::hint::spin_loop();
        }
        b.set(&name, "b").unwrap();
    }
    within("agreement", a.agreed(1)).await.unwrap();
    assert_eq!((a.status().superseded, b.status().superseded), (40, 0));
    for _ in 0..40 {
        let lost = within("the loss", lost_a.next()).await.unwrap();
        assert_eq!(lost.lost.as_deref(), Some(b"\"a\"".as_slice()));
        assert_eq!((lost.winner.as_deref(), lost.by()), (Some(b"\"b\"".as_slice()), Some(b.writer())));
    }
    // A write that follows one supersedes nobody.
    b.set("race/0", "again").unwrap();
    shows(&a, "race/0", Some("again")).await;
    a.set("race/0", "and again").unwrap();
    shows(&b, "race/0", Some("and again")).await;
    assert_eq!((a.status().superseded, b.status().superseded), (40, 0));
    drop((a, b));
    assert_eq!(within("the end", lost_b.next()).await, None);
}

#[tokio::test]
async fn a_late_joiner_gets_everything_and_deletions_stay() {
    let aether = Aether::local();
    let first = join(&aether, "first").await;
    for n in 0..5000 {
        first.set(&format!("key/{n}"), &n.to_string()).unwrap();
    }
    first.remove("key/17").unwrap();
    let late = join(&aether, "late").await;
    within("agreement", late.agreed(1)).await.unwrap();
    assert_eq!(late.digest(), first.digest());
    assert_eq!((late.list("key/*").len(), late.get_json("key/17")), (4999, None));
}

#[tokio::test]
async fn bad_input_is_refused_and_nothing_of_it_is_seen() {
    let aether = Aether::local();
    let (a, b) = (join(&aether, "a").await, join(&aether, "b").await);
    let before = a.digest();
    for (name, value, part) in [
        ("", "v", "at least one byte"),
        (&*"n".repeat(257), "v", "257 bytes; 256 are allowed"),
        ("k", &*"v".repeat(32_767), "32769 bytes; 32768 are allowed"),
    ] {
        let error = a.set(name, value).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    let error = a.set("k", &None::<u8>).unwrap_err();
    assert_eq!(error.to_string(), "a field holds no null; remove \"k\" instead");
    assert_eq!(a.digest(), before);
    // Names that are special elsewhere are ordinary here.
    for name in ["__proto__", "../../etc", "lamp.*", "\u{1f600}"] {
        a.set(name, "v").unwrap();
        shows(&b, name, Some("v")).await;
    }
    // Foreign messages on the channels of the field are counted and skipped.
    let stranger = Vibrator::create("stranger", &aether).await.unwrap();
    for channel in ["field.home.changes", "field.home.beats"] {
        for payload in [&b""[..], b"\x02", b"\x01\xff\xff\xff\xff\xff", &[0; 64]] {
            stranger.emit_bytes(channel, payload.to_vec()).await.unwrap();
        }
    }
    a.set("k", "after").unwrap();
    shows(&b, "k", Some("after")).await;
    assert_eq!(b.status().unreadable, 8);
    let error = Field::builder("a b").join(&aether).await.unwrap_err();
    assert!(error.to_string().contains("cannot be the name of a field"), "{error}");
}

#[tokio::test]
async fn five_replicas_that_write_at_once_converge() {
    let aether = Aether::local();
    let fields = five(&aether).await;
    for round in 0..1000 {
        for (at, field) in fields.iter().enumerate() {
            field.set(&format!("{at}/{}", round % 200), &round.to_string()).unwrap();
        }
        if round % 10 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for field in &fields {
        within("agreement", field.agreed(4)).await.unwrap();
    }
    // The first ones have not seen what the last ones exchanged.
    within("agreement", fields[0].agreed(4)).await.unwrap();
    assert!(fields.iter().all(|field| field.digest() == fields[0].digest()));
    assert_eq!(fields[3].list("*").len(), 1000);
}

async fn five(aether: &Aether) -> Vec<Field> {
    let mut fields = Vec::new();
    for at in 0..5 {
        fields.push(join(aether, &format!("replica-{at}")).await);
    }
    fields
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_nats_writes_survive_a_server_that_is_killed() {
    let mut server = NatsServer::start().await.unwrap();
    let (for_a, for_b) =
        (aether::connect(&server.url()).await.unwrap(), aether::connect(&server.url()).await.unwrap());
    let (a, b) = (join(&for_a, "a").await, join(&for_b, "b").await);
    a.set("before", "1").unwrap();
    shows(&b, "before", Some("1")).await;
    server.kill().await.unwrap();
    // Nothing waits for the server.
    a.set("during/a", "2").unwrap();
    b.set("during/b", "3").unwrap();
    b.remove("before").unwrap();
    server.restart().await.unwrap();
    shows(&a, "during/b", Some("3")).await;
    shows(&b, "during/a", Some("2")).await;
    shows(&a, "before", None).await;
    within("agreement", a.agreed(1)).await.unwrap();
    assert_eq!(a.digest(), b.digest());
}

/// C4 2
#[tokio::test]
async fn a_wave_after_a_write_is_not_handled_with_the_old_state() {
    let aether = Aether::local();
    let (hall, kitchen) = (join(&aether, "hall").await, join(&aether, "kitchen").await);
    let cook = Vibrator::create("cook", &aether).await.unwrap();
    cook.resonate_on("orders").await.unwrap();
    let (_, mut orders) = cook.split();
    let waiter = Vibrator::create("waiter", &aether).await.unwrap();
    for round in 0..100 {
        let menu = format!("menu {round}");
        hall.set("menu", &menu).unwrap();
        let after = hall.after("menu").unwrap();
        let wave = Wave::builder(aether_core::Channel::new("orders").unwrap());
        let wave = wave.metadata(AFTER, &after.to_string()).build().unwrap();
        waiter.emitter().emit(wave).await.unwrap();
        let order = within("the order", orders.receive()).await.unwrap();
        let after = order.metadata().value(AFTER).unwrap().parse().unwrap();
        within("the menu", kitchen.reached(&after)).await.unwrap();
        assert_eq!(kitchen.get::<String>("menu").unwrap().as_deref(), Some(menu.as_str()));
    }
    // Of a name that was never written there is nothing to wait for.
    assert_eq!(hall.after("nothing"), None);
}

/// C3 11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_of_many_threads_are_all_kept() {
    let aether = Aether::local();
    let (a, b) = (join(&aether, "a").await, join(&aether, "b").await);
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let field = a.clone();
            std::thread::spawn(move || {
                for n in 0..1000 {
                    field.set(&format!("{thread}"), &n).unwrap();
                    field.update::<u32, _>("all", |all| Some(all.unwrap_or(0) + 1)).unwrap();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    within("agreement", a.agreed(1)).await.unwrap();
    for field in [&a, &b] {
        assert!((0..8).all(|thread| field.get::<u32>(&format!("{thread}")).unwrap() == Some(999)));
        assert_eq!(field.get::<u32>("all").unwrap(), Some(8000));
    }
    assert_eq!((a.status().superseded, b.status().superseded), (0, 0));
}
