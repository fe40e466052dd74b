//! One handling of one wave, in a task of its own.

use std::sync::Arc;

use aether_core::{Emitter, Wave, wave::ReplyError};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::BoxError;

use super::failure::{Cause, report_failure};
use super::log_throttle::LogThrottle;
use super::report::{Open, Outcome};
use crate::Resend;
use crate::handler::Answer;

/// What all handlings of a service share.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) emitter: Emitter,
    pub(super) log_throttle: LogThrottle,
    pub(super) retry: Option<Resend>,
    /// Cancelled when the service shuts down: nothing is tried again from then on.
    pub(super) closing: CancellationToken,
    /// Cancelled when the time for shutting down is over: handlers are ended where they await.
    pub(super) over: CancellationToken,
}

/// A wave that is being handled.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) desk: Arc<Desk>,
    pub(super) wave: Wave,
    pub(super) open: Open,
}

/// A wave that shall be handled again.
#[derive(Debug)]
pub(super) struct Again {
    failed: Attempt,
    cause: Cause,
    next: Wave,
}

impl Attempt {
    /// Waits for the handler, and answers. A wave that is to be tried again is handed back after its pause.
    pub(super) async fn run(self, handling: impl Future<Output = Result<Answer, BoxError>>) -> Option<Again> {
        let handled = tokio::select! {
            biased;
            handled = handling => handled.map_err(Cause::of),
            () = self.desk.over.cancelled() => Err(Cause::shut_down(Outcome::Abandoned)),
        };
        let cause = match handled {
            Ok(answer) => match self.answer(answer).await {
                Ok(()) => {
                    self.open.settle(Outcome::Succeeded);
                    return None;
                }
                Err(error) => Cause::of(Box::new(error)),
            },
            Err(cause) => cause,
        };
        let Some(next) = self.next(&cause) else {
            self.fail(cause).await;
            return None;
        };
        if let Some(resend) = &self.desk.retry {
            tracing::debug!(id = %self.wave.id(), attempt = next.attempt(), %cause, "to be handled again");
            tokio::select! {
                () = sleep(resend.pause_before(next.attempt())) => {}
                () = self.desk.closing.cancelled() => {}
            }
        }
        Some(Again { failed: self, cause, next })
    }

    /// The next attempt, if there shall be one. It is paid for.
    fn next(&self, cause: &Cause) -> Option<Wave> {
        let resend = self.desk.retry.as_ref()?;
        if !cause.may_be_retried() || self.desk.closing.is_cancelled() {
            return None;
        }
        resend.next(&self.wave).filter(|_| resend.budget.withdraw())
    }

    async fn answer(&self, answer: Answer) -> Result<(), ReplyError> {
        let Some(answer) = answer.into_wave().filter(|_| self.wave.expects_reply()) else {
            return Ok(());
        };
        match self.wave.reply_wave(answer).await {
            // Whoever asked has given up or has the answer of somebody else; the work is done all the same.
            Err(ReplyError::AskerGone) => Ok(()),
            replied => replied,
        }
    }

    /// The wave was not handled, for good: says so to everybody concerned, and counts it.
    pub(super) async fn fail(self, cause: Cause) {
        let Desk { emitter, log_throttle, .. } = &*self.desk;
        report_failure(emitter, log_throttle, &self.wave, cause.reason(), &cause.to_string()).await;
        self.open.settle(cause.outcome);
    }
}

impl Again {
    /// The wave as it goes back into the inbox. From here on it is counted there.
    pub(super) fn into_wave(self) -> Wave {
        self.failed.open.settle(Outcome::Retried);
        self.next
    }

    /// It is too late to try again.
    pub(super) async fn give_up(self) {
        self.failed.fail(self.cause).await;
    }
}
