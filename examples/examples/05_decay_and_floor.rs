//! Waves that lose importance: amplitude decays with time, and a receiver does not receive waves below its noise floor.
//!
//! An old position is worth less than a fresh one; an instruction is worth the same tomorrow. So events decay (with a
//! half-life of 8 s by default) and commands do not. With a floor, decay is a time-to-live: a wave of amplitude 0.5
//! falls below a floor of 0.25 after one half-life.
//!
//! `cargo run -p aether-examples --example 05_decay_and_floor`

use std::time::Duration;

use aether_core::{Aether, Amplitude, Floor, Kind, Vibrator, Wave, wave::Expiry};

// A real program runs in real time. This one must not depend on how busy its machine is.
#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    aether_core::clock::follow_tokio();
    let aether = Aether::local();
    let floor = Floor::at(Amplitude::new(0.25)?);
    let mut ship = Vibrator::builder("ship").floor(floor).create(&aether).await?;
    ship.resonate_on("harbour.>").await?;
    let harbour = Vibrator::create("harbour", &aether).await?;

    // Half-lives are powers of two in milliseconds; the nearest is taken.
    let position =
        Wave::builder("harbour.position").half_life(Duration::from_millis(64)).json("53.5 N").build()?;
    let Expiry::At(age) = position.signal().expires_at(floor) else { return Err("it does not decay".into()) };
    assert_eq!(age.as_millis(), 64);
    let instruction = Wave::builder("harbour.instruction").kind(Kind::Command).json("berth 4").build()?;
    assert_eq!(instruction.signal().expires_at(floor), Expiry::Never);

    harbour.emit(position).await?;
    harbour.emit(instruction).await?;
    // Too weak from the start, so it is not queued.
    harbour.emit(Wave::builder("harbour.gossip").amplitude(0.1).json("fog?").build()?).await?;

    // The ship is busy for more than one half-life. The old position expires in its inbox, the instruction does not.
    tokio::time::sleep(Duration::from_millis(150)).await;
    harbour.emit(Wave::builder("harbour.position").json("53.6 N").build()?).await?;
    aether.close().await?;

    let mut heard = Vec::new();
    while let Some(wave) = ship.receive().await {
        println!("{:<20} {} at amplitude {:.2}", wave.channel(), wave.text()?, wave.amplitude_now());
        heard.push(wave.json::<String>()?);
    }
    assert_eq!(heard, ["berth 4", "53.6 N"]);

    let ledger = ship.ledger();
    println!("{} expired, {} below the floor", ledger.expired, ledger.shed_below_floor);
    assert_eq!((ledger.offered, ledger.delivered, ledger.expired, ledger.shed_below_floor), (4, 2, 1, 1));
    Ok(())
}
