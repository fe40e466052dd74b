//! An in-process medium that loses waves on some lanes of hopping channels, for tests, examples and benchmarks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use aether_core::medium::{
    Carried, Local, Medium, MediumStatus, Offered, Promises, Reach, Router, Subscription,
};
use aether_core::{Aether, AskError, EmitError, FlushError, JoinError, LocalOptions, Wave};

/// Jams lanes of one [`Aether`]. Ordinary term: fault injection.
///
/// ```
/// use aether_conformance::Jammer;
///
/// let (aether, jammer) = Jammer::aether(1);
/// jammer.jam(&[3, 7], 0.95);
/// assert_eq!(jammer.lost(), 0);
/// # drop(aether);
/// ```
#[derive(Debug, Clone)]
pub struct Jammer {
    air: Arc<Air>,
}

/// What is currently lost.
#[derive(Debug)]
struct Air {
    loss: Mutex<Loss>,
    lost: AtomicU64,
}

#[derive(Debug)]
struct Loss {
    random: fastrand::Rng,
    jammed: u64,
    /// The loss rate on jammed lanes, and on the others.
    shares: [f64; 2],
}

impl Jammer {
    /// An in-process medium and its jammer; losses are drawn from a seed.
    #[must_use]
    pub fn aether(seed: u64) -> (Aether, Self) {
        let loss = Loss { random: fastrand::Rng::with_seed(seed), jammed: 0, shares: [0.0, 0.0] };
        let air = Arc::new(Air { loss: Mutex::new(loss), lost: AtomicU64::new(0) });
        let shared = Arc::clone(&air);
        let aether = Aether::with_medium(|router| Arc::new(Jammed::new(router, shared)));
        (aether, Self { air })
    }

    /// Sets the jammed lanes and their loss rate, from 0 to 1. Replaces the previous ones.
    pub fn jam(&self, lanes: &[u8], share: f64) {
        let mut loss = self.air.loss.lock();
        loss.jammed = lanes.iter().fold(0, |jammed, lane| jammed | 1 << (lane & 63));
        loss.shares[0] = share;
    }

    /// Sets the loss rate of all other lanes.
    pub fn noise(&self, share: f64) {
        self.air.loss.lock().shares[1] = share;
    }

    /// The number of lost waves of hopping channels so far, reports included.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.air.lost.load(Ordering::Relaxed)
    }
}

impl Air {
    /// Whether this wave is lost; only waves on lanes are.
    fn loses(&self, wave: &Wave) -> bool {
        let mut tokens = wave.channel().tokens();
        let (Some("hop"), Some(lane)) = (tokens.next(), tokens.next()) else { return false };
        let Ok(lane) = lane.parse::<u8>() else { return false };
        let mut loss = self.loss.lock();
        let share = loss.shares[usize::from(loss.jammed >> (lane & 63) & 1 == 0)];
        let is_lost = share > 0.0 && loss.random.f64() < share;
        drop(loss);
        self.lost.fetch_add(u64::from(is_lost), Ordering::Relaxed);
        is_lost
    }
}

/// The local medium with losses.
#[derive(Debug)]
struct Jammed {
    local: Local,
    air: Arc<Air>,
}

impl Jammed {
    fn new(router: Arc<Router>, air: Arc<Air>) -> Self {
        Self { local: Local::new(router, &LocalOptions::default()), air }
    }
}

impl Medium for Jammed {
    fn promises(&self) -> Promises {
        self.local.promises()
    }

    fn carry(&self, wave: Wave) -> Result<Carried, EmitError> {
        match self.air.loses(&wave) {
            // The sender does not learn of the loss, as over a network.
            true => Ok(Carried::Done(Offered::UNKNOWN)),
            false => self.local.carry(wave),
        }
    }

    fn try_carry(&self, wave: Wave) -> Result<Offered, EmitError> {
        match self.air.loses(&wave) {
            true => Ok(Offered::UNKNOWN),
            false => self.local.try_carry(wave),
        }
    }

    fn join(&self, subscription: Arc<Subscription>) -> BoxFuture<'_, Result<(), JoinError>> {
        self.local.join(subscription)
    }

    fn leave(&self, subscription: &Subscription) {
        self.local.leave(subscription);
    }

    fn ask(&self, question: Wave, patience: Duration) -> BoxFuture<'_, Result<Wave, AskError>> {
        self.local.ask(question, patience)
    }

    fn notify(&self, notices: Vec<Wave>) -> BoxFuture<'_, Vec<Reach>> {
        self.local.notify(notices)
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        self.local.flush()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        self.local.close()
    }

    fn status(&self) -> MediumStatus {
        self.local.status()
    }
}
