//! The limit of what emitters emit: a token bucket that lets the strongest wave go first.
//!
//! An [`Emitter`](crate::Emitter) with a limit takes a token for each wave. Without one it waits in a queue by
//! strength, which is bounded, and needs no task. Emitters without a limit know nothing of it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::amplitude::Amplitude;
use crate::clock::{self, Instant};

/// How many emits may wait for a token. Beyond it the weakest is refused at once.
const MAX_WAITING: usize = 1024;

/// The longest period, so that a bucket fits its counters by far.
const LONGEST: Duration = Duration::from_secs(60 * 60 * 24);

/// A limit of how many waves are emitted in a time, for [`VibratorBuilder::rate`](crate::VibratorBuilder::rate) and
/// [`AetherBuilder::emission_rate`](crate::AetherBuilder::emission_rate). Ordinary term: a token bucket. Emitters that get
/// clones of one limit share it.
///
/// A bucket holds the tokens of one period, so a burst of that many waves passes at once. Then the waves wait: the
/// strongest first, and waves of one amplitude in order of arrival.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use aether_core::vibrator::EmissionRate;
/// use aether_core::{Aether, EmitError, Vibrator};
///
/// let rate = EmissionRate::new(2, Duration::from_secs(60))?.patience(Duration::from_millis(10));
/// let sensor = Vibrator::builder("sensor").rate(rate.clone()).create(&Aether::local()).await?;
/// sensor.emit_bytes("measured", "1").await?;
/// sensor.emit_bytes("measured", "2").await?;
/// let refused = sensor.emit_bytes("measured", "3").await;
/// assert!(matches!(refused, Err(EmitError::RateLimited { .. })));
/// rate.set(1000, Duration::from_secs(1))?; // at once, also for those that wait
/// sensor.emit_bytes("measured", "4").await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct EmissionRate {
    bucket: Arc<Mutex<Bucket>>,
    patience: Duration,
}

/// A limit that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{waves} waves in {period:?} cannot be a limit: use at least one wave, a time above zero and at most a day, \
     and at most one wave each nanosecond"
)]
pub struct EmissionRateError {
    waves: u64,
    period: Duration,
}

struct Bucket {
    /// The cost of a wave, in nanoseconds.
    cost: u64,
    /// The most credit: one period.
    most: u64,
    /// The nanoseconds in the bucket at `then`.
    credit: u64,
    then: Instant,
    /// The emits that wait: the strongest first, then by arrival.
    waiting: BTreeMap<Place, Arc<Notify>>,
    arrivals: u64,
}

/// The place of an emit in the queue.
type Place = (Reverse<u32>, u64);

/// The next step of an emit that waits.
enum Next {
    /// It has its token.
    Go,
    /// It is first, and its token is there after this time.
    First(Duration),
    /// Others come first.
    Behind,
    /// A stronger one took its place in a full queue.
    Displaced,
}

impl EmissionRate {
    /// How long an emit waits for its turn, by default.
    pub const PATIENCE: Duration = Duration::from_secs(1);

    /// A limit of `waves` in each `period`.
    ///
    /// # Errors
    /// [`EmissionRateError`] if there are no waves, the period is zero or more than a day, or there is more than one
    /// wave each nanosecond.
    pub fn new(waves: u64, period: Duration) -> Result<Self, EmissionRateError> {
        let (cost, most) = checked(waves, period)?;
        let (credit, then) = (most, clock::now());
        let bucket = Bucket { cost, most, credit, then, waiting: BTreeMap::new(), arrivals: 0 };
        Ok(Self { bucket: Arc::new(Mutex::new(bucket)), patience: Self::PATIENCE })
    }

    /// How long an emit waits for its turn, before it is refused with
    /// [`EmitError::RateLimited`](crate::EmitError::RateLimited). Default: [`Self::PATIENCE`]. Cost: none.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Changes the limit for all emitters that share it, at once. Tokens beyond the new period are lost.
    ///
    /// # Errors
    /// As [`EmissionRate::new`]; the limit stays as it was.
    pub fn set(&self, waves: u64, period: Duration) -> Result<(), EmissionRateError> {
        let (cost, most) = checked(waves, period)?;
        let mut bucket = self.bucket.lock();
        bucket.fill(clock::now());
        (bucket.cost, bucket.most) = (cost, most);
        bucket.credit = bucket.credit.min(most);
        let first = bucket.first();
        drop(bucket);
        wake(first);
        Ok(())
    }

