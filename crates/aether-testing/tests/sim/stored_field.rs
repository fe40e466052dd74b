//! A field of three replicas with stores: whatever `durable` has acknowledged is in the store of that replica after kills
//! and power cuts, and nothing removed comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aether_core::Aether;
use aether_field::Field;
use aether_field::core::WriterId;
use aether_service::CancellationToken;
use aether_testing::sim::{RandomFaults, Sim, explore};
use tokio::time::sleep;
use tower::BoxError;

use crate::reopening::reopened;
use crate::traffic::{Disk, SECOND, burst, pause};

const NAMES: [&str; 3] = ["one", "two", "three"];
const FAULTS_WITHIN: Duration = Duration::from_secs(30);

/// Writes of one replica.
#[derive(Default, Clone)]
struct Writes {
    set: BTreeSet<String>,
    removed: BTreeSet<String>,
    /// The sums of the counter, by life.
    added: BTreeMap<WriterId, u64>,
}

#[derive(Default)]
struct Model {
    fields: BTreeMap<&'static str, Field>,
    is_over: bool,
    /// The number of names that were set. Each is set once.
    names: u64,
    /// The names that somebody has removed, or has begun to.
    removed: BTreeSet<String>,
    durable: BTreeMap<&'static str, Writes>,
}

type Shared = Disk<Model>;

/// The durable writes that a replica lacks.
fn lacks(field: &Field, model: &Model, durable: &Writes) -> Option<String> {
    let lost =
        durable.set.iter().find(|name| field.get_json(name).is_none() && !model.removed.contains(*name));
    let back = durable.removed.iter().find(|name| field.get_json(name).is_some());
    let fallen = durable
        .added
        .iter()
        .find(|(writer, sum)| field.count_of("sold", **writer).is_none_or(|(_, count)| count.up < **sum));
    lost.map(|name| format!("{name} was durable and is lost"))
        .or_else(|| back.map(|name| format!("{name} was removed and is back")))
        .or_else(|| fallen.map(|(writer, sum)| format!("{writer} had {sum} and has less")))
}

fn write(field: &Field, own: &mut Writes, shared: &Shared) -> Result<(), BoxError> {
    let mut model = shared.lock();
    match fastrand::u8(..10) {
        0..5 => {
            model.names += 1;
            let name = format!("name/{}", model.names);
            field.set(&name, &model.names)?;
            own.set.insert(name);
        }
        5..7 => {
            let names = field.list("name/*");
            if !names.is_empty() {
                let name = names[fastrand::usize(..names.len())].0.clone();
                model.removed.insert(name.clone());
                assert!(field.remove(&name)?);
                own.removed.insert(name);
            }
        }
        _ => {
            let by = fastrand::u32(1..5);
            field.add("sold", by.into())?;
            *own.added.entry(field.writer()).or_default() += u64::from(by);
        }
    }
    Ok(())
}

async fn member(name: &'static str, aether: Aether, folder: PathBuf, shared: Shared) -> Result<(), BoxError> {
    close(name, &shared);
    let field = Field::builder("stock").replica(name).store(folder.join("field.redb")).join(&aether).await?;
    {
        let mut model = shared.lock();
        let lacks = model.durable.get(name).and_then(|durable| lacks(&field, &model, durable));
        if let Some(problem) = lacks {
            return Err(format!("the store of {name}: {problem}").into());
        }
        if field.salvage().is_some() || field.status().damaged > 0 {
            return Err(format!("the store of {name} is damaged").into());
        }
        model.fields.insert(name, field.clone());
    }
    let mut own = Writes::default();
    loop {
        let is_over = shared.lock().is_over;
        for _ in 0..if is_over { 0 } else { burst(20) } {
            write(&field, &mut own, &shared)?;
        }
        if fastrand::bool() {
            let written = own.clone();
            if field.durable().await.is_ok() {
                let mut model = shared.lock();
                let durable = model.durable.entry(name).or_default();
                durable.set.extend(written.set);
                durable.removed.extend(written.removed);
                durable.added.extend(written.added);
            }
        }
        sleep(pause(SECOND / 4)).await;
    }
}

