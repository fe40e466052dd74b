//! Durable handlers: what they return decides what becomes of a wave in the log, in a folder and in JetStream.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use aether_conformance::{NatsServer, ServerOptions};
use aether_core::{Aether, AetherBuilder, Durability, Wave};
use aether_log::{
    ConsumerOptions, DurableLog, JetStreamLog, JetStreamOptions, Limit, Log, Tenant, WeightError,
};
use aether_service::{Breaker, Durable, Json, Limits, Service, ServiceError, State};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::service::stage::{Gate, LONG, Stage, gated};

/// Where a log is kept. It can be opened again.
enum Place {
    Folder(TempDir),
    JetStream { server: Box<NatsServer>, _streams: TempDir },
}

impl Place {
    fn folder() -> Self {
        Self::Folder(tempfile::tempdir().unwrap())
    }

    async fn jetstream() -> Self {
        let streams = tempfile::tempdir().unwrap();
        let server = ServerOptions::default().jetstream(streams.path());
        let server = NatsServer::start_with(server).await.unwrap();
        Self::JetStream { server: Box::new(server), _streams: streams }
    }

    async fn connect(&self) -> (DurableLog, Aether) {
        let log = loop {
            match self.open().await {
                // Tasks of the service before may end a moment after its report.
                Err(error) if error.contains("InUse") => tokio::task::yield_now().await,
                log => break log.unwrap(),
            }
        };
        let aether = log.connect(AetherBuilder::new().url("local:")).await.unwrap();
        (log, aether)
    }

    async fn open(&self) -> Result<DurableLog, String> {
        let log = match self {
            Self::Folder(folder) => {
                let log = Log::builder(folder.path()).channels("jobs.>", Durability::Stored).unwrap();
                log.open().map_err(|error| format!("{error:?}"))?.into()
            }
            Self::JetStream { server, .. } => {
                let options = JetStreamOptions::default().ack_wait(Duration::from_secs(20)).patience(LONG);
                let log = JetStreamLog::builder(server.url(), "jobs").options(options);
                log.channels("jobs.>", Durability::Stored).unwrap().open().await.unwrap().into()
            }
        };
        Ok(log)
    }
}

/// Each promise, in a folder and in JetStream.
macro_rules! promises {
    ($($promise:ident)*) => {
        mod folder {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $promise() {
                    super::$promise(super::Place::folder()).await;
                }
            )*
        }
        mod jetstream {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $promise() {
                    super::$promise(super::Place::jetstream().await).await;
                }
            )*
        }
    };
}

promises! {
    a_wave_that_is_handled_does_not_come_again
    a_wave_that_fails_comes_again_and_at_last_is_a_letter_with_all_attempts
    a_wave_that_cannot_be_read_is_a_letter_at_once
    what_does_not_finish_in_time_goes_back_and_counts_no_attempt
    an_open_circuit_leaves_the_waves_in_the_log
    a_wave_that_fails_its_batch_comes_again_alone
    a_batch_that_does_not_finish_in_time_goes_back
    waves_of_a_key_are_handled_in_order_and_a_retry_holds_its_key_only
    a_service_that_ends_gives_its_keys_to_the_next_one
    each_tenant_is_served_by_its_weight
    no_tenant_has_more_waves_in_flight_than_its_limit
}

fn worker() -> Durable {
    let attempts = NonZeroU32::new(3).unwrap();
    let options = ConsumerOptions::default().max_attempts(attempts);
    Durable::consumer("worker").options(options.pauses(Duration::from_millis(1), Duration::from_millis(4)))
}

async fn emit(aether: &Aether, jobs: impl IntoIterator<Item = u32>) {
    let emitter = aether.emitter("shop").unwrap();
    for job in jobs {
        let wave = Wave::builder("jobs.run").key(&(job % 10).to_string()).json(job);
        emitter.emit(wave.build().unwrap()).await.unwrap();
    }
}

type Done = mpsc::UnboundedSender<u32>;

async fn done(State(done): State<Done>, Json(job): Json<u32>) {
    done.send(job).unwrap();
}

async fn take(jobs: &mut mpsc::UnboundedReceiver<u32>, count: usize) -> BTreeSet<u32> {
    let mut taken = BTreeSet::new();
    while taken.len() < count {
        let job = tokio::time::timeout(LONG, jobs.recv()).await.unwrap().unwrap();
        assert!(taken.insert(job), "{job} comes once");
    }
    taken
}

