//! The pacer: sends each message of a schedule when it is due, from a thread that may block.
//!
//! It sleeps until the next message is due and then sends all due ones. It does not spin, because the handler needs one
//! of two processors and the transport the other. Timer delays count as latency, for all contestants alike.

use std::convert::Infallible;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::time::Duration;

use crate::clock;
use crate::processors::wake_exactly;
use crate::schedule::Arrival;

/// The minimum sleep. 200,000 messages a second are one every 5 us, which is about the cost of a sleep and a wake-up.
/// Exact sleeps would leave no time for anything else on the processor.
const LEAST_SLEEP: u64 = 20_000;
/// A message sent this long after its due time is late.
const LATE: u64 = 1_000_000;

/// Waits for the times of a schedule.
#[derive(Debug)]
pub struct Pacer {
    start: u64,
    stopped: Receiver<Infallible>,
}

/// The counts of a pacer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Paced {
    /// Messages sent.
    pub sent: u64,
    /// Messages sent more than a millisecond after they were due, because the sender itself was delayed.
    pub late: u64,
}

/// Stops a pacer when dropped, also during a wait.
#[derive(Debug)]
#[must_use = "dropping it stops the pacer"]
pub struct Stop {
    _dropped: Sender<Infallible>,
}

impl Pacer {
    /// A pacer whose schedule starts at `start`, by [`clock::now`].
    pub fn new(start: u64) -> (Self, Stop) {
        let (sender, stopped) = channel();
        (Self { start, stopped }, Stop { _dropped: sender })
    }

    /// Calls `send` with the number of each arrival when it is due, up to the end or the stop.
    pub fn run(
        self,
        arrivals: impl IntoIterator<Item = Arrival>,
        mut send: impl FnMut(u32, Arrival),
    ) -> Paced {
        wake_exactly();
        let mut paced = Paced::default();
        for (number, arrival) in (0..=u32::MAX).zip(arrivals) {
            let Some(behind) = self.wait(arrival.due) else { break };
            send(number, arrival);
            paced.sent += 1;
            paced.late += u64::from(behind > LATE);
        }
        paced
    }

    /// Waits until `due` nanoseconds after the start. Returns the elapsed nanoseconds, or `None` if it was stopped.
    fn wait(&self, due: u64) -> Option<u64> {
        let due = self.start + due;
        loop {
            let now = clock::now();
            if now >= due {
                let stopped = matches!(self.stopped.try_recv(), Err(TryRecvError::Disconnected));
                return (!stopped).then_some(now - due);
            }
            let sleep = Duration::from_nanos((due - now).max(LEAST_SLEEP));
            if let Err(RecvTimeoutError::Disconnected) = self.stopped.recv_timeout(sleep) {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Strength;

    fn at(due: u64) -> Arrival {
        Arrival { due, strength: Strength::Weak }
    }

    #[test]
    fn nothing_is_sent_before_it_is_due_and_everything_in_order() {
        let start = clock::now() + 1_000_000;
        let (pacer, _stop) = Pacer::new(start);
        let mut sent = Vec::new();
        let paced = pacer.run([at(0), at(500_000), at(500_000), at(2_000_000)], |number, arrival| {
            assert!(clock::now() >= start + arrival.due);
            sent.push(number);
        });
        assert_eq!((paced.sent, sent), (4, vec![0, 1, 2, 3]));
    }

    #[test]
    fn what_was_due_long_ago_is_sent_and_counted_as_late() {
        let (pacer, _stop) = Pacer::new(clock::now() - 2 * LATE);
        assert_eq!(pacer.run([at(0), at(1)], |_, _| {}), Paced { sent: 2, late: 2 });
        let (pacer, _stop) = Pacer::new(clock::now());
        assert_eq!(pacer.run([], |_, _| {}), Paced::default());
    }

    #[test]
    fn a_stop_ends_it_in_the_middle_of_a_wait() {
        let (pacer, stop) = Pacer::new(clock::now());
        let mut stop = Some(stop);
        // The second one is due in an hour, so only the stop ends this.
        let paced = pacer.run([at(0), at(3_600_000_000_000)], |_, _| drop(stop.take()));
        assert_eq!(paced.sent, 1);
    }
}
