//! The order by key, and limits, across processes: the server delivers to one process at a time, its pinned client, and the
//! next one begins when everything that was in flight elsewhere has come to it.
//!
//! The server counts the waves that are delivered and not acknowledged, and does not list them. The count holds at one
//! moment, when the process asks. From then on each of these waves comes to this process when its time at another one has
//! run out, or is acknowledged late. As soon as as many have come as were counted, none is elsewhere. A wave that had come
//! before that moment may have been acknowledged since, so it proves nothing and goes back once.

use std::collections::BTreeSet;

use async_nats::jetstream::consumer::Info;

/// The group of a consumer by key or with a limit, of which the server pins one client.
pub(super) const GROUP: &str = "by-key";

/// A delivery, as the server numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    /// The position of the wave.
    pub(super) position: u64,
    /// The number of this delivery.
    pub(super) delivery: u64,
    /// How often the wave was delivered.
    pub(super) times: u64,
}

/// The state of a consumer at the server, at one moment.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    /// The client that is pinned.
    pub(super) pinned: Option<String>,
    /// The position of the last wave that was delivered for the first time.
    pub(super) position: u64,
    /// The number of the last delivery.
    pub(super) delivery: u64,
    /// The waves that are delivered and not acknowledged.
    pub(super) unacknowledged: u64,
}

impl From<Info> for Moment {
    fn from(info: Info) -> Self {
        Self {
            pinned: info.priority_groups.into_iter().find_map(|group| group.pinned_client_id),
            position: info.delivered.stream_sequence,
            delivery: info.delivered.consumer_sequence,
            unacknowledged: info.num_ack_pending as u64,
        }
    }
}

/// Whether this process is the pinned client, and may begin waves.
#[derive(Debug, Default)]
pub(super) struct Pin {
    id: Option<String>,
    stage: Stage,
    /// The number of the last delivery to this process.
    delivery: u64,
}

#[derive(Debug, Default)]
enum Stage {
    /// The server was not asked yet.
    #[default]
    New,
    /// Waves come back from elsewhere.
    Gathering(Gathering),
    /// All that is not acknowledged is here.
    Whole,
}

/// Waves that come back.
#[derive(Debug)]
struct Gathering {
    since: Moment,
    /// The positions that came, of those that were counted, and of later ones.
    counted: BTreeSet<u64>,
    later: BTreeSet<u64>,
}

impl Gathering {
    /// Takes note of a delivery. False if it proves nothing.
    fn came(&mut self, numbers: Numbers) -> bool {
        // A wave that was never delivered before can have been acknowledged by nobody else.
        if numbers.times > 1 && numbers.delivery <= self.since.delivery {
            return false;
        }
        let is_later = numbers.position > self.since.position;
        let positions = if is_later { &mut self.later } else { &mut self.counted };
        positions.insert(numbers.position);
        true
    }

    fn is_complete(&self) -> bool {
        self.counted.len() as u64 >= self.since.unacknowledged
    }
}

impl Pin {
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// A wave came with this pin. Returns whether it is another one than before.
    pub(super) fn is_new(&mut self, id: &str) -> bool {
        let is_new = self.id() != Some(id);
        if is_new {
            (self.id, self.stage) = (Some(id.to_owned()), Stage::New);
        }
        is_new
    }

    /// Another process may be the pinned client. Returns whether this one was.
    pub(super) fn lose(&mut self) -> bool {
        self.stage = Stage::New;
        self.id.take().is_some()
    }

    /// It is not clear any more what the server knows.
    pub(super) fn doubt(&mut self) {
        self.stage = Stage::New;
    }

    /// Whether the server is to be asked before anything begins.
    pub(super) fn is_to_ask(&self) -> bool {
        self.id.is_some() && matches!(self.stage, Stage::New)
    }

    pub(super) fn is_gathering(&self) -> bool {
        matches!(self.stage, Stage::Gathering(_))
    }

    pub(super) fn is_whole(&self) -> bool {
        matches!(self.stage, Stage::Whole)
    }

