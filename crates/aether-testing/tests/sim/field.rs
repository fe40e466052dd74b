//! A field of seven replicas in seven processes, in memory: it converges, counters add up, nothing removed comes back,
//! and nothing that others have acknowledged is lost while one of them lives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aether_core::Aether;
use aether_field::core::{Limits, WriterId};
use aether_field::{Field, UpdateKind, Watch};
use aether_service::CancellationToken;
use aether_testing::sim::{Sim, explore};
use bytes::Bytes;
use tokio::time::{sleep, timeout};
use tower::BoxError;

use crate::traffic::{Disk, SECOND, burst, key, pause};
use crate::trouble::{self, Faults};

const NAMES: &[&str] = &["one", "two", "three", "four", "five", "six", "seven"];
/// How long processes write.
const WRITE_FOR: Duration = Duration::from_secs(25);
/// How long after the last fault all have the same state. A broken connection is tried again within a second, beats come
/// within 1.25 s, and a reconciliation that was broken off is tried again after 3.5 s.
const CONVERGES_WITHIN: Duration = Duration::from_secs(12);

type Writes = BTreeMap<(String, WriterId), (u64, u64)>;

/// Something that was agreed with all others.
struct Agreed {
    writer: WriterId,
    /// The lives that had begun when it was asked.
    lives: u64,
    counted: Writes,
    /// Names that were set, and names and members that were removed.
    set: BTreeSet<String>,
    removed: BTreeSet<String>,
    /// The writers that had it, once that is known.
    holders: Vec<WriterId>,
}

/// The deeds of the processes, and the values that they saw.
#[derive(Default)]
struct Model {
    fields: BTreeMap<&'static str, Field>,
    lives: u64,
    is_over: bool,
    /// The processes that do not write for now.
    rests: BTreeSet<&'static str>,
    /// For each write of a shared register, the write that it replaced.
    replaced: Vec<Option<usize>>,
    /// The sum that each life has added to each counter, and the one that it has subtracted.
    counted: Writes,
    /// Names that are set once, with their writers.
    set: BTreeMap<String, WriterId>,
    /// Those that were removed by somebody, with the writers that did it.
    removed: BTreeMap<String, BTreeSet<WriterId>>,
    /// The same of members that are added once.
    inserted: BTreeMap<String, WriterId>,
    discarded: BTreeMap<String, BTreeSet<WriterId>>,
    agreed: Vec<Agreed>,
    problems: Vec<String>,
}

type Shared = Disk<Model>;

impl Model {
    /// Whether a write of a shared register was seen, directly or not, by the writer of another one.
    fn precedes(&self, one: usize, other: usize) -> bool {
        let mut replaced = self.replaced[other];
        while let Some(write) = replaced {
            if write == one {
                return true;
            }
            // A write replaces only earlier ones.
            replaced = self.replaced[write].filter(|_| write > one);
        }
        false
    }
}

/// Checks that what one replica shows never goes back.
async fn follow(mut watch: Watch, name: &'static str, shared: Shared) {
    let (mut shown, mut gone) = (BTreeMap::new(), BTreeSet::new());
    let mut sums = BTreeMap::new();
    while let Some(update) = watch.next().await {
        let key = update.name().to_owned();
        let mut model = shared.lock();
        let problem = match update.kind() {
            UpdateKind::Register { new: None, .. } => {
                gone.insert(key);
                None
            }
            UpdateKind::Register { .. } if key.starts_with("once/") => {
                gone.contains(&key).then(|| format!("{key} was removed and came back"))
            }
            UpdateKind::Register { .. } => {
                let write = update.value::<usize>().unwrap().unwrap();
                let was_gone = gone.remove(&key);
                let last = shown.insert(key.clone(), write);
                let is_back =
                    last.is_some_and(|last| model.precedes(write, last) || (was_gone && write == last));
                is_back.then(|| format!("{key} went back from write {last:?} to {write}"))
            }
            UpdateKind::Counter { sum } if key.starts_with("sold/") => {
                let last = sums.insert(key.clone(), *sum).unwrap_or(0);
                (*sum < last).then(|| format!("{key} fell from {last} to {sum}"))
            }
            UpdateKind::Member { member, is_member } if key == "once" => {
                let member = String::from_utf8_lossy(member).into_owned();
                match is_member {
                    true => gone.contains(&member).then(|| format!("{member} was discarded and came back")),
                    false => {
                        gone.insert(member);
                        None
                    }
                }
            }
            _ => None,
        };
        model.problems.extend(problem.map(|problem| format!("at {name}: {problem}")));
    }
}

