//! The locks, atomics and thread locals of the parts whose memory orderings are checked.
//!
//! The inbox, the router, presence and the sequencer use them. With `--cfg aether_loom` the types are loom's, which
//! runs a test in each order that the memory model allows; `cargo xtask test` does that. The name is our own because
//! tokio changes with `--cfg loom`. A part that is right by a lock alone uses parking_lot directly.

#[cfg(not(aether_loom))]
pub(crate) use arc_swap::ArcSwapOption;
#[cfg(not(aether_loom))]
pub(crate) use parking_lot::{Mutex, MutexGuard, RwLock, RwLockWriteGuard};
#[cfg(not(aether_loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64};
#[cfg(not(aether_loom))]
pub(crate) use std::thread_local;

#[cfg(aether_loom)]
pub(crate) use self::checked::{ArcSwapOption, Mutex, RwLock, thread_local};
#[cfg(aether_loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64};
#[cfg(aether_loom)]
pub(crate) use loom::sync::{MutexGuard, RwLockWriteGuard};

/// Runs a test in each order that the memory model allows, with at most this many preemptions.
#[cfg(all(test, aether_loom))]
pub(crate) fn in_each_order(preemptions: usize, test: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(test);
}

/// Loom's locks with the calls of parking_lot, which knows no poisoning.
#[cfg(aether_loom)]
mod checked {
    use std::sync::{Arc, PoisonError};

    use loom::sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};

    /// Loom's macro takes no constant.
    macro_rules! of_thread {
        ($(#[$attribute:meta])* static $name:ident: $type:ty = const $value:block;) => {
            loom::thread_local! { $(#[$attribute])* static $name: $type = $value; }
        };
    }
    pub(crate) use of_thread as thread_local;

    #[derive(Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    #[derive(Default)]
    pub(crate) struct RwLock<T>(loom::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
            self.0.try_read().ok()
        }

        pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// A lock in place of arc-swap: what was stored before a load happens before it, as there.
    pub(crate) struct ArcSwapOption<T>(RwLock<Option<Arc<T>>>);

    impl<T> ArcSwapOption<T> {
        pub(crate) fn empty() -> Self {
            Self(RwLock::default())
        }

        pub(crate) fn load(&self) -> RwLockReadGuard<'_, Option<Arc<T>>> {
            self.0.read()
        }

        pub(crate) fn store(&self, value: Option<Arc<T>>) {
            *self.0.write() = value;
        }
    }
}
