//! The state that all consumers of one name share: it looks ahead in the log, and hands out its waves.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aether_core::Pattern;
use aether_core::clock::micros_since_1970;
use aether_core::wave::ChannelError;
use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, sleep_until};

use crate::consumer::attempts::{Attempts, ENDED};
use crate::consumer::claim::Claim;
use crate::consumer::delivery::{Delivery, Ending};
use crate::consumer::error::{ConsumeError, WeightError};
use crate::consumer::journal::Journal;
use crate::consumer::ledger::ConsumerLedger;
use crate::consumer::options::ConsumerOptions;
use crate::consumer::queue::{QueueStanding, QueuedJob};
use crate::consumer::tenant::Tenant;
use crate::consumer::window::{Failures, Fate, Window};
use crate::dead::{Attempt, CANCELLED, DeadStore};
use crate::log_lines::LogLines;
use crate::matching::Matching;
use crate::name::is_name;
use crate::sealing::{Sealing, Unopened};
use crate::store::{Cursor, Item, OpenError, ReadError, Record, Settled, Store};
use crate::stored_wave::{Unread, WAVE, peek, read};

/// The greatest number of records that are looked at without a break.
const LOOKED_AT: usize = 65_536;

/// How many waves whose contents are not held are read together, and about how many bytes.
const READ_TOGETHER: (usize, usize) = (256, 1 << 20);

/// When a wave whose key is missing is looked at again.
const LOCKED_AGAIN: Duration = Duration::from_secs(5);

/// While waves are ready, the log is looked at again when this share of the window is free.
const SHARE_LOOKED_AT: usize = 8;

#[derive(Debug)]
pub(crate) struct ConsumerShared {
    name: String,
    pattern: Pattern,
    options: Arc<ConsumerOptions>,
    store: Arc<Store>,
    dead: Arc<DeadStore>,
    journal: Arc<Journal>,
    attempts: Arc<Attempts>,
    window: Arc<Window>,
    scanner: Arc<AsyncMutex<Scanner>>,
    /// Reads waves whose contents are not held.
    reader: Arc<AsyncMutex<Cursor>>,
    /// Those about waves that wait for a key.
    locked: Mutex<LogLines>,
}

/// Looks ahead.
#[derive(Debug)]
struct Scanner {
    cursor: Cursor,
    matching: Matching,
    by_key: bool,
    fair_by: Option<Tenant>,
    /// Opens the waves whose keys or tenants are read.
    sealing: Arc<Sealing>,
}

impl ConsumerShared {
    pub(crate) fn open(
        folder: &Path,
        name: &str,
        pattern: Pattern,
        options: ConsumerOptions,
        store: Arc<Store>,
        dead: Arc<DeadStore>,
    ) -> Result<Self, ConsumeError> {
        if !is_name(name) {
            return Err(ConsumeError::Name { name: name.to_owned() });
        }
        options.check()?;
        let (journal, mut read) = {
            let (sealing, last) = (Arc::clone(dead.sealing()), store.extent().last);
            Journal::open(folder, pattern.clone(), &options, last, sealing)?
        };
        let stored: Option<Result<Pattern, ChannelError>> = read.pattern.as_deref().map(Pattern::new);
        if let Some(stored) = stored.transpose()?.filter(|stored| *stored != pattern) {
            return Err(ConsumeError::OtherPattern { name: name.to_owned(), stored, given: pattern });
        }
        let ended = read.recovered.end_attempts(&Attempts::last(folder)?, || Attempt {
            micros: micros_since_1970(),
            error: ENDED.to_owned(),
        });
        if !ended.is_empty() {
            tracing::warn!(
                consumer = name,
                waves = ended.len(),
                "waves were in flight when the process ended"
            );
            journal.note_failures(&ended)?;
        }
        // Only now: the journal has what was in it.
        let attempts = Attempts::begin(folder, options.max_in_flight.get())?;
        let cursor = store.cursor(read.recovered.floor + 1);
        let (matching, by_key, fair_by) = (Matching::new(&pattern), options.by_key, options.fair_by);
        let scanner = Scanner { cursor, matching, by_key, fair_by, sealing: Arc::clone(dead.sealing()) };
        let reader = store.cursor(0);
        dead.begin(name);
        Ok(Self {
            name: name.to_owned(),
            pattern,
            options: Arc::new(options),
            dead,
            journal: Arc::new(journal),
            attempts: Arc::new(attempts),
            window: Arc::new(Window::new(read.recovered, &options)),
            scanner: Arc::new(AsyncMutex::new(scanner)),
            reader: Arc::new(AsyncMutex::new(reader)),
            locked: Mutex::default(),
            store,
        })
    }

    /// The greatest position that the consumer in this folder knows, settled or not.
    pub(crate) fn last_noted(folder: &Path) -> Result<u64, OpenError> {
        let begun = Attempts::last(folder)?.into_iter().map(|(position, _)| position);
        Ok(begun.fold(Journal::last_noted(folder)?, u64::max))
    }

