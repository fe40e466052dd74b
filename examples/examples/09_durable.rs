//! Durable channels: an emit waits until its wave is on the disk, and a consumer that was away gets everything.
//!
//! Only the two lines with `Log` are new. A consumer acknowledges each wave; what it has not acknowledged when the process
//! ends comes again. A wave that fails too often becomes a dead letter, which an operator looks at and sends again.
//!
//! `cargo run -p aether-examples --example 09_durable`

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use aether_core::{Durability, Wave};
use aether_log::{ConsumerOptions, Log};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

fn open(folder: &Path) -> Fallible<Log> {
    Ok(Log::builder(folder).channels("orders.>", Durability::Synced)?.open()?)
}

fn order(article: &str, amplitude: f32) -> Fallible<Wave> {
    Ok(Wave::builder("orders.created").amplitude(amplitude).text(article).build()?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Fallible<()> {
    let folder = tempfile::tempdir()?;

    // The first run of a shop: three orders, and nobody is there to bill them.
    {
        let log = open(folder.path())?;
        let aether = log.connect(aether::builder().url("local:")).await?;
        let shop = aether.emitter("shop")?;
        for (article, amplitude) in [("a lamp", 0.5), ("a broken cup", 0.5), ("a fire alarm", 0.9)] {
            let receipt = shop.emit(order(article, amplitude)?).await?;
            let stored = receipt.stored.ok_or("the channel is durable")?;
            println!("{article}: {} at position {}", stored.durability, stored.position);
        }
        aether.close().await?;
    }

    // The second run: billing gets all of them, the strongest first.
    let log = open(folder.path())?;
    let aether = log.connect(aether::builder().url("local:")).await?;
    let twice = NonZeroU32::MIN.saturating_add(1);
    let options = ConsumerOptions::default().max_attempts(twice).pauses(Duration::ZERO, Duration::ZERO);
    let billing = log.consumer("billing", "orders.>", options)?;
    let mut handled = Vec::new();
    for _ in 0..4 {
        let delivery = billing.receive().await?;
        let article = delivery.wave().text()?.to_owned();
        println!("attempt {} at billing {article}", delivery.attempt());
        match article.as_str() {
            "a broken cup" => delivery.nack("nobody pays for that"),
            _ => delivery.ack().await?,
        }
        handled.push(article);
    }
    assert_eq!(handled, ["a fire alarm", "a lamp", "a broken cup", "a broken cup"]);
    // The failed one is given up while billing waits for the next wave.
    aether.emitter("shop")?.emit(order("a whole cup", 0.1)?).await?;
    billing.receive().await?.ack().await?;
    let ledger = billing.ledger();
    println!("{ledger:?}");
    assert!(ledger.adds_up() && ledger.acknowledged == 3 && ledger.dead == 1);

    for number in log.dead().numbers() {
        let letter = log.dead().show(number)?;
        println!("given up: {} ({})", letter.stored.wave.text()?, letter.failed[0].error);
        log.dead().drop_letter(number).await?;
    }
    aether.close().await?;
    Ok(())
}
