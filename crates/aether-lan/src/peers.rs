//! The peers of this process: who is there, what each hears, and how far each knows what this process hears.
//!
//! The table of this process has a version, which grows with each join and leave. Peers get each change in order, and the
//! whole table if they lack one; they say which version they know. A join waits for that. Everything that a network can
//! fill is bounded.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::lane::Lane;
use super::message::{Place, Sent};
use super::peer::{LanPeer, Peer};
use super::route::{Member, Route};
use super::strangers::Strangers;
use super::table::{Hearer, MAX_HEARERS, MAX_PEERS, MAX_TABLE, TableChange};
use aether_core::clock::{self, Instant};
use aether_core::{Channel, Wave};

/// The memory of all tables of peers.
const MAX_BYTES: usize = 16 << 20;
/// A peer that was silent for this long has gone. It sends something each second, and TCP repeats a lost packet twice within
/// 0.6 s (RFC 6298, with the minimum of 0.2 s that Linux uses).
pub(super) const GONE_AFTER: Duration = Duration::from_millis(3500);
/// An answer takes this long at most on a busy machine or a slow line, several times over.
const LEAST_GONE_AFTER: Duration = Duration::from_millis(500);
/// Each peer is pinged at least this often.
const MAX_BEAT: Duration = Duration::from_secs(1);
/// The peers that an error names.
const MAX_NAMED: usize = 8;
/// The channels whose routes are kept.
const MAX_ROUTES: usize = 4096;

/// The fate of a table that a peer sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// It is known now. `is_new`: the peer was not there before. `is_change`: it was not known before.
    Known { version: u64, is_new: bool, is_change: bool },
    /// It changes a version that is not known here.
    Missing,
    /// There is no room for it.
    NoRoom,
}

#[derive(Default)]
struct State {
    version: u64,
    own: Vec<Hearer>,
    own_bytes: usize,
    /// The last way to a peer.
    ways: u32,
    /// By node, so that all hear of a change in the same order in each run.
    peers: BTreeMap<u64, Peer>,
    bytes: usize,
    routes: HashMap<Channel, Arc<Route>>,
    left_out: u64,
    /// The waves that peers have not received: those on their way to one that broke, left or fell silent.
    unconfirmed: u64,
    /// The waves that were sent to peers, once for each.
    sent: u64,
    /// The last ping of this process to itself that it answered.
    own_answered: Option<(u64, Instant)>,
    /// Nodes that are there and have not introduced themselves. Some may know this process by now.
    strangers: Strangers,
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
    /// A peer that was silent for this long has gone.
    gone_after: Duration,
    state: Mutex<State>,
}

impl Peers {
    pub(super) fn new(node: u64, name: String) -> Self {
        Self { node, name, gone_after: GONE_AFTER, state: Mutex::default() }
    }

    /// Peers that were silent for this long have gone, instead of [`GONE_AFTER`].
    pub(super) fn gone_after(mut self, silence: Duration) -> Self {
        self.gone_after = silence.max(LEAST_GONE_AFTER);
        self
    }

    /// How often each peer is pinged: it is heard again several times before it would have gone.
    pub(super) fn beat(&self) -> Duration {
        MAX_BEAT.min(self.gone_after.mul_f64(MAX_BEAT.as_secs_f64() / GONE_AFTER.as_secs_f64()))
    }

    /// The number of this process.
    pub(super) const fn node(&self) -> u64 {
        self.node
    }

    /// Adds a subscription of this process, and hands the change to `tell` while no other change can overtake it. Returns
    /// the version that has it; `None` if no peer would take a table with one more.
    pub(super) fn join(&self, hearer: Hearer, tell: impl FnOnce(&[u64], TableChange)) -> Option<u64> {
        self.change(tell, |state| {
            let bytes = state.own_bytes + hearer.bytes();
            if state.own.len() >= MAX_HEARERS || bytes > MAX_TABLE {
                return None;
            }
            state.own_bytes = bytes;
            state.own.push(hearer.clone());
            Some((vec![hearer], Vec::new()))
        })
    }

    /// Removes one.
    pub(super) fn leave(&self, id: u64, tell: impl FnOnce(&[u64], TableChange)) {
        self.change(tell, |state| {
            let place = state.own.iter().position(|hearer| hearer.id == id)?;
            state.own_bytes -= state.own.remove(place).bytes();
            Some((Vec::new(), vec![id]))
        });
    }

    fn change(
        &self,
        tell: impl FnOnce(&[u64], TableChange),
        change: impl FnOnce(&mut State) -> Option<(Vec<Hearer>, Vec<u64>)>,
    ) -> Option<u64> {
        let mut state = self.state.lock();
        let (added, removed) = change(&mut state)?;
        let base = state.version;
        state.version += 1;
        state.routes.clear();
        let nodes: Vec<u64> = state.peers.keys().copied().collect();
        let version = state.version;
        tell(&nodes, TableChange { base: Some(base), version, added, removed, ..TableChange::default() });
        Some(version)
    }

