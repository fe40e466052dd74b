//! Stalls: how often the machine itself delays a thread, which is a lower bound of all latency tails.
//!
//! Other threads, including the kernel's, and the host of a virtual machine occasionally take a processor away for
//! milliseconds. The system reports the first; nothing in the guest reports the second. The overload benchmark measures
//! both just before its runs, and prints them.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::clock;
use crate::processors::{self, on_the_handlers};

/// A longer gap between two clock readings is a stall. It is 1,000 times the cost of a reading.
const STALL: u64 = 100_000;
/// The duration of the measurement: as long as a load, within this.
const LOOKS_FOR: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// The stalls of one thread on the handler's processor and one elsewhere, which only read the clock.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stalls {
    /// The duration of the measurement of each thread.
    pub seconds: f64,
    /// The number of threads.
    pub threads: usize,
    /// Stalls of more than 100 us.
    pub count: usize,
    /// Their sum, in milliseconds.
    pub lost_ms: f64,
    /// The longest, in milliseconds.
    pub longest_ms: f64,
    /// How long the threads could have run and did not, because their processors ran something else, in milliseconds,
    /// however short. The host took the rest of the stalls. `None` where the system does not report it.
    pub waited_ms: Option<f64>,
}

impl Stalls {
    /// Keeps two processors busy for as long as a load lasts, and for at most two seconds.
    pub(crate) async fn measure(load: Duration) -> Self {
        let time = load.clamp(LOOKS_FOR.0, LOOKS_FOR.1);
        let here = tokio::task::spawn_blocking(move || on_the_handlers(|| look(time)));
        let elsewhere = tokio::task::spawn_blocking(move || look(time));
        let looks = [here.await, elsewhere.await];
        Self::of(time.as_secs_f64(), looks.into_iter().flatten())
    }

    fn of(seconds: f64, looks: impl Iterator<Item = Look>) -> Self {
        let none =
            Self { seconds, threads: 0, count: 0, lost_ms: 0.0, longest_ms: 0.0, waited_ms: Some(0.0) };
        let milliseconds = |nanoseconds: u64| nanoseconds as f64 / 1e6;
        looks.fold(none, |sum, look| Self {
            seconds,
            threads: sum.threads + 1,
            count: sum.count + look.stalls.len(),
            lost_ms: sum.lost_ms + look.stalls.iter().copied().map(milliseconds).sum::<f64>(),
            longest_ms: look.stalls.iter().copied().map(milliseconds).fold(sum.longest_ms, f64::max),
            waited_ms: sum.waited_ms.zip(look.waited.map(milliseconds)).map(|(sum, waited)| sum + waited),
        })
    }
}

impl fmt::Display for Stalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, threads, count, lost_ms, longest_ms, waited_ms } = self;
        write!(
            f,
            "The machine alone: {threads} threads that only looked at the clock for {seconds} s were held up {count} times \
             for more than 100 us, {lost_ms:.1} ms in all, {longest_ms:.1} ms at most"
        )?;
        match waited_ms {
            Some(waited) => write!(f, "; for {waited:.1} ms other threads had their processors."),
            None => write!(f, "."),
        }
    }
}

/// The stalls of one thread. Unit: nanoseconds.
struct Look {
    /// Each stall.
    stalls: Vec<u64>,
    /// How long it was ready but not running.
    waited: Option<u64>,
}

/// Reads the clock in a loop.
fn look(time: Duration) -> Look {
    let mut stalls = Vec::new();
    let waited_before = processors::waited();
    let end = clock::now() + clock::nanoseconds(time);
    let mut before = clock::now();
    while before < end {
        let now = clock::now();
        if now - before > STALL {
            stalls.push(now - before);
        }
        before = now;
    }
    let waited = processors::waited().zip(waited_before).map(|(now, before)| now.saturating_sub(before));
    Look { stalls, waited }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stalls_are_counted_and_added_up() {
        let looks = [vec![500_000, 1_500_000], vec![], vec![250_000]];
        let looks = || looks.iter().map(|stalls| Look { stalls: stalls.clone(), waited: Some(750_000) });
        let stalls = Stalls::of(2.0, looks());
        assert_eq!((stalls.threads, stalls.count, stalls.lost_ms, stalls.longest_ms), (3, 3, 2.25, 1.5));
        assert_eq!(stalls.waited_ms, Some(2.25));
        let untold = Stalls::of(2.0, looks().chain([Look { stalls: vec![], waited: None }]));
        assert_eq!(untold.waited_ms, None);
    }
}
