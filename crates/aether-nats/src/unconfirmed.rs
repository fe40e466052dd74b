//! The waves that a connection has handed to the client and the server has not confirmed. No I/O.

use std::collections::{HashMap, VecDeque};

use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::no_responders::Inquiries;

/// The starting point of a flush.
#[derive(Debug)]
pub(super) struct Goal {
    /// The mark behind the contents of the outbox.
    pub(super) mark: u64,
    /// The number of waves that had left the outbox when the last wave before the mark had left.
    pub(super) taken: Option<u64>,
}

/// A marker of the sending task, and what was sent before it.
pub(super) struct Marker {
    pub(super) number: u64,
    pub(super) waves: u64,
    pub(super) inquiry: u64,
}

/// The waves, markers, inquiries and probes that a connection has in flight.
#[derive(Default)]
pub(super) struct Unconfirmed {
    /// The number of waves taken from the outbox, without those that could not be sent after all. They were handed to the
    /// client, or will be next. Other paths may have taken waves as well.
    pub(super) taken: u64,
    /// The number of waves taken from the outbox that were confirmed or written off.
    pub(super) settled: u64,
    pub(super) written_off: u64,
    /// The total number of these waves that the sending task had handed to the client when it last sent a marker.
    pub(super) marked: u64,
    /// The sending task's markers in flight.
    pub(super) markers: VecDeque<Marker>,
    pub(super) inquiries: Inquiries,
    pub(super) last_marker: u64,
    /// The tasks that wait for a marker of their own.
    pub(super) waiting: HashMap<u64, oneshot::Sender<()>>,
    /// The probes that wait for the marker behind them, by its number.
    probes: HashMap<u64, Probe>,
    /// The number of connections seen to break. While a connection is up, this is one less than the client has made.
    pub(super) breaks: u64,
    pub(super) ended: bool,
}

impl Unconfirmed {
    /// Nothing that is in flight will be confirmed. Returns the senders to the waiting tasks, which drop outside of
    /// the lock: that wakes the tasks, and a waker may run anything.
    #[must_use]
    pub(super) fn write_off(&mut self) -> Vec<Waiting> {
        self.written_off += self.taken - self.settled;
        self.settled = self.taken;
        self.markers.clear();
        self.inquiries.clear();
        let waiting = self.waiting.drain().map(|(_, waiting)| Waiting::Marker(waiting));
        waiting.chain(self.probes.drain().map(|(_, probe)| Waiting::Probe(probe))).collect()
    }

    /// The marker with this number is back. Returns the tasks that wait for it, to be told outside of the lock.
    #[must_use]
    pub(super) fn confirm(&mut self, number: u64) -> SmallVec<[Waiting; 2]> {
        let marker = self.waiting.remove(&number).map(Waiting::Marker);
        let told = marker.into_iter().chain(self.probes.remove(&number).map(Waiting::Probe)).collect();
        // Markers return in the order in which they were sent.
        while let Some(marker) = self.markers.pop_front_if(|marker| marker.number <= number) {
            self.settled = self.settled.max(marker.waves);
            self.inquiries.close(marker.inquiry);
        }
        told
    }

    /// Forgets the probes that nobody waits for any more. Their markers may not have been sent.
    pub(super) fn drop_abandoned_probes(&mut self) {
        self.probes.retain(|_, probe| !probe.told.is_closed());
    }

    /// Opens a probe, and returns the number of the marker that must follow it. `None` if nothing can be sent any more.
    pub(super) fn probe(&mut self) -> Option<(u64, oneshot::Receiver<bool>)> {
        if self.ended {
            return None;
        }
        self.last_marker += 1;
        let (told, is_unheard) = oneshot::channel();
        self.probes.insert(self.last_marker, Probe { is_unheard: false, told });
        Some((self.last_marker, is_unheard))
    }

    /// Notes that, by a report of the server or of somebody else, nobody hears a probe.
    pub(super) fn probe_is_unheard(&mut self, number: u64) {
        if let Some(probe) = self.probes.get_mut(&number) {
            probe.is_unheard = true;
        }
    }
}

/// A task that waits for a marker.
pub(super) enum Waiting {
    Marker(oneshot::Sender<()>),
    Probe(Probe),
}

impl Waiting {
    pub(super) fn tell(self) {
        match self {
            Self::Marker(waiting) => drop(waiting.send(())),
            Self::Probe(Probe { is_unheard, told }) => drop(told.send(is_unheard)),
        }
    }
}

/// A frame without waves, which asks whether anybody hears it.
pub(super) struct Probe {
    is_unheard: bool,
    told: oneshot::Sender<bool>,
}
