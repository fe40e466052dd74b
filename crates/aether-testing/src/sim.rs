//! A whole system in one thread: several processes on a simulated network, with virtual time, faults, and a seed.
//!
//! Each process has a runtime of its own, whose clock is paused, and the LAN medium as it ships. Only the network below the
//! medium is simulated: see [`Link`] for what it does. The simulation moves in steps, and runs one process after the other
//! in each. What happens depends on the seed only, so a run that fails can be run again.
//!
//! ```
//! use std::time::Duration;
//! use aether_service::{Json, Service};
//! use aether_testing::sim::Sim;
//!
//! async fn confirm(Json(order): Json<u32>) -> Json<u32> {
//!     Json(order + 1)
//! }
//!
//! let mut sim = Sim::with_seed(7);
//! sim.serve("stock", || Service::builder("stock").on_query("orders.check", confirm));
//! sim.idle("shop");
//! sim.run_for(Duration::from_secs(1)); // they find each other
//!
//! let answer = sim.run("shop", async |aether| {
//!     let shop = aether.emitter("shop").unwrap();
//!     shop.ask_wave("orders.check", &17).await.unwrap().json::<u32>().unwrap()
//! });
//! assert_eq!(answer, 18);
//!
//! sim.kill("stock");
//! sim.run_for(Duration::from_secs(60)); // takes no time
//! sim.restart("stock");
//! sim.finish();
//! ```
//!
//! # What is checked
//! Of each wave that arrives: that it is not out of the order of its source, channel and amplitude, and that no group gets
//! it twice. At the end ([`Sim::finish`]): that every process stops, and that its accounts add up. [`Sim::always`] adds
//! checks.
//!
//! The sums of all processes have to agree at the end, too:
//!
//! - A process that hears a pattern alone, and not in a group, has got each wave since the first one of a source, channel
//!   and strength, or counts it as [`lost_upstream`](aether_core::medium::MediumStatus::lost_upstream). Left out are waves
//!   that their outbox shed or still has, waves of a process that was killed or that ended although something had disturbed
//!   the network, as nothing follows that shows what is missing, and processes whose inboxes are full.
//! - A process counts no more waves as `lost_upstream` than were sent and did not arrive.
//! - The waves that were sent to others have arrived, or are counted as `unconfirmed` or `in_flight` by their senders. These
//!   counts are upper bounds: where they are 0, as many have arrived as were sent. A process that is killed counts what it
//!   had counted by then.
//! - The outbox of a process has counted each wave that it was given, and has none left when the process has ended.
//!
//! # The same run for the same seed
//! The processes take time from tokio or from `aether_core::clock`, and random numbers from `fastrand`. A process must not
//! depend on the order of a `HashMap`, on `tokio::select!` without `biased`, on threads or sockets, or on files outside of
//! [`Sim::disk`].
//! [`Sim::digest`] tells two runs apart.

mod disk;
mod epoch;
mod explore;
mod network;
mod offering;
mod process;
mod random;
mod stand_in;
mod sums;
mod trace;
mod watch;

#[cfg(test)]
mod tests;

pub use explore::{SimFailure, explore, try_explore};
pub use network::Link;
pub use process::connect;
pub use random::RandomFaults;
pub use stand_in::{Act, StandIn};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aether_core::{Aether, Wave};
use aether_service::{Answer, CancellationToken, Handling, ServiceBuilder};
use tower::{BoxError, Layer};

use crate::seed::{drawn, mixed};
use crate::verdict::Account;
use network::{Network, Networks};
use process::{Life, Main, Process, World};
use random::{Planned, SimFault};
use sums::{ConnectionId, Counted};
use trace::{Event, Trace};

/// The shortest and the longest step.
const STEPS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(10));
/// How long processes may take to connect and to stop, and a task of [`Sim::run`] to end.
const CONNECTS_WITHIN: Duration = Duration::from_secs(60);
const STOPS_WITHIN: Duration = Duration::from_secs(180);
const RUNS_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the network has at the end, after faults, until the processes stop.
const CALMS_WITHIN: Duration = Duration::from_secs(15);
/// A wave has arrived after this time, or is still with its sender, if nothing disturbs the network.
const HEARD_WITHIN: Duration = Duration::from_secs(5);

/// The network of processes that are on none of their own.
const NETWORK: &str = "lan";

