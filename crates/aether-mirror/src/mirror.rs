//! The handle of a mirror.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use aether_core::{Aether, Vibrator};
use aether_field::Field;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::account::{Account, MirrorEvents};
use crate::blocks::{Channels, Exchange};
use crate::engine::{Engine, Look};
use crate::error::MirrorError;
use crate::folder::Folder;
use crate::hash::BLOCK;
use crate::memory::{Memory, identity};
use crate::options::MirrorOptions;
use crate::path::{FilePath, OWN};
use crate::place::{folds_names, prepare};
use crate::status::{MirrorStatus, RefusedReason};
use crate::version::MAX_MACHINE;
use crate::watches::Watches;

/// Keeps a folder the same as the folders of all other mirrors of a field, as long as it exists.
///
/// Dropping it ends the mirror in the background; [`Mirror::stop`] waits for that. All methods can be called from any
/// thread.
#[derive(Debug)]
pub struct Mirror {
    account: Arc<Account>,
    looks: mpsc::Sender<Look>,
    task: Mutex<Option<JoinHandle<Result<(), MirrorError>>>>,
    stop: DropGuard,
}

impl Mirror {
    /// Mirrors a folder, which is made if it does not exist. Files that are here already are compared with the field in the
    /// background, and what changed while no mirror ran counts as changed now.
    ///
    /// The mirror remembers what it did in the subfolder `.aether-mirror`.
    ///
    /// # Errors
    /// [`MirrorError`] if the folder cannot be used or watched, another process mirrors it, it belongs to another field or
    /// prefix, or the medium does not take the subscriptions.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing is mirrored.
    pub async fn start(
        aether: &Aether,
        field: &Field,
        folder: impl AsRef<Path>,
        options: MirrorOptions,
    ) -> Result<Self, MirrorError> {
        let machine = options.machine.clone().unwrap_or_else(host);
        let is_name = FilePath::new(&machine).is_ok_and(|path| path.first_folder().is_none());
        if !is_name || machine.len() > MAX_MACHINE {
            return Err(MirrorError::Machine { name: machine });
        }
        let channels = Channels::of(field.name())?;
        let path = folder.as_ref().to_owned();
        let place = format!("{} {}", field.name(), options.prefix);
        let opened = tokio::task::spawn_blocking(move || {
            let failed = |source| MirrorError::Folder { path: path.clone(), source };
            fs::create_dir_all(path.join(OWN)).map_err(failed)?;
            let root = path.canonicalize().map_err(failed)?;
            let (memory, records) = Memory::open(&root, &place)?;
            prepare(&root).map_err(failed)?;
            let folds_names = folds_names(&root).map_err(failed)?;
            let watches = Watches::new(&root);
            let watches = watches.map_err(|source| MirrorError::Watch { path: root.clone(), source })?;
            Ok::<_, MirrorError>((root, memory, records, watches, folds_names))
        });
        let (root, memory, records, watches, folds_names) =
            opened.await.map_err(|_| MirrorError::Closed)??;
        let vibrator = Vibrator::builder("mirror").unlimited().create(aether).await?;
        vibrator.resonate_on(channels.find().as_str()).await?;
        vibrator.resonate_on(channels.parts(memory.folder)?.as_str()).await?;
        let (emitter, receiver) = vibrator.split();

        let account = Arc::new(Account::new());
        let records = Arc::new(Mutex::new(records));
        let exchange = Arc::new(Exchange {
            root: root.clone(),
            folder: memory.folder,
            channels,
            emitter,
            max_part: BLOCK.min(aether.promises().max_payload as u64 / 2).max(1),
            records: Arc::clone(&records),
            account: Arc::clone(&account),
        });
        let folder = Folder {
            id: memory.folder,
            identity: identity(&root),
            root,
            folds_names,
            machine,
            options,
            field: field.clone(),
            records,
            account: Arc::clone(&account),
        };
        let (looks, asked) = mpsc::channel(16);
        let engine = Engine::new(folder, Arc::new(memory), Arc::new(watches), Arc::clone(&exchange), asked);
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let stop = stop.clone();
            async move {
                let mut engine = pin!(engine.run(stop.clone()));
                tokio::select! {
                    biased;
                    ended = &mut engine => ended,
                    // A medium that is closed ends it.
                    () = exchange.serve(receiver) => {
                        stop.cancel();
                        engine.await.and(Err(MirrorError::Closed))
                    }
                }
            }
        });
        Ok(Self { account, looks, task: Mutex::new(Some(task)), stop: stop.drop_guard() })
    }

    /// The account of this mirror.
    #[must_use]
    pub fn status(&self) -> MirrorStatus {
        self.account.status()
    }

    /// The files that are not mirrored now, and why; at most 4,096. A file that comes from another machine and whose path is
    /// not safe has the name of its register.
    #[must_use]
    pub fn refused(&self) -> BTreeMap<String, RefusedReason> {
        self.account.refused()
    }

    /// The events of the mirror: from its start on for the first call, and from now on for later ones. A listener that is
    /// more than 1,024 events behind misses the oldest ones.
    #[must_use]
    pub fn events(&self) -> MirrorEvents {
        self.account.events()
    }

    /// Looks at the whole folder and the whole field, and waits until everything is done that can be done now: the changes
    /// here are in the field, and the files of which a machine with their bytes is there are written. [`Mirror::refused`]
    /// has the others. A file that somebody writes without a pause makes it wait for up to 10 s.
    ///
    /// # Errors
    /// [`MirrorError::Closed`] if the mirror has ended.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the mirror looks all the same.
    pub async fn settled(&self) -> Result<(), MirrorError> {
        let (look, done) = oneshot::channel();
        self.looks.send(look).await.map_err(|_| MirrorError::Closed)?;
        done.await.map_err(|_| MirrorError::Closed)
    }

    /// Ends the mirror, and returns its account. What is being written is written whole or not at all; the field stays open.
    ///
    /// # Errors
    /// The reason if the mirror has ended by itself before: [`MirrorError::Gone`], [`MirrorError::Watch`],
    /// [`MirrorError::Memory`], or [`MirrorError::Closed`].
    ///
    /// # Cancel safety
    /// Cancelled before completion, the mirror ends in the background.
    pub async fn stop(self) -> Result<MirrorStatus, MirrorError> {
        let task = self.task.lock().take();
        drop(self.stop);
        if let Some(task) = task {
            task.await.map_err(|_| MirrorError::Closed)??;
        }
        Ok(self.account.status())
    }
}

/// The name of this machine, as far as it is a name of a folder.
fn host() -> String {
    #[cfg(unix)]
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").unwrap_or_default();
    let name: String =
        name.chars().filter(|c| c.is_ascii_graphic() && !"/\\:".contains(*c)).take(MAX_MACHINE).collect();
    if name.is_empty() { "machine".to_owned() } else { name }
}
