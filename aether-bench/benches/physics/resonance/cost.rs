//! What it costs to take one wave in: at 128 channels, and under a flood of names.
//!
//! For instruction counts: `valgrind --tool=callgrind --toggle-collect='*Resonance::sight*'` on the built benchmark with
//! the argument `resonance-cost`, divided by the waves that it names.

use std::hint::black_box;
use std::ops::Range;
use std::time::{Duration, Instant};

use aether_core::physics::{Resonance, Sighting};
use aether_core::{Channel, Source, WaveId};

use crate::Outcome;

const CHANNELS: usize = 128;
const WAVES: u64 = 200_000;

pub(crate) fn run(_: Range<u64>) -> Outcome {
    println!("\n| {WAVES} waves each | ns a wave | memory | of at most |\n|---|---|---|---|");
    let source = |name: &str, instance| Source::with_instance(name, instance);
    let channels = (0..CHANNELS)
        .map(|number| {
            Ok((Channel::new(format!("shop.orders.c{number}"))?, source(&format!("service-{number}"), 7)?))
        })
        .collect::<Result<Vec<_>, Box<dyn std::error::Error>>>()?;
    let names = (0..WAVES)
        .map(|number| {
            Ok((
                Channel::new(format!("flood.orders.c{number}"))?,
                source(&format!("flood-{number}"), number + 1)?,
            ))
        })
        .collect::<Result<Vec<_>, Box<dyn std::error::Error>>>()?;
    let keys: Vec<String> = (0..1000).map(|order| format!("order-{order}")).collect();
    measure("128 channels", &channels, &keys, false);
    measure("128 channels, each wave with a cause and a key", &channels, &keys, true);
    measure("a new channel and source with each wave", &names, &keys, false);
    measure("the same, each wave with a cause and a key", &names, &keys, true);
    Ok(())
}

fn measure(name: &str, channels: &[(Channel, Source)], keys: &[String], laden: bool) {
    let mut resonance = Resonance::default();
    // Twice, so that all tables are full; the second time counts.
    let mut took = Duration::ZERO;
    for round in 0..2 {
        let start = Instant::now();
        for wave in 0..WAVES {
            let (channel, source) = &channels[wave as usize % channels.len()];
            let sequence = 1 + round * WAVES + wave;
            let before = &channels[(wave.max(1) - 1) as usize % channels.len()].1;
            let cause = WaveId { source: before.clone(), sequence: sequence.max(2) - 1 };
            resonance.sight(black_box(&Sighting {
                channel,
                source,
                sequence,
                cause: laden.then_some(&cause),
                key: laden.then(|| keys[wave as usize % keys.len()].as_str()),
                now: Duration::from_micros(50 * (round * WAVES + wave)),
                age: Duration::ZERO,
            }));
        }
        took = start.elapsed();
    }
    println!(
        "| {name} | {:.0} | {:.1} MiB | {:.1} MiB |",
        took.as_secs_f64() * 1e9 / WAVES as f64,
        resonance.weight() as f64 / f64::from(1 << 20),
        resonance.max_weight() as f64 / f64::from(1 << 20),
    );
}
