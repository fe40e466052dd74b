//! A rate that can change while a service runs, and the tower layer that keeps it.

use std::fmt;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::quantity::{QuantityError, from_text};

const ALLOWED: &str =
    "a whole number of waves and a time, such as 100/s, 5/m or 20/250ms, with a time above zero and at most a day";

/// The longest period: the end of a period must not overflow the clock.
const LONGEST: Duration = Duration::from_secs(60 * 60 * 24);

/// How many waves are started in a time: `100/s`, `5/m`, `20/250ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    waves: u64,
    period: Duration,
}

impl FromStr for Rate {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let parse = || {
            let (waves, period) = text.split_once('/')?;
            let period = period.trim();
            let one_unit = format!("1{period}");
            let is_unit = period.starts_with(|first: char| first.is_ascii_alphabetic());
            let period = humantime::parse_duration(if is_unit { &one_unit } else { period }).ok()?;
            let waves = waves.trim().parse().ok()?;
            (waves > 0 && !period.is_zero() && period <= LONGEST).then_some(Self { waves, period })
        };
        parse().ok_or_else(|| QuantityError::new(text, ALLOWED))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.waves, humantime::format_duration(self.period))
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, ALLOWED)
    }
}

/// A tower layer that starts no more waves in a period than the rate of the configuration allows, and follows its
/// changes. Waves without room wait in the inbox. Each set of handlers counts by itself.
#[derive(Debug, Clone)]
pub struct RateLayer {
    rate: watch::Receiver<Option<Rate>>,
}

impl RateLayer {
    pub(super) fn new(rate: watch::Receiver<Option<Rate>>) -> Self {
        Self { rate }
    }
}

impl<S> tower::Layer<S> for RateLayer {
    type Service = RateLimited<S>;
    fn layer(&self, inner: S) -> RateLimited<S> {
        let mut rate = self.rate.clone();
        let limit = *rate.borrow_and_update();
        RateLimited { inner, rate, limit, left: 0, end: Instant::now(), wait: None }
    }
}

/// A service whose rate is limited by a [`RateLayer`].
pub struct RateLimited<S> {
    inner: S,
    rate: watch::Receiver<Option<Rate>>,
    /// The rate as last seen.
    limit: Option<Rate>,
    /// How many waves may be started in this period.
    left: u64,
    /// The end of this period.
    end: Instant,
    /// Ends with the period, or when the rate changes.
    wait: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S> RateLimited<S> {
    /// Waits until a wave may be started.
    fn poll_rate(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            // An error means that the configuration is gone, so that the rate stays.
            if self.rate.has_changed().unwrap_or(false) {
                self.limit = *self.rate.borrow_and_update();
                self.wait = None;
                // What was started in the period that ends here is forgotten: at most one rate's worth is added.
                (self.left, self.end) = (0, Instant::now());
            }
            let Some(Rate { waves, period }) = self.limit else { return Poll::Ready(()) };
            if self.left > 0 {
                return Poll::Ready(());
            }
            let now = Instant::now();
            if now >= self.end {
                (self.left, self.end, self.wait) = (waves, now + period, None);
                return Poll::Ready(());
            }
            let (mut rate, end) = (self.rate.clone(), self.end);
            let wait = self.wait.get_or_insert_with(|| {
                Box::pin(async move {
                    tokio::select! {
                        () = sleep_until(end) => {}
                        Ok(()) = rate.changed() => {}
                    }
                })
            });
            ready!(wait.as_mut().poll(context));
            self.wait = None;
        }
    }
}

impl<S, W> tower::Service<W> for RateLimited<S>
where
    S: tower::Service<W>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        ready!(self.poll_rate(context));
        self.inner.poll_ready(context)
    }

    fn call(&mut self, wave: W) -> S::Future {
        self.left = self.left.saturating_sub(1);
        self.inner.call(wave)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use tower::{Layer, Service, ServiceExt, service_fn};

    #[test]
    fn rates_are_read_and_wrong_ones_refused() {
        for (text, waves, millis) in [("100/s", 100, 1000), ("5 / m", 5, 60_000), ("20/250ms", 20, 250)] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.waves, rate.period.as_millis()), (waves, millis), "{text}");
            assert_eq!(rate.to_string().parse(), Ok(rate));
        }
        for wrong in ["", "100", "0/s", "5/0s", "-1/s", "1.5/s", "5/2days", "5/"] {
            assert!(wrong.parse::<Rate>().unwrap_err().to_string().contains("such as 100/s"), "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_kept_and_a_change_counts_at_once() {
        let (sender, receiver) = watch::channel(Some("2/10s".parse().unwrap()));
        let start = Instant::now();
        let mut service =
            RateLayer::new(receiver).layer(service_fn(async |(): ()| Ok::<_, Infallible>(Instant::now())));
        let mut started = Vec::new();
        for _ in 0..4 {
            started.push(service.ready().await.unwrap().call(()).await.unwrap().duration_since(start).as_secs());
        }
        assert_eq!(started, [0, 0, 10, 10]);
        // The next would start at 20 s.
        let waiting = async {
            service.ready().await.unwrap();
            start.elapsed().as_secs()
        };
        let changing = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            sender.send_replace(None);
        };
        let (ready_at, ()) = tokio::join!(waiting, changing);
        assert_eq!(ready_at, 13, "the limit was lifted while it waited");
        for _ in 0..100 {
            service.ready().await.unwrap().call(()).await.unwrap();
        }
        assert_eq!(start.elapsed().as_secs(), 13, "no limit");
        sender.send_replace(Some("1/10s".parse().unwrap()));
        for _ in 0..2 {
            service.ready().await.unwrap().call(()).await.unwrap();
        }
        assert_eq!(start.elapsed().as_secs(), 23);
    }
}
