//! Subscriptions: patterns select channels, and a group shares the work.
//!
//! A channel is a name of tokens separated by dots. A pattern can contain `*` for one token, and end with `>` for one
//! or more. Each subscriber receives every wave of a channel; the members of a group share them.
//!
//! `cargo run -p aether-examples --example 02_patterns_and_groups`

use aether_core::{Aether, Vibrator};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let aether = Aether::local();

    // Two listeners without a group: each receives everything that its pattern matches.
    let mut orders = Vibrator::create("orders", &aether).await?;
    orders.resonate_on("orders.*").await?; // orders.created, but not orders.payment.failed
    let mut audit = Vibrator::create("audit", &aether).await?;
    audit.resonate_on("orders.>").await?; // everything below orders

    // Three packers in one group: each wave goes to one of them.
    let mut packers = Vec::new();
    for number in 1..=3 {
        let packer = Vibrator::create(&format!("packer-{number}"), &aether).await?;
        packer.resonate_in_group("orders.created", "packers").await?;
        packers.push(packer);
    }

    let shop = Vibrator::create("shop", &aether).await?;
    for number in 1..=9 {
        let receipt = shop.emit_wave("orders.created", &number).await?;
        // In process the number of receivers is known: two listeners and one packer.
        assert_eq!(receipt.receivers, Some(3));
    }
    shop.emit_wave("orders.payment.failed", &4).await?;

    // After closing, receivers get the queued waves and then `None`, so the loops end.
    aether.close().await?;
    assert_eq!(count(&mut orders).await, 9);
    assert_eq!(count(&mut audit).await, 10);
    let mut packed = 0;
    for packer in &mut packers {
        let waves = count(packer).await;
        println!("{} packed {waves} orders", packer.source().name());
        assert_eq!(waves, 3, "the members take turns");
        packed += waves;
    }
    assert_eq!(packed, 9, "each order once");
    Ok(())
}

async fn count(vibrator: &mut Vibrator) -> usize {
    let mut waves = 0;
    while vibrator.receive().await.is_some() {
        waves += 1;
    }
    waves
}
