//! The arguments and the return values of handlers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aether_core::{Aether, AskError, Emitter, FailureReason, Wave, wave::ContentType};
use aether_service::{Answer, Delivery, FromWave, Json, Rejection, Service, State};
use futures_util::FutureExt;
use serde_json::{Value, json};

use crate::service::stage::{Stage, listener};

#[derive(Debug, thiserror::Error)]
#[error("the shelf is empty")]
struct Empty(#[source] std::io::Error);

/// A custom extractor.
struct Key(String);

impl<S> FromWave<S> for Key {
    fn from_wave(delivery: &Delivery, _: &S) -> Result<Self, Rejection> {
        let key = delivery.wave().key().ok_or_else(|| Rejection::new("a coherence key is needed"))?;
        Ok(Self(key.to_owned()))
    }
}

#[tokio::test]
async fn a_handler_gets_its_arguments() {
    async fn all(
        Key(key): Key,
        State(state): State<&'static str>,
        wave: Wave,
        emitter: Emitter,
        asker: aether_service::Asker,
        Json(payload): Json<Value>,
    ) -> Json<Value> {
        drop(asker);
        Json(json!([key, state, wave.channel().as_str(), emitter.source().name(), payload]))
    }
    let stage = Stage::of(Service::builder("service").state("state").on_query("a.b", all)).await;
    let question = Wave::builder("a.b").key("17").json(1).build().unwrap();
    let answer = stage.user.ask_within(question, crate::service::stage::LONG).await.unwrap();
    assert_eq!(answer.json::<Value>().unwrap(), json!(["17", "state", "a.b", "service", 1]));
    assert_eq!(answer.source().name(), "service");
    assert_eq!(
        stage.failure("a.b", &1).await,
        (FailureReason::Rejected, "a coherence key is needed".to_owned())
    );
    let report = stage.close().await;
    assert_eq!((report.succeeded, report.rejected), (1, 1));
}

#[tokio::test]
async fn the_value_of_a_query_handler_is_the_answer() {
    async fn json() -> Json<[u8; 2]> {
        Json([1, 2])
    }
    async fn text() -> Result<String, Empty> {
        Ok("text".to_owned())
    }
    async fn bytes() -> Vec<u8> {
        vec![0xFF]
    }
    async fn nothing() {}
    async fn made() -> Answer {
        Answer::wave(
            Wave::builder("anywhere").metadata("n", "v").content_type("application/cbor").amplitude(0.1),
        )
    }
    let builder = Service::builder("service")
        .on_query("json", json)
        .on_query("text", text)
        .on_query("bytes", bytes)
        .on_query("nothing", nothing)
        .on_query("made", made)
        .on_query("closure", async |Json(number): Json<u32>| Json(number + 1));
    let stage = Stage::of(builder).await;
    let ask = |channel: &'static str| {
        let stage = &stage;
        async move { stage.ask(channel, &1).await.unwrap() }
    };
    assert_eq!(ask("json").await.json::<Value>().unwrap(), json!([1, 2]));
    assert_eq!(ask("text").await.content_type(), &ContentType::Text);
    assert_eq!(ask("bytes").await.payload().as_ref(), [0xFF]);
    assert!(ask("nothing").await.payload().is_empty());
    assert_eq!(ask("closure").await.json::<u32>().unwrap(), 2);
    let made = ask("made").await;
    assert_eq!((made.channel().as_str(), made.metadata().value("n")), ("made", Some("v")));
    assert_eq!(made.amplitude(), aether_core::Amplitude::NORMAL, "the amplitude of the question");
    assert_eq!(stage.close().await.succeeded, 6);
}

#[tokio::test]
async fn failures_reach_the_asker_with_their_reason_and_are_counted_by_it() {
    async fn fails() -> Result<(), Empty> {
        Err(Empty(std::io::Error::other("no pallet")))
    }
    async fn refuses() -> Result<Json<()>, Rejection> {
        Err(Rejection::new("not on Sundays"))
    }
    async fn panics() -> String {
        panic!("out of {}", "ideas")
    }
    async fn unwritable() -> Json<std::collections::HashMap<(u8, u8), u8>> {
        Json([((1, 2), 3)].into())
    }
    let builder = Service::builder("service")
        .on("fails", fails)
        .on_query("refuses", refuses)
        .on_query("panics", panics)
        .on_query("typed", async |Json(number): Json<u32>| Json(number))
        .on_query("unwritable", unwritable);
    let stage = Stage::of(builder).await;
    use FailureReason::{HandlerFailed, Rejected};
    let told = async |channel: &str| stage.failure(channel, &"text").await;
    assert_eq!(told("fails").await, (HandlerFailed, "the shelf is empty: no pallet".to_owned()));
    assert_eq!(told("refuses").await, (Rejected, "not on Sundays".to_owned()));
    assert_eq!(told("panics").await, (HandlerFailed, "panicked: out of ideas".to_owned()));
    let (reason, hint) = told("typed").await;
    assert_eq!(reason, Rejected);
    assert!(
        hint.starts_with("the payload cannot be read: ") && hint.contains("invalid type: string"),
        "{hint}"
    );
    let (reason, hint) = told("unwritable").await;
    assert_eq!(reason, HandlerFailed);
    assert!(hint.contains("cannot be written as JSON"), "{hint}");
    // The service still works.
    assert_eq!(stage.ask("typed", &17).await.unwrap().json::<u32>().unwrap(), 17);
    let report = stage.close().await;
    assert_eq!((report.received, report.succeeded, report.failed), (6, 1, 2));
    assert_eq!((report.rejected, report.panicked), (2, 1));
}

