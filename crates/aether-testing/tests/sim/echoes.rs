//! Commands to services that refuse, fail, are slow, full or not there: each is handled, comes back as an echo, becomes a
//! dead letter, or is counted as lost.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use aether_core::{Aether, Echo, Emitter, Floor, InboxOptions, Kind, Wave, WaveId, WhenFull};
use aether_service::{CancellationToken, Rejection, Resend, Service, ServiceBuilder, State};
use aether_testing::sim::{RandomFaults, Sim, explore};
use tokio::time::sleep;
use tower::BoxError;

use crate::traffic::{Disk, SECOND, STRENGTHS, burst, key, pause, vary_links};

const CHANNELS: [&str; 5] =
    ["stock.reserve", "billing.charge", "posters.print", "nobody.cares", "stock.count"];
const SERVICES: [&str; 4] = ["stock 1", "stock 2", "billing", "posters"];
const OPENS_AFTER: Duration = Duration::from_secs(3);
const FAULTS_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
struct Slips {
    commanded: u64,
    emitted: HashSet<WaveId>,
    handled: HashSet<WaveId>,
    /// The echoes, and the failures that they report.
    echoed: HashSet<WaveId>,
    echoes: u64,
    reasons: BTreeMap<&'static str, u64>,
    problems: Vec<String>,
}

impl Slips {
    fn handle(&mut self, id: WaveId) {
        if self.echoed.contains(&id) || self.handled.contains(&id) {
            self.problems.push(format!("{id} is handled, and was handled or came back before"));
        }
        self.handled.insert(id);
    }

    fn come_back(&mut self, echo: Echo) {
        if self.handled.contains(&echo.of) {
            self.problems.push(format!("{} was handled and comes back: {echo:?}", echo.of));
        }
        *self.reasons.entry(echo.reason.as_str()).or_default() += echo.count;
        self.echoes += echo.count;
        self.echoed.insert(echo.of);
    }
}

type Spike = Disk<Slips>;

async fn command(emitter: &Emitter, slips: &Spike) -> Result<(), BoxError> {
    let channel = CHANNELS[key(CHANNELS.len() as u64) as usize];
    let strength = STRENGTHS[fastrand::usize(..STRENGTHS.len())];
    let wave = Wave::builder(channel).kind(Kind::Command).amplitude(strength).json(fastrand::u8(..));
    // A poster that is not printed soon is of no use.
    let wave = if channel == "posters.print" { wave.half_life(SECOND / 4) } else { wave };
    let receipt = emitter.emit(wave).await?;
    let mut slips = slips.lock();
    slips.commanded += 1;
    slips.emitted.insert(emitter.id_of(&receipt));
    Ok(())
}

/// Two emitters command: one of them listens for echoes.
async fn till(
    aether: Aether,
    shutdown: CancellationToken,
    slips: Spike,
    commands: u64,
) -> Result<(), BoxError> {
    let (loud, quiet) = (aether.emitter("till")?, aether.emitter("quiet till")?);
    let (mut echoes, heard) = (loud.echoes().await?, Arc::clone(&slips));
    let listening = tokio::spawn(async move {
        while let Some(echo) = echoes.receive().await {
            heard.lock().come_back(echo);
        }
    });
    sleep(OPENS_AFTER).await;
    while slips.lock().commanded < commands {
        for _ in 0..burst(40) {
            command(if fastrand::u8(..4) == 0 { &quiet } else { &loud }, &slips).await?;
        }
        sleep(pause(SECOND / 4)).await;
    }
    shutdown.cancelled().await;
    listening.abort();
    Ok(())
}

/// A handler whose luck is in the payload.
async fn handle(State((slips, takes)): State<(Spike, Duration)>, wave: Wave) -> Result<(), BoxError> {
    sleep(takes).await;
    match wave.json::<u8>()? {
        0..20 => return Err(Rejection::new("not this one").into()),
        20..40 if wave.attempt() < 1 => return Err("not at first".into()),
        40..50 => return Err("never".into()),
        50..60 => sleep(10 * SECOND).await,
        _ => {}
    }
    slips.lock().handle(wave.id());
    Ok(())
}

fn service(name: &str, slips: &Spike, takes: u64) -> ServiceBuilder<(Spike, Duration)> {
    let retry = Resend::default().most(2);
    let service = Service::builder(name).concurrency(4).time_out(SECOND / 2).retry(retry);
    service.state((Arc::clone(slips), Duration::from_millis(takes)))
}

fn shop(sim: &mut Sim, commands: u64) -> Spike {
    let slips = Spike::default();
    for (name, takes) in SERVICES.into_iter().zip([1, 20]) {
        let slips = Arc::clone(&slips);
        sim.serve(name, move || service("stock", &slips, takes).group("stock").on("stock.*", handle));
    }
    let of_billing = Arc::clone(&slips);
    sim.serve("billing", move || {
        let inbox = InboxOptions::default().max_waves(8).when_full(WhenFull::Shed);
        service("billing", &of_billing, 40).inbox(inbox).on("billing.charge", handle)
    });
    let of_posters = Arc::clone(&slips);
    sim.serve("posters", move || {
        let inbox = InboxOptions::default().floor(Floor::new(0.1).unwrap());
        service("posters", &of_posters, 100).inbox(inbox).on("posters.print", handle)
    });
    let of_till = Arc::clone(&slips);
    sim.process("till", move |aether, shutdown| till(aether, shutdown, Arc::clone(&of_till), commands));
    let checked = Arc::clone(&slips);
    sim.always(move |_| checked.lock().problems.pop().map_or(Ok(()), Err));
    slips
}