async fn letters(log: &DurableLog) -> Vec<(u32, Vec<String>)> {
    let dead = log.dead();
    let mut letters = Vec::new();
    for number in dead.numbers().await.unwrap() {
        let letter = dead.show(number).await.unwrap();
        letters.push((letter.attempts, letter.failed.into_iter().map(|failed| failed.error).collect()));
    }
    letters
}

async fn until(is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, waiting).await.unwrap();
}

async fn a_wave_that_is_handled_does_not_come_again(place: Place) {
    let (sender, mut jobs) = mpsc::unbounded_channel();
    let service = || Service::builder("worker").state(sender.clone()).on_durable("jobs.>", worker(), done);
    {
        let (log, aether) = place.connect().await;
        // Also those that were stored before.
        emit(&aether, 0..50).await;
        let stage = Stage::on(aether.clone(), service()).await;
        emit(&aether, 50..100).await;
        assert_eq!(take(&mut jobs, 100).await, (0..100).collect());
        let report = stage.close().await;
        assert_eq!((report.received, report.succeeded), (100, 100));
        assert!(letters(&log).await.is_empty());
        aether.close().await.unwrap();
    }
    let (_log, aether) = place.connect().await;
    emit(&aether, [100]).await;
    let stage = Stage::on(aether, service()).await;
    assert_eq!(take(&mut jobs, 1).await, [100].into());
    assert_eq!(stage.close().await.received, 1);
}

async fn a_wave_that_fails_comes_again_and_at_last_is_a_letter_with_all_attempts(place: Place) {
    async fn fails(Json(job): Json<u32>, State(tries): State<Arc<Mutex<u32>>>) -> Result<(), std::io::Error> {
        if job == 2 {
            return Ok(());
        }
        let number = {
            let mut tries = tries.lock();
            *tries += 1;
            *tries
        };
        match number {
            1 => Err(std::io::Error::other("not yet")),
            2 => panic!("not at all"),
            _ => std::future::pending().await,
        }
    }
    let (log, aether) = place.connect().await;
    let durable = worker().limits(Limits::new().time_out(Duration::from_millis(50)));
    let builder = Service::builder("worker").state(Arc::default()).on_durable("jobs.>", durable, fails);
    let stage = Stage::on(aether.clone(), builder).await;
    emit(&aether, [1, 2]).await;
    until(async || !letters(&log).await.is_empty()).await;
    let report = stage.close().await;
    assert_eq!((report.succeeded, report.retried, report.timed_out), (1, 2, 1), "{report}");
    let letters = letters(&log).await;
    let [(3, failed)] = &letters[..] else { panic!("{letters:?}") };
    assert!(failed[0].contains("not yet") && failed[1].contains("panicked: not at all"), "{failed:?}");
    assert!(failed[2].contains("timed out"), "{failed:?}");
}

async fn a_wave_that_cannot_be_read_is_a_letter_at_once(place: Place) {
    let (log, aether) = place.connect().await;
    let (sender, mut jobs) = mpsc::unbounded_channel();
    let builder = Service::builder("worker").state(sender).on_durable("jobs.>", worker(), done);
    let stage = Stage::on(aether.clone(), builder).await;
    aether.emitter("shop").unwrap().emit_wave("jobs.run", &"no number").await.unwrap();
    emit(&aether, [7]).await;
    assert_eq!(take(&mut jobs, 1).await, [7].into());
    until(async || !letters(&log).await.is_empty()).await;
    let report = stage.close().await;
    assert_eq!((report.succeeded, report.rejected), (1, 1), "{report}");
    assert_eq!(letters(&log).await[0].0, 1);
}

async fn what_does_not_finish_in_time_goes_back_and_counts_no_attempt(place: Place) {
    // More often than the consumer tries a wave.
    for start in 0..4 {
        let (log, aether) = place.connect().await;
        let (gate, mut begun) = Gate::new();
        let builder = Service::builder("worker").grace(Duration::from_millis(20)).state(gate);
        let stage = Stage::on(aether.clone(), builder.on_durable("jobs.>", worker(), gated)).await;
        if start == 0 {
            emit(&aether, [1]).await;
        }
        tokio::time::timeout(LONG, begun.recv()).await.unwrap().unwrap();
        let report = stage.close().await;
        assert_eq!((report.received, report.abandoned), (1, 1), "{report}");
        assert!(letters(&log).await.is_empty());
        aether.close().await.unwrap();
    }
    let (log, _aether) = place.connect().await;
    let attempts = NonZeroU32::new(3).unwrap();
    let options = ConsumerOptions::default().max_attempts(attempts);
    let consumer = log.consumer("worker", "jobs.>", options).unwrap();
    let delivery = tokio::time::timeout(LONG, consumer.receive()).await.unwrap().unwrap();
    assert_eq!(delivery.attempt(), 1);
    delivery.ack().await.unwrap();
}