    /// The whole table of this process for a node, handed over as changes are.
    pub(super) fn introduce(&self, node: u64, tell: impl FnOnce(TableChange)) {
        let mut state = self.state.lock();
        if !state.peers.contains_key(&node) {
            state.strangers.told(node);
        }
        let (version, added, now) = (state.version, state.own.clone(), clock::now());
        let others = state.peers.iter().filter(|(other, peer)| **other != node && peer.is_heard(now));
        let peers = others.map(|(other, _)| *other).collect();
        tell(TableChange { version, name: self.name.clone(), added, peers, ..TableChange::default() });
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
        let TableChange { base, version, name, added, removed, peers } = change;
        let (known, is_new) = match (state.peers.get(&node), base) {
            (Some(peer), _) if peer.version >= version && peer.version > 0 => {
                return Received::Known { version: peer.version, is_new: false, is_change: false };
            }
            (Some(peer), Some(base)) if peer.version == base => (peer.hearers.clone(), false),
            (_, Some(_)) => return Received::Missing,
            (found, None) => (Vec::new(), found.is_none()),
        };
        let mut hearers = known;
        if !removed.is_empty() {
            let removed: HashSet<u64> = removed.into_iter().collect();
            hearers.retain(|hearer| !removed.contains(&hearer.id));
        }
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
        state.ways += u32::from(is_new);
        let has_token = state.strangers.remove(node);
        let State { strangers, peers: known, .. } = &mut *state;
        strangers.name(peers.into_iter().filter(|other| *other != self.node && !known.contains_key(other)));
        let way = state.ways;
        let peer = state.peers.entry(node).or_insert_with(|| Peer::new(way, now));
        peer.has_token |= has_token;
        if !name.is_empty() {
            peer.name = name;
        }
        peer.hears(version, hearers, bytes, now);
        Received::Known { version, is_new, is_change: true }
    }

    /// A peer knows our table up to a version. The first version is 0, so what is kept is one more. Returns whether that is
    /// news.
    pub(super) fn knows(&self, node: u64, version: u64) -> bool {
        let mut state = self.state.lock();
        let Some(peer) = state.peers.get_mut(&node) else { return false };
        let knows = peer.knows.max(version.saturating_add(1));
        std::mem::replace(&mut peer.knows, knows) < knows
    }

    /// The version of a peer's table that is known here.
    pub(super) fn version_of(&self, node: u64) -> Option<u64> {
        self.state.lock().peers.get(&node).map(|peer| peer.version)
    }

    /// This process has answered a ping to itself.
    pub(super) fn answered_own(&self, number: u64) {
        let mut state = self.state.lock();
        state.own_answered = state.own_answered.max(Some((number, clock::now())));
    }

