//! Presence in a field: the replicas, and the participants that they announce. After faults everybody sees exactly those
//! who are there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aether_core::Aether;
use aether_field::Field;
use aether_field::core::WriterId;
use aether_service::CancellationToken;
use aether_testing::sim::{Sim, explore};
use tokio::time::sleep;
use tower::BoxError;

use crate::traffic::{Disk, SECOND};
use crate::trouble::{self, Faults};

const NAMES: &[&str] = &["one", "two", "three", "four", "five"];
const PEOPLE: usize = 8;
/// How often a process has a sign of life of its participants.
const SIGN_EVERY: Duration = Duration::from_millis(400);
/// How long people come, move and leave.
const MOVE_FOR: Duration = Duration::from_secs(40);
/// Without faults everybody sees a change after the next sign of life and two steps of the network.
const SEEN_WITHIN: Duration = Duration::from_millis(600);
/// With faults a participant whose departure was lost expires after 10 s.
const RIGHT_WITHIN: Duration = Duration::from_secs(13);

/// A participant at a process, with its JSON.
type Place = (&'static str, u64);

#[derive(Default)]
struct Model {
    /// Where people are.
    people: BTreeMap<String, Place>,
    /// The writers of the present lives. A process that is asked to end leaves.
    writers: BTreeMap<&'static str, WriterId>,
    ends: BTreeSet<&'static str>,
    /// The view of each process: people with their JSON, and replicas.
    seen: BTreeMap<&'static str, View>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct View {
    people: BTreeMap<String, u64>,
    replicas: BTreeMap<WriterId, String>,
}

type Shared = Disk<Model>;

async fn member(
    name: &'static str,
    (aether, shutdown): (Aether, CancellationToken),
    shared: Shared,
) -> Result<(), BoxError> {
    {
        let mut model = shared.lock();
        model.seen.remove(name);
        model.writers.remove(name);
    }
    let field = Field::builder("room").replica(name).join(&aether).await?;
    shared.lock().writers.insert(name, field.writer());
    let presence = field.presence();
    let mut announced = BTreeSet::<String>::new();
    loop {
        let people = {
            let mut model = shared.lock();
            if model.ends.remove(name) {
                model.writers.remove(name);
                break;
            }
            let replicas = field.peers().into_iter().map(|peer| (peer.writer, peer.replica)).collect();
            let people = presence.list().into_iter();
            let people = people.map(|(id, json)| (id, str::from_utf8(&json).unwrap().parse().unwrap()));
            model.seen.insert(name, View { people: people.collect(), replicas });
            model.people.clone()
        };
        announced.retain(|id| {
            // Those that have moved have done so without a word.
            let is_gone = !people.contains_key(id);
            if is_gone {
                presence.leave(id);
            }
            !is_gone && people[id].0 == name
        });
        for (id, (_, value)) in people.iter().filter(|(_, (at, _))| *at == name) {
            presence.announce(id, value)?;
            announced.insert(id.clone());
        }
        if shutdown.run_until_cancelled(sleep(SIGN_EVERY / 4)).await.is_none() {
            break;
        }
    }
    field.close().await?;
    Ok(())
}

/// Who is there, and what a process sees that is wrong.
fn wrong(sim: &mut Sim, shared: &Shared) -> Option<String> {
    let there: BTreeSet<&'static str> =
        NAMES.iter().filter(|name| sim.aether(name).is_some()).copied().collect();
    let model = shared.lock();
    let writers = model.writers.iter().filter(|(name, _)| there.contains(**name));
    let all: BTreeMap<WriterId, String> =
        writers.clone().map(|(name, writer)| (*writer, (*name).to_owned())).collect();
    let people =
        model.people.iter().filter(|(_, (at, _))| model.writers.contains_key(at) && there.contains(at));
    let people: BTreeMap<String, u64> = people.map(|(id, (_, value))| (id.clone(), *value)).collect();
    for (name, writer) in writers {
        let mut replicas = all.clone();
        replicas.remove(writer);
        let expected = View { people: people.clone(), replicas };
        let seen = model.seen.get(name).cloned().unwrap_or_default();
        if seen != expected {
            return Some(format!("{name} sees {seen:?} and not {expected:?}"));
        }
    }
    None
}

/// Somebody comes, moves, changes or leaves; or a process ends or starts.
fn change(sim: &mut Sim, random: &mut fastrand::Rng, shared: &Shared, number: u64) {
    let at = NAMES[random.usize(..NAMES.len())];
    if random.u8(..12) == 0 {
        if sim.aether(at).is_some() && shared.lock().writers.contains_key(at) {
            shared.lock().ends.insert(at);
        }
        return;
    }
    NAMES.iter().for_each(|name| sim.restart(name));
    let id = format!("person {}", random.usize(..PEOPLE));
    let mut model = shared.lock();
    match random.u8(..4) {
        0 => drop(model.people.remove(&id)),
        1 => {
            let place = model.people.get(&id).map_or(at, |(at, _)| at);
            model.people.insert(id, (place, number));
        }
        _ => drop(model.people.insert(id, (at, number))),
    }
}

pub(crate) const SCENARIOS: [fn(&mut Sim); 1] = [|sim| scenario(sim, Faults::Some)];

fn begin(sim: &mut Sim) -> Shared {
    let shared = Shared::default();
    for name in NAMES {
        let shared = Arc::clone(&shared);
        sim.process(name, move |aether, shutdown| member(name, (aether, shutdown), Arc::clone(&shared)));
    }
    trouble::skew_clocks(sim, NAMES);
    sim.run_for(2 * SECOND);
    shared
}

fn scenario(sim: &mut Sim, faults: Faults) {
    let shared = begin(sim);
    let mut random = trouble::random(sim, 3);
    if faults == Faults::Some {
        trouble::cause(sim, NAMES, &[], MOVE_FOR);
    }
    let end = sim.now() + MOVE_FOR;
    let mut number = 0;
    while sim.now() < end {
        number += 1;
        change(sim, &mut random, &shared, number);
        if faults == Faults::Some {
            sim.run_for(Duration::from_millis(random.u64(50..2000)).min(end - sim.now()));
            continue;
        }
        sim.run_for(SIGN_EVERY + SEEN_WITHIN);
        if let Some(wrong) = wrong(sim, &shared) {
            panic!("{SEEN_WITHIN:?} after a change: {wrong}");
        }
    }
    shared.lock().ends.clear();
    NAMES.iter().for_each(|name| sim.restart(name));
    sim.run_for(RIGHT_WITHIN);
    // Longer than anybody is there without a sign of life.
    trouble::stays(sim, 11 * SECOND, |sim| wrong(sim, &shared));
}

/// Somebody moves between two processes that do not reach each other: the first one goes on announcing what it knows.
fn unseen_move(sim: &mut Sim) {
    let shared = begin(sim);
    let mut random = trouble::random(sim, 3);
    let from = random.usize(..NAMES.len());
    let [from, to] = [NAMES[from], NAMES[(from + random.usize(1..NAMES.len())) % NAMES.len()]];
    shared.lock().people.insert("person".to_owned(), (from, 1));
    sim.run_for(Duration::from_millis(random.u64(1000..4000)));
    sim.cut(&[from], &[to]);
    sim.run_for(Duration::from_millis(random.u64(0..5000)));
    shared.lock().people.insert("person".to_owned(), (to, 2));
    sim.run_for(SIGN_EVERY + SEEN_WITHIN);
    trouble::stays(sim, 12 * SECOND, |_| {
        let model = shared.lock();
        let sees = |name: &str| model.seen[name].people.get("person").copied();
        let wrong = NAMES.iter().find(|name| **name != from && sees(name) != Some(2));
        wrong.map(|name| format!("{name} sees the person at {from}, not at {to}: {:?}", sees(name)))
    });
    sim.join(&[from], &[to]);
    sim.run_for(RIGHT_WITHIN);
    trouble::stays(sim, SECOND, |sim| wrong(sim, &shared));
}

#[test]
fn nobody_goes_back_to_where_they_were() {
    explore(0..5, unseen_move);
}

#[test]
fn everybody_sees_a_change_at_once_without_faults() {
    explore(0..3, |sim| scenario(sim, Faults::None));
}

#[test]
fn everybody_sees_exactly_those_who_are_there_after_faults() {
    explore(0..3, |sim| scenario(sim, Faults::Some));
}