    /// How many emits wait for a token now; at most 1024.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.bucket.lock().waiting.len()
    }

    /// Takes a token, unless there is none or one that waits is as strong.
    pub(crate) fn try_take(&self, amplitude: Amplitude) -> bool {
        let mut bucket = self.bucket.lock();
        bucket.fill(clock::now());
        let strongest = bucket.waiting.first_key_value().map(|((Reverse(strength), _), _)| *strength);
        let is_first = strongest.is_none_or(|strongest| strongest < strength(amplitude));
        is_first && bucket.take()
    }

    /// Waits for a token, at most as long as is allowed. Returns whether it has one. Dropped, it leaves the queue.
    pub(crate) async fn turn(&self, amplitude: Amplitude) -> bool {
        let Some(waits) = Waits::enter(self, strength(amplitude)) else { return false };
        let turn = async {
            loop {
                match waits.next() {
                    Next::Go => return true,
                    Next::Displaced => return false,
                    Next::Behind => waits.woken.notified().await,
                    Next::First(time) => {
                        tokio::select! {
                            biased;
                            () = waits.woken.notified() => {}
                            () = sleep(time) => {}
                        }
                    }
                }
            }
        };
        timeout(self.patience, turn).await.unwrap_or(false)
    }
}

/// The cost of a wave and the size of the bucket, in nanoseconds.
fn checked(waves: u64, period: Duration) -> Result<(u64, u64), EmissionRateError> {
    let refused = EmissionRateError { waves, period };
    if period > LONGEST {
        return Err(refused);
    }
    let most = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
    match most.checked_div(waves) {
        None | Some(0) => Err(refused),
        Some(cost) => Ok((cost, most)),
    }
}

/// Positive floats are ordered like their bits.
fn strength(amplitude: Amplitude) -> u32 {
    amplitude.as_f32().to_bits()
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.then).as_nanos();
        self.credit = self.credit.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX)).min(self.most);
        self.then = now;
    }

    fn take(&mut self) -> bool {
        let is_there = self.credit >= self.cost;
        if is_there {
            self.credit -= self.cost;
        }
        is_there
    }

    /// The next emit of the queue, to be woken outside of the lock.
    fn first(&self) -> Option<Arc<Notify>> {
        self.waiting.first_key_value().map(|(_, woken)| Arc::clone(woken))
    }
}

fn wake(woken: Option<Arc<Notify>>) {
    if let Some(woken) = woken {
        woken.notify_one();
    }
}

/// An emit in the queue. Dropped, it leaves, and the next one is first.
struct Waits<'a> {
    rate: &'a EmissionRate,
    place: Place,
    woken: Arc<Notify>,
}

impl<'a> Waits<'a> {
    /// `None` if the queue is full of emits that are as strong.
    fn enter(rate: &'a EmissionRate, strength: u32) -> Option<Self> {
        let mut bucket = rate.bucket.lock();
        bucket.arrivals += 1;
        let place = (Reverse(strength), bucket.arrivals);
        let mut refused = None;
        if bucket.waiting.len() >= MAX_WAITING {
            let weakest = bucket.waiting.last_entry()?;
            if *weakest.key() < place {
                return None;
            }
            refused = Some(weakest.remove());
        }
        let woken = Arc::new(Notify::new());
        bucket.waiting.insert(place, Arc::clone(&woken));
        drop(bucket);
        wake(refused);
        Some(Self { rate, place, woken })
    }

    fn next(&self) -> Next {
        let mut bucket = self.rate.bucket.lock();
        if !bucket.waiting.contains_key(&self.place) {
            return Next::Displaced;
        }
        let is_first = bucket.waiting.first_key_value().is_some_and(|(place, _)| *place == self.place);
        if !is_first {
            return Next::Behind;
        }
        bucket.fill(clock::now());
        if bucket.take() {
            // Leaving wakes the next one.
            return Next::Go;
        }
        // A timer may end a little early, so it is never zero.
        Next::First(Duration::from_nanos(bucket.cost - bucket.credit).max(Duration::from_micros(100)))
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut bucket = self.rate.bucket.lock();
        bucket.waiting.remove(&self.place);
        let first = bucket.first();
        drop(bucket);
        wake(first);
    }
}

impl fmt::Debug for EmissionRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bucket = self.bucket.lock();
        f.debug_struct("EmissionRate")
            .field("nanoseconds_a_wave", &bucket.cost)
            .field("burst_nanoseconds", &bucket.most)
            .field("waiting", &bucket.waiting.len())
            .field("patience", &self.patience)
            .finish()
    }
}