    /// A peer has answered a ping, and misses a number of waves on a way. Returns whether that is news.
    pub(super) fn answered(&self, node: u64, number: u64, (way, missing): (u32, u64)) -> bool {
        let mut state = self.state.lock();
        let Some(peer) = state.peers.get_mut(&node) else { return false };
        let now = clock::now();
        let Some(lost) = peer.on_the_way.answered(number, way, missing, now) else { return false };
        let is_news = number > peer.answered.0;
        peer.answered = peer.answered.max((number, now));
        state.unconfirmed += lost;
        is_news
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

    /// Waves are sent to a peer in a lane. Returns their place. If the peer has just gone, they are lost.
    pub(super) fn sent(&self, node: u64, lane: Lane, waves: u64) -> Place {
        if node == self.node {
            return Place::default();
        }
        let mut state = self.state.lock();
        let Some(peer) = state.peers.get_mut(&node) else {
            state.unconfirmed += waves;
            return Place::default();
        };
        let place = peer.on_the_way.sent(lane, waves);
        state.sent += if place.way > 0 { waves } else { 0 };
        place
    }

    /// The entries of the tables about others.
    pub(super) fn tables(&self) -> Vec<(&'static str, usize)> {
        let state = self.state.lock();
        let routes = state.routes.values().filter(|route| route.leaves(self.node));
        vec![
            ("peers", state.peers.len()),
            ("bytes of peers", state.bytes),
            ("strangers", state.strangers.len()),
            ("routes", routes.count()),
        ]
    }

    /// The waves that were sent to peers so far, once for each.
    pub(super) fn all_sent(&self) -> u64 {
        self.state.lock().sent
    }

    /// A ping is sent to a peer. Returns what was sent before it.
    pub(super) fn pinged(&self, node: u64, number: u64) -> Sent {
        let mut state = self.state.lock();
        let peer = state.peers.get_mut(&node);
        peer.map(|peer| peer.on_the_way.pinged(number, clock::now())).unwrap_or_default()
    }

    /// Whether a peer takes nothing, and others would wait for it if there had to be room for what is sent to it. Everything
    /// sent before `until` has been listened to.
    pub(super) fn holds_up_others(&self, node: u64, until: Instant) -> bool {
        let state = self.state.lock();
        state.peers.len() > 1 && state.peers.get(&node).is_some_and(|peer| peer.is_stuck(until))
    }

    /// The peers that have not confirmed everything.
    pub(super) fn unconfirmed(&self) -> Vec<u64> {
        let state = self.state.lock();
        let owes = |peer: &Peer| peer.on_the_way.waves() > 0;
        state.peers.iter().filter(|(_, peer)| owes(peer)).map(|(node, _)| *node).collect()
    }

    /// Waves were sent to nobody, because the last peer has just gone, or did not reach this process itself.
    pub(super) fn lost(&self, waves: u64) {
        self.state.lock().unconfirmed += waves;
    }

    /// The waves on their way, and those that their peers have not received; once for each peer.
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

    /// Whether this process, and each of these peers that is still there, has answered this ping or a later one. A peer
    /// that went and came back has another way, on which the ping will not be answered. The waves on the old one are lost,
    /// and counted.
    pub(super) fn all_answered(&self, first: u64, pinged: &[(u64, u32)]) -> bool {
        let state = self.state.lock();
        let owes = |(node, way): &(u64, u32)| {
            let peer = state.peers.get(node).filter(|peer| peer.on_the_way.number() == *way);
            peer.is_some_and(|peer| peer.answered.0 < first)
        };
        state.own_answered.is_some_and(|(number, _)| number >= first) && !pinged.iter().any(owes)
    }

    /// Whether all peers know a version of our table.
    pub(super) fn all_know(&self, version: u64) -> bool {
        self.state.lock().peers.values().all(|peer| peer.knows > version)
    }

    /// The names of some peers that do not.
    pub(super) fn ignorant(&self, version: u64) -> Vec<String> {
        let state = self.state.lock();
        let lack = state.peers.iter().filter(|(_, peer)| peer.knows <= version);
        lack.take(MAX_NAMED).map(|(node, peer)| format!("{} ({node:016x})", peer.name)).collect()
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

    /// All that may know this process: the peers, and those that were told of it and have not introduced themselves.
    pub(super) fn acquainted(&self) -> Vec<u64> {
        let state = self.state.lock();
        state.peers.keys().copied().chain(state.strangers.all_told()).collect()
    }

    /// A node shows itself. Returns whether it has not introduced itself yet.
    pub(super) fn note_shown(&self, node: u64) -> bool {
        let mut state = self.state.lock();
        if let Some(peer) = state.peers.get_mut(&node) {
            peer.has_token = true;
            return false;
        }
        state.strangers.show(node);
        true
    }

    /// A node is not seen any more. If it is a peer, it stays one until it is silent for too long.
    pub(super) fn note_unseen(&self, node: u64) {
        let mut state = self.state.lock();
        state.strangers.remove(node);
        if let Some(peer) = state.peers.get_mut(&node) {
            peer.has_token = false;
        }
    }

    /// Nodes that have not introduced themselves and now learn of this process.
    pub(super) fn strangers_due(&self, most: usize) -> Vec<u64> {
        self.state.lock().strangers.due(most)
    }

    /// Whether all have introduced themselves that show themselves or were named by peers.
    pub(super) fn has_met_all(&self) -> bool {
        self.state.lock().strangers.is_empty()
    }

    /// Connecting has ended. Returns the number of nodes that show themselves and have not answered.
    pub(super) fn met(&self) -> usize {
        self.state.lock().strangers.met(clock::now())
    }

    /// The number of nodes that were there when this process connected and have not answered. What is sent meanwhile may not
    /// reach them.
    pub(super) fn missed(&self) -> usize {
        self.state.lock().strangers.missed(clock::now())
    }

    /// A peer has left, and has received a number of waves of a way. The others that were sent to it are lost.
    pub(super) fn part(&self, node: u64, (way, received): (u32, u64)) -> bool {
        let mut state = self.state.lock();
        let lost = state.peers.get(&node).map_or(0, |peer| peer.on_the_way.lost_with(way, received));
        state.unconfirmed += lost;
        state.strangers.remove(node);
        state.forget(node)
    }

    /// When the first of the peers will have been silent for too long, if it stays silent.
    pub(super) fn first_silent(&self) -> Option<Instant> {
        self.state.lock().peers.values().map(|peer| peer.heard).min().map(|heard| heard + self.gone_after)
    }

    /// Forgets the peers that were silent for too long, and returns them. Only what was said before `until` has been
    /// listened to. One that still shows itself learns of this process again: it may have forgotten it as well.
    pub(super) fn forget_silent(&self, until: Instant) -> Vec<(u64, String)> {
        let mut state = self.state.lock();
        let is_gone = |peer: &Peer| until.saturating_duration_since(peer.heard) >= self.gone_after;
        let gone: Vec<_> = state
            .peers
            .iter()
            .filter(|(_, peer)| is_gone(peer))
            .map(|(node, peer)| (*node, peer.name.clone()))
            .collect();
        for (node, _) in &gone {
            let peer = state.peers.get(node).map(|peer| (peer.on_the_way.waves(), peer.has_token));
            let (lost, has_token) = peer.unwrap_or_default();
            state.unconfirmed += lost;
            state.forget(*node);
            if has_token {
                state.strangers.show(*node);
            }
        }
        gone
    }

    /// The processes that hear a channel.
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
        let peers = state.peers.iter().map(|(node, peer)| peer.seen(*node, now));
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
    use aether_core::Pattern;

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
            Received::Known { version: 1, is_new: true, is_change: true }
        );
        assert_eq!(peers.receive(16, change(2, 3, 2)), Received::Missing);
        let known = |is_change| Received::Known { version: 2, is_new: false, is_change };
        assert_eq!(peers.receive(16, change(1, 2, 2)), known(true));
        // A second time, and an older one.
        assert_eq!(peers.receive(16, change(1, 2, 2)), known(false));
        let channel = Channel::new("a").unwrap();
        assert_eq!(peers.route(&channel).lone, [16]);
        assert!(peers.part(16, (0, 0)) && !peers.part(16, (0, 0)));
        assert!(peers.route(&channel).lone.is_empty());
        assert_eq!(peers.state.lock().bytes, 0);
    }