    /// A delivery came. False: it proves nothing and goes back.
    pub(super) fn came(&mut self, numbers: Numbers) -> bool {
        self.delivery = self.delivery.max(numbers.delivery);
        let Stage::Gathering(gathering) = &mut self.stage else { return true };
        let is_kept = gathering.came(numbers);
        self.complete();
        is_kept
    }

    /// The server has answered. Begins to gather, from the start if a wave was acknowledged elsewhere meanwhile. Returns
    /// whether it begins: then the held waves [come](Self::came) once more.
    pub(super) fn learn(&mut self, mut now: Moment) -> bool {
        let begins = match &self.stage {
            Stage::New => true,
            Stage::Gathering(Gathering { since, later, .. }) => {
                now.unacknowledged < since.unacknowledged + later.len() as u64
            }
            Stage::Whole => false,
        };
        if begins {
            // The number of a server with replicas may be from a moment before.
            now.delivery = now.delivery.max(self.delivery);
            let (counted, later) = (BTreeSet::new(), BTreeSet::new());
            self.stage = Stage::Gathering(Gathering { since: now, counted, later });
        }
        begins
    }

    /// Looks whether everything is here.
    pub(super) fn complete(&mut self) {
        if let Stage::Gathering(gathering) = &self.stage
            && gathering.is_complete()
        {
            self.stage = Stage::Whole;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(position: u64, delivery: u64, unacknowledged: u64) -> Moment {
        Moment { pinned: Some("a".to_owned()), position, delivery, unacknowledged }
    }

    fn numbers(position: u64, delivery: u64, times: u64) -> Numbers {
        Numbers { position, delivery, times }
    }

    fn pinned() -> Pin {
        let mut pin = Pin::default();
        assert!(!pin.is_to_ask() && pin.is_new("a") && !pin.is_new("a") && pin.is_to_ask());
        pin
    }

    #[test]
    fn waves_of_before_come_back_before_anything_begins() {
        let mut pin = pinned();
        assert!(pin.came(numbers(7, 10, 1)));
        assert!(pin.learn(moment(7, 10, 3)) && pin.came(numbers(7, 10, 1)));
        assert!(pin.came(numbers(8, 11, 1)) && !pin.is_whole(), "a later one is not one of the three");
        assert!(pin.came(numbers(5, 12, 2)) && pin.came(numbers(5, 13, 3)) && !pin.is_whole());
        assert!(pin.came(numbers(6, 14, 2)) && pin.is_whole());
        assert!(pin.came(numbers(9, 15, 1)) && !pin.learn(moment(9, 15, 5)) && pin.is_whole());
        assert!(pin.lose() && !pin.lose() && !pin.is_whole());
    }

    #[test]
    fn a_wave_that_came_before_the_count_proves_nothing() {
        let mut pin = pinned();
        // Delivered again, and acknowledged late where it was before; 5 is still in flight there.
        assert!(pin.came(numbers(6, 10, 2)));
        assert!(pin.learn(moment(6, 9, 1)));
        assert!(!pin.came(numbers(6, 10, 2)) && !pin.is_whole());
        assert!(pin.came(numbers(5, 11, 2)) && pin.is_whole());
    }

    #[test]
    fn a_late_acknowledgement_elsewhere_begins_the_count_again() {
        let mut pin = pinned();
        assert!(pin.learn(moment(6, 10, 2)) && pin.came(numbers(6, 11, 2)));
        assert!(pin.came(numbers(7, 12, 1)) && !pin.learn(moment(7, 12, 3)), "nothing has changed");
        assert!(pin.learn(moment(7, 12, 2)), "5 or 6 was acknowledged");
        assert!(!pin.came(numbers(6, 11, 2)) && pin.came(numbers(7, 12, 1)) && !pin.is_whole());
        assert!(pin.came(numbers(6, 13, 3)) && pin.is_whole());
    }

    #[test]
    fn with_nothing_in_flight_it_begins_at_once() {
        let mut pin = pinned();
        assert!(pin.learn(moment(6, 10, 0)));
        pin.complete();
        assert!(pin.is_whole());
        pin.doubt();
        assert!(pin.is_to_ask() && pin.id() == Some("a"));
    }
}
