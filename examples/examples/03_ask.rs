//! Questions and answers, and what happens without an answer.
//!
//! `ask` waits for the first answer. A question without a receiver fails at once instead of after a time-out, so the
//! asker can distinguish a missing service from a slow one.
//!
//! `cargo run -p aether-examples --example 03_ask`

use std::time::Duration;

use aether_core::{Aether, AskError, Kind, Vibrator, Wave};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct PriceOf {
    article: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Price {
    cents: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let aether = Aether::local();
    let shop = Vibrator::create("shop", &aether).await?;
    let question = PriceOf { article: "lamp".to_owned() };

    // There is no receiver yet: the error comes at once and is transient.
    let error = shop.ask_wave("prices.of", &question).await.expect_err("nobody listens");
    println!("too early: {error}");
    assert!(matches!(error, AskError::NoResonator { .. }) && error.is_transient());

    // A service that answers. Questions go through the same inboxes as all waves, so a group shares them.
    let mut prices = Vibrator::create("prices", &aether).await?;
    prices.resonate_in_group("prices.of", "prices").await?;
    let service = tokio::spawn(async move {
        while let Some(wave) = prices.receive().await {
            match wave.json::<PriceOf>() {
                Ok(PriceOf { article }) if article == "lamp" => wave.reply(&Price { cents: 3_900 }).await?,
                // Dropping a question without an answer is reported to the asker.
                _ => drop(wave),
            }
        }
        Ok::<_, aether_core::wave::ReplyError>(())
    });

    let answer = shop.ask_wave("prices.of", &question).await?;
    println!("a lamp costs {} cents according to {}", answer.json::<Price>()?.cents, answer.source().name());
    assert_eq!(answer.json::<Price>()?, Price { cents: 3_900 });
    assert_eq!((answer.kind(), answer.source().name()), (Kind::Response, "prices"));

    // `ask_wave` takes a wave with its own importance, and a time-out.
    let unknown = Wave::builder("prices.of")
        .kind(Kind::Query)
        .amplitude(0.9)
        .json(&PriceOf { article: "moon".to_owned() })
        .build()?;
    let error = shop.ask_within(unknown, Duration::from_millis(500)).await.expect_err("it has no price");
    println!("no price: {error}");
    assert!(matches!(error, AskError::Unanswered { .. }));

    aether.close().await?;
    service.await??;
    Ok(())
}
