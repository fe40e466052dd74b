//! Questions about dead letters, answered by any service that was asked to.

use std::time::Duration;

use aether_conformance::NatsServer;
use aether_core::wave::EchoRequest;
use aether_core::{Aether, AskError, Durability, Emitter, FailureReason, Kind, Vibrator, Wave, WaveBuilder};
use aether_log::{ConsumerOptions, Log};
use aether_service::letters::{
    LetterAnswer, LetterFilter, LetterQuery, LetterRecord, MAX_SHOWN_PAYLOAD, channel_of, store_of,
    store_of_log,
};
use aether_service::{Service, ServiceError};

use crate::service::stage::{LONG, Stage};

/// Asks over the bus.
async fn ask(asker: &Emitter, store: u64, query: &LetterQuery) -> LetterAnswer {
    let question = Wave::builder(channel_of(store)).kind(Kind::Query).json(query).build().unwrap();
    asker.ask_within(question, LONG).await.unwrap().json().unwrap()
}

async fn page(asker: &Emitter, store: u64, filter: LetterFilter, after: u64) -> (Vec<LetterRecord>, bool) {
    match ask(asker, store, &LetterQuery::Ls { filter, after }).await {
        LetterAnswer::Letters { letters, more } => (letters, more),
        other => panic!("{other:?}"),
    }
}

/// A command that is kept at once, whoever listens.
fn order(channel: &str) -> WaveBuilder {
    Wave::builder(channel)
        .kind(Kind::Command)
        .key("17")
        .metadata("tenant", "blue")
        .echo(EchoRequest::told().letter())
}

async fn stock(aether: &Aether) -> Stage {
    let refuses = async || -> Result<(), std::io::Error> { Err(std::io::Error::other("no such lamp")) };
    let builder = Service::builder("stock").concurrency(1).on("orders.*", refuses).with_letters();
    Stage::run(aether, builder.build(aether).await.unwrap()).await
}