    /// Up to which position the consumer in this folder has settled everything, as far as it has noted that; 0 if it has not
    /// begun.
    pub(crate) fn settled_in(folder: &Path) -> Result<u64, OpenError> {
        if !folder.is_dir() {
            return Ok(0);
        }
        let read = Journal::look(folder)?.recovered;
        Ok(read.settled.first_absent_from(read.floor + 1) - 1)
    }

    /// The same of this one, for as long as it is open. It does not keep the log open.
    pub(crate) fn settled(&self) -> Settled {
        let window = Arc::downgrade(&self.window);
        Box::new(move || Some(window.upgrade()?.floor()))
    }

    pub(crate) fn check_pattern(&self, given: &Pattern) -> Result<(), ConsumeError> {
        let (name, stored, given) = (self.name.clone(), self.pattern.clone(), given.clone());
        if stored == given { Ok(()) } else { Err(ConsumeError::OtherPattern { name, stored, given }) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn set_weight(&self, tenant: &str, weight: NonZeroU32) -> Result<(), WeightError> {
        self.window.set_weight(tenant, weight)
    }

    pub(super) fn ledger(&self) -> ConsumerLedger {
        self.window.ledger()
    }

    pub(super) fn pause(&self, is_paused: bool) {
        self.window.pause(is_paused);
    }

    pub(super) fn retry(&self, position: Option<u64>) -> u64 {
        self.window.retry(position)
    }

    pub(super) fn queue(&self) -> QueueStanding {
        let (scanned, _) = self.window.next_scan(0);
        let unseen = (self.store.extent().last + 1).saturating_sub(scanned);
        let letters = self.dead.of_consumer(&self.name);
        let counted = self.window.counted();
        let waiting = counted.ready;
        counted.standing(&self.pattern, &self.options, (waiting, unseen), letters)
    }

    /// The waves in flight and those that pause, with their contents.
    pub(super) async fn jobs(&self, after: u64, most: usize) -> Result<Vec<QueuedJob>, ConsumeError> {
        let found = self.window.found(after, most);
        let mut reader = Arc::clone(&self.reader).lock_owned().await;
        let sealing = Arc::clone(self.dead.sealing());
        let reading = aether_files::disk::spawn_blocking(move || {
            let jobs = found.into_iter().map(|found| {
                let record = reader.read_at(found.position, found.place)?;
                let wave = record.as_ref().and_then(|record| peek(record, &sealing));
                let (position, attempt, state, error) =
                    (found.position, found.attempt, found.state, found.error);
                Ok(QueuedJob { position, wave, attempt, state, error })
            });
            jobs.collect::<Result<_, ReadError>>()
        });
        Ok(reading.await.map_err(|_| ConsumeError::ShutDown)??)
    }

    /// Gives up a wave that waits or pauses. False if it does not.
    pub(super) async fn cancel(&self, position: u64) -> Result<bool, ConsumeError> {
        let Some((pending, mut failures)) = self.window.take_at(position) else { return Ok(false) };
        failures.end(Attempt::now(CANCELLED));
        self.deliver(Claim::new(Arc::clone(&self.window), pending), failures).await?;
        Ok(true)
    }

    pub(super) async fn receive(&self) -> Result<Delivery, ConsumeError> {
        let mut last = self.store.last_position();
        // Looking ahead for each wave that has ended would cost more than handling it.
        let mut least = (self.options.window.get() / SHARE_LOOKED_AT).max(1);
        loop {
            let changed = self.window.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let newest = *last.borrow_and_update();
            let is_behind = self.scan(newest, least).await?;
            match self.window.take(self.options.max_in_flight.get(), Instant::now()) {
                Ok((pending, failures)) => {
                    let claim = Claim::new(Arc::clone(&self.window), pending);
                    if let Some(delivery) = self.deliver(claim, failures).await? {
                        return Ok(delivery);
                    }
                }
                // More of the log is to be looked at.
                Err(_) if is_behind => {}
                Err(_) if least > 1 => least = 1,
                Err(due) => {
                    let is_due = async {
                        match due {
                            Some(due) => sleep_until(due).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        biased;
                        () = changed => {}
                        () = is_due => {}
                        // The log lives as long as this consumer.
                        _ = last.changed() => {}
                    }
                }
            }
        }
    }

    /// Looks ahead as far as there is room, if there is room for this many. Returns whether there still is, and more to look
    /// at.
    async fn scan(&self, newest: u64, least: usize) -> Result<bool, ConsumeError> {
        let is_due = |window: &Window| {
            let (next, room) = window.next_scan(self.options.window.get());
            next <= newest && room >= least
        };
        if !is_due(&self.window) {
            return Ok(false);
        }
        let mut scanner = Arc::clone(&self.scanner).lock_owned().await;
        let (_, room) = self.window.next_scan(self.options.window.get());
        if !is_due(&self.window) {
            return Ok(false);
        }
        let window = Arc::clone(&self.window);
        let scanned = aether_files::disk::spawn_blocking(move || scanner.scan(&window, room)).await;
        scanned.map_err(|_| ConsumeError::ShutDown)??;
        Ok(is_due(&self.window))
    }

    /// Delivers a wave, or settles one that is not to be delivered.
    async fn deliver(&self, claim: Claim, failures: Failures) -> Result<Option<Delivery>, ConsumeError> {
        let Some(pending) = claim.pending() else { return Ok(None) };
        let (position, place) = (pending.order.position, pending.place);
        let record = match pending.record.clone() {
            Some(record) => Some(record),
            None => {
                let mut reader = Arc::clone(&self.reader).lock_owned().await;
                let window = Arc::clone(&self.window);
                let read = aether_files::disk::spawn_blocking(move || {
                    let record = reader.read_at(position, place)?;
                    // Those that follow as well, as a thread is there.
                    let (mut room, mut next) = (READ_TOGETHER.1, HashMap::new());
                    for (position, place) in window.missing(READ_TOGETHER.0) {
                        let Ok(Some(record)) = reader.read_at(position, place) else { break };
                        let Some(left) = room.checked_sub(record.size()) else { break };
                        room = left;
                        next.insert(position, record.copied());
                    }
                    window.hold(next);
                    Ok::<_, ReadError>(record)
                });
                read.await.map_err(|_| ConsumeError::ShutDown)??
            }
        };
        let stored = match record.as_ref().and_then(|record| read(record, self.dead.sealing())) {
            Some(Ok(stored)) => stored,
            Some(Err(Unread::Unopened(error @ Unopened::Locked))) => {
                if let Some(left_out) = self.locked.lock().due(LOCKED_AGAIN, Instant::now()) {
                    tracing::warn!(position, consumer = self.name, %error, left_out, "a wave waits for its key and is delivered again");
                }
                claim.hold_back(Instant::now() + LOCKED_AGAIN);
                // All waves of a window may wait for a key.
                tokio::task::coop::consume_budget().await;
                return Ok(None);
            }
            unreadable => {
                let reason = unreadable.and_then(Result::err).map(|error| error.to_string());
                tracing::warn!(
                    position,
                    consumer = self.name,
                    reason,
                    "a wave is not in the log any more or cannot be read"
                );
                self.journal.settled(vec![claim], Fate::Expired, &self.window).await?;
                return Ok(None);
            }
        };
        // The key to open it was missing when it was looked at. It waits for earlier waves of its own key that are away.
        if self.options.by_key && pending.order.key.is_none() && stored.wave.key().is_some() {
            claim.give_back_with_key(stored.wave.key().map(Arc::from));
            return Ok(None);
        }
        if failures.is_final || failures.count >= self.options.max_attempts.get() {
            // After a crash in between the letter is there already.
            if !self.dead.has(&self.name, &stored) {
                self.dead.give_up(&self.name, &stored, failures.count, &failures.listed).await?;
            }
            self.journal.settled(vec![claim], Fate::Dead, &self.window).await?;
            return Ok(None);
        }
        let attempt = failures.count + 1;
        let begun = self.attempts.note(position, attempt).map_err(ConsumeError::Attempt)?;
        let (journal, window) = (Arc::clone(&self.journal), Arc::clone(&self.window));
        window.delivered(position);
        let ending = Ending::Journal { claim, journal, window, options: Arc::clone(&self.options), begun };
        Ok(Some(Delivery::new(stored, attempt, ending)))
    }
}

impl Scanner {
    fn scan(&mut self, window: &Window, room: usize) -> Result<(), ReadError> {
        let mut added = 0;
        for _ in 0..LOOKED_AT {
            match self.cursor.next_placed()? {
                None => break,
                Some((Item::Damaged(damage), _)) => {
                    tracing::error!(%damage, "a part of the log is damaged and not delivered");
                }
                Some((Item::Record(record), place)) => {
                    if self.is_wanted(&record) {
                        let (key, tenant) = self.key_and_tenant(&record);
                        window.add(record, place, key, tenant);
                        added += 1;
                    }
                }
            }
            // Noted one by one, so that a wave is never looked at twice.
            window.scanned_to(self.cursor.position());
            if added == room {
                break;
            }
        }
        Ok(())
    }

    fn is_wanted(&mut self, record: &Record) -> bool {
        record.kind == WAVE && self.matching.matches(&record.name)
    }

    fn key_and_tenant(&self, record: &Record) -> (Option<Arc<str>>, Option<Arc<str>>) {
        if !self.by_key && self.fair_by.is_none() {
            return (None, None);
        }
        let Some(wave) = peek(record, &self.sealing) else { return (None, None) };
        let key = wave.key().filter(|_| self.by_key).map(Arc::from);
        (key, self.fair_by.and_then(|tenant| tenant.of(&wave)))
    }
}
