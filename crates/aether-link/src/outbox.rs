//! The outbox of a medium: the way in for emitters, which hands back what can never be sent, and the way out for the
//! sending task.
//!
//! A medium that is the only one of its process has its outbox to itself. Where a process has several paths
//! (the crate `aether-paths`), all of them share one outbox, and one path at a time takes waves from it. A wave that has not
//! left when its path breaks therefore goes by the next one, and none leaves twice.

use std::collections::VecDeque;
use std::ops::Deref;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::{fmt, iter};

use bytes::Bytes;
use tokio::sync::watch;

use crate::confirm::Confirming;
use crate::wire::{EncodeError, MAX_POSITION, record_growth};
use aether_core::clock::{self, Instant};
use aether_core::inbox::{Inbox, InboxOptionsError};
use aether_core::medium::{Carried, ConnectRequest, MOST_TOGETHER, Offered, Waiting};
use aether_core::{EmitError, InboxOptions, Wave};

/// Emitters that wait for room start to wait when the outbox holds this many waves, while there is a connection. A longer
/// queue would not send anything sooner. Its waves would only be older when they leave, and would no longer be in the
/// processor's caches. Without a connection, and while no path has the turn, emitters can use the entire outbox.
pub const AHEAD: usize = 2048;

/// A medium with an outbox.
pub trait Acceptance {
    /// The outbox.
    fn outbox(&self) -> &Arc<Inbox>;

    /// Whether the medium was closed.
    fn is_closed(&self) -> bool;

    /// The size on the wire and the maximum size, if the wave is too large.
    fn oversize(&self, wave: &Wave) -> Option<(usize, usize)>;

    /// Returns the wave in an error if it can never be sent.
    fn check(&self, wave: Wave) -> Result<Wave, EmitError> {
        if self.is_closed() {
            return Err(EmitError::Closed { wave });
        }
        match self.oversize(&wave) {
            Some((bytes, max_bytes)) => Err(EmitError::TooLarge { wave, bytes, max_bytes }),
            None => Ok(wave),
        }
    }

    /// For [`Medium::carry`](aether_core::medium::Medium::carry).
    ///
    /// # Errors
    /// The wave, if it can never be sent.
    fn carry(&self, wave: Wave) -> Result<Carried, EmitError> {
        Ok(Carried::by_outbox(self.check(wave)?, self.outbox()))
    }

    /// For [`Medium::room_for`](aether_core::medium::Medium::room_for).
    fn room_for(&self, wave: &Wave) -> usize {
        self.outbox().room_at_once(wave).clamp(1, MOST_TOGETHER)
    }

    /// For [`Medium::carry_all`](aether_core::medium::Medium::carry_all).
    ///
    /// # Errors
    /// The first wave that can never be sent.
    fn carry_all(&self, waves: &mut VecDeque<Wave>) -> Result<Option<Waiting>, EmitError> {
        while let Some(first) = waves.pop_front() {
            let first = self.check(first)?;
            let others = waves.iter().take_while(|wave| self.oversize(wave).is_none()).count();
            let fitting = iter::once(first).chain(waves.drain(..others));
            if let Some(waiting) = Waiting::by_outbox(fitting, self.outbox()) {
                return Ok(Some(waiting));
            }
        }
        Ok(None)
    }

    /// For [`Medium::try_carry`](aether_core::medium::Medium::try_carry).
    ///
    /// # Errors
    /// The wave, if the outbox is full or it can never be sent.
    fn try_carry(&self, wave: Wave) -> Result<Offered, EmitError> {
        Offered::by_outbox(self.check(wave)?, self.outbox()).map_err(|wave| EmitError::Full { wave })
    }
}

