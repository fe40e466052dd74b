//! The test bus: an [`Aether`] with the services, vibrators and probes of one test, checked at its end.

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aether_core::echo::DeadLetter;
use aether_core::{Aether, Durability, Vibrator, Wave};
use aether_log::{Log, LogBuilder};
use aether_service::{
    Answer, CancellationToken, Handling, Service, ServiceBuilder, ServiceReport, error_chain,
};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::time::Instant;
use tower::{BoxError, Layer};

use crate::faults::Faults;
use crate::probe::Probe;
use crate::running::Running;
use crate::situation::{Situation, indented};
use crate::verdict::{Account, unread};

/// Options of a test bus.
#[derive(Debug)]
#[must_use = "nothing happens before start()"]
pub struct TestBusBuilder {
    aether: aether_core::AetherBuilder,
    faults: Option<Faults>,
    is_in_process: bool,
    log: Option<(TempDir, LogBuilder)>,
}

impl TestBusBuilder {
    /// Connects with these options, for example to a NATS server. Default: in process.
    pub fn over(mut self, aether: aether_core::AetherBuilder) -> Self {
        self.aether = aether;
        self.is_in_process = false;
        self
    }

    /// Puts faults between the emitters and the medium.
    pub fn faults(mut self, faults: &Faults) -> Self {
        self.faults = Some(faults.clone());
        self
    }

    /// Keeps the waves of these channels in a [log](Log), in a folder that is removed with the bus: durable handlers find
    /// it, and so do waves for later. Each call adds a pattern.
    ///
    /// # Panics
    /// If the pattern is not valid, or the folder cannot be made.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
    /// use aether_service::{Durable, Service};
    /// use aether_testing::TestBus;
    ///
    /// let bus = TestBus::builder().durable("jobs.>").start().await;
    /// let worker = Service::builder("worker").on_durable("jobs.>", Durable::consumer("worker"), async || ());
    /// let worker = bus.serve(worker).await;
    /// bus.vibrator("shop").await.emit_wave("jobs.resize", &17).await.unwrap();
    /// tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    /// assert_eq!(worker.report().succeeded, 1);
    /// bus.finish().await;
    /// # }
    /// ```
    #[track_caller]
    pub fn durable(mut self, pattern: &str) -> Self {
        let (folder, log) = self.log.take().unwrap_or_else(|| match tempfile::tempdir() {
            Ok(folder) => {
                let log = Log::builder(folder.path());
                (folder, log)
            }
            Err(error) => panic!("the test bus has no folder for its log: {error}"),
        });
        match log.channels(pattern, Durability::Stored) {
            Ok(log) => self.log = Some((folder, log)),
            Err(error) => panic!("{pattern:?} cannot be durable: {}", error_chain(&error)),
        }
        self
    }

    /// Connects.
    ///
    /// # Panics
    /// If the medium cannot be reached, or the log cannot be opened.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing stays connected.
    #[track_caller]
    pub fn start(self) -> impl Future<Output = TestBus> {
        let at = Location::caller();
        async move {
            // Instance numbers and the pauses of retries are then the same in every run. Over a network instance numbers
            // have to differ between processes.
            if self.is_in_process {
                fastrand::seed(self.faults.as_ref().map_or(0, Faults::seed));
            }
            let builder = match &self.faults {
                Some(faults) => faults.around(self.aether),
                None => self.aether,
            };
            let log = self.log.map(|(folder, log)| match log.open() {
                Ok(log) => (folder, log),
                Err(error) => panic!("the test bus cannot open its log ({at}): {}", error_chain(&error)),
            });
            let builder = log.iter().fold(builder, |builder, (_, log)| log.layer(builder));
            let aether = match builder.connect().await {
                Ok(aether) => aether,
                Err(error) => panic!("the test bus cannot connect ({at}): {}", error_chain(&error)),
            };
            let folder = log.map(|(folder, log)| {
                log.attach(&aether);
                folder
            });
            let situation = Situation {
                aether,
                _folder: folder,
                started: Instant::now(),
                faults: self.faults,
                services: Mutex::default(),
            };
            TestBus {
                situation: Arc::new(situation),
                shutdown: CancellationToken::new(),
                looked_at: AtomicU64::new(0),
                is_checked: false,
            }
        }
    }
}

/// A bus for one test: the real services on the real bus, in process unless [`TestBusBuilder::over`] names another
/// medium.
///
/// In process it seeds the random numbers of this thread (crate `fastrand`), from which Aether draws instance numbers and
/// the pauses of retries: with the seed of the faults, or with 0. In a runtime of one thread with paused time, a test is
/// then the same in every run.
///
/// [`finish`](Self::finish) ends it. Dropped instead, it makes the checks of `finish` that need no waiting and panics if
/// one fails, unless the thread panics already.
#[derive(Debug)]
pub struct TestBus {
    situation: Arc<Situation>,
    shutdown: CancellationToken,
    /// The highest number of a dead letter that the test looked at.
    looked_at: AtomicU64,
    is_checked: bool,
}

impl TestBus {
    /// A bus in process, without faults.
    #[track_caller]
    pub fn start() -> impl Future<Output = Self> {
        Self::builder().start()
    }

    /// A bus with options.
    pub fn builder() -> TestBusBuilder {
        crate::follow_tokio();
        TestBusBuilder { aether: aether::builder(), faults: None, is_in_process: true, log: None }
    }

