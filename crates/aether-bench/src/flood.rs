//! A flood: an overload that continues until it is stopped, with live counts.
//!
//! `aether up --overload` shows it. A handler takes a millisecond for each wave, and a sender offers it many times
//! more, beside everything else on the same `Aether`. The handler sleeps instead of spinning, so that the demonstration
//! does not occupy a processor; a millisecond is long enough for a timer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aether_core::{Aether, Channel};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock;
use crate::contestant::{AetherReceiver, AetherSender, ContestantError, Hear, Offer, Profile};
use crate::losses::{Counts, Losses};
use crate::median::median;
use crate::pacer::{Pacer, Stop};
use crate::payload::{DEFAULT_BYTES, Load, Message};
use crate::report::Latencies;
use crate::schedule::{Poisson, ScheduleError, Strength};

/// The channel of a flood.
pub const FLOOD_CHANNEL: &str = "overload.wave";

/// The sleep of the handler for each wave.
const SERVICE: Duration = Duration::from_millis(1);
/// The number of sleeps measured for the capacity.
const MEASURED: u32 = 100;

/// Why a flood failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FloodError {
    /// The rate is not possible.
    #[error(transparent)]
    Rate(#[from] ScheduleError),
    /// The sender or the handler could not start.
    #[error(transparent)]
    Contestant(#[from] ContestantError),
    /// A thread panicked.
    #[error("the sender or the handler of the overload panicked")]
    Thread(#[from] JoinError),
}

/// The waves of one strength by outcome. Adds up: `offered = delivered + lost + waiting`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Flow {
    /// Waves that were due.
    pub offered: u64,
    /// Waves that were handled.
    pub delivered: u64,
    /// Waves that were lost, by reason.
    pub lost: Counts,
    /// The 99th percentile of the time from when a wave was due to the end of its handling, in microseconds.
    pub p99_us: Option<f64>,
}

impl Flow {
    /// Waves queued or in transit; at the end those that stayed in the broker.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.offered.saturating_sub(self.delivered + self.lost.sum())
    }

    /// The share that was not lost, in percent; 100 without waves.
    #[must_use]
    pub fn kept_percent(&self) -> f64 {
        if self.offered == 0 {
            return 100.0;
        }
        // Waves offered in the previous interval may be lost in this one.
        (100.0 * (1.0 - self.lost.sum() as f64 / self.offered as f64)).max(0.0)
    }

    fn since(self, before: Self) -> Self {
        Self {
            offered: self.offered - before.offered,
            delivered: self.delivered - before.delivered,
            lost: self.lost.minus(before.lost),
            p99_us: self.p99_us,
        }
    }
}

#[derive(Default)]
struct Shared {
    offered: [AtomicU64; 2],
    delivered: [AtomicU64; 2],
    losses: Arc<Losses>,
    /// The counts since the last look, and in total.
    latencies: Mutex<[[Latencies; 2]; 2]>,
}

impl Shared {
    fn flows(&self, latencies: &[Latencies; 2]) -> [Flow; 2] {
        // Read losses and deliveries before offers, so that no wave counts as gone before it counts as offered.
        let lost = self.losses.so_far();
        Strength::ALL.map(|strength| {
            let index = strength as usize;
            let delivered = self.delivered[index].load(Ordering::Acquire);
            Flow {
                offered: self.offered[index].load(Ordering::Acquire),
                delivered,
                lost: lost[index],
                p99_us: latencies[index].quantile_us(0.99),
            }
        })
    }
}

/// A running overload. Dropping it stops it soon.
pub struct Flood {
    shared: Arc<Shared>,
    capacity: f64,
    before: [Flow; 2],
    stop_sending: Stop,
    stop_handling: DropGuard,
    sending: JoinHandle<()>,
    handling: JoinHandle<()>,
}

impl Flood {
    /// Measures the capacity of the handler for a tenth of a second, and then offers it `times` as much, a twentieth of
    /// it strong.
    ///
    /// # Errors
    /// [`FloodError`]
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing keeps running.
    pub async fn start(aether: &Aether, times: f64) -> Result<Self, FloodError> {
        let measured = tokio::task::spawn_blocking(|| {
            let slept = (0..MEASURED).map(|_| {
                let start = Instant::now();
                std::thread::sleep(SERVICE);
                start.elapsed().as_secs_f64()
            });
            // A single sleep that other load makes long does not count.
            1.0 / median(slept)
        });
        let capacity = measured.await?;
        let arrivals = Poisson::new(times * capacity, crate::Overload::STRONG, fastrand::u64(..))?;
        let shared = Arc::new(Shared::default());
        let channel = Channel::new(FLOOD_CHANNEL).expect("a valid name");
        let hear = AetherReceiver::new(aether.clone(), &channel, Profile::Overload, &shared.losses).await?;
        let offer = AetherSender::new(aether.clone(), &channel, &shared.losses).await?;

        let stop_handling = CancellationToken::new();
        let handling = tokio::task::spawn_blocking({
            let (shared, stop, runtime) = (Arc::clone(&shared), stop_handling.clone(), Handle::current());
            move || runtime.block_on(handle(hear, shared, stop))
        });
        let start = clock::now();
        let (pacer, stop_sending) = Pacer::new(start);
        let sending = tokio::task::spawn_blocking({
            let shared = Arc::clone(&shared);
            move || send(pacer, arrivals, start, offer, &shared)
        });
        let before = [Flow::default(); 2];
        let stop_handling = stop_handling.drop_guard();
        Ok(Self { shared, capacity, before, stop_sending, stop_handling, sending, handling })
    }