/// One write.
fn write(field: &Field, shared: &Shared) -> Result<(), BoxError> {
    let writer = field.writer();
    let mut guard = shared.lock();
    let model = &mut *guard;
    match fastrand::u32(..20) {
        0..6 => field.update(&format!("shared/{}", key(12)), |old: Option<usize>| {
            model.replaced.push(old);
            Some(model.replaced.len() - 1)
        })?,
        6 => drop(field.remove(&format!("shared/{}", key(12)))?),
        kind @ 7..11 => {
            let by = fastrand::u32(1..5);
            let (kind, is_down) = if kind < 9 { ("sold", false) } else { ("level", fastrand::bool()) };
            let name = format!("{kind}/{}", key(4));
            field.add(&name, if is_down { -i64::from(by) } else { i64::from(by) })?;
            let (up, down) = model.counted.entry((name, writer)).or_default();
            *(if is_down { down } else { up }) += u64::from(by);
        }
        11..14 => {
            let name = format!("once/{writer}/{}", model.set.len());
            field.set(&name, &name)?;
            model.set.insert(name, writer);
        }
        14..16 => {
            let names = field.list("once/*");
            if !names.is_empty() {
                let name = names[fastrand::usize(..names.len())].0.clone();
                assert!(field.remove(&name)?);
                model.removed.entry(name).or_default().insert(writer);
            }
        }
        16 => {
            let member = format!("{writer}/{}", model.inserted.len());
            field.insert("once", member.clone())?;
            model.inserted.insert(member, writer);
        }
        17 => {
            let members = field.members("once");
            if !members.is_empty() {
                let member = members[fastrand::usize(..members.len())].clone();
                assert!(field.discard("once", member.clone())?);
                let member = String::from_utf8_lossy(&member).into_owned();
                model.discarded.entry(member).or_default().insert(writer);
            }
        }
        18 => field.insert("tags", Bytes::from(format!("tag {}", key(8))))?,
        _ => drop(field.discard("tags", Bytes::from(format!("tag {}", key(8))))?),
    }
    Ok(())
}

/// Has everything that this replica has written so far acknowledged by all others.
async fn agree(field: &Field, shared: &Shared) {
    let agreed = {
        let model = shared.lock();
        let writer = field.writer();
        let own = |all: &BTreeMap<String, WriterId>| {
            all.iter().filter(|(_, by)| **by == writer).map(|(name, _)| name.clone()).collect()
        };
        let removed = model.removed.iter().chain(&model.discarded);
        let removed = removed.filter(|(_, by)| by.contains(&writer)).map(|(name, _)| name.clone());
        Agreed {
            writer,
            lives: model.lives,
            counted: model
                .counted
                .iter()
                .filter(|((_, by), _)| *by == writer)
                .map(|(k, v)| (k.clone(), *v))
                .collect(),
            set: own(&model.set),
            removed: removed.collect(),
            holders: Vec::new(),
        }
    };
    if let Ok(Ok(())) = timeout(10 * SECOND, field.agreed(NAMES.len() - 1)).await {
        shared.lock().agreed.push(agreed);
    }
}

