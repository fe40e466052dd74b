//! An enemy without keys can see and do nothing.

use std::time::{Duration, Instant, UNIX_EPOCH};

use aether::seal::{is_sealed, sealed_key};
use aether_core::{EmitError, InboxOptions, Kind, Vibrator, Wave, WhenFull};
use aether_link::wire::{Position, Sender, encode_at};
use bytes::Bytes;

use crate::sealed::scene::{Enemy, PATIENCE, Scene, connect, next, options, within};
use crate::settling::flushed;

const SECRET: &str = "a secret that nobody may read";

fn micros_since_1970() -> u64 {
    UNIX_EPOCH.elapsed().unwrap().as_micros() as u64
}

/// A plain frame of the enemy.
fn plain(node: u64, position: Option<Position>, waves: &[Wave]) -> Bytes {
    encode_at(Sender { node, sent_micros: micros_since_1970() }, position, None, waves, Instant::now())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_on_the_wire_is_sealed() {
    let server = aether_conformance::NatsServer::start().await.unwrap();
    let mut enemy = Enemy::new(&server).await;
    let keys = aether::seal::SealKeys::generate().unwrap();
    let every = Some(Duration::from_millis(50));
    let build = || aether::builder().url(server.url()).options(options(keys.clone())).account_every(every);
    let (here, there) = (build().connect().await.unwrap(), build().connect().await.unwrap());
    let mut accounts = here.accounts().await.unwrap();
    let mut roster = here.roster().await.unwrap();
    let mut stock = Vibrator::create("stock", &there).await.unwrap();
    stock.resonate_on("secret.*").await.unwrap();
    let watcher = Vibrator::builder("watcher").observe().create(&there).await.unwrap();
    watcher.resonate_on("secret.*").await.unwrap();
    let shop = Vibrator::builder("shop").respect_floor().create(&here).await.unwrap();
    let mut echoes = shop.echoes().await.unwrap();
    // Waves, a position, a question with its answer and both copies, an echo, announcements and accounts.
    for _ in 0..100 {
        shop.emit_bytes("secret.load", SECRET).await.unwrap();
    }
    flushed(&here).await;
    for _ in 0..100 {
        assert_eq!(next(&mut stock).await.text().unwrap(), SECRET);
    }
    // The enemy hears everything, so a wave without a receiver has no echo; one that is shed has.
    let inbox = InboxOptions::default().max_waves(1).when_full(WhenFull::Shed);
    let full = Vibrator::builder("full").inbox(inbox).create(&there).await.unwrap();
    full.resonate_on("hidden.full").await.unwrap();
    for _ in 0..3 {
        let command = Wave::builder("hidden.full").kind(Kind::Command).text(SECRET).build().unwrap();
        shop.emit(command).await.unwrap();
    }
    within("the echo", echoes.receive()).await.unwrap();
    let ask = shop.ask_within(Wave::builder("secret.price").text(SECRET).build().unwrap(), PATIENCE);
    let answer = async { next(&mut stock).await.reply_bytes(SECRET).await.unwrap() };
    let (asked, ()) = tokio::join!(ask, answer);
    assert_eq!(asked.unwrap().text().unwrap(), SECRET);
    within("an account of the other process", async {
        while accounts.processes().len() < 2 {
            accounts.changed().await;
        }
    })
    .await;
    drop(stock);
    within("a roster", roster.changed()).await;
    here.close().await.unwrap();
    there.close().await.unwrap();
    let seen = enemy.fence().await;
    let mut roots = [0; 4];
    for message in &seen {
        let subject = message.subject.as_str();
        let place = ["aether.", "aether-ask.", "aether-seen.", "_INBOX."];
        let place =
            place.iter().position(|root| subject.starts_with(root)).unwrap_or_else(|| panic!("{subject}"));
        roots[place] += 1;
        let is_notice = message.payload.is_empty() && message.status.is_some();
        let is_marker = subject.ends_with(".marker") && message.payload.len() < 40;
        assert!(is_sealed(&message.payload) || place == 3 && (is_notice || is_marker), "{message:?}");
        assert!(message.headers.is_none(), "{message:?}");
        let bytes = &message.payload[..];
        for word in [SECRET, "stock", "shop", "secret", "watcher"] {
            assert!(!bytes.windows(word.len()).any(|window| window == word.as_bytes()), "{message:?}");
        }
    }
    assert!(roots.iter().all(|messages| *messages > 0), "{roots:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn altered_cut_repeated_moved_and_made_up_messages_are_refused_and_counted() {
    let mut scene = Scene::new().await;
    scene.shop.emit_bytes("shop.load", "x").await.unwrap();
    next(&mut scene.ear).await;
    let real = scene.enemy.overhear("aether.shop.load").await.payload;
    let before = scene.refused();
    assert_eq!(before, [0; 5]);
    // Each byte altered. The first four say that it is sealed, the next eight with which key.
    for at in 0..real.len() {
        let mut altered = real.to_vec();
        altered[at] ^= 1;
        scene.enemy.publish("aether.shop.load", altered).await;
    }
    let tampered = (real.len() - 12) as u64;
    scene.only_the_next_wave_arrives().await;
    assert_eq!(scene.refused(), [4, 8, tampered, 0, 0]);
    for length in 0..real.len() {
        scene.enemy.publish("aether.shop.load", real.slice(..length)).await;
    }
    scene.only_the_next_wave_arrives().await;
    // Without the version it is not sealed; without the whole id no key is named.
    let tampered = tampered + (real.len() - 4) as u64;
    assert_eq!(scene.refused(), [8, 8, tampered, 0, 0]);
    for _ in 0..100 {
        scene.enemy.publish("aether.shop.load", real.clone()).await;
    }
    scene.only_the_next_wave_arrives().await;
    assert_eq!(scene.refused(), [8, 8, tampered, 100, 0]);
    for subject in ["aether.shop.other", "aether-ask.shop.load", "aether-ask._aether.vibrators"] {
        scene.enemy.publish(subject, real.clone()).await;
    }
    let question = Wave::builder("shop.load").kind(Kind::Query).text("x").build().unwrap();
    let foreign = [plain(7, None, &[question]), Bytes::from("{}"), Bytes::new()];
    for message in foreign {
        scene.enemy.publish("aether.shop.load", message).await;
    }
    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")] {
        headers.insert(name, value);
    }
    let event = scene.enemy.client.publish_with_headers("aether.shop.load", headers, "x".into());
    event.await.unwrap();
    scene.only_the_next_wave_arrives().await;
    let refused = scene.refused();
    assert_eq!((refused[0], refused[1], refused[3], refused[4]), (12, 8, 100, 0));
    // Announcements are heard by each process with a vibrator.
    assert!((tampered + 2..=tampered + 3).contains(&refused[2]), "{refused:?}");
    assert_eq!(scene.there.status().malformed, 0);
    assert!(scene.ear.ledger().adds_up() && scene.ear.ledger().lost() == 0, "{:?}", scene.ear.ledger());
    // The altered ids, which nobody has.
    assert_eq!(aether::seal::missing_keys(&scene.there).len(), 8);
    assert!(aether::seal::missing_keys(&scene.there).iter().all(|(id, _)| Some(*id) != sealed_key(&real)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_without_the_key_hides_a_loss_ages_a_wave_or_stops_a_sender() {
    let mut scene = Scene::new().await;
    scene.shop.emit_bytes("shop.load", "x").await.unwrap();
    next(&mut scene.ear).await;
    let real = scene.enemy.overhear("aether.shop.load").await.payload;
    // Sealed frames show no node number. The best guess is what lies at its place.
    for node in [1, u64::from_le_bytes(real[4..12].try_into().unwrap())] {
        for (stream, first) in [(u64::MAX, 0), (0, 1 << 40), (0, u64::MAX)] {
            let position = Some(Position { stream, first, age_micros: 0 });
            scene.enemy.publish("aether.shop.load", plain(node, position, &[])).await;
        }
        let pause = r#"{"id":1,"pattern":">","level":0,"lease_ms":1000}"#;
        let pause = plain(node, None, &[Wave::from_bytes("any", pause).unwrap()]);
        scene.enemy.publish("aether-ask._aether.flow", pause).await;
    }
    scene.only_the_next_wave_arrives().await;
    within("the refusals", async {
        while scene.here.status().refused_plain < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (here, there) = (scene.here.status(), scene.there.status());
    assert_eq!((here.pauses, here.held, here.refused_plain), (0, 0, 2), "{here:?}");
    assert_eq!((there.implausible, there.lost_upstream, there.refused_plain), (0, 0, 6), "{there:?}");
    assert_eq!(scene.ear.ledger().lost_upstream, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_without_the_key_appears_in_the_map_or_forges_a_floor_an_echo_or_an_account() {
    let mut scene = Scene::new().await;
    let sender = Vibrator::builder("sender").respect_floor().create(&scene.here).await.unwrap();
    let mut echoes = sender.echoes().await.unwrap();
    let mut roster = scene.here.roster().await.unwrap();
    let accounts = scene.here.accounts().await.unwrap();
    let ear = scene.ear.source().clone();
    within("the receiver in the roster", async {
        while !roster.vibrators().iter().any(|present| present.vibrator == ear) {
            roster.changed().await;
        }
    })
    .await;
    let present = roster.vibrators().len();
    sender
        .emit(Wave::builder("shop.load").kind(Kind::Command).amplitude(0.1).build().unwrap())
        .await
        .unwrap();
    next(&mut scene.ear).await;
    let before = scene.here.status().refused_plain;
    let claim = |vibrator: &str| {
        format!(
            r#"[{{"vibrator":"{vibrator}","hears":[{{"pattern":"shop.*"}}],"floor":1.0,"effective_floor":1.0}}]"#
        )
    };
    let source = sender.source();
    let echo = format!(
        r#"[{{"of":"{source}/1","channel":"shop.load","reason":"shed","hint":"","by":"x","count":1}}]"#
    );
    let account = r#"{"process":"made-up@1","version":"1","uptime_ms":"1","every_ms":"1"}"#;
    let echo_subject = format!("aether-ask._aether.echo.{:x}", source.instance());
    let forged = [
        ("aether-ask._aether.vibrators", claim(&ear.to_string())),
        ("aether-ask._aether.vibrators", claim("made-up@5")),
        (&*echo_subject, echo),
        ("aether-ask._aether.accounts", account.to_owned()),
    ];
    for (subject, text) in &forged {
        // As text, and as a frame of somebody.
        scene.enemy.publish(subject, text.clone()).await;
        let frame = plain(9, None, &[Wave::from_bytes("any", text.clone()).unwrap()]);
        scene.enemy.publish(subject, frame).await;
    }
    scene.only_the_next_wave_arrives().await;
    // The sender's own announcements come after everything that was forged.
    sender.resonate_on("own").await.unwrap();
    within("the refusals", async {
        while scene.here.status().refused_plain < before + 8 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let weak = Wave::builder("shop.load").amplitude(0.01).build().unwrap();
    match sender.emit(weak).await {
        Ok(_) => {}
        Err(EmitError::BelowFloor { .. }) => panic!("a forged floor stopped a wave"),
        Err(error) => panic!("{error}"),
    }
    next(&mut scene.ear).await;
    assert!(futures::FutureExt::now_or_never(echoes.receive()).is_none());
    assert_eq!((echoes.implausible(), echoes.unknown(), scene.here.echo_ledger().refused), (0, 0, 0));
    assert!(roster.vibrators().len() <= present + 1 && roster.implausible() == 0);
    assert!(accounts.processes().iter().all(|known| known.account.process.name() != "made-up"));
    assert!(accounts.counts().by_reason().iter().all(|(_, count)| *count == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_answered_by_nobody_without_the_key_and_not_with_the_answer_to_another() {
    let mut scene = Scene::new().await;
    let emitter = scene.here.emitter("asker").unwrap();
    let ask = |text: &'static str| {
        let emitter = emitter.clone();
        tokio::spawn(
            async move { emitter.ask_within(Wave::builder("shop.price").text(text), PATIENCE).await },
        )
    };
    let first = ask("first");
    let question = next(&mut scene.ear).await;
    let asked = scene.enemy.overhear("aether-ask.shop.price").await;
    let reply = asked.reply.clone().unwrap();
    // Forged answers end no question: not as text, not as a frame, not as an error.
    let forged =
        plain(1, None, &[Wave::builder("shop.price").kind(Kind::Response).text("0").build().unwrap()]);
    for answer in [Bytes::from("0"), forged, asked.payload.clone(), Bytes::new()] {
        scene.enemy.publish(&reply, answer).await;
    }
    // The question repeated with another reply subject is not answered.
    let elsewhere = scene.enemy.client.publish_with_reply(
        asked.subject.clone(),
        "_INBOX.elsewhere",
        asked.payload.clone(),
    );
    elsewhere.await.unwrap();
    scene.enemy.fence().await;
    assert!(!first.is_finished());
    question.reply_bytes("1").await.unwrap();
    assert_eq!(within("the answer", first).await.unwrap().unwrap().text().unwrap(), "1");
    let answer = scene.enemy.overhear(&reply).await.payload;
    // The answer to the first question is none to the second.
    let second = ask("second");
    let question = next(&mut scene.ear).await;
    assert_eq!(question.text().unwrap(), "second", "the repeated question was refused");
    let reply = scene.enemy.overhear("aether-ask.shop.price").await.reply.unwrap();
    scene.enemy.publish(&reply, answer).await;
    scene.enemy.fence().await;
    question.reply_bytes("2").await.unwrap();
    assert_eq!(within("the answer", second).await.unwrap().unwrap().text().unwrap(), "2");
    let status = scene.here.status();
    assert_eq!(
        (status.refused_plain, status.refused_tampered, status.stray_answers),
        (3, 2, 0),
        "{status:?}"
    );
    assert_eq!(scene.there.status().refused_replayed, 1);
}

/// The broker may change the subject of an answer on its way, but not whose question it answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_sealed_for_the_asker_wherever_the_broker_sends_it() {
    let mut scene = Scene::new().await;
    let other = connect(&scene.server.url(), options(scene.keys.clone())).await;
    // A man in the middle: the question reaches the responder with another reply subject only.
    let mut middle = Vibrator::create("middle", &other).await.unwrap();
    middle.resonate_on("far.price").await.unwrap();
    let asker = scene.here.emitter("asker").unwrap();
    let pending =
        tokio::spawn(async move { asker.ask_within(Wave::builder("far.price").text("?"), PATIENCE).await });
    let question = next(&mut middle).await;
    let asked = scene.enemy.overhear("aether-ask.far.price").await;
    let late = connect(&scene.server.url(), options(scene.keys.clone())).await;
    let mut responder = Vibrator::create("responder", &late).await.unwrap();
    responder.resonate_on("far.price").await.unwrap();
    let bent =
        scene.enemy.client.publish_with_reply(asked.subject.clone(), "_INBOX.bent", asked.payload.clone());
    bent.await.unwrap();
    // New to this receiver and fresh, so it is taken. Its answer goes to `_INBOX.bent`, and is of no use there.
    next(&mut responder).await.reply_bytes("9").await.unwrap();
    let answer = scene.enemy.overhear("_INBOX.bent").await.payload;
    assert!(is_sealed(&answer));
    // Brought back to where the asker waits, it is the true answer.
    scene.enemy.publish(&asked.reply.unwrap(), answer).await;
    assert_eq!(within("the answer", pending).await.unwrap().unwrap().text().unwrap(), "9");
    drop(question);
}
