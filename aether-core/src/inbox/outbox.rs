//! An inbox as the outbox of a medium: the queue of waves waiting to be sent over a network.
//!
//! For media, including those of other crates. Emitters insert waves through
//! [`Carried::by_outbox`](crate::medium::Carried::by_outbox). One sending task waits with [`Inbox::filled`] and takes
//! batches with [`Inbox::take_many`]. The ledger of the inbox is then the ledger in
//! [`MediumStatus::outbox`](crate::medium::MediumStatus::outbox).

use std::task::{Context, Poll, Waker};

use super::levels::Popped;
use super::{Inbox, Offer, Shed, ShedReason, waiting};
use crate::wave::Wave;

impl Inbox {
    /// Offers a wave without waiting, regardless of [`WhenFull`](super::WhenFull). A full inbox sheds its weakest wave,
    /// which may be this one, and counts it.
    ///
    /// ```
    /// use aether_core::{InboxOptions, Wave, inbox::Inbox};
    ///
    /// let outbox = Inbox::new(InboxOptions::overload().max_waves(1))?;
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