async fn member(
    name: &'static str,
    (aether, shutdown): (Aether, CancellationToken),
    limits: Limits,
    shared: Shared,
) -> Result<(), BoxError> {
    let last = shared.lock().fields.remove(name);
    drop(last);
    let field = Field::builder("stock").replica(name).limits(limits).join(&aether).await?;
    tokio::spawn(follow(field.watch("*"), name, Arc::clone(&shared)));
    {
        let mut model = shared.lock();
        model.lives += 1;
        model.fields.insert(name, field.clone());
    }
    while !shared.lock().is_over {
        let is_resting = shared.lock().rests.contains(name);
        for _ in 0..if is_resting { 0 } else { burst(40) } {
            write(&field, &shared)?;
        }
        if fastrand::u32(..12) == 0 && shutdown.run_until_cancelled(agree(&field, &shared)).await.is_none() {
            break;
        }
        if shutdown.run_until_cancelled(sleep(pause(SECOND))).await.is_none() {
            break;
        }
    }
    shutdown.cancelled().await;
    drop(shared.lock().fields.remove(name));
    field.close().await?;
    Ok(())
}

fn has(field: &Field, agreed: &Agreed, model: &Model) -> bool {
    let members: BTreeSet<_> = field.members("once").into_iter().collect();
    let has_counted = |((name, writer), (up, down)): (&(String, WriterId), &(u64, u64))| {
        field.count_of(name, *writer).is_some_and(|(_, count)| count.up >= *up && count.down >= *down)
    };
    agreed.counted.iter().all(has_counted)
        && agreed.set.iter().all(|name| field.get_json(name).is_some() || model.removed.contains_key(name))
        && agreed
            .removed
            .iter()
            .all(|name| field.get_json(name).is_none() && !members.contains(&Bytes::from(name.clone())))
}

/// The fields of the processes that are there, by name.
fn present(sim: &mut Sim, shared: &Shared) -> BTreeMap<&'static str, Field> {
    let there: Vec<&'static str> = NAMES.iter().filter(|name| sim.aether(name).is_some()).copied().collect();
    let model = shared.lock();
    there.into_iter().filter_map(|name| Some((name, model.fields.get(name)?.clone()))).collect()
}

/// Notes who has what was agreed in the last step.
fn note_holders(sim: &mut Sim, shared: &Shared) -> Result<(), String> {
    if shared.lock().agreed.last().is_none_or(|agreed| !agreed.holders.is_empty()) {
        return Ok(());
    }
    let fields = present(sim, shared);
    let mut model = shared.lock();
    let mut all = std::mem::take(&mut model.agreed);
    let mut problem = Ok(());
    for agreed in all.iter_mut().filter(|agreed| agreed.holders.is_empty()) {
        agreed.holders =
            fields.values().filter(|field| has(field, agreed, &model)).map(Field::writer).collect();
        // Each life that has begun since, and each process that is down, may have taken one of them away.
        let ended = model.lives - agreed.lives + (NAMES.len() - fields.len()) as u64;
        let holders = agreed.holders.iter().filter(|writer| **writer != agreed.writer).count() as u64;
        if holders + ended < NAMES.len() as u64 - 1 {
            problem =
                Err(format!("all have agreed, but only {holders} have everything of {}", agreed.writer));
        }
    }
    model.agreed = all;
    problem
}

fn is_same(fields: &BTreeMap<&'static str, Field>) -> bool {
    let mut digests = fields.values().map(Field::digest);
    let first = digests.next();
    fields.len() == NAMES.len() && digests.all(|digest| Some(digest) == first)
}

