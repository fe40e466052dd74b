//! A flood of hostile messages: nothing is delivered, nothing panics, the memory stays as it is.

use aether_core::seal::{Role, SealKeys, Sealer};
use bytes::Bytes;

use crate::scene::{Scene, next};

/// The number of hostile messages; set `AETHER_HOSTILE_FRAMES=10000000` for the long run.
fn messages() -> u64 {
    std::env::var("AETHER_HOSTILE_FRAMES").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

/// Of this process.
#[cfg(target_os = "linux")]
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[cfg(not(target_os = "linux"))]
fn resident_bytes() -> u64 {
    0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_hostile_messages_delivers_nothing_and_fills_nothing() {
    const BATCH: u64 = 1000;
    /// What the allocator, the client's buffers and the tasks may take meanwhile.
    const SLACK: u64 = 48 << 20;
    let mut scene = Scene::new().await;
    scene.shop.emit_bytes("shop.load", "a real one").await.unwrap();
    next(&mut scene.ear).await;
    let real = scene.enemy.overhear("aether.shop.load").await.payload;
    let stranger = Sealer::new(SealKeys::generate().unwrap()).unwrap();
    let mut random = fastrand::Rng::with_seed(19);
    let (mut sent, mut resident) = (0_u64, None);
    while sent < messages() {
        for _ in 0..BATCH {
            let message: Bytes = match random.u8(..5) {
                0 => {
                    let mut altered = real.to_vec();
                    altered[random.usize(12..real.len())] ^= random.u8(1..);
                    altered.into()
                }
                1 => real.clone(),
                2 => real.slice(..random.usize(12..real.len())),
                3 => stranger.seal(Role::Waves, "aether.shop.load", "", &real).unwrap(),
                _ => (0..random.usize(..200)).map(|_| random.u8(..)).collect(),
            };
            scene.enemy.publish("aether.shop.load", message).await;
        }
        sent += BATCH;
        // The receiver follows, so that the server does not cut it off, and no wave is late.
        scene.only_the_next_wave_arrives().await;
        if sent >= 10 * BATCH {
            resident.get_or_insert_with(resident_bytes);
        }
    }
    let [plain, unknown, tampered, replayed, stale] = scene.refused();
    assert_eq!((plain + unknown + tampered + replayed, stale), (sent, 0));
    assert!(
        [plain, unknown, tampered, replayed].iter().all(|count| *count > sent / 8),
        "{:?}",
        scene.refused()
    );
    let (before, after) = (resident.unwrap_or_default(), resident_bytes());
    assert!(after <= before + SLACK, "{before} bytes grew to {after}");
    let ledger = scene.ear.ledger();
    assert_eq!((ledger.offered, ledger.lost()), (1 + sent / BATCH, 0), "{ledger:?}");
    assert_eq!(scene.there.status().malformed, 0);
}
