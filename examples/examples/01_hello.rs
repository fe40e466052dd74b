//! The smallest system: one service emits, another receives.
//!
//! `cargo run -p aether-examples --example 01_hello`

use aether_core::{Aether, Vibrator};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let aether = Aether::local();
    let mut listener = Vibrator::create("listener", &aether).await?;
    listener.resonate_on("greetings.*").await?;

    let speaker = Vibrator::create("speaker", &aether).await?;
    speaker.emit_wave("greetings.morning", &"hello, aether").await?;

    let wave = listener.receive().await.ok_or("the medium was closed")?;
    assert_eq!(wave.json::<String>()?, "hello, aether");
    println!("{} said {} on {}", wave.source(), wave.text()?, wave.channel());
    Ok(())
}
