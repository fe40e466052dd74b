//! The medium over a network that is not Zenoh.

use std::sync::Arc;
use std::time::Duration;

use aether_core::clock::{follow_tokio, since, test_now};
use aether_core::{Aether, FlushError, Vibrator, Wave};
use aether_lan::{LanError, LanNetwork, LanOptions, LanProcess, LanSession};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};

use crate::memory::{Memory, connect};

/// The lane of waves of normal amplitude.
const WAVES: u8 = 4;

async fn ear(name: &str, aether: &Aether) -> Vibrator {
    let ear = Vibrator::create(name, aether).await.unwrap();
    ear.resonate_on("said.*").await.unwrap();
    ear
}

/// The payloads that are heard until nothing comes for a while.
async fn heard(ear: &mut Vibrator) -> Vec<String> {
    let mut heard = Vec::new();
    while let Ok(Some(wave)) = tokio::time::timeout(Duration::from_secs(1), ear.receive()).await {
        heard.push(String::from_utf8_lossy(wave.payload()).into_owned());
    }
    heard
}

#[tokio::test(start_paused = true)]
async fn processes_see_each_other_and_hear_what_is_emitted() {
    follow_tokio();
    let memory = Memory::default();
    let (one, view) = memory.connect_with_view("one").await;
    let began = test_now();
    let (two, three) = (memory.connect("two").await, memory.connect("three").await);
    assert_eq!(since(began), Duration::ZERO, "they wait for nobody");
    let names: Vec<_> = view.peers().into_iter().map(|peer| peer.name).collect();
    assert_eq!(names, ["three", "two"]);
    let around = view.surroundings().await.unwrap();
    assert_eq!((around.peers, around.routers, around.same_secret), (2, 0, 3));

    let (mut second, mut third) = (ear("second", &two).await, ear("third", &three).await);
    let emitter = one.emitter("first").unwrap();
    let expected: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    for number in &expected {
        emitter.emit_bytes("said.number", number.clone()).await.unwrap();
    }
    one.flush().await.unwrap();
    assert_eq!((heard(&mut second).await, heard(&mut third).await), (expected.clone(), expected));

    two.close().await.unwrap();
    let names: Vec<_> = view.peers().into_iter().map(|peer| peer.name).collect();
    assert_eq!(names, ["three"]);
    emitter.emit_bytes("said.last", "last").await.unwrap();
    one.flush().await.unwrap();
    assert_eq!(heard(&mut third).await, ["last"]);
    assert_eq!((one.status().unconfirmed, three.status().lost_upstream), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn members_of_a_group_in_several_processes_share_the_waves() {
    follow_tokio();
    let memory = Memory::default();
    let [one, two, three] = [memory.connect("1").await, memory.connect("2").await, memory.connect("3").await];
    let mut members = Vec::new();
    for aether in [&two, &three] {
        let member = Vibrator::create("member", aether).await.unwrap();
        member.resonate_in_group("said.*", "group").await.unwrap();
        members.push(member);
    }
    let emitter = one.emitter("first").unwrap();
    for number in 0..100 {
        emitter.emit_bytes("said.number", number.to_string()).await.unwrap();
    }
    one.flush().await.unwrap();
    let (second, third) = (heard(&mut members[0]).await, heard(&mut members[1]).await);
    assert!(second.len() > 20 && third.len() > 20, "{} {}", second.len(), third.len());
    let mut all: Vec<usize> = second.iter().chain(&third).map(|number| number.parse().unwrap()).collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..100));
}

#[tokio::test(start_paused = true)]
async fn a_question_is_answered_by_another_process() {
    follow_tokio();
    let memory = Memory::default();
    let (one, two) = (memory.connect("one").await, memory.connect("two").await);
    let mut ear = ear("second", &two).await;
    let asker = one.emitter("first").unwrap();
    let (answer, ()) = tokio::join!(asker.ask(Wave::builder("said.question").bytes("why")), async {
        let question = ear.receive().await.unwrap();
        question.reply("because").await.unwrap();
    });
    assert_eq!(answer.unwrap().json::<String>().unwrap(), "because");
}

#[tokio::test(start_paused = true)]
async fn a_secret_seals_what_is_sent_over_another_network_too() {
    follow_tokio();
    let memory = Memory::default();
    let with = |secret: &str| memory.options().insecure(false).secret(secret);
    let (one, two) = (
        connect(with("five words that nobody knows")).await.unwrap(),
        connect(with("five words that nobody knows")).await.unwrap(),
    );
    let mut ear = ear("second", &two).await;
    memory.lose(|sent| {
        assert!(!sent.bytes.windows(6).any(|bytes| bytes == b"secret"));
        false
    });
    one.emitter("first").unwrap().emit_bytes("said.plain", "secret").await.unwrap();
    one.flush().await.unwrap();
    assert_eq!(heard(&mut ear).await, ["secret"]);
}

#[tokio::test(start_paused = true)]
async fn lost_messages_are_counted_by_both_sides() {
    follow_tokio();
    let memory = Memory::default();
    let (one, two) = (memory.connect("one").await, memory.connect("two").await);
    let mut ear = ear("second", &two).await;
    let emitter = one.emitter("first").unwrap();
    let mut number = 0;
    memory.lose(move |sent| {
        number += usize::from(sent.lane == WAVES);
        sent.lane == WAVES && number % 3 == 0
    });
    for number in 0..100 {
        emitter.emit_bytes("said.number", number.to_string()).await.unwrap();
        // Each in a message of its own.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let flushed = one.flush().await;
    memory.heal();
    emitter.emit_bytes("said.number", "last").await.unwrap();
    one.flush().await.unwrap();
    let received = heard(&mut ear).await.len() as u64;
    let (here, there) = (one.status(), two.status());
    assert!(matches!(flushed, Err(FlushError::Unconfirmed { .. })), "{flushed:?}");
    assert_eq!(101 - received, 33);
    assert_eq!((here.unconfirmed, here.in_flight, there.lost_upstream), (33, 0, 33));
    assert_eq!(ear.ledger().lost_upstream, 33);
}

#[tokio::test(start_paused = true)]
async fn a_network_that_cannot_be_entered_is_an_error_with_its_reason() {
    #[derive(Debug)]
    struct Broken;

    impl LanNetwork for Broken {
        fn enter(&self, _: LanProcess) -> BoxFuture<'static, Result<Box<dyn LanSession>, LanError>> {
            ready(Err(LanError::Network { step: "it is broken", source: "a fuse".into() })).boxed()
        }
    }

    follow_tokio();
    let options = LanOptions::default().insecure(true).network(Arc::new(Broken));
    let error = connect(options).await.unwrap_err();
    assert!(format!("{error:?}").contains("it is broken"), "{error:?}");
}
