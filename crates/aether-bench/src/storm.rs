//! The retry storm: a service fails for some seconds while its clients retry. Does it recover after the fault?
//!
//! The clients are an open loop: each question is asked when it is due, whatever the outcome of the others, and retried
//! by its own client until it is answered or its deadline has passed. The comparison is between retry policies:
//! [`Retries::Bounded`] is the default `aether_service::Resend`, [`Retries::Naive`] is the same without its three
//! rules. The service is the same for both: handlers that wait for a fixed time, a few at once. They wait instead of
//! spinning, because questions that wait for a database are typical of storms, and thousands of clients need the
//! processors.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aether_core::{CreateError, InboxOptions, Kind, Vibrator, Wave};
use aether_service::{Asker, AskerOptions, Json, Resend, RetryBudget, Service, ServiceError, State};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::{self, nanoseconds};
use crate::contestant::{Address, ContestantError};
use crate::median::median;
use crate::pacer::Pacer;
use crate::schedule::{Phase, Schedule, ScheduleError};

/// The handling time of a question, and the number handled at once.
const SERVICE: Duration = Duration::from_millis(5);
const AT_ONCE: usize = 16;
/// How long a client waits for the answer to one attempt. Later answers are useless to it.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long a client retries.
const DEADLINE: Duration = Duration::from_secs(2);
/// The width of a window.
const WINDOW: Duration = Duration::from_millis(250);
/// A service has recovered when this share of the questions in every later window is answered in time, in percent.
const BACK: f64 = 95.0;

/// The retry policy of the clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Retries {
    /// Each attempt half as strong as the one before, at most 10 % resends and one a second, growing pauses with jitter.
    Bounded,
    /// As strong as the first, unlimited, after at most 1 ms.
    Naive,
}

impl Retries {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Bounded, Self::Naive];

    /// The name in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bounded => "bounded",
            Self::Naive => "naive",
        }
    }

    fn resend(self) -> Resend {
        match self {
            Self::Bounded => Resend::default(),
            Self::Naive => Resend::default()
                .undiminished()
                .budget(RetryBudget::unlimited())
                .pauses(Duration::from_millis(1), Duration::from_millis(1))
                .expect("a pause above zero"),
        }
    }
}

/// The options of a storm.
#[derive(Debug, Clone)]
pub struct Storm {
    /// The medium.
    pub address: Address,
    /// First questions, in capacities of the service.
    pub load: f64,
    /// The time before the fault.
    pub before: Duration,
    /// The duration of the fault.
    pub fault: Duration,
    /// The time after the fault.
    pub after: Duration,
    /// The random seed of the schedule.
    pub seed: u64,
}

/// The questions that were due in one window of time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StormWindow {
    /// When it begins, in seconds from the end of the fault; below zero before it.
    pub from_s: f64,
    /// Questions that were due.
    pub asked: u64,
    /// Questions answered within 200 ms of their due time: the goodput.
    pub in_time: u64,
}

impl StormWindow {
    /// The share answered in time, in percent; 100 without questions.
    #[must_use]
    pub fn percent(&self) -> f64 {
        if self.asked == 0 { 100.0 } else { 100.0 * self.in_time as f64 / self.asked as f64 }
    }
}

/// The report of one policy. Adds up: `asked = answered + failed`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StormReport {
    /// The retry policy.
    pub retries: Retries,
    /// Questions of the schedule.
    pub asked: u64,
    /// Questions that were answered before their deadline.
    pub answered: u64,
    /// Questions that were not answered before their deadline.
    pub failed: u64,
    /// Attempts that the service took out of its inbox, including first ones.
    pub attempts: u64,
    /// From the end of the fault until the goodput was 95 % and stayed so, in seconds; `None` if it never was.
    pub back_after_s: Option<f64>,
    /// Goodput over time.
    pub windows: Vec<StormWindow>,
}

/// Both retry policies on the same schedule.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Storms {
    /// The measured capacity of the service, in questions a second.
    pub capacity: f64,
    /// First questions, in capacities.
    pub load: f64,
    /// The duration of the fault, in seconds.
    pub fault_s: f64,
    /// The random seed of the schedule.
    pub seed: u64,
    /// False if it was interrupted.
    pub complete: bool,
    /// One report for each policy.
    pub reports: Vec<StormReport>,
}

