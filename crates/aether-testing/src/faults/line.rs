//! The delay line: waves that were held back, each until its time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use aether_core::medium::{Carried, Medium};
use aether_core::{Channel, Source, Wave};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::fault::FaultId;
use super::plan::Shared;

/// The most waves held back, and their total weight in bytes.
const MAX_WAVES: usize = 65_536;
const MAX_BYTES: usize = 64 << 20;

/// Holds waves back in front of one medium.
#[derive(Debug)]
pub(super) struct Line {
    inner: Arc<dyn Medium>,
    shared: Arc<Shared>,
    state: Mutex<Waves>,
    /// Notified when there is something to do.
    work: Notify,
    /// Notified when nothing is held any more.
    empty: Notify,
}

/// The key of a stream that keeps its order.
type Stream = (Source, Channel);

fn stream_of(wave: &Wave) -> Stream {
    (wave.source().clone(), wave.channel().clone())
}

#[derive(Debug, Default)]
struct Waves {
    /// By the time at which they go on, and by a running number.
    timed: BTreeMap<(Instant, u64), Wave>,
    /// Held until their stall is over.
    stalled: VecDeque<(FaultId, Wave)>,
    /// The last time given to a wave of each stream, so that the next one does not overtake it.
    last: HashMap<Stream, Instant>,
    /// The streams of the stalled waves, and the last stall that holds one of each.
    behind: HashMap<Stream, FaultId>,
    number: u64,
    bytes: usize,
    /// Whether a wave is being handed to the medium.
    is_sending: bool,
    has_ended: bool,
}

impl Waves {
    fn held(&self) -> usize {
        self.timed.len() + self.stalled.len() + usize::from(self.is_sending)
    }

    fn put(&mut self, at: Instant, wave: Wave) {
        self.number += 1;
        self.timed.insert((at, self.number), wave);
    }

    fn put_in_order(&mut self, at: Instant, wave: Wave) {
        let last = self.last.entry(stream_of(&wave)).or_insert(at);
        *last = at.max(*last);
        let at = *last;
        self.put(at, wave);
    }
}

/// The next action of the task of a line.
enum Next {
    Send(Wave),
    Wait(Option<Instant>),
    End,
}

impl Line {
    /// Must be called inside a tokio runtime.
    pub(super) fn start(inner: Arc<dyn Medium>, shared: Arc<Shared>) -> Arc<Self> {
        let (work, empty) = (Notify::new(), Notify::new());
        let line = Arc::new(Self { inner, shared, state: Mutex::default(), work, empty });
        tokio::spawn(Arc::clone(&line).run());
        line
    }

    /// Whether a wave of this stream is held, so that the next one has to queue behind it.
    pub(super) fn holds_stream_of(&self, wave: &Wave) -> bool {
        let state = self.state.lock();
        let stream = stream_of(wave);
        state.last.contains_key(&stream) || state.behind.contains_key(&stream)
    }

    /// Holds a wave back. False if there is no room: the wave is lost.
    pub(super) fn hold(
        &self,
        wave: Wave,
        delay: Duration,
        keeps_order: bool,
        stall: Option<FaultId>,
    ) -> bool {
        let mut state = self.state.lock();
        if state.held() >= MAX_WAVES || state.bytes + wave.weight() > MAX_BYTES || state.has_ended {
            return false;
        }
        state.bytes += wave.weight();
        let at = Instant::now() + delay;
        let stream = stream_of(&wave);
        // A wave behind a stalled one of its stream waits with it.
        match stall.or_else(|| state.behind.get(&stream).copied().filter(|_| keeps_order)) {
            Some(stall) => {
                state.behind.insert(stream, stall);
                state.stalled.push_back((stall, wave));
            }
            None if keeps_order => state.put_in_order(at, wave),
            None => state.put(at, wave),
        }
        drop(state);
        self.work.notify_one();
        true
    }

    /// The number of waves held now.
    pub(super) fn held(&self) -> usize {
        self.state.lock().held()
    }

    /// The number of waves held by stalls.
    pub(super) fn stalled(&self) -> usize {
        self.state.lock().stalled.len()
    }

    /// Waits until nothing is held.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.empty.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            if self.held() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Ends the task. Returns the number of waves that were still held.
    pub(super) fn end(&self) -> usize {
        let mut state = self.state.lock();
        state.has_ended = true;
        let abandoned = state.timed.len() + state.stalled.len();
        // A wave that is being handed over arrives or is counted by the task.
        (state.timed, state.stalled) = Default::default();
        (state.last, state.behind) = Default::default();
        drop(state);
        self.work.notify_one();
        self.empty.notify_waiters();
        abandoned
    }

    async fn run(self: Arc<Self>) {
        loop {
            let changed = self.shared.changed.notified();
            match self.next() {
                Next::Send(wave) => self.send(wave).await,
                Next::End => return,
                Next::Wait(until) => tokio::select! {
                    biased;
                    () = changed => {}
                    () = self.work.notified() => {}
                    () = pending_until(until) => {}
                },
            }
        }
    }

    fn next(&self) -> Next {
        let (now, elapsed) = (Instant::now(), self.shared.elapsed());
        let mut state = self.state.lock();
        if state.has_ended {
            return Next::End;
        }
        let plan = self.shared.plan.lock();
        let mut ends = None::<Duration>;
        state.behind.clear();
        for (stall, wave) in std::mem::take(&mut state.stalled) {
            if plan.active.holds(stall, elapsed) {
                ends = match (ends, plan.active.end_of(stall)) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
                state.behind.insert(stream_of(&wave), stall);
                state.stalled.push_back((stall, wave));
            } else {
                state.put_in_order(now, wave);
            }
        }
        drop(plan);
        if let Some(first) = state.timed.first_entry().filter(|first| first.key().0 <= now) {
            let wave = first.remove();
            state.bytes -= wave.weight();
            state.is_sending = true;
            return Next::Send(wave);
        }
        if state.timed.is_empty() {
            state.last.clear();
        }
        let timed = state.timed.first_key_value().map(|((at, _), _)| *at);
        let stalled = ends.map(|end| self.shared.started + end);
        Next::Wait(timed.into_iter().chain(stalled).min())
    }

    async fn send(&self, wave: Wave) {
        let carried = self.inner.carry(wave);
        let is_delivered = match carried {
            Ok(Carried::Waiting(waiting)) => waiting.finish().await.is_ok(),
            carried => carried.is_ok(),
        };
        let mut state = self.state.lock();
        state.is_sending = false;
        let mut plan = self.shared.plan.lock();
        plan.counts.delivered += u64::from(is_delivered);
        plan.counts.refused += u64::from(!is_delivered);
        plan.counts.held -= 1;
        drop(plan);
        if state.held() == 0 {
            self.empty.notify_waiters();
        }
    }
}

async fn pending_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
