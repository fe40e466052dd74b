//! Waves lost between two ends of a NATS server are counted exactly, whatever happens to the server.

use std::time::{Duration, Instant};

use aether::nats::{NatsOptions, Wire};
use aether::seal::SealKeys;
use aether_conformance::NatsServer;
use aether_core::{Aether, AskError, Channel, InboxOptions, Vibrator, Wave};
use aether_link::wire;
use aether_link::wire::{Position, Sender};
use futures::{FutureExt, StreamExt};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::proxy::Proxy;
use crate::settling::flushed;

const PATIENCE: Duration = Duration::from_secs(60);

fn numbered(channel: &str, number: u64) -> Wave {
    Wave::builder(channel).never_decays().text(number.to_string()).build().unwrap()
}

async fn ear(name: &str, aether: &Aether, pattern: &str) -> Vibrator {
    let ear = Vibrator::builder(name).inbox(InboxOptions::interactive().max_waves(1 << 20)).create(aether);
    let ear = ear.await.unwrap();
    ear.resonate_on(pattern).await.unwrap();
    ear
}

async fn next(ear: &mut Vibrator) -> Wave {
    timeout(PATIENCE, ear.receive()).await.expect("a wave in time").expect("a wave")
}

/// Receives until a wave with this text arrives.
async fn hear(ear: &mut Vibrator, text: &str) {
    while next(ear).await.text().unwrap() != text {}
}

/// Waits until the end is connected, by receiving its own wave.
async fn connected(aether: &Aether) {
    let mut probe = Vibrator::builder("probe").hear_own(true).create(aether).await.unwrap();
    let channel = format!("probe.{:x}", probe.source().instance());
    probe.resonate_on(&*channel).await.unwrap();
    probe.emit(numbered(&channel, 0)).await.unwrap();
    next(&mut probe).await;
}

