//! Flushes that a busy machine answers late, and emitters that wait for it.

use std::time::{Duration, Instant};

use aether::nats::NatsOptions;
use aether_core::{Aether, FlushError, InboxOptions, WhenFull};

/// A limit for what takes milliseconds on an idle machine. No test waits for it to expire.
const LONG: Duration = Duration::from_secs(180);

/// Flushes, and again if that gives up after its whole patience, in which a busy machine may answer nothing. No wave may
/// be lost meanwhile.
pub(crate) async fn flushed(aether: &Aether) {
    let (started, unconfirmed) = (Instant::now(), aether.status().unconfirmed);
    loop {
        let began = Instant::now();
        match aether.flush().await {
            Ok(()) => return,
            Err(FlushError::Unconfirmed { patience, .. } | FlushError::Unanswered { patience })
                if !patience.is_zero() && began.elapsed() >= patience && started.elapsed() < LONG =>
            {
                assert_eq!(aether.status().unconfirmed, unconfirmed, "waves may be lost");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Emitters wait for room as long as it takes. By default they give up after 100 ms, in which a server on a busy machine may
/// take nothing.
pub(crate) fn patient() -> NatsOptions {
    NatsOptions::default().outbox(InboxOptions::default().when_full(WhenFull::Wait { patience: LONG }))
}
