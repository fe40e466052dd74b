//! The user's callback of an inbox, dropped together with its vibrator.
//!
//! Routes, threads and accounts may keep an inbox alive longer than its vibrator.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{InboxOptions, OnShed};

/// The callback given to [`InboxOptions::on_shed`], until it is revoked.
pub(crate) struct Callback(Arc<Mutex<Option<OnShed>>>);

impl InboxOptions {
    /// The same options with a revocable callback, and its handle.
    pub(crate) fn revocable(mut self) -> (Self, Callback) {
        let callback = Arc::new(Mutex::new(self.on_shed.take()));
        if callback.lock().is_some() {
            let place = Arc::clone(&callback);
            self = self.on_shed(move |wave, reason| {
                // Called outside of the lock.
                let callback = place.lock().clone();
                if let Some(callback) = callback {
                    callback(wave, reason);
                }
            });
        }
        (self, Callback(callback))
    }
}

impl Callback {
    /// Drops the callback and everything it holds: at once, or at the end of a running call.
    pub(crate) fn revoke(&self) {
        // Dropped outside of the lock.
        let callback = self.0.lock().take();
        drop(callback);
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback").finish_non_exhaustive()
    }
}
