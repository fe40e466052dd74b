//! Removal by channel: waves that are too old, and all but the last wave of each key.
//!
//! Both rewrite full segments. A thread does it from time to time if the log has rules for it; the functions of
//! [`Log`](crate::Log) do it at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aether_core::Pattern;
use aether_core::clock::micros_since_1970;
use aether_files::disk::{Bell, Worker};

use crate::matching::Matching;
use crate::sealing::Sealing;
use crate::store::{Item, ReadError, Record, Rewritten, Store};
use crate::stored_wave::{WAVE, peek};

/// What is removed, by channel.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    /// Waves of these channels are dropped at this age.
    pub(crate) max_ages: Vec<(Pattern, Duration)>,
    /// Of these channels only the last wave of each key is kept.
    pub(crate) compacted: Vec<Pattern>,
}

impl Rules {
    fn is_empty(&self) -> bool {
        self.max_ages.is_empty() && self.compacted.is_empty()
    }
}

/// The thread that applies the rules. Dropped, it ends after the segment at hand.
#[derive(Debug)]
pub(crate) struct Maintenance {
    stop: Arc<Stop>,
    worker: Worker,
}

#[derive(Debug, Default)]
struct Stop {
    is_stopped: AtomicBool,
    bell: Bell,
}

impl Stop {
    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Waits for the end, at most as long as this. Returns whether it has come.
    async fn within(&self, longest: Duration) -> bool {
        // Nobody else rings.
        self.is_stopped() || self.bell.wait(Some(longest)).await
    }
}

impl Maintenance {
    /// Starts the thread; `None` if there is nothing to do.
    pub(crate) fn start(
        store: &Arc<Store>,
        sealing: &Arc<Sealing>,
        rules: Rules,
        every: Duration,
    ) -> std::io::Result<Option<Self>> {
        if rules.is_empty() {
            return Ok(None);
        }
        let (disk, store, stop) = (store.disk(), Arc::clone(store), Arc::new(Stop::default()));
        let (until, sealing) = (Arc::clone(&stop), Arc::clone(sealing));
        let work = async move {
            while !until.within(every).await {
                if let Err(error) = apply(&store, &sealing, &rules, &until) {
                    tracing::warn!(%error, "the log was not cleaned up; it is tried again later");
                }
            }
        };
        let worker = Worker::start("aether-log-rules", disk, work)?;
        Ok(Some(Self { stop, worker }))
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        self.stop.is_stopped.store(true, Ordering::Release);
        self.stop.bell.ring();
        self.worker.finish();
    }
}

fn apply(store: &Store, sealing: &Sealing, rules: &Rules, stop: &Stop) -> Result<(), ReadError> {
    let now = micros_since_1970();
    for (pattern, max_age) in &rules.max_ages {
        let before = now.saturating_sub(u64::try_from(max_age.as_micros()).unwrap_or(u64::MAX));
        // Without this, waves of a quiet channel would stay until a segment is full.
        store.seal_if_before(before);
        let done = expire(store, pattern, before, || stop.is_stopped())?;
        report(pattern, done);
    }
    for pattern in &rules.compacted {
        report(pattern, compact(store, sealing, pattern, || stop.is_stopped())?);
    }
    Ok(())
}

fn report(pattern: &Pattern, done: Rewritten) {
    let Rewritten { removed, damaged, .. } = done;
    if removed > 0 || damaged > 0 {
        tracing::info!(pattern = pattern.as_str(), removed, damaged, "the log was cleaned up");
    }
}

/// Removes the waves of these channels that are older than an instant, in microseconds since 1970.
pub(crate) fn expire(
    store: &Store,
    pattern: &Pattern,
    before: u64,
    is_stopped: impl Fn() -> bool,
) -> Result<Rewritten, ReadError> {
    let mut matching = Matching::new(pattern);
    let held_after = store.holds().settled();
    let keep = |record: &Record| {
        record.kind != WAVE
            || record.micros >= before
            || record.position > held_after
            || !matching.matches(&record.name)
    };
    store.rewrite_until(keep, is_stopped)
}

/// Keeps of these channels only the last wave of each key.
pub(crate) fn compact(
    store: &Store,
    sealing: &Sealing,
    pattern: &Pattern,
    is_stopped: impl Fn() -> bool,
) -> Result<Rewritten, ReadError> {
    let mut matching = Matching::new(pattern);
    let mut last: HashMap<(Vec<u8>, Arc<str>), u64> = HashMap::new();
    // One that cannot be opened has none, and stays.
    let key = |record: &Record| Some((record.name.to_vec(), Arc::<str>::from(peek(record, sealing)?.key()?)));
    let mut cursor = store.cursor(0);
    while let Some(item) = cursor.next_item()? {
        if let Item::Record(record) = item
            && matching.matches(&record.name)
            && let Some(key) = key(&record)
        {
            last.insert(key, record.position);
        }
        if is_stopped() {
            return Ok(Rewritten::default());
        }
    }
    let held_after = store.holds().settled();
    let keep = |record: &Record| {
        record.position > held_after
            || !matching.matches(&record.name)
            || key(record).and_then(|key| last.get(&key)).is_none_or(|last| record.position >= *last)
    };
    store.rewrite_until(keep, is_stopped)
}
