//! An inbox as the outbox of a medium: what waits to be sent over a network.
//!
//! Called by media, also by those of other crates. Emitters put waves in through
//! [`Carried::by_outbox`](crate::medium::Carried::by_outbox); one sending task waits with [`Inbox::filled`] and takes
//! batches with [`Inbox::take_many`]. The ledger of the inbox is then that of
//! [`MediumStatus::outbox`](crate::medium::MediumStatus::outbox).

use std::task::{Context, Poll, Waker};

use super::levels::Popped;
use super::{Inbox, Offer, Shed, ShedReason, waiting};
use crate::wave::Wave;

impl Inbox {
    /// Offers a wave without waiting, whatever [`WhenFull`](super::WhenFull) says: a full inbox sheds its weakest wave,
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

    /// Takes the next wave, the strongest first; `None` if there is none now. One thread at a time may take.
    pub fn take_now(&self) -> Option<Wave> {
        match self.poll_receive(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(wave) => wave,
            Poll::Pending => None,
        }
    }

    /// Takes a batch to send, in the order of receiving, and appends it to `into`: until `into` holds `most` waves, or
    /// the batch holds `most_bytes` by [`Wave::weight`], but one wave at least. Nothing if all that is queued has expired.
    /// The waves count as delivered. One thread at a time may take.
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

    /// Waits until the inbox holds something (true) or is closed and empty (false). One task at a time may wait.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing is taken.
    pub async fn filled(&self) -> bool {
        self.filled_after(0).await
    }

    /// Makes emitters wait once so many waves are queued, though the inbox may hold more. A wave that is stronger than
    /// the weakest queued one does not wait. Default: as many as the inbox holds. A medium keeps this short while its
    /// connection stands, as a longer queue sends nothing sooner, and lifts it with `usize::MAX` while it is away.
    pub fn let_run_ahead(&self, waves: usize) {
        let called = {
            let mut state = self.state.lock();
            state.ahead_unheld = waves.min(self.options.max_waves);
            self.set_ahead(&mut state);
            self.call_emitters(&mut state, true)
        };
        waiting::wake(called);
    }

    /// A mark behind everything that was offered so far, for [`Inbox::has_passed`]: how a flush knows when it is done.
    #[must_use]
    pub fn mark(&self) -> u64 {
        self.state.lock().levels.last_arrival()
    }

    /// Whether nothing that was offered before a mark is queued any more. Only for inboxes that are emptied with
    /// [`Inbox::take_many`].
    #[must_use]
    pub fn has_passed(&self, mark: u64) -> bool {
        self.state.lock().levels.oldest_arrival().is_none_or(|oldest| oldest > mark)
    }

    /// Counts waves that were taken and could not be sent after all. Call [`Inbox::report_unsendable`] next, outside of
    /// your locks.
    pub fn count_unsendable(&self, waves: u64) {
        let ledger = &mut self.state.lock().ledger;
        let waves = waves.min(ledger.delivered);
        ledger.delivered -= waves;
        ledger.shed_unsendable += waves;
    }

    /// Calls [`InboxOptions::on_shed`](super::InboxOptions::on_shed) for waves that could not be sent, so that their
    /// sources are told.
    pub fn report_unsendable(&self, waves: &[Wave]) {
        self.report(waves, ShedReason::Unsendable);
    }

    /// Closes the inbox: it takes no more waves, and what is queued can still be taken.
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

    /// Closes the inbox, and sheds what is still queued as [`ShedReason::Closed`].
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