async fn waves_of_a_key_are_handled_in_order_and_a_retry_holds_its_key_only(place: Place) {
    type Seen = Arc<Mutex<(BTreeMap<u32, Vec<u32>>, BTreeSet<u32>, u32)>>;
    async fn handle(State(seen): State<Seen>, Json(job): Json<u32>) -> Result<(), std::io::Error> {
        let is_first = {
            let (_, failed, running) = &mut *seen.lock();
            *running += 1;
            // Each third job fails once.
            job % 3 == 0 && failed.insert(job)
        };
        tokio::time::sleep(Duration::from_millis(1)).await;
        let (handled, _, running) = &mut *seen.lock();
        *running -= 1;
        if is_first {
            return Err(std::io::Error::other("once more"));
        }
        handled.entry(job % 10).or_default().push(job);
        Ok(())
    }
    let (log, aether) = place.connect().await;
    let seen = Seen::default();
    let builder = Service::builder("worker").state(Arc::clone(&seen));
    let stage = Stage::on(aether.clone(), builder.on_durable("jobs.>", worker().by_key(64), handle)).await;
    emit(&aether, 0..300).await;
    let handled = || seen.lock().0.values().map(Vec::len).sum::<usize>();
    until(async || handled() == 300).await;
    let report = stage.close().await;
    assert_eq!((report.succeeded, report.retried), (300, 100), "{report}");
    for (key, jobs) in &seen.lock().0 {
        assert_eq!(*jobs, (0..30).map(|number| 10 * number + key).collect::<Vec<_>>());
    }
    assert!(letters(&log).await.is_empty());
}

