//! Why a wave was not handled, and the one place that reports it.
//!
//! [`Cause::of`] classifies a failure of any layer; [`report_failure`] reports it.

use std::any::Any;
use std::error::Error;
use std::fmt;

use aether_core::{EchoReason, Emitter, FailureReason, Wave};
use tower::BoxError;

use super::failure_log::FailureLog;
use super::report::Outcome;
use crate::{Rejection, error_chain};

/// A handler or a layer that panicked.
#[derive(Debug, thiserror::Error)]
#[error("panicked: {message}")]
pub(super) struct Panicked {
    message: String,
}

impl Panicked {
    pub(super) fn new(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied();
        let message = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self { message: message.unwrap_or("without a message").to_owned() }
    }
}

/// The circuit breaker is open.
#[derive(Debug, thiserror::Error)]
#[error("the circuit breaker is open: too many waves failed in a row")]
pub(super) struct CircuitOpen;

/// The service ended before it handled the wave.
#[derive(Debug, thiserror::Error)]
#[error("the service shut down before it handled this wave")]
pub(super) struct ShutDown;

/// The handler was cancelled at an await point, so a part of its work may be done.
#[derive(Debug, thiserror::Error)]
#[error("the handler was ended in the middle: it still ran when the grace period of the shutdown was over")]
pub(super) struct EndedInTheMiddle;

/// Why a wave was not handled.
#[derive(Debug)]
pub(super) struct Cause {
    pub(super) outcome: Outcome,
    error: BoxError,
}

impl Cause {
    /// Classifies an error of the stack. Unknown errors come from handlers and user layers.
    pub(super) fn of(error: BoxError) -> Self {
        // A layer may have wrapped the error, so the first known error of the chain counts.
        let mut known = Outcome::Failed;
        let mut next: Option<&(dyn Error + 'static)> = Some(&*error);
        while let Some(link) = next {
            if let Some(outcome) = outcome_of(link) {
                known = outcome;
                break;
            }
            next = link.source();
        }
        Self { outcome: known, error }
    }

    pub(super) fn shut_down(outcome: Outcome) -> Self {
        Self { outcome, error: Box::new(ShutDown) }
    }

    pub(super) fn ended_in_the_middle() -> Self {
        Self { outcome: Outcome::Abandoned, error: Box::new(EndedInTheMiddle) }
    }

    /// The reason as sent to the asker.
    pub(super) fn reason(&self) -> FailureReason {
        match self.outcome {
            Outcome::Rejected => FailureReason::Rejected,
            Outcome::ShedBusy | Outcome::ShedCircuitOpen | Outcome::Left => FailureReason::Shed,
            _ => FailureReason::HandlerFailed,
        }
    }

    /// Whether a retry may help. A shed wave was never handled; retrying it is up to the sender.
    pub(super) fn may_be_retried(&self) -> bool {
        matches!(self.outcome, Outcome::Failed | Outcome::Panicked | Outcome::TimedOut)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&error_chain(&*self.error))
    }
}

fn outcome_of(error: &(dyn Error + 'static)) -> Option<Outcome> {
    if error.is::<Rejection>() {
        Some(Outcome::Rejected)
    } else if error.is::<Panicked>() {
        Some(Outcome::Panicked)
    } else if error.is::<tower::timeout::error::Elapsed>() {
        Some(Outcome::TimedOut)
    } else if error.is::<tower::load_shed::error::Overloaded>() {
        Some(Outcome::ShedBusy)
    } else if error.is::<EndedInTheMiddle>() {
        Some(Outcome::Abandoned)
    } else if error.is::<CircuitOpen>() {
        Some(Outcome::ShedCircuitOpen)
    } else {
        None
    }
}

/// Whether the error is the fault of the wave, not of the service.
pub(super) fn is_rejection(error: &BoxError) -> bool {
    error.is::<Rejection>()
}

/// Reports an unhandled wave: in the log, as often as `failures` allows, and to the asker, or by an echo to the source of a
/// command. Every final failure of a service is reported here, once.
///
/// Cancel safety: cancelled before completion, the asker may not be told.
pub(super) async fn report_failure(emitter: &Emitter, failures: &FailureLog, wave: &Wave, cause: &Cause) {
    let (service, reason, hint) = (emitter.source().name(), cause.reason(), &*cause.to_string());
    failures.log(service, wave, cause.outcome, hint);
    if !wave.expects_reply() {
        emitter.reflect(wave, echo_reason(reason), hint).await;
    } else if let Err(error) = wave.reply_failure(reason, hint).await {
        tracing::debug!(service, wave = %wave.id(), error = error_chain(&error), "the failure could not be sent to the asker");
    }
}

fn echo_reason(reason: FailureReason) -> EchoReason {
    match reason {
        FailureReason::Rejected => EchoReason::Rejected,
        FailureReason::Shed => EchoReason::Shed,
        _ => EchoReason::HandlerFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("a layer of the user")]
    struct Wrapped(#[source] BoxError);

    #[test]
    fn failures_are_classified_also_when_a_layer_wraps_them() {
        let of = |error: BoxError| Cause::of(Box::new(Wrapped(error))).outcome;
        assert_eq!(of(Box::new(Rejection::new("no"))), Outcome::Rejected);
        assert_eq!(of(Box::new(Panicked::new(&"oh"))), Outcome::Panicked);
        assert_eq!(of(Box::new(tower::timeout::error::Elapsed::new())), Outcome::TimedOut);
        assert_eq!(of(Box::new(tower::load_shed::error::Overloaded::new())), Outcome::ShedBusy);
        assert_eq!(of(Box::new(CircuitOpen)), Outcome::ShedCircuitOpen);
        assert_eq!(of("anything else".into()), Outcome::Failed);
    }

    #[test]
    fn a_panic_keeps_its_message() {
        let text = |panic: Box<dyn Any + Send>| Panicked::new(&*panic).to_string();
        assert!(text(Box::new("plain")).ends_with(": plain"));
        assert!(text(Box::new("made".to_owned())).ends_with(": made"));
        assert!(text(Box::new(17)).ends_with(": without a message"));
    }
}
