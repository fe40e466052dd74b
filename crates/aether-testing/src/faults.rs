//! Faults: what can go wrong between emitters and a medium, by seed and by script.

mod counts;
mod fate;
mod fault;
mod line;
mod medium;
mod plan;

pub use counts::FaultCounts;
pub use fault::{Fault, FaultId};

use std::sync::Arc;

use aether_core::AetherBuilder;
use aether_core::medium::{ConnectRequest, Medium};

use crate::seed::drawn;
use medium::Faulty;
use plan::Shared;

/// The faults of one or more media. Clones are the same faults.
///
/// What happens to a wave is drawn from the seed and from the wave: the name and the instance of its source, counted in
/// the order of their first waves, its number and its channel. It does not depend on the order in which tasks run, so a
/// test with paused time that emits the same waves meets the same faults.
///
/// Without a seed of its own a test draws one. A test that fails prints it, and with that number in the environment
/// variable `AETHER_TEST_SEED` the test meets the same faults again.
///
/// A fault hits the waves that this process emits, its questions, and their answers. Waves that other processes send
/// over a network meet the faults of those processes.
///
/// ```
/// use std::time::Duration;
/// use aether_testing::{Fault, Faults, TestBus};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// let faults = Faults::with_seed(7);
/// let bus = TestBus::builder().faults(&faults).start().await;
/// let mut probe = bus.probe("*").await;
/// let shop = bus.vibrator("shop").await;
///
/// let cut = faults.add(Fault::partition());
/// shop.emit_wave("orders.created", &1).await.unwrap();
/// faults.heal(cut);
/// faults.add(Fault::delay(Duration::from_secs(2)));
/// shop.emit_wave("orders.created", &2).await.unwrap();
///
/// let wave = probe.wave("orders.created").await;
/// assert_eq!((wave.json::<u32>().unwrap(), wave.age()), (2, Duration::from_secs(2)));
/// assert_eq!(faults.counts().to_string(), "2 offered = 1 delivered + 1 partitioned; 1 delayed");
/// bus.finish().await;
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Faults {
    shared: Arc<Shared>,
}

impl Faults {
    /// No faults yet. The seed comes from the environment variable `AETHER_TEST_SEED`, or is drawn at random.
    ///
    /// # Panics
    /// If the variable is set and is not a number.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it draws a seed")]
    pub fn new() -> Self {
        Self::with_seed(drawn())
    }

    /// No faults yet, with a seed of the test's own.
    #[must_use]
    pub fn with_seed(seed: u64) -> Self {
        crate::follow_tokio();
        Self { shared: Arc::new(Shared::new(seed)) }
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.shared.seed
    }

    /// Adds a fault. It hits waves that are emitted from now on, in the time of its window if it has one.
    pub fn add(&self, fault: Fault) -> FaultId {
        self.shared.plan.lock().active.add(fault)
    }

    /// Ends a fault. Waves that a stall held go on at once; delayed ones keep their time.
    pub fn heal(&self, fault: FaultId) {
        self.shared.plan.lock().active.heal(fault);
        self.shared.changed.notify_waiters();
    }

    /// Ends all faults.
    pub fn heal_all(&self) {
        self.shared.plan.lock().active.heal_all();
        self.shared.changed.notify_waiters();
    }

    /// The effects of the faults so far.
    #[must_use]
    pub fn counts(&self) -> FaultCounts {
        self.shared.plan.lock().counts
    }

    /// A medium with these faults in front of another one.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn wrap(&self, medium: Arc<dyn Medium>) -> Arc<dyn Medium> {
        Arc::new(Faulty::new(medium, Arc::clone(&self.shared)))
    }

    /// Wraps the media of this builder's addresses `local:`, `nats:` and `tls:`.
    pub fn around(&self, builder: AetherBuilder) -> AetherBuilder {
        ["local", "nats", "tls"]
            .into_iter()
            .fold(builder, |builder, scheme| self.around_scheme(builder, scheme))
    }

    /// Wraps the medium that a scheme has in this builder, for media of other crates.
    pub fn around_scheme(&self, builder: AetherBuilder, scheme: &str) -> AetherBuilder {
        let faults = self.clone();
        builder.scheme(scheme, move |request: ConnectRequest| {
            let faults = faults.clone();
            async move { Ok(faults.wrap(request.connect().await?)) }
        })
    }
}
