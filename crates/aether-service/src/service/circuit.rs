//! The circuit breaker: decides whether a wave may be taken out of the inbox.
//!
//! [`Circuit::admission`] is awaited before a wave is received, so that waves without admission stay in the inbox,
//! where a stronger one can overtake them. An admitted wave is handled. [`Watched`] counts the results of the handlers.
//!
//! ```text
//! closed ── too many failures in a row ──▶ open ── after its time, for one wave ──▶ half open
//!    ▲                                     ▲                                          │
//!    └──────────── that wave was handled ──┼──────────────────────────────────────────┤
//!                                          └─────────────────────── it failed ────────┘
//! ```

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use aether_core::Wave;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tower::BoxError;

use super::failure::is_rejection;
use super::limits::Breaker;
use crate::handler::Answer;

/// A circuit breaker. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Circuit {
    breaker: Breaker,
    /// Waiters are woken when the phase changes, not when a failure is counted.
    state: Arc<watch::Sender<CircuitState>>,
}

#[derive(Debug)]
struct CircuitState {
    phase: Phase,
    /// How often the circuit has opened or closed. A result counts only in the phase in which its attempt began:
    /// attempts from before the circuit opened say nothing about the later state.
    changes: u64,
    /// How often it has opened.
    openings: u64,
}

#[derive(Debug)]
enum Phase {
    Closed { failures_in_a_row: usize },
    Open { until: Instant },
    HalfOpen { is_tried: bool },
}

/// Permission to handle one wave.
#[derive(Debug)]
pub(super) enum Admission {
    /// The circuit is closed; other waves are admitted as well.
    Closed,
    /// The circuit is half open, and this is the only trial. Dropped without a result, it lets the next wave be tried.
    Trial { _trial: Trial },
}

#[derive(Debug)]
pub(super) struct Trial {
    circuit: Circuit,
    changes: u64,
}

/// The wait of a loop for the admission of its next wave.
pub(super) struct Admitting {
    circuit: Option<Circuit>,
    waiting: Option<BoxFuture<'static, Admission>>,
}

impl Admitting {
    pub(super) const fn new(circuit: Option<Circuit>) -> Self {
        Self { circuit, waiting: None }
    }

    /// Ready if a wave is admitted, or there is no circuit breaker.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Admission>> {
        let Some(circuit) = &self.circuit else { return Poll::Ready(None) };
        if self.waiting.is_none() {
            if let Some(admission) = circuit.try_admission() {
                return Poll::Ready(Some(admission));
            }
            let circuit = circuit.clone();
            self.waiting = Some(async move { circuit.admission().await }.boxed());
        }
        let Some(waiting) = &mut self.waiting else { return Poll::Pending };
        let admission = ready!(waiting.poll_unpin(context));
        self.waiting = None;
        Poll::Ready(Some(admission))
    }
}

impl Circuit {
    pub(super) fn new(breaker: Breaker) -> Self {
        let phase = Phase::Closed { failures_in_a_row: 0 };
        Self { breaker, state: Arc::new(watch::Sender::new(CircuitState { phase, changes: 0, openings: 0 })) }
    }

    /// Waits until a wave may be handled.
    ///
    /// Cancel safety: cancelled before completion, nothing was admitted.
    pub(super) async fn admission(&self) -> Admission {
        let mut changes = self.state.subscribe();
        loop {
            changes.mark_unchanged();
            if let Some(admission) = self.try_admission() {
                return admission;
            }
            let until = match self.state.borrow().phase {
                Phase::Open { until } => Some(until),
                _ => None,
            };
            match until {
                Some(until) => sleep_until(until).await,
                // This task holds a sender, so it cannot fail.
                None => drop(changes.changed().await),
            }
        }
    }

    /// Like [`Circuit::admission`], without waiting.
    pub(super) fn try_admission(&self) -> Option<Admission> {
        let mut admission = None;
        self.state.send_if_modified(|state| {
            match &mut state.phase {
                Phase::Closed { .. } => admission = Some(Admission::Closed),
                Phase::Open { until } if *until > Instant::now() => {}
                Phase::HalfOpen { is_tried: true } => {}
                Phase::Open { .. } => {
                    state.turn(Phase::HalfOpen { is_tried: true });
                    admission = Some(self.trial(state.changes));
                    return true;
                }
                Phase::HalfOpen { is_tried } => {
                    *is_tried = true;
                    admission = Some(self.trial(state.changes));
                }
            }
            false
        });
        admission
    }

    fn trial(&self, changes: u64) -> Admission {
        Admission::Trial { _trial: Trial { circuit: self.clone(), changes } }
    }

    /// Whether the circuit is open now, and how often it has opened. When its time is over it is half open, although no wave
    /// has come that could be tried.
    pub(super) fn openings(&self) -> (bool, u64) {
        let state = self.state.borrow();
        let is_open = matches!(state.phase, Phase::Open { until } if until > Instant::now());
        (is_open, state.openings)
    }

