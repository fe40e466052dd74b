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
use crate::consumer::ready::Order;
use crate::consumer::tenant::Tenant;
use crate::consumer::window::{Failures, Fate, Pending, Window};
use crate::dead::{Attempt, CANCELLED, DeadStore};
use crate::log_lines::LogLines;
use crate::matching::Matching;
use crate::name::is_name;
use crate::sealing::{Sealing, Unopened};
use crate::store::{Cursor, Item, OpenError, ReadError, Record, Settled, Store};
use crate::stored_wave::{Decoder, Unread, WAVE, peek};

/// The greatest number of records that are looked at without a break.
const LOOKED_AT: usize = 65_536;

/// How many of them are added to the window together.
const ADDED_TOGETHER: usize = 64;

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
    store: Arc<Store>,
    dead: Arc<DeadStore>,
    journal: Arc<Journal>,
    window: Arc<Window>,
    scanner: Arc<AsyncMutex<Scanner>>,
    /// Reads waves whose contents are not held.
    reader: Arc<AsyncMutex<Cursor>>,
    decoder: Mutex<Decoder>,
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
            dead,
            journal: Arc::new(journal),
            window: Arc::new(Window::new(read.recovered, &options, attempts)),
            scanner: Arc::new(AsyncMutex::new(scanner)),
            reader: Arc::new(AsyncMutex::new(reader)),
            decoder: Mutex::default(),
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
        let (scanned, _) = self.window.next_scan();
        let unseen = (self.store.extent().last + 1).saturating_sub(scanned);
        let letters = self.dead.of_consumer(&self.name);
        let counted = self.window.counted();
        let waiting = counted.ready;
        counted.standing(&self.pattern, self.window.options(), (waiting, unseen), letters)
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
        self.deliver(Claim::new(Arc::clone(&self.window), pending, None), failures).await?;
        Ok(true)
    }

    pub(super) async fn receive(&self) -> Result<Delivery, ConsumeError> {
        // If a wave is there, nothing is made ready for a wait.
        if let Ok(delivery) = self.next(self.store.last()).await? {
            return Ok(delivery);
        }
        let mut last = self.store.last_position();
        loop {
            let changed = self.window.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let newest = *last.borrow_and_update();
            let due = match self.next(newest).await? {
                Ok(delivery) => return Ok(delivery),
                Err(due) => due,
            };
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

    /// The next wave of the log up to this position, or when there is one.
    async fn next(&self, newest: u64) -> Result<Result<Delivery, Option<Instant>>, ConsumeError> {
        // Looking ahead for each wave that has ended would cost more than handling it.
        let mut least = (self.window.options().window.get() / SHARE_LOOKED_AT).max(1);
        loop {
            let is_behind = self.scan(newest, least).await?;
            match self.window.take(Instant::now()) {
                Ok((pending, failures, slot)) => {
                    let claim = Claim::new(Arc::clone(&self.window), pending, slot);
                    if let Some(delivery) = self.deliver(claim, failures).await? {
                        return Ok(Ok(delivery));
                    }
                }
                // More of the log is to be looked at.
                Err(_) if is_behind => {}
                Err(_) if least > 1 => least = 1,
                Err(due) => return Ok(Err(due)),
            }
        }
    }

    /// Looks ahead as far as there is room, if there is room for this many. Returns whether there still is, and more to look
    /// at. While half of the window waits, nobody waits for what is added to it.
    async fn scan(&self, newest: u64, least: usize) -> Result<bool, ConsumeError> {
        let due = || {
            let (next, room) = self.window.next_scan();
            (next <= newest && room >= least).then_some(room)
        };
        let Some(room) = due() else { return Ok(false) };
        let window = Arc::clone(&self.window);
        if least > 1 && room < window.options().window.get() / 2 {
            if let Ok(mut scanner) = Arc::clone(&self.scanner).try_lock_owned() {
                // An error comes again when nothing waits any more.
                drop(aether_files::disk::spawn_blocking(move || scanner.scan(&window, room)));
            }
            return Ok(false);
        }
        let mut scanner = Arc::clone(&self.scanner).lock_owned().await;
        let Some(room) = due() else { return Ok(false) };
        let scanned = aether_files::disk::spawn_blocking(move || scanner.scan(&window, room)).await;
        scanned.map_err(|_| ConsumeError::ShutDown)??;
        Ok(due().is_some())
    }

    /// Delivers a wave, or settles one that is not to be delivered.
    async fn deliver(&self, mut claim: Claim, failures: Failures) -> Result<Option<Delivery>, ConsumeError> {
        let held = claim.take_record();
        let Some(pending) = claim.pending() else { return Ok(None) };
        let (position, place, has_key) = (pending.order.position, pending.place, pending.order.key.is_some());
        let record = match held {
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
        let stored = match record
            .as_ref()
            .and_then(|record| self.decoder.lock().read(record, self.dead.sealing()))
        {
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
                self.journal.settled(vec![claim], Fate::Expired).await?;
                return Ok(None);
            }
        };
        // The key to open it was missing when it was looked at. It waits for earlier waves of its own key that are away.
        if self.window.options().by_key && !has_key && stored.wave.key().is_some() {
            claim.give_back_with_key(stored.wave.key().map(Arc::from));
            return Ok(None);
        }
        if failures.is_final || failures.count >= self.window.options().max_attempts.get() {
            // After a crash in between the letter is there already.
            if !self.dead.has(&self.name, &stored) {
                let giving_up = self.dead.give_up(&self.name, &stored, failures.count, &failures.listed);
                // Boxed, or the future of each wave would be as large.
                Box::pin(giving_up).await?;
            }
            self.journal.settled(vec![claim], Fate::Dead).await?;
            return Ok(None);
        }
        let attempt = failures.count + 1;
        claim.begin(attempt).map_err(ConsumeError::Attempt)?;
        self.window.delivered(position);
        let ending = Ending::Journal { claim, journal: Arc::clone(&self.journal) };
        Ok(Some(Delivery::new(stored, attempt, ending)))
    }
}

impl Scanner {
    /// Looks ahead until there is no more room, or nothing more to look at.
    fn scan(&mut self, window: &Window, mut room: usize) -> Result<(), ReadError> {
        let mut to_hold = window.room_to_hold();
        for _ in 0..LOOKED_AT / ADDED_TOGETHER {
            let mut found = Vec::with_capacity(room.min(ADDED_TOGETHER));
            let looked = self.look(room, &mut to_hold, &mut found);
            room -= found.len();
            // Also before an error, so that a wave is never looked at twice.
            window.add(found, self.cursor.position());
            if !looked? || room == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Looks at the next records. Returns whether there may be more.
    fn look(
        &mut self,
        room: usize,
        to_hold: &mut usize,
        found: &mut Vec<Pending>,
    ) -> Result<bool, ReadError> {
        for _ in 0..ADDED_TOGETHER {
            match self.cursor.next_placed()? {
                None => return Ok(false),
                Some((Item::Damaged(damage), _)) => {
                    tracing::error!(%damage, "a part of the log is damaged and not delivered");
                }
                Some((Item::Record(record), place)) => {
                    if self.is_wanted(&record) {
                        let Record { position, level, micros, .. } = record;
                        let (key, tenant) = self.key_and_tenant(&record);
                        let order = Order { position, level, micros, key, tenant };
                        let left = to_hold.checked_sub(record.size());
                        let record = left.map(|left| {
                            *to_hold = left;
                            record.copied()
                        });
                        found.push(Pending { order, place, record });
                    }
                }
            }
            if found.len() == room {
                break;
            }
        }
        Ok(true)
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
