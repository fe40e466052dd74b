//! The cost of sealed and of signed waves: sealing and opening one frame, and the throughput over NATS plain, sealed, and
//! sealed and signed, in one run.
//!
//! `cargo xtask bench seal` prints the tables of docs/internals/benchmarks.md. The first table is one thread without a
//! network: a frame is encoded beforehand, so only sealing and opening with the replay window are timed, with a nonce
//! from the operating system for each frame as in use. In the second, sender, server and receiver share the machine and
//! the contestants take turns.

use std::hint::black_box;
use std::time::{Duration, Instant};

use aether::nats::NatsOptions;
use aether::seal::{Role, SealKeys, Sealer, Signers, SigningKey};
use aether_bench::{median, payload};
use aether_conformance::NatsServer;
use aether_core::{InboxOptions, Vibrator, Wave};
use aether_link::wire::{Sender, encode};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const ADDRESS: &str = "aether.orders.created";
const ROUNDS: usize = 7;
const FRAMES: u32 = 20_000;
const MESSAGES: u64 = 500_000;
/// The usual size of a packed message.
const PACKED_BYTES: usize = 8 << 10;

fn main() -> Result<(), Failure> {
    println!("median of {ROUNDS} rounds, allocator: {}\n", aether_bench::ALLOCATOR);
    println!(
        "| frame | waves | bytes | sealed and opened, us | a wave, us | signed as well, us | a wave, us |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (name, bytes, waves) in [
        ("a wave of 128 bytes alone", 128, 1),
        ("waves of 128 bytes, packed", 128, PACKED_BYTES / 170),
        ("a wave of 1 KiB alone", 1024, 1),
        ("waves of 1 KiB, packed", 1024, PACKED_BYTES / 1066),
    ] {
        let (frame, sealed) = codec(bytes, waves, None)?;
        let (_, signed) = codec(bytes, waves, Some(SigningKey::generate()?))?;
        let each = |micros: f64| micros / waves as f64;
        println!(
            "| {name} | {waves} | {frame} | {sealed:.3} | {:.3} | {signed:.3} | {:.3} |",
            each(sealed),
            each(signed)
        );
    }
    let mut nonce = [0; 24];
    let begun = Instant::now();
    for _ in 0..FRAMES {
        getrandom::fill(black_box(&mut nonce)).map_err(|error| error.to_string())?;
    }
    println!(
        "\nof which the nonce from the operating system: {:.3} us",
        micros(begun.elapsed()) / f64::from(FRAMES)
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(network())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A list with one signer.
fn signers(key: &SigningKey) -> Result<Signers, Failure> {
    Ok(Signers::new().allow("*", key.public_key())?)
}

/// The bytes of a frame, and the time to seal and to open it; with a key also to sign it and to verify that.
fn codec(bytes: usize, waves: usize, key: Option<SigningKey>) -> Result<(usize, f64), Failure> {
    let keys = SealKeys::generate()?;
    let signers = key.as_ref().map(signers).transpose()?;
    let here = Sealer::signing(keys.clone(), key, None)?;
    let there = Sealer::signing(keys, None, signers.as_ref())?;
    let wave = Wave::from_bytes("orders.created", payload(bytes))?;
    let frame = encode(Sender { node: 1, sent_micros: 1 }, None, &vec![wave; waves], Instant::now())?;
    let mut guard = there.guard();
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        for _ in 0..FRAMES {
            let sealed = here.seal(Role::Waves, ADDRESS, "", &frame)?;
            black_box(there.open(Role::Waves, ADDRESS, &sealed, &mut guard)?);
        }
        rounds.push(micros(begun.elapsed()) / f64::from(FRAMES));
    }
    Ok((frame.len(), median(rounds)))
}

async fn network() -> Result<(), Failure> {
    let server = NatsServer::start().await?;
    for bytes in [128, 1024] {
        let (mut plain, mut sealed, mut signed) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let options = NatsOptions::default();
            let with_keys = options.clone().keys(SealKeys::generate()?);
            let key = SigningKey::generate()?;
            let with_signature = with_keys.clone().signers(signers(&key)?).signing_key(key);
            plain.push(throughput(&server.url(), bytes, options).await?);
            sealed.push(throughput(&server.url(), bytes, with_keys).await?);
            signed.push(throughput(&server.url(), bytes, with_signature).await?);
        }
        let against_plain = |others: &[f64]| -> Vec<f64> {
            plain.iter().zip(others).map(|(plain, other)| other / plain).collect()
        };
        let (mut ratios, mut signed_ratios) = (against_plain(&sealed), against_plain(&signed));
        println!("\n{MESSAGES} waves of {bytes} bytes over NATS, one sender, one receiver, two workers\n");
        println!("| | M/s | against plain |\n|---|---|---|");
        println!("| plain | {:.2} | 1.00 |", median(plain.iter().copied()) / 1e6);
        println!(
            "| sealed | {:.2} | {:.2} |",
            median(sealed.iter().copied()) / 1e6,
            median(ratios.iter().copied())
        );
        println!(
            "| sealed and signed | {:.2} | {:.2} |",
            median(signed.iter().copied()) / 1e6,
            median(signed_ratios.iter().copied())
        );
        ratios.sort_by(f64::total_cmp);
        signed_ratios.sort_by(f64::total_cmp);
        println!("\nThe ratios of all rounds: sealed {ratios:.2?}, sealed and signed {signed_ratios:.2?}");
    }
    Ok(())
}

/// Waves a second until the last one has arrived. A lost wave is an error.
async fn throughput(url: &str, bytes: usize, options: NatsOptions) -> Result<f64, Failure> {
    let connect = || aether::builder().url(url).options(options.clone()).connect();
    let (here, there) = (connect().await?, connect().await?);
    let inbox = InboxOptions::interactive().max_waves(1 << 20).max_bytes(2 << 30);
    let mut ear = Vibrator::builder("ear").inbox(inbox).create(&there).await?;
    ear.resonate_on("bench.seal").await?;
    let shop = Vibrator::create("shop", &here).await?;
    let body = payload(bytes);
    let begun = Instant::now();
    let emit = async {
        for _ in 0..MESSAGES {
            shop.emit_bytes("bench.seal", body.clone()).await?;
        }
        here.flush().await?;
        Ok::<_, Failure>(())
    };
    let receive = async {
        for received in 0..MESSAGES {
            let next = tokio::time::timeout(Duration::from_secs(10), ear.receive()).await;
            let missing = |_| {
                let (sent, heard) = (here.ledger(), there.ledger());
                format!(
                    "no wave after {received} of {MESSAGES}: the sender counts {sent:?}, the receiver {heard:?}"
                )
            };
            next.map_err(missing)?.ok_or("the medium was closed")?;
        }
        Ok(begun.elapsed())
    };
    let ((), took) = tokio::try_join!(emit, receive)?;
    here.close().await?;
    there.close().await?;
    Ok(MESSAGES as f64 / took.as_secs_f64())
}
