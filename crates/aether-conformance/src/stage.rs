//! The stage of a case: two connected ends of one site, its patience, and the steps shared by most cases.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::panic::Location;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep_until, timeout};

use super::harness::{Foreign, Link, Site};
use super::report::{Checked, Failure, holds, same};
use aether_core::{
    Aether, AskError, Channel, Emitter, FlushError, InboxOptions, JoinError, Vibrator, Wave, WhenFull,
};

/// How long a case waits while nothing moves. A case with many waves takes as long as the machine is slow.
pub(super) struct Patience {
    limit: Duration,
    moved: Mutex<Instant>,
}

impl Patience {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, moved: Mutex::new(Instant::now()) }
    }

    /// Waits for something.
    async fn bound<F: Future>(&self, future: F) -> Result<F::Output, Elapsed> {
        let output = timeout(self.limit, future).await?;
        *self.moved.lock() = Instant::now();
        Ok(output)
    }

    /// Returns when nothing has moved for somewhat longer than a wait of the stage takes.
    pub(super) async fn is_over(&self) {
        loop {
            let over = *self.moved.lock() + self.limit + self.limit / 4;
            if Instant::now() >= over {
                return;
            }
            sleep_until(over).await;
        }
    }
}

/// Two ends of one medium. They are the same if the medium does not cross processes.
pub(super) struct Stage {
    site: Box<dyn Site>,
    /// One end.
    pub(super) here: Aether,
    /// The other.
    pub(super) there: Aether,
    patience: Arc<Patience>,
}

impl Stage {
    pub(super) async fn new(site: Box<dyn Site>, patience: Arc<Patience>) -> Checked<Self> {
        // By default an emitter gives up after 100 ms, which a broker on a busy machine may not answer.
        let outbox =
            InboxOptions::default().when_full(WhenFull::Wait { patience: Duration::from_secs(3600) });
        let here = site.connect(outbox.clone()).await?;
        let there = site.connect(outbox).await?;
        Ok(Self { site, here, there, patience })
    }

    /// Whether the two ends differ.
    pub(super) fn crosses(&self) -> bool {
        self.here.promises().crosses_processes
    }

    /// Whether the medium promises groups.
    pub(super) fn has_groups(&self) -> bool {
        self.here.promises().groups
    }

    /// Joins as a group member if the medium has groups. Otherwise checks that it refuses, and joins alone.
    pub(super) async fn join_group(&self, vibrator: &Vibrator, pattern: &str) -> Checked {
        let joined = vibrator.resonate_in_group(pattern, "group").await;
        if self.has_groups() {
            return Ok(joined?);
        }
        holds("NoGroups", matches!(joined, Err(JoinError::NoGroups { .. })), joined)?;
        Ok(vibrator.resonate_on(pattern).await?)
    }

    /// Asks where only observers hear. This fails at once if the medium promises that, and otherwise after its patience.
    pub(super) async fn ask_nobody(&self, asker: &Vibrator, question: Wave) -> Checked {
        let is_noticed = self.here.promises().detects_unheard;
        let patience = if is_noticed { Duration::from_secs(7200) } else { Duration::from_millis(100) };
        let asked = self.within("an error", asker.ask_within(question, patience)).await?;
        match asked {
            Err(AskError::NoResonator { .. }) if is_noticed => Ok(()),
            Err(AskError::TimedOut { .. }) if !is_noticed => Ok(()),
            asked => {
                let expected = if is_noticed { "NoResonator" } else { "TimedOut" };
                Err(Failure::new(expected, format_args!("{asked:?}")))
            }
        }
    }

    /// Connects a further end with an outbox of its own.
    pub(super) async fn connect(&self, outbox: InboxOptions) -> Checked<Aether> {
        Ok(self.site.connect(outbox).await?)
    }

    /// The link, for cases that need one.
    pub(super) fn link(&self) -> Checked<&dyn Link> {
        self.site.link().ok_or_else(|| Failure::new("a link", "none"))
    }

    /// Cuts the link, and waits until an end has noticed: until then it may hand waves to the broken connection.
    pub(super) async fn cut_off(&self, end: &Aether) -> Checked {
        self.link()?.cut().await?;
        self.within("the end to notice the cut", until(|| !end.status().connected)).await
    }

    /// Whether there is a link, and waves wait while it is cut.
    pub(super) fn holds_waves(&self) -> bool {
        self.site.link().is_some_and(Link::holds_waves)
    }

    /// The foreign client, for cases that need one.
    pub(super) fn foreign(&self) -> Checked<&dyn Foreign> {
        self.site.foreign().ok_or_else(|| Failure::new("a foreign client", "none"))
    }

    /// Waits for something within the patience of the case.
    #[track_caller]
    pub(super) fn within<F: Future>(
        &self,
        what: impl Display,
        future: F,
    ) -> impl Future<Output = Checked<F::Output>> {
        let at = Location::caller();
        let patience = Arc::clone(&self.patience);
        async move {
            let missing = |_| Failure::at(at, what, "nothing before the case's time was up");
            patience.bound(future).await.map_err(missing)
        }
    }

