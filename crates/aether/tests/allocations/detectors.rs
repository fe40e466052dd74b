//! The memory of the detectors under a flood of made-up names. A program of its own, because it needs a counting
//! allocator.

use std::time::{Duration, Instant};

use aether::physics::{
    CancellationOptions, Cancellations, Claim, Interfere, PollingOptions, Pollings, Request, RetryOptions,
    RetryStorms, StandingOptions, StandingWaves,
};
use aether_core::{Amplitude, Channel, Kind, Phase, Source, Vibrator, Wave};

fn held() -> usize {
    dhat::HeapStats::get().curr_bytes
}

/// Floods a detector with five times its bounds, and then with twice as much again, which must not take more memory.
fn flooded<D>(
    name: &str,
    most_bytes: usize,
    make: impl FnOnce() -> D,
    mut flood: impl FnMut(&mut D, u64, u64),
) {
    let before = held();
    let mut detector = make();
    flood(&mut detector, 0, 5);
    let first = held() - before;
    flood(&mut detector, 5, 15);
    let second = held() - before;
    println!("{name}: {first} bytes, then {second}; at most {most_bytes} allowed");
    assert!(first <= most_bytes, "{name} holds {first} bytes, {most_bytes} are allowed");
    assert!(second <= first + first / 50, "{name} grew from {first} to {second} bytes");
    assert!(first >= most_bytes / 4, "{name} holds {first} bytes: the bound of {most_bytes} is too loose");
}

/// A key of 255 bytes, the maximum.
fn key(number: u64) -> String {
    format!("{number:0255}")
}

fn source(number: u64) -> Source {
    // Longer than a name that is stored inline.
    let name = format!("a-service-with-a-rather-long-name-{number}");
    Source::with_instance(&name, number + 1).expect("the name is allowed and the number is not 0")
}

fn question<'a>(channel: &'a Channel, source: &'a Source, sequence: u64, key: &'a str) -> Request<'a> {
    Request {
        channel,
        source,
        sequence,
        kind: Kind::Query,
        key: Some(key),
        content: b"how many",
        attempt: 1,
        caused: false,
        age: Duration::ZERO,
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_flood_of_names_does_not_grow_any_detector() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let start = Instant::now();
    let channel = Channel::new("a.channel.with.a.rather.long.name").unwrap();
    let aether = aether_core::Aether::local();
    let mut listener = Vibrator::create("listener", &aether).await.unwrap();
    listener.resonate_on("a.>").await.unwrap();

    const KEYS: u64 = 256;
    flooded(
        "interference",
        // A key of 255 bytes, its state, 8 claims of 100 bytes with a source's name of 50, a waiting fringe with its keys
        // and 8 claims, an alert, and a source.
        KEYS as usize * (255 + 300 + 8 * (100 + 70) + (700 + 8 * (100 + 70)) + 450 + 300),
        || Interfere::by_key().sources(2).max_keys(KEYS as usize).build().unwrap(),
        |detector, from, to| {
            for number in from * KEYS..to * KEYS {
                let now = start + Duration::from_millis(number);
                for n in 0..12 {
                    let claim = Claim {
                        amplitude: Amplitude::NORMAL,
                        phase: Phase::ASSERT,
                        sequence: 1,
                        age: Duration::ZERO,
                    };
                    detector.claim(&channel, &key(number), &source(12 * number + n), claim, now);
                }
                // Not after every wave, so that what waits for a tick is bounded as well.
                if number % 1000 == 0 {
                    while detector.tick(now).is_some() {}
                }
            }
            assert_eq!(detector.keys(), KEYS as usize);
        },
    );

    const STREAMS: u64 = 64;
    flooded(
        "standing waves",
        STREAMS as usize * 2048 + 64 * 1024,
        || StandingWaves::new(StandingOptions::default().max_streams(STREAMS as usize)).unwrap(),
        |detector, from, to| {
            for number in from * STREAMS..to * STREAMS {
                for beat in 0..140 {
                    let now = start + Duration::from_millis(140 * number + beat);
                    detector.beat(&channel, &source(number), Duration::ZERO, now);
                    if beat % 13 == 0 {
                        while detector.tick(now).is_some() {}
                    }
                }
            }
            assert_eq!(detector.streams(), STREAMS as usize);
        },
    );

    const CHANNELS: u64 = 64;
    flooded(
        "retry storms",
        CHANNELS as usize * 6656,
        || RetryStorms::new(RetryOptions::default().max_channels(CHANNELS as usize)).unwrap(),
        |detector, from, to| {
            for number in from * CHANNELS..to * CHANNELS {
                let channel = Channel::new(format!("a.channel.with.a.rather.long.name.{number}")).unwrap();
                for n in 0..300 {
                    let now = start + Duration::from_millis(number);
                    detector.asked(&question(&channel, &source(1), n, &key(n)), now);
                }
            }
        },
    );

    const POLLERS: u64 = 64;
    flooded(
        "polling",
        POLLERS as usize * 2048 + 16 * 1024,
        || Pollings::new(PollingOptions::default().max_pollers(POLLERS as usize)).unwrap(),
        |detector, from, to| {
            for number in from * POLLERS..to * POLLERS {
                for n in 0..40 {
                    let now = start + Duration::from_millis(number);
                    detector.asked(&question(&channel, &source(number), n + 1, &key(n)), now);
                }
            }
        },
    );

    // Flapping claims arrive as waves.
    let flapper = Vibrator::create("flapper", &aether).await.unwrap();
    const CLAIMS: u64 = 128;
    let mut waves = Vec::new();
    for number in 0..15 * CLAIMS {
        let phases = [Phase::ASSERT, Phase::RETRACT, Phase::ASSERT];
        for phase in phases {
            let wave =
                Wave::builder(&channel).kind(Kind::Event).key(&key(number)).phase(phase).build().unwrap();
            flapper.emit(wave).await.unwrap();
            waves.push(listener.receive().await.unwrap());
        }
    }
    flooded(
        "cancellations",
        CLAIMS as usize * (255 + 500),
        || {
            let options = CancellationOptions::default().turns(2).max_claims(CLAIMS as usize);
            Cancellations::new(options).unwrap()
        },
        |detector, from, to| {
            for wave in &waves[(3 * from * CLAIMS) as usize..(3 * to * CLAIMS) as usize] {
                detector.observe(wave, Instant::now());
            }
            assert!(detector.claims_evicted() >= 4 * CLAIMS);
        },
    );
}