/// The content that everybody must have in the end.
fn check(fields: &BTreeMap<&'static str, Field>, model: &Model, faults: Faults) -> Vec<String> {
    let mut problems = Vec::new();
    let alive: BTreeSet<WriterId> = fields.values().map(Field::writer).collect();
    let first = &fields[NAMES[0]];
    for (name, field) in fields {
        for start in ["shared/*", "once/*"] {
            if field.list(start) != first.list(start) {
                problems.push(format!("{name} has other registers {start} than {}", NAMES[0]));
            }
        }
        let members: BTreeSet<String> =
            field.members("once").iter().map(|member| String::from_utf8_lossy(member).into_owned()).collect();
        if field.members("tags") != first.members("tags") || field.members("once") != first.members("once") {
            problems.push(format!("{name} has other members than {}", NAMES[0]));
        }
        let mut sums = BTreeMap::<_, i128>::new();
        for ((counter, writer), (up, down)) in &model.counted {
            let (has_up, has_down) =
                field.count_of(counter, *writer).map_or((0, 0), |(_, count)| (count.up, count.down));
            let is_right = match alive.contains(writer) {
                true => (has_up, has_down) == (*up, *down),
                false => has_up <= *up && has_down <= *down,
            };
            if !is_right {
                problems.push(format!(
                    "{name} has +{has_up} -{has_down} of {writer} in {counter}, who counted +{up} -{down}"
                ));
            }
            *sums.entry(counter).or_default() += i128::from(has_up) - i128::from(has_down);
        }
        let wrong = sums.iter().filter(|(counter, sum)| field.count(counter) != **sum);
        problems.extend(wrong.map(|(counter, sum)| {
            format!("{name} has {} in {counter}; its parts make {sum}", field.count(counter))
        }));
        let once: BTreeSet<String> = field.list("once/*").into_iter().map(|(name, _)| name).collect();
        for (there, made, removed) in
            [(&once, &model.set, &model.removed), (&members, &model.inserted, &model.discarded)]
        {
            for (one, writer) in made {
                let by = removed.get(one);
                if !there.contains(one) && alive.contains(writer) && by.is_none() {
                    problems.push(format!("{name} lacks {one}, which nobody has removed"));
                }
                if there.contains(one) && by.is_some_and(|by| !by.is_disjoint(&alive)) {
                    problems.push(format!("{name} has {one}, which was removed"));
                }
            }
        }
        for agreed in &model.agreed {
            if agreed.holders.iter().any(|holder| alive.contains(holder)) && !has(field, agreed, model) {
                problems.push(format!("{name} lacks something of {} on which all agreed", agreed.writer));
            }
        }
        let status = field.status();
        if (status.refused, status.unreadable, status.forgotten, status.unreported) != (0, 0, 0, 0) {
            problems.push(format!("{name} has refused something: {status:?}"));
        }
        if faults == Faults::None && status.broken_off > 0 {
            problems.push(format!("{name} has broken off a reconciliation without a fault: {status:?}"));
        }
    }
    problems
}

fn scenario(sim: &mut Sim, faults: Faults) {
    let shared = Shared::default();
    for name in NAMES {
        let shared = Arc::clone(&shared);
        sim.process(name, move |aether, shutdown| {
            member(name, (aether, shutdown), Limits::default(), Arc::clone(&shared))
        });
    }
    trouble::skew_clocks(sim, NAMES);
    if faults == Faults::Some {
        trouble::cause(sim, NAMES, &[], WRITE_FOR);
    }
    let of_check = Arc::clone(&shared);
    sim.always(move |sim| {
        note_holders(sim, &of_check)?;
        of_check.lock().problems.pop().map_or(Ok(()), Err)
    });
    sim.run_for(WRITE_FOR);
    shared.lock().is_over = true;
    converge(sim, &shared, faults);
    let mut random = trouble::random(sim, 4);
    for _ in 0..if faults == Faults::Some { 2 } else { 0 } {
        // One write that one replica misses is all that differs.
        let [away, at] = [(); 2].map(|()| NAMES[random.usize(..NAMES.len())]);
        sim.cut(&[away], NAMES);
        sim.run_for(4 * SECOND);
        let (field, of_write) = (shared.lock().fields[at].clone(), Arc::clone(&shared));
        sim.run(at, async move |_| write(&field, &of_write).unwrap());
        sim.run_for(SECOND);
        sim.join(&[away], NAMES);
        converge(sim, &shared, faults);
    }
}

