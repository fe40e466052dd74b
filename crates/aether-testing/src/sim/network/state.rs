//! All connections of a simulated network, and the rules by which they come and go.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::connection::{Link, Way};
use crate::seed::mixed;
use crate::sim::trace::{Event, Trace};

/// A connection on which one side hears nothing for this long is broken.
const LEASE: Duration = Duration::from_secs(3);
/// The least and the most time until a broken connection is tried again.
const TRIED_AGAIN_AFTER: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));

/// The fate of a message that was put.
pub(super) enum Put {
    Taken,
    Full,
    Ended,
}

/// The next for a process to read.
pub(super) enum Incoming {
    Message(Bytes),
    Shown(u64, bool),
    Nothing,
}

/// A process on the network.
struct Station {
    process: usize,
    messages: VecDeque<(u64, Bytes)>,
    shown: VecDeque<(u64, bool)>,
    changed: Arc<Notify>,
    /// There may be room for what it sends.
    room: Arc<Notify>,
}

/// The connection of two processes.
struct Connection {
    is_up: bool,
    /// When it is tried, while it is not up.
    tried_at: Duration,
    silent_since: Option<Duration>,
}

pub(super) struct State {
    seed: u64,
    now: Duration,
    stations: BTreeMap<u64, Station>,
    /// By node, the smaller one first.
    connections: BTreeMap<(u64, u64), Connection>,
    ways: BTreeMap<(u64, u64), Way>,
    /// The ways on which something waits or flies.
    busy: BTreeSet<(u64, u64)>,
    links: BTreeMap<(usize, usize), Link>,
    link: Link,
    /// How often the way from one process to another is cut.
    cuts: BTreeMap<(usize, usize), u32>,
    frozen: BTreeSet<usize>,
    /// Whether any connection is not up, or was silent.
    is_unsettled: bool,
    random: fastrand::Rng,
    trace: Trace,
}

fn pair(one: u64, other: u64) -> (u64, u64) {
    (one.min(other), one.max(other))
}

impl State {
    pub(super) fn new(seed: u64, trace: Trace) -> Self {
        Self {
            seed,
            now: Duration::ZERO,
            stations: BTreeMap::new(),
            connections: BTreeMap::new(),
            ways: BTreeMap::new(),
            busy: BTreeSet::new(),
            links: BTreeMap::new(),
            link: Link::default(),
            cuts: BTreeMap::new(),
            frozen: BTreeSet::new(),
            is_unsettled: false,
            random: fastrand::Rng::with_seed(mixed([seed, 1])),
            trace,
        }
    }

    pub(super) fn link(&mut self, from: usize, to: usize, link: Option<Link>) {
        match link {
            Some(link) => self.links.insert((from, to), link),
            None => self.links.remove(&(from, to)),
        };
    }

    pub(super) fn link_all(&mut self, link: Link) {
        self.link = link;
    }

    pub(super) fn shortest(&self) -> Duration {
        let links = self.links.values().chain([&self.link]);
        links.map(|link| link.latency).min().unwrap_or_default()
    }

    pub(super) fn cut(&mut self, from: usize, to: usize) {
        self.is_unsettled = true;
        *self.cuts.entry((from, to)).or_default() += 1;
    }

    pub(super) fn join(&mut self, from: usize, to: usize) {
        if let Entry::Occupied(mut cuts) = self.cuts.entry((from, to)) {
            *cuts.get_mut() -= 1;
            if *cuts.get() == 0 {
                cuts.remove();
            }
        }
    }

    pub(super) fn heal(&mut self) {
        self.cuts.clear();
    }

    pub(super) fn freeze(&mut self, process: usize, is_frozen: bool) {
        self.is_unsettled = true;
        match is_frozen {
            true => self.frozen.insert(process),
            false => self.frozen.remove(&process),
        };
    }

