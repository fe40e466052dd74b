//! Waves that stay in an outbox because their receivers have asked senders to pause.

use std::task::Poll;
use std::time::Duration;

use super::levels::Popped;
use super::{Inbox, InboxState, Shed};
use crate::clock::{Instant, Moment, moment_of};
use crate::wave::Wave;

/// Whether emitters of an outbox have a reason to keep waiting: waves are held, or waves are leaving.
#[derive(Default)]
pub(super) struct Held {
    is_held: bool,
    /// The time at which the last hold ends or ended.
    until: Option<Moment>,
    /// The time at which the last batch was taken, and the weakest level in it.
    last_batch: Option<(Moment, u8)>,
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
    pub(super) fn note_batch(state: &mut InboxState, weakest: Option<u8>) {
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
