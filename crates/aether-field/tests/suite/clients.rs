//! Histories of clients whose clocks are off and step, at replicas whose clocks are off, with messages that are repeated and
//! come in any order: nothing that was acknowledged is lost, and every writer that loses hears of it.
//!
//! `PROPTEST_CASES=100000 cargo test --release -p aether-bus-field --test suite clients` tries many more histories.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aether_field::core::{
    Change, ClientWrite, Initiator, Key, Limits, Operation, Responder, Seen, Stamp, State, Submitted,
    WriterId,
};
use bytes::Bytes;
use proptest::prelude::*;

const REPLICAS: usize = 3;
const CLIENTS: usize = 4;
const MINUTE: i64 = 60_000_000;
/// When the histories begin, in microseconds since 1970.
const START: u64 = 1_700_000_000_000_000;

#[derive(Debug, Clone)]
enum Op {
    Set {
        by: usize,
        key: u8,
    },
    Delete {
        by: usize,
        key: u8,
    },
    Count {
        by: usize,
        key: u8,
        up: u8,
        down: u8,
    },
    Insert {
        by: usize,
        key: u8,
    },
    Discard {
        by: usize,
        key: u8,
        says: bool,
    },
    /// A write that was sent goes to a replica once more.
    Repeat {
        by: usize,
        pick: usize,
        to: usize,
    },
    /// A client sees what its replica has.
    Look {
        by: usize,
    },
    /// The clock of a client steps.
    Step {
        by: usize,
        micros: i64,
    },
    Deliver {
        pick: usize,
        again: bool,
    },
    Reconcile {
        a: usize,
        b: usize,
    },
    Pass {
        micros: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let by = || 0..CLIENTS;
    let pick = || 0..usize::MAX;
    let step = prop_oneof![-100_000..100_000_i64, -2 * MINUTE..2 * MINUTE];
    let pass = prop_oneof![0..10_u64, 0..100_000_u64, 0..60_000_000_u64];
    prop_oneof![
        6 => (by(), 0..2_u8).prop_map(|(by, key)| Op::Set { by, key }),
        3 => (by(), 0..2_u8).prop_map(|(by, key)| Op::Delete { by, key }),
        3 => (by(), 0..2_u8, any::<u8>(), any::<u8>()).prop_map(|(by, key, up, down)| Op::Count { by, key, up, down }),
        3 => (by(), 0..2_u8).prop_map(|(by, key)| Op::Insert { by, key }),
        3 => (by(), 0..2_u8, any::<bool>()).prop_map(|(by, key, says)| Op::Discard { by, key, says }),
        8 => (by(), pick(), 0..REPLICAS).prop_map(|(by, pick, to)| Op::Repeat { by, pick, to }),
        4 => by().prop_map(|by| Op::Look { by }),
        3 => (by(), step).prop_map(|(by, micros)| Op::Step { by, micros }),
        12 => (pick(), any::<bool>()).prop_map(|(pick, again)| Op::Deliver { pick, again }),
        3 => (0..REPLICAS, 0..REPLICAS).prop_map(|(a, b)| Op::Reconcile { a, b }),
        3 => pass.prop_map(|micros| Op::Pass { micros }),
    ]
}

/// A write that was acknowledged.
#[derive(Debug)]
struct Acknowledged {
    write: ClientWrite,
    /// The smallest stamp that it had anywhere.
    stamp: Stamp,
}

#[derive(Debug, Default)]
struct Client {
    offset: i64,
    number: u32,
    registers: BTreeMap<String, Stamp>,
    members: BTreeMap<String, Stamp>,
    sums: BTreeMap<String, (u64, u64)>,
    sent: Vec<Acknowledged>,
}

struct World {
    states: Vec<State>,
    skews: Vec<i64>,
    now: u64,
    clients: Vec<Client>,
    on_the_way: Vec<(usize, Change)>,
    /// The writers and the numbers of the writes that their clients were told have lost.
    told: BTreeSet<(WriterId, u32)>,
}

const MEMBER: Bytes = Bytes::from_static(b"member");

fn writer(by: usize) -> WriterId {
    WriterId(1000 + by as u64)
}

/// The replica to which a client is connected.
const fn home(by: usize) -> usize {
    by % REPLICAS
}

impl World {
    fn new(skews: Vec<i64>, offsets: Vec<i64>) -> Self {
        let mut limits = Limits::default();
        (limits.horizon, limits.max_drift) = (Duration::MAX, Duration::from_secs(30 * 60));
        Self {
            states: (0..REPLICAS).map(|at| State::new(WriterId(at as u64), limits)).collect(),
            skews,
            now: START,
            clients: offsets.into_iter().map(|offset| Client { offset, ..Client::default() }).collect(),
            on_the_way: Vec::new(),
            told: BTreeSet::new(),
        }
    }

