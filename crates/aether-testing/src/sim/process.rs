//! One process of a simulation: a runtime of its own, whose clock is paused, and what runs in it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aether_core::medium::ConnectRequest;
use aether_core::{Aether, ConnectError, InboxOptions, clock};
use aether_files::disk;
use aether_lan::LanOptions;
use aether_service::{CancellationToken, ServiceCounters, ServiceReport, error_chain};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tower::BoxError;

use super::disk::{LifeDisk, Platter};
use super::epoch::Epoch;
use super::network::{Networks, Port};
use super::offering::Offering;
use super::sums::{ConnectionId, Counted, Sums};
use super::trace::Trace;
use super::watch::{Arrived, Watch};
use crate::seed::mixed;
use crate::verdict::Account;

/// The time of day when a simulation begins: 2026-01-01, 00:00 UTC.
pub(super) const BEGINS: Duration = Duration::from_secs(1_767_225_600);

/// The scheme of the addresses of networks.
const SCHEME: &str = "lan:";

/// The code of a process.
pub(super) type Main = Arc<dyn Fn(Life) -> BoxFuture<'static, Result<(), BoxError>> + Send + Sync>;

/// The possessions of one life of a process.
#[derive(Clone)]
pub(super) struct Life {
    pub(super) aether: Aether,
    pub(super) shutdown: CancellationToken,
    pub(super) services: Arc<Mutex<Vec<(String, ServiceCounters)>>>,
    pub(super) connections: Connections,
}

/// The common parts of all processes of a simulation.
#[derive(Clone)]
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) networks: Networks,
    pub(super) arrived: Arc<Mutex<Arrived>>,
    pub(super) sums: Arc<Mutex<Sums>>,
    pub(super) trace: Trace,
    /// The disks by the names of their processes.
    pub(super) disks: Arc<Mutex<BTreeMap<String, Arc<Mutex<Platter>>>>>,
}

impl World {
    pub(super) fn disk(&self, name: &str) -> Arc<Mutex<Platter>> {
        let mut disks = self.disks.lock();
        let made = || Arc::new(Mutex::new(Platter::new(self.seed, name)));
        Arc::clone(disks.entry(name.to_owned()).or_insert_with(made))
    }
}

/// How far the clock of a process is off.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WallClock {
    /// At the start of the simulation, in nanoseconds.
    pub(super) ahead: i128,
    /// Nanoseconds more for each second.
    pub(super) drift: i64,
}

impl WallClock {
    fn at(self, now: Duration) -> SystemTime {
        let drifted = now.as_nanos() as i128 * i128::from(self.drift) / 1_000_000_000;
        let nanos = (BEGINS + now).as_nanos() as i128 + self.ahead + drifted;
        SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }
}

/// The end of a process: the account of each of its connections, and why it could not close one, if so.
type ProcessEnd = Result<(Vec<Account>, Option<String>), String>;

thread_local! {
    /// The life of a process that runs now.
    static RUNNING: RefCell<Option<Entrance>> = const { RefCell::new(None) };
}

/// The way of one life of a process to its networks.
#[derive(Clone)]
pub(super) struct Entrance {
    world: World,
    process: usize,
    name: String,
    life: u64,
    epoch: Epoch,
    connections: Connections,
}

/// The connections of a life, in the order in which they were made.
pub(super) type Connections = Arc<Mutex<Vec<(ConnectionId, Aether)>>>;

pub(super) struct RunningProcess {
    runtime: Runtime,
    epoch: Epoch,
    entrance: Entrance,
    pub(super) shutdown: CancellationToken,
    life: Arc<Mutex<Option<Life>>>,
    main: Option<JoinHandle<ProcessEnd>>,
    /// The time until which it was run.
    until: Duration,
    random: u64,
    disk: Arc<LifeDisk>,
}

pub(super) struct Process {
    pub(super) name: String,
    pub(super) place: usize,
    main: Main,
    /// The ones of its first connection.
    networks: Vec<String>,
    lives: u64,
    pub(super) clock: WallClock,
    pub(super) running: Option<RunningProcess>,
    pub(super) is_frozen: bool,
}

