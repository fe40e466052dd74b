//! A medium with faults around another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aether_core::medium::{Carried, Details, Medium, MediumStatus, Offered, Promises, Reach, Subscription};
use aether_core::{AskError, Channel, EmitError, FlushError, JoinError, Wave};
use futures_util::future::{BoxFuture, Either, select};
use tokio::time::{Instant, sleep_until, timeout};

use super::fate::{Fate, Loss};
use super::fault::FaultId;
use super::line::Line;
use super::plan::Shared;

/// How long a flush waits for waves that are delayed, and for stalled ones, which may never go on.
const FLUSHED_WITHIN: Duration = Duration::from_secs(30);
const STALLED_WITHIN: Duration = Duration::from_secs(2);
/// Replaces a patience beyond the range of the clock.
const NEVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// A medium with faults in front of it. It changes what this process sends, questions and their answers; what others
/// send passes it by.
#[derive(Debug)]
pub(super) struct Faulty {
    inner: Arc<dyn Medium>,
    shared: Arc<Shared>,
    line: Arc<Line>,
    closed: AtomicBool,
}

impl Faulty {
    pub(super) fn new(inner: Arc<dyn Medium>, shared: Arc<Shared>) -> Self {
        let line = Line::start(Arc::clone(&inner), Arc::clone(&shared));
        Self { inner, shared, line, closed: AtomicBool::new(false) }
    }

    /// Carries a wave that is not held back with `pass`, and all others by the line.
    fn carry_by<T>(
        &self,
        wave: Wave,
        on_its_way: T,
        pass: impl FnOnce(Wave) -> Result<T, EmitError>,
    ) -> Result<T, EmitError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(EmitError::Closed { wave });
        }
        let elapsed = self.shared.elapsed();
        let fate = self.shared.plan.lock().active.fate(&wave, elapsed);
        if let Some(loss) = fate.loss {
            self.shared.count(|counts| {
                counts.offered += 1;
                *match loss {
                    Loss::Lost => &mut counts.lost,
                    Loss::Partitioned => &mut counts.partitioned,
                } += 1;
            });
            return Ok(on_its_way);
        }
        let copy = fate.is_duplicated.then(|| wave.clone());
        if fate.is_immediate() && !self.line.holds_stream_of(&wave) {
            // A wave that the medium refuses is handed back as it was, and has met no fault.
            let passed = pass(wave)?;
            self.shared.count(|counts| {
                counts.offered += 1;
                counts.delivered += 1;
            });
            self.hold_copy(copy, &fate);
            return Ok(passed);
        }
        let wave = self.shared.count(|counts| {
            counts.offered += 1;
            fate.applied(wave, counts)
        });
        self.hold(wave, &fate);
        self.hold_copy(copy, &fate);
        Ok(on_its_way)
    }

    fn hold_copy(&self, copy: Option<Wave>, fate: &Fate) {
        if let Some(copy) = copy {
            self.shared.count(|counts| counts.duplicated += 1);
            self.hold(copy, fate);
        }
    }

    fn hold(&self, wave: Wave, fate: &Fate) {
        // Counted first: the task of the line may be done with it at once.
        self.shared.count(|counts| counts.held += 1);
        if !self.line.hold(wave, fate.delay(), fate.keeps_order(), fate.stall) {
            self.shared.count(|counts| {
                counts.held -= 1;
                counts.overflowed += 1;
            });
        }
    }

    /// Waits as long as a question or an answer is held back. False if it is lost or that takes too long.
    async fn passes(&self, fate: &Fate, deadline: Instant) -> bool {
        if fate.loss.is_some() {
            return false;
        }
        let held = async {
            sleep_until(Instant::now() + fate.delay()).await;
            if let Some(stall) = fate.stall {
                self.released(stall).await;
            }
        };
        fate.is_immediate() || tokio::time::timeout_at(deadline, held).await.is_ok()
    }

    /// Waits until a stall is over.
    async fn released(&self, stall: FaultId) {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let end = {
                let (plan, elapsed) = (self.shared.plan.lock(), self.shared.elapsed());
                if !plan.active.holds(stall, elapsed) {
                    return;
                }
                plan.active.end_of(stall)
            };
            match end {
                Some(end) => drop(select(changed, Box::pin(sleep_until(self.shared.started + end))).await),
                None => changed.await,
            }
        }
    }

    async fn ask_with_faults(&self, question: Wave, patience: Duration) -> Result<Wave, AskError> {
        let now = Instant::now();
        let deadline = now.checked_add(patience).unwrap_or(now + NEVER);
        let channel = question.channel().clone();
        let fate = {
            let (mut plan, elapsed) = (self.shared.plan.lock(), self.shared.elapsed());
            plan.counts.questions += 1;
            plan.active.fate(&question, elapsed)
        };
        if !self.passes(&fate, deadline).await {
            self.shared.count(|counts| counts.questions_lost += 1);
            return timed_out(channel, patience, deadline).await;
        }
        let question = self.shared.count(|counts| fate.applied(question, counts));
        let left = deadline.saturating_duration_since(Instant::now());
        let asked = match fate.is_duplicated {
            false => self.inner.ask(question, left).await,
            // The receiver gets both; the first answer counts.
            true => {
                match select(self.inner.ask(question.clone(), left), self.inner.ask(question, left)).await {
                    Either::Left((asked, _)) | Either::Right((asked, _)) => asked,
                }
            }
        };
        let answer = match asked {
            Err(AskError::TimedOut { channel, .. }) => return Err(AskError::TimedOut { channel, patience }),
            asked => asked?,
        };
        let back = self.shared.plan.lock().active.fate(&answer, self.shared.elapsed());
        if !self.passes(&back, deadline).await {
            self.shared.count(|counts| counts.answers_lost += 1);
            return timed_out(channel, patience, deadline).await;
        }
        Ok(self.shared.count(|counts| back.applied(answer, counts)))
    }

    /// Waits until nothing is held back any more, for a bounded time.
    async fn drain(&self) -> Result<(), FlushError> {
        let patience = if self.line.stalled() > 0 { STALLED_WITHIN } else { FLUSHED_WITHIN };
        let unconfirmed = |_| FlushError::Unconfirmed { waves: self.line.held() as u64, patience };
        timeout(patience, self.line.emptied()).await.map_err(unconfirmed)
    }

    /// Ends the line and counts what it held.
    fn end_line(&self) {
        let abandoned = self.line.end() as u64;
        self.shared.count(|counts| {
            counts.held -= abandoned;
            counts.abandoned += abandoned;
        });
    }
}

