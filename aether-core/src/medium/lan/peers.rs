//! The peers of this process: who is there, what each hears, and how far each knows what this process hears.
//!
//! The table of this process has a version, which grows with each join and leave. Peers get each change in order, and the
//! whole table if they lack one; they say which version they know. A join waits for that. Everything that a network can
//! fill is bounded.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::message::VERSION;
use super::route::{Member, Route};
use super::table::{Hearer, MAX_HEARERS, TableChange};
use super::way::Way;
use crate::channel::Channel;
use crate::clock::{self, Instant};
use crate::wave::Wave;

/// The peers that are known at most.
pub(super) const MAX_PEERS: usize = 1024;
/// The memory of all tables of peers.
const MAX_BYTES: usize = 16 << 20;
/// A peer that was silent for this long has gone. It says something each second, and TCP repeats a lost packet twice within
/// 0.6 s (RFC 6298, with the minimum of 0.2 s that Linux uses).
pub(super) const GONE_AFTER: Duration = Duration::from_millis(3500);
/// Between the name of a process and that of its machine.
pub(super) const ON: &str = " on ";
/// The channels whose routes are kept.
const MAX_ROUTES: usize = 4096;

/// One peer.
#[derive(Debug)]
struct Peer {
    name: String,
    since: Instant,
    heard: Instant,
    /// The version of its table that is known here.
    version: u64,
    hearers: Vec<Hearer>,
    /// The groups that it is a member of.
    groups: usize,
    bytes: usize,
    /// The version of our table that it knows.
    knows: u64,
    /// The last ping that it answered, and when.
    answered: (u64, Instant),
    on_the_way: Way,
    round_trip: Option<Duration>,
    clock_ahead_micros: Option<i64>,
}

/// What became of a table that a peer sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// It is known now. `is_new`: the peer was not there before.
    Known { version: u64, is_new: bool },
    /// It changes a version that is not known here.
    Missing,
    /// There is no room for it.
    NoRoom,
}

/// A peer as others may see it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LanPeer {
    /// Its number, drawn when it joined.
    pub node: u64,
    /// Its name; that of its machine if it has none of its own.
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

#[derive(Default)]
struct State {
    version: u64,
    own: Vec<Hearer>,
    peers: HashMap<u64, Peer>,
    bytes: usize,
    routes: HashMap<Channel, Arc<Route>>,
    left_out: u64,
    /// The waves that were on their way to a peer when it went silent.
    unconfirmed: u64,
    /// The last ping of this process to itself that it answered.
    own_answered: Option<(u64, Instant)>,
}

impl State {
    fn forget(&mut self, node: u64) -> bool {
        let Some(peer) = self.peers.remove(&node) else { return false };
        self.bytes -= peer.bytes;
        self.routes.clear();
        true
    }
}

pub(super) struct Peers {
    node: u64,
    name: String,
    state: Mutex<State>,
}

impl Peers {
    pub(super) fn new(node: u64, name: String) -> Self {
        Self { node, name, state: Mutex::default() }
    }

    /// Adds a subscription of this process, and hands the change to `tell` while no other change can overtake it. Returns
    /// the version that has it.
    pub(super) fn join(&self, hearer: Hearer, tell: impl FnOnce(&[u64], TableChange)) -> u64 {
        self.change(tell, |own| {
            own.push(hearer.clone());
            (vec![hearer], Vec::new())
        })
    }

    /// Removes one.
    pub(super) fn leave(&self, id: u64, tell: impl FnOnce(&[u64], TableChange)) -> u64 {
        self.change(tell, |own| {
            own.retain(|hearer| hearer.id != id);
            (Vec::new(), vec![id])
        })
    }

    fn change(
        &self,
        tell: impl FnOnce(&[u64], TableChange),
        change: impl FnOnce(&mut Vec<Hearer>) -> (Vec<Hearer>, Vec<u64>),
    ) -> u64 {
        let mut state = self.state.lock();
        let base = state.version;
        let (added, removed) = change(&mut state.own);
        state.version += 1;
        state.routes.clear();
        let nodes: Vec<u64> = state.peers.keys().copied().collect();
        let version = state.version;
        tell(&nodes, TableChange { base: Some(base), version, name: String::new(), added, removed });
        version
    }

    /// The whole table of this process, handed over as changes are.
    pub(super) fn introduce(&self, tell: impl FnOnce(TableChange)) {
        let state = self.state.lock();
        let (version, added) = (state.version, state.own.clone());
        tell(TableChange { base: None, version, name: self.name.clone(), added, removed: Vec::new() });
    }