    fn wall(&self, at: usize) -> u64 {
        self.now.strict_add_signed(self.skews[at])
    }

    fn write(&mut self, by: usize, seen: Seen, operation: Operation) {
        // A gateway takes no write that is more than a second ahead of its clock.
        let latest = self.wall(home(by)) + 1_000_000;
        let client = &mut self.clients[by];
        client.number += 1;
        let micros = self.now.strict_add_signed(client.offset).min(latest);
        let made = Stamp { micros, logical: client.number, writer: writer(by) };
        let write = ClientWrite { made, seen, operation };
        let stamp = self.submit(home(by), write.clone());
        self.clients[by].sent.push(Acknowledged { write, stamp });
    }

    /// Submits a write. Returns its stamp there.
    fn submit(&mut self, to: usize, write: ClientWrite) -> Stamp {
        let (wall, made) = (self.wall(to), write.made);
        let (submitted, written) = self.states[to].submit(write, wall).unwrap();
        for (change, old) in &written {
            self.replaced(to, change, old.as_ref());
        }
        let others = (0..REPLICAS).filter(|&other| other != to);
        let all = others.flat_map(|other| written.iter().map(move |(change, _)| (other, change.clone())));
        self.on_the_way.extend(all);
        match submitted {
            Submitted::Applied { stamp, .. } => stamp,
            Submitted::Lost { stamp, .. } => {
                self.told.insert((made.writer, made.logical));
                stamp
            }
        }
    }

    /// The loser hears of it where it is connected.
    fn replaced(&mut self, at: usize, change: &Change, old: Option<&aether_field::core::Entry>) {
        if let (Key::Register(_), Some(old)) = (&change.key, old)
            && change.entry.supersedes(old)
            && (0..CLIENTS).any(|by| writer(by) == old.stamp.writer && home(by) == at)
        {
            self.told.insert((old.stamp.writer, old.stamp.logical));
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Set { by, key } => {
                let key = format!("register/{key}");
                let value = Bytes::from(format!("{by}.{}", self.clients[by].number));
                self.write(by, self.seen(by, &key), Operation::Set { key, value });
            }
            Op::Delete { by, key } => {
                let key = format!("register/{key}");
                self.write(by, self.seen(by, &key), Operation::Delete { key });
            }
            Op::Count { by, key, up, down } => {
                let key = format!("counter/{key}");
                let sums = self.clients[by].sums.entry(key.clone()).or_default();
                *sums = (sums.0 + u64::from(up), sums.1 + u64::from(down));
                let (up, down) = *sums;
                self.write(by, Seen::Unsaid, Operation::Count { key, up, down });
            }
            Op::Insert { by, key } => {
                self.write(by, Seen::Unsaid, Operation::Insert { key: format!("set/{key}"), member: MEMBER });
            }
            Op::Discard { by, key, says } => {
                let key = format!("set/{key}");
                let seen = self.clients[by].members.get(&key).filter(|_| says);
                let seen = seen.map_or(Seen::Unsaid, |&tag| Seen::Version(tag));
                self.write(by, seen, Operation::Discard { key, member: MEMBER });
            }
            Op::Repeat { by, pick, to } => {
                if let Some(pick) = pick.checked_rem(self.clients[by].sent.len()) {
                    let stamp = self.submit(to, self.clients[by].sent[pick].write.clone());
                    let sent = &mut self.clients[by].sent[pick];
                    sent.stamp = sent.stamp.min(stamp);
                }
            }
            Op::Look { by } => {
                let state = &self.states[home(by)];
                let client = &mut self.clients[by];
                for number in 0..2 {
                    let (register, set) = (format!("register/{number}"), format!("set/{number}"));
                    if let Some(entry) = state.entry(&Key::Register(register.as_str().into())) {
                        client.registers.insert(register, entry.stamp);
                    }
                    client.members.extend(state.addition(&set, &MEMBER).map(|tag| (set, tag)));
                }
            }
            Op::Step { by, micros } => self.clients[by].offset += micros,
            Op::Deliver { pick, again } => {
                let Some(pick) = pick.checked_rem(self.on_the_way.len()) else { return };
                let (to, change) = match again {
                    true => self.on_the_way[pick].clone(),
                    false => self.on_the_way.swap_remove(pick),
                };
                let wall = self.wall(to);
                if let aether_field::core::Applied::Changed { old } =
                    self.states[to].apply(change.clone(), wall).unwrap()
                {
                    self.replaced(to, &change, old.as_ref());
                }
            }
            Op::Reconcile { a, b } => drop(self.reconcile(a, b)),
            Op::Pass { micros } => self.now += micros,
        }
    }

