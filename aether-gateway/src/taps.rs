//! Taps: who hears waves through the gateway, and the bounded queue of each.
//!
//! The observer offers every wave to all taps and never waits. A full tap gives up its oldest waves and counts them. A wave is
//! written as JSON once, by the first client that sends it. While there is no tap, a wave costs one load of a number.

mod filter;
pub(crate) mod record;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use aether_core::Wave;
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::access::WaveRights;
use crate::bucket::TokenBucket;
use crate::gate::GateError;
pub(crate) use filter::{Filter, FilterDraft};

/// The maximum number of waves that wait in a tap.
const MOST_WAVES: usize = 1024;

/// All taps, and the counts of their clients.
#[derive(Debug, Default)]
pub(crate) struct Taps {
    number: AtomicUsize,
    open: RwLock<Vec<Arc<Tap>>>,
    pub(crate) sockets: AtomicUsize,
    pub(crate) streams: AtomicUsize,
    missed: Arc<AtomicU64>,
    pub(crate) emitted: AtomicU64,
    pub(crate) asked: AtomicU64,
    stalled: AtomicU64,
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

/// The clients that hear and emit waves through the gateway.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WavesLine {
    /// Connections over WebSocket, and those that read `/waves`.
    pub(crate) clients: usize,
    pub(crate) subscriptions: usize,
    /// Waves that clients were not sent because they did not read fast enough, or did not want so many a second.
    pub(crate) missed_waves: u64,
    pub(crate) emitted_waves: u64,
    pub(crate) questions: u64,
    /// Clients that were given up because they did not read.
    pub(crate) stalled_clients: u64,
    /// Requests that were refused, by reason.
    pub(crate) refused: BTreeMap<&'static str, u64>,
}

/// The waves that wait for one subscription of a client.
#[derive(Debug)]
pub(crate) struct Tap {
    filter: Filter,
    rights: WaveRights,
    max_bytes: usize,
    wake: Arc<Notify>,
    missed: Arc<AtomicU64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    waves: VecDeque<Arc<Seen>>,
    bytes: usize,
    /// Since the client was told.
    missed: u64,
    rate: Option<TokenBucket>,
}

/// A wave that was observed, and its JSON once somebody needs it.
#[derive(Debug)]
pub(crate) struct Seen {
    wave: Wave,
    json: OnceLock<String>,
}

/// A tap that closes when it is dropped.
#[derive(Debug)]
pub(crate) struct OpenTap {
    taps: Arc<Taps>,
    tap: Arc<Tap>,
}

impl Taps {
    /// Offers a wave to all taps.
    pub(crate) fn offer(&self, wave: &Wave) {
        if self.number.load(Ordering::Relaxed) == 0 {
            return;
        }
        let now = Instant::now();
        let mut seen = None;
        for tap in self.open.read().iter() {
            if tap.filter.matches(wave) && tap.rights.may_hear(wave.channel()) {
                let seen = seen.get_or_insert_with(|| {
                    Arc::new(Seen { wave: wave.clone().unanswerable(), json: OnceLock::new() })
                });
                tap.push(seen, now);
            }
        }
    }

    /// The counts.
    pub(crate) fn line(&self) -> WavesLine {
        let number = |count: &AtomicU64| count.load(Ordering::Relaxed);
        WavesLine {
            clients: self.sockets.load(Ordering::Relaxed) + self.streams.load(Ordering::Relaxed),
            subscriptions: self.number.load(Ordering::Relaxed),
            missed_waves: number(&self.missed),
            emitted_waves: number(&self.emitted),
            questions: number(&self.asked),
            stalled_clients: number(&self.stalled),
            refused: self.refused.lock().clone(),
        }
    }

    pub(crate) fn refuse(&self, error: &GateError) {
        *self.refused.lock().entry(error.reason()).or_default() += 1;
    }

    pub(crate) fn refuse_for(&self, reason: &'static str) {
        *self.refused.lock().entry(reason).or_default() += 1;
    }