#[tokio::test]
async fn waves_that_expect_no_answer_are_handled_in_the_same_way() {
    async fn sum(
        State(sum): State<Arc<AtomicU32>>,
        Json(number): Json<u32>,
        emitter: Emitter,
    ) -> Result<Json<u32>, aether_core::EmitError> {
        let sum = sum.fetch_add(number, Ordering::Relaxed) + number;
        emitter.emit_wave("sum", &sum).await?;
        Ok(Json(sum))
    }
    let aether = Aether::local();
    let mut listener = listener(&aether, "sum").await;
    let builder = Service::builder("service").state(Arc::new(AtomicU32::new(0))).on_query("add", sum);
    let stage = Stage::on(aether, builder).await;
    stage.emit("add", &2).await;
    assert_eq!(listener.receive().await.unwrap().json::<u32>().unwrap(), 2);
    stage.emit("add", &"two").await;
    assert_eq!(stage.ask("add", &3).await.unwrap().json::<u32>().unwrap(), 5);
    let report = stage.close().await;
    assert_eq!((report.received, report.succeeded, report.rejected), (3, 2, 1));
}

#[tokio::test]
async fn the_first_pattern_counts_and_state_holds_for_what_comes_after_it() {
    async fn number(State(number): State<u32>) -> Json<u32> {
        Json(number)
    }
    async fn word(State(word): State<&'static str>) -> Json<&'static str> {
        Json(word)
    }
    let builder = Service::builder("service")
        .state(1)
        .on_query("a.special", number)
        .state("other")
        .on_query("a.*", word)
        .state(2)
        .on_query("a.>", number);
    let stage = Stage::of(builder).await;
    for (channel, answer) in [("a.special", json!(1)), ("a.b", json!("other")), ("a.b.c", json!(2))] {
        assert_eq!(stage.ask(channel, &()).await.unwrap().json::<Value>().unwrap(), answer, "{channel}");
    }
    assert_eq!(stage.close().await.received, 3);
}

#[tokio::test]
async fn instances_of_a_group_share_its_waves_and_all_receive_the_others() {
    let aether = Aether::local();
    let mut heard = listener(&aether, "heard.>").await;
    let builder = |name: &'static str| {
        let tell = |channel: &'static str| {
            move |emitter: Emitter, wave: Wave| async move {
                let told = Wave::builder(channel).bytes(wave.payload().clone()).build()?;
                emitter.emit(told).await.map(drop)
            }
        };
        Service::builder(name).on("news", tell("heard.news")).group("workers").on("work", tell("heard.work"))
    };
    let one = Stage::on(aether.clone(), builder("one")).await;
    let two = Stage::on(aether.clone(), builder("two")).await;
    for number in 0..10 {
        one.emit("work", &number).await;
    }
    one.emit("news", &"!").await;
    let mut by = std::collections::BTreeMap::new();
    for _ in 0..12 {
        let wave = heard.receive().await.unwrap();
        *by.entry((wave.channel().to_string(), wave.source().name().to_owned())).or_insert(0) += 1;
    }
    let count = |channel: &str, name: &str| by[&(channel.to_owned(), name.to_owned())];
    assert_eq!((count("heard.work", "one"), count("heard.work", "two")), (5, 5));
    assert_eq!((count("heard.news", "one"), count("heard.news", "two")), (1, 1));
    assert_eq!(one.close().await.succeeded + two.close().await.succeeded, 12);
}

#[tokio::test]
async fn a_handler_may_accept_unreadable_payloads_and_answer_by_itself() {
    async fn lenient(
        number: Result<Json<u32>, Rejection>,
        wave: Wave,
    ) -> Result<(), aether_core::wave::ReplyError> {
        wave.reply(&number.map_or(0, |number| *number)).await
    }
    async fn silent() {}
    let stage = Stage::of(Service::builder("service").on("lenient", lenient).on("silent", silent)).await;
    assert_eq!(stage.ask("lenient", &"text").await.unwrap().json::<u32>().unwrap(), 0);
    let error = stage.ask("silent", &1).await.unwrap_err();
    assert!(matches!(error, AskError::Unanswered { .. }), "{error}");
    assert_eq!(stage.close().await.succeeded, 2);
}

#[tokio::test]
async fn a_command_that_was_not_handled_comes_back_to_its_source() {
    async fn fails() -> Result<(), Empty> {
        Err(Empty(std::io::Error::other("no stock")))
    }
    let stage = Stage::of(Service::builder("service").on("a.b", fails)).await;
    let mut echoes = stage.user.echoes().await.unwrap();
    let command = Wave::builder("a.b").kind(aether_core::Kind::Command).json(1).build().unwrap();
    let receipt = stage.user.emit(command).await.unwrap();
    // A failed event has no echo, so the first echo belongs to the command.
    stage.emit("a.b", &2).await;
    let echo = echoes.receive().await.unwrap();
    assert_eq!(echo.of, stage.user.id_of(&receipt));
    assert_eq!(echo.reason, aether_core::EchoReason::HandlerFailed);
    assert_eq!(echo.hint, "the shelf is empty: no stock");
    while stage.counters.report().failed < 2 {
        tokio::task::yield_now().await;
    }
    let report = stage.close().await;
    assert_eq!(report.failed, 2);
    assert!(echoes.receive().now_or_never().is_none(), "an event came back");
}