    fn seen(&self, by: usize, key: &str) -> Seen {
        self.clients[by].registers.get(key).map_or(Seen::Nothing, |&version| Seen::Version(version))
    }

    /// Reconciles two replicas. Returns whether either changed.
    fn reconcile(&mut self, at_a: usize, at_b: usize) -> bool {
        if at_a == at_b {
            return false;
        }
        let (wall_a, wall_b) = (self.wall(at_a), self.wall(at_b));
        let [a, b] = self.states.get_disjoint_mut([at_a, at_b]).unwrap();
        let before = (a.digest(), b.digest());
        let (mut initiator, first) = Initiator::start(a).unwrap();
        let mut responder = Responder::default();
        let (mut changed, mut to_responder) = (Vec::new(), vec![first]);
        while !to_responder.is_empty() {
            for message in std::mem::take(&mut to_responder) {
                let step = responder.handle(b, message, wall_b).unwrap();
                changed.extend(step.changed.into_iter().map(|changed| (at_b, changed)));
                for answer in step.send {
                    let step = initiator.handle(a, answer, wall_a).unwrap();
                    changed.extend(step.changed.into_iter().map(|changed| (at_a, changed)));
                    to_responder.extend(step.send);
                }
            }
        }
        let is_changed = before != (a.digest(), b.digest());
        changed.iter().for_each(|(at, (change, old))| self.replaced(*at, change, old.as_ref()));
        is_changed
    }

    fn heal(&mut self) {
        for _ in 0..10 {
            let pairs: Vec<_> = (0..REPLICAS).flat_map(|a| (0..a).map(move |b| (a, b))).collect();
            let changed: Vec<_> = pairs.into_iter().filter(|&(a, b)| self.reconcile(a, b)).collect();
            if changed.is_empty() {
                return;
            }
        }
        panic!("the replicas do not come to rest");
    }

    fn check(&self) {
        let first = &self.states[0];
        assert!(self.states.iter().all(|state| state.digest() == first.digest()));
        for (by, client) in self.clients.iter().enumerate() {
            for sent in &client.sent {
                match &sent.write.operation {
                    Operation::Set { key, .. } | Operation::Delete { key } => {
                        self.check_register(by, key, sent);
                    }
                    Operation::Insert { key, .. } => self.check_insert(key, sent),
                    Operation::Discard { key, .. } => self.check_discard(by, key, sent),
                    Operation::Count { .. } => {}
                }
            }
        }
        for number in 0..2 {
            let name = format!("counter/{number}");
            let sums = self.clients.iter().filter_map(|client| client.sums.get(&name));
            let sum: i128 = sums.map(|(up, down)| i128::from(*up) - i128::from(*down)).sum();
            assert_eq!(first.count(&name), sum, "{name}");
        }
    }

    fn all_sent(&self) -> impl Iterator<Item = &Acknowledged> {
        self.clients.iter().flat_map(|client| &client.sent)
    }

    /// It is the present value, or its client knows why not.
    fn check_register(&self, by: usize, name: &str, sent: &Acknowledged) {
        let made = sent.write.made;
        let of_register = |write: &ClientWrite| match &write.operation {
            Operation::Set { key, .. } | Operation::Delete { key } => key == name,
            _ => false,
        };
        let stands = self.states[0].entry(&Key::Register(name.into())).map(|entry| entry.stamp);
        let is_standing =
            stands.is_some_and(|stamp| (stamp.writer, stamp.logical) == (made.writer, made.logical));
        let is_told = self.told.contains(&(made.writer, made.logical));
        let is_followed = self.clients[by]
            .sent
            .iter()
            .any(|other| of_register(&other.write) && other.write.made.logical > made.logical);
        if let Some(stands) = stands.filter(|stands| stands.writer == made.writer) {
            assert!(
                stands.logical >= made.logical,
                "the present {stands:?} has replaced the later {sent:?} of its client"
            );
        }
        let is_seen = self.all_sent().any(|other| {
            of_register(&other.write)
                && other.write.made.writer != made.writer
                && matches!(other.write.seen, Seen::Version(seen) if seen >= sent.stamp)
        });
        assert!(
            is_standing || is_told || is_followed || is_seen,
            "{sent:?} is lost without a word; the present value is {stands:?}"
        );
    }