/// Why a storm failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StormError {
    /// The schedule is not possible.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The medium could not connect.
    #[error(transparent)]
    Contestant(#[from] ContestantError),
    /// A client could not be created.
    #[error("the vibrator could not be created")]
    Create(#[from] CreateError),
    /// The service failed.
    #[error("the service failed")]
    Service(#[from] ServiceError),
    /// A thread or a task panicked.
    #[error("the clients or the service panicked")]
    Task(#[from] tokio::task::JoinError),
}

/// The simulated fault.
#[derive(Debug, thiserror::Error)]
#[error("a dependency is unavailable")]
struct Unavailable;

/// Answers or fails after the handling time.
async fn handle(State(faulty): State<Arc<AtomicBool>>) -> Result<Json<()>, Unavailable> {
    tokio::time::sleep(SERVICE).await;
    if faulty.load(Ordering::Relaxed) { Err(Unavailable) } else { Ok(Json(())) }
}

/// The result of a question: its due time and answer time, in nanoseconds from the start.
#[derive(Debug, Clone, Copy)]
struct Ended {
    due: u64,
    answered: Option<u64>,
}

impl Storm {
    /// Measures the capacity of the service, then runs the same schedule for each policy. Calls `begins` before each.
    /// When `stop` is cancelled, returns the runs so far.
    ///
    /// # Errors
    /// [`StormError`]
    ///
    /// # Cancel safety
    /// Cancelled before completion, the clients and the service end soon.
    pub async fn run(
        &self,
        stop: &CancellationToken,
        mut begins: impl FnMut(Retries),
    ) -> Result<Storms, StormError> {
        let capacity = capacity().await;
        let length = self.before.saturating_add(self.fault).saturating_add(self.after);
        let phase = Phase { rate: self.load * capacity, lasts: length };
        let schedule = Arc::new(Schedule::poisson(&[phase], 0.0, self.seed)?);
        let mut storms = Storms {
            capacity,
            load: self.load,
            fault_s: self.fault.as_secs_f64(),
            seed: self.seed,
            complete: false,
            reports: Vec::new(),
        };
        for retries in Retries::ALL {
            begins(retries);
            match self.once(retries, &schedule, stop).await? {
                Some(report) => storms.reports.push(report),
                None => return Ok(storms),
            }
        }
        storms.complete = true;
        Ok(storms)
    }

    async fn once(
        &self,
        retries: Retries,
        schedule: &Arc<Schedule>,
        stop: &CancellationToken,
    ) -> Result<Option<StormReport>, StormError> {
        // Clients and service have separate media, as two processes would.
        let connect = || stop.run_until_cancelled(self.address.connect(InboxOptions::interactive()));
        let Some(service_side) = connect().await.transpose()? else { return Ok(None) };
        let crosses = service_side.promises().crosses_processes;
        let client_side = if crosses { connect().await.transpose()? } else { Some(service_side.clone()) };
        let Some(client_side) = client_side else { return Ok(None) };
        let faulty = Arc::new(AtomicBool::new(false));
        let channel = crate::run::channel();
        let service = Service::builder("storm-service")
            .state(Arc::clone(&faulty))
            .on_query(channel.as_str(), handle)
            .concurrency(AT_ONCE)
            .grace(Duration::from_millis(100))
            .build(&service_side)
            .await?;
        let done = CancellationToken::new();
        let end = done.clone().drop_guard();
        let serving = tokio::spawn(service.run_until(done));
        let client = Vibrator::create("storm-client", &client_side).await?;
        let options = AskerOptions::default().patience(PATIENCE).deadline(DEADLINE).resend(retries.resend());
        let asker = Asker::new(client.emitter(), options);
        let question = Wave::builder(&channel).kind(Kind::Query).build().expect("a channel that was checked");

        let fault = tokio::spawn(fail(Arc::clone(&faulty), self.before, self.fault));
        let ended = stop.run_until_cancelled(ask_all(asker, question, Arc::clone(schedule))).await;
        fault.abort();
        drop(end);
        let served = serving.await??;
        let _ = client_side.close().await;
        let _ = service_side.close().await;
        let Some(ended) = ended.transpose()? else { return Ok(None) };
        Ok(Some(self.report(retries, &ended, served.received)))
    }

    fn report(&self, retries: Retries, ended: &[Ended], attempts: u64) -> StormReport {
        let (width, over) = (nanoseconds(WINDOW), nanoseconds(self.before + self.fault));
        let length = over + nanoseconds(self.after);
        let mut windows: Vec<StormWindow> = (0..length.div_ceil(width))
            .map(|index| StormWindow {
                from_s: ((index * width) as f64 - over as f64) / 1e9,
                asked: 0,
                in_time: 0,
            })
            .collect();
        let mut answered = 0;
        for question in ended {
            let in_time = question.answered.is_some_and(|at| at - question.due <= nanoseconds(PATIENCE));
            answered += u64::from(question.answered.is_some());
            if let Some(window) = windows.get_mut((question.due / width) as usize) {
                window.asked += 1;
                window.in_time += u64::from(in_time);
            }
        }
        let later = windows.iter().rev().take_while(|window| window.from_s >= 0.0);
        let well = later.take_while(|window| window.percent() >= BACK);
        StormReport {
            retries,
            asked: ended.len() as u64,
            answered,
            failed: ended.len() as u64 - answered,
            attempts,
            back_after_s: well.last().map(|window| window.from_s),
            windows,
        }
    }
}

/// The capacity of the handlers in questions a second, measured without idle time. The runtime's timer lengthens the
/// handling time by an amount that depends on the machine.
async fn capacity() -> f64 {
    const MEASURED: usize = 50;
    let mut took = Vec::with_capacity(MEASURED);
    for _ in 0..MEASURED {
        let start = Instant::now();
        tokio::time::sleep(SERVICE).await;
        took.push(start.elapsed().as_secs_f64());
    }
    AT_ONCE as f64 / median(took)
}

async fn fail(faulty: Arc<AtomicBool>, before: Duration, fault: Duration) {
    tokio::time::sleep(before).await;
    faulty.store(true, Ordering::Relaxed);
    tokio::time::sleep(fault).await;
    faulty.store(false, Ordering::Relaxed);
}

/// Asks each question when it is due, each in its own task, and waits for all.
async fn ask_all(
    asker: Asker,
    question: Wave,
    schedule: Arc<Schedule>,
) -> Result<Vec<Ended>, tokio::task::JoinError> {
    let runtime = Handle::current();
    let start = clock::now();
    let (pacer, stop) = Pacer::new(start);
    // Room for all results, so that no client waits to report.
    let (ends, mut ended) = mpsc::channel(schedule.arrivals().len().max(1));
    let pacing = tokio::task::spawn_blocking(move || {
        pacer.run(schedule.arrivals().iter().copied(), |_, arrival| {
            let (asker, question, ends) = (asker.clone(), question.clone(), ends.clone());
            runtime.spawn(async move {
                let answer = asker.ask(question).await;
                let at = clock::now().saturating_sub(start);
                let end = Ended { due: arrival.due, answered: answer.is_ok().then_some(at.max(arrival.due)) };
                // The receiver is gone if the run was stopped.
                let _ = ends.send(end).await;
            });
        })
    });
    let mut all = Vec::new();
    while let Some(end) = ended.recv().await {
        all.push(end);
    }
    pacing.await?;
    drop(stop);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storm() -> Storm {
        let second = Duration::from_secs(1);
        Storm {
            address: Address::local(),
            load: 0.8,
            before: second,
            fault: second,
            after: 2 * second,
            seed: 1,
        }
    }

    /// A question every 10 ms; `answered` gives the answer time.
    fn ended(answered: impl Fn(u64) -> Option<u64>) -> Vec<Ended> {
        let due = (0..400).map(|number| number * 10_000_000);
        due.map(|due| Ended { due, answered: answered(due) }).collect()
    }

    #[test]
    fn a_service_is_back_when_all_later_windows_are_well() {
        let over = 2_000_000_000;
        // Nothing is answered from 1 s to 2.6 s.
        let ended_at =
            |until: u64| ended(move |due| (due < 1_000_000_000 || due >= until).then_some(due + 50_000_000));
        let report = storm().report(Retries::Bounded, &ended_at(over + 600_000_000), 500);
        assert_eq!((report.asked, report.answered, report.failed), (400, 240, 160));
        assert_eq!(report.back_after_s, Some(0.75));
        assert_eq!(
            (report.windows.len(), report.windows[0].from_s, report.windows[4].percent()),
            (16, -2.0, 0.0)
        );
        assert_eq!(report.windows.iter().map(|window| window.asked).sum::<u64>(), 400);
        assert_eq!(storm().report(Retries::Bounded, &ended_at(over), 400).back_after_s, Some(0.0));
        assert_eq!(storm().report(Retries::Naive, &ended_at(u64::MAX), 400).back_after_s, None);
    }

    #[test]
    fn an_answer_that_comes_too_late_is_an_answer_and_no_goodput() {
        let report = storm().report(Retries::Naive, &ended(|due| Some(due + 201_000_000)), 400);
        assert_eq!((report.answered, report.failed, report.back_after_s), (400, 0, None));
        assert!(report.windows.iter().all(|window| window.in_time == 0));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_question_ends_and_retries_stay_in_their_budget() {
        let ms = Duration::from_millis;
        let storm = Storm { before: ms(200), fault: ms(300), after: ms(300), load: 0.5, ..storm() };
        let started = Instant::now();
        let storms = storm.run(&CancellationToken::new(), |_| {}).await.unwrap();
        let [bounded, naive] = &storms.reports[..] else { panic!("{storms:?}") };
        assert!(storms.complete);
        for report in [bounded, naive] {
            assert_eq!(report.asked, report.answered + report.failed, "{report:?}");
            assert_eq!(report.windows.iter().map(|window| window.asked).sum::<u64>(), report.asked);
            assert!(report.attempts >= report.asked && report.asked > 0, "{report:?}");
        }
        assert_eq!(bounded.asked, naive.asked, "the schedule is the same");
        // 10 % of first sends, one a second and what was saved up in ten.
        let most = bounded.asked as f64 * 1.1 + 10.0 + started.elapsed().as_secs_f64();
        assert!((bounded.attempts as f64) <= most, "{} of {most}", bounded.attempts);
        assert!(naive.attempts > bounded.attempts, "{naive:?}");
    }
}
