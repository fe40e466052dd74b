//! Taps: the hearers of waves through the gateway.
//!
//! The observer offers every wave to all [feeds](feed), of which clients that want the same waves share one, and never
//! waits. A full feed gives up its oldest waves and counts them. A wave is written as JSON once, and a message once for
//! all clients of a feed, by the first one that sends it. While there is no tap, a wave costs one load of a number.

mod batch;
mod feed;
mod filter;
pub(crate) mod record;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use aether_core::Wave;
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::access::WaveRights;
use crate::audit::Audit;
use crate::gate::GateError;
use crate::log::Log;
use batch::Seen;
pub(crate) use batch::message;
pub(crate) use feed::Taken;
use feed::{Feed, Place, Wanted};
pub(crate) use filter::{Filter, FilterDraft};

/// All taps, and the counts of their clients.
#[derive(Debug, Default)]
pub(crate) struct Taps {
    number: AtomicUsize,
    open: RwLock<Vec<Arc<Feed>>>,
    pub(crate) sockets: AtomicUsize,
    pub(crate) streams: AtomicUsize,
    missed: Arc<AtomicU64>,
    pub(crate) emitted: AtomicU64,
    pub(crate) asked: AtomicU64,
    stalled: AtomicU64,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    pub(crate) audit: Audit,
    log: Arc<Log>,
}

/// The clients that hear and emit waves through the gateway.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WavesLine {
    /// Connections over WebSocket, and those that read `/waves`.
    pub(crate) clients: usize,
    pub(crate) subscriptions: usize,
    /// Waves that clients were not sent because they did not read fast enough, or asked for fewer a second.
    pub(crate) missed_waves: u64,
    pub(crate) emitted_waves: u64,
    pub(crate) questions: u64,
    /// Clients that were given up because they did not read.
    pub(crate) stalled_clients: u64,
    /// Requests that were refused, by reason.
    pub(crate) refused: BTreeMap<&'static str, u64>,
}

/// A tap that closes when it is dropped.
#[derive(Debug)]
pub(crate) struct OpenTap {
    taps: Arc<Taps>,
    feed: Arc<Feed>,
    place: Place,
    wake: Arc<Notify>,
}