    /// The addition is present, or somebody who had seen it removed it.
    fn check_insert(&self, set: &str, sent: &Acknowledged) {
        let tag = sent.write.made;
        let is_removed = self.all_sent().any(|other| {
            let made = other.write.made;
            matches!(&other.write.operation, Operation::Discard { key, .. } if key == set)
                && match other.write.seen {
                    _ if made.writer == tag.writer => made.logical > tag.logical,
                    Seen::Version(seen) => seen >= tag,
                    _ => made > tag,
                }
        });
        let is_member = self.states[0].is_member(set, &MEMBER);
        assert!(is_member || is_removed, "{sent:?} is gone, and nobody removed it");
    }

    /// A member that the client had seen is gone, or the client knows.
    fn check_discard(&self, by: usize, set: &str, sent: &Acknowledged) {
        let made = sent.write.made;
        let stands = |tag: Stamp| {
            let entry = self.states[0].entry(&Key::Member(set.into(), MEMBER, tag));
            entry.is_some_and(|entry| !entry.is_removed())
        };
        let own = self.clients[by].sent.iter().filter(|other| {
            other.write.made.logical < made.logical
                && matches!(&other.write.operation, Operation::Insert { key, .. } if key == set)
        });
        let own: Vec<_> = own.map(|other| other.write.made).filter(|&tag| stands(tag)).collect();
        assert!(own.is_empty(), "{sent:?} left the client's own {own:?}");
        let seen = if let Seen::Version(tag) = sent.write.seen { Some(tag) } else { None };
        let is_told = self.told.contains(&(made.writer, made.logical));
        assert!(is_told || !seen.is_some_and(stands), "{sent:?} left {seen:?}");
    }
}

fn offsets(number: usize) -> impl Strategy<Value = Vec<i64>> {
    let offset = prop_oneof![-100_000..100_000_i64, -10 * MINUTE..10 * MINUTE];
    proptest::collection::vec(offset, number)
}

proptest! {
    #[test]
    fn nothing_acknowledged_is_lost_and_every_loser_hears_of_it(
        skews in offsets(REPLICAS),
        clocks in offsets(CLIENTS),
        history in proptest::collection::vec(op(), 0..150),
    ) {
        let mut world = World::new(skews, clocks);
        for op in history {
            world.run(op);
        }
        world.heal();
        world.check();
    }
}

fn write(made: Stamp, seen: Seen, operation: Operation) -> ClientWrite {
    ClientWrite { made, seen, operation }
}

#[test]
fn of_two_writes_that_have_seen_one_fast_version_the_second_stands() {
    let mut state = State::new(WriterId(1), Limits::default());
    let fast = state.set("k", "fast".into(), START + 20_000_000).unwrap().entry.stamp;
    for number in 1..=200 {
        let made = Stamp { micros: START + u64::from(number), logical: number, writer: writer(0) };
        let operation = Operation::Set { key: "k".to_owned(), value: number.to_string().into() };
        let (submitted, _) = state.submit(write(made, Seen::Version(fast), operation), START + 1000).unwrap();
        assert!(matches!(submitted, Submitted::Applied { .. }), "{submitted:?}");
        assert_eq!(state.get("k"), Some(&Bytes::from(number.to_string())));
    }
}

#[test]
fn a_greater_sum_counts_although_its_time_is_older() {
    let (mut a, mut b) =
        (State::new(WriterId(1), Limits::default()), State::new(WriterId(2), Limits::default()));
    let part = |at: u64, up| {
        Change::counted("n", up, 0, Stamp { micros: START + at, logical: 0, writer: writer(0) })
    };
    for change in [part(50, 5), part(0, 10)] {
        let _ = a.apply(change, START + 100).unwrap();
    }
    for change in [part(0, 10), part(50, 5), part(0, 10)] {
        let _ = b.apply(change, START + 100).unwrap();
    }
    assert_eq!((a.count("n"), b.count("n")), (10, 10));
    assert_eq!(a.digest(), b.digest());
}
