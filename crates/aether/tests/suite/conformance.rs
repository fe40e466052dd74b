//! Tests of the conformance suite itself: a medium with one fault fails the case that covers it, and a correct one
//! passes.

use aether_core::LocalOptions;
use aether_core::medium::Local;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aether_conformance::{self, Harness, Outcome, Site, SiteError, Suite};
use aether_core::{
    Aether, AskError, EmitError, FlushError, InboxOptions, JoinError, Wave,
    medium::{Carried, Medium, MediumStatus, Offered, Promises, Reach, Router, Subscription},
};
use futures::FutureExt;
use futures::future::{BoxFuture, pending, ready};

/// The faults of a medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    LosesOneWaveInTen,
    RepeatsOneWaveInTen,
    SwapsWaves,
    DeliversLater,
    NeverLacksRoom,
    LetsUnheardQuestionsWait,
    RepeatsQuestions,
    PromisesMoreThanItTakes,
    HandsBackAnotherWave,
    StaysOpen,
    JoinsWhenClosed,
    FailsToCloseTwice,
    ClosesTooLate,
    CountsWrong,
    NotifiesNobody,
    SaysThatAllAreHeard,
    FlushesWhenClosed,
}

/// The case that must fail for each fault.
const CAUGHT: [(Fault, &str); 17] = [
    (Fault::LosesOneWaveInTen, "waves_of_one_source_channel_and_amplitude_stay_in_order"),
    (Fault::RepeatsOneWaveInTen, "overlapping_patterns_of_a_vibrator_deliver_once"),
    (Fault::SwapsWaves, "waves_of_one_source_channel_and_amplitude_stay_in_order"),
    (Fault::DeliversLater, "an_emitted_wave_is_in_the_inboxes_or_the_outbox"),
    (Fault::NeverLacksRoom, "try_emit_hands_back_a_wave_without_room"),
    (Fault::LetsUnheardQuestionsWait, "a_question_without_a_receiver_fails_at_once"),
    (Fault::RepeatsQuestions, "the_first_answer_counts"),
    (Fault::PromisesMoreThanItTakes, "a_wave_of_the_largest_size_arrives_and_a_larger_one_is_handed_back"),
    (Fault::HandsBackAnotherWave, "a_wave_of_the_largest_size_arrives_and_a_larger_one_is_handed_back"),
    (Fault::StaysOpen, "a_closed_medium_takes_nothing_more"),
    (Fault::JoinsWhenClosed, "a_closed_medium_takes_nothing_more"),
    (Fault::FailsToCloseTwice, "closing_twice_is_harmless"),
    (Fault::ClosesTooLate, "a_cancelled_close_can_be_finished"),
    (Fault::CountsWrong, "after_a_flush_nothing_waits_to_be_sent"),
    (Fault::NotifiesNobody, "a_notice_reports_whether_it_has_a_receiver"),
    (Fault::SaysThatAllAreHeard, "a_notice_reports_whether_it_has_a_receiver"),
    (Fault::FlushesWhenClosed, "a_closed_medium_takes_nothing_more"),
];

/// The local medium with a fault.
struct Faulty {
    inner: Arc<dyn Medium>,
    router: Arc<Router>,
    fault: Fault,
    carried: AtomicU64,
    held_back: Mutex<Option<Wave>>,
    closed: AtomicBool,
}

impl Faulty {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// Whether the fault applies to this wave.
    fn one_in_ten(&self) -> bool {
        self.carried.fetch_add(1, Ordering::Relaxed) % 10 == 9
    }

    /// Carries the previous wave after this one.
    fn swap(&self, wave: Wave) -> Result<Carried, EmitError> {
        let before = self.held_back.lock().unwrap().take();
        let carried = self.inner.carry(wave);
        if let Some(before) = before {
            drop(self.inner.carry(before));
        }
        carried
    }
}

impl Medium for Faulty {
    fn promises(&self) -> Promises {
        let promises = self.inner.promises();
        let factor = if self.is(Fault::PromisesMoreThanItTakes) { 2 } else { 1 };
        Promises::new(promises.crosses_processes, factor * promises.max_payload)
    }

    fn carry(&self, wave: Wave) -> Result<Carried, EmitError> {
        match self.fault {
            Fault::LosesOneWaveInTen if self.one_in_ten() => {
                self.inner.carry(Wave::from_bytes("nobody", "")?)
            }
            Fault::RepeatsOneWaveInTen if self.one_in_ten() => {
                drop(self.inner.carry(wave.clone()));
                self.inner.carry(wave)
            }
            Fault::SwapsWaves if self.one_in_ten() => {
                *self.held_back.lock().unwrap() = Some(wave);
                self.inner.carry(Wave::from_bytes("nobody", "")?)
            }
            Fault::SwapsWaves => self.swap(wave),
            Fault::DeliversLater => {
                let inner = Arc::clone(&self.inner);
                let carried = self.inner.carry(Wave::from_bytes("nobody", "")?);
                tokio::spawn(async move { drop(inner.carry(wave)) });
                carried
            }
            Fault::HandsBackAnotherWave => match self.inner.carry(wave) {
                Err(EmitError::TooLarge { bytes, max_bytes, .. }) => {
                    Err(EmitError::TooLarge { wave: Wave::from_bytes("other", "")?, bytes, max_bytes })
                }
                result => result,
            },
            Fault::ClosesTooLate if self.closed.load(Ordering::Relaxed) => Err(EmitError::Closed { wave }),
            _ => self.inner.carry(wave),
        }
    }