/// All have the same state soon, and the right one.
#[track_caller]
fn converge(sim: &mut Sim, shared: &Shared, faults: Faults) {
    let of_end = Arc::clone(shared);
    sim.eventually(CONVERGES_WITHIN, "all have the same state", move |sim| is_same(&present(sim, &of_end)));
    let fields = present(sim, shared);
    let problems = check(&fields, &shared.lock(), faults);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// A replica that is away for longer than removals are kept: what the others have removed does not come back with it.
pub(crate) fn long_absence(sim: &mut Sim) {
    const AWAY: &str = "seven";
    let mut limits = Limits::default();
    limits.horizon = 25 * SECOND;
    let shared = Shared::default();
    for name in NAMES {
        let shared = Arc::clone(&shared);
        sim.process(name, move |aether, shutdown| {
            member(name, (aether, shutdown), limits, Arc::clone(&shared))
        });
    }
    let of_check = Arc::clone(&shared);
    sim.always(move |_| of_check.lock().problems.pop().map_or(Ok(()), Err));
    sim.run_for(6 * SECOND);
    // Those who are parted for so long lose what the other side does not have and is older than a mark that it has dropped.
    shared.lock().rests.extend(NAMES);
    let of_begin = Arc::clone(&shared);
    sim.eventually(CONVERGES_WITHIN, "all have the same state", move |sim| is_same(&present(sim, &of_begin)));
    sim.cut(&[AWAY], NAMES);
    shared.lock().rests = BTreeSet::from([AWAY]);
    sim.run_for(6 * SECOND);
    shared.lock().is_over = true;
    let mut random = trouble::random(sim, 3);
    for _ in 0..random.usize(0..4) {
        let (name, at) = (NAMES[random.usize(..NAMES.len() - 1)], sim.now() + SECOND * random.u32(1..45));
        sim.at(at, move |sim| sim.kill(name));
        sim.at(at + SECOND * random.u32(1..5), move |sim| sim.restart(name));
    }
    // Marks are dropped once a minute when they are older than the horizon.
    sim.run_for(55 * SECOND);
    let field = shared.lock().fields[AWAY].clone();
    sim.run(AWAY, async move |_| field.set("once/late", "late").unwrap());
    let of_others = present(sim, &shared).remove(NAMES[0]).unwrap();
    let had: Vec<_> = of_others.list("once/*");
    sim.join(&[AWAY], NAMES);
    let of_end = Arc::clone(&shared);
    sim.eventually(CONVERGES_WITHIN, "all have the same state", move |sim| is_same(&present(sim, &of_end)));
    let model = shared.lock();
    for (name, field) in &model.fields {
        let once: BTreeSet<String> = field.list("once/*").into_iter().map(|(name, _)| name).collect();
        assert!(once.contains("once/late"), "{name} lacks what was written during the absence");
        let lost = had.iter().find(|(one, _)| !once.contains(one));
        assert!(lost.is_none_or(|(one, _)| model.removed.contains_key(one)), "{name} lacks {lost:?}");
        let alive: BTreeSet<WriterId> = model.fields.values().map(Field::writer).collect();
        let is_removed = |one: &&String| model.removed.get(*one).is_some_and(|by| !by.is_disjoint(&alive));
        let back = once.iter().find(is_removed);
        assert!(back.is_none(), "{name} has {back:?}, which was removed");
    }
    drop(model);
    drop(of_others);
}

pub(crate) const SCENARIOS: [fn(&mut Sim); 1] = [|sim| scenario(sim, Faults::Some)];

#[test]
fn seven_replicas_have_the_same_state_without_faults() {
    explore(0..2, |sim| scenario(sim, Faults::None));
}

#[test]
fn seven_replicas_have_the_same_state_after_faults() {
    explore(0..3, |sim| scenario(sim, Faults::Some));
}

#[test]
fn what_was_removed_does_not_come_back_after_a_long_absence() {
    explore(0..2, long_absence);
}