/// Fails at waves, and returns when all of them are letters.
async fn failed(
    stocks: &Aether,
    stage: &Stage,
    shop: &Emitter,
    waves: impl IntoIterator<Item = WaveBuilder>,
) {
    let before = stage.counters.report().failed;
    let emitted = shop.emit_all(waves.into_iter().map(|wave| wave.build().unwrap())).await.unwrap().emitted;
    let counted = async {
        while stage.counters.report().failed < before + emitted {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, counted).await.expect("the failures");
    assert!(stocks.dead_letters().counts().buried >= emitted);
}

async fn letters_are_answered_for(shops: Aether, stocks: Aether) {
    let stage = stock(&stocks).await;
    let shop = shops.emitter("shop").unwrap();
    let store = stocks.dead_letters().store();
    failed(&stocks, &stage, &shop, [order("orders.pay").text("a lamp"), order("orders.ship")]).await;
    let (letters, more) = page(&shop, store, LetterFilter::default(), 0).await;
    let channels: Vec<_> = letters.iter().map(|letter| letter.channel.as_str()).collect();
    assert_eq!((channels, more), (vec!["orders.pay", "orders.ship"], false));
    assert!(letters[0].payload.is_none() && letters[0].failed.is_empty(), "a list is short");

    let id = letters[0].id.clone();
    let LetterAnswer::Letter(shown) = ask(&shop, store, &LetterQuery::Show { id: id.clone() }).await else {
        panic!()
    };
    assert_eq!(
        (shown.payload.as_deref(), shown.content_type.as_deref()),
        (Some("YSBsYW1w"), Some("text/plain"))
    );
    assert_eq!((shown.metadata[0].1.as_str(), shown.failed[0].error.as_str()), ("blue", "no such lamp"));

    // Replayed, it fails again, and is a new letter whose id is another one.
    let LetterAnswer::Replayed { wave, .. } =
        ask(&shop, store, &LetterQuery::Replay { id: id.clone() }).await
    else {
        panic!("it is there")
    };
    let counted = async {
        while stage.counters.report().failed < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, counted).await.expect("the replayed wave fails as well");
    for query in [
        LetterQuery::Replay { id: id.clone() },
        LetterQuery::Drop { id: id.clone() },
        LetterQuery::Show { id },
    ] {
        let answer = ask(&shop, store, &query).await;
        assert!(
            matches!(&answer, LetterAnswer::Gone { hint, .. } if hint.contains("replayed")),
            "{answer:?}"
        );
    }
    let pays = LetterFilter { channel: Some("*.pay".to_owned()), ..LetterFilter::default() };
    let (letters, _) = page(&shop, store, pays, 0).await;
    assert_eq!((letters.len(), letters[0].attempts, letters[0].wave.as_str()), (1, 2, wave.as_str()));
    let dropped = ask(&shop, store, &LetterQuery::Drop { id: letters[0].id.clone() }).await;
    assert_eq!(dropped, LetterAnswer::Dropped { id: letters[0].id.clone() });
    assert_eq!(stocks.dead_letters().counts().kept, 1);
    stage.close().await;
    // A server ends the subscription a little later. Nobody answers the questions that it delivers until then.
    let nobody = async {
        loop {
            let question = Wave::builder(channel_of(store)).kind(Kind::Query).json(1).build().unwrap();
            match shop.ask_within(question, Duration::from_millis(100)).await {
                Err(AskError::NoResonator { .. }) => break,
                Err(AskError::TimedOut { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(LONG, nobody).await.expect("a server that knows of nobody");
}

#[tokio::test]
async fn letters_are_listed_shown_replayed_and_dropped_by_questions() {
    let aether = Aether::local();
    letters_are_answered_for(aether.clone(), aether).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_are_listed_shown_replayed_and_dropped_by_questions_over_nats() {
    let server = NatsServer::start().await.unwrap();
    let [shops, stocks] = [aether::connect(&server.url()).await, aether::connect(&server.url()).await];
    letters_are_answered_for(shops.unwrap(), stocks.unwrap()).await;
}

#[tokio::test]
async fn pages_are_bounded_and_complete_and_a_large_payload_is_left_out() {
    let aether = Aether::local();
    let stage = stock(&aether).await;
    let shop = aether.emitter("shop").unwrap();
    let large = order("orders.large").bytes(vec![7; MAX_SHOWN_PAYLOAD + 1]);
    failed(&aether, &stage, &shop, (0..300).map(|_| order("orders.pay")).chain([large])).await;
    let store = aether.dead_letters().store();
    let (mut ids, mut after, mut pages) = (Vec::new(), 0, 0);
    loop {
        let (letters, more) = page(&shop, store, LetterFilter::default(), after).await;
        assert!(letters.len() <= 128);
        ids.extend(letters.into_iter().map(|letter| letter.id));
        pages += 1;
        after = ids.last().unwrap().rsplit_once('-').unwrap().1.parse().unwrap();
        if !more {
            break;
        }
    }
    ids.dedup();
    assert_eq!((ids.len(), pages), (301, 3));
    let LetterAnswer::Letter(shown) = ask(&shop, store, &LetterQuery::Show { id: ids[300].clone() }).await
    else {
        panic!()
    };
    assert_eq!((shown.payload, shown.bytes), (None, MAX_SHOWN_PAYLOAD + 1));
    stage.close().await;
}

/// Replaying is not an own wave of the service, so a service without a group hears it.
#[tokio::test]
async fn a_service_hears_what_is_replayed_and_rejects_what_it_cannot_read() {
    let aether = Aether::local();
    let stage = stock(&aether).await;
    let store = aether.dead_letters().store();
    let user = Vibrator::create("operator", &aether).await.unwrap();
    for wrong in ["{\"op\":\"burn\"}", "{\"op\":\"ls\",\"channel\":\"a..b\"}", "1"] {
        let question =
            Wave::builder(channel_of(store)).kind(Kind::Query).bytes(wrong.to_owned()).build().unwrap();
        match user.ask_within(question, LONG).await {
            Err(AskError::Failed { source, .. }) => {
                assert_eq!(source.reason, FailureReason::Rejected, "{wrong}")
            }
            other => panic!("{other:?}"),
        }
    }
    for id in ["", "17", "1f-17", &format!("{store:x}-0"), &format!("{:x}-1", store ^ 1)] {
        let answer = ask(&user, store, &LetterQuery::Replay { id: id.to_owned() }).await;
        assert!(matches!(answer, LetterAnswer::Gone { .. }), "{id}: {answer:?}");
    }
    stage.close().await;
}

#[tokio::test]
async fn services_answer_only_when_asked_to_and_one_of_several_does() {
    let aether = Aether::local();
    let nothing = async || {};
    let silent = Service::builder("silent").on("a", nothing).build(&aether).await.unwrap();
    let store = aether.dead_letters().store();
    let shop = aether.emitter("shop").unwrap();
    let asked = shop.ask_wave(channel_of(store), &1).await;
    assert!(matches!(asked, Err(AskError::NoResonator { .. })), "{asked:?}");
    drop(silent);
    let alone =
        Stage::run(&aether, Service::builder("one").with_letters().build(&aether).await.unwrap()).await;
    let other = Service::builder("two").on("b", nothing).with_letters().build(&aether).await.unwrap();
    let other = Stage::run(&aether, other).await;
    // Rosters show who answers.
    let present = aether.roster().await.unwrap().vibrators();
    let stores: Vec<_> = present
        .iter()
        .filter(|vibrator| vibrator.heard.iter().any(|heard| store_of(heard.pattern.as_str()) == Some(store)))
        .map(|vibrator| vibrator.vibrator.name())
        .collect();
    assert_eq!(stores, ["one", "two"]);
    for _ in 0..4 {
        page(&shop, store, LetterFilter::default(), 0).await;
    }
    assert_eq!(alone.close().await.succeeded + other.close().await.succeeded, 4);
    let everything = Service::builder("all").on(">", nothing).with_letters().build(&aether).await;
    assert!(matches!(everything, Err(ServiceError::SeparateLimits { .. })));
}

/// Only Linux tells folders apart.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_durable_log_is_a_store_of_its_own_whose_letters_and_consumers_are_changed_by_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = Log::builder(&path).channels("orders.>", Durability::Stored).unwrap().open().unwrap();
    let aether = log.connect(aether::builder().url("local:")).await.unwrap();
    let stage = stock(&aether).await;
    let shop = aether.emitter("shop").unwrap();
    let once = ConsumerOptions::default().max_attempts(std::num::NonZeroU32::MIN);
    let billing = log.consumer("billing", "orders.>", once.pauses(Duration::ZERO, Duration::ZERO)).unwrap();
    for text in ["a lamp", "a chair", "a desk"] {
        shop.emit(Wave::builder("orders.pay").key("17").text(text).build().unwrap()).await.unwrap();
    }
    for _ in 0..2 {
        billing.receive().await.unwrap().nack("no ink");
    }
    // Giving up happens while the next one is waited for.
    let last = billing.receive().await.unwrap();
    let other = folder.path().join("by-another-path");
    std::os::unix::fs::symlink(&path, &other).unwrap();
    let store = store_of_log(&other).unwrap();
    assert_ne!(store, aether.dead_letters().store());

    let (letters, more) = page(&shop, store, LetterFilter::default(), 0).await;
    assert_eq!((letters.len(), more), (2, false));
    let lamp = &letters[0];
    assert_eq!(
        (lamp.reason.as_str(), lamp.by.as_str(), lamp.hint.as_str()),
        ("given_up", "billing", "no ink")
    );
    let LetterAnswer::Letter(shown) = ask(&shop, store, &LetterQuery::Show { id: lamp.id.clone() }).await
    else {
        panic!()
    };
    assert_eq!((shown.payload.as_deref(), shown.failed[0].error.as_str()), (Some("YSBsYW1w"), "no ink"));
    let replayed = ask(&shop, store, &LetterQuery::Replay { id: lamp.id.clone() }).await;
    assert!(matches!(replayed, LetterAnswer::Replayed { .. }), "{replayed:?}");
    assert_eq!(log.extent().last, 4, "it is stored again");
    let chair = letters[1].id.clone();
    let dropped = ask(&shop, store, &LetterQuery::Drop { id: chair.clone() }).await;
    assert_eq!(dropped, LetterAnswer::Dropped { id: chair.clone() });
    let gone = ask(&shop, store, &LetterQuery::Drop { id: chair }).await;
    assert!(matches!(gone, LetterAnswer::Gone { .. }), "{gone:?}");
    assert!(log.dead().is_empty());

    let forget = || LetterQuery::Forget { consumer: "billing".to_owned() };
    let used = ask(&shop, store, &forget()).await;
    assert!(matches!(&used, LetterAnswer::NotSent { hint, .. } if hint.contains("in use")), "{used:?}");
    drop((last, billing));
    let forgotten = ask(&shop, store, &forget()).await;
    assert_eq!(forgotten, LetterAnswer::Forgotten { consumer: "billing".to_owned() });
    assert!(!path.join("consumers/billing").exists());
    let again = ask(&shop, store, &forget()).await;
    assert!(matches!(again, LetterAnswer::Gone { .. }), "{again:?}");
    let none = ask(&shop, aether.dead_letters().store(), &forget()).await;
    assert!(matches!(none, LetterAnswer::Gone { .. }), "letters in memory have no consumers: {none:?}");
    stage.close().await;
}
