//! Clerks that ask a group and a service with a circuit breaker: each question has one outcome, and its own answer.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use aether_core::{Aether, Wave, WaveId};
use aether_service::{
    Asker, AskerError, AskerOptions, Breaker, CancellationToken, Json, Resend, Service, ServiceBuilder, State,
};
use aether_testing::sim::{RandomFaults, Sim, explore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower::BoxError;

use crate::traffic::{Disk, SECOND, STRENGTHS, burst, key, pause, vary_links};

const CLERKS: [&str; 2] = ["clerk 1", "clerk 2"];
const ANSWERING: [&str; 3] = ["warehouse 1", "warehouse 2", "prices"];
const OPENS_AFTER: Duration = Duration::from_secs(3);
const FAULTS_WITHIN: Duration = Duration::from_secs(30);
const CALMS_WITHIN: Duration = Duration::from_secs(8);
const DEADLINE: Duration = Duration::from_secs(10);
const RESENDS: u8 = 5;
const FAILURES: usize = 4;
const QUESTIONS: u64 = 200;

#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Answered,
    Late,
    Failed(String),
}

#[derive(Debug, Default)]
struct Files {
    asked: u64,
    outcomes: BTreeMap<u64, Outcome>,
    /// How often each question was handled in all its attempts, and each attempt.
    handled: BTreeMap<u64, u64>,
    attempts: HashSet<WaveId>,
    /// The service of prices fails, and how often it has been called meanwhile.
    is_sick: bool,
    calls: u64,
    problems: Vec<String>,
}

type Cabinet = Disk<Files>;

fn answer_to(question: u64) -> u64 {
    question.wrapping_mul(0x9E37_79B9) ^ 7
}

/// Asks one question, and files its outcome.
async fn ask(asker: Asker, files: Cabinet, channel: &'static str) {
    let number = {
        let mut files = files.lock();
        files.asked += 1;
        files.asked
    };
    let strength = STRENGTHS[fastrand::usize(..STRENGTHS.len())];
    let began = Instant::now();
    let answer = asker.ask(Wave::builder(channel).amplitude(strength).json(number)).await;
    let (took, mut files) = (began.elapsed(), files.lock());
    let outcome = match answer {
        Ok(answer) => {
            let (of, value): (u64, u64) = answer.json().unwrap_or_default();
            if (of, value) != (number, answer_to(number)) {
                files.problems.push(format!("question {number} got the answer of {of}"));
            }
            Outcome::Answered
        }
        Err(AskerError::Deadline { .. }) => Outcome::Late,
        Err(error) => Outcome::Failed(aether_service::error_chain(&error).to_string()),
    };
    if took > DEADLINE + SECOND / 10 {
        files.problems.push(format!("question {number} took {took:?}: {outcome:?}"));
    }
    if let Some(before) = files.outcomes.insert(number, outcome.clone()) {
        files.problems.push(format!("question {number} has the outcomes {before:?} and {outcome:?}"));
    }
}

fn asker(aether: &Aether) -> Asker {
    let resend = Resend::default().most(RESENDS).pauses(SECOND / 50, SECOND).unwrap();
    let options = AskerOptions::default().patience(SECOND).deadline(DEADLINE).resend(resend);
    Asker::new(aether.emitter("clerk").unwrap(), options)
}

async fn clerk(
    aether: Aether,
    shutdown: CancellationToken,
    files: Cabinet,
    questions: u64,
) -> Result<(), BoxError> {
    sleep(OPENS_AFTER).await;
    let (asker, mut asking) = (asker(&aether), JoinSet::new());
    while files.lock().asked < questions {
        for _ in 0..burst(30) {
            let channel = if key(3) == 0 { "prices.check" } else { "stock.check" };
            asking.spawn(ask(asker.clone(), Arc::clone(&files), channel));
        }
        sleep(pause(SECOND / 4)).await;
        while let Some(asked) = asking.try_join_next() {
            asked?;
        }
    }
    while let Some(asked) = asking.join_next().await {
        asked?;
    }
    shutdown.cancelled().await;
    Ok(())
}

fn handled(files: &Cabinet, wave: &Wave, number: u64) -> (u64, u64) {
    let mut files = files.lock();
    let times = files.handled.entry(number).or_default();
    *times += 1;
    if *times > u64::from(RESENDS) + 1 {
        let problem = format!("question {number} was handled {times} times");
        files.problems.push(problem);
    }
    if !files.attempts.insert(wave.id()) {
        files.problems.push(format!("{} was handled twice", wave.id()));
    }
    (number, answer_to(number))
}

async fn price(
    State(files): State<Cabinet>,
    wave: Wave,
    Json(number): Json<u64>,
) -> Result<Json<(u64, u64)>, BoxError> {
    sleep(SECOND / 200).await;
    if files.lock().is_sick {
        files.lock().calls += 1;
        return Err("no prices today".into());
    }
    Ok(Json(handled(&files, &wave, number)))
}

fn prices(files: &Cabinet) -> ServiceBuilder<Cabinet> {
    let breaker = Breaker::default().failures(FAILURES).open_for(SECOND);
    let service = Service::builder("prices").concurrency(4).circuit_breaker(breaker);
    service.state(Arc::clone(files)).on_query("prices.check", price)
}

