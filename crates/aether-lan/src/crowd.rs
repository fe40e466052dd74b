//! The receiver's side of pauses: waves that wait because an inbox is full, and pause notices to their senders.
//!
//! Each pattern and each member of a group has a [`Crowd`] while it needs one. If an inbox makes emitters wait and is full,
//! waves for it wait here, at most as long as the inbox lets emitters wait, and at most [`WAITING_BYTES`] of all together.
//! Meanwhile the senders are asked to pause. The receiving task itself waits for nothing.

use std::collections::VecDeque;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use aether_core::medium::Crowded;
use aether_core::{Pattern, Wave};
use aether_link::{Pause, PauseRequest};

/// The maximum size of all waves that wait in a process: those that were on the way when the senders were asked to pause.
pub(super) const WAITING_BYTES: usize = 64 << 20;

pub(super) struct Crowd {
    /// Dropped to give up the wait.
    settling: Option<oneshot::Sender<()>>,
    /// The waves that arrived behind the waiting ones, in order.
    queue: VecDeque<Vec<Wave>>,
    pub(super) pause: PauseRequest,
}

/// The bytes of some waves.
pub(super) fn weight(waves: &[Wave]) -> usize {
    waves.iter().map(Wave::weight).sum()
}

impl Crowd {
    pub(super) fn new(id: u64, pattern: Pattern) -> Self {
        Self { settling: None, queue: VecDeque::new(), pause: PauseRequest::new(id, pattern) }
    }

    /// Whether waves that arrive now have to stay behind others.
    pub(super) fn keeps_order(&self) -> bool {
        self.settling.is_some() || !self.queue.is_empty()
    }

    /// Whether nothing waits and nobody is asked to pause.
    pub(super) fn is_idle(&self) -> bool {
        !self.keeps_order() && self.pause.renewal().is_none()
    }

    /// Waits for room for the waves that do not fit: the returned future ends when they are settled or given up. Returns
    /// the pause that is to be asked for, too.
    pub(super) fn wait_with(&mut self, crowded: Crowded) -> (BoxFuture<'static, ()>, Option<Pause>) {
        let level = crowded.level().unwrap_or(u8::MAX);
        let (settling, given_up) = oneshot::channel();
        self.settling = Some(settling);
        let pause = self.pause.ask(level);
        let settled = async move {
            tokio::select! {
                biased;
                () = crowded.settle() => {}
                // Dropping the waves sheds those that do not fit.
                _ = given_up => {}
            }
        };
        (Box::pin(settled), pause)
    }

    /// The wait is over.
    pub(super) fn settled(&mut self) {
        self.settling = None;
    }

    /// Ends the wait: what does not fit is shed.
    pub(super) fn give_up(&mut self) {
        self.settling = None;
    }

    /// Keeps waves that came behind those that wait. Returns their bytes.
    pub(super) fn keep(&mut self, waves: Vec<Wave>) -> usize {
        let bytes = weight(&waves);
        self.queue.push_back(waves);
        bytes
    }

    /// The next waves that were kept, and their bytes.
    pub(super) fn next(&mut self) -> Option<(Vec<Wave>, usize)> {
        let waves = self.queue.pop_front()?;
        let bytes = weight(&waves);
        Some((waves, bytes))
    }
}