/// The dead letters of all processes, and the failures whose echoes may not have arrived.
fn buried(sim: &mut Sim) -> (u64, u64) {
    let mut sums = (0, 0);
    for name in SERVICES.into_iter().chain(["till"]) {
        if let Some(aether) = sim.aether(name) {
            sums.0 += aether.dead_letters().counts().buried;
            sums.1 += aether.echo_ledger().unconfirmed;
        }
    }
    sums
}

/// Each command is handled, comes back, or is a dead letter: none is lost.
fn without_faults(sim: &mut Sim) {
    const COMMANDS: u64 = 250;
    let slips = shop(sim, COMMANDS);
    vary_links(sim);
    let done = Arc::clone(&slips);
    sim.eventually(200 * SECOND, "each command is handled, echoed or a dead letter", move |sim| {
        let (buried, slips) = (buried(sim).0, done.lock());
        let accounted = slips.handled.len() as u64 + slips.echoes + buried;
        slips.commanded >= COMMANDS && accounted == slips.commanded
    });
    sim.run_for(2 * SECOND);
    let (buried, _) = buried(sim);
    let slips = slips.lock();
    let accounted = slips.handled.len() as u64 + slips.echoes + buried;
    assert_eq!(accounted, slips.commanded, "some have come back twice");
    assert!(slips.echoed.is_subset(&slips.emitted));
    assert!(slips.reasons.contains_key("no_resonator"), "{:?}", slips.reasons);
}

/// Services freeze and are cut off. What is missing is counted as unconfirmed, by the till or with an echo.
fn with_faults(sim: &mut Sim) {
    let slips = shop(sim, 250);
    sim.random_faults(FAULTS_WITHIN, &RandomFaults::new(5).among(SERVICES).kills(0));
    sim.run_for(FAULTS_WITHIN);
    sim.heal();
    sim.run_for(20 * SECOND);
    let (buried, unconfirmed) = buried(sim);
    let till = sim.aether("till").unwrap().status();
    let dropped: u64 = SERVICES.map(|name| sim.aether(name).unwrap().status().dropped_by_client).iter().sum();
    let slips = slips.lock();
    let accounted = slips.handled.len() as u64 + slips.echoes + buried;
    let missing = slips.commanded.checked_sub(accounted);
    let counted = till.unconfirmed + unconfirmed + dropped;
    assert!(
        missing.is_some_and(|missing| missing <= counted),
        "{} commands: {} handled, {} echoes, {buried} dead letters, {} unconfirmed, {unconfirmed} echoes unconfirmed, {dropped} dropped",
        slips.commanded,
        slips.handled.len(),
        slips.echoes,
        till.unconfirmed
    );
}

/// Services die, too. No command is handled twice, or handled and echoed; new ones are all accounted for.
fn with_crashes(sim: &mut Sim) {
    let slips = shop(sim, 250);
    sim.random_faults(FAULTS_WITHIN, &RandomFaults::new(6).among(SERVICES).kills(3));
    sim.run_for(FAULTS_WITHIN);
    sim.heal();
    sim.run_for(20 * SECOND);
    let accounted = |sim: &mut Sim, slips: &Spike| {
        let (buried, slips) = (buried(sim).0, slips.lock());
        slips.commanded - (slips.handled.len() as u64 + slips.echoes + buried).min(slips.commanded)
    };
    let missing = accounted(sim, &slips);
    let of_task = Arc::clone(&slips);
    sim.run("till", async move |aether| {
        let emitter = aether.emitter("new till").unwrap();
        for _ in 0..30 {
            command(&emitter, &of_task).await.unwrap();
        }
    });
    let done = Arc::clone(&slips);
    sim.eventually(20 * SECOND, "the new commands are accounted for", move |sim| {
        accounted(sim, &done) == missing
    });
}

pub(crate) const SCENARIOS: [fn(&mut Sim); 3] = [without_faults, with_faults, with_crashes];

#[test]
fn each_command_is_handled_or_comes_back_or_is_a_dead_letter() {
    explore(0..4, without_faults);
}

#[test]
fn commands_that_are_lost_are_counted() {
    explore(0..4, with_faults);
}

/// An echo to a process that was cut off counted as delivered.
#[test]
fn an_echo_that_does_not_arrive_is_unconfirmed() {
    let mut sim = Sim::with_seed(62);
    with_faults(&mut sim);
    sim.finish();
}

#[test]
fn no_command_is_handled_twice_when_services_die() {
    explore(0..4, with_crashes);
}
