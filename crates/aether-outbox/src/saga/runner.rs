//! Running the sagas of one name.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::course::Course;
use super::error::SagaError;
use super::ledger::SagaLedger;
use super::record::{Phase, Record};
use super::shared::{Found, Shared};
use crate::backend::Backend;

/// Runs sagas until it is closed. Dropped, it stops at once; interrupted steps are made again by the next runner.
#[derive(Debug)]
#[must_use = "the sagas stop when the runner is dropped"]
pub struct SagaRunner {
    task: JoinHandle<()>,
    stop: watch::Sender<Option<Duration>>,
    ledger: watch::Receiver<SagaLedger>,
}

impl SagaRunner {
    pub(super) fn spawn<S, B>(shared: &Arc<Shared<S, B>>) -> Result<Self, SagaError>
    where
        S: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
        B: Backend,
    {
        let taken = shared.queued.lock().take();
        let queued = taken.ok_or_else(|| SagaError::Running { saga: shared.name.clone() })?;
        let place = Place { shared: Arc::clone(shared), queued: Some(queued) };
        let (stop, stopped) = watch::channel(None);
        let ledger = shared.ledger.subscribe();
        let task = tokio::spawn(async move {
            let name = place.shared.name.clone();
            if let Err(error) = run(place, stopped).await {
                tracing::error!(saga = name, %error, "the sagas are not run");
            }
        });
        Ok(Self { task, stop, ledger })
    }

    /// Begins no more sagas, waits at most for so long until those at work have ended, and returns the account. Steps that
    /// are interrupted are made again by the next runner.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the runner stops at once.
    pub async fn close(mut self, patience: Duration) -> SagaLedger {
        self.stop.send_replace(Some(patience));
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the runner of the sagas has ended early");
        }
        *self.ledger.borrow()
    }
}

impl Drop for SagaRunner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The first and the longest pause of a saga after an error of the store.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The place of the only runner.
struct Place<S, B: Backend> {
    shared: Arc<Shared<S, B>>,
    queued: Option<mpsc::UnboundedReceiver<String>>,
}

impl<S, B: Backend> Drop for Place<S, B> {
    fn drop(&mut self) {
        self.shared.active.lock().clear();
        *self.shared.queued.lock() = self.queued.take();
    }
}

async fn run<S, B>(
    mut place: Place<S, B>,
    mut stopped: watch::Receiver<Option<Duration>>,
) -> Result<(), SagaError>
where
    S: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    B: Backend,
{
    let shared = Arc::clone(&place.shared);
    let Some(queued) = &mut place.queued else { return Ok(()) };
    // What is in the queue from before is in the store as well.
    while queued.try_recv().is_ok() {}
    let listed = Arc::clone(&shared);
    let listed = aether_files::disk::spawn_blocking(move || unfinished(&listed)).await;
    let mut waiting = listed.map_err(|_| crate::error::StoreError::ShutDown)??;
    let mut running = JoinSet::new();
    loop {
        while running.len() < shared.concurrency
            && let Some(id) = waiting.pop_front()
        {
            let mut active = shared.active.lock();
            if let Some(active) = active.get_mut(&id) {
                active.again = true;
                continue;
            }
            let one = active.entry(id.clone()).or_default();
            let course = Course::new(Arc::clone(&shared), id, Arc::clone(&one.nudge));
            running.spawn(run_one(course));
        }
        tokio::select! {
            biased;
            _ = stopped.wait_for(Option::is_some) => break,
            // Does not starve the queue: a saga that has ended starts again only if the queue has named it.
            Some(Ok(id)) = running.join_next() => {
                if shared.active.lock().remove(&id).is_some_and(|active| active.again) {
                    waiting.push_back(id);
                }
            }
            Some(id) = queued.recv() => waiting.push_back(id),
        }
    }
    let patience = stopped.borrow().unwrap_or_default();
    let ended = timeout(patience, async { while running.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        running.shutdown().await;
    }
    Ok(())
}

/// The sagas that have not ended. Each counts that its step was interrupted.
fn unfinished<S, B>(shared: &Shared<S, B>) -> Result<VecDeque<String>, SagaError>
where
    S: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    B: Backend,
{
    let mut waiting = VecDeque::new();
    let change = shared.store.begin()?;
    shared.each(&change, |id, found| {
        let Found::Defined(record) = found else { return Ok(()) };
        // A letter may be missing.
        if record.phase != Phase::Stuck || record.letter.is_none() {
            let interrupted = record.interrupted.saturating_add(1);
            shared.put(&change, &id, &Record { interrupted, revision: record.revision + 1, ..record })?;
            waiting.push_back(id);
        }
        Ok(())
    })?;
    change.commit()?;
    Ok(waiting)
}

async fn run_one<S, B>(course: Course<S, B>) -> String
where
    S: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    B: Backend,
{
    let (saga, id) = (course.saga(), course.id());
    let mut pause = PAUSES.0;
    loop {
        match AssertUnwindSafe(course.run()).catch_unwind().await {
            Ok(Ok(())) => break,
            // The disk may be full, or have failed at one moment.
            Ok(Err(error)) => tracing::error!(saga, id, %error, ?pause, "a saga goes on after a pause"),
            Err(_) => {
                tracing::error!(saga, id, "a saga has panicked, and makes no progress until the next start");
                break;
            }
        }
        sleep(pause).await;
        pause = (2 * pause).min(PAUSES.1);
    }
    id.to_owned()
}
