//! Waves that stay in an outbox because their receivers have asked senders to pause.

use std::task::Poll;
use std::time::Duration;

use super::levels::Popped;
use super::{Inbox, InboxState, Shed};
use crate::clock::Moment;
use crate::wave::Wave;

/// Whether an outbox has reason to make emitters wait on: waves are held, or leave.
#[derive(Default)]
pub(super) struct Held {
    is_held: bool,
    /// When the last hold ends or ended.
    until: Option<Moment>,
    /// When the last batch was taken, and the weakest level in it.
    last_batch: Option<(Moment, u8)>,
}

impl Inbox {
    /// Says until when some waves are held, or that none are. Meanwhile emitters that wait for room do not lose patience,
    /// and all of the inbox is theirs, so that waves that are not held can be taken past those that are.
    pub fn hold_until(&self, until: Option<Moment>) {
        let called = {
            let mut state = self.state.lock();
            let was_held = std::mem::replace(&mut state.held.is_held, until.is_some());
            if was_held || until.is_some() {
                state.held.until = until.or_else(|| Some(Moment::now()));
            }
            self.set_ahead(&mut state);
            self.call_emitters(&mut state, true)
        };
        super::waiting::wake(called);
    }

    /// Works out how far emitters may run ahead.
    pub(super) fn set_ahead(&self, state: &mut InboxState) {
        state.ahead = if state.held.is_held { self.options.max_waves } else { state.ahead_unheld };
        self.set_bounds(state);
    }

    /// Whether an emitter of this level that has waited for all of its patience waits on, because in that time waves were
    /// held, or waves of its level or weaker ones left. So a slow connection slows emitters down, while one that is stuck,
    /// and one that stronger waves saturate, exhaust their patience.
    pub(super) fn is_moving(&self, level: u8, patience: Duration) -> bool {
        let state = self.state.lock();
        let left = state.held.last_batch.filter(|(_, weakest)| *weakest >= level).map(|(at, _)| at);
        let last = state.held.until.max(left);
        last.is_some_and(|last| Moment::now().saturating_duration_since(last) < patience)
    }

    /// Notes that a batch was taken, the weakest wave of which had this level.
    pub(super) fn note_batch(state: &mut InboxState, weakest: Option<u8>) {
        if let Some(weakest) = weakest {
            state.held.last_batch = Some((Moment::now(), weakest));
        }
    }

    /// Takes several waves that are not held, the strongest first: at most so many, and of at most so many bytes together,
    /// but one at least if there is one. `seen` marks how far earlier calls have looked, and is to be set to 0 when others
    /// are held than before. Returns how many waves are left.
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

    /// Waits until the inbox holds a wave that was offered after the mark `seen` (true), 0 for any; or is closed: whether
    /// it holds any wave then. One task at a time may wait.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing is taken.
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