async fn timed_out(channel: Channel, patience: Duration, deadline: Instant) -> Result<Wave, AskError> {
    sleep_until(deadline).await;
    Err(AskError::TimedOut { channel, patience })
}

impl Medium for Faulty {
    fn promises(&self) -> Promises {
        self.inner.promises()
    }

    fn carry(&self, wave: Wave) -> Result<Carried, EmitError> {
        self.carry_by(wave, Carried::Done(Offered::UNKNOWN), |wave| self.inner.carry(wave))
    }

    fn try_carry(&self, wave: Wave) -> Result<Offered, EmitError> {
        self.carry_by(wave, Offered::UNKNOWN, |wave| self.inner.try_carry(wave))
    }

    fn join(&self, subscription: Arc<Subscription>) -> BoxFuture<'_, Result<(), JoinError>> {
        self.inner.join(subscription)
    }

    fn leave(&self, subscription: &Subscription) {
        self.inner.leave(subscription);
    }

    fn ask(&self, question: Wave, patience: Duration) -> BoxFuture<'_, Result<Wave, AskError>> {
        Box::pin(self.ask_with_faults(question, patience))
    }

    fn notify(&self, notices: Vec<Wave>) -> BoxFuture<'_, Vec<Reach>> {
        let elapsed = self.shared.elapsed();
        let mut plan = self.shared.plan.lock();
        if !plan.active.cuts_all(elapsed) {
            drop(plan);
            return self.inner.notify(notices);
        }
        plan.counts.notices_lost += notices.len() as u64;
        Box::pin(std::future::ready(vec![Reach::Unknown; notices.len()]))
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        Box::pin(async {
            let drained = self.drain().await;
            self.inner.flush().await.and(drained)
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        Box::pin(async {
            self.closed.store(true, Ordering::Release);
            // The line does not wait for stalled waves: they are counted as abandoned.
            if self.line.stalled() == 0 {
                let _ = self.drain().await;
            }
            self.end_line();
            self.inner.close().await
        })
    }

    fn status(&self) -> MediumStatus {
        self.inner.status()
    }

    fn details(&self, into: &mut Details) {
        self.inner.details(into);
    }

    fn connection(&self) -> Option<tokio::sync::watch::Receiver<bool>> {
        self.inner.connection()
    }

    fn reaches_others(&self) -> Option<tokio::sync::watch::Receiver<bool>> {
        self.inner.reaches_others()
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.end_line();
    }
}