type Script = Box<dyn FnOnce(&mut Sim)>;
type Check = Box<dyn FnMut(&mut Sim) -> Result<(), String>>;

/// Several processes on one thread, on a network of their own.
///
/// Methods panic where a test has to fail, with the seed and the last events.
pub struct Sim {
    world: World,
    /// The networks of the next processes.
    on: Vec<String>,
    now: Duration,
    processes: Vec<Process>,
    /// In the order of their times, and of their numbers at one time.
    script: BTreeMap<(Duration, u64), Script>,
    scripted: u64,
    checks: Vec<Check>,
    accounts: Vec<(String, Account)>,
    /// Random faults, and which of them are left out.
    planned: Vec<Planned>,
    left_out: BTreeSet<usize>,
    /// Something has disturbed the network or a process.
    is_disturbed: bool,
    is_finished: bool,
}

impl Sim {
    /// A simulation whose seed comes from the environment variable `AETHER_TEST_SEED`, or is drawn at random.
    ///
    /// # Panics
    /// If the variable is set and is not a number.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it draws a seed")]
    pub fn new() -> Self {
        Self::with_seed(drawn())
    }

    /// A simulation with a seed of the test's own. Time begins at 2026-01-01, 00:00 UTC.
    #[must_use]
    pub fn with_seed(seed: u64) -> Self {
        Self::without_faults(seed, BTreeSet::new())
    }

    /// The same without some of its random faults.
    fn without_faults(seed: u64, left_out: BTreeSet<usize>) -> Self {
        crate::follow_tokio();
        let trace = Trace::default();
        let world = World {
            seed,
            networks: Networks::new(NETWORK, seed, trace.clone()),
            arrived: Arc::default(),
            sums: Arc::default(),
            trace,
            disks: Arc::default(),
        };
        Self {
            world,
            on: vec![NETWORK.to_owned()],
            now: Duration::ZERO,
            processes: Vec::new(),
            script: BTreeMap::new(),
            scripted: 0,
            checks: Vec::new(),
            accounts: Vec::new(),
            planned: Vec::new(),
            left_out,
            is_disturbed: false,
            is_finished: false,
        }
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.world.seed
    }

