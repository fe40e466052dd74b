//! Interference on a running bus: adds up the claims of a pattern and gives a stream of fringes.
//!
//! Drives [`Interference`], which is pure, with an inbox and a timer. The timer is set to the next possible change of
//! the detector. Nothing polls.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use tokio::time::{Sleep, sleep};

use super::bounds::BoundsError;
use super::interference::{Fringe, Interfere, Interference, InterferenceCounts};
use aether_core::clock::Instant;
use aether_core::wave::ChannelError;
use aether_core::{CreateError, JoinError, Ledger, Pattern, Vibrator};

/// The maximum number of waves taken in before the detector is asked for changes, so that a burst is processed as one.
const BURST: usize = 256;

/// Why claims cannot be added up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterfereError {
    /// An option is out of its bounds.
    #[error("invalid options")]
    Options(#[from] BoundsError),
    /// The inbox for the claims could not be created.
    #[error("the inbox for the claims could not be created")]
    Create(#[from] CreateError),
    /// The pattern could not be joined.
    #[error("cannot subscribe to the claims")]
    Join(#[from] JoinError),
}

/// Adds up claims that vibrators emit.
pub trait Interfering {
    /// Adds up the claims of several sources about one thing. A fringe arrives when enough of them assert a coherence key
    /// of a channel strongly enough, and another when they no longer do. Ordinary term: alert correlation.
    ///
    /// The stream has an inbox of its own and takes nothing from this vibrator's inbox. It receives the waves of this
    /// vibrator as well. It only observes: neither questions nor emitters wait for it.
    ///
    /// # Errors
    /// [`InterfereError`] if an option or the pattern is not valid or the medium is closed.
    ///
    /// # Cancel safety
    /// If cancelled before completion, nothing is subscribed.
    ///
    /// # Examples
    /// ```
    /// use aether_physics::{FringeKind, Interfere, Interfering};
    /// use aether_core::{Aether, Vibrator, Wave};
    /// use futures_util::StreamExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let aether = Aether::local();
    /// let pager = Vibrator::create("pager", &aether).await?;
    /// let mut alerts = pager.interfere("probes.down", Interfere::by_key().sources(2).rise(0.7)).await?;
    ///
    /// for name in ["frankfurt", "oslo"] {
    ///     let probe = Vibrator::create(name, &aether).await?;
    ///     probe.emit(Wave::builder("probes.down").key("db-7").build()?).await?;
    /// }
    /// let alert = alerts.next().await.expect("the medium is open");
    /// assert_eq!((alert.kind, &*alert.key, alert.sources), (FringeKind::Rise, "db-7", 2));
    /// # Ok(()) }
    /// ```
    fn interfere<P>(
        &self,
        pattern: P,
        options: Interfere,
    ) -> impl Future<Output = Result<Fringes, InterfereError>> + Send
    where
        P: TryInto<Pattern> + Send,
        ChannelError: From<P::Error>;
}

impl Interfering for Vibrator {
    async fn interfere<P>(&self, pattern: P, options: Interfere) -> Result<Fringes, InterfereError>
    where
        P: TryInto<Pattern> + Send,
        ChannelError: From<P::Error>,
    {
        let detector = options.build()?;
        let listener = Vibrator::builder(self.source().name()).observe().create(self.aether()).await?;
        listener.resonate_on(pattern).await?;
        let lost = (0, Fringes::now());
        Ok(Fringes { listener, detector, timer: None, closed: false, lost })
    }
}

/// A stream of fringes as they rise and fall. It ends when the medium is closed. Made by [`Interfering::interfere`].
#[derive(Debug)]
#[must_use = "claims are added up only while the stream is polled"]
pub struct Fringes {
    listener: Vibrator,
    detector: Interference,
    /// Set to the next moment at which the detector can change without a wave.
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
    closed: bool,
    /// The number of claims lost by the inbox, and when it was read.
    lost: (u64, Instant),
}

impl Fringes {
    /// The numbers of claims taken in and left out.
    #[must_use]
    pub fn counts(&self) -> InterferenceCounts {
        self.detector.counts()
    }

    /// The ledger of the inbox in which claims wait.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.listener.ledger()
    }

    /// The time by the clock of the timer, which a test can pause. Any other clock would end the timer's wait too
    /// early or too late.
    #[allow(clippy::useless_conversion, reason = "in unit tests both clocks are one")]
    fn now() -> Instant {
        tokio::time::Instant::now().into()
    }

    /// Takes in the waves that have arrived. Returns whether there may be more.
    fn take_in(&mut self, cx: &mut Context<'_>) -> bool {
        for _ in 0..BURST {
            match Pin::new(&mut self.listener).poll_next(cx) {
                Poll::Ready(Some(wave)) => self.detector.observe_at(&wave, wave.age(), Self::now()),
                Poll::Ready(None) => {
                    self.closed = true;
                    return false;
                }
                Poll::Pending => return false,
            }
        }
        true
    }

    /// Reports claims lost by the inbox to the detector: the others do not fade for as long.
    fn account(&mut self) {
        let (lost, now) = (self.listener.ledger().lost(), Self::now());
        if lost > self.lost.0 {
            self.detector.not_seen(self.lost.1, now);
        }
        self.lost = (lost, now);
    }

    /// Ready at the next moment at which the detector can change.
    fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.detector.next_change() else {
            self.timer = None;
            return Poll::Pending;
        };
        if !matches!(&self.timer, Some((set, _)) if *set == due) {
            let wait = due.saturating_duration_since(Self::now());
            self.timer = Some((due, Box::pin(sleep(wait))));
        }
        let Some((_, timer)) = &mut self.timer else { return Poll::Pending };
        std::task::ready!(timer.as_mut().poll(cx));
        self.timer = None;
        Poll::Ready(())
    }
}

