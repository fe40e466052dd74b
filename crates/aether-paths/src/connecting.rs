//! Connecting the paths: all at once, and those that do not answer again and again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use tokio::time::sleep;

use super::options::{MAX_PATHS, PathError, PathOptions};
use super::shared::PathsShared;
use aether_core::ConnectError;
use aether_core::medium::{Medium, without_secrets};
use aether_link::{PathOutbox, SharedOutbox};

/// The pauses between two attempts to connect a path.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

pub(super) type Connected = Result<Arc<dyn Medium>, ConnectError>;
/// Connects the medium at an address, as a path.
pub(super) type Connect = Arc<dyn Fn(String, PathOutbox) -> BoxFuture<'static, Connected> + Send + Sync>;

/// Everything that connects one path.
pub(super) struct Attempt {
    pub(super) path: usize,
    url: String,
    outbox: PathOutbox,
    connect: Connect,
}

impl Attempt {
    async fn connect(&self) -> Connected {
        let medium = (self.connect)(self.url.clone(), self.outbox.clone()).await?;
        match self.outbox.is_used() && medium.promises().crosses_processes {
            true => Ok(medium),
            false => Err(PathError::Alone { url: without_secrets(&self.url) }.into()),
        }
    }

    /// Connects until it succeeds.
    async fn connect_patiently(&self) -> Arc<dyn Medium> {
        let (mut pause, mut said) = (FIRST_PAUSE, String::new());
        loop {
            sleep(pause / 2 + pause.mul_f64(fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            match self.connect().await.map_err(ConnectError::without_secrets) {
                Ok(medium) => return medium,
                Err(error) => {
                    let text = error.to_string();
                    if text != said {
                        tracing::warn!(path = self.path + 1, error = %text, "a path does not connect: trying again");
                        said = text;
                    }
                }
            }
        }
    }
}

/// The first attempts: those that have connected, and those that have not.
pub(super) struct FirstAttempts {
    pub(super) media: Vec<Option<Arc<dyn Medium>>>,
    pub(super) missing: Vec<Attempt>,
}

/// Connects all paths at once. One that can be reached is enough.
///
/// # Errors
/// The first error that will not pass by itself; or the first one, if no path can be reached.
pub(super) async fn connect_all(
    paths: &[PathOptions],
    outbox: &Arc<SharedOutbox>,
    connect: &Connect,
) -> Result<FirstAttempts, ConnectError> {
    if paths.len() > MAX_PATHS {
        return Err(PathError::TooMany { given: paths.len(), most: MAX_PATHS }.into());
    }
    let mut seen = HashSet::new();
    if let Some(path) = paths.iter().find(|path| !seen.insert(&path.url)) {
        return Err(PathError::Twice { url: without_secrets(&path.url) }.into());
    }
    let attempts = paths.iter().enumerate().map(|(path, options)| Attempt {
        path,
        url: options.url.clone(),
        outbox: PathOutbox::new(Arc::clone(outbox), path, options.hops_at(path)),
        connect: Arc::clone(connect),
    });
    let attempts: Vec<_> = attempts.collect();
    // In their order: the first one decides the options of the outbox.
    let connected = join_all(attempts.iter().map(Attempt::connect)).await;
    let (mut media, mut missing, mut first_error) = (Vec::new(), Vec::new(), None);
    for (attempt, connected) in attempts.into_iter().zip(connected) {
        match connected {
            Ok(medium) => media.push(Some(medium)),
            Err(error) if error.is_transient() => {
                media.push(None);
                missing.push(attempt);
                first_error.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    match first_error {
        Some(error) if media.iter().all(Option::is_none) => Err(error),
        error => {
            if let Some(error) = error.map(ConnectError::without_secrets) {
                tracing::warn!(%error, "a path does not connect yet: the others are used");
            }
            Ok(FirstAttempts { media, missing })
        }
    }
}

/// Connects a missing path, and everything that this process hears on it. Ends with the paths.
pub(super) async fn add_when_connected(shared: Arc<PathsShared>, attempt: Attempt) {
    let mut ending = shared.ending.subscribe();
    tokio::select! {
        biased;
        _ = ending.wait_for(|ending| *ending) => {}
        medium = attempt.connect_patiently() => shared.add(attempt.path, medium),
    }
}
