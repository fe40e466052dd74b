//! The local medium, plain and behind a wrapper: the conformance suite, and concurrency.

use aether_core::LocalOptions;
use aether_core::medium::Local;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aether_conformance::{self, Harness, Site, SiteError};
use aether_core::{
    Aether, AskError, EmitError, FlushError, InboxOptions, JoinError, Vibrator, Wave, WhenFull,
    medium::{Carried, Medium, MediumStatus, Offered, Promises, Reach, Subscription},
};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use tokio::task::JoinSet;

/// The cases that need a network.
const SKIPPED: [&str; 14] = [
    "subscriptions_are_restored_after_an_outage",
    "waves_emitted_while_away_arrive",
    "losses_on_the_way_are_counted",
    "a_full_outbox_sheds_the_weakest_and_counts_them",
    "a_join_begun_while_away_is_in_force_when_it_returns",
    "a_member_that_leaves_while_away_is_gone_afterwards",
    "closing_while_away_ends_and_counts_what_was_lost",
    "a_wave_emitted_while_away_is_not_confirmed_and_still_arrives",
    "a_foreign_message_arrives_as_a_wave_with_default_values",
    "foreign_headers_become_metadata",
    "a_foreign_requester_gets_a_plain_answer",
    "malformed_messages_are_counted_and_end_nothing",
    "waves_shed_by_the_outbox_while_away_are_reflected_at_once",
    "failures_while_away_are_reflected_afterwards",
];

/// Makes an [`Aether`] for each site; both ends are the same.
struct InProcess<F>(F);

struct InProcessSite(Aether);

impl<F: Fn() -> Aether + Send + Sync> Harness for InProcess<F> {
    fn site(&self) -> BoxFuture<'_, Result<Box<dyn Site>, SiteError>> {
        Box::pin(ready(Ok(Box::new(InProcessSite((self.0)())) as Box<dyn Site>)))
    }
}

impl Site for InProcessSite {
    fn connect(&self, _outbox: InboxOptions) -> BoxFuture<'_, Result<Aether, SiteError>> {
        Box::pin(ready(Ok(self.0.clone())))
    }
}