    /// The connection, for everything that has no method here.
    #[must_use]
    pub fn aether(&self) -> &Aether {
        &self.situation.aether
    }

    /// A vibrator with default options. [`Vibrator::builder`] with [`aether`](Self::aether) makes others.
    ///
    /// # Panics
    /// If the name is invalid.
    #[track_caller]
    pub fn vibrator(&self, name: &str) -> impl Future<Output = Vibrator> {
        let at = Location::caller();
        async move {
            match Vibrator::create(name, self.aether()).await {
                Ok(vibrator) => vibrator,
                Err(error) => panic!("cannot create the vibrator {name:?} ({at}): {}", error_chain(&error)),
            }
        }
    }

    /// A probe that sees the waves of a pattern from now on; `*` alone is everything.
    ///
    /// # Panics
    /// If the pattern is invalid.
    #[track_caller]
    pub fn probe(&self, pattern: &str) -> impl Future<Output = Probe> {
        let at = Location::caller();
        async move { Probe::create(Arc::clone(&self.situation), pattern, at).await }
    }

    /// Builds a service and runs it until the end of the test.
    ///
    /// # Panics
    /// If the service cannot be built.
    #[track_caller]
    pub fn serve<S, L>(&self, builder: ServiceBuilder<S, L>) -> impl Future<Output = Running>
    where
        S: Send + Sync + 'static,
        L: Layer<Handling>,
        L::Service: tower::Service<Wave, Response = Answer> + Send + 'static,
        <L::Service as tower::Service<Wave>>::Error: Into<BoxError>,
        <L::Service as tower::Service<Wave>>::Future: Send + 'static,
    {
        let at = Location::caller();
        async move {
            match builder.build(self.aether()).await {
                Ok(service) => self.run(service),
                Err(error) => panic!("cannot build the service ({at}): {}", error_chain(&error)),
            }
        }
    }

    /// Runs a service that was built on [`aether`](Self::aether) until the end of the test.
    pub fn run(&self, service: Service) -> Running {
        let running = Running::start(service, self.shutdown.child_token());
        self.situation.services.lock().push(running.clone());
        running
    }

    /// Cancelled when the bus ends its services; for tasks of the test that have to end with them.
    #[must_use]
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// The dead letters now. They count as looked at, so they do not fail the test.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        let letters = self.aether().dead_letters().list();
        let last = letters.iter().map(|letter| letter.number).max().unwrap_or(0);
        self.looked_at.fetch_max(last, Ordering::Relaxed);
        letters
    }

    /// Stops all services and returns their accounts, in the order in which they were started. Dead letters of this
    /// shutdown can be looked at before [`finish`](Self::finish).
    ///
    /// # Panics
    /// If a service failed or does not stop.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the services stop all the same.
    #[track_caller]
    pub fn stop_services(&self) -> impl Future<Output = Vec<(String, ServiceReport)>> {
        let at = Location::caller();
        async move {
            let (reports, problems) = self.stopped_services().await;
            assert!(problems.is_empty(), "{} ({at})", problems.join("\n"));
            reports
        }
    }

    async fn stopped_services(&self) -> (Vec<(String, ServiceReport)>, Vec<String>) {
        self.shutdown.cancel();
        let services = self.situation.services.lock().clone();
        let (mut reports, mut problems) = (Vec::new(), Vec::new());
        for service in services {
            match service.stopped().await {
                Ok(report) => reports.push((service.name().to_owned(), report)),
                Err(problem) => problems.push(problem),
            }
        }
        (reports, problems)
    }

    /// Stops the services, closes the bus, and checks it: every account must add up, no service may have failed or have
    /// waves in flight, and the test must have looked at every dead letter.
    ///
    /// # Panics
    /// If a check fails. The message lists all of them.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the bus is dropped, with the checks that need no waiting.
    #[track_caller]
    pub fn finish(self) -> impl Future<Output = Account> {
        let at = Location::caller();
        async move {
            let mut bus = self;
            let (_, mut problems) = bus.stopped_services().await;
            if let Err(error) = bus.aether().close().await {
                problems.push(format!("closing the bus failed: {}", error_chain(&error)));
            }
            let account = bus.situation.account();
            problems.extend(account.in_flight());
            problems.extend(bus.problems(&account));
            bus.is_checked = true;
            if !problems.is_empty() {
                fail(&format!("the test ended with problems ({at})"), &problems, &account);
            }
            account
        }
    }

    /// What is wrong now.
    fn problems(&self, account: &Account) -> Vec<String> {
        let looked_at = self.looked_at.load(Ordering::Relaxed);
        let mut letters = self.aether().dead_letters().list();
        letters.retain(|letter| letter.number > looked_at);
        account.problems().into_iter().chain(unread(&letters)).collect()
    }
}

fn fail(what: &str, problems: &[String], account: &Account) -> ! {
    let problems: String = problems.iter().map(|problem| format!("  - {problem}\n")).collect();
    panic!("{what}:\n{problems}  accounts:\n{}", indented(&account.to_string()));
}

impl Drop for TestBus {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if self.is_checked || std::thread::panicking() {
            return;
        }
        let account = self.situation.account();
        let problems = self.problems(&account);
        if !problems.is_empty() {
            fail("a test bus was dropped with problems", &problems, &account);
        }
    }
}