/// [`Acceptance::oversize`] of a wave in a frame of its own. The exact size is computed only if `bound`, a cheap
/// upper bound, exceeds the maximum.
pub fn frame_oversize(
    wave: &Wave,
    (bound, max_bytes): (usize, usize),
    encode: impl FnOnce(Instant) -> Result<Bytes, EncodeError>,
) -> Option<(usize, usize)> {
    if bound <= max_bytes {
        return None;
    }
    // With the greatest age at sending, so that no wave is refused that was accepted here. One time for both, as the age has
    // another length a moment later.
    let now = clock::now();
    let bytes = encode(now).map_or(bound, |frame| frame.len() + MAX_POSITION + record_growth(wave, now));
    (bytes > max_bytes).then_some((bytes, max_bytes))
}

/// Which path takes waves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// `None` while one path hands over to another, and while none is connected.
    pub path: Option<usize>,
    /// The other paths will not have a turn any more.
    pub is_last: bool,
}

/// The one outbox of several paths. The first of them that asks for it decides its options.
pub struct SharedOutbox {
    inbox: OnceLock<Arc<Inbox>>,
    /// The waves whose emitters wait until they are confirmed.
    pub confirming: Arc<Confirming>,
    /// The number of waves that each path took.
    sent: Vec<Arc<AtomicU64>>,
    turns: watch::Sender<Turn>,
}

impl SharedOutbox {
    /// The outbox of this many paths, of which none has the turn.
    #[must_use]
    pub fn new(paths: usize) -> Self {
        let (confirming, sent) = (Arc::default(), (0..paths).map(|_| Arc::default()).collect());
        Self {
            inbox: OnceLock::new(),
            confirming,
            sent,
            turns: watch::Sender::new(Turn { path: None, is_last: false }),
        }
    }

    /// The reader of a path. Waves that it takes are weakened by its hops.
    fn reader(
        &self,
        options: InboxOptions,
        (path, hops): (usize, u8),
    ) -> Result<OutboxReader, InboxOptionsError> {
        // Checked for each path, so that an error does not depend on which one is the first.
        let inbox = Arc::new(Inbox::new(self.confirming.watching(options))?);
        let inbox = Arc::clone(self.inbox.get_or_init(|| inbox));
        let sent = self.sent.get(path).map(Arc::clone).unwrap_or_default();
        let (turns, waited) = (self.turns.subscribe(), Arc::default());
        Ok(OutboxReader { inbox, shared: Some(Place { path, hops, sent, turns, waited }) })
    }

    /// The outbox, once a path has asked for it.
    pub fn inbox(&self) -> Option<&Arc<Inbox>> {
        self.inbox.get()
    }

    /// The number of waves that a path took.
    pub fn sent(&self, path: usize) -> u64 {
        self.sent.get(path).map_or(0, |sent| sent.load(Ordering::Relaxed))
    }

    /// Gives the turn to a path, and forgets what the receivers behind the other one have asked for. The last turn stays.
    /// Returns whether that changes anything.
    pub fn give_turn(&self, turn: Turn) -> bool {
        let is_changed =
            self.turns.send_if_modified(|now| !now.is_last && std::mem::replace(now, turn) != turn);
        if is_changed && let Some(inbox) = self.inbox() {
            inbox.hold_until(None);
            inbox.let_run_ahead(if turn.path.is_some() { AHEAD } else { usize::MAX });
        }
        is_changed
    }
}

/// The way to an outbox for one of several paths.
#[derive(Clone)]
pub struct PathOutbox {
    outbox: Arc<SharedOutbox>,
    path: usize,
    hops: u8,
    is_used: Arc<AtomicBool>,
}

impl PathOutbox {
    /// The place of the medium that is being connected among several paths. `None` if it is the only one; otherwise
    /// others can take over, so that a connection that does not answer should be given up within seconds.
    #[must_use]
    pub fn of(request: &ConnectRequest) -> Option<Self> {
        request.options::<Option<Self>>()
    }

    /// The way of one path, whose waves arrive weaker by `hops`.
    #[must_use]
    pub fn new(outbox: Arc<SharedOutbox>, path: usize, hops: u8) -> Self {
        Self { outbox, path, hops, is_used: Arc::default() }
    }