    /// Receives the next wave of a vibrator.
    #[track_caller]
    pub(super) fn next<'a>(
        &self,
        vibrator: &'a mut Vibrator,
        what: impl Display + 'a,
    ) -> impl Future<Output = Checked<Wave>> {
        let at = Location::caller();
        let patience = Arc::clone(&self.patience);
        async move {
            match patience.bound(vibrator.receive()).await {
                Ok(Some(wave)) => Ok(wave),
                Ok(None) => Err(Failure::at(at, what, "the end of all waves")),
                Err(_) => {
                    let seen = format!("nothing before the case's time was up; {:?}", vibrator.ledger());
                    Err(Failure::at(at, what, seen))
                }
            }
        }
    }

    /// Flushes an end, and again if that gives up after its whole patience, in which a busy machine may answer nothing. No
    /// wave may be lost meanwhile.
    #[track_caller]
    pub(super) fn flush<'a>(&'a self, end: &'a Aether) -> impl Future<Output = Checked> + 'a {
        let at = Location::caller();
        async move {
            let unconfirmed = end.status().unconfirmed;
            loop {
                let began = Instant::now();
                match self.within("the flush to return", end.flush()).await? {
                    Ok(()) => return same("waves that may be lost", unconfirmed, end.status().unconfirmed),
                    Err(FlushError::Unconfirmed { patience, .. } | FlushError::Unanswered { patience })
                        if !patience.is_zero() && began.elapsed() >= patience => {}
                    Err(error) => return Err(Failure::at(at, "a flush without an error", error)),
                }
            }
        }
    }

    /// Receives until waves of exactly these channels have arrived, in any order; anything else is a failure.
    pub(super) async fn hear(&self, vibrator: &mut Vibrator, channels: &[&str]) -> Checked {
        let mut missing = BTreeMap::<&str, usize>::new();
        for channel in channels {
            *missing.entry(channel).or_default() += 1;
        }
        while !missing.is_empty() {
            let name = vibrator.source().name().to_owned();
            let wave = self.next(vibrator, format!("{name} to receive {missing:?}")).await?;
            let channel = wave.channel().as_str();
            match missing.get_mut(channel) {
                Some(1) => drop(missing.remove(channel)),
                Some(count) => *count -= 1,
                None => {
                    let seen = format!("a wave on {channel}");
                    return Err(Failure::new(format_args!("{name} to receive {missing:?}"), seen));
                }
            }
        }
        Ok(())
    }

    /// Flushes what `emitter` has emitted, then emits a marker on `channel` and receives it: waves that the vibrator
    /// receives by the same pattern are in its inbox by then.
    pub(super) async fn settle(
        &self,
        from: &Aether,
        emitter: &Emitter,
        vibrator: &mut Vibrator,
        channel: &str,
    ) -> Checked {
        self.flush(from).await?;
        emitter.emit(numbered(channel, 0)?).await?;
        let marker = self.within("the marker to arrive", vibrator.receive_from(channel)).await??;
        marker.map(drop).ok_or_else(|| Failure::new("the marker", "the end of all waves"))
    }
}

/// A vibrator with default options.
pub(super) async fn vibrator(name: &str, aether: &Aether) -> Checked<Vibrator> {
    Ok(Vibrator::create(name, aether).await?)
}

/// A vibrator tuned to a pattern.
pub(super) async fn listener(name: &str, aether: &Aether, pattern: &str) -> Checked<Vibrator> {
    let vibrator = vibrator(name, aether).await?;
    vibrator.resonate_on(pattern).await?;
    Ok(vibrator)
}

/// A numbered wave of normal amplitude.
pub(super) fn numbered<C>(channel: C, number: u64) -> Checked<Wave>
where
    C: TryInto<Channel>,
    aether_core::wave::ChannelError: From<C::Error>,
{
    Ok(Wave::builder(channel).text(number.to_string()).build()?)
}

/// The number carried by a wave.
pub(super) fn number(wave: &Wave) -> Checked<u64> {
    let text = wave.text()?;
    text.parse().map_err(|_| Failure::new("a payload that is a number", format_args!("{text:?}")))
}

/// The number of waves that reached a vibrator after an unsubscribe. Waves in flight to a group member when it left are
/// counted as lost with it.
pub(super) fn reached(vibrator: &Vibrator) -> u64 {
    let ledger = vibrator.ledger();
    ledger.offered - ledger.shed_closed
}

/// Waits until a condition holds, where there is no event for it.
pub(super) async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Polls a future once: returns its output if it is ready, and otherwise the future. Other cases in the same task may
/// have used up the budget that tokio gives a task for a poll; without one, the future waits only for what it is about.
pub(super) async fn poll_once<F: Future + Unpin>(mut future: F) -> Result<F::Output, F> {
    let polled = std::future::poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut future).poll(cx)));
    match tokio::task::unconstrained(polled).await {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => Err(future),
    }
}
