//! The sender: emits waves at a steady rate regardless of what happens to them.

use std::io::Write as _;
use std::time::Duration;

use aether::nats::NatsOptions;
use aether_core::medium::MediumStatus;
use aether_core::{Aether, Amplitude, EmitError, InboxOptions, Vibrator, Wave};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::{CHANNEL, Outcome};

/// One wave in this many is strong.
const STRONG_EVERY: u64 = 20;
/// The interval at which waves are emitted and statistics reported.
const TICK: Duration = Duration::from_millis(2);
const TELL: Duration = Duration::from_secs(1);
/// How long to wait for the server to return and to confirm everything.
const PATIENCE: Duration = Duration::from_secs(60);

/// The statistics reported by the sender.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Sent {
    /// Whether this is the final report.
    pub(crate) is_last: bool,
    pub(crate) emitted: u64,
    pub(crate) strong: u64,
    /// The outbox ledger.
    pub(crate) offered: u64,
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) queued: u64,
    pub(crate) unconfirmed: u64,
    pub(crate) connects: u64,
}

impl Sent {
    fn now(emitted: u64, strong: u64, status: MediumStatus) -> Self {
        let MediumStatus { outbox, unconfirmed, connects, .. } = status;
        let (offered, delivered) = (outbox.offered, outbox.delivered);
        Self {
            is_last: false,
            emitted,
            strong,
            offered,
            delivered,
            lost: outbox.lost(),
            queued: outbox.queued,
            unconfirmed,
            connects,
        }
    }
}

/// Emits until a line arrives on stdin, waits until everything has left, and runs until stdin ends.
pub(crate) async fn run(medium: &str, rate: f64) -> Outcome<()> {
    // The outbox sheds, as suits a telemetry source: the sender never waits.
    let outbox = InboxOptions::interactive().when_full(aether_core::WhenFull::Shed);
    let aether =
        aether::builder().url(medium).options(NatsOptions::default().outbox(outbox)).connect().await?;
    let vibrator = Vibrator::create("sender", &aether).await?;
    let (mut emitted, mut strong) = (0_u64, 0);
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let (mut tick, mut tell) = (interval(TICK), interval(TELL));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let start = Instant::now();
    loop {
        tokio::select! {
            _ = tick.tick() => {
                // Open loop: a wave is due at its time regardless of how long the previous emit took.
                let due = (start.elapsed().as_secs_f64() * rate) as u64;
                while emitted < due {
                    let is_strong = emitted % STRONG_EVERY == 0;
                    let amplitude = if is_strong { Amplitude::new(0.9)? } else { Amplitude::NORMAL };
                    let wave = Wave::builder(CHANNEL).amplitude(amplitude).text(format!("{emitted:0>100}"));
                    match vibrator.try_emit(wave.build()?) {
                        Ok(_) => {}
                        Err(EmitError::Full { wave }) => drop(vibrator.emit(wave).await?),
                        Err(error) => return Err(error.into()),
                    }
                    emitted += 1;
                    strong += u64::from(is_strong);
                }
            }
            _ = tell.tick() => say(&Sent::now(emitted, strong, aether.status()))?,
            _ = orders.next_line() => break,
        }
    }
    let flushed = async {
        while aether.flush().await.is_err() || !aether.status().connected {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, flushed).await.map_err(|_| "the sender's waves have not all left")?;
    say(&Sent { is_last: true, ..Sent::now(emitted, strong, aether.status()) })?;
    // Announcements continue in the meantime.
    while orders.next_line().await?.is_some() {}
    Ok(aether.close().await?)
}

pub(crate) fn say(what: &impl Serialize) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(what)?)?;
    Ok(out.flush()?)
}
