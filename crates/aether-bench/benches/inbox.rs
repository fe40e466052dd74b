//! Measures the inbox alone: the cost of putting in and taking out one wave, without router, medium or clock.
//!
//! `cargo xtask bench inbox`. The goal is 50 ns for both operations together. A test of aether-core
//! (`tests/allocations/inbox.rs`) verifies that they do not allocate.

use aether_core::{Aether, InboxOptions, Vibrator, Wave, inbox::Inbox};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn wave(amplitude: f32) -> Wave {
    Wave::builder("bench.wave").amplitude(amplitude).never_decays().build().expect("valid")
}

fn inbox(options: InboxOptions) -> Inbox {
    Inbox::new(options).expect("valid options")
}

fn push_and_pop(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("inbox");
    group.throughput(Throughput::Elements(1));
    group.bench_function("push + pop, empty", |bencher| {
        let (inbox, mut wave) = (inbox(InboxOptions::interactive()), wave(0.5));
        bencher.iter(|| {
            inbox.offer_now(wave.clone());
            // Reuse the wave that was put in, so that only the inbox and a reference count are measured.
            wave = inbox.take_now().expect("a wave");
        });
    });
    group.bench_function("push + pop, 512 of 1024 waiting on 16 levels", |bencher| {
        let inbox = inbox(InboxOptions::overload().sojourn_cap(None));
        let waves: Vec<Wave> = (0..16).map(|level| wave(0.9 * 0.8_f32.powi(level))).collect();
        for number in 0..512 {
            inbox.offer_now(waves[number % 16].clone());
        }
        let mut number = 0;
        bencher.iter(|| {
            inbox.offer_now(waves[number % 16].clone());
            number += 7;
            inbox.take_now().expect("a wave")
        });
    });
    group.bench_function("push into a full inbox: evicts the weakest", |bencher| {
        let inbox = inbox(InboxOptions::overload().sojourn_cap(None));
        let wave = wave(0.25);
        for _ in 0..1024 {
            inbox.offer_now(wave.clone());
        }
        bencher.iter(|| inbox.offer_now(wave.clone()));
    });
    group.bench_function("1024 pushed, then popped", |bencher| {
        let wave = wave(0.5);
        let waves = || (inbox(InboxOptions::interactive()), vec![wave.clone(); 1024]);
        bencher.iter_batched(
            waves,
            |(inbox, waves)| {
                for wave in waves {
                    inbox.offer_now(wave);
                }
                while inbox.take_now().is_some() {}
                inbox
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// The cost in process of a wave whose receiver is full, by the number of sources whose waves wait there, and a
/// receiver that takes one wave in ten by its channel.
fn many_sources(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // The first shed wave starts the task that advertises floors. Without a runtime each one would try again.
    let _entered = runtime.enter();
    let mut group = criterion.benchmark_group("sources");
    group.throughput(Throughput::Elements(1));
    for sources in [1, 2, 10, 100, 1000, 4000] {
        let aether = Aether::local();
        let emitters: Vec<_> =
            (0..sources).map(|_| aether.emitter("source").expect("a valid name")).collect();
        let full = |waves| {
            let inbox = InboxOptions::overload().max_waves(waves).sojourn_cap(None);
            let receiver = runtime.block_on(Vibrator::builder("receiver").inbox(inbox).create(&aether));
            let receiver = receiver.expect("a valid name");
            runtime.block_on(receiver.resonate_on("bench.*")).expect("a valid pattern");
            receiver
        };
        let emit = |number: usize| {
            let channel = if number.is_multiple_of(10) { "bench.tenth" } else { "bench.wave" };
            let wave = Wave::from_bytes(channel, Bytes::new()).expect("valid");
            emitters[number / 10 % sources].try_emit(wave).expect("it is shed or taken");
        };
        let mut number = 0;
        let mut receiver = full(8192);
        group.bench_function(format!("emit and receive, {sources} sources"), |bencher| {
            bencher.iter(|| {
                number += 1;
                emit(number);
                receiver.try_receive().expect("it has come")
            });
        });
        // Of each source as many as fit.
        (0..80_000).for_each(emit);
        group.bench_function(format!("emit to a full inbox of {sources} sources"), |bencher| {
            bencher.iter(|| {
                number += 1;
                emit(number);
            });
        });
        drop(receiver);
        let mut receiver = full(40_000);
        group.bench_function(format!("one in ten of 30,000 waves of {sources} sources"), |bencher| {
            let mut left = 0;
            bencher.iter(|| {
                if left == 0 {
                    while receiver.try_receive().is_ok() {}
                    (0..30_000).for_each(emit);
                    left = 3000;
                }
                left -= 1;
                runtime.block_on(receiver.receive_from("bench.tenth")).expect("a valid pattern")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, push_and_pop, many_sources);
criterion_main!(benches);
