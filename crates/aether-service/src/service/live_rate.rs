//! A rate of handlers that can change while the service runs.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How many waves are started in a time; `None` for no limit.
pub(crate) type LiveRate = Option<(u64, Duration)>;

/// A tower layer that starts no more waves in a period than a rate allows, and follows the changes of
/// the rate. Waves without room wait in the inbox. Each set of handlers counts by itself.
#[derive(Debug, Clone)]
pub(crate) struct RateLayer {
    rate: watch::Receiver<LiveRate>,
}

impl RateLayer {
    pub(crate) fn new(rate: watch::Receiver<LiveRate>) -> Self {
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
pub(crate) struct RateLimited<S> {
    inner: S,
    rate: watch::Receiver<LiveRate>,
    /// The rate as last seen.
    limit: LiveRate,
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
                // Waves started in the period that ends here are forgotten: at most one rate's worth is added.
                (self.left, self.end) = (0, Instant::now());
            }
            let Some((waves, period)) = self.limit else { return Poll::Ready(()) };
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
                        biased;
                        Ok(()) = rate.changed() => {}
                        () = sleep_until(end) => {}
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

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_kept_and_a_change_counts_at_once() {
        let (sender, receiver) = watch::channel(Some((2, Duration::from_secs(10))));
        let start = Instant::now();
        let mut service =
            RateLayer::new(receiver).layer(service_fn(async |(): ()| Ok::<_, Infallible>(Instant::now())));
        let mut started = Vec::new();
        for _ in 0..4 {
            started
                .push(service.ready().await.unwrap().call(()).await.unwrap().duration_since(start).as_secs());
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
        sender.send_replace(Some((1, Duration::from_secs(10))));
        for _ in 0..2 {
            service.ready().await.unwrap().call(()).await.unwrap();
        }
        assert_eq!(start.elapsed().as_secs(), 23);
    }
}