    pub(crate) fn stalled(&self) {
        self.stalled.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn one(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl OpenTap {
    /// Opens a tap. `wake` is notified when waves wait, or have been missed.
    pub(crate) fn open(
        taps: &Arc<Taps>,
        filter: Filter,
        rights: WaveRights,
        per_second: Option<u32>,
        max_bytes: usize,
        wake: Arc<Notify>,
    ) -> Self {
        let rate = per_second.map(|waves| TokenBucket::new(waves, f64::from(waves), Instant::now()));
        let state = State { waves: VecDeque::new(), bytes: 0, missed: 0, rate };
        let missed = Arc::clone(&taps.missed);
        let tap = Arc::new(Tap { filter, rights, max_bytes, wake, missed, state: Mutex::new(state) });
        taps.open.write().push(Arc::clone(&tap));
        taps.number.fetch_add(1, Ordering::Relaxed);
        Self { taps: Arc::clone(taps), tap }
    }

    /// The waves that wait, the oldest first, and how many were missed before them.
    ///
    /// If others still wait, it notifies again.
    pub(crate) fn take(&self, most: usize) -> (Vec<Arc<Seen>>, u64) {
        self.tap.take(most)
    }
}

impl Drop for OpenTap {
    fn drop(&mut self) {
        let taps = &self.taps;
        taps.open.write().retain(|tap| !Arc::ptr_eq(tap, &self.tap));
        taps.number.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tap {
    fn push(&self, seen: &Arc<Seen>, now: Instant) {
        let mut state = self.state.lock();
        if let Some(rate) = &mut state.rate
            && rate.take(now).is_err()
        {
            // The client is told with the next wave: a message for each wave that it does not want would be a flood itself.
            return self.miss(&mut state, 1);
        }
        state.bytes += seen.wave.weight();
        state.waves.push_back(Arc::clone(seen));
        let mut given_up = 0;
        while state.waves.len() > MOST_WAVES || (state.bytes > self.max_bytes && state.waves.len() > 1) {
            if let Some(oldest) = state.waves.pop_front() {
                state.bytes -= oldest.wave.weight();
                given_up += 1;
            }
        }
        self.miss(&mut state, given_up);
        drop(state);
        self.wake.notify_one();
    }

    fn miss(&self, state: &mut State, waves: u64) {
        state.missed += waves;
        self.missed.fetch_add(waves, Ordering::Relaxed);
    }

    fn take(&self, most: usize) -> (Vec<Arc<Seen>>, u64) {
        let mut state = self.state.lock();
        let waves = state.waves.len().min(most);
        let taken: Vec<_> = state.waves.drain(..waves).collect();
        state.bytes -= taken.iter().map(|seen| seen.wave.weight()).sum::<usize>();
        if !state.waves.is_empty() {
            self.wake.notify_one();
        }
        (taken, std::mem::take(&mut state.missed))
    }
}

impl Seen {
    pub(crate) fn json(&self) -> &str {
        self.json.get_or_init(|| record::json(&self.wave, record::MAX_SHOWN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn open(taps: &Arc<Taps>, query: &str, per_second: Option<u32>, max_bytes: usize) -> OpenTap {
        let filter = FilterDraft::of_query(query).unwrap().filter().unwrap();
        OpenTap::open(taps, filter, WaveRights::all(), per_second, max_bytes, Arc::default())
    }

    fn wave(channel: &str) -> Wave {
        Wave::from_bytes(channel, "x".repeat(100)).unwrap()
    }

    #[tokio::test]
    async fn a_full_tap_keeps_the_newest_waves_and_counts_the_others() {
        let taps = Arc::new(Taps::default());
        let (all, some) = (open(&taps, "", None, usize::MAX), open(&taps, "pattern=b", None, 1 << 20));
        for _ in 0..MOST_WAVES + 7 {
            taps.offer(&wave("a"));
        }
        taps.offer(&wave("b"));
        let (waves, missed) = all.take(usize::MAX);
        assert_eq!((waves.len(), missed), (MOST_WAVES, 8));
        assert!(waves.last().unwrap().json().contains(r#""channel":"b""#));
        assert_eq!(all.take(9).1, 0, "told once");
        assert_eq!((some.take(9).0.len(), taps.line().missed_waves), (1, 8));
        drop((all, some));
        assert_eq!(taps.line().subscriptions, 0);
        assert!(taps.open.read().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_and_the_rate_are_bounded_too() {
        let taps = Arc::new(Taps::default());
        let (small, slow) =
            (open(&taps, "", None, 3 * wave("a").weight()), open(&taps, "", Some(2), 1 << 20));
        for _ in 0..10 {
            taps.offer(&wave("a"));
        }
        assert_eq!((small.take(99).0.len(), slow.take(99).0.len()), (3, 2));
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        for _ in 0..10 {
            taps.offer(&wave("a"));
        }
        let (waves, missed) = slow.take(99);
        assert_eq!((waves.len(), missed), (2, 8));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_woken_until_nothing_waits_and_not_by_what_it_misses() {
        let taps = Arc::new(Taps::default());
        let wake = Arc::new(Notify::new());
        let filter = FilterDraft::default().filter().unwrap();
        let tap = OpenTap::open(&taps, filter, WaveRights::all(), Some(3), 1 << 20, Arc::clone(&wake));
        let is_woken = || wake.notified().now_or_never().is_some();
        for _ in 0..5 {
            taps.offer(&wave("a"));
        }
        assert!(is_woken() && !is_woken());
        assert_eq!(tap.take(2).0.len(), 2);
        assert!(is_woken(), "one still waits");
        assert_eq!((tap.take(2).0.len(), is_woken()), (1, false));
        taps.offer(&wave("a"));
        assert!(!is_woken(), "it was missed");
        assert_eq!(tap.take(2).1, 1);
    }

    #[tokio::test]
    async fn a_client_hears_only_what_its_token_allows() {
        let taps = Arc::new(Taps::default());
        let rights = WaveRights { hear: vec![aether_core::Pattern::new("a.*").unwrap()], emit: Vec::new() };
        let filter = FilterDraft::default().filter().unwrap();
        let tap = OpenTap::open(&taps, filter, rights, None, 1 << 20, Arc::default());
        for channel in ["a.b", "b.a", "a.c"] {
            taps.offer(&wave(channel));
        }
        assert_eq!(tap.take(9).0.len(), 2);
    }
}
