//! Limits how often panics of handlers are printed. The standard library prints each one, which floods stderr when
//! every wave panics.
//!
//! Only stderr is limited: the service's report counts every panic, and the asker receives it. A panic outside of
//! handlers is always printed and logged, and ends the process: the panicked part is gone, and nobody may wait for it.
//! [`run`](crate::run) sets the hook, because it belongs to the process.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::failure::Panicked;
use super::log_throttle::LogThrottle;
use crate::{connecting, logging};

/// A panic is not printed if the log was not read for so long.
const READER_PATIENCE: Duration = Duration::from_millis(100);

thread_local! {
    /// Whether this thread is running a handler.
    static HANDLES: Cell<bool> = const { Cell::new(false) };
}

/// Prints panics of handlers at most once a second, with the previous panic hook. A panic elsewhere is printed and logged,
/// and cancels the token that is returned.
pub(crate) fn set_hook() -> CancellationToken {
    let (print, log_throttle, outside) =
        (panic::take_hook(), LogThrottle::default(), CancellationToken::new());
    let token = outside.clone();
    panic::set_hook(Box::new(move |panic| {
        // Printing would block this thread while nobody reads stderr.
        if is_printed(&log_throttle, Instant::now()) && logging::flush(READER_PATIENCE) {
            print(panic);
        }
        if !HANDLES.get() && !outside.is_cancelled() {
            let text = panic.payload_as_str().unwrap_or("a panic without a text");
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            connecting::buses().keep();
            tracing::error!(place, "a panic outside of handlers ends this process: {text}");
            outside.cancel();
        }
    }));
    token
}

fn is_printed(log_throttle: &LogThrottle, now: Instant) -> bool {
    !HANDLES.get() || log_throttle.due(now).is_some()
}

/// Calls or polls a handler. A panic on this thread in the meantime belongs to it.
pub(super) fn handling<T>(poll: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            HANDLES.set(self.0);
        }
    }
    let _before = Before(HANDLES.replace(true));
    poll()
}

/// Calls code of the author, such as an extractor. The service itself holds no lock, so a panic leaves only the author's own
/// data half written.
pub(super) fn caught_in<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(|| handling(call))).map_err(|panic| Panicked::new(&*panic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_of_handlers_are_printed_once_a_second_and_others_always() {
        let (log_throttle, start) = (LogThrottle::default(), Instant::now());
        let in_handler = |milliseconds| {
            let now = start + Duration::from_millis(milliseconds);
            handling(|| is_printed(&log_throttle, now))
        };
        assert_eq!([0, 1, 999, 1000].map(in_handler), [true, false, false, true]);
        assert!(is_printed(&log_throttle, start + Duration::from_millis(1001)));
    }

    #[test]
    fn a_handler_that_panicked_is_no_longer_run() {
        let caught = panic::catch_unwind(|| handling::<()>(|| panic!("oh")));
        assert!(caught.is_err() && !HANDLES.get());
    }
}