async fn a_service_that_ends_gives_its_keys_to_the_next_one(place: Place) {
    let begun = tokio::time::Instant::now();
    for start in 0..2 {
        let (_log, aether) = place.connect().await;
        let (gate, mut handling) = Gate::new();
        let builder = Service::builder("worker").grace(Duration::from_millis(20)).state(gate);
        let builder = builder.on_durable("jobs.>", worker().by_key(10), gated);
        let stage = Stage::on(aether.clone(), builder).await;
        if start == 0 {
            emit(&aether, 0..60).await;
        }
        for _ in 0..10 {
            tokio::time::timeout(LONG, handling.recv()).await.unwrap().unwrap();
        }
        assert_eq!(stage.close().await.abandoned, 10, "one of each key");
        aether.close().await.unwrap();
    }
    let (_log, aether) = place.connect().await;
    let (sender, mut jobs) = mpsc::unbounded_channel();
    let builder = Service::builder("worker").state(sender);
    let stage = Stage::on(aether, builder.on_durable("jobs.>", worker().by_key(10), done)).await;
    let mut last = BTreeMap::new();
    for _ in 0..60 {
        let job = tokio::time::timeout(LONG, jobs.recv()).await.unwrap().unwrap();
        let next = last.get(&(job % 10)).map_or(job % 10, |before| before + 10);
        assert_eq!(job, next, "in the order of its key");
        last.insert(job % 10, job);
    }
    assert_eq!(stage.close().await.succeeded, 60);
    // In JetStream the server would wait for 20 s for what is not given back.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

async fn each_tenant_is_served_by_its_weight(place: Place) {
    let (_log, aether) = place.connect().await;
    for (source, from, jobs, amplitude) in [("small", 0, 60, 0.1), ("flood", 100, 300, 1.0)] {
        let emitter = aether.emitter(source).unwrap();
        for job in from..from + jobs {
            let wave = Wave::builder("jobs.run").amplitude(amplitude).json(job);
            emitter.emit(wave.build().unwrap()).await.unwrap();
        }
    }
    let (sender, mut jobs) = mpsc::unbounded_channel();
    let fair = worker().fair_by(Tenant::Source).weight("small", NonZeroU32::new(2).unwrap());
    let fair = fair.limits(Limits::new().concurrency(1));
    let builder = Service::builder("worker").state(sender).on_durable("jobs.>", fair, done);
    let stage = Stage::on(aether, builder).await;
    let first = take(&mut jobs, 92).await;
    assert_eq!(first.iter().filter(|job| **job < 100).count(), 60, "two of three: {first:?}");
    take(&mut jobs, 268).await;
    assert_eq!(stage.close().await.succeeded, 360);
}

async fn no_tenant_has_more_waves_in_flight_than_its_limit(place: Place) {
    type Running = Arc<Mutex<[u32; 10]>>;
    async fn run(State((running, done)): State<(Running, Done)>, Json(job): Json<u32>) {
        let tenant = (job % 10) as usize;
        running.lock()[tenant] += 1;
        assert!(running.lock()[tenant] <= 2);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        running.lock()[tenant] -= 1;
        done.send(job).unwrap();
    }
    let (_log, aether) = place.connect().await;
    emit(&aether, 0..100).await;
    let (done, mut jobs) = mpsc::unbounded_channel();
    let two = NonZeroU32::new(2).unwrap();
    let rate = Limit::rate(two.saturating_mul(two), Duration::from_millis(20));
    let limited = worker().fair_by(Tenant::Key).limit(Limit::at_once(two)).limit(rate);
    let builder = Service::builder("worker").state((Running::default(), done));
    let begun = tokio::time::Instant::now();
    let stage = Stage::on(aether, builder.on_durable("jobs.>", limited, run)).await;
    take(&mut jobs, 100).await;
    assert!(begun.elapsed() >= Duration::from_millis(60), "ten of each, four in 20 ms");
    let report = stage.close().await;
    assert_eq!((report.succeeded, report.failed, report.retried), (100, 0, 0), "{report}");
}

async fn an_open_circuit_leaves_the_waves_in_the_log(place: Place) {
    async fn fails(State(is_broken): State<Arc<Mutex<bool>>>) -> Result<(), std::io::Error> {
        if *is_broken.lock() { Err(std::io::Error::other("broken")) } else { Ok(()) }
    }
    let (log, aether) = place.connect().await;
    let is_broken = Arc::new(Mutex::new(true));
    let breaker = Breaker::default().failures(2).open_for(Duration::from_millis(200));
    let durable = worker().limits(Limits::new().concurrency(1).circuit_breaker(breaker));
    let builder =
        Service::builder("worker").state(Arc::clone(&is_broken)).on_durable("jobs.>", durable, fails);
    let stage = Stage::on(aether.clone(), builder).await;
    emit(&aether, 0..20).await;
    until(async || stage.counters.report().retried == 2).await;
    *is_broken.lock() = false;
    until(async || stage.counters.report().succeeded == 20).await;
    let report = stage.close().await;
    assert_eq!((report.received, report.retried, report.failed), (22, 2, 0), "{report}");
    assert!(letters(&log).await.is_empty());
}

async fn a_wave_that_fails_its_batch_comes_again_alone(place: Place) {
    type Calls = Arc<Mutex<Vec<Vec<u32>>>>;
    async fn store(State(calls): State<Calls>, rows: Vec<Json<u32>>) -> Result<(), std::io::Error> {
        let rows: Vec<_> = rows.into_iter().map(|Json(row)| row).collect();
        let is_bad = rows.contains(&13);
        calls.lock().push(rows);
        if is_bad { Err(std::io::Error::other("not 13")) } else { Ok(()) }
    }
    let (log, aether) = place.connect().await;
    aether.emitter("shop").unwrap().emit_wave("jobs.run", &"no number").await.unwrap();
    emit(&aether, 0..100).await;
    let calls = Calls::default();
    let builder = Service::builder("archive").state(Arc::clone(&calls));
    let stage = Stage::on(aether.clone(), builder.on_durable_batch("jobs.>", worker(), 16, store)).await;
    until(async || letters(&log).await.len() == 2 && stage.counters.report().succeeded == 99).await;
    emit(&aether, 100..200).await;
    until(async || stage.counters.report().succeeded == 199).await;
    let report = stage.close().await;
    assert_eq!((report.rejected, report.failed), (1, 1), "{report}");
    let letters = letters(&log).await;
    let bad = letters.iter().find(|(attempts, _)| *attempts == 3).unwrap();
    assert!(bad.1[0].contains("the batch of") && bad.1[2].contains("not 13"), "{letters:?}");
    let calls = calls.lock();
    assert!(calls.iter().all(|rows| rows.len() <= 16));
    assert!(calls.iter().any(|rows| rows.len() > 1), "what waits is one batch");
    let (with_bad, others): (Vec<_>, Vec<_>) = calls.iter().partition(|rows| rows.contains(&13));
    assert!(with_bad.len() == 3 && with_bad[1..].iter().all(|rows| **rows == [13]), "{with_bad:?}");
    let mut done: Vec<_> = others.into_iter().flatten().copied().collect();
    done.sort_unstable();
    assert_eq!(done, (0..200).filter(|row| *row != 13).collect::<Vec<_>>(), "each row is stored once");
}

async fn a_batch_that_does_not_finish_in_time_goes_back(place: Place) {
    async fn stuck(State(begun): State<Done>, rows: Vec<Json<u32>>) {
        begun.send(u32::try_from(rows.len()).unwrap()).unwrap();
        std::future::pending().await
    }
    // More often than the consumer tries a wave.
    for start in 0..4 {
        let (log, aether) = place.connect().await;
        let (sender, mut begun) = mpsc::unbounded_channel();
        let builder = Service::builder("archive").grace(Duration::from_millis(20)).state(sender);
        if start == 0 {
            emit(&aether, [1, 2]).await;
        }
        let stage = Stage::on(aether.clone(), builder.on_durable_batch("jobs.>", worker(), 16, stuck)).await;
        let rows = tokio::time::timeout(LONG, begun.recv()).await.unwrap().unwrap();
        let report = stage.close().await;
        assert_eq!((report.received, report.abandoned), (u64::from(rows), u64::from(rows)), "{report}");
        assert!(letters(&log).await.is_empty());
        aether.close().await.unwrap();
    }
    let (log, _aether) = place.connect().await;
    let consumer = log.consumer("worker", "jobs.>", ConsumerOptions::default()).unwrap();
    for _ in 0..2 {
        let delivery = tokio::time::timeout(LONG, consumer.receive()).await.unwrap().unwrap();
        assert_eq!(delivery.attempt(), 1);
        delivery.ack().await.unwrap();
    }
}

#[tokio::test]
async fn a_service_without_the_consumers_that_it_names_is_refused() {
    async fn nothing() {}
    let refused = Service::builder("worker").on_durable("jobs.>", worker(), nothing);
    let refused = refused.build(&Aether::local()).await.unwrap_err();
    assert!(aether_service::error_chain(&refused).contains("has no durable log"), "{refused}");
    let place = Place::folder();
    let (_log, aether) = place.connect().await;
    let twice = Service::builder("worker").on_durable("jobs.a", worker(), nothing);
    let twice = twice.on_durable("jobs.b", worker(), nothing).build(&aether).await.unwrap_err();
    assert!(matches!(&twice, ServiceError::SharedConsumer { consumer } if consumer == "worker"), "{twice}");
    let named = Service::builder("worker").on_durable("jobs.>", Durable::consumer("no name"), nothing);
    let named = named.build(&aether).await.unwrap_err();
    assert!(aether_service::error_chain(&named).contains("use 1 to 64 letters"), "{named}");
    let pattern = Service::builder("worker").on_durable("jobs..", worker(), nothing);
    assert!(matches!(pattern.build(&aether).await.unwrap_err(), ServiceError::Pattern { .. }));
    let limited = worker().limit(Limit::at_once(NonZeroU32::MIN));
    let limited = Service::builder("worker").on_durable("jobs.>", limited, nothing);
    let limited = limited.build(&aether).await.unwrap_err();
    assert!(aether_service::error_chain(&limited).contains("name the tenants with fair_by"), "{limited}");
    let weighted = worker().weight("acme", NonZeroU32::MIN);
    let weighted = Service::builder("worker").on_durable("jobs.>", weighted, nothing);
    let weighted = weighted.build(&aether).await.unwrap_err();
    assert!(matches!(weighted, ServiceError::Weight { source: WeightError::NotFair, .. }), "{weighted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_test_with_paused_time_waits_for_no_pause() {
    aether_core::clock::follow_tokio();
    let place = Place::folder();
    let (log, aether) = place.connect().await;
    async fn fails() -> Result<(), std::io::Error> {
        Err(std::io::Error::other("no"))
    }
    let options = ConsumerOptions::default().pauses(LONG, 60 * LONG);
    let durable = Durable::consumer("worker").options(options);
    let begun = tokio::time::Instant::now();
    let stage =
        Stage::on(aether.clone(), Service::builder("worker").on_durable("jobs.>", durable, fails)).await;
    emit(&aether, [1]).await;
    while letters(&log).await.is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(begun.elapsed().as_secs() / 60, 15, "1 + 2 + 4 + 8 minutes");
    assert_eq!(stage.close().await.retried, 4);
}