    pub(super) fn version(&self) -> u64 {
        self.state.lock().version
    }

    /// Something authentic has come from a node. Returns false if it is not known.
    pub(super) fn heard(&self, node: u64) -> bool {
        let mut state = self.state.lock();
        state.peers.get_mut(&node).is_some_and(|peer| {
            peer.heard = clock::now();
            true
        })
    }

    /// A peer's table or a change of it.
    pub(super) fn receive(&self, node: u64, change: TableChange) -> Received {
        let mut state = self.state.lock();
        let now = clock::now();
        let TableChange { base, version, name, added, removed } = change;
        let (known, is_new) = match (state.peers.get(&node), base) {
            (Some(peer), _) if peer.version >= version && peer.version > 0 => {
                return Received::Known { version: peer.version, is_new: false };
            }
            (Some(peer), Some(base)) if peer.version == base => (peer.hearers.clone(), false),
            (_, Some(_)) => return Received::Missing,
            (found, None) => (Vec::new(), found.is_none()),
        };
        let mut hearers = known;
        hearers.retain(|hearer| !removed.contains(&hearer.id));
        hearers.extend(added);
        let bytes = hearers.iter().map(Hearer::bytes).sum::<usize>();
        let before = state.peers.get(&node).map_or(0, |peer| peer.bytes);
        let is_full = is_new && state.peers.len() >= MAX_PEERS;
        if is_full || hearers.len() > MAX_HEARERS || state.bytes - before + bytes > MAX_BYTES {
            state.left_out += 1;
            return Received::NoRoom;
        }
        state.bytes = state.bytes - before + bytes;
        state.routes.clear();
        let peer = state.peers.entry(node).or_insert_with(|| Peer {
            name: String::new(),
            since: now,
            heard: now,
            version: 0,
            hearers: Vec::new(),
            groups: 0,
            bytes: 0,
            knows: 0,
            answered: (0, now),
            on_the_way: Way::default(),
            round_trip: None,
            clock_ahead_micros: None,
        });
        if !name.is_empty() {
            peer.name = name;
        }
        let groups: HashSet<_> = hearers.iter().filter_map(|hearer| hearer.group.as_deref()).collect();
        peer.groups = groups.len();
        (peer.heard, peer.version, peer.hearers, peer.bytes) = (now, version, hearers, bytes);
        Received::Known { version, is_new }
    }

    /// A peer knows our table up to a version. The first version is 0, so what is kept is one more.
    pub(super) fn knows(&self, node: u64, version: u64) {
        if let Some(peer) = self.state.lock().peers.get_mut(&node) {
            peer.knows = peer.knows.max(version + 1);
        }
    }

    /// The version of a peer's table that is known here.
    pub(super) fn version_of(&self, node: u64) -> Option<u64> {
        self.state.lock().peers.get(&node).map(|peer| peer.version)
    }

    /// A peer, or this process itself, has answered a ping.
    pub(super) fn answered(&self, node: u64, number: u64) {
        let mut state = self.state.lock();
        let answer = (number, clock::now());
        if node == self.node {
            state.own_answered = state.own_answered.max(Some(answer));
        } else if let Some(peer) = state.peers.get_mut(&node) {
            peer.answered = peer.answered.max(answer);
            peer.on_the_way.answered(number);
        }
    }

    /// A round trip to a peer was measured, and how far its clock is ahead.
    pub(super) fn measured(&self, node: u64, round_trip: Duration, ahead_micros: i64) {
        if let Some(peer) = self.state.lock().peers.get_mut(&node) {
            (peer.round_trip, peer.clock_ahead_micros) = (Some(round_trip), Some(ahead_micros));
        }
    }

    /// The last ping that a peer or this process has answered, and when; `None` if the peer is not there.
    pub(super) fn last_answer(&self, node: u64) -> Option<(u64, Instant)> {
        let state = self.state.lock();
        if node == self.node {
            return Some(state.own_answered.unwrap_or((0, clock::now())));
        }
        state.peers.get(&node).map(|peer| peer.answered)
    }

    /// Waves were sent to a peer. If it has just gone, they are lost.
    pub(super) fn sent(&self, node: u64, waves: u64) {
        if node == self.node || waves == 0 {
            return;
        }
        let mut state = self.state.lock();
        match state.peers.get_mut(&node) {
            Some(peer) => peer.on_the_way.sent(waves),
            None => state.unconfirmed += waves,
        }
    }

