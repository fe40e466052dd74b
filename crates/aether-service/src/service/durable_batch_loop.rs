//! The loop that serves a durable handler of batches: takes what waits in the log, and calls the handler once for all of it.
//!
//! [`Service::run_until`](super::Service::run_until) runs one for each of these handlers. One batch is handled at a time,
//! and acknowledged before the next one.

use std::future::poll_fn;
use std::sync::Arc;

use aether_core::{Emitter, Pattern};
use aether_log::{ConsumeError, Consumer, Delivery};
use futures_util::FutureExt;

use super::attempt::HandlerContext;
use super::batch_loop::{BatchFailed, Batches};
use super::circuit::{Admission, Circuit};
use super::durable_loop::{Job, Trouble, give_back};
use super::error::ServiceError;
use super::limits::LimitsInForce;
use super::report::LoopAccount;
use super::serve_loop::Ending;
use crate::handler::{Answer, Means};

/// A durable handler of batches with its consumer.
pub(super) struct DurableBatchLoop {
    /// The emitter of the service.
    pub(super) emitter: Emitter,
    pub(super) consumer: Consumer,
    pub(super) heard: Vec<Pattern>,
    pub(super) batches: Batches,
    pub(super) means: Arc<Means>,
    pub(super) circuit: Option<Circuit>,
    pub(super) limits: LimitsInForce,
    pub(super) account: LoopAccount,
}

/// The waves that were taken, and the permission to handle them.
struct Taken {
    deliveries: Vec<Delivery>,
    /// A wave that has failed before, and is handled alone after these.
    alone: Option<Delivery>,
    _admission: Option<Admission>,
}

impl DurableBatchLoop {
    /// Handles waves until the service ends. What is not handled then stays in the log, and no attempt is counted.
    pub(super) async fn run(mut self, ending: Ending) -> Result<(), ServiceError> {
        // Also where this panics or is cancelled.
        let _ends_the_others = ending.shutdown.clone().drop_guard();
        let (context, _counting) =
            HandlerContext::begin(&self.emitter, &self.heard, None, ending.closing.clone());
        let (mut trouble, mut alone) = (Trouble::default(), None);
        loop {
            tokio::select! {
                biased;
                () = ending.shutdown.cancelled() => break,
                taken = self.take(&mut trouble, &mut alone) => match taken {
                    Ok(Taken { deliveries, alone: next, _admission }) => {
                        self.handle(deliveries, &context, &ending, &mut trouble).await;
                        alone = next;
                    }
                    Err(ConsumeError::ShutDown) => break,
                    Err(error) => trouble.begin(&self.consumer, &error),
                }
            }
        }
        if let Some(delivery) = alone {
            delivery.release();
        }
        ending.shutdown.cancel();
        context.closing.cancel();
        context.failures.log_rest(context.emitter.source().name());
        give_back(self.consumer).await;
        Ok(())
    }

    /// Waits until the log can be used and the circuit breaker admits a batch, then for a wave, and takes what waits behind
    /// it. A wave that has failed before is a batch of its own, so that it fails no others again.
    ///
    /// Cancel safety: cancelled before completion, no wave is taken.
    async fn take(
        &mut self,
        trouble: &mut Trouble,
        alone: &mut Option<Delivery>,
    ) -> Result<Taken, ConsumeError> {
        poll_fn(|waking| trouble.poll_over(waking)).await;
        let _admission = match &self.circuit {
            Some(circuit) => Some(circuit.admission().await),
            None => None,
        };
        let first = match alone.take() {
            Some(delivery) => delivery,
            None => self.consumer.receive().await?,
        };
        let (mut deliveries, mut alone) = (vec![first], None);
        while deliveries[0].attempt() == 1 && deliveries.len() < self.batches.most {
            // An error comes again with the next batch.
            let Some(Ok(delivery)) = self.consumer.receive().now_or_never() else { break };
            if delivery.attempt() > 1 {
                alone = Some(delivery);
                break;
            }
            deliveries.push(delivery);
        }
        Ok(Taken { deliveries, alone, _admission })
    }

    /// Calls the handler once, and settles each wave by what it returned. Waves that cannot be read are dead letters, and
    /// fail no others.
    async fn handle(
        &mut self,
        deliveries: Vec<Delivery>,
        context: &Arc<HandlerContext>,
        ending: &Ending,
        trouble: &mut Trouble,
    ) {
        let mut jobs = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            self.account.open();
            let wave = delivery.wave().clone();
            let (span, open) = (context.span(&wave), self.account.hand_over(self.account.waited(&wave)));
            let (context, consumer) = (Arc::clone(context), self.consumer.clone());
            let job = Job { context, consumer, delivery, open, span };
            match self.batches.add(wave, &self.means, self.circuit.as_ref()) {
                Ok(()) => jobs.push(job),
                Err(error) => drop(job.settle(Err(error))),
            }
        }
        if jobs.is_empty() {
            return;
        }
        let watching = self.circuit.as_ref().map(Circuit::watch);
        let handled = self.batches.call(self.limits.time_out, ending, context).await;
        if let Some(watching) = watching {
            watching.ended(&handled);
        }
        let failed = handled.err().map(|error| BatchFailed::of(jobs.len(), error));
        let settled = jobs.into_iter().filter_map(|job| {
            let handled = failed.clone().map_or(Ok(Answer::NONE), |failed| Err(failed.into()));
            job.settle(handled)
        });
        match Delivery::ack_all(settled).await {
            Ok(()) => trouble.end(),
            Err(error) => trouble.begin(&self.consumer, &error),
        }
    }
}
