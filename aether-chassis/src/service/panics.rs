//! How often panics of handlers are printed: the standard library prints each one, which is a flood where every wave
//! panics.
//!
//! Every such panic is counted in the service's report and told to whoever asked; this is about stderr only. Panics
//! outside of handlers are always printed. The hook is set by [`run`](crate::run), because it belongs to the process.

use std::cell::Cell;
use std::panic;
use std::task::Poll;
use std::time::Instant;

use super::log_throttle::LogThrottle;

thread_local! {
    /// Whether this thread runs a handler at the moment.
    static HANDLES: Cell<bool> = const { Cell::new(false) };
}

/// Prints panics of handlers once a second at most, in the way in which panics were printed so far.
pub(crate) fn print_seldom() {
    let (print, log_throttle) = (panic::take_hook(), LogThrottle::default());
    panic::set_hook(Box::new(move |panic| {
        if is_printed(&log_throttle, Instant::now()) {
            print(panic);
        }
    }));
}

fn is_printed(log_throttle: &LogThrottle, now: Instant) -> bool {
    !HANDLES.get() || log_throttle.due(now).is_some()
}

/// Polls a handling: what panics meanwhile on this thread is a panic of its handler.
pub(super) fn handling<T>(poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            HANDLES.set(self.0);
        }
    }
    let _before = Before(HANDLES.replace(true));
    poll()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn panics_of_handlers_are_printed_once_a_second_and_others_always() {
        let (log_throttle, start) = (LogThrottle::default(), Instant::now());
        let in_handler = |milliseconds| {
            let now = start + Duration::from_millis(milliseconds);
            handling(|| Poll::Ready(is_printed(&log_throttle, now)))
        };
        assert_eq!([0, 1, 999, 1000].map(in_handler), [true, false, false, true].map(Poll::Ready));
        assert!(is_printed(&log_throttle, start + Duration::from_millis(1001)));
    }

    #[test]
    fn a_handler_that_panicked_is_no_longer_run() {
        let caught = panic::catch_unwind(|| handling::<()>(|| panic!("oh")));
        assert!(caught.is_err() && !HANDLES.get());
    }
}