fn close(name: &str, shared: &Shared) {
    let last = shared.lock().fields.remove(name);
    drop(last);
}

fn system(sim: &mut Sim) -> Shared {
    let shared = Shared::default();
    for name in NAMES {
        let (folder, shared) = (sim.disk(name), Arc::clone(&shared));
        sim.process(name, move |aether, shutdown: CancellationToken| {
            let (folder, shared) = (folder.clone(), Arc::clone(&shared));
            async move {
                let live = || member(name, aether.clone(), folder.clone(), Arc::clone(&shared));
                let ended = reopened(&shutdown, live).await;
                close(name, &shared);
                ended
            }
        });
    }
    shared
}

fn settle(sim: &mut Sim, shared: &Shared) {
    sim.heal();
    for name in NAMES {
        sim.free_disk(name);
        sim.wake(name);
        sim.restart(name);
    }
    shared.lock().is_over = true;
    let same = Arc::clone(shared);
    sim.eventually(60 * SECOND, "all have the same state", move |_| {
        let model = same.lock();
        let digests: Vec<_> = model.fields.values().map(Field::digest).collect();
        digests.len() == NAMES.len() && digests.iter().all(|digest| *digest == digests[0])
    });
    {
        let model = shared.lock();
        for (name, durable) in &model.durable {
            for (at, field) in &model.fields {
                let lacks = lacks(field, &model, durable);
                assert!(lacks.is_none(), "{at} lacks of {name}: {}", lacks.unwrap_or_default());
            }
        }
        let durable: usize = model.durable.values().map(|durable| durable.set.len()).sum();
        assert!(durable > 20, "{durable} names were durable");
    }
    sim.finish();
}

fn with_crashes(sim: &mut Sim) {
    let shared = system(sim);
    sim.random_faults(FAULTS_WITHIN, &RandomFaults::new(14).kills(2).power_cuts(5));
    sim.run_for(FAULTS_WITHIN);
    settle(sim, &shared);
}

/// All lose their power at once, again and again: nobody has what a store has lost.
fn with_power_cuts_of_all(sim: &mut Sim) {
    let shared = system(sim);
    let mut random = fastrand::Rng::with_seed(sim.seed());
    for _ in 0..random.u32(2..6) {
        sim.run_for(Duration::from_millis(random.u64(1500..6000)));
        NAMES.iter().for_each(|name| sim.cut_power(name));
        sim.run_for(Duration::from_millis(random.u64(1..2000)));
        NAMES.iter().for_each(|name| sim.restart(name));
    }
    sim.run_for(5 * SECOND);
    settle(sim, &shared);
}

/// The disks are full at times, and do not sync for a while.
fn with_bad_disks(sim: &mut Sim) {
    let shared = system(sim);
    sim.random_faults(FAULTS_WITHIN, &RandomFaults::new(10).power_cuts(4).full_disks(3));
    let mut random = fastrand::Rng::with_seed(sim.seed());
    for name in NAMES {
        let begin = Duration::from_millis(random.u64(2000..20_000));
        sim.at(begin, move |sim| sim.fail_syncs(name, true));
        let end = begin + Duration::from_millis(random.u64(500..5000));
        sim.at(end, move |sim| sim.fail_syncs(name, false));
    }
    sim.run_for(FAULTS_WITHIN);
    settle(sim, &shared);
}

pub(crate) const SCENARIOS: [fn(&mut Sim); 3] = [with_crashes, with_power_cuts_of_all, with_bad_disks];

#[test]
fn nothing_that_was_durable_is_lost_by_crashes_and_nothing_removed_comes_back() {
    explore(0..4, with_crashes);
}

#[test]
fn a_power_cut_of_all_replicas_loses_nothing_that_was_durable() {
    explore(0..4, with_power_cuts_of_all);
}

#[test]
fn stores_survive_disks_that_are_full_or_do_not_sync() {
    explore(0..4, with_bad_disks);
}
