//! A running service and a user of it.

use std::sync::Arc;
use std::time::Duration;

use aether_core::{Aether, AskError, Failure, FailureReason, Vibrator, Wave};
use aether_service::{
    CancellationToken, Service, ServiceBuilder, ServiceCounters, ServiceError, ServiceReport, State,
};
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

/// Only a failing test waits this long.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) struct Stage {
    pub(crate) user: Vibrator,
    pub(crate) counters: ServiceCounters,
    shutdown: CancellationToken,
    running: JoinHandle<Result<ServiceReport, ServiceError>>,
}

impl Stage {
    pub(crate) async fn of<S>(builder: ServiceBuilder<S>) -> Self
    where
        S: Send + Sync + 'static,
    {
        Self::on(Aether::local(), builder).await
    }

    pub(crate) async fn on<S>(aether: Aether, builder: ServiceBuilder<S>) -> Self
    where
        S: Send + Sync + 'static,
    {
        Self::run(&aether, builder.build(&aether).await.unwrap()).await
    }

    pub(crate) async fn run(aether: &Aether, service: Service) -> Self {
        let user = Vibrator::create("user", aether).await.unwrap();
        let (counters, shutdown) = (service.counters(), CancellationToken::new());
        let running = tokio::spawn(service.run_until(shutdown.clone()));
        Self { user, counters, shutdown, running }
    }

    pub(crate) async fn ask(&self, channel: &str, payload: &impl Serialize) -> Result<Wave, AskError> {
        let question = Wave::builder(channel).kind(aether_core::Kind::Query).json(payload).build().unwrap();
        self.user.ask_within(question, LONG).await
    }

    /// Asks a question that must fail, and returns the failure.
    pub(crate) async fn failure(&self, channel: &str, payload: &impl Serialize) -> (FailureReason, String) {
        match self.ask(channel, payload).await {
            Err(AskError::Failed { source: Failure { reason, hint, .. }, .. }) => (reason, hint),
            other => panic!("not a failure that was told: {other:?}"),
        }
    }

    pub(crate) async fn emit(&self, channel: &str, payload: &impl Serialize) {
        self.user.emit_wave(channel, payload).await.unwrap();
    }

    pub(crate) fn shut_down(&self) {
        self.shutdown.cancel();
    }

    /// Ends the service and returns its report.
    pub(crate) async fn close(self) -> ServiceReport {
        self.shut_down();
        self.ended().await
    }

    /// Waits for a service that is shutting down.
    pub(crate) async fn ended(self) -> ServiceReport {
        let report = self.running.await.unwrap().unwrap();
        assert!(report.adds_up(), "{report}");
        assert_eq!(report, self.counters.report());
        report
    }
}

/// A vibrator subscribed to a pattern.
pub(crate) async fn listener(aether: &Aether, pattern: &str) -> Vibrator {
    let listener = Vibrator::create("listener", aether).await.unwrap();
    listener.resonate_on(pattern).await.unwrap();
    listener
}

/// Blocks handlers until they are released, and reports which have begun.
#[derive(Clone)]
pub(crate) struct Gate {
    open: Arc<Semaphore>,
    begun: mpsc::UnboundedSender<Wave>,
}

impl Gate {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Wave>) {
        let (begun, receiver) = mpsc::unbounded_channel();
        (Self { open: Arc::new(Semaphore::new(0)), begun }, receiver)
    }

    /// Releases some handlers.
    pub(crate) fn let_go(&self, handlers: usize) {
        self.open.add_permits(handlers);
    }
}

/// A handler that begins, waits at the gate and ends.
pub(crate) async fn gated(State(gate): State<Gate>, wave: Wave) {
    gate.begun.send(wave).unwrap();
    gate.open.acquire().await.unwrap().forget();
}
