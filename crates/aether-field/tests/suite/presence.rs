//! Who is there: in process with paused time, over a real NATS server, and with strangers on the channel.

use std::time::Duration;

use aether_conformance::NatsServer;
use aether_core::{Aether, Vibrator};
use aether_field::{Field, Presence, PresenceWatch};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

/// The longest time that anything here may take.
const PATIENCE: Duration = Duration::from_secs(180);

async fn join(aether: &Aether, replica: &str) -> Field {
    aether_testing::follow_tokio();
    Field::builder("home").replica(replica).join(aether).await.unwrap()
}

/// The next update, as id and JSON.
async fn next(watch: &mut PresenceWatch) -> (String, Option<Value>) {
    let update = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
    (update.id().to_owned(), update.value().unwrap())
}

fn ids(field: &Field) -> Vec<String> {
    field.presence().list().into_iter().map(|(id, _)| id).collect()
}

#[tokio::test(start_paused = true)]
async fn a_participant_is_seen_changed_and_left_elsewhere() {
    let aether = Aether::local();
    let (hall, kitchen) = (join(&aether, "hall").await, join(&aether, "kitchen").await);
    let mut people = kitchen.presence().watch();
    hall.presence().announce("ada", &json!({ "x": 1 })).unwrap();
    assert_eq!(next(&mut people).await, ("ada".into(), Some(json!({ "x": 1 }))));
    hall.presence().announce("ada", &json!(null)).unwrap();
    let update = people.next().await.unwrap();
    assert_eq!((update.is_present(), update.json().map(|json| &json[..])), (true, Some(&b"null"[..])));
    assert!(!kitchen.presence().leave("ada"), "only the replica that announced it can take it away");
    assert!(hall.presence().leave("ada"));
    assert_eq!(next(&mut people).await, ("ada".into(), None));
    assert!(!hall.presence().leave("ada"));
    assert_eq!((ids(&hall), ids(&kitchen)), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_participant_expires_ten_seconds_after_its_last_sign_of_life_everywhere() {
    let aether = Aether::local();
    let (hall, kitchen) = (join(&aether, "hall").await, join(&aether, "kitchen").await);
    let mut people = [hall.presence().watch(), kitchen.presence().watch()];
    hall.presence().announce("ada", "here").unwrap();
    for watch in &mut people {
        assert_eq!(next(watch).await, ("ada".into(), Some(json!("here"))));
    }
    for _ in 0..4 {
        sleep(Duration::from_secs(6)).await;
        assert!(hall.presence().renew("ada"));
        assert_eq!((ids(&hall).len(), ids(&kitchen).len()), (1, 1));
    }
    let renewed = Instant::now();
    for watch in &mut people {
        // Repetitions with the same value are no updates.
        assert_eq!(next(watch).await, ("ada".into(), None));
        let silent = renewed.elapsed();
        let late = silent.checked_sub(Presence::LIFETIME).unwrap();
        assert!(late < Duration::from_millis(100), "{silent:?}");
    }
    assert!(!hall.presence().renew("ada"));
}

#[tokio::test(start_paused = true)]
async fn participants_of_a_process_that_is_gone_expire() {
    let aether = Aether::local();
    let kitchen = join(&aether, "kitchen").await;
    let mut people = kitchen.presence().watch();
    // A process that is killed sends nothing more: here, a runtime that ends.
    let gone = Instant::now();
    let thread_aether = aether.clone();
    let hall = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let age = runtime.block_on(async {
            let hall = join(&thread_aether, "hall").await;
            let mut own = hall.presence().watch();
            hall.presence().announce("ada", "here").unwrap();
            next(&mut own).await;
            // Returns once the wave was emitted, and leaves without a word.
            let mut heard = Vibrator::create("witness", &thread_aether).await.unwrap();
            heard.resonate_on("field.home.presence").await.unwrap();
            let announced = std::time::Instant::now();
            hall.presence().announce("ada", "still here").unwrap();
            heard.receive().await.unwrap();
            std::mem::forget(hall);
            announced.elapsed()
        });
        runtime.shutdown_background();
        age
    });
    // The age that was sent is at most this.
    let age = hall.join().unwrap();
    assert_eq!(next(&mut people).await, ("ada".into(), Some(json!("still here"))));
    assert_eq!(next(&mut people).await, ("ada".into(), None));
    assert!(gone.elapsed() + age >= Presence::LIFETIME, "{:?} after {age:?}", gone.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_late_joiner_learns_within_a_beat() {
    let aether = Aether::local();
    let hall = join(&aether, "hall").await;
    hall.presence().announce("ada", "here").unwrap();
    sleep(Duration::from_secs(5)).await;
    let joined = Instant::now();
    let late = join(&aether, "late").await;
    let mut people = late.presence().watch();
    assert_eq!(next(&mut people).await, ("ada".into(), Some(json!("here"))));
    assert!(joined.elapsed() <= Duration::from_millis(1001), "{:?}", joined.elapsed());
    // It expires with the others, not ten seconds after it was heard here.
    assert_eq!(next(&mut people).await, ("ada".into(), None));
    assert!(joined.elapsed() <= Duration::from_millis(5100), "{:?}", joined.elapsed());
}

#[tokio::test(start_paused = true)]
async fn closing_a_field_takes_its_participants_away_and_is_no_part_of_the_state() {
    let aether = Aether::local();
    let (hall, kitchen) = (join(&aether, "hall").await, join(&aether, "kitchen").await);
    let digest = kitchen.digest();
    let mut people = kitchen.presence().watch();
    let mut own = hall.presence().watch();
    let handle = hall.presence();
    handle.announce("ada", "here").unwrap();
    handle.announce("bob", "here").unwrap();
    for _ in 0..2 {
        assert!(next(&mut people).await.1.is_some());
    }
    assert_eq!((kitchen.digest(), kitchen.status().entries, kitchen.status().participants), (digest, 0, 2));
    hall.close().await.unwrap();
    for _ in 0..2 {
        assert!(next(&mut people).await.1.is_none());
    }
    assert_eq!(own.next().await, None);
    assert!(handle.announce("ada", "here").unwrap_err().to_string().contains("closed"));
    assert_eq!(handle.watch().next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_participant_that_moves_stays_when_its_first_process_lets_it_go() {
    let aether = Aether::local();
    let fields = [join(&aether, "a").await, join(&aether, "b").await, join(&aether, "c").await];
    let [a, b, c] = fields.each_ref().map(Field::presence);
    let mut people = c.watch();
    a.announce("ada", "at a").unwrap();
    assert_eq!(next(&mut people).await.1, Some(json!("at a")));
    sleep(Duration::from_secs(1)).await;
    b.announce("ada", "at b").unwrap();
    assert_eq!(next(&mut people).await.1, Some(json!("at b")));
    assert!(!a.leave("ada"));
    for _ in 0..3 {
        sleep(Duration::from_secs(4)).await;
        assert!(b.renew("ada"));
        assert!(!a.renew("ada"));
    }
    assert!(fields.iter().all(|field| ids(field) == ["ada"]));
    b.leave("ada");
    assert_eq!(next(&mut people).await, ("ada".into(), None));
}

#[tokio::test(start_paused = true)]
async fn a_slow_watcher_gets_the_newest_value_once_and_nothing_of_those_that_came_and_left() {
    let field = join(&Aether::local(), "hall").await;
    let presence = field.presence();
    presence.announce("ada", &0).unwrap();
    let mut people = presence.watch();
    assert_eq!(next(&mut people).await, ("ada".into(), Some(json!(0))));
    for n in 0..1000 {
        presence.announce("ada", &n).unwrap();
        presence.announce(&format!("guest/{n}"), "hello").unwrap();
        presence.leave(&format!("guest/{n}"));
    }
    presence.announce("zoe", "last").unwrap();
    assert_eq!(next(&mut people).await, ("ada".into(), Some(json!(999))));
    assert_eq!(next(&mut people).await, ("zoe".into(), Some(json!("last"))));
}

#[tokio::test(start_paused = true)]
async fn what_is_out_of_bounds_is_refused() {
    let field = join(&Aether::local(), "hall").await;
    let presence = field.presence();
    for (id, json, part) in [
        ("", json!(1), "at least one byte"),
        (&*"i".repeat(257), json!(1), "257 bytes; 256 are allowed"),
        ("ada", json!("v".repeat(4095)), "4097 bytes; 4096 are allowed"),
    ] {
        let error = presence.announce(id, &json).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    presence.announce(&"i".repeat(256), &"v".repeat(4094)).unwrap();
    let full = (0..).find_map(|n| presence.announce(&n.to_string(), &"v".repeat(4000)).err()).unwrap();
    assert!(full.to_string().contains("which is its bound"), "{full}");
    // Room that is given back can be used again, and a smaller value always fits.
    presence.announce("0", "small").unwrap();
    assert!(presence.leave("1"));
    presence.announce("ada", "here").unwrap();
}

/// The version of the messages between replicas. Another one would be counted as unreadable.
const VERSION: u8 = 4;

/// Id, age, the patterns of the names that it is about, JSON.
type OnTheWire = (String, u32, Vec<String>, Option<Vec<u8>>);

#[derive(Serialize)]
struct Said {
    version: u8,
    writer: u64,
    participants: Vec<OnTheWire>,
}

#[tokio::test(start_paused = true)]
async fn strangers_on_the_channel_cost_bounded_memory_that_is_given_back() {
    let aether = Aether::local();
    let hall = join(&aether, "hall").await;
    let mut people = hall.presence().watch();
    let stranger = Vibrator::create("stranger", &aether).await.unwrap();
    let say = async |writer: u64, participants: Vec<(String, u32, Option<Vec<u8>>)>| {
        let participants =
            participants.into_iter().map(|(id, age, value)| (id, age, vec!["*".to_owned()], value)).collect();
        let said = postcard::to_allocvec(&Said { version: VERSION, writer, participants }).unwrap();
        stranger.emit_bytes("field.home.presence", said).await.unwrap();
    };
    // No JSON, no text, too long, too large, too old; the last one is in order.
    let bad =
        [("a", &b"{"[..]), ("b", b"\"\xff\""), (&*"i".repeat(257), b"1"), ("", b"1"), ("c", &[b'1'; 4097])];
    let mut all: Vec<_> = bad.into_iter().map(|(id, json)| (id.to_owned(), 0, Some(json.to_vec()))).collect();
    all.push(("old".into(), 10_000, Some(b"1".to_vec())));
    all.push(("good".into(), 0, Some(b"1".to_vec())));
    say(7, all).await;
    stranger.emit_bytes("field.home.presence", vec![1, 255, 255, 255, 255, 255, 255]).await.unwrap();
    assert_eq!(next(&mut people).await, ("good".into(), Some(json!(1))));
    for n in 0..1100_u64 {
        let json = serde_json::to_vec(&"v".repeat(398)).unwrap();
        let many = (0..10).map(|m| (format!("{n}/{m}"), 0, Some(json.clone())));
        say(n + 1, many.collect()).await;
    }
    // Earlier messages were taken in before.
    say(7, vec![("good".into(), 0, Some(b"2".to_vec()))]).await;
    while next(&mut people).await != ("good".into(), Some(json!(2))) {}
    let kept = hall.status();
    assert_eq!(kept.participants + kept.participants_refused, 11_000 + 6);
    assert_eq!((kept.participants, kept.unreadable), (10_000, 1));
    // Strangers leave room for the participants of this replica.
    hall.presence().announce("ada", "here").unwrap();
    sleep(Presence::LIFETIME).await;
    assert_eq!(ids(&hall), Vec::<String>::new());
    assert_eq!(hall.status().participants, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_nats_presence_reaches_other_processes_and_survives_a_server_that_is_killed() {
    let mut server = NatsServer::start().await.unwrap();
    let (for_a, for_b) =
        (aether::connect(&server.url()).await.unwrap(), aether::connect(&server.url()).await.unwrap());
    let (a, b) = (join(&for_a, "a").await, join(&for_b, "b").await);
    let mut people = b.presence().watch();
    let begin = Instant::now();
    a.presence().announce("ada", "before").unwrap();
    assert_eq!(next(&mut people).await, ("ada".into(), Some(json!("before"))));
    server.kill().await.unwrap();
    a.presence().announce("ada", "during").unwrap();
    // Signs of life: on a busy machine a lifetime is over before the server is back.
    let alive = tokio::spawn({
        let presence = a.presence();
        async move {
            loop {
                presence.announce("ada", "during").unwrap();
                sleep(Duration::from_secs(1)).await;
            }
        }
    });
    server.restart().await.unwrap();
    let update = loop {
        match next(&mut people).await {
            (_, None) if begin.elapsed() >= Presence::LIFETIME => {}
            update => break update,
        }
    };
    assert_eq!(update, ("ada".into(), Some(json!("during"))));
    alive.abort();
    let _ = alive.await;
    a.close().await.unwrap();
    assert_eq!(next(&mut people).await, ("ada".into(), None));
}