impl Process {
    pub(super) fn new(name: &str, place: usize, networks: Vec<String>, main: Main) -> Self {
        let (name, clock) = (name.to_owned(), WallClock::default());
        Self { name, place, main, networks, lives: 0, clock, running: None, is_frozen: false }
    }

    /// Starts it. It does nothing before it is run.
    pub(super) fn start(&mut self, world: &World, now: Duration) -> Result<(), std::io::Error> {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build()?;
        self.lives += 1;
        let random = mixed([world.seed, 3, self.place as u64, self.lives]);
        let (shutdown, life) = (CancellationToken::new(), Arc::<Mutex<Option<Life>>>::default());
        let inside = runtime.enter();
        let epoch = Epoch::at(now);
        let entrance = Entrance {
            world: world.clone(),
            process: self.place,
            name: self.name.clone(),
            life: self.lives,
            epoch,
            connections: Connections::default(),
        };
        let disk = LifeDisk::new(world.disk(&self.name), self.place, epoch, world.trace.clone());
        let main = runtime.spawn(live(
            Arc::clone(&self.main),
            (entrance.clone(), self.networks.clone()),
            shutdown.clone(),
            Arc::clone(&life),
        ));
        drop(inside);
        let (main, until, disk) = (Some(main), now, Arc::new(disk));
        self.running =
            Some(RunningProcess { runtime, epoch, entrance, shutdown, life, main, until, random, disk });
        self.is_frozen = false;
        Ok(())
    }

    /// Runs it until a time, if it is neither dead nor frozen. A process that was frozen finds that the time has passed.
    pub(super) fn run_until(&mut self, now: Duration, until: Duration) {
        let clock = self.clock;
        let Some(running) = self.running.as_mut().filter(|_| !self.is_frozen) else { return };
        running.with(clock, now, |runtime, epoch, since| {
            runtime.block_on(async {
                if now > since {
                    tokio::time::advance(now - since).await;
                }
                tokio::time::sleep_until(epoch.instant_of(until)).await;
            });
        });
        running.until = until;
    }

    /// Drops what is left of it. Of one that is killed, nothing is written any more. Returns whether there was something.
    pub(super) fn end(&mut self, is_killed: bool) -> bool {
        let Some(running) = self.running.take() else { return false };
        if is_killed {
            running.disk.go();
        }
        disk::simulate(Some(Arc::clone(&running.disk) as _));
        drop(running);
        disk::simulate(None);
        true
    }

    /// Calls something in its runtime.
    pub(super) fn enter<T>(
        &mut self,
        now: Duration,
        call: impl FnOnce(&Runtime, Option<Life>) -> T,
    ) -> Option<T> {
        let clock = self.clock;
        let running = self.running.as_mut()?;
        let life = running.life.lock().clone();
        Some(running.with(clock, now, |runtime, _, _| {
            let _inside = runtime.enter();
            call(runtime, life)
        }))
    }

    /// How its main function ended, once it has.
    pub(super) fn ended(&mut self) -> Option<ProcessEnd> {
        let running = self.running.as_mut()?;
        let main = running.main.take_if(|main| main.is_finished())?;
        Some(match running.runtime.block_on(main) {
            Ok(ended) => ended,
            Err(error) => Err(match error.try_into_panic() {
                Ok(panic) => format!("panicked: {}", message_of(&*panic)),
                Err(error) => error.to_string(),
            }),
        })
    }

    pub(super) fn has_ended(&self) -> bool {
        self.running.as_ref().is_none_or(|running| running.main.is_none())
    }
}

impl RunningProcess {
    /// Calls something with the clock and the random numbers of this process.
    fn with<T>(
        &mut self,
        clock: WallClock,
        now: Duration,
        call: impl FnOnce(&Runtime, Epoch, Duration) -> T,
    ) -> T {
        clock::set_wall_time(self.epoch.instant_of(now).into_std(), clock.at(now));
        fastrand::seed(self.random);
        RUNNING.set(Some(self.entrance.clone()));
        disk::simulate(Some(Arc::clone(&self.disk) as _));
        let called = call(&self.runtime, self.epoch, self.until);
        disk::simulate(None);
        self.random = fastrand::get_seed();
        RUNNING.take();
        called
    }
}