impl Stream for Fringes {
    type Item = Fringe;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Fringe>> {
        let this = self.get_mut();
        loop {
            let more = !this.closed && this.take_in(cx);
            this.account();
            if let Some(fringe) = this.detector.tick(Self::now()) {
                return Poll::Ready(Some(fringe));
            }
            if this.closed {
                return Poll::Ready(None);
            }
            if !more {
                std::task::ready!(this.poll_change(cx));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FringeKind;
    use aether_core::{Aether, Phase, Wave};
    use futures_util::{FutureExt, StreamExt};
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    async fn says(probe: &Vibrator, key: &str, phase: Phase) {
        probe.emit(Wave::builder("probes.down").key(key).phase(phase).build().unwrap()).await.unwrap();
    }

    fn options() -> Interfere {
        Interfere::by_key().sources(2).rise(0.7).fall(0.5).window(30 * SECOND)
    }

    #[tokio::test(start_paused = true)]
    async fn a_fringe_falls_at_the_computed_moment_without_any_wave() {
        aether_core::clock::follow_tokio();
        let aether = Aether::local();
        let pager = Vibrator::create("pager", &aether).await.unwrap();
        let mut fringes = pager.interfere("probes.*", options()).await.unwrap();
        let probe = Vibrator::create("probe", &aether).await.unwrap();
        says(&pager, "db", Phase::ASSERT).await;
        assert!(fringes.next().now_or_never().is_none(), "one source is not enough");
        says(&probe, "db", Phase::ASSERT).await;
        says(&probe, "web", Phase::ASSERT).await;
        let start = aether_core::clock::test_now();
        let risen = fringes.next().await.unwrap();
        assert_eq!((risen.kind, &*risen.key, risen.sources), (FringeKind::Rise, "db", 2));
        assert_eq!(aether_core::clock::since(start), Duration::ZERO);
        let fallen = fringes.next().await.unwrap();
        assert_eq!((fallen.kind, &*fallen.key), (FringeKind::Fall, "db"));
        // 0.75 becomes 0.5 in one window; the timer has a resolution of a millisecond.
        let after = aether_core::clock::since(start);
        assert!((30 * SECOND..30 * SECOND + Duration::from_millis(5)).contains(&after), "{after:?}");
        assert_eq!(fringes.counts().claims, 3);
        assert!(fringes.ledger().adds_up());
    }

    #[tokio::test(start_paused = true)]
    async fn a_retraction_within_the_settle_time_keeps_the_pager_quiet() {
        aether_core::clock::follow_tokio();
        let aether = Aether::local();
        let pager = Vibrator::create("pager", &aether).await.unwrap();
        let mut fringes = pager.interfere("probes.>", options().settle(5 * SECOND)).await.unwrap();
        let probes =
            [Vibrator::create("a", &aether).await.unwrap(), Vibrator::create("b", &aether).await.unwrap()];
        for probe in &probes {
            says(probe, "db", Phase::ASSERT).await;
        }
        assert!(tokio::time::timeout(4 * SECOND, fringes.next()).await.is_err());
        says(&probes[0], "db", Phase::RETRACT).await;
        assert!(tokio::time::timeout(60 * SECOND, fringes.next()).await.is_err());
        let start = aether_core::clock::test_now();
        for probe in &probes {
            says(probe, "db", Phase::ASSERT).await;
        }
        assert_eq!(fringes.next().await.unwrap().kind, FringeKind::Rise);
        assert!(
            aether_core::clock::since(start) >= 5 * SECOND && aether_core::clock::since(start) < 6 * SECOND,
            "{:?}",
            aether_core::clock::since(start)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_stream_ends_with_the_medium_and_does_not_count_as_a_listener() {
        aether_core::clock::follow_tokio();
        let aether = Aether::local();
        let pager = Vibrator::create("pager", &aether).await.unwrap();
        let mut fringes = pager.interfere("probes.*", options()).await.unwrap();
        let asked = pager.ask_wave("probes.state", &1).await;
        assert!(matches!(asked, Err(aether_core::AskError::NoResonator { .. })), "{asked:?}");
        says(&pager, "db", Phase::ASSERT).await;
        aether.close().await.unwrap();
        assert_eq!(fringes.next().await, None);
        assert_eq!(fringes.counts().claims, 1, "the queued claim was taken in");
        assert!(matches!(pager.interfere("a", options()).await, Err(InterfereError::Join(_))));
        let wrong = pager.interfere("a", options().sources(0)).await;
        assert!(matches!(wrong, Err(InterfereError::Options(_))));
    }
}
