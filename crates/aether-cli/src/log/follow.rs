//! Waves as they are stored, by whichever process: the folder is watched, and nothing is locked.

use std::path::Path;

use aether_log::store::View;
use aether_service::{CancellationToken, MediumArgs};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;

use super::chosen::{Chosen, check, print_unopened};
use crate::error::{CommandError, LogError};
use crate::output::{Output, stderr_line};

/// Changes of a folder.
struct Changes {
    changed: watch::Receiver<()>,
    _watcher: RecommendedWatcher,
}

impl Changes {
    fn of(folder: &Path) -> Result<Self, LogError> {
        let (sender, changed) = watch::channel(());
        let unwatched = |source| LogError::Watch { folder: folder.to_owned(), source };
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the log does not change it.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                sender.send_replace(());
            }
        })
        .map_err(unwatched)?;
        watcher.watch(folder, RecursiveMode::NonRecursive).map_err(unwatched)?;
        Ok(Self { changed, _watcher: watcher })
    }
}

/// Prints waves until the command is interrupted.
pub(super) async fn follow(
    chosen: &Chosen,
    medium: &MediumArgs,
    default: Option<u64>,
    shutdown: &CancellationToken,
    mut print: impl FnMut(&mut Output, aether_log::StoredWave) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    // The log is there before it is watched, and watched before it is read.
    View::open(&chosen.folder).map_err(LogError::from)?;
    let mut changes = Changes::of(&chosen.folder)?;
    let view = View::open(&chosen.folder).map_err(LogError::from)?;
    let mut output = Output::stdout();
    let mut waves = chosen.waves(&view, medium, default).await?;
    let (mut damaged, mut unopened) = (0, 0);
    stderr_line(format_args!("following {}", chosen.folder.display()));
    loop {
        while let Some(stored) = waves.next_wave().await.map_err(LogError::from)? {
            print(&mut output, stored)?;
        }
        for damage in &waves.damaged()[damaged..] {
            stderr_line(damage);
        }
        damaged = waves.damaged().len();
        if waves.unopened().values().sum::<u64>() > unopened {
            unopened = print_unopened(&waves);
        }
        tokio::select! {
            changed = changes.changed.changed() => {
                changed.map_err(|_| LogError::Unwatched { folder: chosen.folder.clone() })?;
            }
            () = shutdown.cancelled() => return check(&waves),
        }
        view.refresh().map_err(LogError::from)?;
        let (first, next) = (view.extent().first, waves.position());
        if first > next {
            stderr_line(format_args!(
                "the log has dropped the positions {next} to {} before they were read",
                first - 1
            ));
        }
    }
}