    #[test]
    fn a_peer_that_was_silent_and_shows_itself_learns_of_this_process_again() {
        let (peers, later) = (Peers::new(8, "here".to_owned()), clock::test_now() + Duration::from_secs(10));
        for node in [16, 24, 32] {
            assert!(peers.note_shown(node));
            peers.receive(node, whole(1, Vec::new()));
        }
        assert!(peers.strangers_due(8).is_empty() && !peers.note_shown(24));
        // The connection broke, and came back before the silence was too long. The one of the last did not.
        [24, 32].into_iter().for_each(|node| peers.note_unseen(node));
        assert!(!peers.note_shown(24));
        assert_eq!(peers.forget_silent(later).len(), 3);
        assert_eq!(peers.strangers_due(8), [16, 24]);
        [16, 24].into_iter().for_each(|node| peers.note_unseen(node));
        assert!(peers.has_met_all());
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
        let version = version.unwrap();
        assert!(peers.knows(16, version) && !peers.knows(16, version));
        assert!(!peers.all_know(version));
        peers.knows(24, 0);
        assert!(!peers.all_know(version) && peers.uninformed() == [24]);
        assert_eq!(peers.ignorant(version), [" (0000000000000018)"]);
        assert!(peers.part(24, (0, 0)) && peers.all_know(version), "who has gone holds up nobody");
        // No version is too great.
        assert!(peers.knows(16, u64::MAX) && peers.all_know(version));
    }

    #[test]
    fn waves_on_the_way_to_a_peer_that_leaves_or_misses_some_are_unconfirmed_and_those_it_received_are_not() {
        let peers = Peers::new(8, "here".to_owned());
        for node in [16, 24] {
            peers.receive(node, whole(1, Vec::new()));
        }
        let place = peers.sent(16, Lane::LAST, 10);
        peers.sent(24, Lane::LAST, 10);
        assert_eq!((peers.pinged(16, 1).way, peers.flight()), (place.way, (20, 0)));
        assert!(peers.answered(16, 1, (place.way, 3)) && !peers.answered(16, 1, (place.way, 3)));
        assert_eq!(peers.flight(), (10, 3));
        assert!(peers.part(24, (place.way + 1, 10)));
        assert_eq!(peers.flight(), (0, 3), "it had received everything");
        peers.sent(16, Lane::LAST, 5);
        assert!(peers.part(16, (place.way, 9)));
        assert_eq!(peers.flight(), (0, 6), "it had received two of the last five");
        assert_eq!(peers.sent(16, Lane::LAST, 1), Place::default());
        assert_eq!(peers.flight(), (0, 7), "it has gone");
    }

    #[test]
    fn a_process_joins_no_more_than_others_take() {
        let peers = Peers::new(8, "here".to_owned());
        let long = "a".repeat(200);
        let mut joined = 0;
        while peers.join(hearer(joined, &long), |_, _| {}).is_some() {
            joined += 1;
        }
        assert_eq!(joined, (MAX_TABLE / hearer(0, &long).bytes()) as u64);
        peers.leave(0, |_, _| {});
        assert!(peers.join(hearer(0, &long), |_, _| {}).is_some());
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
