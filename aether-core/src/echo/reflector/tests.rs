//! The reflector with a scripted medium.

use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, pending, ready};

use super::*;
use crate::medium::{AskError, EmitError, FlushError, JoinError, MediumStatus, Promises};
use crate::proof::{Named, Proof, SignerId, UNPROVEN};
use crate::router::{Carried, Offered, Subscription};
use crate::wave::{Kind, ReplyError, ReplyPath};

/// Gives the same answer to each notice, and records the notices.
#[derive(Debug)]
struct Network {
    /// `None`: sending never completes.
    reach: Option<Reach>,
    calls: AtomicU64,
    told: Mutex<Vec<Wave>>,
}

impl Medium for Network {
    fn promises(&self) -> Promises {
        Promises::new(true, 1 << 20)
    }
    fn carry(&self, wave: Wave) -> Result<Carried, EmitError> {
        Err(EmitError::Closed { wave })
    }
    fn try_carry(&self, wave: Wave) -> Result<Offered, EmitError> {
        Err(EmitError::Closed { wave })
    }
    fn join(&self, _: Arc<Subscription>) -> BoxFuture<'_, Result<(), JoinError>> {
        ready(Ok(())).boxed()
    }
    fn leave(&self, _: &Subscription) {}
    fn ask(&self, question: Wave, _: Duration) -> BoxFuture<'_, Result<Wave, AskError>> {
        ready(Ok(question)).boxed()
    }
    fn notify(&self, notices: Vec<Wave>) -> BoxFuture<'_, Vec<Reach>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let count = notices.len();
        self.told.lock().extend(notices);
        match self.reach {
            Some(reach) => ready(vec![reach; count]).boxed(),
            None => pending().boxed(),
        }
    }
    fn flush(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        ready(Ok(())).boxed()
    }
    fn close(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        ready(Ok(())).boxed()
    }
    fn status(&self) -> MediumStatus {
        MediumStatus::default()
    }
}

fn network(reach: Option<Reach>) -> (Arc<Reflector>, Arc<Network>) {
    let network = Arc::new(Network { reach, calls: AtomicU64::new(0), told: Mutex::default() });
    let reflector = Arc::new(Reflector::new());
    let medium: Arc<dyn Medium> = Arc::clone(&network) as Arc<dyn Medium>;
    reflector.reach_over(Arc::downgrade(&medium));
    (reflector, network)
}

fn emitted(sequencer: &Sequencer, kind: Kind, bytes: usize) -> Wave {
    let mut wave = Wave::builder("stock.reserve").kind(kind).bytes(vec![0; bytes]).build().unwrap();
    wave.stamp(sequencer, crate::clock::Moment::now());
    wave
}

fn fails(reflector: &Arc<Reflector>, wave: &Wave) {
    reflector.reflect(wave, EchoReason::Shed, "full", "stock");
    assert!(reflector.ledger().adds_up());
}

fn source() -> Sequencer {
    Sequencer::new(Source::new("alpha").unwrap())
}

/// An asker.
struct Nowhere;

