//! Commands, queries, and a saga of plain waves on channels such as `saga.order.start`.
//!
//! A command changes something, and comes back if nobody takes it. A query is answered. Each step of the saga is a
//! service that knows channels and no other service: the stock reserves, the payment pays, and if nobody pays, the stock
//! gives back. The saga lives in memory: where a crash between two steps must not lose it, use the sagas of
//! `aether-outbox` (example 12).
//!
//! `cargo run -p aether-examples --example 13_commands_and_a_saga` prints:
//!
//! ```text
//! order 1: paid
//! order 2: cancelled, nobody pays for a broken cup
//! ```

use std::collections::BTreeMap;

use aether_core::{Aether, Kind, Vibrator, Wave};
use serde::{Deserialize, Serialize};

type Fallible<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    id: u64,
    article: String,
    status: String,
}

/// The next step, as important as the one before.
fn command(channel: &str, order: &Order) -> Fallible<Wave> {
    Ok(Wave::builder(channel)
        .kind(Kind::Command)
        .amplitude(0.9)
        .key(&order.id.to_string())
        .json(order)
        .build()?)
}

async fn orders(mut orders: Vibrator) -> Fallible {
    let mut known: BTreeMap<u64, Order> = BTreeMap::new();
    while let Some(wave) = orders.receive().await {
        if wave.channel().as_str() == "queries.get_order" {
            wave.reply(known.get(&wave.json()?)).await?;
            continue;
        }
        let order: Order = wave.json()?;
        known.insert(order.id, order.clone());
        if wave.channel().as_str() == "commands.create_order" {
            orders.emit(command("saga.order.start", &order)?).await?;
        }
    }
    Ok(())
}

async fn stock(mut stock: Vibrator) -> Fallible {
    let mut reserved = 0;
    while let Some(wave) = stock.receive().await {
        let order: Order = wave.json()?;
        let next = match wave.channel().as_str() {
            "saga.order.start" => {
                reserved += 1;
                "saga.order.reserved"
            }
            // The reserved article is given back.
            _ => {
                reserved -= 1;
                "saga.order.cancelled"
            }
        };
        stock.emit(command(next, &order)?).await?;
    }
    assert_eq!(reserved, 1, "only the paid order holds an article");
    Ok(())
}

async fn payment(mut payment: Vibrator) -> Fallible {
    while let Some(wave) = payment.receive().await {
        let mut order: Order = wave.json()?;
        let next = if order.article == "a broken cup" {
            order.status = format!("cancelled, nobody pays for {}", order.article);
            "saga.payment.failed"
        } else {
            order.status = "paid".to_owned();
            "saga.order.completed"
        };
        payment.emit(command(next, &order)?).await?;
    }
    Ok(())
}

/// A vibrator that hears these channels.
async fn service(name: &str, channels: &[&str], aether: &Aether) -> Fallible<Vibrator> {
    let vibrator = Vibrator::create(name, aether).await?;
    for channel in channels {
        vibrator.resonate_in_group(*channel, name).await?;
    }
    Ok(vibrator)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Fallible {
    let aether = Aether::local();
    let heard =
        ["commands.create_order", "queries.get_order", "saga.order.completed", "saga.order.cancelled"];
    let services = [
        tokio::spawn(orders(service("orders", &heard, &aether).await?)),
        tokio::spawn(stock(service("stock", &["saga.order.start", "saga.payment.failed"], &aether).await?)),
        tokio::spawn(payment(service("payment", &["saga.order.reserved"], &aether).await?)),
    ];

    let mut shop = Vibrator::create("shop", &aether).await?;
    shop.resonate_on("saga.order.completed").await?;
    shop.resonate_on("saga.order.cancelled").await?;
    let articles = ["a lamp", "a broken cup"];
    for (id, article) in (1..).zip(articles) {
        let order = Order { id, article: article.to_owned(), status: "created".to_owned() };
        shop.emit(command("commands.create_order", &order)?).await?;
    }
    for _ in articles {
        shop.receive().await.ok_or("the medium is closed")?;
    }
    // Each saga has ended. The orders heard so before this question, which came later and is weaker.
    let mut ended = Vec::new();
    for id in [1, 2] {
        let order: Order = shop.ask_wave("queries.get_order", id).await?.json()?;
        println!("order {id}: {}", order.status);
        ended.push(order.status);
    }
    assert_eq!(ended, ["paid", "cancelled, nobody pays for a broken cup"]);

    aether.close().await?;
    for service in services {
        service.await??;
    }
    Ok(())
}
