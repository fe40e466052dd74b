//! One attempt to handle one wave: how its handler ends, and what follows.

use std::sync::Arc;
use std::time::Duration;

use aether_core::{Emitter, Pattern, Wave, wave::ReplyError};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::BoxError;

use super::failure::{Cause, report_failure};
use super::failure_log::FailureLog;
use super::report::{InFlight, Outcome};
use super::span::HandlingSpan;
use crate::Resend;
use crate::handler::Answer;

/// The state that all attempts of a service share.
#[derive(Debug)]
pub(super) struct HandlerContext {
    pub(super) emitter: Emitter,
    pub(super) failures: FailureLog,
    pub(super) retry: Option<Resend>,
    /// Cancelled when the service shuts down. Nothing is retried afterwards.
    pub(super) closing: CancellationToken,
    /// Cancelled when the grace period is over. Handlers end at their await points.
    pub(super) over: CancellationToken,
}

impl HandlerContext {
    /// The context of a set that hears these patterns, and the task that logs the counts of its failures, which ends when
    /// the set of tasks is dropped.
    pub(super) fn begin(
        emitter: &Emitter,
        heard: &[Pattern],
        retry: Option<Resend>,
        closing: CancellationToken,
    ) -> (Arc<Self>, JoinSet<()>) {
        let (failures, over) = (FailureLog::new(heard), CancellationToken::new());
        let context = Arc::new(Self { emitter: emitter.clone(), failures, retry, closing, over });
        let (mut counting, counted) = (JoinSet::new(), Arc::clone(&context));
        counting.spawn(async move { counted.failures.log_counts(counted.emitter.source().name()).await });
        (context, counting)
    }

    /// The span around the handling of a wave.
    pub(super) fn span(&self, wave: &Wave) -> HandlingSpan {
        HandlingSpan::begin(self.emitter.source().name(), wave)
    }
}

/// A wave being handled.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) context: Arc<HandlerContext>,
    pub(super) wave: Wave,
    pub(super) open: InFlight,
    /// Around the handler, and around what is logged about it.
    pub(super) span: HandlingSpan,
}

/// A failed attempt that will be retried.
#[derive(Debug)]
pub(super) struct Again {
    failed: Attempt,
    cause: Cause,
    next: Wave,
}

impl Attempt {
    pub(super) fn new(context: &Arc<HandlerContext>, wave: Wave, open: InFlight) -> Self {
        let span = context.span(&wave);
        Self { context: Arc::clone(context), wave, open, span }
    }

    /// Waits for the handler, and answers. Returns an attempt that will be retried after a pause.
    pub(super) fn run(
        self,
        handling: impl Future<Output = Result<Answer, BoxError>>,
    ) -> impl Future<Output = Option<Again>> {
        let span = self.span.clone();
        span.around(self.handle(handling))
    }

    /// Answers for a handler that has ended. Returns an attempt that will be retried after a pause.
    pub(super) fn conclude(self, handled: Result<Answer, BoxError>) -> impl Future<Output = Option<Again>> {
        let span = self.span.clone();
        span.around(self.settle(handled.map_err(Cause::of)))
    }

    async fn handle(self, handling: impl Future<Output = Result<Answer, BoxError>>) -> Option<Again> {
        let handled = tokio::select! {
            biased;
            handled = handling => handled.map_err(Cause::of),
            () = self.context.over.cancelled() => Err(Cause::ended_in_the_middle()),
        };
        self.settle(handled).await
    }

    async fn settle(self, handled: Result<Answer, Cause>) -> Option<Again> {
        let cause = match handled {
            Ok(answer) => match self.answer(answer).await {
                Ok(()) => {
                    self.span.ended(Outcome::Succeeded.as_str(), None);
                    self.open.time(&self.wave);
                    self.open.settle(Outcome::Succeeded);
                    return None;
                }
                Err(error) => Cause::of(Box::new(error)),
            },
            Err(cause) => cause,
        };
        let Some(next) = self.next(&cause) else {
            // Boxed, because the whole future is moved with each wave whose handler waits.
            Box::pin(self.fail(cause)).await;
            return None;
        };
        // The pause before the retry does not belong to this attempt.
        self.span.ended(Outcome::Retried.as_str(), Some(&cause));
        self.open.time(&self.wave);
        tracing::debug!(wave = %self.wave.id(), next = next.attempt(), %cause, "will be handled again");
        Some(Again { failed: self, cause, next })
    }

    /// The next attempt, if there is one. It is paid from the retry budget.
    fn next(&self, cause: &Cause) -> Option<Wave> {
        let resend = self.context.retry.as_ref()?;
        if !cause.may_be_retried() || self.context.closing.is_cancelled() {
            return None;
        }
        // The dead letter of a wave lists all of its attempts.
        let failed = self.wave.failed_with(&cause.to_string());
        resend.next(&failed).filter(|_| resend.budget.withdraw())
    }

    async fn answer(&self, answer: Answer) -> Result<(), ReplyError> {
        let Some(answer) = answer.into_wave().filter(|_| self.wave.expects_reply()) else {
            return Ok(());
        };
        match self.wave.reply_wave(answer).await {
            // The asker has given up or was answered by another service. The work is done nevertheless.
            Err(ReplyError::AskerGone) => Ok(()),
            replied => replied,
        }
    }

    /// Ends the attempt as a final failure: reports and counts it.
    pub(super) async fn fail(self, cause: Cause) {
        let HandlerContext { emitter, failures, .. } = &*self.context;
        self.span.around(report_failure(emitter, failures, &self.wave, &cause)).await;
        self.span.ended(cause.outcome.as_str(), Some(&cause));
        self.open.time(&self.wave);
        self.open.settle(cause.outcome);
    }
}

impl Again {
    /// Waits for the time of the next attempt, or until the service ends.
    pub(super) fn paused(self) -> impl Future<Output = Self> {
        let span = self.failed.span.clone();
        span.around(async move {
            let HandlerContext { emitter, retry, closing, .. } = &*self.failed.context;
            let number = self.next.attempt();
            let _pause = self.failed.span.pause(emitter.source().name(), &self.failed.wave, number);
            let pause = retry.as_ref().map_or(Duration::ZERO, |resend| resend.pause_before(number));
            tokio::select! {
                biased;
                () = closing.cancelled() => {}
                () = sleep(pause) => {}
            }
            self
        })
    }

    /// The wave to put back into the inbox, whose ledger counts it from then on.
    pub(super) fn into_wave(self) -> Wave {
        self.failed.open.settle(Outcome::Retried);
        self.next
    }

    /// Ends the attempt without a retry.
    pub(super) async fn give_up(self) {
        self.failed.fail(self.cause).await;
    }
}
