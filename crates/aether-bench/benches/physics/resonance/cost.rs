//! Measures the cost of taking in one wave: at 128 channels, and under a flood of names.
//!
//! To count instructions, run `valgrind --tool=callgrind --toggle-collect='*Resonance::sight*'` on the built
//! benchmark with the argument `resonance-cost`, and divide by the number of waves that it prints.

use std::hint::black_box;
use std::ops::Range;
use std::time::{Duration, Instant};

use aether::physics::{Resonance, Sighting};
use aether_core::{Channel, Kind, Source, WaveId};

use crate::page::say;
use crate::{Outcome, goal};

const CHANNELS: usize = 128;
const WAVES: u64 = 200_000;

pub(crate) fn run(_: Range<u64>) -> Outcome {
    say!("\n| {WAVES} waves each | ns a wave | memory | memory bound |\n|---|---|---|---|");
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
    let plain = measure("128 channels", &channels, &keys, false);
    let laden = measure("128 channels, each wave with a cause and a key", &channels, &keys, true);
    let flood = measure("a new channel and source with each wave", &names, &keys, false);
    let laden_flood = measure("the same, each wave with a cause and a key", &names, &keys, true);
    say!("\n| goal | measured | wanted | reached |\n|---|---|---|---|");
    let cases = [
        ("128 channels", plain),
        ("the same, causes and keys", laden),
        ("flood", flood),
        ("laden flood", laden_flood),
    ];
    for (name, cost) in cases {
        goal(name, format!("{cost:.0} ns"), "< 600 ns a wave", cost < 600.0);
    }
    Ok(())
}

fn measure(name: &str, channels: &[(Channel, Source)], keys: &[String], laden: bool) -> f64 {
    let mut resonance = Resonance::default();
    // Run twice so that all tables are full. Only the second run counts.
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
                kind: Kind::Event,
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
    assert!(resonance.weight() <= resonance.max_weight(), "the detector exceeds its memory limit");
    let cost = took.as_secs_f64() * 1e9 / WAVES as f64;
    say!(
        "| {name} | {cost:.0} | {:.1} MiB | {:.1} MiB |",
        resonance.weight() as f64 / f64::from(1 << 20),
        resonance.max_weight() as f64 / f64::from(1 << 20),
    );
    cost
}