    pub(super) fn kill(&mut self, process: usize) {
        self.frozen.remove(&process);
        let of_process = |(node, station): (&u64, &Station)| (station.process == process).then_some(*node);
        let nodes: Vec<u64> = self.stations.iter().filter_map(of_process).collect();
        nodes.into_iter().for_each(|node| self.leave(node));
    }

    pub(super) fn enter(&mut self, node: u64, process: usize, changed: Arc<Notify>) {
        let connection = || Connection { is_up: false, tried_at: self.now, silent_since: None };
        let new: Vec<_> = self.stations.keys().map(|other| (pair(node, *other), connection())).collect();
        self.connections.extend(new);
        self.is_unsettled = true;
        let (messages, shown) = (VecDeque::new(), VecDeque::new());
        let station = Station { process, messages, shown, changed, room: Arc::default() };
        self.stations.insert(node, station);
    }

    /// The others see at once that its connections are closed.
    pub(super) fn leave(&mut self, node: u64) {
        let Some(station) = self.stations.remove(&node) else { return };
        station.changed.notify_one();
        station.room.notify_waiters();
        let others: Vec<u64> = self.stations.keys().copied().collect();
        for other in others {
            let connection = self.connections.remove(&pair(node, other));
            if connection.is_some_and(|connection| connection.is_up) {
                self.show(other, node, false);
            }
            self.lose(node, other);
            self.lose(other, node);
            self.ways.remove(&(node, other));
            self.ways.remove(&(other, node));
        }
    }

    pub(super) fn room_of(&self, node: u64) -> Arc<Notify> {
        self.stations.get(&node).map(|station| Arc::clone(&station.room)).unwrap_or_default()
    }

    /// The nodes that a node is connected with.
    pub(super) fn seen_by(&self, node: u64) -> Vec<u64> {
        let others = self.stations.keys().filter(|other| **other != node);
        others.filter(|other| self.is_up(node, **other)).copied().collect()
    }

    fn is_up(&self, one: u64, other: u64) -> bool {
        self.connections.get(&pair(one, other)).is_some_and(|connection| connection.is_up)
    }

    /// Takes a message from `bytes`, unless there is no room. What is put for somebody who is not connected is lost.
    pub(super) fn put(&mut self, from: u64, to: u64, lane: u8, bytes: &mut Vec<u8>, now: Duration) -> Put {
        let Some(sender) = self.stations.get(&from).map(|station| station.process) else { return Put::Ended };
        let receiver = self.stations.get(&to).map(|station| station.process);
        let Some(receiver) = receiver.filter(|_| self.is_up(from, to)) else {
            self.trace.note(self.now, Event::Unsent { from: sender });
            return Put::Taken;
        };
        let seed = mixed([self.seed, 2, sender as u64, receiver as u64]);
        let way = self.ways.entry((from, to)).or_insert_with(|| Way::new(seed));
        if !way.has_room_for(bytes.len()) {
            return Put::Full;
        }
        way.put(lane, std::mem::take(bytes).into(), now);
        self.busy.insert((from, to));
        Put::Taken
    }

    /// A sender has waited too long for room.
    pub(super) fn give_up(&mut self, from: u64, to: u64) {
        self.break_up(pair(from, to));
    }

    pub(super) fn has_sent_all(&self, node: u64) -> bool {
        !self.busy.iter().any(|(from, _)| *from == node)
    }

    /// The next that has come for a node. `None` once it has left.
    pub(super) fn take(&mut self, node: u64) -> Option<Incoming> {
        let station = self.stations.get_mut(&node)?;
        if let Some((other, is_there)) = station.shown.pop_front() {
            return Some(Incoming::Shown(other, is_there));
        }
        let Some((from, bytes)) = station.messages.pop_front() else { return Some(Incoming::Nothing) };
        if let Some(way) = self.ways.get_mut(&(from, node)) {
            way.unread = way.unread.saturating_sub(bytes.len());
            if let Some(sender) = self.stations.get(&from) {
                sender.room.notify_waiters();
            }
        }
        Some(Incoming::Message(bytes))
    }