/// Answers take a millisecond in one of them, and 30 in the other.
fn warehouse(files: &Cabinet, takes: Duration) -> ServiceBuilder<(Cabinet, Duration)> {
    Service::builder("warehouse")
        .group("warehouse")
        .concurrency(16)
        .state((Arc::clone(files), takes))
        .on_query(
            "stock.check",
            async |State((files, takes)): State<(Cabinet, Duration)>, wave: Wave, Json(number): Json<u64>| {
                sleep(takes).await;
                Json(handled(&files, &wave, number))
            },
        )
}

fn office(sim: &mut Sim, questions: u64) -> Cabinet {
    let files = Cabinet::default();
    for (name, takes) in ANSWERING.into_iter().zip([1, 30]) {
        let files = Arc::clone(&files);
        sim.serve(name, move || warehouse(&files, Duration::from_millis(takes)));
    }
    let of_prices = Arc::clone(&files);
    sim.serve("prices", move || prices(&of_prices));
    for name in CLERKS {
        let files = Arc::clone(&files);
        sim.process(name, move |aether, shutdown| clerk(aether, shutdown, Arc::clone(&files), questions));
    }
    let checked = Arc::clone(&files);
    sim.always(move |_| checked.lock().problems.pop().map_or(Ok(()), Err));
    files
}

fn has_all_outcomes(files: &Cabinet) -> bool {
    let files = files.lock();
    files.outcomes.len() as u64 == files.asked
}

/// Each question is answered at its first attempt, and no answer is left over.
fn without_faults(sim: &mut Sim) {
    let files = office(sim, QUESTIONS);
    vary_links(sim);
    let done = Arc::clone(&files);
    sim.eventually(120 * SECOND, "all questions have outcomes", move |_| {
        done.lock().asked >= QUESTIONS && has_all_outcomes(&done)
    });
    let asked = files.lock().asked;
    for (number, outcome) in &files.lock().outcomes {
        assert_eq!(*outcome, Outcome::Answered, "question {number}");
    }
    assert!(files.lock().handled.values().all(|times| *times == 1));
    assert_eq!(files.lock().handled.len() as u64, asked);
    sim.run_for(SECOND);
    let accounts: BTreeMap<_, _> = sim.finish().into_iter().collect();
    let reports = ANSWERING.map(|name| accounts[name].services[0].1);
    assert_eq!(reports.iter().map(|report| report.received).sum::<u64>(), asked);
    assert_eq!(reports.iter().map(|report| report.succeeded).sum::<u64>(), asked);
    for name in CLERKS {
        let medium = &accounts[name].medium;
        assert_eq!((medium.stray_answers, medium.malformed), (0, 0), "{name}");
    }
}

/// New questions are all answered.
fn recovers(sim: &mut Sim, files: &Cabinet, questions: u64) {
    sim.heal();
    let asked = Arc::clone(files);
    sim.eventually(60 * SECOND, "all questions have outcomes", move |_| {
        asked.lock().asked >= questions && has_all_outcomes(&asked)
    });
    sim.run_for(CALMS_WITHIN);
    let before = files.lock().asked;
    for name in CLERKS {
        let files = Arc::clone(files);
        sim.run(name, async move |aether| {
            let asker = asker(&aether);
            for number in 0..10 {
                let channel = if number % 2 == 0 { "prices.check" } else { "stock.check" };
                ask(asker.clone(), Arc::clone(&files), channel).await;
            }
        });
    }
    let files = files.lock();
    for number in before + 1..=files.asked {
        assert_eq!(files.outcomes[&number], Outcome::Answered, "question {number} after the faults");
    }
}

/// The service of prices fails for a while. Its breaker lets few questions through, and closes when it is well again.
fn with_a_sick_service(sim: &mut Sim) {
    let files = office(sim, QUESTIONS);
    let mut random = fastrand::Rng::with_seed(sim.seed());
    let (falls_ill, is_ill_for) = (random.u32(3..8), random.u32(3..15));
    let (ill, well) = (Arc::clone(&files), Arc::clone(&files));
    sim.at(falls_ill * SECOND, move |_| ill.lock().is_sick = true);
    sim.at((falls_ill + is_ill_for) * SECOND, move |_| well.lock().is_sick = false);
    sim.run_for((falls_ill + is_ill_for) * SECOND);
    // Until it opens also those that run, and then one each second.
    let (calls, most) = (files.lock().calls, (FAILURES + 4) as u64 + u64::from(is_ill_for));
    assert!(calls <= most, "{calls} calls in {is_ill_for} s of illness");
    recovers(sim, &files, QUESTIONS);
}

/// Services die, freeze and are cut off.
fn with_faults(sim: &mut Sim) {
    let files = office(sim, QUESTIONS);
    sim.random_faults(FAULTS_WITHIN, &RandomFaults::new(6).among(ANSWERING));
    sim.run_for(FAULTS_WITHIN);
    recovers(sim, &files, QUESTIONS);
}

pub(crate) const SCENARIOS: [fn(&mut Sim); 3] = [without_faults, with_a_sick_service, with_faults];

#[test]
fn each_question_is_answered_once() {
    explore(0..4, without_faults);
}

#[test]
fn a_breaker_spares_a_sick_service_and_closes_when_it_is_well() {
    explore(0..4, with_a_sick_service);
}

#[test]
fn each_question_has_one_outcome_in_time_also_with_faults() {
    explore(0..4, with_faults);
}