impl Taps {
    pub(crate) fn new(log: Arc<Log>) -> Self {
        Self { log, ..Self::default() }
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Offers a wave to all taps.
    pub(crate) fn offer(&self, wave: &Wave) {
        if self.number.load(Ordering::Relaxed) == 0 {
            return;
        }
        let now = Instant::now();
        let mut seen = None;
        for feed in self.open.read().iter() {
            if feed.wants(wave) {
                feed.push(seen.get_or_insert_with(|| Seen::new(wave)), now);
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
        self.refuse_for(error.reason());
    }

    pub(crate) fn refuse_for(&self, reason: &'static str) {
        *self.refused.lock().entry(reason).or_default() += 1;
        self.log.refused(reason);
    }

    pub(crate) fn stalled(&self) {
        self.stalled.fetch_add(1, Ordering::Relaxed);
        self.log.stalled();
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
        let wanted = Wanted { filter, hear: rights.hear, per_second, max_bytes };
        let mut open = taps.open.write();
        let known = open.iter().find(|feed| feed.wanted == wanted).cloned();
        let feed = known.unwrap_or_else(|| {
            let feed = Arc::new(Feed::new(wanted, Arc::clone(&taps.missed)));
            open.push(Arc::clone(&feed));
            feed
        });
        let place = feed.join(Arc::clone(&wake));
        drop(open);
        taps.number.fetch_add(1, Ordering::Relaxed);
        Self { taps: Arc::clone(taps), feed, place, wake }
    }

    /// The waves that wait, the oldest first, and how many were missed before them.
    ///
    /// If others still wait, it notifies again.
    pub(crate) fn take(&mut self, now: Instant) -> Taken {
        self.feed.take(&mut self.place, &self.wake, now)
    }
}

impl Drop for OpenTap {
    fn drop(&mut self) {
        let mut open = self.taps.open.write();
        if self.feed.leave(self.place, &self.wake) {
            open.retain(|feed| !Arc::ptr_eq(feed, &self.feed));
        }
        self.taps.number.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::feed::{BATCH, COLLECTING, CROWD, MOST_WAVES, STEP};
    use super::*;
    use futures_util::FutureExt as _;

    fn open(taps: &Arc<Taps>, query: &str, per_second: Option<u32>, max_bytes: usize) -> OpenTap {
        let filter = FilterDraft::of_query(query).unwrap().filter().unwrap();
        OpenTap::open(taps, filter, WaveRights::all(), per_second, max_bytes, Arc::default())
    }

    fn wave(channel: &str) -> Wave {
        Wave::from_bytes(channel, "x".repeat(100)).unwrap()
    }

    /// The channels of all waves that wait, and how many were missed.
    fn all(tap: &mut OpenTap) -> (Vec<String>, u64) {
        let (mut channels, mut missed, mut now) = (Vec::new(), 0, Instant::now());
        loop {
            let taken = tap.take(now);
            missed += taken.missed;
            for batch in &taken.batches {
                let message: serde_json::Value = serde_json::from_str(&batch.message(1, 0)).unwrap();
                let waves = message["waves"].as_array().unwrap();
                channels.extend(waves.iter().map(|wave| wave["channel"].as_str().unwrap().to_owned()));
            }
            if taken.batches.is_empty() && taken.again.is_none() {
                return (channels, missed);
            }
            now = taken.again.unwrap_or(now);
        }
    }

    #[tokio::test]
    async fn a_full_feed_keeps_the_newest_waves_and_counts_the_others_for_those_that_did_not_take_them() {
        let taps = Arc::new(Taps::default());
        let mut quick = open(&taps, "", None, usize::MAX);
        let mut slow = open(&taps, "", None, usize::MAX);
        let mut some = open(&taps, "pattern=b", None, 1 << 20);
        assert_eq!(taps.open.read().len(), 2, "those that want the same share a feed");
        let (emitted, mut read) = (MOST_WAVES + 2 * BATCH, 0);
        for _ in 0..emitted {
            taps.offer(&wave("a"));
            if taps.line().missed_waves == 0 && read < BATCH {
                read += quick.take(Instant::now()).batches.len();
            }
        }
        taps.offer(&wave("b"));
        let (channels, missed) = all(&mut slow);
        assert_eq!(channels.len() + missed as usize, emitted + 1);
        assert!(channels.len() > MOST_WAVES - BATCH && channels.len() <= MOST_WAVES + BATCH, "{missed}");
        assert_eq!(channels.last().unwrap(), "b");
        assert_eq!(all(&mut slow), (Vec::new(), 0), "told once");
        let of_quick = all(&mut quick).1;
        assert_eq!(taps.line().missed_waves, missed + of_quick, "counted once for each client");
        assert_eq!(all(&mut some), (vec!["b".to_owned()], 0));
        drop((quick, slow, some));
        assert_eq!(taps.line().subscriptions, 0);
        assert!(taps.open.read().is_empty());
    }

    #[tokio::test]
    async fn who_comes_later_gets_only_what_comes_later_and_who_leaves_holds_nothing_back() {
        let taps = Arc::new(Taps::default());
        let (mut first, gone) = (open(&taps, "", None, 1 << 20), open(&taps, "", None, 1 << 20));
        taps.offer(&wave("a"));
        let mut second = open(&taps, "", None, 1 << 20);
        taps.offer(&wave("b"));
        drop(gone);
        assert_eq!(all(&mut second), (vec!["b".to_owned()], 0));
        assert_eq!(all(&mut first), (vec!["a".to_owned(), "b".to_owned()], 0));
        assert_eq!((first.feed.waiting(), taps.line().missed_waves), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_and_the_rate_are_bounded_too() {
        let taps = Arc::new(Taps::default());
        let mut small = open(&taps, "", None, 3 * wave("a").weight());
        let mut slow = open(&taps, "", Some(2), 1 << 20);
        for _ in 0..10 {
            taps.offer(&wave("a"));
        }
        assert_eq!((all(&mut small).0.len(), all(&mut slow).0.len()), (3, 2));
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        for _ in 0..10 {
            taps.offer(&wave("a"));
        }
        let (waves, missed) = all(&mut slow);
        assert_eq!((waves.len(), missed), (2, 8));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wave_after_a_pause_is_taken_at_once_and_the_next_ones_together() {
        let taps = Arc::new(Taps::default());
        let mut tap = open(&taps, "", None, 1 << 20);
        let wake = Arc::clone(&tap.wake);
        let is_woken = || wake.notified().now_or_never().is_some();
        taps.offer(&wave("a"));
        assert!(is_woken() && !is_woken());
        let begin = Instant::now();
        let taken = tap.take(begin);
        assert_eq!((taken.batches.len(), taken.again), (1, Some(begin + COLLECTING)));
        for _ in 0..3 {
            taps.offer(&wave("a"));
        }
        let taken = tap.take(begin);
        assert_eq!((taken.batches.len(), taken.again), (0, Some(begin + COLLECTING)));
        let taken = tap.take(begin + COLLECTING);
        assert_eq!((taken.batches.len(), taken.batches[0].len()), (1, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn clients_of_a_crowd_have_their_own_rhythm_and_share_the_batches() {
        let taps = Arc::new(Taps::default());
        let mut crowd: Vec<_> = (0..=CROWD).map(|_| open(&taps, "", None, 1 << 20)).collect();
        taps.offer(&wave("a"));
        let (begin, apart) = (Instant::now(), std::time::Duration::from_millis(3));
        let mut taken = |at: usize, now| crowd[at].take(now);
        let (first, second) = (taken(0, begin), taken(1, begin + apart));
        assert_eq!(first.again, Some(begin + COLLECTING));
        assert_eq!(second.again, Some(begin + apart + COLLECTING), "not when the first looks again");
        assert!(Arc::ptr_eq(&first.batches[0], &second.batches[0]));
        // Waves that come meanwhile are in several batches, of which each client sends all that are closed.
        taps.offer(&wave("b"));
        let third = taken(2, begin + STEP);
        assert_eq!(third.batches.iter().map(|batch| batch.len()).collect::<Vec<_>>(), [1, 1]);
        taps.offer(&wave("c"));
        let first = taken(0, begin + COLLECTING);
        assert_eq!(first.batches.iter().map(|batch| batch.len()).collect::<Vec<_>>(), [1, 1]);
        assert!(Arc::ptr_eq(&first.batches[0], &third.batches[1]));
        // One that finds a batch open looks again when it is closed.
        taps.offer(&wave("d"));
        let late = begin + COLLECTING + STEP / 2;
        assert_eq!(taken(2, late).batches.len(), 1);
        let found = taken(2, late);
        assert_eq!((found.batches.len(), found.again), (0, Some(begin + COLLECTING + STEP)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_woken_until_nothing_waits_and_not_by_what_it_misses() {
        let taps = Arc::new(Taps::default());
        let mut tap = open(&taps, "", Some(3 * BATCH as u32), 1 << 20);
        let wake = Arc::clone(&tap.wake);
        let is_woken = || wake.notified().now_or_never().is_some();
        for _ in 0..3 * BATCH {
            taps.offer(&wave("a"));
        }
        assert!(is_woken() && !is_woken());
        let now = Instant::now();
        assert_eq!(tap.take(now).batches.len(), 1);
        assert!(is_woken(), "others still wait");
        assert_eq!((tap.take(now).batches.len(), is_woken()), (1, true));
        assert_eq!((tap.take(now).batches.len(), is_woken()), (1, false));
        taps.offer(&wave("a"));
        assert!(!is_woken(), "it was missed");
        assert_eq!(tap.take(now).missed, 1);
    }

    #[tokio::test]
    async fn a_client_hears_only_what_its_token_allows() {
        let taps = Arc::new(Taps::default());
        let rights = WaveRights { hear: vec![aether_core::Pattern::new("a.*").unwrap()], emit: Vec::new() };
        let filter = FilterDraft::default().filter().unwrap();
        let mut tap = OpenTap::open(&taps, filter, rights, None, 1 << 20, Arc::default());
        let mut everything = open(&taps, "", None, 1 << 20);
        for channel in ["a.b", "b.a", "a.c"] {
            taps.offer(&wave(channel));
        }
        assert_eq!((all(&mut tap).0.len(), all(&mut everything).0.len()), (2, 3));
    }
}
