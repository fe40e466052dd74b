//! Processor placement: the handler has its own processor, everything else shares the others.
//!
//! Otherwise the operating system sometimes puts the sender or the transport on the handler's processor, where one of
//! them waits for a time slice of some milliseconds, which would dominate the tail of every contestant. For the same
//! reason a sender with a processor of its own runs [with priority](before_others). This works on Linux only;
//! elsewhere, and with one processor, nothing is done.

/// Reserves one processor for the handler: all threads of this process, and everything they start later, use the
/// others. Returns whether that was possible.
#[must_use]
pub fn leave_one_to_the_handler() -> bool {
    system::leave_one().is_some()
}

/// The processor reserved for the handler. A child process must be given it.
pub(crate) fn left() -> Option<usize> {
    system::left()
}

/// Sets the processor that the parent process has reserved for this process's handler.
pub(crate) fn was_left(processor: Option<usize>) {
    system::was_left(processor);
}

/// Runs `work` on the handler's processor, if one was [reserved](leave_one_to_the_handler).
pub(crate) fn on_the_handlers<T>(work: impl FnOnce() -> T) -> T {
    let before = system::take_left();
    let done = work();
    if let Some(before) = before {
        system::put_back(&before);
    }
    done
}

/// Runs `work` in a thread with priority over all others on its processor, except real-time ones, and waits for its
/// end. Other threads run while `work` sleeps and do not delay it. For example, a kernel thread that scans the memory
/// for some milliseconds twice a second would make more than one message in a hundred late. `work` has to sleep now and
/// then, because nothing else runs there meanwhile. Without the permission (root, or `CAP_SYS_NICE`), or without a
/// [reserved processor](leave_one_to_the_handler), it runs in an ordinary thread.
pub(crate) fn before_others<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    prepared(system::go_first, work)
}

/// Runs `work` in a thread that gets nearly all of its processor, and waits for its end. It is for work that never
/// sleeps: other threads there, such as a kernel thread that sometimes needs 30 ms in a row, still get a little time.
/// Without the permission or a reserved processor it runs in an ordinary thread.
pub(crate) fn weighing_most<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    prepared(system::weigh_most, work)
}

/// In a new thread, because the current one has other work later.
fn prepared<T: Send>(prepare: fn(), work: impl FnOnce() -> T + Send) -> T {
    let prepared = || {
        if left().is_some() {
            prepare();
        }
        work()
    };
    match std::thread::scope(|scope| scope.spawn(prepared).join()) {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// How long the current thread was ready but not running, in nanoseconds. `None` if the system does not report it.
pub(crate) fn waited() -> Option<u64> {
    system::waited()
}

/// Makes timers of the current thread as exact as the system can, instead of up to 50 us late.
pub(crate) fn wake_exactly() {
    system::wake_exactly();
}

#[cfg(target_os = "linux")]
mod system {
    use std::sync::OnceLock;

    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;
    use thread_priority::{
        NormalThreadSchedulePolicy, RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
        set_thread_priority_and_policy, thread_native_id,
    };

    /// The current thread.
    const HERE: Pid = Pid::from_raw(0);
    /// The reserved processor.
    static LEFT: OnceLock<Option<usize>> = OnceLock::new();

    pub(super) fn leave_one() -> Option<usize> {
        *LEFT.get_or_init(|| {
            let mut others = sched_getaffinity(HERE).ok()?;
            let mut allowed = (0..CpuSet::count()).rev().filter(|&cpu| others.is_set(cpu) == Ok(true));
            let (left, _another) = (allowed.next()?, allowed.next()?);
            others.unset(left).ok()?;
            for thread in std::fs::read_dir("/proc/self/task").ok()?.flatten() {
                let id = thread.file_name().to_str()?.parse().ok()?;
                // A thread that has just ended needs no placement.
                let _ = sched_setaffinity(Pid::from_raw(id), &others);
            }
            Some(left)
        })
    }

    pub(super) fn left() -> Option<usize> {
        *LEFT.get()?
    }

    pub(super) fn was_left(processor: Option<usize>) {
        LEFT.get_or_init(|| processor);
    }

    /// Moves the current thread there, and returns its previous processors.
    pub(super) fn take_left() -> Option<CpuSet> {
        let left = left()?;
        let before = sched_getaffinity(HERE).ok()?;
        let mut only = CpuSet::new();
        only.set(left).ok()?;
        sched_setaffinity(HERE, &only).ok()?;
        Some(before)
    }

    pub(super) fn put_back(before: &CpuSet) {
        // It was allowed before. If it fails, the thread stays where it is.
        let _ = sched_setaffinity(HERE, before);
    }

    pub(super) fn go_first() {
        let fifo = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
        // Not everybody may.
        let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, fifo);
    }

    pub(super) fn weigh_most() {
        let normal = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
        // The lowest niceness, -20, needs a permission.
        let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Max, normal);
    }

    pub(super) fn waited() -> Option<u64> {
        // Time on the processor, time waiting for it, time slices.
        let times = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        times.split_ascii_whitespace().nth(1)?.parse().ok()
    }

    pub(super) fn wake_exactly() {
        // It cannot fail: the slack belongs to this thread.
        let _ = nix::sys::prctl::set_timerslack(1);
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub(super) fn leave_one() -> Option<usize> {
        None
    }

    pub(super) fn left() -> Option<usize> {
        None
    }

    pub(super) fn was_left(_: Option<usize>) {}

    pub(super) fn take_left() -> Option<()> {
        None
    }

    pub(super) fn put_back((): &()) {}

    pub(super) fn go_first() {}

    pub(super) fn weigh_most() {}

    pub(super) fn waited() -> Option<u64> {
        None
    }

    pub(super) fn wake_exactly() {}
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests")]

    use nix::sched::{CpuSet, sched_getaffinity};
    use nix::unistd::Pid;

    use super::*;

    fn allowed() -> usize {
        let here = sched_getaffinity(Pid::from_raw(0)).unwrap();
        (0..CpuSet::count()).filter(|&cpu| here.is_set(cpu).unwrap()).count()
    }

    #[test]
    fn the_handler_is_alone_on_its_processor_and_everything_else_is_elsewhere() {
        let before = allowed();
        assert_eq!(leave_one_to_the_handler(), before > 1);
        let others = if before > 1 { before - 1 } else { before };
        assert_eq!(allowed(), others);
        assert_eq!(on_the_handlers(allowed), 1);
        assert_eq!(allowed(), others);
        assert_eq!(std::thread::spawn(allowed).join().unwrap(), others);
        assert_eq!(before_others(allowed), others);
        assert_eq!(on_the_handlers(|| weighing_most(allowed)), 1);
        assert_eq!(std::thread::spawn(allowed).join().unwrap(), others);
    }
}
