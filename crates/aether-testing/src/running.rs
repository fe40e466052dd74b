//! A service that runs on a test bus.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use aether_service::{CancellationToken, Service, ServiceCounters, ServiceError, ServiceReport, error_chain};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// How long a service may take to stop: more than its grace period. Virtual time if the clock is paused.
const STOPS_WITHIN: Duration = Duration::from_secs(60);

/// How a service ended, once it has.
type Ended = Option<Result<ServiceReport, Arc<ServiceError>>>;

/// A service running on a [`TestBus`](crate::TestBus), which stops it at the end of the test. Clones are the same
/// service; dropping them changes nothing.
#[derive(Debug, Clone)]
pub struct Running {
    name: String,
    shutdown: CancellationToken,
    counters: ServiceCounters,
    ended: watch::Receiver<Ended>,
    task: AbortHandle,
}

impl Running {
    pub(crate) fn start(service: Service, shutdown: CancellationToken) -> Self {
        let (name, counters) = (service.emitter().source().name().to_owned(), service.counters());
        let (tell, ended) = watch::channel(None);
        let stop = shutdown.clone();
        let task = tokio::spawn(async move {
            let report = service.run_until(stop).await.map_err(Arc::new);
            tell.send_replace(Some(report));
        });
        Self { name, shutdown, counters, ended, task: task.abort_handle() }
    }

    /// The counts of the service now.
    #[must_use]
    pub fn report(&self) -> ServiceReport {
        self.counters.report()
    }

    /// Stops the service as a shutdown does, and returns its account.
    ///
    /// # Panics
    /// If it failed, crashed, or does not stop within a minute.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the service stops all the same.
    #[track_caller]
    pub fn stop(&self) -> impl Future<Output = ServiceReport> {
        let at = Location::caller();
        async move {
            match self.stopped().await {
                Ok(report) => report,
                Err(problem) => panic!("{problem} ({at})"),
            }
        }
    }

    /// Ends the service at once, as if its process had died: handlers end at their next await point, nothing is
    /// answered, and the waves in its inbox are counted as `closed`. It returns when the service is gone.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the service ends all the same.
    pub async fn crash(&self) {
        self.task.abort();
        // The sender is dropped with the task.
        let _ = self.ended.clone().wait_for(|_| false).await;
    }

    /// Stops the service, and returns its account or a description of what is wrong. A service that crashed does not
    /// count as an error here.
    pub(crate) async fn stopped(&self) -> Result<ServiceReport, String> {
        self.shutdown.cancel();
        let (name, mut ended) = (&self.name, self.ended.clone());
        let result = match timeout(STOPS_WITHIN, ended.wait_for(Option::is_some)).await {
            Ok(Ok(result)) => result.clone(),
            // It was ended by `crash`, or its task panicked.
            Ok(Err(_)) => None,
            Err(_) => return Err(format!("the service {name} did not stop within {STOPS_WITHIN:?}")),
        };
        match result {
            Some(Err(error)) => Err(format!("the service {name} failed: {}", error_chain(&*error))),
            _ => Ok(self.report()),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}
