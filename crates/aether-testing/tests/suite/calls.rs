//! Handlers and extractors without a service.

use aether_core::{AskError, EmitError, Emitter, Kind, Wave};
use aether_service::{Asker, AskerError, Delivery, FromWave, Json, Rejection, State};
use aether_testing::{Call, call, extract};

/// An order id in the coherence key.
#[derive(Debug, PartialEq)]
struct OrderId(u32);

impl<S> FromWave<S> for OrderId {
    fn from_wave(delivery: &Delivery, _: &S) -> Result<Self, Rejection> {
        let key = delivery.wave().key().ok_or_else(|| Rejection::new("no order in the key"))?;
        key.parse().map(Self).map_err(|error| Rejection::caused_by("the key is not an order", error))
    }
}

fn order(key: &str) -> Wave {
    Wave::builder("orders.created").key(key).json(3).build().unwrap()
}

async fn price(
    OrderId(order): OrderId,
    State(each): State<u32>,
    Json(units): Json<u32>,
    emitter: Emitter,
) -> Result<Json<u32>, EmitError> {
    emitter.emit_wave("prices.asked", &order).await?;
    Ok(Json(each * units))
}

#[tokio::test]
async fn an_extractor_is_called_with_a_wave() {
    assert_eq!(extract::<OrderId, _>(order("17"), &()).await.unwrap(), OrderId(17));
    let rejection = extract::<OrderId, _>(order("x"), &()).await.unwrap_err();
    assert_eq!(rejection.to_string(), "the key is not an order");
}

#[tokio::test]
async fn a_handler_returns_its_value_and_what_it_emitted() {
    let called = Call::new(order("17")).state(100).run(price).await;
    assert_eq!(called.emitted.len(), 1);
    let asked = &called.emitted[0];
    assert_eq!((asked.channel().as_str(), asked.json::<u32>().unwrap()), ("prices.asked", 17));
    assert_eq!(asked.cause().unwrap().source.name(), "caller");
    assert_eq!(called.answer().unwrap().json::<u32>().unwrap(), 300);
}

#[tokio::test]
async fn a_wave_that_cannot_be_read_is_rejected_and_the_handler_is_not_called() {
    let wave = Wave::builder("orders.created").key("17").text("three").build().unwrap();
    let called = Call::new(wave).state(100).run(price).await;
    assert_eq!(called.returned.unwrap_err().to_string(), "the payload cannot be read");
    assert!(called.emitted.is_empty());
}

async fn reserve(Json(units): Json<u32>, asker: Asker) -> Result<u32, AskerError> {
    let question = Wave::builder("stock.reserve").kind(Kind::Query).json(units).build();
    let answer = asker.ask(question.unwrap()).await?;
    Ok(answer.json().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_asks_gets_the_answer_of_the_test() {
    let called = Call::new(order("1")).answer("stock.*", &7).run(reserve).await;
    assert_eq!(called.returned.unwrap().unwrap(), 7);
    assert_eq!(called.emitted[0].kind(), Kind::Query);

    let called = Call::new(order("1")).run(reserve).await;
    let error = called.returned.unwrap().unwrap_err();
    assert!(
        matches!(&error, AskerError::Deadline { .. })
            || matches!(&error, AskerError::Ask { source: AskError::NoResonator { .. }, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_handler_that_answers_by_hand_has_an_asker() {
    let question = Wave::builder("greet").kind(Kind::Query).text("Ada").build().unwrap();
    let called =
        call(async |wave: Wave| wave.reply(&format!("hello {}", wave.text().unwrap())).await, question).await;
    called.returned.unwrap().unwrap();
    assert_eq!(
        (called.emitted[0].kind(), called.emitted[0].json::<String>().unwrap()),
        (Kind::Response, "hello Ada".to_owned())
    );
}
