//! Folders that are mirrored.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use aether::Aether;
use aether::field::Field as Replica;
use aether::mirror::{self as rust, MirrorError, MirrorEvent, MirrorEvents, MirrorOptions, MirrorStatus};
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, unfold};
use pyo3::prelude::*;
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;

use crate::errors::Failure;
use crate::errors::exceptions::ClosedError;
use crate::process::{Owned, Process};
use crate::stream::{Item, Stream};
use crate::waiting::Task;

/// Events that are taken at once. The mirror keeps more of them for a slow listener.
const AT_ONCE: usize = 64;

/// The options of a mirror.
#[derive(FromPyObject)]
pub(crate) struct FolderOptions {
    prefix: String,
    machine: Option<String>,
    per_machine: bool,
    max_files: usize,
    max_bytes: u64,
    max_file: u64,
}

impl From<FolderOptions> for MirrorOptions {
    fn from(options: FolderOptions) -> Self {
        let rust = Self::default()
            .prefix(&options.prefix)
            .per_machine(options.per_machine)
            .max_files(options.max_files)
            .max_bytes(options.max_bytes)
            .max_file(options.max_file);
        match &options.machine {
            Some(machine) => rust.machine(machine),
            None => rust,
        }
    }
}

/// A folder that is mirrored.
#[pyclass(frozen)]
pub(crate) struct Mirror {
    process: Process,
    running: Owned<Arc<Mirroring>>,
}

/// A mirror until it is stopped.
struct Mirroring {
    mirror: RwLock<Option<rust::Mirror>>,
    /// Ends the waits, so that a stop has the mirror for itself.
    stopping: CancellationToken,
}

impl Mirroring {
    async fn settled(&self) -> Result<(), Failure> {
        let mirror = self.mirror.read().await;
        let mirror = mirror.as_ref().ok_or(MirrorError::Closed)?;
        tokio::select! {
            settled = mirror.settled() => Ok(settled?),
            () = self.stopping.cancelled() => Err(MirrorError::Closed.into()),
        }
    }

    /// Ends the mirror. Only the first call returns an account, or the reason for which it has ended by itself.
    async fn stop(&self) -> Result<Option<Status>, Failure> {
        self.stopping.cancel();
        let mirror = self.mirror.write().await.take();
        match mirror {
            Some(mirror) => Ok(Some(status_of(mirror.stop().await?))),
            None => Ok(None),
        }
    }
}

/// Mirrors a folder.
pub(crate) async fn start(
    aether: Aether,
    field: Replica,
    folder: PathBuf,
    options: FolderOptions,
    process: Process,
) -> Result<Mirror, Failure> {
    let mirror = rust::Mirror::start(&aether, &field, folder, options.into()).await?;
    let running = Mirroring { mirror: RwLock::new(Some(mirror)), stopping: CancellationToken::new() };
    Ok(Mirror { running: Owned::new(Arc::new(running), &process), process })
}

/// The counts of a mirror in the order of `MirrorStatus`, the last by the texts of the reasons.
type Status = ([u64; 12], BTreeMap<String, u64>);

fn status_of(status: MirrorStatus) -> Status {
    let refused = status.refused.iter().map(|(reason, count)| (reason.to_string(), *count)).collect();
    let counts = [
        status.files,
        status.bytes,
        status.waiting,
        status.written,
        status.deleted,
        status.sent,
        status.sent_deletions,
        status.conflicts,
        status.blocks_received,
        status.blocks_sent,
        status.blocks_wrong,
        status.unstable,
    ];
    (counts, refused)
}

/// An event as `(kind, path, detail)`, and the events that were dropped before it as `("missed", "", number)`.
type Event = (&'static str, String, Option<String>);

fn event_of(event: MirrorEvent) -> Option<Event> {
    Some(match event {
        MirrorEvent::Written { path, machine } => ("written", path, Some(machine)),
        MirrorEvent::Deleted { path } => ("deleted", path, None),
        MirrorEvent::Sent { path } => ("sent", path, None),
        MirrorEvent::SentDeletion { path } => ("sent_deletion", path, None),
        MirrorEvent::Conflict { path, kept } => ("conflict", path, Some(kept)),
        MirrorEvent::Refused { path, reason } => ("refused", path, Some(reason.to_string())),
        _ => return None,
    })
}

fn items_of(events: MirrorEvents) -> BoxStream<'static, Item> {
    let events = unfold((events, 0), async |(mut events, known)| {
        let event = event_of(events.next().await?);
        let missed = events.missed();
        let dropped = (missed > known).then(|| ("missed", String::new(), Some((missed - known).to_string())));
        Some((dropped.into_iter().chain(event), (events, missed)))
    });
    let events = events.flat_map(futures_util::stream::iter);
    events
        .map(|event| -> Item { Box::new(move |py| Ok(event.into_pyobject(py)?.into_any().unbind())) })
        .boxed()
}

#[pymethods]
impl Mirror {
    /// The stream of `(kind, path, detail)`.
    fn events(&self) -> PyResult<Stream> {
        let events = self.look(rust::Mirror::events)?;
        Ok(Stream::new(items_of(events), AT_ONCE, &self.process))
    }

    /// The account, as the counts and a dict of the refused ones by reason.
    fn status(&self) -> PyResult<Status> {
        Ok(status_of(self.look(rust::Mirror::status)?))
    }

    /// The files that are not mirrored now, and the text of the reason.
    fn refused(&self) -> PyResult<BTreeMap<String, String>> {
        let refused = self.look(rust::Mirror::refused)?;
        Ok(refused.into_iter().map(|(path, reason)| (path, reason.to_string())).collect())
    }

    /// Returns a task.
    fn settled(&self) -> PyResult<Task> {
        let running = Arc::clone(self.running.get()?);
        Ok(Task::spawn(&self.process, async move { Ok(running.settled().await?) }))
    }

    /// Returns the task of the account, which is `None` if it was stopped before.
    fn stop(&self) -> PyResult<Task> {
        let running = Arc::clone(self.running.get()?);
        Ok(Task::spawn(&self.process, async move { Ok(running.stop().await?) }))
    }
}

impl Mirror {
    /// Looks at the mirror, unless it is being stopped.
    fn look<T>(&self, look: impl FnOnce(&rust::Mirror) -> T) -> PyResult<T> {
        let mirror = self.running.get()?.mirror.try_read().ok();
        let mirror = mirror.as_ref().and_then(|mirror| mirror.as_ref());
        mirror.map(look).ok_or_else(|| ClosedError::new_err("the mirror is stopped: start it again"))
    }
}