    /// The reader of the path.
    ///
    /// # Errors
    /// [`InboxOptionsError`] names the option that is out of range.
    pub fn reader(&self, options: InboxOptions) -> Result<OutboxReader, InboxOptionsError> {
        self.is_used.store(true, Ordering::Release);
        self.outbox.reader(options, (self.path, self.hops))
    }

    /// The waves whose emitters wait until they are confirmed.
    pub fn confirming(&self) -> Arc<Confirming> {
        Arc::clone(&self.outbox.confirming)
    }

    /// Whether the medium has asked for the outbox.
    pub fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Acquire)
    }
}

/// The outbox of a medium, for its sending task. It is the [`Inbox`] that emitters fill; where several media are the paths
/// of one process, they share it, and a medium finds waves there only while it is its turn.
///
/// A medium gets it from [`OutboxReader::of`].
#[derive(Clone)]
pub struct OutboxReader {
    inbox: Arc<Inbox>,
    shared: Option<Place>,
}

/// The place of a path among several.
#[derive(Clone)]
struct Place {
    path: usize,
    hops: u8,
    sent: Arc<AtomicU64>,
    turns: watch::Receiver<Turn>,
    /// Whether it waited for its turn since it had one. Then its sending task looks at everything again.
    waited: Arc<AtomicBool>,
}

impl OutboxReader {
    /// The outbox of the medium that is being connected, which tells the sources of lost commands and queries. Where
    /// the medium is one of several paths, all of them share the outbox of the first one that asks for it, so a medium
    /// asks before it waits for anything.
    ///
    /// # Errors
    /// [`InboxOptionsError`] names the option that is out of range, and the allowed range.
    pub fn of(request: &ConnectRequest, options: InboxOptions) -> Result<Self, InboxOptionsError> {
        let options = request.reflecting(options);
        match PathOutbox::of(request) {
            Some(path) => path.reader(options),
            None => Ok(Self::new(Arc::new(Inbox::new(options)?))),
        }
    }

