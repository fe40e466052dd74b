//! Measures the inbox alone: the cost of putting in and taking out one wave, without router, medium or clock.
//!
//! `cargo xtask bench inbox`. The goal is 50 ns for both operations together. A test of aether-core
//! (`tests/allocations/inbox.rs`) verifies that they do not allocate.

use aether_core::{InboxOptions, Wave, inbox::Inbox};
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

criterion_group!(benches, push_and_pop);
criterion_main!(benches);
