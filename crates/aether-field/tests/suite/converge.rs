//! Histories of five replicas with lost, duplicated and reordered changes, wrong clocks, reconciliations that break off,
//! crashes and collected removals: all replicas converge, and nothing removed comes back.
//!
//! `PROPTEST_CASES=100000 cargo test --release -p aether-bus-field --test suite converge` tries many more histories. A
//! failing one is shrunk, and stored beside this file.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aether_field::core::{Applied, Change, Initiator, Key, Limits, Responder, Stamp, State, WriterId};
use bytes::Bytes;
use proptest::prelude::*;

const REPLICAS: usize = 5;
const MINUTE: u64 = 60_000_000;
/// When the histories begin, in microseconds since 1970.
const START: u64 = 1_700_000_000_000_000;

#[derive(Debug, Clone)]
enum Op {
    Set {
        at: usize,
        key: u8,
        value: u8,
    },
    Remove {
        at: usize,
        key: u8,
    },
    Add {
        at: usize,
        key: u8,
        by: i8,
    },
    Insert {
        at: usize,
        key: u8,
        member: u8,
    },
    Discard {
        at: usize,
        key: u8,
        member: u8,
    },
    /// A change on the way arrives, and may arrive again later.
    Deliver {
        pick: usize,
        again: bool,
    },
    Lose {
        pick: usize,
    },
    /// A reconciliation that breaks off after this number of messages.
    Reconcile {
        a: usize,
        b: usize,
        messages: usize,
    },
    Store {
        at: usize,
    },
    Crash {
        at: usize,
    },
    Collect {
        at: usize,
    },
    Pass {
        seconds: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let at = || 0..REPLICAS;
    let pick = || 0..usize::MAX;
    let messages = prop_oneof![2 => Just(usize::MAX), 1 => 0..8_usize];
    prop_oneof![
        5 => (at(), 0..4_u8, any::<u8>()).prop_map(|(at, key, value)| Op::Set { at, key, value }),
        3 => (at(), 0..4_u8).prop_map(|(at, key)| Op::Remove { at, key }),
        3 => (at(), 0..2_u8, any::<i8>()).prop_map(|(at, key, by)| Op::Add { at, key, by }),
        3 => (at(), 0..2_u8, 0..3_u8).prop_map(|(at, key, member)| Op::Insert { at, key, member }),
        2 => (at(), 0..2_u8, 0..3_u8).prop_map(|(at, key, member)| Op::Discard { at, key, member }),
        12 => (pick(), any::<bool>()).prop_map(|(pick, again)| Op::Deliver { pick, again }),
        8 => pick().prop_map(|pick| Op::Lose { pick }),
        3 => (at(), at(), messages).prop_map(|(a, b, messages)| Op::Reconcile { a, b, messages }),
        1 => at().prop_map(|at| Op::Store { at }),
        1 => at().prop_map(|at| Op::Crash { at }),
        2 => at().prop_map(|at| Op::Collect { at }),
        2 => (0..1200_u64).prop_map(|seconds| Op::Pass { seconds }),
    ]
}

/// The faults that a history has in addition to faults of the network and the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Faults {
    /// A replica that crashes has stored everything.
    Restarts,
    /// The same, and removals are collected after half an hour.
    Collection,
    /// The same, and a replica that crashes goes back to what it had stored some time before.
    LostTails,
}

struct Stored {
    changes: Vec<Change>,
    collected: Stamp,
    last: Stamp,
}

struct World {
    faults: Faults,
    states: Vec<State>,
    stored: Vec<Stored>,
    skews: Vec<i64>,
    now: u64,
    next_writer: u64,
    on_the_way: Vec<(usize, Change)>,
    /// Everything that was ever written.
    written: Vec<Change>,
    added: BTreeMap<String, i128>,
}

impl World {
    fn new(faults: Faults, skews: Vec<i64>) -> Self {
        let horizon = if faults == Faults::Restarts { Duration::MAX } else { Duration::from_secs(30 * 60) };
        let mut limits = Limits::default();
        (limits.horizon, limits.max_drift) = (horizon, Duration::from_secs(30 * 60));
        let states: Vec<_> = (0..REPLICAS).map(|at| State::new(WriterId(at as u64), limits)).collect();
        Self {
            faults,
            stored: states.iter().map(store).collect(),
            states,
            skews,
            now: START,
            next_writer: 100,
            on_the_way: Vec::new(),
            written: Vec::new(),
            added: BTreeMap::new(),
        }
    }