    /// The reader of an outbox that is not shared.
    #[must_use]
    pub const fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox, shared: None }
    }

    /// The outbox, for emitters and accounts.
    #[must_use]
    pub const fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Whether it is the outbox of several paths. A medium that would send to nobody then leaves waves where they are.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    fn has_turn(&self) -> bool {
        self.shared.as_ref().is_none_or(|place| place.turns.borrow().path == Some(place.path))
    }

    /// Like [`Inbox::filled`]: waits until there is a wave to take (returns true), or until the medium will have none to
    /// take any more (returns false). Only one task at a time may wait.
    ///
    /// # Cancel safety
    /// If cancelled before completion, nothing is taken.
    pub async fn filled(&self) -> bool {
        self.filled_after(0).await
    }

    /// Like [`OutboxReader::filled`], for waves offered after the mark `seen`: see [`Inbox::filled_after`].
    ///
    /// # Cancel safety
    /// If cancelled before completion, nothing is taken.
    pub async fn filled_after(&self, seen: u64) -> bool {
        let Some(place) = &self.shared else {
            return self.inbox.filled_after(seen).await;
        };
        let mut turns = place.turns.clone();
        loop {
            let turn = *turns.borrow_and_update();
            match (turn.path == Some(place.path), turn.is_last) {
                (true, true) => return self.inbox.filled_after(seen).await,
                (false, true) => return false,
                (true, false) if place.waited.swap(false, Ordering::AcqRel) && self.has_waves() => {
                    return true;
                }
                (true, false) => match self.filled_in_turn(place, &mut turns, seen).await {
                    Some(is_filled) => return is_filled,
                    None if turns.has_changed().is_err() => return self.inbox.filled_after(seen).await,
                    None => {}
                },
                (false, false) => {
                    place.waited.store(true, Ordering::Release);
                    if turns.changed().await.is_err() {
                        return false;
                    }
                }
            }
        }
    }

    /// Like [`Inbox::filled_after`], while this path has the turn; `None` once that changes.
    async fn filled_in_turn(
        &self,
        place: &Place,
        turns: &mut watch::Receiver<Turn>,
        seen: u64,
    ) -> Option<bool> {
        let (mut changed, mut filled) = (pin!(turns.changed()), pin!(self.inbox.filled_after(seen)));
        std::future::poll_fn(|cx| {
            if changed.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            // The turn stays while it is borrowed. So two paths never wait at the inbox, which wakes only the last one.
            let turn = place.turns.borrow();
            if turn.path == Some(place.path) { filled.as_mut().poll(cx).map(Some) } else { Poll::Pending }
        })
        .await
    }

    /// Like [`Inbox::take_many`], but takes nothing while another path has the turn.
    pub fn take_many(&self, most: usize, most_bytes: usize, into: &mut Vec<Wave>) {
        if self.has_turn() {
            let before = into.len();
            self.inbox.take_many(most, most_bytes, into);
            self.note_taken(into, before);
        }
    }

    /// Like [`Inbox::take_unheld`], but takes nothing while another path has the turn.
    pub fn take_unheld(
        &self,
        most: (usize, usize),
        seen: &mut u64,
        is_held: impl FnMut(&Wave) -> bool,
        into: &mut Vec<Wave>,
    ) -> usize {
        if !self.has_turn() {
            return 0;
        }
        let before = into.len();
        let left = self.inbox.take_unheld(most, seen, is_held, into);
        self.note_taken(into, before);
        left
    }

    /// Counts waves. One that goes by a detour arrives weaker, as if it had been relayed.
    fn note_taken(&self, waves: &mut [Wave], from: usize) {
        let Some(Place { hops, sent, .. }) = &self.shared else { return };
        sent.fetch_add((waves.len() - from) as u64, Ordering::Relaxed);
        if *hops > 0 {
            waves.iter_mut().skip(from).for_each(|wave| wave.detour(*hops));
        }
    }

    /// Like [`Inbox::has_passed`]. While another path has the turn, nothing that waits will leave by this one.
    #[must_use]
    pub fn has_passed(&self, mark: u64) -> bool {
        !self.has_turn() || self.inbox.has_passed(mark)
    }

    /// Like [`Inbox::close`]. Has no effect on an outbox that is shared, unless this path has the last turn.
    pub fn close(&self) {
        if self.is_last() {
            self.inbox.close();
        }
    }

    /// Like [`Inbox::abandon`]. Has no effect on an outbox that is shared, unless this path has the last turn.
    pub fn abandon(&self) {
        if self.is_last() {
            self.inbox.abandon();
        }
    }

    fn has_waves(&self) -> bool {
        !self.inbox.has_passed(self.inbox.mark())
    }

    fn is_last(&self) -> bool {
        self.shared.as_ref().is_none_or(|place| {
            let turn = place.turns.borrow();
            turn.is_last && turn.path == Some(place.path)
        })
    }

    /// Like [`Inbox::let_run_ahead`]. Has no effect while another path has the turn.
    pub fn let_run_ahead(&self, waves: usize) {
        if self.has_turn() {
            self.inbox.let_run_ahead(waves);
        }
    }

    /// Like [`Inbox::hold_until`]. Has no effect while another path has the turn.
    pub fn hold_until(&self, until: Option<Instant>) {
        if self.has_turn() {
            self.inbox.hold_until(until);
        }
    }
}

impl Deref for OutboxReader {
    type Target = Inbox;

    fn deref(&self) -> &Inbox {
        &self.inbox
    }
}

impl fmt::Debug for OutboxReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.shared.as_ref().map(|place| place.path);
        f.debug_struct("OutboxReader").field("path", &path).field("inbox", &self.inbox).finish()
    }
}
