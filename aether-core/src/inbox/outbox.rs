//! An inbox as the outbox of a medium: the queue of waves waiting to be sent over a network.
//!
//! For media, including media of other crates. Emitters insert waves through
//! [`Carried::by_outbox`](crate::medium::Carried::by_outbox). One sending task waits with [`Inbox::filled`] and takes
//! batches with [`Inbox::take_many`]. The ledger of the inbox is then the ledger in
//! [`MediumStatus::outbox`](crate::medium::MediumStatus::outbox).

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::queue::Popped;
use super::{Inbox, InboxState, Offer, Shed, ShedReason, waiting};
use crate::clock::{Instant, Moment, moment_of};
use crate::wave::Wave;

impl Inbox {
    /// Offers a wave without waiting, regardless of [`WhenFull`](super::WhenFull). A full inbox sheds its weakest wave,
    /// which may be this one, and counts it.
    ///
    /// ```
    /// use aether_core::{InboxOptions, Wave, inbox::Inbox};
    ///
    /// let outbox = Inbox::new(InboxOptions::default().max_waves(1))?;
    /// outbox.offer_now(Wave::builder("weak").amplitude(0.2).build()?);
    /// outbox.offer_now(Wave::builder("strong").amplitude(0.9).build()?);
    /// assert_eq!(outbox.take_now().map(|wave| wave.channel().to_string()), Some("strong".to_owned()));
    /// assert_eq!(outbox.ledger().shed_full, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn offer_now(&self, wave: Wave) {
        // `Now` is never handed back.
        let _ = self.offer(wave, Offer::Now);
    }

    /// Takes the next wave, the strongest first; `None` if there is none now. Only one thread at a time may take waves.
    pub fn take_now(&self) -> Option<Wave> {
        match self.poll_receive(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(wave) => wave,
            Poll::Pending => None,
        }
    }

    /// Takes a batch to send, in receiving order, and appends it to `into`. The batch ends when `into` holds `most`
    /// waves or the batch holds `most_bytes` by [`Wave::weight`], but it contains at least one wave. It is empty if
    /// everything queued has expired. The waves count as delivered. Only one thread at a time may take waves.
    pub fn take_many(&self, most: usize, most_bytes: usize, into: &mut Vec<Wave>) {
        let mut shed = Shed::new();
        let mut state = self.state.lock();
        let (mut bytes, mut weakest) = (0, None);
        while into.len() < most && bytes < most_bytes {
            let Some(popped) = self.pop_next(&mut state.levels) else { break };
            weakest = weakest.max(Some(popped.level));
            if let Some(wave) = self.settle(&mut state, popped, &mut shed) {
                bytes += wave.weight();
                into.push(wave);
            }
        }
        Self::note_batch(&mut state, weakest);
        self.end_visit(state);
        self.after(None, &shed);
    }

    /// Waits until the inbox holds a wave (returns true) or is closed and empty (returns false). Only one task at a
    /// time may wait.
    ///
    /// # Cancel safety
    /// If cancelled before completion, nothing is taken.
    pub async fn filled(&self) -> bool {
        self.filled_after(0).await
    }

    /// Makes emitters wait once this many waves are queued, even if the inbox has capacity for more. A wave that is
    /// stronger than the weakest queued one does not wait. Default: the capacity of the inbox. A medium keeps this
    /// limit low while its connection is up, because a longer queue sends nothing sooner, and lifts it with
    /// `usize::MAX` while the connection is down.
    pub fn let_run_ahead(&self, waves: usize) {
        let called = {
            let mut state = self.state.lock();
            state.ahead_unheld = waves.min(self.max_waves());
            self.set_ahead(&mut state);
            self.call_emitters(&mut state, true)
        };
        waiting::wake(called);
    }

    /// A mark behind everything offered so far, for [`Inbox::has_passed`]. A flush uses it to determine when it is
    /// done.
    #[must_use]
    pub fn mark(&self) -> u64 {
        self.state.lock().levels.last_arrival()
    }

    /// Whether nothing offered before a mark is still queued. Only for inboxes that are emptied with
    /// [`Inbox::take_many`].
    #[must_use]
    pub fn has_passed(&self, mark: u64) -> bool {
        self.state.lock().levels.oldest_arrival().is_none_or(|oldest| oldest > mark)
    }

    /// Counts waves that were taken and could not be sent after all. Call [`Inbox::report_unsendable`] next, outside
    /// your locks.
    pub fn count_unsendable(&self, waves: u64) {
        let ledger = &mut self.state.lock().ledger;
        let waves = waves.min(ledger.delivered);
        ledger.delivered -= waves;
        ledger.shed_unsendable += waves;
    }

    /// Calls [`InboxOptions::on_shed`](super::InboxOptions::on_shed) for waves that could not be sent, so that their
    /// sources are notified.
    pub fn report_unsendable(&self, waves: &[Wave]) {
        self.report(waves, ShedReason::Unsendable);
    }

    /// Closes the inbox. It accepts no more waves, but queued waves can still be taken.
    pub fn close(&self) {
        let (receiver, called) = {
            let mut state = self.state.lock();
            state.closed = true;
            let called = self.call_all(&mut state);
            (state.receiver.take(), called)
        };
        if let Some(receiver) = receiver {
            receiver.wake();
        }
        waiting::wake(called);
    }

    /// Closes the inbox, and sheds the queued waves as [`ShedReason::Closed`].
    pub fn abandon(&self) {
        self.close();
        let mut shed = Shed::new();
        {
            let mut state = self.state.lock();
            self.return_prefetched(&mut state);
            while let Some(Popped { item: wave, .. }) = state.levels.pop_strongest() {
                state.ledger.count_loss(ShedReason::Closed);
                shed.push((wave, ShedReason::Closed));
            }
            state.bytes = 0;
        }
        self.after(None, &shed);
    }
}

