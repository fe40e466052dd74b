//! One peer: what is known of it here, and what of that others may see.

use std::collections::HashSet;
use std::time::Duration;

use super::message::VERSION;
use super::table::Hearer;
use super::way::Way;
use aether_core::clock::Instant;

/// Between the names of a process and of its machine.
pub(super) const ON: &str = " on ";
/// A peer that has sent nothing for this long may be stuck, or gone. It sends something each second.
const SILENT: Duration = Duration::from_millis(1500);

/// One peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) since: Instant,
    pub(super) heard: Instant,
    /// Whether it shows itself by a token.
    pub(super) has_token: bool,
    /// The version of its table that is known here.
    pub(super) version: u64,
    pub(super) hearers: Vec<Hearer>,
    /// The groups that it is a member of.
    pub(super) groups: usize,
    pub(super) bytes: usize,
    /// The version of our table that it knows.
    pub(super) knows: u64,
    /// The last ping that it answered, and when.
    pub(super) answered: (u64, Instant),
    pub(super) on_the_way: Way,
    pub(super) round_trip: Option<Duration>,
    pub(super) clock_ahead_micros: Option<i64>,
}

impl Peer {
    /// One that is met on a new way.
    pub(super) fn new(way: u32, now: Instant) -> Self {
        Self {
            name: String::new(),
            since: now,
            heard: now,
            has_token: false,
            version: 0,
            hearers: Vec::new(),
            groups: 0,
            bytes: 0,
            knows: 0,
            answered: (0, now),
            on_the_way: Way::new(way),
            round_trip: None,
            clock_ahead_micros: None,
        }
    }

    /// Takes over its table.
    pub(super) fn hears(&mut self, version: u64, hearers: Vec<Hearer>, bytes: usize, now: Instant) {
        let groups: HashSet<_> = hearers.iter().filter_map(|hearer| hearer.group.as_deref()).collect();
        self.groups = groups.len();
        (self.heard, self.version, self.hearers, self.bytes) = (now, version, hearers, bytes);
    }

    /// Whether it is surely there: something was heard of it lately.
    pub(super) fn is_heard(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) < SILENT
    }

    /// Whether it takes nothing at the moment, as far as can be known.
    pub(super) fn is_stuck(&self, now: Instant) -> bool {
        self.on_the_way.is_stuck(now) || !self.is_heard(now)
    }

    /// The part that others may see.
    pub(super) fn seen(&self, node: u64, now: Instant) -> LanPeer {
        // As `LanOptions::name` puts them together.
        let (name, machine) = self.name.rsplit_once(ON).unwrap_or((&self.name, &self.name));
        LanPeer {
            node,
            name: name.to_owned(),
            machine: machine.to_owned(),
            protocol: VERSION,
            since: now.saturating_duration_since(self.since),
            heard: now.saturating_duration_since(self.heard),
            subscriptions: self.hearers.len(),
            groups: self.groups,
            round_trip: self.round_trip,
            clock_ahead_micros: self.clock_ahead_micros,
        }
    }
}

/// A peer as others may see it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LanPeer {
    /// Its number, drawn when it joined.
    pub node: u64,
    /// Its name; the name of its machine if it has none of its own.
    pub name: String,
    /// The name of its machine.
    pub machine: String,
    /// The version of the protocol that it speaks. Messages of another version are not understood, and so their senders are
    /// no peers: [`LanSurroundings::other_version`](super::LanSurroundings::other_version) counts them.
    pub protocol: u8,
    /// How long it has been there.
    pub since: Duration,
    /// How long ago something was heard of it.
    pub heard: Duration,
    /// The number of its subscriptions.
    pub subscriptions: usize,
    /// The number of groups that it is a member of.
    pub groups: usize,
    /// The last measured round trip.
    pub round_trip: Option<Duration>,
    /// How far its clock is ahead of ours, in microseconds, to within half of the round trip.
    pub clock_ahead_micros: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use aether_core::Pattern;
    use aether_core::clock;

    #[test]
    fn a_peer_is_seen_by_its_name_and_machine_with_the_groups_it_is_in() {
        let now = clock::test_now();
        let pattern = Pattern::new("a").unwrap();
        let hearer = |id, group: Option<&str>| Hearer {
            id,
            pattern: pattern.clone(),
            group: group.map(Into::into),
            observes: false,
        };
        let hearers = vec![hearer(1, Some("shop")), hearer(2, Some("shop")), hearer(3, Some("stock"))];
        let mut peer = Peer { name: "tea on top on pi".to_owned(), ..Peer::new(1, now) };
        peer.hears(1, hearers.into_iter().chain([hearer(4, None)]).collect(), 0, now);
        let seen = peer.seen(16, now);
        assert_eq!(
            (&*seen.name, &*seen.machine, seen.subscriptions, seen.groups),
            ("tea on top", "pi", 4, 2)
        );
        let seen = Peer { name: "attic".to_owned(), ..Peer::new(1, now) }.seen(24, now);
        assert_eq!((&*seen.name, &*seen.machine, seen.subscriptions), ("attic", "attic", 0));
    }
}
