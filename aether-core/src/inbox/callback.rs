//! The user's callback of an inbox, which goes when its vibrator goes.
//!
//! Routes, threads and accounts may hold an inbox for longer than its vibrator exists.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{InboxOptions, OnShed};

/// What [`InboxOptions::on_shed`] was given, until it is dropped.
pub(crate) struct Callback(Arc<Mutex<Option<OnShed>>>);

impl InboxOptions {
    /// The same options, and their callback in a place from which it can be dropped.
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
    /// Drops it, and with it whatever it holds: at once, or where it is running now, at the end of that call.
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
