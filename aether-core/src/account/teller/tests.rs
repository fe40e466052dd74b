//! The teller with a medium that takes its time.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use tokio::time::sleep;

use super::*;
use crate::medium::{AskError, EmitError, FlushError, JoinError, Promises, Reach};
use crate::presence::Presence;
use crate::router::{Carried, Offered, Subscription};

const SECOND: Duration = Duration::from_secs(1);

/// Sends the first notice after two seconds, and others at once.
#[derive(Debug, Default)]
struct Slow {
    is_held: AtomicBool,
    told: Mutex<Vec<Wave>>,
}

impl Medium for Slow {
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
        let is_first = !self.is_held.swap(true, Ordering::Relaxed);
        Box::pin(async move {
            if is_first {
                sleep(2 * SECOND).await;
            }
            let count = notices.len();
            self.told.lock().extend(notices);
            vec![Reach::Delivered; count]
        })
    }
    fn flush(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        ready(Ok(())).boxed()
    }
    fn close(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        ready(Ok(())).boxed()
    }
    fn status(&self) -> MediumStatus {
        MediumStatus { connected: true, ..MediumStatus::default() }
    }
}

#[tokio::test(start_paused = true)]
async fn no_account_is_sent_behind_the_last_one() {
    let slow = Arc::<Slow>::default();
    let medium: Arc<dyn Medium> = Arc::clone(&slow) as _;
    let teller = Arc::new(Teller::new(TellerParts {
        program: Source::new("shop").unwrap(),
        every: Some(5 * SECOND),
        router: Arc::new(Router::new()),
        presence: Arc::new(Presence::new()),
        reflector: Arc::new(Reflector::new()),
        medium: Arc::downgrade(&medium),
    }));
    teller.start();
    while !slow.is_held.load(Ordering::Relaxed) {
        sleep(SECOND / 10).await;
    }
    teller.leave().await;
    sleep(20 * SECOND).await;
    let told = slow.told.lock();
    let is_last = |wave: &Wave| record::read(wave.payload()).unwrap().is_last;
    assert_eq!(told.iter().map(is_last).collect::<Vec<_>>(), [true]);
}