    fn try_carry(&self, wave: Wave) -> Result<Offered, EmitError> {
        match self.fault {
            Fault::NeverLacksRoom => match self.inner.carry(wave)? {
                // Dropping a waiting wave offers it.
                Carried::Waiting(_) => self.inner.try_carry(Wave::from_bytes("nobody", "")?),
                Carried::Done(offered) => Ok(offered),
            },
            _ => self.inner.try_carry(wave),
        }
    }

    fn join(&self, subscription: Arc<Subscription>) -> BoxFuture<'_, Result<(), JoinError>> {
        match self.fault {
            Fault::JoinsWhenClosed => ready(Ok(())).boxed(),
            _ => self.inner.join(subscription),
        }
    }

    fn leave(&self, subscription: &Subscription) {
        self.inner.leave(subscription);
    }

    fn ask(&self, question: Wave, patience: Duration) -> BoxFuture<'_, Result<Wave, AskError>> {
        let repeated = question.clone();
        let answer = self.inner.ask(question, patience);
        match self.fault {
            Fault::LetsUnheardQuestionsWait => async {
                match answer.await {
                    Err(AskError::NoResonator { .. }) => pending().await,
                    answer => answer,
                }
            }
            .boxed(),
            Fault::RepeatsQuestions => async move {
                let (answer, _) = tokio::join!(answer, self.inner.ask(repeated, patience));
                answer
            }
            .boxed(),
            _ => answer,
        }
    }

    fn notify(&self, notices: Vec<Wave>) -> BoxFuture<'_, Vec<Reach>> {
        match self.fault {
            Fault::NotifiesNobody => ready(vec![Reach::Delivered; notices.len()]).boxed(),
            Fault::SaysThatAllAreHeard => {
                let told = self.inner.notify(notices);
                async { told.await.into_iter().map(|_| Reach::Delivered).collect() }.boxed()
            }
            _ => self.inner.notify(notices),
        }
    }
    fn flush(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        match self.fault {
            Fault::FlushesWhenClosed => ready(Ok(())).boxed(),
            _ => self.inner.flush(),
        }
    }

    fn close(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        match self.fault {
            Fault::StaysOpen => ready(Ok(())).boxed(),
            Fault::FailsToCloseTwice if self.closed.swap(true, Ordering::Relaxed) => {
                ready(Err(FlushError::Closed)).boxed()
            }
            Fault::ClosesTooLate => async {
                tokio::task::yield_now().await;
                self.closed.store(true, Ordering::Relaxed);
                Ok(())
            }
            .boxed(),
            _ => self.inner.close(),
        }
    }

    fn status(&self) -> MediumStatus {
        let mut status = self.inner.status();
        if self.is(Fault::CountsWrong) {
            status.outbox.offered += 1;
        }
        status
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty")
            .field("fault", &self.fault)
            .field("router", &self.router)
            .finish_non_exhaustive()
    }
}

struct FaultyHarness(Fault);

struct FaultySite(Aether);

impl Harness for FaultyHarness {
    fn site(&self) -> BoxFuture<'_, Result<Box<dyn Site>, SiteError>> {
        let aether = Aether::with_medium(|router| {
            Arc::new(Faulty {
                inner: Arc::new(Local::new(Arc::clone(&router), &LocalOptions::default())),
                router,
                fault: self.0,
                carried: AtomicU64::new(0),
                held_back: Mutex::default(),
                closed: AtomicBool::new(false),
            })
        });
        ready(Ok(Box::new(FaultySite(aether)) as Box<dyn Site>)).boxed()
    }
}

impl Site for FaultySite {
    fn connect(&self, _outbox: InboxOptions) -> BoxFuture<'_, Result<Aether, SiteError>> {
        ready(Ok(self.0.clone())).boxed()
    }
}

#[tokio::test]
async fn each_fault_fails_the_case_that_covers_it() {
    for (fault, case) in CAUGHT {
        // Short, because some faults show only as a time-out.
        let suite = Suite::default().only([case]).limit(Duration::from_millis(500));
        let report = suite.run(&FaultyHarness(fault)).await;
        assert_eq!(report.failed(), [case], "{fault:?}\n{report}");
    }
}

#[tokio::test]
async fn without_a_fault_the_same_cases_pass() {
    let cases = CAUGHT.map(|(_, case)| case);
    let report = Suite::default().only(cases).run(&FaultyHarness(Fault::None)).await;
    assert!(report.passed(), "{report}");
    assert_eq!(report.cases().len(), cases.into_iter().collect::<std::collections::HashSet<_>>().len());
}

#[tokio::test]
async fn a_failure_names_what_was_expected_what_was_seen_and_where() {
    let (fault, case) = CAUGHT[0];
    let report = Suite::default().only([case]).run(&FaultyHarness(fault)).await;
    let [only] = report.cases() else { panic!("{report}") };
    let Outcome::Failed(failure) = &only.outcome else { panic!("{report}") };
    assert_eq!(only.line, 2);
    assert!(failure.expected().contains("to receive number"), "{failure}");
    assert!(failure.seen().parse::<u64>().is_ok(), "{failure}");
    assert!(report.to_string().contains("FAILED    2 waves_of_one_source"), "{report}");
    assert!(report.to_string().contains("order.rs:"), "{report}");
}

#[tokio::test]
async fn an_unknown_case_fails_and_an_empty_run_does_not_pass() {
    let report = Suite::default().only(["no_such_case"]).run(&FaultyHarness(Fault::None)).await;
    assert_eq!(report.failed(), ["no_such_case"]);
    let report = Suite::default().only([] as [&str; 0]).run(&FaultyHarness(Fault::None)).await;
    assert!(!report.passed());
}
