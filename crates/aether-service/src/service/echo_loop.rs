//! The loop that hands the echoes of a service to its handler, one after the other.
//!
//! [`Service::run_until`](super::Service::run_until) runs it beside the sets of handlers and ends it after them, because
//! their last waves may fail, too. Echoes have no echoes: a handler of echoes that fails is logged and counted.

use std::time::Duration;

use aether_core::{Echo, Echoes, Emitter};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::BoxError;

use super::ServiceCounters;
use super::log_throttle::LogThrottle;
use super::report::EchoOutcome;
use super::stack::caught;
use crate::handler::Delivery;
use crate::{Asker, error_chain};

/// A type-erased handler of echoes.
pub(super) type RunEcho = dyn Fn(Echo, &Delivery) -> BoxFuture<'static, Result<(), BoxError>> + Send + Sync;

/// The echoes of a service and their handler.
pub(super) struct EchoLoop {
    pub(super) echoes: Echoes,
    pub(super) run: Box<RunEcho>,
    pub(super) emitter: Emitter,
    pub(super) asker: Asker,
    pub(super) counters: ServiceCounters,
    /// The time-out of the service.
    pub(super) time_out: Option<Duration>,
    pub(super) log_throttle: LogThrottle,
}

impl EchoLoop {
    /// Handles echoes until `over` is cancelled or the medium is closed, and then those that are queued, for as long as
    /// the grace period.
    pub(super) async fn serve(mut self, over: CancellationToken, grace: Duration) {
        let too_late = async {
            over.cancelled().await;
            sleep(grace).await;
        };
        let serving = async {
            loop {
                let echo = tokio::select! {
                    biased;
                    () = over.cancelled() => break,
                    echo = self.echoes.receive() => echo,
                };
                match echo {
                    Some(echo) => self.handle(echo).await,
                    None => return,
                }
            }
            while let Some(echo) = self.queued() {
                self.handle(echo).await;
            }
        };
        tokio::select! {
            biased;
            () = serving => {}
            // Only a handler takes this long.
            () = too_late => self.counters.count_echo(EchoOutcome::Left),
        }
        while self.queued().is_some() {
            self.counters.count_echo(EchoOutcome::Left);
        }
    }

    /// An echo that is here already.
    fn queued(&mut self) -> Option<Echo> {
        // Unconstrained: otherwise tokio's cooperative budget would end the loop early.
        unconstrained(self.echoes.receive()).now_or_never().flatten()
    }

    async fn handle(&self, echo: Echo) {
        let (of, channel) = (echo.of.clone(), echo.channel.clone());
        let delivery = Delivery::new(echo.to_wave(), &self.emitter, &self.asker);
        let handling = caught(async { (self.run)(echo, &delivery).await });
        let handled = match self.time_out {
            Some(time_out) => timeout(time_out, handling).await.unwrap_or_else(|elapsed| Err(elapsed.into())),
            None => handling.await,
        };
        let Err(error) = handled else {
            return self.counters.count_echo(EchoOutcome::Handled);
        };
        self.counters.count_echo(EchoOutcome::Failed);
        if let Some(left_out) = self.log_throttle.due(Instant::now()) {
            let (service, error) = (self.emitter.source().name(), error_chain(&*error));
            tracing::warn!(service, %of, %channel, error, left_out, "the handler of echoes failed");
        }
    }
}