    fn changes(&self) -> u64 {
        self.state.borrow().changes
    }

    /// Begins an attempt whose result counts.
    pub(super) fn watch(&self) -> Watching {
        Watching { circuit: self.clone(), began: self.changes() }
    }

    /// Records the result of an attempt. `began` is the number of changes when the attempt began.
    fn note(&self, began: u64, is_failure: bool) {
        self.state.send_if_modified(|state| {
            if state.changes != began {
                return false;
            }
            let opens = match &mut state.phase {
                Phase::Closed { failures_in_a_row } if is_failure => {
                    *failures_in_a_row += 1;
                    *failures_in_a_row >= self.breaker.failures
                }
                Phase::Closed { failures_in_a_row } => {
                    *failures_in_a_row = 0;
                    false
                }
                // A user layer called its handler without an admission.
                Phase::Open { .. } => false,
                Phase::HalfOpen { .. } if is_failure => true,
                Phase::HalfOpen { .. } => {
                    state.turn(Phase::Closed { failures_in_a_row: 0 });
                    return true;
                }
            };
            if opens {
                state.turn(Phase::Open { until: Instant::now() + self.breaker.open_for });
            }
            opens
        });
    }
}

impl CircuitState {
    fn turn(&mut self, phase: Phase) {
        self.openings += u64::from(matches!(phase, Phase::Open { .. }));
        self.phase = phase;
        self.changes += 1;
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.circuit.state.send_if_modified(|state| match &mut state.phase {
            // The trial ended without a result: a user layer answered, or there was no wave.
            Phase::HalfOpen { is_tried } if state.changes == self.changes => {
                *is_tried = false;
                true
            }
            _ => false,
        });
    }
}

/// An attempt whose result counts. Dropped, it has none.
#[derive(Debug)]
pub(super) struct Watching {
    circuit: Circuit,
    began: u64,
}

impl Watching {
    /// Records the result. A rejection is the sender's fault and counts as handled.
    pub(super) fn ended(self, handled: &Result<Answer, BoxError>) {
        self.circuit.note(self.began, handled.as_ref().is_err_and(|error| !is_rejection(error)));
    }
}

/// Wraps the handlers of a stack and records their results.
#[derive(Debug, Clone)]
pub(super) struct Watched<S> {
    inner: S,
    circuit: Circuit,
}

impl<S> Watched<S> {
    pub(super) fn new(inner: S, circuit: Circuit) -> Self {
        Self { inner, circuit }
    }
}

impl<S> tower::Service<Wave> for Watched<S>
where
    S: tower::Service<Wave, Response = Answer, Error = BoxError, Future: Send + 'static>,
{
    type Response = Answer;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Answer, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, wave: Wave) -> Self::Future {
        let watching = self.circuit.watch();
        let handling = self.inner.call(wave);
        Box::pin(async move {
            let handled = handling.await;
            watching.ended(&handled);
            handled
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    const OPEN_FOR: Duration = Duration::from_secs(1);

    fn open() -> Circuit {
        let circuit = Circuit::new(Breaker::default().failures(2).open_for(OPEN_FOR));
        circuit.note(0, true);
        circuit.note(0, true);
        assert!(circuit.try_admission().is_none());
        circuit
    }

    #[tokio::test(start_paused = true)]
    async fn one_wave_is_tried_at_a_time_until_one_is_handled() {
        let circuit = open();
        let opened = Instant::now();
        let trial = circuit.admission().await;
        assert_eq!(opened.elapsed().as_secs(), 1);
        assert!(matches!(trial, Admission::Trial { .. }));
        assert!(circuit.admission().now_or_never().is_none());
        // A trial without a result.
        drop(trial);
        let trial = circuit.admission().now_or_never().unwrap();
        circuit.note(circuit.changes(), true);
        drop(trial);
        assert!(circuit.try_admission().is_none());
        let trial = circuit.admission().await;
        assert_eq!(opened.elapsed().as_secs(), 2);
        circuit.note(circuit.changes(), false);
        drop(trial);
        assert!(matches!(circuit.try_admission(), Some(Admission::Closed)));
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_from_before_the_circuit_opened_do_not_close_it() {
        let circuit = open();
        circuit.note(0, false);
        assert!(circuit.try_admission().is_none());
        let _trial = circuit.admission().await;
        circuit.note(0, false);
        circuit.note(0, true);
        assert!(circuit.try_admission().is_none(), "the trial has not ended");
    }

    #[tokio::test]
    async fn a_success_between_failures_keeps_it_closed() {
        let circuit = Circuit::new(Breaker::default().failures(2).open_for(OPEN_FOR));
        for failed in [true, false, true] {
            circuit.note(0, failed);
        }
        assert!(matches!(circuit.try_admission(), Some(Admission::Closed)));
        circuit.note(0, true);
        assert!(circuit.try_admission().is_none());
    }
}
