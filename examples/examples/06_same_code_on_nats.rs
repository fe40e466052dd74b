//! The same services in one process and over a NATS server: only the address differs.
//!
//! `cargo run -p aether-examples --example 06_same_code_on_nats`, or with `AETHER_MEDIUM=nats://127.0.0.1:4222` before
//! it. The properties of a medium are data (`Promises`), so code does not depend on a particular one.

use aether_core::Vibrator;

const MEDIUM: &str = "AETHER_MEDIUM";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var(MEDIUM).unwrap_or_else(|_| "local:".to_owned());
    // Two connections, as in two processes. The local medium lives in one process, so it has to be shared.
    let here = aether::connect(&url).await?;
    let there = if here.promises().crosses_processes { aether::connect(&url).await? } else { here.clone() };
    println!("medium {url}, {:?}", here.promises());

    // When this returns, the subscription is active on every medium: it misses nothing emitted afterwards.
    let mut kitchen = Vibrator::create("kitchen", &there).await?;
    kitchen.resonate_on("table.*").await?;
    let cook = tokio::spawn(async move {
        let mut meals = Vec::new();
        while meals.len() < 3 {
            let Some(wave) = kitchen.receive().await else { break };
            meals.push(wave.json::<String>()?);
            wave.reply(&format!("{} is ready", meals[meals.len() - 1])).await?;
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(meals)
    });

    let waiter = Vibrator::create("waiter", &here).await?;
    for meal in ["soup", "fish", "cake"] {
        let answer = waiter.ask_wave("table.4", &meal).await?;
        println!("{}", answer.json::<String>()?);
        assert_eq!(answer.source().name(), "kitchen");
    }
    let meals = cook.await?.map_err(|error| error.to_string())?;
    assert_eq!(meals, ["soup", "fish", "cake"], "in the order in which they were ordered");

    here.close().await?;
    there.close().await?;
    Ok(())
}