    /// The time since the simulation began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.now
    }

    /// A number of what has happened so far. Two runs in which the same happened at the same times have the same one.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.world.trace.digest()
    }

    /// The networks of the processes that are added from now on: several are [paths](aether::paths) of one medium. All
    /// processes are on one network of the simulation if this is not called. Links and cuts hold for all networks that are
    /// there by then.
    pub fn on(&mut self, networks: &[&str]) {
        for name in networks {
            self.world.networks.add(name, self.world.seed, self.world.trace.clone());
        }
        self.on = networks.iter().map(|name| (*name).to_owned()).collect();
    }

    fn each_network(&self, change: impl Fn(&Network)) {
        self.world.networks.all().iter().for_each(|network| change(network));
    }

    /// Starts a process: it connects, and `run` is what it does from then on. When [`restart`](Self::restart) starts it
    /// again, it runs again, with nothing of what it had in memory. The token is cancelled when it has to stop.
    ///
    /// # Panics
    /// If there is a process of this name.
    #[track_caller]
    pub fn process<F, E>(
        &mut self,
        name: &str,
        run: impl Fn(Aether, CancellationToken) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.start(
            name,
            Arc::new(move |life: Life| {
                let running = run(life.aether, life.shutdown);
                Box::pin(async move { running.await.map_err(Into::into) })
            }),
        );
    }

    /// Starts a process that runs a service.
    ///
    /// # Panics
    /// If there is a process of this name.
    #[track_caller]
    pub fn serve<S, L>(
        &mut self,
        name: &str,
        service: impl Fn() -> ServiceBuilder<S, L> + Send + Sync + 'static,
    ) where
        S: Send + Sync + 'static,
        L: Layer<Handling> + Send + 'static,
        L::Service: tower::Service<Wave, Response = Answer> + Send + 'static,
        <L::Service as tower::Service<Wave>>::Error: Into<BoxError>,
        <L::Service as tower::Service<Wave>>::Future: Send + 'static,
    {
        self.start(
            name,
            Arc::new(move |life: Life| {
                let builder = service();
                Box::pin(async move {
                    let service = builder.build(&life.aether).await?;
                    let name = service.emitter().source().name().to_owned();
                    life.services.lock().push((name, service.counters()));
                    service.run_until(life.shutdown).await?;
                    Ok(())
                })
            }),
        );
    }

    /// Starts a process that does nothing by itself, for [`run`](Self::run).
    ///
    /// # Panics
    /// If there is a process of this name.
    #[track_caller]
    pub fn idle(&mut self, name: &str) {
        self.process(name, |_, shutdown| async move {
            shutdown.cancelled().await;
            Ok::<_, BoxError>(())
        });
    }

    #[track_caller]
    fn start(&mut self, name: &str, main: Main) {
        assert!(
            self.processes.iter().all(|process| process.name != name),
            "there is a process {name:?} already: give each a name of its own"
        );
        self.processes.push(Process::new(name, self.processes.len(), self.on.clone(), main));
        self.restart(name);
    }

    #[track_caller]
    fn place(&self, name: &str) -> usize {
        let place = self.processes.iter().position(|process| process.name == name);
        place.unwrap_or_else(|| {
            let names: Vec<&str> = self.processes.iter().map(|process| &*process.name).collect();
            panic!("there is no process {name:?}: there are {names:?}")
        })
    }

    fn note(&self, process: usize, what: &'static str) {
        self.world.trace.note(self.now, Event::Process { process, what });
    }

    fn did(&self, what: String) {
        self.world.trace.note(self.now, Event::Did { what });
    }

    /// Ends a process at once, as `kill -9` does. Its connections are closed, and on its disk is what it has written. One
    /// that is not running stays as it is.
    ///
    /// # Panics
    /// If there is no process of this name.
    #[track_caller]
    pub fn kill(&mut self, name: &str) {
        let place = self.place(name);
        for (connection, counted) in self.counted(place) {
            self.world.sums.lock().is_killed(connection, counted);
        }
        // Before its parts are dropped, of which none may send anything any more.
        self.each_network(|network| network.kill(place));
        if self.processes[place].end(true) {
            self.processes[place].is_frozen = false;
            self.is_disturbed = true;
            self.note(place, "is killed");
        }
    }

    /// The folder of a process, on a disk that survives it: real files, removed with the simulation. Logs, outboxes and
    /// fields may be kept there. Nothing of a process may hold them when it starts again.
    ///
    /// ```
    /// # use aether_testing::sim::Sim;
    /// let mut sim = Sim::with_seed(7);
    /// let folder = sim.disk("shop");
    /// sim.idle("shop");
    /// std::fs::write(folder.join("orders"), "17").unwrap(); // not synced
    /// sim.kill("shop");
    /// assert!(folder.join("orders").exists());
    /// ```
    ///
    /// # Panics
    /// If no folder can be made.
    #[track_caller]
    pub fn disk(&mut self, name: &str) -> PathBuf {
        match self.world.disk(name).lock().folder() {
            Ok(folder) => folder,
            Err(error) => panic!("a folder cannot be made: {error}"),
        }
    }

    /// Ends a process at once, and takes from its disk what was not synced: of contents a part by the seed stays, of names
    /// in a folder as well.
    ///
    /// # Panics
    /// If there is no process of this name, or its files cannot be read or written.
    #[track_caller]
    pub fn cut_power(&mut self, name: &str) {
        let place = self.place(name);
        self.kill(name);
        if let Err(error) = self.world.disk(name).lock().lose_power() {
            panic!("the disk of {name} cannot be set back: {error}");
        }
        self.note(place, "has lost its power");
    }

    /// Fills the disk of a process: some more bytes are taken, then writes that need room fail.
    ///
    /// # Panics
    /// If there is no process of this name.
    #[track_caller]
    pub fn fill_disk(&mut self, name: &str) {
        self.place(name);
        self.world.disk(name).lock().fill();
        self.is_disturbed = true;
        self.did(format!("the disk of {name} is full"));
    }

    /// Makes room on a disk that is full.
    ///
    /// # Panics
    /// If there is no process of this name.
    #[track_caller]
    pub fn free_disk(&mut self, name: &str) {
        self.place(name);
        self.world.disk(name).lock().free();
        self.did(format!("the disk of {name} has room"));
    }

    /// Lets the syncs of a process fail, or succeed again. A later one does not write what a failed one has not written
    /// either, unless it is written to the file again.
    ///
    /// # Panics
    /// If there is no process of this name.
    #[track_caller]
    pub fn fail_syncs(&mut self, name: &str, fails: bool) {
        self.place(name);
        self.world.disk(name).lock().fail_syncs(fails);
        self.is_disturbed = true;
        self.did(format!("the disk of {name} {}", if fails { "does not sync" } else { "syncs again" }));
    }

    /// Starts a process again that was killed or has ended. One that is running stays as it is.
    ///
    /// # Panics
    /// If there is no process of this name.
    #[track_caller]
    pub fn restart(&mut self, name: &str) {
        let place = self.place(name);
        if !self.processes[place].has_ended() {
            return;
        }
        self.processes[place].end(false);
        if let Err(error) = self.processes[place].start(&self.world, self.now) {
            panic!("a runtime cannot be made: {error}");
        }
        self.note(place, "starts");
    }

    /// Freezes a process, as `kill -STOP` does: it does nothing, and what comes for it waits.
    ///
    /// # Panics
    /// If there is no process of this name.
    #[track_caller]
    pub fn freeze(&mut self, name: &str) {
        let place = self.place(name);
        if self.processes[place].has_ended() || self.processes[place].is_frozen {
            return;
        }
        self.processes[place].is_frozen = true;
        self.each_network(|network| network.freeze(place, true));
        self.is_disturbed = true;
        self.note(place, "is frozen");
    }

    /// Lets a frozen process go on. It finds that the time has passed.
    ///
    /// # Panics
    /// If there is no process of this name.
    #[track_caller]
    pub fn wake(&mut self, name: &str) {
        let place = self.place(name);
        if std::mem::replace(&mut self.processes[place].is_frozen, false) {
            self.each_network(|network| network.freeze(place, false));
            self.note(place, "goes on");
        }
    }

    /// Cuts all connections between two sets of processes, in both directions: what is sent waits, and connections that
    /// hear nothing for 3 s are broken.
    ///
    /// # Panics
    /// If there is no process of one of these names.
    #[track_caller]
    pub fn cut(&mut self, some: &[&str], others: &[&str]) {
        self.cut_one_way(some, others);
        self.cut_one_way(others, some);
    }

    /// The same in one direction only.
    ///
    /// # Panics
    /// If there is no process of one of these names.
    #[track_caller]
    pub fn cut_one_way(&mut self, from: &[&str], to: &[&str]) {
        for (from, to) in self.pairs(from, to) {
            self.each_network(|network| network.cut(from, to));
        }
        self.is_disturbed = true;
        self.did(format!("{from:?} is cut from {to:?}"));
    }

    /// Cuts two sets of processes on one network, as [`cut`](Self::cut) does on all.
    ///
    /// # Panics
    /// If there is no such network, or no process of one of these names.
    #[track_caller]
    pub fn cut_on(&mut self, network: &str, some: &[&str], others: &[&str]) {
        let found = self.world.networks.find(network);
        for (one, other) in self.pairs(some, others) {
            found.cut(one, other);
            found.cut(other, one);
        }
        self.is_disturbed = true;
        self.did(format!("{some:?} and {others:?} are cut on {network}"));
    }

    /// Ends a [`cut_on`](Self::cut_on).
    ///
    /// # Panics
    /// If there is no such network, or no process of one of these names.
    #[track_caller]
    pub fn join_on(&mut self, network: &str, some: &[&str], others: &[&str]) {
        let found = self.world.networks.find(network);
        for (one, other) in self.pairs(some, others) {
            found.join(one, other);
            found.join(other, one);
        }
        self.did(format!("{some:?} and {others:?} are cut on {network} no longer"));
    }

    /// Ends a [`cut`](Self::cut) between these processes, in both directions.
    ///
    /// # Panics
    /// If there is no process of one of these names.
    #[track_caller]
    pub fn join(&mut self, some: &[&str], others: &[&str]) {
        self.join_one_way(some, others);
        self.join_one_way(others, some);
    }

    fn join_one_way(&mut self, from: &[&str], to: &[&str]) {
        for (from, to) in self.pairs(from, to) {
            self.each_network(|network| network.join(from, to));
        }
        self.did(format!("{from:?} is cut from {to:?} no longer"));
    }

    /// Ends all cuts.
    pub fn heal(&mut self) {
        self.each_network(Network::heal);
        self.did("all cuts end".to_owned());
    }

    #[track_caller]
    fn pairs(&self, some: &[&str], others: &[&str]) -> Vec<(usize, usize)> {
        let others: Vec<usize> = others.iter().map(|name| self.place(name)).collect();
        let some = some.iter().map(|name| self.place(name));
        some.flat_map(|one| others.iter().map(move |other| (one, *other)))
            .filter(|(one, other)| one != other)
            .collect()
    }

    /// Sets the links between two sets of processes, in both directions.
    ///
    /// # Panics
    /// If there is no process of one of these names.
    #[track_caller]
    pub fn link(&mut self, some: &[&str], others: &[&str], link: Link) {
        for (one, other) in self.pairs(some, others) {
            self.each_network(|network| network.link(one, other, Some(link)));
            self.each_network(|network| network.link(other, one, Some(link)));
        }
        self.did(format!("{some:?} and {others:?} have {link}"));
    }

    fn unlink(&mut self, one: &str, other: &str) {
        for (from, to) in self.pairs(&[one], &[other]).into_iter().chain(self.pairs(&[other], &[one])) {
            self.each_network(|network| network.link(from, to, None));
        }
        self.did(format!("{one} and {other} have the link of all"));
    }

    /// Sets the link between any two processes that have none of their own.
    pub fn link_all(&mut self, link: Link) {
        self.each_network(|network| network.link_all(link));
        self.did(format!("all have {link}"));
    }

    /// Sets the time of day of a process forward by seconds, or back if they are negative.
    ///
    /// # Panics
    /// If there is no process of this name.
    #[track_caller]
    pub fn set_forward(&mut self, name: &str, seconds: i64) {
        let place = self.place(name);
        self.processes[place].clock.ahead += i128::from(seconds) * 1_000_000_000;
        self.did(format!("the clock of {name} jumps by {seconds} s"));
    }

    /// Lets the time of day of a process run faster by microseconds each second, or slower if they are negative. It starts
    /// at the beginning of the simulation.
    ///
    /// # Panics
    /// If there is no process of this name.
    #[track_caller]
    pub fn drift(&mut self, name: &str, micros_each_second: i64) {
        let place = self.place(name);
        self.processes[place].clock.drift = micros_each_second.saturating_mul(1000);
        self.did(format!("the clock of {name} drifts by {micros_each_second} us/s"));
    }

    /// Does something at a time since the simulation began; at once if that has passed.
    pub fn at(&mut self, time: Duration, step: impl FnOnce(&mut Self) + 'static) {
        self.scripted += 1;
        self.script.insert((whole_millis(time), self.scripted), Box::new(step));
    }

    /// Draws faults from the seed, which happen and end within a time from now on.
    pub fn random_faults(&mut self, within: Duration, faults: &RandomFaults) {
        let names: Vec<String> = self.processes.iter().map(|process| process.name.clone()).collect();
        let disks = names.iter().filter(|name| self.world.disk(name).lock().is_used()).cloned().collect();
        let seed = mixed([self.world.seed, 4, self.planned.len() as u64]);
        for planned in faults.drawn(seed, (self.now, within), names, disks) {
            let number = self.planned.len();
            if !self.left_out.contains(&number) {
                let (begin, end) = (planned.fault.clone(), planned.fault.clone());
                self.at(planned.at, move |sim| sim.begin(&begin));
                self.at(planned.until, move |sim| sim.end(&end));
            }
            self.planned.push(planned);
        }
    }

    fn begin(&mut self, fault: &SimFault) {
        match fault {
            SimFault::Kill(name) => self.kill(name),
            SimFault::PowerCut(name) => self.cut_power(name),
            SimFault::FullDisk(name) => self.fill_disk(name),
            SimFault::Freeze(name) => self.freeze(name),
            SimFault::Cut(some, others) => self.cut(&borrowed(some), &borrowed(others)),
            SimFault::CutOneWay(from, to) => self.cut_one_way(&borrowed(from), &borrowed(to)),
            SimFault::Slow(one, other, link) => self.link(&[one], &[other], *link),
            SimFault::Clock(name, seconds) => self.set_forward(name, *seconds),
        }
    }

    fn end(&mut self, fault: &SimFault) {
        match fault {
            SimFault::Kill(name) | SimFault::PowerCut(name) => self.restart(name),
            SimFault::FullDisk(name) => self.free_disk(name),
            SimFault::Freeze(name) => self.wake(name),
            SimFault::Cut(some, others) => self.join(&borrowed(some), &borrowed(others)),
            SimFault::CutOneWay(from, to) => self.join_one_way(&borrowed(from), &borrowed(to)),
            SimFault::Slow(one, other, _) => self.unlink(one, other),
            SimFault::Clock(name, seconds) => self.set_forward(name, -seconds),
        }
    }

    /// Checks something after each step, until [`finish`](Self::finish) stops the processes. An error fails the test.
    pub fn always(&mut self, check: impl FnMut(&mut Self) -> Result<(), String> + 'static) {
        self.checks.push(Box::new(check));
    }

    /// Lets time pass.
    ///
    /// # Panics
    /// If a process fails or panics, or a check fails.
    #[track_caller]
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + whole_millis(time);
        while self.now < end {
            self.step(end);
        }
    }

    /// Lets time pass until something is true. It is looked at after each step.
    ///
    /// # Panics
    /// If it is not within this time, or as [`run_for`](Self::run_for).
    #[track_caller]
    pub fn eventually(&mut self, within: Duration, what: &str, mut is_true: impl FnMut(&mut Self) -> bool) {
        let end = self.now + whole_millis(within);
        while !is_true(self) {
            if self.now >= end {
                self.fail(&[format!("not within {within:?}: {what}")]);
            }
            self.step(end);
        }
    }

    /// The connection of a process that is running and has connected.
    ///
    /// # Panics
    /// If there is no process of this name.
    #[must_use]
    #[track_caller]
    pub fn aether(&mut self, name: &str) -> Option<Aether> {
        let place = self.place(name);
        if self.processes[place].has_ended() {
            return None;
        }
        let now = self.now;
        self.processes[place].enter(now, |_, life| life.map(|life| life.aether)).flatten()
    }

    /// Runs a task in a process until it has ended, and lets time pass for all meanwhile.
    ///
    /// # Panics
    /// If the task panics, the process does not connect within a minute or is killed, or the task takes a day. Also as
    /// [`run_for`](Self::run_for).
    #[track_caller]
    pub fn run<F>(&mut self, name: &str, task: impl FnOnce(Aether) -> F) -> F::Output
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let place = self.place(name);
        self.eventually(CONNECTS_WITHIN, &format!("{name} is connected"), |sim| sim.aether(name).is_some());
        let now = self.now;
        let started = self.processes[place]
            .enter(now, |runtime, life| life.map(|life| runtime.spawn(task(life.aether))));
        let Some(mut running) = started.flatten() else { self.fail(&[format!("{name} is not running")]) };
        let end = self.now + RUNS_WITHIN;
        while !running.is_finished() {
            if self.now >= end {
                self.fail(&[format!("a task of {name} has not ended after a day")]);
            }
            self.step(end);
        }
        match futures_util::FutureExt::now_or_never(&mut running) {
            Some(Ok(output)) => output,
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            _ => self.fail(&[format!("{name} was killed while it ran a task")]),
        }
    }

    /// The counts of each connection of a process that has not ended.
    fn counted(&mut self, place: usize) -> Vec<(ConnectionId, Counted)> {
        if self.processes[place].has_ended() {
            return Vec::new();
        }
        let counted = |life: Option<Life>| {
            let connections = life.map(|life| life.connections.lock().clone()).unwrap_or_default();
            connections.iter().map(|(connection, aether)| (*connection, Counted::of(aether))).collect()
        };
        let now = self.now;
        self.processes[place].enter(now, |_, life| counted(life)).unwrap_or_default()
    }

    /// Ends all cuts, wakes frozen processes, stops all that run, and checks them. Returns the accounts of those that
    /// were stopped, in the order in which they were added: one for each connection.
    ///
    /// # Panics
    /// If a process does not stop, fails, or has accounts that do not add up, or the accounts of several do not agree.
    #[track_caller]
    pub fn finish(&mut self) -> Vec<(String, Account)> {
        if std::mem::replace(&mut self.is_finished, true) {
            return std::mem::take(&mut self.accounts);
        }
        let mut until = self.now.saturating_sub(HEARD_WITHIN);
        if self.is_disturbed {
            until = self.now;
            self.heal();
            for name in self.processes.iter().map(|process| process.name.clone()).collect::<Vec<_>>() {
                self.wake(&name);
            }
            self.run_for(CALMS_WITHIN);
        }
        self.checks.clear();
        let counted = (0..self.processes.len()).flat_map(|place| self.counted(place)).collect();
        let problems = self.world.sums.lock().problems((until, self.is_disturbed), &counted);
        if !problems.is_empty() {
            self.fail(&problems);
        }
        for process in &self.processes {
            if let Some(running) = &process.running {
                running.shutdown.cancel();
            }
        }
        let end = self.now + STOPS_WITHIN;
        while !self.processes.iter().all(Process::has_ended) {
            if self.now >= end {
                let left = self.processes.iter().filter(|process| !process.has_ended());
                let problems: Vec<_> = left
                    .map(|process| format!("{} has not stopped within {STOPS_WITHIN:?}", process.name))
                    .collect();
                self.fail(&problems);
            }
            self.step(end);
        }
        let mut problems = self.world.sums.lock().problems_at_end();
        for (name, account) in &self.accounts {
            let of_account = account.problems().into_iter().chain(account.in_flight());
            problems.extend(of_account.map(|problem| format!("{name}: {problem}")));
        }
        if !problems.is_empty() {
            self.fail(&problems);
        }
        std::mem::take(&mut self.accounts)
    }

    /// Runs all processes for a step that ends at `end` at the latest.
    #[track_caller]
    fn step(&mut self, end: Duration) {
        while let Some(entry) = self.script.first_entry().filter(|entry| entry.key().0 <= self.now) {
            entry.remove()(self);
        }
        let (least, most) = STEPS;
        let shortest = self.world.networks.all().iter().map(|network| network.shortest()).min();
        let step = whole_millis(shortest.unwrap_or_default()).clamp(least, most);
        let next = self.script.first_key_value().map_or(end, |((at, _), _)| *at);
        let until = (self.now + step).min(end).min(next).max(self.now + least);
        self.each_network(|network| network.advance(self.now));
        let mut problems = Vec::new();
        for process in &mut self.processes {
            process.run_until(self.now, until);
            match process.ended() {
                None => {}
                Some(Ok((accounts, unclosed))) => {
                    // It may end while others cannot be reached.
                    let is_calm = self.is_finished || !self.is_disturbed;
                    let unclosed = unclosed.filter(|_| is_calm);
                    problems.extend(unclosed.map(|problem| format!("{} {problem}", process.name)));
                    let (name, place) = (process.name.clone(), process.place);
                    self.world.trace.note(until, Event::Process { process: place, what: "has ended" });
                    self.accounts.extend(accounts.into_iter().map(|account| (name.clone(), account)));
                }
                Some(Err(problem)) => problems.push(format!("{} {problem}", process.name)),
            }
        }
        self.now = until;
        problems.extend(self.world.arrived.lock().problems());
        let mut checks = std::mem::take(&mut self.checks);
        problems.extend(checks.iter_mut().filter_map(|check| check(self).err()));
        checks.append(&mut self.checks);
        self.checks = checks;
        if !problems.is_empty() {
            self.fail(&problems);
        }
    }

    #[track_caller]
    fn fail(&self, problems: &[String]) -> ! {
        let problems: String = problems.iter().map(|problem| format!("  - {problem}\n")).collect();
        panic!("after {:?} of the simulation with seed {}:\n{problems}", self.now, self.world.seed);
    }

    /// The seed, the faults and the last events, for a message.
    fn described(&self) -> String {
        let names: Vec<String> = self.processes.iter().map(|process| process.name.clone()).collect();
        let mut text = String::new();
        for (number, planned) in self.planned.iter().enumerate() {
            if !self.left_out.contains(&number) {
                text.push_str(&format!("  {planned}\n"));
            }
        }
        let faults = if text.is_empty() { String::new() } else { format!("random faults:\n{text}") };
        format!("{faults}last events:\n{}", self.world.trace.last(&names))
    }
}

fn borrowed(names: &[String]) -> Vec<&str> {
    names.iter().map(|name| &**name).collect()
}

/// Time passes in whole milliseconds, as timers of tokio do.
fn whole_millis(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim").field("seed", &self.world.seed).field("now", &self.now).finish_non_exhaustive()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        // The processes go before what they hold of each other.
        let is_panicking = std::thread::panicking();
        if is_panicking && !explore::is_exploring() {
            eprintln!("the simulation had the seed {}\n{}", self.world.seed, self.described());
        }
        for place in 0..self.processes.len() {
            self.each_network(|network| network.kill(place));
            self.processes[place].end(true);
        }
    }
}
