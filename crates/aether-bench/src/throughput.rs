//! The throughput benchmark: the waves a second that Aether carries when the sender emits as fast as it can.
//!
//! Unlike the others it is a closed loop: `emit` waits for room, so it measures the maximum rate and not latency.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aether_core::{Aether, InboxOptions};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::child::ChildProgram;
use crate::clock;
use crate::contestant::{Address, AetherReceiver, AetherSender, Contestant, Offer, Profile};
use crate::handler::{Notes, handle};
use crate::losses::Losses;
use crate::payload::payload;
use crate::run::{RunError, channel, end_soon, receiving, unless_stopped};
use crate::schedule::Strength;
use crate::work::Work;

/// The options of the benchmark.
#[derive(Debug, Clone)]
pub struct ThroughputPlan {
    /// The medium.
    pub address: Address,
    /// The duration.
    pub lasts: Duration,
    /// The payload size, in bytes.
    pub payload_bytes: usize,
}

/// The result. Adds up: `offered = delivered + lost`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Throughput {
    /// The transport.
    pub contestant: String,
    /// Waves that were emitted.
    pub offered: u64,
    /// Waves that arrived.
    pub delivered: u64,
    /// Waves that did not arrive.
    pub lost: u64,
    /// From the first emit until the last wave was received, in seconds.
    pub seconds: f64,
    /// Arrived waves a second.
    pub per_second: f64,
    /// The same in mebibytes of payload.
    pub mib_per_second: f64,
}

impl ThroughputPlan {
    /// Runs the benchmark. When `stop` is cancelled, returns the result so far.
    ///
    /// # Errors
    /// [`RunError`]; [`RunError::Stopped`] when `stop` is cancelled and the receiver cannot report.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the threads of the run end when `stop` is cancelled; a receiving process is killed.
    pub async fn run(&self, child: &ChildProgram, stop: &CancellationToken) -> Result<Throughput, RunError> {
        let losses = Arc::new(Losses::default());
        let channel = channel();
        let contestant = Contestant::Aether { address: self.address.clone(), profile: Profile::Interactive };
        let idle = Work { service: Duration::ZERO };
        let start;
        let (offered, heard) = if contestant.crosses_processes() {
            let connecting = self.address.connect(InboxOptions::interactive());
            let aether = unless_stopped(stop, connecting).await??;
            let mut child = receiving(&contestant, &channel, idle, Notes::Count, child, stop).await?;
            let mut sender = AetherSender::new(aether.clone(), &channel, &losses).await?;
            start = clock::now();
            let offered = self.emit(&sender, stop).await?;
            let heard = end_soon(&mut sender, &mut child, stop).await?;
            let _ = aether.close().await;
            (offered, heard)
        } else {
            let aether = Aether::local();
            let receiver =
                AetherReceiver::new(aether.clone(), &channel, Profile::Interactive, &losses).await?;
            let handling = handle(receiver, idle, Notes::Count, CancellationToken::new());
            let mut sender = AetherSender::new(aether, &channel, &losses).await?;
            start = clock::now();
            let offered = self.emit(&sender, stop).await?;
            sender.end().await;
            (offered, handling.await?)
        };
        let seconds = heard.last.saturating_sub(start) as f64 / 1e9;
        let per_second = if seconds > 0.0 { heard.count as f64 / seconds } else { 0.0 };
        Ok(Throughput {
            contestant: contestant.name().to_owned(),
            offered,
            delivered: heard.count,
            lost: offered - heard.count,
            seconds,
            per_second,
            mib_per_second: per_second * self.payload_bytes as f64 / f64::from(1 << 20),
        })
    }

    /// Emits until the time is over. Returns the number of waves.
    async fn emit(&self, sender: &AetherSender, stop: &CancellationToken) -> Result<u64, RunError> {
        /// Rarely, because reading the clock costs a tenth of a wave.
        const LOOK_EACH: u64 = 64;
        let deadline = Instant::now() + self.lasts;
        let mut offered = 0;
        while offered % LOOK_EACH != 0 || (Instant::now() < deadline && !stop.is_cancelled()) {
            let wave = sender.wave(payload(self.payload_bytes), Strength::Weak);
            sender.vibrator().emit(wave).await?;
            offered += 1;
        }
        Ok(offered)
    }
}