    fn show(&mut self, to: u64, node: u64, is_there: bool) {
        if let Some(station) = self.stations.get_mut(&to) {
            station.shown.push_back((node, is_there));
            station.changed.notify_one();
        }
    }

    /// Drops what is on its way.
    fn lose(&mut self, from: u64, to: u64) {
        self.busy.remove(&(from, to));
        let lost = self.ways.get_mut(&(from, to)).map_or(0, Way::reset);
        if lost > 0 {
            self.trace.note(self.now, Event::Lost { messages: lost });
        }
    }

    fn break_up(&mut self, (one, other): (u64, u64)) {
        let (least, most) = TRIED_AGAIN_AFTER;
        let tried_at = self.now + least + (most - least).mul_f64(self.random.f64());
        let Some(connection) = self.connections.get_mut(&(one, other)) else { return };
        if !std::mem::replace(&mut connection.is_up, false) {
            return;
        }
        (connection.tried_at, connection.silent_since) = (tried_at, None);
        self.is_unsettled = true;
        let processes = [one, other].map(|node| self.stations.get(&node).map(|station| station.process));
        self.trace.note(self.now, Event::Broken { between: processes });
        for (from, to) in [(one, other), (other, one)] {
            self.lose(from, to);
            self.show(from, to, false);
            if let Some(station) = self.stations.get(&from) {
                station.room.notify_waiters();
            }
        }
    }

    pub(super) fn advance(&mut self, now: Duration) {
        self.now = now;
        if self.is_unsettled {
            self.settle();
        }
        for key in self.busy.iter().copied().collect::<Vec<_>>() {
            self.move_on(key);
        }
    }

    /// Breaks connections that were silent for too long, and makes those that can be made.
    fn settle(&mut self) {
        self.is_unsettled = !self.cuts.is_empty() || !self.frozen.is_empty();
        for key in self.connections.keys().copied().collect::<Vec<_>>() {
            let (Some(one), Some(other)) = (self.stations.get(&key.0), self.stations.get(&key.1)) else {
                continue;
            };
            let (one, other) = (one.process, other.process);
            let is_silent = self.cuts.contains_key(&(one, other))
                || self.cuts.contains_key(&(other, one))
                || self.frozen.contains(&one)
                || self.frozen.contains(&other);
            let Some(connection) = self.connections.get_mut(&key) else { continue };
            if !connection.is_up {
                if is_silent || connection.tried_at > self.now {
                    self.is_unsettled = true;
                    continue;
                }
                connection.is_up = true;
                self.trace.note(self.now, Event::Connected { between: [one, other] });
                self.show(key.0, key.1, true);
                self.show(key.1, key.0, true);
            } else if !is_silent {
                connection.silent_since = None;
            } else if self.now - *connection.silent_since.get_or_insert(self.now) >= LEASE {
                self.break_up(key);
            }
        }
    }

    fn move_on(&mut self, key: (u64, u64)) {
        let (from, to) = key;
        let (Some(sender), Some(receiver)) = (self.stations.get(&from), self.stations.get(&to)) else {
            return;
        };
        let direction = (sender.process, receiver.process);
        let Some(way) = self.ways.get_mut(&key) else { return };
        way.send(self.links.get(&direction).unwrap_or(&self.link), self.now);
        if !self.cuts.contains_key(&direction) {
            let Some(station) = self.stations.get_mut(&to) else { return };
            let before = station.messages.len();
            while let Some(bytes) = way.arrived(self.now) {
                self.trace.note(self.now, Event::Arrived { from: direction.0, to: direction.1 });
                station.messages.push_back((from, bytes));
            }
            if station.messages.len() > before {
                station.changed.notify_one();
            }
        }
        if way.is_empty() {
            self.busy.remove(&key);
            if let Some(station) = self.stations.get(&from) {
                station.room.notify_waiters();
            }
        }
    }
}