    fn wall(&self, at: usize) -> u64 {
        self.now.strict_add_signed(self.skews[at])
    }

    fn send(&mut self, from: usize, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            self.written.push(change.clone());
            self.on_the_way.extend((0..REPLICAS).filter(|&to| to != from).map(|to| (to, change.clone())));
        }
        if self.faults != Faults::LostTails {
            self.stored[from] = store(&self.states[from]);
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Set { at, key, value } => {
                let (wall, value) = (self.wall(at), Bytes::copy_from_slice(&[value]));
                let change = self.states[at].set(&format!("register/{key}"), value, wall).unwrap();
                self.send(at, [change]);
            }
            Op::Remove { at, key } => {
                let wall = self.wall(at);
                let change = self.states[at].remove(&format!("register/{key}"), wall).unwrap();
                self.send(at, change);
            }
            Op::Add { at, key, by } => {
                let (wall, name) = (self.wall(at), format!("counter/{key}"));
                let change = self.states[at].add(&name, by.into(), wall).unwrap();
                *self.added.entry(name).or_default() += i128::from(by);
                self.send(at, [change]);
            }
            Op::Insert { at, key, member } => {
                let (wall, member) = (self.wall(at), Bytes::copy_from_slice(&[member]));
                let changes = self.states[at].insert(&format!("set/{key}"), member, wall).unwrap();
                self.send(at, changes);
            }
            Op::Discard { at, key, member } => {
                let (wall, member) = (self.wall(at), Bytes::copy_from_slice(&[member]));
                let changes = self.states[at].discard(&format!("set/{key}"), &member, wall).unwrap();
                self.send(at, changes);
            }
            Op::Deliver { pick, again } if !self.on_the_way.is_empty() => {
                let pick = pick % self.on_the_way.len();
                let (to, change) = match again {
                    true => self.on_the_way[pick].clone(),
                    false => self.on_the_way.swap_remove(pick),
                };
                let wall = self.wall(to);
                let _ = self.states[to].apply(change, wall).unwrap();
            }
            Op::Lose { pick } if !self.on_the_way.is_empty() => {
                let pick = pick % self.on_the_way.len();
                self.on_the_way.swap_remove(pick);
            }
            Op::Deliver { .. } | Op::Lose { .. } => {}
            Op::Reconcile { a, b, messages } => {
                self.reconcile(a, b, messages);
            }
            Op::Store { at } => self.stored[at] = store(&self.states[at]),
            Op::Crash { at } => {
                if self.faults != Faults::LostTails {
                    self.stored[at] = store(&self.states[at]);
                }
                let Stored { changes, collected, last } = &self.stored[at];
                let (writer, limits) = (WriterId(self.next_writer), *self.states[at].limits());
                self.next_writer += 1;
                self.states[at] = State::restore(writer, limits, changes.clone(), *collected, *last).unwrap();
            }
            Op::Collect { at } => {
                let wall = self.wall(at);
                if self.faults != Faults::Restarts {
                    self.states[at].collect(wall);
                }
            }
            Op::Pass { seconds } => self.now += seconds * 1_000_000,
        }
    }

    /// Reconciles two replicas. Returns whether either changed.
    fn reconcile(&mut self, a: usize, b: usize, messages: usize) -> bool {
        if a == b {
            return false;
        }
        let (wall_a, wall_b) = (self.wall(a), self.wall(b));
        let [a, b] = self.states.get_disjoint_mut([a, b]).unwrap();
        let before = (a.digest(), b.digest(), a.collected(), b.collected());
        let (mut initiator, first) = Initiator::start(a).unwrap();
        let mut responder = Responder::default();
        let mut to_responder = vec![first];
        let mut left = messages;
        'exchange: while !to_responder.is_empty() {
            for message in std::mem::take(&mut to_responder) {
                let Some(next) = left.checked_sub(1) else { break 'exchange };
                left = next;
                for answer in responder.handle(b, message, wall_b).unwrap().send {
                    to_responder.extend(initiator.handle(a, answer, wall_a).unwrap().send);
                }
            }
        }
        before != (a.digest(), b.digest(), a.collected(), b.collected())
    }

    /// Everybody talks to everybody until nothing changes.
    fn heal(&mut self) {
        for _ in 0..10 {
            let pairs = (0..REPLICAS).flat_map(|a| (0..a).map(move |b| (a, b)));
            let changed: Vec<_> = pairs
                .collect::<Vec<_>>()
                .into_iter()
                .filter(|&(a, b)| self.reconcile(a, b, usize::MAX))
                .collect();
            if changed.is_empty() {
                return;
            }
        }
        panic!("the replicas do not come to rest");
    }

    fn check(&self) {
        let first = &self.states[0];
        for state in &self.states {
            assert_eq!(state.digest(), first.digest());
            assert!(state.entries().eq(first.entries()));
        }
        if self.faults == Faults::LostTails {
            return;
        }
        self.check_registers(first);
        self.check_sets(first);
        for (name, sum) in &self.added {
            assert_eq!(first.count(name), *sum, "{name}");
        }
    }

    fn check_registers(&self, state: &State) {
        let mut newest: BTreeMap<&str, &Change> = BTreeMap::new();
        for change in self.written.iter().filter(|change| matches!(change.key, Key::Register(_))) {
            let newest = newest.entry(change.key.name()).or_insert(change);
            if change.entry.stamp > newest.entry.stamp {
                *newest = change;
            }
        }
        for (name, change) in newest {
            let value = state.get(name);
            // Beyond the horizon a late value may be gone, but never an older one be there.
            let is_gone = self.faults == Faults::Collection && value.is_none();
            assert!(
                is_gone || value == change.entry.value.as_ref(),
                "{name}: {value:?} instead of {change:?}"
            );
        }
    }

    fn check_sets(&self, state: &State) {
        let removed: BTreeSet<_> = self
            .written
            .iter()
            .filter(|change| change.entry.is_removed())
            .map(|change| &change.key)
            .collect();
        let additions = self.written.iter().filter(|change| matches!(change.key, Key::Member(..)));
        let mut members = BTreeSet::new();
        for change in additions.filter(|change| !removed.contains(&change.key)) {
            let Key::Member(name, member, _) = &change.key else { continue };
            members.insert((name.as_str(), member));
        }
        for name in ["set/0", "set/1"] {
            let found: BTreeSet<_> = state.members(name).map(|member| (name, member)).collect();
            let expected: BTreeSet<_> = members.iter().copied().filter(|(set, _)| *set == name).collect();
            match self.faults {
                Faults::Collection => assert!(found.is_subset(&expected), "{found:?} {expected:?}"),
                _ => assert_eq!(found, expected),
            }
        }
    }
}