/// The text of a panic.
pub(super) fn message_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

/// Connects the process in which it is called to a network once more, as a bridge is on several. The network is one that
/// [`Sim::on`](super::Sim::on) has named.
///
/// # Errors
/// As [`AetherBuilder::connect`](aether_core::AetherBuilder::connect).
///
/// # Panics
/// Outside of a simulated process, and if there is no such network.
pub async fn connect(network: &str) -> Result<Aether, ConnectError> {
    let Some(entrance) = RUNNING.with_borrow(Clone::clone) else {
        panic!("a simulated process connects to a simulated network, and none runs here")
    };
    entrance.connect(&[network.to_owned()]).await
}

impl Entrance {
    /// Connects to a network, or to several as paths of one medium.
    async fn connect(&self, networks: &[String]) -> Result<Aether, ConnectError> {
        let mut identity = vec![self.process as u64, self.life];
        let number = self.connections.lock().len() as u64;
        identity.extend((number > 0).then_some(number));
        let connection = mixed(identity);
        let World { sums, arrived, trace, .. } = &self.world;
        sums.lock().opens(connection, &self.name, networks);
        let watch = Watch {
            process: self.process,
            name: self.name.clone(),
            networks: networks.join(" "),
            connection,
            epoch: self.epoch,
            arrived: Arc::clone(arrived),
            sums: Arc::clone(sums),
            trace: trace.clone(),
        };
        let of_outbox = Arc::clone(sums);
        let outbox = InboxOptions::default().on_shed(move |wave, _| of_outbox.lock().sheds(connection, wave));
        let lan = LanOptions::default().insecure(true).name(&self.name).outbox(outbox);
        let entrance = self.clone();
        let lan_of = move |mut request: ConnectRequest| {
            let network = entrance.world.networks.find(request.url.trim_start_matches(SCHEME));
            let port = Port::new(network, entrance.process, entrance.epoch);
            SCHEME.clone_into(&mut request.url);
            aether_lan::connect(request.with_options(lan.clone().network(Arc::new(port))))
        };
        let (epoch, sums) = (self.epoch, Arc::clone(sums));
        let url: Vec<String> = networks.iter().map(|network| format!("{SCHEME}{network}")).collect();
        let builder = aether::builder().scheme("lan", lan_of).url(url.join(" "));
        let builder = builder
            .layer(move |inner| Arc::new(Offering { inner, connection, epoch, sums: Arc::clone(&sums) }));
        let aether = builder.program(&self.name).guard(watch).connect().await?;
        self.connections.lock().push((connection, aether.clone()));
        Ok(aether)
    }
}

/// The life of a process from its start to its end.
async fn live(
    main: Main,
    (entrance, networks): (Entrance, Vec<String>),
    shutdown: CancellationToken,
    place: Arc<Mutex<Option<Life>>>,
) -> ProcessEnd {
    let connected = entrance.connect(&networks).await;
    let aether = connected.map_err(|error| format!("cannot connect: {}", error_chain(&error)))?;
    let connections = Arc::clone(&entrance.connections);
    let life = Life { aether, shutdown, services: Arc::default(), connections };
    *place.lock() = Some(life.clone());
    let services = Arc::clone(&life.services);
    let ended = main(life).await;
    let connections = entrance.connections.lock().clone();
    let (mut accounts, mut unclosed) = (Vec::new(), None);
    for (connection, aether) in connections {
        if let Err(error) = aether.close().await {
            unclosed.get_or_insert(format!("could not close its medium: {}", error_chain(&error)));
        }
        entrance.world.sums.lock().is_closed(connection, Counted::of(&aether));
        let services = std::mem::take(&mut *services.lock());
        let reports = services.iter().map(|(name, counters)| (name.clone(), counters.report()));
        let reports: Vec<(String, ServiceReport)> = reports.collect();
        accounts.push(Account::of(&aether, reports, None));
    }
    ended.map_err(|error| format!("failed: {}", error_chain(&*error)))?;
    Ok((accounts, unclosed))
}
