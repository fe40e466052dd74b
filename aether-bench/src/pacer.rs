//! The pacer: sends each message of a schedule when it is due, from a thread that may block.
//!
//! It sleeps until the next one is due and then sends all that are: it does not spin, because the handler needs one of
//! two processors and the transport the other. A timer that is late by 60 us makes the messages late by as much, which
//! counts as their latency, for all contestants alike.

use std::convert::Infallible;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::time::Duration;

use crate::clock;
use crate::processors::wake_exactly;
use crate::schedule::Arrival;

/// Waits for the times of a schedule.
#[derive(Debug)]
pub struct Pacer {
    start: u64,
    stopped: Receiver<Infallible>,
}

/// Stops a pacer, even in the middle of a wait, when it is dropped.
#[derive(Debug)]
#[must_use = "dropping it stops the pacer"]
pub struct Stop {
    _dropped: Sender<Infallible>,
}

impl Pacer {
    /// A pacer whose schedule starts at `start` of [`clock::now`].
    pub fn new(start: u64) -> (Self, Stop) {
        let (sender, stopped) = channel();
        (Self { start, stopped }, Stop { _dropped: sender })
    }

    /// Calls `send` with the number of each arrival when it is due, and returns how many there were before the end or
    /// the stop.
    pub fn run(
        self,
        arrivals: impl IntoIterator<Item = Arrival>,
        mut send: impl FnMut(u32, Arrival),
    ) -> usize {
        wake_exactly();
        let mut sent = 0;
        for (number, arrival) in (0..=u32::MAX).zip(arrivals) {
            if !self.wait(arrival.due) {
                break;
            }
            send(number, arrival);
            sent += 1;
        }
        sent
    }

    /// Waits until so many nanoseconds after the start; false if it was stopped.
    fn wait(&self, due: u64) -> bool {
        loop {
            let late = clock::now().saturating_sub(self.start);
            let ahead = match (due.saturating_sub(late), self.start.saturating_sub(clock::now())) {
                (0, 0) => return !matches!(self.stopped.try_recv(), Err(TryRecvError::Disconnected)),
                (ahead, until_start) => ahead + until_start,
            };
            if let Err(RecvTimeoutError::Disconnected) =
                self.stopped.recv_timeout(Duration::from_nanos(ahead))
            {
                return false;
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
        let count = pacer.run([at(0), at(500_000), at(500_000), at(2_000_000)], |number, arrival| {
            assert!(clock::now() >= start + arrival.due);
            sent.push(number);
        });
        assert_eq!((count, sent), (4, vec![0, 1, 2, 3]));
    }

    #[test]
    fn a_stop_ends_it_in_the_middle_of_a_wait() {
        let (pacer, stop) = Pacer::new(clock::now());
        let mut stop = Some(stop);
        // The second one is due in an hour: only the stop can end this.
        let sent = pacer.run([at(0), at(3_600_000_000_000)], |_, _| drop(stop.take()));
        assert_eq!(sent, 1);
    }
}