fn store(state: &State) -> Stored {
    let changes = state.entries().map(|(key, entry)| Change { key: key.clone(), entry: entry.clone() });
    Stored { changes: changes.collect(), collected: state.collected(), last: state.last_stamp() }
}

fn converges(faults: Faults, skews: Vec<i64>, history: Vec<Op>) {
    let mut world = World::new(faults, skews);
    for op in history {
        world.run(op);
    }
    world.heal();
    world.check();
}

/// Clocks that are wrong by up to ten minutes.
fn skews() -> impl Strategy<Value = Vec<i64>> {
    let ten = 10 * i64::try_from(MINUTE).unwrap();
    proptest::collection::vec(-ten..=ten, REPLICAS)
}

fn history() -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec(op(), 0..200)
}

proptest! {
    #[test]
    fn replicas_that_restart_converge_and_lose_nothing(skews in skews(), history in history()) {
        converges(Faults::Restarts, skews, history);
    }

    #[test]
    fn nothing_removed_comes_back_after_its_mark_is_collected(skews in skews(), history in history()) {
        converges(Faults::Collection, skews, history);
    }

    #[test]
    fn replicas_that_lose_their_last_changes_converge(skews in skews(), history in history()) {
        converges(Faults::LostTails, skews, history);
    }
}

#[test]
fn a_change_from_the_future_is_refused_until_its_time_has_come() {
    let limits = Limits::default();
    let (mut a, mut b) = (State::new(WriterId(1), limits), State::new(WriterId(2), limits));
    let change = a.set("k", "v".into(), START + 60 * MINUTE).unwrap();
    let refusal = b.apply(change.clone(), START).unwrap_err();
    assert!(refusal.to_string().contains("ahead of this replica's clock; 900s are allowed"), "{refusal}");
    assert_eq!((b.get("k"), b.digest().entries), (None, 0));
    assert_eq!(b.apply(change, START + 50 * MINUTE), Ok(Applied::Changed { old: None }));
}