    /// The capacity of the handler in waves a second.
    #[must_use]
    pub fn capacity(&self) -> f64 {
        self.capacity
    }

    /// The counts since the last look, strong and weak.
    pub fn look(&mut self) -> [Flow; 2] {
        let recent = std::mem::take(&mut self.shared.latencies.lock()[0]);
        let now = self.shared.flows(&recent);
        let since = [now[0].since(self.before[0]), now[1].since(self.before[1])];
        self.before = now;
        since
    }

    /// Stops it and returns the total counts, strong and weak. Queued waves are shed and counted.
    ///
    /// # Errors
    /// [`FloodError::Thread`] if the sender or the handler panicked.
    ///
    /// # Cancel safety
    /// Cancelled before completion, it stops nevertheless.
    pub async fn end(self) -> Result<[Flow; 2], FloodError> {
        drop(self.stop_sending);
        self.sending.await?;
        drop(self.stop_handling);
        self.handling.await?;
        let latencies = self.shared.latencies.lock();
        Ok(self.shared.flows(&latencies[1]))
    }
}

fn send(pacer: Pacer, arrivals: Poisson, start: u64, mut offer: AetherSender, shared: &Shared) {
    pacer.run(arrivals, |number, arrival| {
        shared.offered[arrival.strength as usize].fetch_add(1, Ordering::Release);
        let load = Load { number, strength: arrival.strength, due: start + arrival.due };
        offer.offer(Message::Load(load).to_payload(DEFAULT_BYTES), arrival.strength);
    });
}

/// Handles waves until it is stopped. Then the vibrator is dropped, and its inbox sheds the queued waves.
async fn handle(mut hear: AetherReceiver, shared: Arc<Shared>, stop: CancellationToken) {
    while let Some(Some(load)) = stop.run_until_cancelled(hear.next()).await {
        std::thread::sleep(SERVICE);
        let index = load.strength as usize;
        let latency = clock::now().saturating_sub(load.due);
        for latencies in &mut *shared.latencies.lock() {
            latencies[index].record(latency);
        }
        shared.delivered[index].fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use aether_core::Vibrator;

    use super::*;
    use crate::losses::Loss;

    #[tokio::test]
    async fn what_flows_adds_up_at_the_end_and_the_strong_get_through() {
        let aether = Aether::local();
        let mut watcher = Vibrator::create("watcher", &aether).await.unwrap();
        watcher.resonate_on(FLOOD_CHANNEL).await.unwrap();
        let mut flood = Flood::start(&aether, 10.0).await.unwrap();
        assert!(flood.capacity() > 0.0 && flood.capacity() <= 1000.0);
        // At ten times the capacity some thousands of waves are not handled: the inbox is full, or they wait in it for
        // too long.
        for _ in 0..5000 {
            watcher.receive().await.unwrap();
        }
        let seen = flood.look();
        assert!(seen[1].lost.sum() > 1000, "{seen:?}");
        let [strong, weak] = flood.end().await.unwrap();
        for (flow, seen) in [(strong, seen[0]), (weak, seen[1])] {
            assert_eq!(flow.offered, flow.delivered + flow.lost.sum(), "{flow:?}");
            assert!(flow.offered >= seen.offered && flow.lost.sum() >= seen.lost.sum(), "{flow:?} {seen:?}");
        }
        // Full inboxes shed the weakest, so they lose no strong wave while there are weak ones.
        assert_eq!(strong.lost.of(Loss::Full), 0, "{strong:?}");
        assert!(weak.lost.sum() > weak.delivered && weak.p99_us.is_some(), "{weak:?}");
        drop(watcher);
        assert!(aether.ledger().adds_up() && aether.ledger().queued == 0);
    }

    #[test]
    fn a_share_is_kept_even_of_nothing() {
        let mut flow = Flow::default();
        assert!((flow.kept_percent() - 100.0).abs() < 1e-9);
        flow.offered = 10;
        flow.lost.add(Loss::Full, 9);
        assert!((flow.kept_percent() - 10.0).abs() < 1e-9);
        assert_eq!(flow.waiting(), 1);
        flow.lost.add(Loss::Sojourn, 9);
        assert!(flow.kept_percent().abs() < 1e-9);
    }
}