impl ReplyPath for Nowhere {
    fn carry(&self, _: Wave) -> BoxFuture<'_, Result<(), ReplyError>> {
        ready(Ok(())).boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_storm_is_a_few_messages_and_every_failure_is_counted() {
    let (reflector, network) = network(Some(Reach::Delivered));
    let alpha = source();
    let mut failed = 0;
    for _ in 0..10 {
        for _ in 0..10_000 {
            fails(&reflector, &emitted(&alpha, Kind::Command, 0));
            failed += 1;
        }
        tokio::time::sleep(PAUSE).await;
    }
    reflector.settled().await;
    assert_eq!(reflector.ledger(), EchoLedger { reflected: failed, echoed: failed, ..EchoLedger::default() });
    let told = network.told.lock();
    assert!(told.len() <= 12, "{} messages", told.len());
    let echoes: Vec<_> =
        told.iter().flat_map(|notice| super::super::read(notice.payload()).unwrap()).collect();
    assert!(told.iter().all(|notice| notice.payload().len() < 8192));
    assert!(echoes.len() <= told.len() * (KEPT_APART + 1));
    assert_eq!(echoes.iter().map(|echo| echo.count).sum::<u64>(), failed);
}

#[tokio::test(start_paused = true)]
async fn the_first_failure_is_reported_at_once_and_the_task_ends() {
    let (reflector, network) = network(Some(Reach::Delivered));
    let started = tokio::time::Instant::now();
    for round in 1..=3 {
        fails(&reflector, &emitted(&source(), Kind::Query, 0));
        reflector.settled().await;
        assert_eq!(started.elapsed(), PAUSE * 2 * (round - 1), "there is no pause before it");
        tokio::time::sleep(PAUSE * 2).await;
        // The test holds the only reference, so the task has ended.
        assert_eq!(Arc::strong_count(&reflector), 1);
    }
    assert_eq!(network.calls.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn kinds_that_are_not_reflected_cost_nothing() {
    let (reflector, network) = network(Some(Reach::NoListener));
    let alpha = source();
    for kind in [Kind::Event, Kind::Response, Kind::Broadcast] {
        fails(&reflector, &emitted(&alpha, kind, 0));
    }
    let never_emitted = Wave::builder("a").kind(Kind::Command).build().unwrap();
    fails(&reflector, &never_emitted);
    reflector.reflect_by_hand(&never_emitted, EchoReason::Rejected, "", alpha.source());
    assert_eq!(reflector.ledger(), EchoLedger::default());
    assert_eq!(network.calls.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_listener_commands_become_dead_letters_and_questions_are_left_to_their_askers() {
    for reach in [Reach::NoListener, Reach::Unsent] {
        let (reflector, _network) = network(Some(reach));
        let alpha = source();
        for _ in 0..100 {
            fails(&reflector, &emitted(&alpha, Kind::Command, 100));
        }
        let question = emitted(&alpha, Kind::Query, 0).with_reply_path(Arc::new(Nowhere));
        fails(&reflector, &question);
        reflector.settled().await;
        let expected = EchoLedger { reflected: 101, buried: 100, left_to_asker: 1, ..EchoLedger::default() };
        assert_eq!(reflector.ledger(), expected);
        let counts = reflector.letters().counts();
        assert_eq!(
            (counts.buried, counts.kept, counts.overflowed),
            (100, KEPT_APART as u64, 100 - KEPT_APART as u64)
        );
        assert_eq!(reflector.state.lock().bytes, 0);
    }
}

/// Whether the source was told or not, each failure is a letter once, also where echoes are merged.
#[tokio::test(start_paused = true)]
async fn letters_that_are_kept_anyway_are_kept_once() {
    for reach in [Reach::Delivered, Reach::NoListener] {
        let (reflector, _network) = network(Some(reach));
        let alpha = source();
        for number in 0..100 {
            reflector.letters().keep_echoed(number >= 50);
            fails(&reflector, &emitted(&alpha, Kind::Command, 0));
        }
        reflector.settled().await;
        let counts = reflector.letters().counts();
        let not_kept =
            if reach == Reach::Delivered { (50, 50, 0) } else { (100, 50 + KEPT_APART as u64, 34) };
        assert_eq!((counts.buried, counts.kept, counts.overflowed), not_kept, "{reach:?}");
        assert!(counts.adds_up() && reflector.ledger().adds_up());
        assert_eq!(reflector.state.lock().bytes, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_echoes_carry_is_bounded_in_each_message() {
    let (reflector, network) = network(Some(Reach::Delivered));
    let alpha = source();
    for _ in 0..100 {
        let request = crate::wave::EchoRequest::told().payload();
        let payload = vec![7; super::super::MAX_ECHO_PAYLOAD];
        let mut wave = Wave::builder("a").kind(Kind::Command).bytes(payload).echo(request).build().unwrap();
        wave.stamp(&alpha, crate::clock::Moment::now());
        fails(&reflector, &wave);
    }
    reflector.settled().await;
    let told = network.told.lock();
    let [notice] = &told[..] else { panic!("{} messages", told.len()) };
    assert!(notice.payload().len() < MAX_CARRIED + 16_384, "{} bytes", notice.payload().len());
    let echoes = super::super::read(notice.payload()).unwrap();
    let carried = echoes.iter().filter(|echo| echo.payload().is_some()).count();
    assert!((8..echoes.len()).contains(&carried), "{carried} of {}", echoes.len());
    assert_eq!(echoes.iter().map(|echo| echo.count).sum::<u64>(), 100);
    // The mailbox is bounded as well, and gives its room back.
    let mailbox = EchoMailbox::new(Arc::new(alpha), reflector.refused()).unwrap();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    for _ in 0..2 {
        for _ in 0..20 {
            let _ = mailbox.arrived().offer(notice.clone(), crate::inbox::Offer::Now);
        }
        let mut carried = 0;
        while let std::task::Poll::Ready(Some(echo)) = mailbox.poll_next(&mut cx) {
            carried += usize::from(echo.payload().is_some());
        }
        assert!((32..64).contains(&carried), "{carried} payloads of 16 KiB in 1 MiB");
    }
}

#[tokio::test(start_paused = true)]
async fn a_queued_failure_of_a_question_does_not_hold_its_asker() {
    let (reflector, _network) = network(None);
    let path: Arc<dyn ReplyPath> = Arc::new(Nowhere);
    fails(&reflector, &emitted(&source(), Kind::Query, 0).with_reply_path(Arc::clone(&path)));
    assert_eq!(Arc::strong_count(&path), 1);
}

#[tokio::test(start_paused = true)]
async fn queued_sources_and_bytes_are_bounded() {
    let (reflector, network) = network(None);
    let alpha = source();
    // The first batch never completes, so the rest waits.
    fails(&reflector, &emitted(&alpha, Kind::Command, 0));
    tokio::task::yield_now().await;
    assert_eq!(network.calls.load(Ordering::Relaxed), 1);
    for _ in 0..10 {
        fails(&reflector, &emitted(&alpha, Kind::Command, MAX_BYTES / 4));
    }
    let quarters = || reflector.state.lock().bytes / (MAX_BYTES / 4);
    assert_eq!(quarters(), 2, "as much as is free then");
    fails(&reflector, &signed(1, "alpha", MAX_BYTES / 4));
    assert_eq!(quarters(), 3, "another one has room");
    for _ in 0..MAX_SOURCES + 50 {
        fails(&reflector, &emitted(&source(), Kind::Command, 0));
    }
    assert_eq!(reflector.state.lock().pending.len(), MAX_SOURCES);
    let ledger = reflector.ledger();
    assert_eq!((ledger.buried, ledger.pending), (52, 12 + MAX_SOURCES as u64 - 2));
    // Ending the Aether gives up what waits.
    reflector.end();
    reflector.settled().await;
    assert_eq!(reflector.ledger().buried, reflector.ledger().reflected);
}

/// A wave of a source of its own, signed so.
fn signed(number: u64, name: &str, bytes: usize) -> Wave {
    let proof = Proof::new(SignerId(number), vec![Named::parse(name).unwrap()], Arc::default());
    let mut wave = emitted(&source(), Kind::Command, bytes);
    assert!(wave.prove(&proof));
    wave
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_given_back_to_whoever_emitted_it() {
    let (reflector, _network) = network(None);
    let claimed = source();
    fails(&reflector, &emitted(&claimed, Kind::Command, 0));
    tokio::task::yield_now().await;
    let mut forged = emitted(&claimed, Kind::Command, 1000);
    assert!(forged.prove(&Proof::new(SignerId(1), vec![Named::parse("alpha").unwrap()], Arc::default())));
    fails(&reflector, &emitted(&claimed, Kind::Command, 1000));
    // For another reason, so that it is kept apart.
    reflector.reflect(&forged, EchoReason::Rejected, "full", "stock");
    let of = |principal| reflector.state.lock().weights.of(principal);
    assert!(of(UNPROVEN) >= 1000 && of(forged.principal()) >= 1000);
    reflector.end();
    reflector.settled().await;
    assert_eq!((of(UNPROVEN), of(forged.principal()), reflector.state.lock().bytes), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_signer_with_sources_without_end_keeps_no_other_from_being_told() {
    let (reflector, network) = network(None);
    fails(&reflector, &emitted(&source(), Kind::Command, 0));
    tokio::task::yield_now().await;
    assert_eq!(network.calls.load(Ordering::Relaxed), 1, "its batch never ends, so the rest waits");
    for _ in 0..2 * MAX_SOURCES {
        fails(&reflector, &signed(1, "alph*", 0));
    }
    for _ in 0..10 {
        fails(&reflector, &signed(2, "alpha", 0));
    }
    let of = |number: u64| {
        let principal = signed(number, if number == 1 { "alph*" } else { "alpha" }, 0).principal();
        let state = reflector.state.lock();
        state.pending.values().filter(|pending| pending.principal == principal).count()
    };
    assert_eq!((of(1), of(2)), (MAX_SOURCES - 10, 10));
    assert_eq!(reflector.ledger().buried, (MAX_SOURCES + 10) as u64, "the others are dead letters at once");
    reflector.end();
    reflector.settled().await;
}

#[tokio::test(start_paused = true)]
async fn reports_in_flight_when_the_connection_breaks_are_unconfirmed() {
    let (reflector, _network) = network(Some(Reach::Unknown));
    fails(&reflector, &emitted(&source(), Kind::Command, 0));
    reflector.settled().await;
    assert_eq!(reflector.ledger(), EchoLedger { reflected: 1, unconfirmed: 1, ..EchoLedger::default() });
    assert_eq!(reflector.letters().counts().buried, 0);
}

#[test]
fn a_loss_outside_of_any_runtime_is_reported_with_the_next_one_inside() {
    let (reflector, network) = network(Some(Reach::Delivered));
    let alpha = source();
    fails(&reflector, &emitted(&alpha, Kind::Command, 0));
    assert_eq!(reflector.ledger().pending, 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        fails(&reflector, &emitted(&alpha, Kind::Command, 0));
        reflector.settled().await;
    });
    assert_eq!((reflector.ledger().echoed, network.calls.load(Ordering::Relaxed)), (2, 1));
}

#[test]
fn without_a_network_a_source_that_does_not_listen_gets_dead_letters() {
    let reflector = Arc::new(Reflector::new());
    let alpha = Arc::new(source());
    fails(&reflector, &emitted(&alpha, Kind::Command, 0));
    let mailbox = Arc::new(EchoMailbox::new(Arc::clone(&alpha), reflector.refused()).unwrap());
    assert!(reflector.open(&mailbox) && !reflector.open(&mailbox));
    fails(&reflector, &emitted(&alpha, Kind::Command, 0));
    reflector.shut(&mailbox);
    fails(&reflector, &emitted(&alpha, Kind::Command, 0));
    let ledger = reflector.ledger();
    assert_eq!((ledger.echoed, ledger.buried), (1, 2));
}

#[test]
fn a_vibrator_reports_a_wave_once_and_memory_is_bounded() {
    let mut handmade = ByHand::default();
    assert!(handmade.is_new((1, 2, 3)) && !handmade.is_new((1, 2, 3)) && handmade.is_new((2, 2, 3)));
    for sequence in 0..5000 {
        handmade.is_new((9, 9, sequence));
    }
    assert_eq!(handmade.0.len(), REMEMBERED);
    assert!(handmade.is_new((1, 2, 3)), "it was forgotten");
}

#[test]
fn a_runtime_that_ends_loses_no_failure() {
    let (reflector, network) = network(None);
    let alpha = source();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for round in 1..=3 {
        runtime().block_on(async {
            fails(&reflector, &emitted(&alpha, Kind::Command, 10));
            tokio::task::yield_now().await;
        });
        assert_eq!(network.calls.load(Ordering::Relaxed), round, "it is being sent");
        // How far it got is unknown.
        let expected = EchoLedger { reflected: round, unconfirmed: round, ..EchoLedger::default() };
        assert_eq!(reflector.ledger(), expected);
        assert_eq!(reflector.state.lock().bytes, 0);
    }
}

#[test]
fn failures_are_reported_in_the_runtime_of_the_medium() {
    let (reflector, network) = network(Some(Reach::Delivered));
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let home = runtime();
    home.block_on(async { reflector.note_runtime() });
    runtime().block_on(async { fails(&reflector, &emitted(&source(), Kind::Command, 0)) });
    home.block_on(async { tokio::time::timeout(Duration::from_secs(180), reflector.settled()).await })
        .unwrap();
    assert_eq!((reflector.ledger().echoed, network.calls.load(Ordering::Relaxed)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn failures_of_several_receivers_are_split_into_plausible_echoes() {
    let (reflector, network) = network(Some(Reach::Delivered));
    let alpha = source();
    let waves: Vec<_> = (0..50).map(|_| emitted(&alpha, Kind::Command, 0)).collect();
    for _receiver in 0..5 {
        waves.iter().for_each(|wave| fails(&reflector, wave));
    }
    reflector.settled().await;
    let told: Vec<_> =
        network.told.lock().iter().flat_map(|notice| super::super::read(notice.payload()).unwrap()).collect();
    assert!(told.iter().all(|echo| echo.count <= 50), "{told:?}");
    assert_eq!(told.iter().map(|echo| echo.count).sum::<u64>(), 250);
}

#[test]
fn impossible_echoes_are_refused_and_counted() {
    let reflector = Reflector::new();
    let alpha = Arc::new(source());
    let sent: Vec<_> = (0..3).map(|_| emitted(&alpha, Kind::Command, 0)).collect();
    let mailbox = EchoMailbox::new(Arc::clone(&alpha), reflector.refused()).unwrap();
    let echo = |sequence, count| {
        let mut echo = Echo::new(&sent[0], EchoReason::Rejected, "no", "forger");
        (echo.of.sequence, echo.count) = (sequence, count);
        echo
    };
    let forger = source();
    for (sequence, count) in [(1, 4), (1, u64::MAX), (0, 1), (4, 1), (u64::MAX, u64::MAX), (2, 3)] {
        let payload = write(&[echo(sequence, count)]);
        let notice =
            Wave::plain(channel_of(alpha.source().instance()).unwrap(), payload.into(), ContentType::Json);
        let _ = mailbox.arrived().offer(notice.noticed(&forger), crate::inbox::Offer::Now);
    }
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Some(only)) = mailbox.poll_next(&mut cx) else {
        panic!("one echo is plausible")
    };
    assert_eq!((only.of.sequence, only.count), (2, 3));
    assert!(mailbox.poll_next(&mut cx).is_pending());
    let counts = mailbox.counts();
    assert_eq!((counts.unknown, counts.implausible, reflector.ledger().refused), (3, 2, 5));
    assert!(reflector.ledger().adds_up());
}
