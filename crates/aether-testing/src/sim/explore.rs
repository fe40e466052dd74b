//! Many runs of one scenario, each with a seed of its own; and the shortest way to a failure.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::thread;

use parking_lot::Mutex;

use super::Sim;
use super::process::message_of;
use crate::seed::{SEED_VARIABLE, given};

/// The runs at most that look for faults that a failure does not need.
const SHORTENED_WITHIN: usize = 200;

thread_local! {
    /// Whether a scenario of [`explore`] runs on this thread. Its panics are not printed: many may be needed.
    static EXPLORES: Cell<bool> = const { Cell::new(false) };
    /// The place of the last panic on this thread.
    static AT: RefCell<String> = const { RefCell::new(String::new()) };
}

pub(super) fn is_exploring() -> bool {
    EXPLORES.get()
}

/// How a run failed.
struct Failure {
    message: String,
    described: String,
    /// The number of its random faults.
    faults: usize,
}

type Scenario = dyn Fn(&mut Sim) + Send + Sync;

/// A scenario that fails with a seed. Its text has all that is known, and the command that runs it again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the simulation fails with seed {seed}{without}: {message}\n{described}again: {command}")]
#[non_exhaustive]
pub struct SimFailure {
    /// The seed.
    pub seed: u64,
    /// The check that failed, or the panic.
    pub message: String,
    without: String,
    described: String,
    command: String,
}

/// Runs a scenario once for each seed, on as many threads as there are processors, and [finishes](Sim::finish) each run. The
/// first failure ends it: random faults are left out as long as it still fails, and the message names the rest, the last
/// events, and the command that runs this seed again.
///
/// With a seed in the environment variable `AETHER_TEST_SEED` only that one runs. With a number in `AETHER_TEST_SEEDS` as
/// many run, from the first one on, in place of those that are given.
///
/// ```
/// use std::time::Duration;
/// use aether_testing::sim::{RandomFaults, explore};
///
/// explore(0..3, |sim| {
///     sim.idle("stock");
///     sim.idle("shop");
///     sim.random_faults(Duration::from_secs(10), &RandomFaults::new(3));
///     sim.run_for(Duration::from_secs(10));
/// });
/// ```
///
/// # Panics
/// If a run fails.
#[track_caller]
pub fn explore(seeds: Range<u64>, scenario: impl Fn(&mut Sim) + Send + Sync + 'static) {
    if let Err(failure) = try_explore(seeds, scenario) {
        panic!("{failure}");
    }
}

/// [`explore`] for programs that look at the failure themselves.
///
/// # Errors
/// [`SimFailure`] if a run fails.
pub fn try_explore(
    seeds: Range<u64>,
    scenario: impl Fn(&mut Sim) + Send + Sync + 'static,
) -> Result<(), SimFailure> {
    let scenario: Arc<Scenario> = Arc::new(scenario);
    let seeds = match (given(SEED_VARIABLE), given(SEEDS_VARIABLE)) {
        (Some(seed), _) => seed..seed.saturating_add(1),
        (None, Some(count)) => seeds.start..seeds.start.saturating_add(count),
        (None, None) => seeds,
    };
    let Some((seed, failure)) = first_failure(seeds, &scenario) else { return Ok(()) };
    let (Failure { message, described, faults }, left_out) = shortened(seed, failure, &scenario);
    let without = match left_out {
        0 => String::new(),
        _ => format!(", also without {left_out} of its {faults} random faults"),
    };
    Err(SimFailure { seed, message, without, described, command: command(seed) })
}

/// The command that runs this program with a seed: a test by its name, which its thread has, or a program.
fn command(seed: u64) -> String {
    let package = std::env::var("CARGO_PKG_NAME").map(|name| format!(" -p {name}")).unwrap_or_default();
    let thread = thread::current();
    match thread.name() {
        None | Some("main") => format!("{SEED_VARIABLE}={seed} and the same command"),
        Some(test) => format!("{SEED_VARIABLE}={seed} cargo test{package} {test}"),
    }
}

/// The environment variable with the number of seeds.
const SEEDS_VARIABLE: &str = "AETHER_TEST_SEEDS";

/// The failure of the smallest seed that fails: seeds begin in their order, and each that has begun is waited for.
fn first_failure(seeds: Range<u64>, scenario: &Arc<Scenario>) -> Option<(u64, Failure)> {
    let next = AtomicU64::new(seeds.start);
    let found = Mutex::new(None::<(u64, Failure)>);
    let workers = thread::available_parallelism().map_or(1, |count| count.get() as u64);
    thread::scope(|scope| {
        for _ in 0..workers.min(seeds.end.saturating_sub(seeds.start)) {
            scope.spawn(|| {
                while found.lock().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if let Some(failure) = failure_of(seed, BTreeSet::new(), scenario) {
                        let mut found = found.lock();
                        if found.as_ref().is_none_or(|(known, _)| seed < *known) {
                            *found = Some((seed, failure));
                        }
                    }
                }
            });
        }
    });
    found.into_inner()
}

/// One run on a thread of its own, so that nothing of another run is left there.
fn failure_of(seed: u64, left_out: BTreeSet<usize>, scenario: &Arc<Scenario>) -> Option<Failure> {
    record_places();
    let scenario = Arc::clone(scenario);
    let run = move || {
        EXPLORES.set(true);
        let mut sim = Sim::without_faults(seed, left_out);
        let ended = catch_unwind(AssertUnwindSafe(|| {
            scenario(&mut sim);
            sim.finish();
        }));
        let panic = ended.err()?;
        let message = format!("{} ({})", message_of(&*panic).trim_end(), AT.take());
        Some(Failure { message, described: sim.described(), faults: sim.planned.len() })
    };
    match thread::Builder::new().name(format!("simulation {seed}")).spawn(run).map(thread::JoinHandle::join) {
        Ok(Ok(failure)) => failure,
        Ok(Err(panic)) => {
            let message = format!("the simulator panicked: {}", message_of(&*panic));
            Some(Failure { message, described: String::new(), faults: 0 })
        }
        Err(error) => {
            let message = format!("a thread cannot be started: {error}");
            Some(Failure { message, described: String::new(), faults: 0 })
        }
    }
}

/// Leaves out random faults in blocks of half as many each time, as long as the run still fails. Returns the failure that
/// is left, and how many were left out.
fn shortened(seed: u64, failure: Failure, scenario: &Arc<Scenario>) -> (Failure, usize) {
    let (mut failure, mut left_out, mut runs) = (failure, BTreeSet::new(), 0);
    let faults = failure.faults;
    let mut block = faults.div_ceil(2);
    while block > 0 {
        for start in (0..faults).step_by(block) {
            let mut without = left_out.clone();
            without.extend(start..(start + block).min(faults));
            if without.len() == left_out.len() || runs == SHORTENED_WITHIN {
                continue;
            }
            runs += 1;
            if let Some(shorter) = failure_of(seed, without.clone(), scenario) {
                (failure, left_out) = (shorter, without);
            }
        }
        block = if block == 1 { 0 } else { block.div_ceil(2) };
    }
    (failure, left_out.len())
}

/// Notes where a thread that explores panics, in place of printing it.
fn record_places() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !EXPLORES.get() {
                return print(panic);
            }
            let at = panic.location().map(ToString::to_string).unwrap_or_default();
            AT.set(at);
        }));
    });
}
