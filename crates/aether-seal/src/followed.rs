//! A sealer whose files are read again when they have changed: so a signer that is taken off the list, and a key that is
//! dropped, are not believed any more a second later.
//!
//! No task watches the files. The messages that arrive cause the looks, at most one a second: a list that nobody is held
//! against need not be read.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::file_or::FileOr;
use super::seal_options::SealOptions;
use super::seal_options_error::SealOptionsError;
use super::sealer::Sealer;
use aether_core::clock::{self, Instant};
use aether_files::private_file::{Stamp, stamp};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A sealer, and where its keys and its list come from. For implementors of media, and for what seals beside them.
#[derive(Debug)]
pub struct FollowedSealer {
    sealer: Sealer,
    options: SealOptions,
    started: Instant,
    /// When the files are looked at next, in milliseconds since the start. Never if there are none.
    look_at: AtomicU64,
    /// The files as they were when they were read last.
    stamps: Mutex<Vec<Stamp>>,
}

impl SealOptions {
    fn stamps(&self) -> Vec<Stamp> {
        let Self { keys, signing_key, signers } = self;
        let files = [file(keys), signing_key.as_ref().and_then(file), signers.as_ref().and_then(file)];
        files.into_iter().flatten().map(stamp).collect()
    }
}

fn file<T>(source: &FileOr<T>) -> Option<&Path> {
    match source {
        FileOr::File(path) => Some(path),
        FileOr::Value(_) => None,
    }
}

impl FollowedSealer {
    /// Reads the keys and the list as they are now.
    ///
    /// # Errors
    /// As [`SealOptions::sealer`].
    pub fn new(options: SealOptions) -> Result<Self, SealOptionsError> {
        // Before they are read: what changes meanwhile is read again.
        let stamps = options.stamps();
        let sealer = options.sealer()?;
        let look_at = AtomicU64::new(if stamps.is_empty() { u64::MAX } else { 0 });
        Ok(Self { sealer, options, started: clock::now(), look_at, stamps: Mutex::new(stamps) })
    }

    /// The sealer.
    #[must_use]
    pub const fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Reads everything again, for a new connection. A file that cannot be used leaves everything as it was, with a warning.
    /// Blocks.
    pub fn renew(&self) {
        let mut stamps = self.stamps.lock();
        *stamps = self.options.stamps();
        self.read();
    }

    /// To be called for each message that arrives: has the files read again if they have changed. Outside of tokio it blocks
    /// while it reads them.
    pub fn follow(self: &Arc<Self>) {
        let look_at = self.look_at.load(Ordering::Relaxed);
        if look_at == u64::MAX {
            return;
        }
        let now = millis(clock::since(self.started));
        let is_ours = || {
            let next = now.saturating_add(millis(LOOK_EVERY));
            self.look_at.compare_exchange(look_at, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        if now >= look_at && is_ours() {
            let this = Arc::clone(self);
            match Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn_blocking(move || this.look())),
                Err(_) => this.look(),
            }
        }
    }

    fn look(&self) {
        let mut stamps = self.stamps.lock();
        let now = self.options.stamps();
        if *stamps != now {
            *stamps = now;
            if self.read() {
                tracing::info!("the keys of sealed waves and the list of signers were read again");
            }
        }
    }

    fn read(&self) -> bool {
        let read = self.options.renew(&self.sealer);
        if let Err(error) = &read {
            let error = error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "the keys of sealed waves stay as they were, and so does the list of signers"
            );
        }
        read.is_ok()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX - 1)
}
