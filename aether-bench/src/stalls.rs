//! How often the machine itself holds a thread up: the floor below which no tail of latencies can be.
//!
//! A virtual machine's processors are taken away by its host now and then, for milliseconds, and nothing in the guest
//! says so. The overload benchmark measures it just before its runs, and prints it beside them.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::clock;
use crate::processors::on_the_handlers;

/// Longer than this between two looks at the clock is a stall. It is 1,000 times what a look takes.
const STALL: u64 = 100_000;
/// How long the threads look.
const LOOKS_FOR: Duration = Duration::from_secs(2);

/// What was seen by one thread on the handler's processor and one elsewhere, which did nothing but look at the clock.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stalls {
    /// How long each of them looked.
    pub seconds: f64,
    /// How many threads there were.
    pub threads: usize,
    /// Stalls of more than 100 us.
    pub count: usize,
    /// Their sum, in milliseconds.
    pub lost_ms: f64,
    /// The longest, in milliseconds.
    pub longest_ms: f64,
}

impl Stalls {
    /// Keeps two processors busy for two seconds.
    pub(crate) async fn measure() -> Self {
        let here = tokio::task::spawn_blocking(|| on_the_handlers(stalls));
        let elsewhere = tokio::task::spawn_blocking(stalls);
        let seen = [here.await, elsewhere.await].into_iter().flatten().flatten();
        Self::of(LOOKS_FOR.as_secs_f64(), 2, seen)
    }

    fn of(seconds: f64, threads: usize, seen: impl Iterator<Item = u64>) -> Self {
        let none = Self { seconds, threads, count: 0, lost_ms: 0.0, longest_ms: 0.0 };
        seen.map(|stall| stall as f64 / 1e6).fold(none, |sum, stall| Self {
            count: sum.count + 1,
            lost_ms: sum.lost_ms + stall,
            longest_ms: sum.longest_ms.max(stall),
            ..sum
        })
    }
}

impl fmt::Display for Stalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, threads, count, lost_ms, longest_ms } = self;
        write!(
            f,
            "The machine alone: {threads} threads that only looked at the clock for {seconds} s were held up {count} times \
             for more than 100 us, {lost_ms:.1} ms in all, {longest_ms:.1} ms at most."
        )
    }
}

/// The stalls of this thread, in nanoseconds.
fn stalls() -> Vec<u64> {
    let mut stalls = Vec::new();
    let end = clock::now() + clock::nanoseconds(LOOKS_FOR);
    let mut before = clock::now();
    while before < end {
        let now = clock::now();
        if now - before > STALL {
            stalls.push(now - before);
        }
        before = now;
    }
    stalls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stalls_are_counted_and_added_up() {
        let stalls = Stalls::of(2.0, 2, [500_000, 1_500_000].into_iter());
        assert_eq!((stalls.count, stalls.lost_ms, stalls.longest_ms), (2, 2.0, 1.5));
    }
}
