//! Line 2: order, and overtaking.

use std::collections::HashMap;

use tokio::task::JoinSet;

use super::report::{Checked, Failure, holds, same};
use super::stage::{Stage, listener, number, vibrator};
use aether_core::{Amplitude, Source, Vibrator, Wave};

super::case::cases! {
    2 Order waves_of_one_source_channel_and_amplitude_stay_in_order,
    2 Nothing a_stronger_wave_overtakes_the_weaker_ones_that_are_queued,
}

const CHANNELS: [&str; 3] = ["order.a", "order.b", "order.a.b"];
const AMPLITUDES: [f32; 2] = [0.5, 0.9];
const SOURCES: usize = 4;
const EACH: u64 = 500;

async fn waves_of_one_source_channel_and_amplitude_stay_in_order(stage: &Stage) -> Checked {
    let mut ears =
        [listener("here", &stage.here, "order.>").await?, listener("there", &stage.there, "order.>").await?];
    let mut emitters = JoinSet::new();
    for index in 0..SOURCES {
        let end = if index % 2 == 0 { &stage.here } else { &stage.there };
        let emitter = vibrator("emitter", end).await?.emitter();
        emitters.spawn(async move {
            for count in 0..EACH {
                for channel in CHANNELS {
                    for amplitude in AMPLITUDES {
                        // Sizes from zero to a few hundred bytes, for varied packing.
                        let text = format!("{count:>width$}", width = (count * 37 % 300) as usize);
                        let wave = Wave::builder(channel).amplitude(amplitude).text(text).build()?;
                        emitter.emit(wave).await?;
                    }
                }
            }
            Ok::<_, Failure>(())
        });
    }
    let [here, there] = &mut ears;
    tokio::try_join!(receive_in_order(stage, here), receive_in_order(stage, there))?;
    while let Some(emitted) = emitters.join_next().await {
        emitted??;
    }
    Ok(())
}

async fn receive_in_order(stage: &Stage, ear: &mut Vibrator) -> Checked {
    let name = ear.source().name().to_owned();
    let mut next = HashMap::<(Source, String, Amplitude), u64>::new();
    let all = SOURCES * CHANNELS.len() * AMPLITUDES.len() * EACH as usize;
    for count in 0..all {
        let wave = stage.next(ear, format!("{name} to receive wave {count} of {all}")).await?;
        let stream = (wave.source().clone(), wave.channel().to_string(), wave.amplitude());
        let text = wave.text()?.trim();
        let seen: u64 = text.parse().map_err(|_| Failure::new("a number", text))?;
        let expected = next.entry(stream.clone()).or_default();
        if *expected != seen {
            let stream = format!("{} on {} at {}", stream.0, stream.1, stream.2);
            return Err(Failure::new(format_args!("{name} to receive number {expected} of {stream}"), seen));
        }
        *expected += 1;
    }
    same("waves that came more than once", all as u64, ear.ledger().offered)
}

async fn a_stronger_wave_overtakes_the_weaker_ones_that_are_queued(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.there, "strength.>").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    let amplitudes = [0.1, 1.0, 0.01, 0.5, 0.25];
    for count in 0..100 {
        for amplitude in amplitudes {
            let wave = Wave::builder("strength.all").amplitude(amplitude).text(count.to_string());
            emitter.emit(wave.build()?).await?;
        }
    }
    stage.settle(&stage.here, &emitter, &mut ear, "strength.marker").await?;
    let mut before: Option<(Amplitude, u64)> = None;
    for count in 0..500 {
        let wave = stage.next(&mut ear, format!("wave {count} of 500")).await?;
        let this = (wave.amplitude(), number(&wave)?);
        if let Some(before) = before {
            let in_order = this.0 < before.0 || (this.0 == before.0 && this.1 > before.1);
            holds("the strongest first, then the oldest", in_order, (before, this))?;
        }
        before = Some(this);
    }
    Ok(())
}