async fn killed_in_the_middle(wire: Wire) {
    let mut server = NatsServer::start().await.unwrap();
    let connect = || aether::builder().url(server.url()).options(NatsOptions::default().wire(wire)).connect();
    let (here, there) = (connect().await.unwrap(), connect().await.unwrap());
    let (mut wide, mut narrow) = (ear("wide", &there, "gaps.>").await, ear("narrow", &there, "gaps.*").await);
    let emitter = Vibrator::create("emitter", &here).await.unwrap().emitter();
    // Without an end, because thousands of waves may be lost while the receiver reconnects.
    let (stop, stopped) = oneshot::channel();
    let emitting = tokio::spawn(async move {
        let mut emitted = 0;
        while stopped.is_empty() {
            emitter.emit(numbered("gaps.events", emitted)).await.unwrap();
            emitted += 1;
        }
        (emitter, emitted)
    });
    for _ in 0..3 {
        // The server is killed with what it buffers for either side, while waves are in flight.
        for _ in 0..5_000 {
            next(&mut wide).await;
        }
        server.kill().await.unwrap();
        server.restart().await.unwrap();
    }
    stop.send(()).unwrap();
    let (emitter, emitted) = emitting.await.unwrap();
    connected(&here).await;
    connected(&there).await;
    emitter.emit(numbered("gaps.events", emitted)).await.unwrap();
    let mut lost = 0;
    for ear in [&mut wide, &mut narrow] {
        hear(ear, &emitted.to_string()).await;
        let (ledger, outbox) = (ear.ledger(), here.status().outbox);
        // With the probe, which the receivers do not match.
        assert_eq!(ledger.offered + 1, outbox.delivered, "{ledger:?} {outbox:?}");
        assert_eq!(outbox.delivered + outbox.shed_full, emitted + 2, "{outbox:?}");
        assert_eq!(ledger.offered, ledger.delivered + ledger.lost_upstream, "{ledger:?}");
        lost += ledger.lost_upstream;
    }
    assert!(there.status().lost_upstream >= lost, "{:?}", there.status());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_wave_is_accounted_for_when_the_server_is_killed() {
    killed_in_the_middle(Wire::Frames).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_cloud_event_is_accounted_for_when_the_server_is_killed() {
    killed_in_the_middle(Wire::CloudEvents).await;
}

/// A receiver that is disconnected while waves are sent, and the sender.
struct Away {
    /// Between the server and the receiver.
    proxy: Proxy,
    /// Between the sender and the server.
    senders: Proxy,
    here: Aether,
    there: Aether,
    emitter: Vibrator,
    server: NatsServer,
}

impl Away {
    async fn new() -> Self {
        Self::with([NatsOptions::default(), NatsOptions::default()]).await
    }

    /// With these options of the sender and of the receiver.
    async fn with([senders_options, options]: [NatsOptions; 2]) -> Self {
        let server = NatsServer::start().await.unwrap();
        let proxy = Proxy::new(server.port()).await.unwrap();
        let senders = Proxy::new(server.port()).await.unwrap();
        let connect = |url: String, options| aether::builder().url(url).options(options).connect();
        let here = connect(senders.url(), senders_options).await.unwrap();
        let there = connect(proxy.url(), options).await.unwrap();
        let emitter = Vibrator::create("emitter", &here).await.unwrap();
        Self { proxy, senders, here, there, emitter, server }
    }

    async fn emit(&self, channel: &str, waves: u64) {
        for number in 0..waves {
            self.emitter.emit(numbered(channel, number)).await.unwrap();
        }
        flushed(&self.here).await;
    }

    async fn misses(&self, channel: &str, waves: u64) {
        // Everything sent before has arrived: the server answers behind it.
        flushed(&self.there).await;
        self.proxy.cut().await;
        self.emit(channel, waves).await;
        self.proxy.mend();
        connected(&self.there).await;
    }

    /// Waits until the sender has answered the joins so far, and the receiver has the answers. A server processes the
    /// messages of one client in order, and so each flush ends behind everything that was sent before it.
    async fn answered(&self) {
        for end in [&self.there, &self.here, &self.here, &self.there, &self.there] {
            flushed(end).await;
        }
    }

    /// On a channel of its own, so that it reveals no gap itself. It arrives after everything sent before.
    async fn mark(&self, ears: &mut [&mut Vibrator]) {
        self.emitter.emit(numbered("gaps.mark", 0)).await.unwrap();
        for ear in ears {
            while next(ear).await.channel().as_str() != "gaps.mark" {}
        }
    }
}

#[tokio::test]
async fn a_loss_at_the_very_end_is_detected_by_an_announcement() {
    let site = Away::new().await;
    let mut ear = ear("ear", &site.there, "gaps.*").await;
    site.emit("gaps.events", 10).await;
    let began = Instant::now();
    site.misses("gaps.events", 100).await;
    site.mark(&mut [&mut ear]).await;
    let lost = ear.ledger().lost_upstream;
    // After a second the sender announces the quiet channel.
    if began.elapsed() < Duration::from_secs(1) {
        assert_eq!(lost, 0, "the loss is not detected yet");
    }
    // On reconnecting, the sender announces its position.
    site.senders.cut().await;
    site.senders.mend();
    connected(&site.here).await;
    site.mark(&mut [&mut ear]).await;
    let ledger = ear.ledger();
    assert_eq!((ledger.offered, ledger.lost_upstream), (112, 100), "{ledger:?}");
    assert_eq!(site.there.status().lost_upstream, 100);
}

#[tokio::test]
async fn a_channel_that_has_gone_quiet_is_announced() {
    let site = Away::new().await;
    let raw = async_nats::connect(site.server.url()).await.unwrap();
    let mut frames = raw.subscribe("aether.quiet").await.unwrap();
    // A server processes a client's messages in order: once it reports that this has no receiver, it has the
    // subscription.
    raw.request("nobody.hears.this", "".into()).await.unwrap_err();
    for number in 0..3 {
        site.emitter.emit(numbered("quiet", number)).await.unwrap();
    }
    let channel = Channel::new("quiet").unwrap();
    let mut sent = 0;
    loop {
        let message = timeout(PATIENCE, frames.next()).await.expect("an announcement").unwrap();
        let frame =
            wire::decode(&message.payload, Some(&channel), Instant::now(), |_| Duration::ZERO).unwrap();
        let position = frame.position.unwrap();
        assert_eq!((position.stream, position.first), (0, sent));
        sent += frame.waves.len() as u64;
        // On a busy machine a second may pass between two of the waves.
        if frame.waves.is_empty() && sent == 3 {
            break assert!(position.age_micros >= 1_000_000, "{position:?}");
        }
    }
}

#[tokio::test]
async fn a_receiver_that_joined_after_a_loss_missed_nothing() {
    let site = Away::new().await;
    let mut early = ear("early", &site.there, "gaps.*").await;
    site.emit("gaps.events", 10).await;
    site.misses("gaps.events", 100).await;
    // With the same subscription at the server, with one of its own, and as a group member, whose losses are unknown.
    let (mut same, mut other) =
        (ear("same", &site.there, "gaps.*").await, ear("other", &site.there, "gaps.>").await);
    let mut member = Vibrator::create("member", &site.there).await.unwrap();
    member.resonate_in_group("gaps.*", "group").await.unwrap();
    site.emit("gaps.events", 1).await;
    site.mark(&mut [&mut early, &mut same, &mut other, &mut member]).await;
    assert_eq!(accounts([&early, &same, &other, &member]), [(112, 100), (2, 0), (2, 0), (2, 0)]);
    assert_eq!(site.there.status().lost_upstream, 100);
}

fn accounts<const N: usize>(ears: [&Vibrator; N]) -> [(u64, u64); N] {
    ears.map(|ear| (ear.ledger().offered, ear.ledger().lost_upstream))
}

#[tokio::test]
async fn the_loss_of_a_channels_first_waves_is_counted_at_those_who_had_just_joined() {
    let site = Away::new().await;
    let mut first = ear("first", &site.there, "gaps.*").await;
    site.answered().await;
    site.misses("gaps.one", 1000).await;
    // With the same subscription at the server, and with one of its own. The first waves were sent before they joined.
    let (mut same, mut other) =
        (ear("same", &site.there, "gaps.*").await, ear("other", &site.there, "gaps.>").await);
    site.answered().await;
    site.misses("gaps.two", 100).await;
    for channel in ["gaps.one", "gaps.two"] {
        site.emit(channel, 1).await;
    }
    site.mark(&mut [&mut first, &mut same, &mut other]).await;
    assert_eq!(accounts([&first, &same, &other]), [(1103, 1100), (103, 100), (103, 100)]);
    assert_eq!(site.there.status().lost_upstream, 1200);
}

async fn first_waves_lost(options: [NatsOptions; 2]) {
    let site = Away::with(options).await;
    let mut ear = ear("ear", &site.there, "gaps.*").await;
    site.answered().await;
    site.misses("gaps.events", 1000).await;
    site.emit("gaps.events", 1).await;
    site.mark(&mut [&mut ear]).await;
    assert_eq!(accounts([&ear]), [(1002, 1000)]);
}

#[tokio::test]
async fn the_loss_of_the_first_cloud_events_is_counted_at_those_who_had_just_joined() {
    first_waves_lost([NatsOptions::default().wire(Wire::CloudEvents), NatsOptions::default()]).await;
}

#[tokio::test]
async fn the_loss_of_the_first_sealed_waves_is_counted_at_those_who_had_just_joined() {
    let keys = SealKeys::generate().unwrap();
    first_waves_lost([NatsOptions::default().keys(keys.clone()), NatsOptions::default().keys(keys)]).await;
}

#[tokio::test]
async fn losses_are_counted_at_those_who_joined_since_the_last_wave_of_a_channel() {
    let site = Away::new().await;
    let mut early = ear("early", &site.there, "gaps.*").await;
    site.emit("gaps.events", 10).await;
    // A wave that comes after a join is for those who joined, whenever it was sent.
    hear(&mut early, "9").await;
    // With the same subscription at the server, and with one of its own.
    let (mut same, mut other) =
        (ear("same", &site.there, "gaps.*").await, ear("other", &site.there, "gaps.>").await);
    site.answered().await;
    site.misses("gaps.events", 1000).await;
    site.emit("gaps.events", 1).await;
    site.mark(&mut [&mut early, &mut same, &mut other]).await;
    assert_eq!(accounts([&early, &same, &other]), [(1012, 1000), (1002, 1000), (1002, 1000)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_join_in_the_middle_of_traffic_have_lost_nothing() {
    let site = Away::new().await;
    let emitter = site.emitter.emitter();
    let (stop, stopped) = oneshot::channel();
    let emitting = tokio::spawn(async move {
        let mut emitted = 0;
        while stopped.is_empty() {
            // A channel in use, and ones that begin as others join.
            for channel in ["gaps.events".to_owned(), format!("gaps.young{}", emitted / 256)] {
                emitter.emit(numbered(&channel, emitted)).await.unwrap();
            }
            emitted += 1;
            tokio::task::yield_now().await;
        }
    });
    let mut ears = Vec::new();
    for count in 0..60 {
        let mut ear = ear("ear", &site.there, ["gaps.*", "gaps.>", "*.*"][count % 3]).await;
        next(&mut ear).await;
        ears.push(ear);
        // Then the next one is the first again.
        if count % 20 == 19 {
            ears.clear();
        }
    }
    ears.push(ear("ear", &site.there, "gaps.*").await);
    stop.send(()).unwrap();
    emitting.await.unwrap();
    site.mark(&mut ears.iter_mut().collect::<Vec<_>>()).await;
    let status = site.there.status();
    assert_eq!((status.lost_upstream, status.implausible), (0, 0), "{status:?}");
}

/// As another process would do it. Nothing proves a notice, so a client may send any number of them.
#[tokio::test]
async fn a_join_is_told_to_all_senders_and_they_answer_it_within_bounds() {
    let site = Away::new().await;
    let raw = async_nats::connect(site.server.url()).await.unwrap();
    let subscribe = |subject: &'static str| raw.subscribe(subject);
    let mut notices = subscribe("aether-ask._aether.joins").await.unwrap();
    let mut answers = subscribe("aether-ask._aether.joins.2a").await.unwrap();
    let mut frames = subscribe("aether.gaps.events").await.unwrap();
    // In force, as in the test above.
    raw.request("nobody.hears.this", "".into()).await.unwrap_err();
    site.emit("gaps.events", 3).await;

    // Members of groups lose nothing that is counted.
    let member = Vibrator::create("member", &site.there).await.unwrap();
    member.resonate_in_group("gaps.>", "group").await.unwrap();
    let mut ear = ear("ear", &site.there, "gaps.*").await;
    let channel = Channel::new("any").unwrap();
    let opened = |message: async_nats::Message| {
        wire::decode(&message.payload, Some(&channel), Instant::now(), |_| Duration::ZERO)
    };
    let notice = opened(timeout(PATIENCE, notices.next()).await.expect("a notice").unwrap()).unwrap();
    let notice: serde_json::Value = notice.waves[0].json().unwrap();
    assert!(notice["pattern"] == "gaps.*" && notice["at"].as_u64().is_some_and(|at| at > 0), "{notice}");

    let notice = |pattern: &str| {
        let wave = Wave::from_bytes("any", format!(r#"{{"pattern":"{pattern}","at":17}}"#)).unwrap();
        let frame = wire::encode(Sender { node: 0x2a, sent_micros: 0 }, None, &[wave], Instant::now());
        raw.publish("aether-ask._aether.joins", frame.unwrap())
    };
    notice("*.events").await.unwrap();
    let mut positions = Vec::new();
    for _ in ["here", "there"] {
        let answer = opened(timeout(PATIENCE, answers.next()).await.expect("an answer").unwrap()).unwrap();
        assert!(answer.waves.is_empty());
        let Position { stream, first, age_micros } = answer.position.unwrap();
        positions.push((stream, first, age_micros));
    }
    positions.sort_unstable();
    assert_eq!(positions, [(0, 17, 0), (1, 17, 0)], "one of them has begun a stream");
    // At the flush, for the join, and for that notice; each comes before its answer.
    let announced =
        std::iter::from_fn(|| frames.next().now_or_never().flatten()).map(|frame| opened(frame).unwrap());
    let announced: Vec<_> = announced.filter(|frame| frame.waves.is_empty()).collect();
    assert!(announced.len() >= 3 && announced.iter().all(|frame| frame.position.unwrap().first == 3));

    drop(notices);
    let began = Instant::now();
    for _ in 0..20_000 {
        notice("*.events").await.unwrap();
        raw.publish("aether-ask._aether.joins", "no frame".into()).await.unwrap();
    }
    raw.flush().await.unwrap();
    site.answered().await;
    site.emit("gaps.events", 1).await;
    site.mark(&mut [&mut ear]).await;
    raw.flush().await.unwrap();
    let answered = std::iter::from_fn(|| answers.next().now_or_never().flatten()).count() as u64;
    let most = 2 * (8192 / 4 + (began.elapsed().as_secs() + 1) * 1024 / 4);
    assert!(answered > 0 && answered <= most, "{answered} of at most {most}");
    assert_eq!(accounts([&ear]), [(2, 0)]);
}

#[tokio::test]
async fn an_overloaded_receiver_that_also_loses_waves_accounts_for_each() {
    let site = Away::new().await;
    let inbox = InboxOptions::overload().max_waves(16).sojourn_cap(None);
    let mut ear = Vibrator::builder("ear").inbox(inbox).create(&site.there).await.unwrap();
    ear.resonate_on("gaps.*").await.unwrap();
    site.emit("gaps.events", 1000).await;
    connected(&site.there).await;
    site.misses("gaps.events", 500).await;
    site.emit("gaps.events", 1000).await;
    // Stronger than what is queued, so that it is not shed.
    let strong = Wave::builder("gaps.mark").amplitude(0.9).never_decays().text("strong").build().unwrap();
    site.emitter.emit(strong).await.unwrap();
    hear(&mut ear, "strong").await;
    let ledger = ear.ledger();
    assert_eq!((ledger.offered, ledger.lost_upstream), (2501, 500), "{ledger:?}");
    assert_eq!(ledger.offered, ledger.delivered + ledger.shed_full + ledger.lost_upstream + ledger.queued);
    assert_eq!(ledger.offered, site.here.status().outbox.delivered);
}

#[tokio::test]
async fn at_rest_the_client_holds_no_message() {
    let site = Away::new().await;
    let mut ear = ear("ear", &site.there, "gaps.*").await;
    site.emit("gaps.events", 500).await;
    site.mark(&mut [&mut ear]).await;
    let ask = site.emitter.ask_within(numbered("gaps.ask", 17), PATIENCE);
    let answer = async { next(&mut ear).await.reply(&18).await.unwrap() };
    let (answered, ()) = tokio::join!(ask, answer);
    assert_eq!(answered.unwrap().json::<u64>().unwrap(), 18);
    let nobody = site.emitter.ask_within(numbered("nobody", 0), PATIENCE).await;
    assert!(matches!(nobody, Err(AskError::NoResonator { .. })), "{nobody:?}");
    flushed(&site.there).await;
    // A message may have come just now.
    let at_rest = async {
        while (site.here.status().untaken, site.there.status().untaken) != (0, 0) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, at_rest).await.expect("all messages are taken");
}

#[tokio::test]
async fn a_receiver_that_joined_during_an_outage_missed_nothing_sent_before_it() {
    let server = NatsServer::start().await.unwrap();
    let proxy = Proxy::new(server.port()).await.unwrap();
    let (here, there) =
        (aether::connect(&proxy.url()).await.unwrap(), aether::connect(&server.url()).await.unwrap());
    let emitter = Vibrator::create("emitter", &here).await.unwrap();
    let mut early = ear("early", &there, "outage").await;
    for number in 0..10 {
        emitter.emit(numbered("outage", number)).await.unwrap();
    }
    hear(&mut early, "9").await;
    proxy.cut().await;
    // The sending task is asked to announce, and waits for the connection to do so.
    here.flush().await.unwrap_err();
    let elsewhere = aether::connect(&server.url()).await.unwrap();
    let mut late = ear("late", &elsewhere, "outage").await;
    // The duration matters: longer than the uncertainty about when a stream began.
    tokio::time::sleep(Duration::from_secs(2)).await;
    proxy.mend();
    emitter.emit(numbered("outage", 10)).await.unwrap();
    hear(&mut late, "10").await;
    assert_eq!(late.ledger().lost_upstream, 0, "{:?}", late.ledger());
}