async fn conforms(harness: &dyn Harness) {
    let report = aether_conformance::run(harness).await;
    assert!(report.passed(), "\n{report}");
    assert_eq!(report.skipped(), SKIPPED, "\n{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_local_medium_conforms_on_many_threads() {
    conforms(&InProcess(Aether::local)).await;
}

#[tokio::test(flavor = "current_thread")]
async fn the_local_medium_conforms_on_one_thread() {
    conforms(&InProcess(Aether::local)).await;
}

/// A medium that counts the calls and delegates them.
#[derive(Debug)]
struct Counting {
    inner: Arc<dyn Medium>,
    calls: Arc<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    carry: AtomicU64,
    try_carry: AtomicU64,
    join: AtomicU64,
    leave: AtomicU64,
    ask: AtomicU64,
    tell: AtomicU64,
    flush: AtomicU64,
    close: AtomicU64,
}

impl Calls {
    fn all(&self) -> [&AtomicU64; 8] {
        let Self { carry, try_carry, join, leave, ask, tell, flush, close } = self;
        [carry, try_carry, join, leave, ask, tell, flush, close]
    }
}

impl Medium for Counting {
    fn promises(&self) -> Promises {
        self.inner.promises()
    }
    fn carry(&self, wave: Wave) -> Result<Carried, EmitError> {
        self.calls.carry.fetch_add(1, Ordering::Relaxed);
        self.inner.carry(wave)
    }
    fn try_carry(&self, wave: Wave) -> Result<Offered, EmitError> {
        self.calls.try_carry.fetch_add(1, Ordering::Relaxed);
        self.inner.try_carry(wave)
    }
    fn join(&self, subscription: Arc<Subscription>) -> BoxFuture<'_, Result<(), JoinError>> {
        self.calls.join.fetch_add(1, Ordering::Relaxed);
        self.inner.join(subscription)
    }
    fn leave(&self, subscription: &Subscription) {
        self.calls.leave.fetch_add(1, Ordering::Relaxed);
        self.inner.leave(subscription);
    }
    fn ask(&self, question: Wave, patience: Duration) -> BoxFuture<'_, Result<Wave, AskError>> {
        self.calls.ask.fetch_add(1, Ordering::Relaxed);
        self.inner.ask(question, patience)
    }
    fn notify(&self, notices: Vec<Wave>) -> BoxFuture<'_, Vec<Reach>> {
        self.calls.tell.fetch_add(1, Ordering::Relaxed);
        self.inner.notify(notices)
    }
    fn flush(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        self.calls.flush.fetch_add(1, Ordering::Relaxed);
        self.inner.flush()
    }
    fn close(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        self.calls.close.fetch_add(1, Ordering::Relaxed);
        self.inner.close()
    }
    fn status(&self) -> MediumStatus {
        self.inner.status()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrapper_around_the_local_medium_conforms() {
    let calls = Arc::new(Calls::default());
    let made = Arc::clone(&calls);
    conforms(&InProcess(move || {
        let calls = Arc::clone(&made);
        Aether::with_medium(|router| {
            Arc::new(Counting { inner: Arc::new(Local::new(router, &LocalOptions::default())), calls })
        })
    }))
    .await;
    for count in calls.all() {
        assert_ne!(count.load(Ordering::Relaxed), 0, "the suite goes through every method: {calls:?}");
    }
}

/// In a loop that never has to wait, emits yield to other tasks occasionally.
#[tokio::test]
async fn an_emit_cancelled_as_it_yields_was_offered() {
    let aether = Aether::local();
    let receiver = Vibrator::create("receiver", &aether).await.unwrap();
    receiver.resonate_on("a").await.unwrap();
    let sender = Vibrator::create("sender", &aether).await.unwrap();
    let gives_way = |emitted: &u64| {
        let done = sender.emit(Wave::from_bytes("a", emitted.to_string()).unwrap()).now_or_never();
        done.map(Result::unwrap).is_none()
    };
    let emitted = (1..10_000).find(gives_way).expect("an emit that yields");
    assert_eq!(receiver.ledger().offered, emitted);
}

/// Emitters and receivers on all threads with inboxes that are usually full; nothing may be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_emitters_and_receivers_lose_nothing_if_emitters_wait() {
    const EMITTERS: u64 = 4;
    const EACH: u64 = 50_000;
    let aether = Aether::local();
    // An hour: no emitter times out, so every wave waits for room.
    let narrow = InboxOptions::default().when_full(WhenFull::Wait { patience: Duration::from_secs(3600) });
    let mut receivers = JoinSet::new();
    for (name, room) in [("roomy", 4096), ("narrow", 7), ("even", 512)] {
        let mut receiver =
            Vibrator::builder(name).inbox(narrow.clone().max_waves(room)).create(&aether).await.unwrap();
        receiver.resonate_on("stress.>").await.unwrap();
        receiver.resonate_on("stress.*").await.unwrap();
        receivers.spawn(async move {
            let mut next = HashMap::<_, u64>::new();
            for _ in 0..EMITTERS * EACH {
                let wave = receiver.receive().await.expect("the medium is open");
                let next = next.entry((wave.source().clone(), wave.channel().clone())).or_default();
                assert_eq!(wave.text().unwrap().parse(), Ok(*next));
                *next += 1;
            }
            receiver.ledger()
        });
    }
    let mut emitters = JoinSet::new();
    for index in 0..EMITTERS {
        let emitter = Vibrator::create("emitter", &aether).await.unwrap().emitter();
        emitters.spawn(async move {
            for count in 0..EACH {
                let channel = if count % 2 == 0 { "stress.even" } else { "stress.odd" };
                let wave = Wave::builder(channel).text((count / 2).to_string()).build().unwrap();
                let receipt = emitter.emit(wave).await.unwrap();
                assert_eq!((receipt.sequence, receipt.receivers), (count + 1, Some(3)), "emitter {index}");
            }
        });
    }
    emitters.join_all().await;
    let all = EMITTERS * EACH;
    for ledger in receivers.join_all().await {
        let complete = (ledger.offered, ledger.delivered, ledger.lost(), ledger.queued);
        assert_eq!(complete, (all, all, 0, 0));
    }
    let sum = aether.ledger();
    assert_eq!((sum.offered, sum.delivered, sum.lost()), (3 * all, 3 * all, 0));
}

