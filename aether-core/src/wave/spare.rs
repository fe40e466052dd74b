//! A pool of values that are filled again: the bodies of dropped waves.
//!
//! In a stream of waves one thread makes the bodies and another drops them. An allocator has to hand such memory from
//! thread to thread; glibc's takes 350 instructions and a lock for that. Here each thread keeps a few bodies, and batches
//! of them go from thread to thread by way of a shared stock. A kept body refers to nothing: it is cleared first.
//!
//! What is kept is bounded: 128 bodies a thread and 4096 in the stock, 0.8 MiB. The stock gives back to the allocator
//! what nobody took from it for a while. Source of the design: J. Bonwick and J. Adams, "Magazines and Vmem", USENIX 2001.

use std::cell::RefCell;
use std::thread::LocalKey;

use parking_lot::Mutex;
use triomphe::UniqueArc;

/// The number of bodies that move between a thread and the stock at once.
const BATCH: usize = 64;
/// The number of bodies that a thread keeps.
const KEPT_BY_THREAD: usize = 2 * BATCH;
/// The number of bodies in the stock: those of an inbox of 1024 waves that eight threads fill and empty in turns, and
/// more than an emitter that waits for room gets at once.
const KEPT_IN_STOCK: usize = 4096;
/// What stayed in the stock during this many visits is given back: 32,768 waves.
const VISITS: u32 = 512;

/// What one thread keeps.
pub(super) type Kept<T> = RefCell<Vec<UniqueArc<T>>>;

/// The bodies that no thread keeps.
pub(super) struct Stock<T>(Mutex<Stocked<T>>);

struct Stocked<T> {
    bodies: Vec<UniqueArc<T>>,
    /// The smallest number of bodies since the surplus was last given back.
    least: usize,
    visits: u32,
}

impl<T> Stocked<T> {
    /// Ends a visit. Returns the surplus, to be dropped outside of the lock.
    fn end_visit(&mut self) -> Vec<UniqueArc<T>> {
        self.least = self.least.min(self.bodies.len());
        self.visits += 1;
        if self.visits < VISITS {
            return Vec::new();
        }
        self.visits = 0;
        let surplus = self.bodies.drain(..self.least).collect();
        self.least = self.bodies.len();
        surplus
    }
}

impl<T> Stock<T> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Stocked { bodies: Vec::new(), least: 0, visits: 0 }))
    }

    /// A kept body, if there is one.
    #[inline]
    pub(super) fn take(&self, kept: &'static LocalKey<Kept<T>>) -> Option<UniqueArc<T>> {
        kept.try_with(|kept| {
            let mut kept = kept.try_borrow_mut().ok()?;
            kept.pop().or_else(|| self.refill(&mut kept))
        })
        .ok()?
    }

    #[cold]
    #[inline(never)]
    fn refill(&self, kept: &mut Vec<UniqueArc<T>>) -> Option<UniqueArc<T>> {
        let mut stock = self.0.lock();
        let left = stock.bodies.len().saturating_sub(BATCH);
        kept.extend(stock.bodies.drain(left..));
        let surplus = stock.end_visit();
        drop(stock);
        drop(surplus);
        kept.pop()
    }

    /// Keeps a body for a later wave, or frees it if enough are kept. It was cleared before: it refers to nothing.
    #[inline]
    pub(super) fn keep(&self, kept: &'static LocalKey<Kept<T>>, body: UniqueArc<T>) {
        // While a thread ends, nothing is kept.
        let _ = kept.try_with(|kept| {
            if let Ok(mut kept) = kept.try_borrow_mut() {
                if kept.len() >= KEPT_BY_THREAD {
                    self.store(&mut kept);
                }
                kept.push(body);
            }
        });
    }

    #[cold]
    #[inline(never)]
    fn store(&self, kept: &mut Vec<UniqueArc<T>>) {
        let mut stock = self.0.lock();
        let room = KEPT_IN_STOCK.saturating_sub(stock.bodies.len());
        stock.bodies.extend(kept.drain(..BATCH.min(room)));
        let surplus = stock.end_visit();
        drop(stock);
        drop(surplus);
        // The stock is full: these are freed.
        kept.truncate(KEPT_BY_THREAD - BATCH);
    }
}