impl Inbox {
    /// Sets the time until which some waves are held, or `None` if none are. In the meantime, waiting emitters do not
    /// lose patience and can use the entire inbox, so that waves that are not held can be taken past the held ones.
    pub fn hold_until(&self, until: Option<Instant>) {
        let called = {
            let mut state = self.state.lock();
            let was_held = std::mem::replace(&mut state.held.is_held, until.is_some());
            if was_held || until.is_some() {
                state.held.until = Some(until.map_or_else(Moment::now, moment_of));
            }
            self.set_ahead(&mut state);
            self.call_emitters(&mut state, true)
        };
        super::waiting::wake(called);
    }

    /// Computes how far emitters may run ahead.
    pub(super) fn set_ahead(&self, state: &mut InboxState) {
        state.ahead = if state.held.is_held { self.max_waves() } else { state.ahead_unheld };
        self.set_bounds(state);
    }

    /// Whether an emitter of this level keeps waiting although its patience has expired. It does if, during that time,
    /// waves were held, or waves of its level or weaker ones left. A slow connection therefore slows emitters down,
    /// whereas a stuck connection, or one saturated by stronger waves, exhausts their patience.
    pub(super) fn is_moving(&self, level: u8, patience: Duration) -> bool {
        let state = self.state.lock();
        let left = state.held.last_batch.filter(|(_, weakest)| *weakest >= level).map(|(at, _)| at);
        let last = state.held.until.max(left);
        last.is_some_and(|last| Moment::now().saturating_duration_since(last) < patience)
    }

    /// Records that a batch was taken whose weakest wave had this level.
    fn note_batch(state: &mut InboxState, weakest: Option<u8>) {
        if let Some(weakest) = weakest {
            state.held.last_batch = Some((Moment::now(), weakest));
        }
    }

    /// Takes several waves that are not held, the strongest first. Takes at most `most` waves with at most `most_bytes`
    /// bytes in total, but at least one wave if there is one. `seen` marks how far earlier calls have searched. Set it
    /// to 0 when the set of held waves changes. Returns the number of waves left.
    pub fn take_unheld(
        &self,
        (most, most_bytes): (usize, usize),
        seen: &mut u64,
        mut is_held: impl FnMut(&Wave) -> bool,
        into: &mut Vec<Wave>,
    ) -> usize {
        let (mut shed, mut bytes, mut taken) = (Shed::new(), 0, Vec::new());
        let mut state = self.state.lock();
        let take = |popped: Popped<Wave>| {
            bytes += popped.item.weight();
            taken.push(popped);
            taken.len() >= most || bytes >= most_bytes
        };
        if state.levels.take_where(*seen, |wave| !is_held(wave), take) {
            *seen = state.levels.last_arrival();
        }
        let weakest = taken.iter().map(|popped| popped.level).max();
        for popped in taken {
            into.extend(self.settle(&mut state, popped, &mut shed));
        }
        let left = state.levels.len();
        Self::note_batch(&mut state, weakest);
        self.end_visit(state);
        self.after(None, &shed);
        left
    }

    /// Waits until the inbox holds a wave offered after the mark `seen`, or any wave if `seen` is 0, and returns true.
    /// If the inbox is closed, returns whether it holds any wave. Only one task at a time may wait.
    ///
    /// # Cancel safety
    /// If cancelled before completion, nothing is taken.
    pub async fn filled_after(&self, seen: u64) -> bool {
        std::future::poll_fn(|cx| {
            let mut state = self.state.lock();
            let holds_any = state.levels.len() > 0;
            if state.closed || holds_any && (seen == 0 || state.levels.last_arrival() > seen) {
                return Poll::Ready(holds_any);
            }
            state.receiver = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}
