//! Running the sagas of one name.

use std::collections::{HashMap, VecDeque};
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
use super::shared::Shared;
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
    // The sagas at work, and whether they are to be looked at again.
    let mut active: HashMap<String, bool> = HashMap::new();
    let mut running = JoinSet::new();
    loop {
        while running.len() < shared.concurrency
            && let Some(id) = waiting.pop_front()
        {
            if let Some(again) = active.get_mut(&id) {
                *again = true;
                continue;
            }
            active.insert(id.clone(), false);
            running.spawn(run_one(Arc::clone(&shared), id));
        }
        tokio::select! {
            biased;
            _ = stopped.wait_for(Option::is_some) => break,
            // Does not starve the queue: a saga that has ended starts again only if the queue has named it.
            Some(Ok(id)) = running.join_next() => {
                if active.remove(&id) == Some(true) {
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
    shared.each(&change, |id, record| {
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

async fn run_one<S, B>(shared: Arc<Shared<S, B>>, id: String) -> String
where
    S: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    B: Backend,
{
    let saga = &shared.name;
    let mut pause = PAUSES.0;
    loop {
        let course = Course::new(Arc::clone(&shared), id.clone());
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
    id
}