    /// A ping was sent to a peer behind these waves.
    pub(super) fn pinged(&self, node: u64, number: u64) {
        if let Some(peer) = self.state.lock().peers.get_mut(&node) {
            peer.on_the_way.pinged(number);
        }
    }

    /// Waves were sent to nobody, because the last peer has just gone.
    pub(super) fn lost(&self, waves: u64) {
        self.state.lock().unconfirmed += waves;
    }

    /// The waves on their way, and those that were when their peer went silent; once for each peer.
    pub(super) fn flight(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.peers.values().map(|peer| peer.on_the_way.waves()).sum(), state.unconfirmed)
    }

    pub(super) fn is_alone(&self) -> bool {
        self.state.lock().peers.is_empty()
    }

    pub(super) fn count(&self) -> usize {
        self.state.lock().peers.len()
    }

    /// Whether this process, and each of these peers that is still there, has answered this ping or a later one.
    pub(super) fn all_answered(&self, first: u64, pinged: &[u64]) -> bool {
        let state = self.state.lock();
        let owes = |node: &u64| state.peers.get(node).is_some_and(|peer| peer.answered.0 < first);
        state.own_answered.is_some_and(|(number, _)| number >= first) && !pinged.iter().any(owes)
    }

    /// Whether all peers know a version of our table.
    pub(super) fn all_know(&self, version: u64) -> bool {
        self.state.lock().peers.values().all(|peer| peer.knows > version)
    }

    /// The peers that lack the current version of our table.
    pub(super) fn uninformed(&self) -> Vec<u64> {
        let state = self.state.lock();
        let lacks = |peer: &Peer| peer.knows <= state.version;
        state.peers.iter().filter(|(_, peer)| lacks(peer)).map(|(node, _)| *node).collect()
    }

    pub(super) fn nodes(&self) -> Vec<u64> {
        self.state.lock().peers.keys().copied().collect()
    }

    /// A peer has left.
    pub(super) fn forget(&self, node: u64) -> bool {
        self.state.lock().forget(node)
    }

    /// When the first of the peers will have been silent for too long, if it stays silent.
    pub(super) fn first_silent(&self) -> Option<Instant> {
        self.state.lock().peers.values().map(|peer| peer.heard).min().map(|heard| heard + GONE_AFTER)
    }

    /// Forgets the peers that were silent for too long, and returns them.
    pub(super) fn forget_silent(&self) -> Vec<(u64, String)> {
        let mut state = self.state.lock();
        let now = clock::now();
        let is_gone = |peer: &Peer| now.saturating_duration_since(peer.heard) >= GONE_AFTER;
        let gone: Vec<_> = state
            .peers
            .iter()
            .filter(|(_, peer)| is_gone(peer))
            .map(|(node, peer)| (*node, peer.name.clone()))
            .collect();
        for (node, _) in &gone {
            state.unconfirmed += state.peers.get(node).map_or(0, |peer| peer.on_the_way.waves());
            state.forget(*node);
        }
        gone
    }

    /// Who hears a channel.
    pub(super) fn route(&self, channel: &Channel) -> Arc<Route> {
        let mut state = self.state.lock();
        if let Some(route) = state.routes.get(channel) {
            return Arc::clone(route);
        }
        let own = std::iter::once((self.node, &*state.own));
        let others = state.peers.iter().map(|(node, peer)| (*node, &*peer.hearers));
        let route = Arc::new(Route::new(channel, own.chain(others)));
        if state.routes.len() >= MAX_ROUTES {
            state.routes.clear();
        }
        state.routes.insert(channel.clone(), Arc::clone(&route));
        route
    }

    /// The member that gets a wave in place of one of this process that has left its group.
    pub(super) fn instead_of(&self, group: &str, gone: u64, wave: &Wave) -> Option<Member> {
        self.route(wave.channel()).instead_of(group, (self.node, gone), wave)
    }

    /// The number of tables that found no room.
    pub(super) fn left_out(&self) -> u64 {
        self.state.lock().left_out
    }

    /// All peers, by name.
    pub(super) fn list(&self) -> Vec<LanPeer> {
        let (state, now) = (self.state.lock(), clock::now());
        let peers = state.peers.iter().map(|(node, peer)| {
            // As `LanOptions::name` puts them together.
            let (name, machine) = peer.name.rsplit_once(ON).unwrap_or((&peer.name, &peer.name));
            LanPeer {
                node: *node,
                name: name.to_owned(),
                machine: machine.to_owned(),
                protocol: VERSION,
                since: now.saturating_duration_since(peer.since),
                heard: now.saturating_duration_since(peer.heard),
                subscriptions: peer.hearers.len(),
                groups: peer.groups,
                round_trip: peer.round_trip,
                clock_ahead_micros: peer.clock_ahead_micros,
            }
        });
        let mut peers: Vec<_> = peers.collect();
        drop(state);
        let order = |peer: &LanPeer| (peer.name.clone(), peer.machine.clone(), peer.node);
        peers.sort_by_cached_key(order);
        peers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Pattern;

    fn hearer(id: u64, pattern: &str) -> Hearer {
        Hearer { id, pattern: Pattern::new(pattern).unwrap(), group: None, observes: false }
    }

    fn whole(version: u64, added: Vec<Hearer>) -> TableChange {
        TableChange { version, added, ..TableChange::default() }
    }

    #[test]
    fn changes_apply_in_order_and_a_missing_one_is_noticed() {
        let peers = Peers::new(8, "here".to_owned());
        let change =
            |base, version, id| TableChange { base: Some(base), ..whole(version, vec![hearer(id, "a")]) };
        assert_eq!(peers.receive(16, change(1, 2, 1)), Received::Missing);
        assert_eq!(
            peers.receive(16, whole(1, vec![hearer(1, "b")])),
            Received::Known { version: 1, is_new: true }
        );
        assert_eq!(peers.receive(16, change(2, 3, 2)), Received::Missing);
        assert_eq!(peers.receive(16, change(1, 2, 2)), Received::Known { version: 2, is_new: false });
        // A second time, and an older one.
        assert_eq!(peers.receive(16, change(1, 2, 2)), Received::Known { version: 2, is_new: false });
        let channel = Channel::new("a").unwrap();
        assert_eq!(peers.route(&channel).lone, [16]);
        assert!(peers.forget(16) && !peers.forget(16));
        assert!(peers.route(&channel).lone.is_empty());
        assert_eq!(peers.state.lock().bytes, 0);
    }

    #[test]
    fn a_peer_is_listed_by_its_name_and_machine_with_the_groups_it_is_in() {
        let peers = Peers::new(8, "here".to_owned());
        let member = |id, group: &str| Hearer { group: Some(group.into()), ..hearer(id, "a") };
        let added = vec![member(1, "shop"), member(2, "shop"), member(3, "stock"), hearer(4, "b")];
        peers.receive(16, TableChange { name: "tea on top on pi".to_owned(), ..whole(1, added) });
        peers.receive(24, TableChange { name: "attic".to_owned(), ..whole(1, Vec::new()) });
        let listed: Vec<_> = peers
            .list()
            .into_iter()
            .map(|peer| (peer.name, peer.machine, peer.subscriptions, peer.groups))
            .collect();
        let expected = [("attic", "attic", 0, 0), ("tea on top", "pi", 4, 2)];
        assert_eq!(
            listed,
            expected.map(|(name, machine, all, groups)| (name.into(), machine.into(), all, groups))
        );
    }

    #[test]
    fn a_join_is_known_when_all_peers_say_so() {
        let peers = Peers::new(8, "here".to_owned());
        for node in [16, 24] {
            peers.receive(node, whole(0, Vec::new()));
        }
        assert_eq!(peers.uninformed().len(), 2);
        let version = peers.join(hearer(1, "a"), |nodes, change| {
            assert_eq!((nodes.len(), change.base, change.version), (2, Some(0), 1));
        });
        peers.knows(16, version);
        assert!(!peers.all_know(version));
        peers.knows(24, 0);
        assert!(!peers.all_know(version) && peers.uninformed() == [24]);
        assert!(peers.forget(24) && peers.all_know(version), "who has gone holds up nobody");
    }

    #[test]
    fn tables_are_bounded() {
        let peers = Peers::new(8, "here".to_owned());
        let long = "a".repeat(200);
        let large = || (0..MAX_BYTES as u64 / 2 / 330).map(|id| hearer(id, &long)).collect::<Vec<_>>();
        let mut refused = 0;
        for node in 1..=4 {
            refused += u64::from(peers.receive(8 * node + 8, whole(1, large())) == Received::NoRoom);
        }
        assert!(refused >= 2 && peers.left_out() == refused, "{refused}");
        assert!(peers.state.lock().bytes <= MAX_BYTES);
        for node in 100..100 + 2 * MAX_PEERS as u64 {
            peers.receive(8 * node, whole(1, Vec::new()));
        }
        assert_eq!(peers.nodes().len(), MAX_PEERS);
    }
}