/// The same load on inboxes that shed: the ledgers account for every lost wave.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_emitters_and_receivers_account_for_every_wave_where_inboxes_shed() {
    const EMITTERS: u64 = 4;
    const EACH: u64 = 10_000;
    let aether = Aether::local();
    let reported = Arc::new(AtomicU64::new(0));
    let mut receivers = JoinSet::new();
    for (name, when_full) in [
        ("sheds", WhenFull::Shed),
        ("sheds too", WhenFull::Shed),
        ("impatient", WhenFull::Wait { patience: Duration::from_micros(100) }),
    ] {
        let reported = Arc::clone(&reported);
        let options = InboxOptions::default().max_waves(16).when_full(when_full).on_shed(move |_, _| {
            reported.fetch_add(1, Ordering::Relaxed);
        });
        let mut receiver = Vibrator::builder(name).inbox(options).create(&aether).await.unwrap();
        receiver.resonate_on("stress").await.unwrap();
        receivers.spawn(async move {
            let mut received = 0;
            while let Some(wave) = receiver.receive().await {
                received += 1;
                assert!(receiver.ledger().adds_up());
                if wave.payload().is_empty() {
                    tokio::task::yield_now().await;
                }
            }
            (received, receiver.ledger())
        });
    }
    let mut emitters = JoinSet::new();
    for _ in 0..EMITTERS {
        let emitter = Vibrator::create("emitter", &aether).await.unwrap().emitter();
        emitters.spawn(async move {
            for count in 0..EACH {
                let amplitude = [1.0, 0.5, 0.25][count as usize % 3];
                emitter.emit(Wave::builder("stress").amplitude(amplitude).build().unwrap()).await.unwrap();
            }
        });
    }
    emitters.join_all().await;
    aether.close().await.unwrap();
    let (all, mut lost) = (EMITTERS * EACH, 0);
    for (received, ledger) in receivers.join_all().await {
        assert_eq!((ledger.offered, ledger.delivered, ledger.queued), (all, received, 0));
        assert!(ledger.adds_up(), "{ledger:?}");
        lost += ledger.lost();
    }
    assert_eq!(reported.load(Ordering::Relaxed), lost);
    let sum = aether.ledger();
    assert_eq!((sum.offered, sum.lost()), (3 * all, lost));
}

#[tokio::test]
async fn waves_queued_for_a_closed_receiver_stay_in_the_ledger_of_the_process() {
    let aether = Aether::local();
    let emitter = Vibrator::create("emitter", &aether).await.unwrap();
    let options = InboxOptions::interactive().max_waves(1);
    let ear = Vibrator::builder("ear").inbox(options).create(&aether).await.unwrap();
    ear.resonate_on("jobs").await.unwrap();
    emitter.emit_bytes("jobs", "1").await.unwrap();
    let mut waiting = std::pin::pin!(emitter.emit_bytes("jobs", "2"));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    drop(ear);
    assert_eq!(waiting.await.unwrap().receivers, Some(1));
    let ledger = aether.ledger();
    assert_eq!((ledger.offered, ledger.shed_closed), (2, 2), "{ledger:?}");
    let reports = aether.inboxes();
    let report = reports.iter().find(|report| report.vibrator == "ear").unwrap();
    assert_eq!((report.open, report.ledger), (0, ledger));
}

#[tokio::test(start_paused = true)]
async fn an_emitter_waits_for_several_full_receivers_at_once() {
    let aether = Aether::local();
    let emitter = Vibrator::create("emitter", &aether).await.unwrap();
    let mut ears = Vec::new();
    for _ in 0..10 {
        let options = InboxOptions::interactive().max_waves(1);
        let ear = Vibrator::builder("ear").inbox(options).create(&aether).await.unwrap();
        ear.resonate_on("jobs").await.unwrap();
        ears.push(ear);
    }
    emitter.emit_bytes("jobs", "1").await.unwrap();
    let started = tokio::time::Instant::now();
    let mut second = std::pin::pin!(emitter.emit_bytes("jobs", "2"));
    assert!(futures::poll!(second.as_mut()).is_pending());
    for ear in &mut ears[..5] {
        assert_eq!(ear.receive().await.unwrap().text().unwrap(), "1");
    }
    assert!(futures::poll!(second.as_mut()).is_pending(), "the others are full");
    for ear in &mut ears[..5] {
        let next = ear.receive().now_or_never().expect("an inbox with room need not wait for the others");
        assert_eq!(next.unwrap().text().unwrap(), "2");
    }
    assert_eq!(second.await.unwrap().receivers, Some(10));
    assert!(started.elapsed() <= Duration::from_millis(101), "{:?}", started.elapsed());
    assert_eq!((aether.ledger().offered, aether.ledger().shed_full), (20, 5));
}
