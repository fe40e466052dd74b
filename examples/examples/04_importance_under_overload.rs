//! Overload: five times more waves than the receiver can take, and all important ones get through.
//!
//! Each wave has an amplitude from 0 to 1, its importance. An inbox is bounded: it serves the strongest first, and
//! sheds the weakest when it is full. A first-in, first-out queue would lose strong and weak waves alike. Nothing is
//! lost silently: the ledger counts every wave by its outcome.
//!
//! `cargo run -p aether-examples --example 04_importance_under_overload`

use aether_core::{Aether, InboxOptions, Vibrator, Wave, WhenFull};

const EMITTED: u32 = 10_000;
/// One wave in twenty is an alarm; the others are readings.
const ALARM_EACH: u32 = 20;
/// The receiver takes one wave while five arrive.
const OVERLOAD: u32 = 5;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let aether = Aether::local();
    let options = InboxOptions::default()
        .max_waves(64)
        // By default emitters wait a moment for room. Sensors do not wait.
        .when_full(WhenFull::Shed);
    let mut control_room = Vibrator::builder("control-room").inbox(options).create(&aether).await?;
    control_room.resonate_on("plant.>").await?;

    let sensor = Vibrator::create("sensor", &aether).await?;
    let (mut alarms, mut readings) = (0, 0);
    let mut count = |wave: &Wave| match wave.channel().as_str() {
        "plant.alarm" => alarms += 1,
        _ => readings += 1,
    };
    for number in 0..EMITTED {
        let wave = if number % ALARM_EACH == 0 {
            Wave::builder("plant.alarm").amplitude(0.9)
        } else {
            Wave::builder("plant.reading").amplitude(0.2)
        };
        sensor.emit(wave.json(number).build()?).await?;
        if number % OVERLOAD == 0
            && let Some(wave) = control_room.receive().await
        {
            count(&wave);
        }
    }
    aether.close().await?;
    while let Some(wave) = control_room.receive().await {
        count(&wave);
    }

    let ledger = control_room.ledger();
    println!("emitted {EMITTED}, {OVERLOAD} times what the receiver takes");
    println!("alarms    {alarms} of {}", EMITTED / ALARM_EACH);
    println!("readings  {readings} of {}", EMITTED - EMITTED / ALARM_EACH);
    println!(
        "ledger    offered {} = delivered {} + shed {}",
        ledger.offered, ledger.delivered, ledger.shed_full
    );

    assert_eq!(alarms, EMITTED / ALARM_EACH, "not one alarm was lost");
    assert_eq!((ledger.offered, ledger.delivered), (u64::from(EMITTED), u64::from(alarms + readings)));
    assert!(ledger.shed_full > u64::from(EMITTED / 2) && ledger.adds_up());
    Ok(())
}
