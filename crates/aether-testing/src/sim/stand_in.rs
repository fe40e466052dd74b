//! A stand-in for a service: it emits, asks and answers by a list, as a recording has it or as a test needs it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aether_core::{Aether, Channel, Emitter, FailureReason, Kind, Vibrator, Wave, WaveId, clock};
use aether_service::CancellationToken;
use futures_util::future::BoxFuture;
use tokio::time::sleep;
use tower::BoxError;

use super::process::BEGINS;
use crate::seed::{mixed, number_of, share_of};

/// A stand-in for a service in a [`Sim`](super::Sim): a list of [`Act`]s.
///
/// ```
/// use std::time::Duration;
/// use aether_testing::sim::{Act, Sim, StandIn};
///
/// let mut sim = Sim::with_seed(7);
/// let stock = || StandIn::new("stock").act(Act::answer("stock.take").later(Duration::from_millis(20)));
/// let shop = || {
///     let second = Duration::from_secs(1);
///     StandIn::new("shop")
///         .act(Act::event("orders.created").every(second).jitter(0.1).from(2 * second))
///         .act(Act::query("stock.take").after("orders.created"))
///         .act(Act::event("orders.completed").after_answer("stock.take"))
/// };
/// sim.process("stock", move |aether, shutdown| stock().run(aether, shutdown));
/// sim.process("shop", move |aether, shutdown| shop().run(aether, shutdown));
/// sim.run_for(Duration::from_secs(10));
/// sim.finish();
/// ```
///
/// Its times count from the beginning of the simulation, by the clock of its process. The payload of each wave is a
/// number: the same one for all attempts of one question.
#[derive(Debug, Clone)]
#[must_use = "it does nothing before run()"]
pub struct StandIn {
    service: String,
    acts: Vec<Act>,
}

/// Something that a [`StandIn`] does, and when: by itself ([`every`](Self::every), [`at_millis`](Self::at_millis)), or after
/// a wave, which is then the cause ([`on`](Self::on), [`after`](Self::after), [`after_answer`](Self::after_answer)).
#[derive(Debug, Clone)]
#[must_use = "a stand-in does it after StandIn::act()"]
pub struct Act {
    kind: Kind,
    channel: &'static str,
    amplitude: f32,
    key: Option<&'static str>,
    failure: bool,
    when: When,
    chosen: Chosen,
    delay: Duration,
    /// Another delay from a time on; `None` is for ever.
    later: Option<(Duration, Option<Duration>)>,
    tries: (u32, Duration),
}

#[derive(Debug, Clone)]
enum When {
    Every { period: Duration, jitter: f64, from: Duration, until: Duration },
    At(&'static [u64]),
    After(Trigger),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Trigger {
    /// A wave of others, but no answer.
    Heard(&'static str),
    Own(&'static str),
    Answer(&'static str),
}

/// Which of the causes an act follows, by their number from 0.
#[derive(Debug, Clone)]
enum Chosen {
    All,
    Only(&'static [u32]),
    Except(&'static [u32]),
    Share(f64),
}

impl Act {
    fn new(kind: Kind, channel: &'static str, when: When) -> Self {
        Self {
            kind,
            channel,
            amplitude: 0.5,
            key: None,
            failure: false,
            when,
            chosen: Chosen::All,
            delay: Duration::ZERO,
            later: None,
            tries: (1, Emitter::ASK_PATIENCE),
        }
    }

    /// Emits an event.
    pub fn event(channel: &'static str) -> Self {
        Self::new(Kind::Event, channel, When::At(&[]))
    }

    /// Emits a broadcast.
    pub fn broadcast(channel: &'static str) -> Self {
        Self::new(Kind::Broadcast, channel, When::At(&[]))
    }

    /// Asks a query.
    pub fn query(channel: &'static str) -> Self {
        Self::new(Kind::Query, channel, When::At(&[]))
    }

    /// Asks a command.
    pub fn command(channel: &'static str) -> Self {
        Self::new(Kind::Command, channel, When::At(&[]))
    }

    /// Answers the questions on a channel.
    pub fn answer(channel: &'static str) -> Self {
        Self::new(Kind::Response, channel, When::After(Trigger::Heard(channel)))
    }

    /// Answers the questions on a channel with a failure.
    pub fn failure(channel: &'static str) -> Self {
        Self { failure: true, ..Self::answer(channel) }
    }

    /// How strong the waves are. Default: 0.5. An answer is as strong as its question.
    pub fn amplitude(self, amplitude: f32) -> Self {
        Self { amplitude, ..self }
    }

    /// The coherence key of the waves. Default: none.
    pub fn key(self, key: &'static str) -> Self {
        Self { key: Some(key), ..self }
    }

    /// Does it at regular intervals, from the beginning on.
    pub fn every(self, period: Duration) -> Self {
        let period = period.max(Duration::from_millis(1));
        Self { when: When::Every { period, jitter: 0.0, from: Duration::ZERO, until: Duration::MAX }, ..self }
    }

    /// The time by which each beat of [`every`](Self::every) may be late, as a share of the period, drawn from the seed.
    pub fn jitter(mut self, share: f64) -> Self {
        if let When::Every { jitter, .. } = &mut self.when {
            *jitter = share;
        }
        self
    }

    /// The first beat of [`every`](Self::every).
    pub fn from(mut self, time: Duration) -> Self {
        if let When::Every { from, .. } = &mut self.when {
            *from = time;
        }
        self
    }

    /// The end of [`every`](Self::every).
    pub fn until(mut self, time: Duration) -> Self {
        if let When::Every { until, .. } = &mut self.when {
            *until = time;
        }
        self
    }

    /// Does it at these times, in ascending order.
    pub fn at_millis(self, times: &'static [u64]) -> Self {
        Self { when: When::At(times), ..self }
    }

    /// Does it after each wave of others on a channel, apart from answers.
    pub fn on(self, channel: &'static str) -> Self {
        Self { when: When::After(Trigger::Heard(channel)), ..self }
    }

    /// Does it after each wave of the service itself on a channel.
    pub fn after(self, channel: &'static str) -> Self {
        Self { when: When::After(Trigger::Own(channel)), ..self }
    }

    /// Does it after each answer to a question of the service.
    pub fn after_answer(self, channel: &'static str) -> Self {
        Self { when: When::After(Trigger::Answer(channel)), ..self }
    }

    /// Follows only these of its causes, by their number from 0.
    pub fn only(self, causes: &'static [u32]) -> Self {
        Self { chosen: Chosen::Only(causes), ..self }
    }

    /// Follows all but these of its causes, by their number from 0.
    pub fn except(self, causes: &'static [u32]) -> Self {
        Self { chosen: Chosen::Except(causes), ..self }
    }

    /// Follows this share of its causes, from 0 to 1.
    pub fn share(self, share: f64) -> Self {
        Self { chosen: Chosen::Share(share), ..self }
    }

    /// Does it so much later than its cause.
    pub fn later(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Has another delay from a time on, as an overloaded service.
    pub fn late_from(self, time: Duration, delay: Duration) -> Self {
        Self { later: Some((time, Some(delay))), ..self }
    }

    /// Does it no more from a time on, as a handler that hangs.
    pub fn hangs_from(self, time: Duration) -> Self {
        Self { later: Some((time, None)), ..self }
    }

    /// Asks up to `most` times, with this interval, until there is an answer. Default: once, with
    /// [`Emitter::ASK_PATIENCE`].
    pub fn tries(self, most: u32, interval: Duration) -> Self {
        Self { tries: (most, interval), ..self }
    }

    /// Whether it follows a cause.
    fn follows(&self, cause: u32) -> bool {
        match self.chosen {
            Chosen::All => true,
            Chosen::Only(causes) => causes.binary_search(&cause).is_ok(),
            Chosen::Except(causes) => causes.binary_search(&cause).is_err(),
            Chosen::Share(share) => share_of(mixed([number_of(self.channel), u64::from(cause)])) < share,
        }
    }

    /// The delay at a time; `None` is for ever.
    fn delay_at(&self, time: Duration) -> Option<Duration> {
        match self.later {
            Some((from, delay)) if time >= from => delay,
            _ => Some(self.delay),
        }
    }
}

impl StandIn {
    /// A stand-in that does nothing. The name is the source of its waves, and the group in which it hears others.
    pub fn new(service: &str) -> Self {
        Self { service: service.to_owned(), acts: Vec::new() }
    }

    /// Adds an act. Those with one cause are done in the order in which they were added.
    pub fn act(mut self, act: Act) -> Self {
        self.acts.push(act);
        self
    }

    /// Does everything, until it has to stop.
    ///
    /// # Errors
    /// The name or a channel is not valid.
    ///
    /// # Cancel safety
    /// If cancelled before completion, it hears nothing any more. Acts that follow no wave go on until `shutdown` is
    /// cancelled.
    pub async fn run(self, aether: Aether, shutdown: CancellationToken) -> Result<(), BoxError> {
        let mut vibrator = Vibrator::create(&self.service, &aether).await?;
        let mut heard: Vec<&str> = Vec::new();
        for act in &self.acts {
            Channel::new(act.channel)?;
            if let When::After(Trigger::Heard(channel)) = act.when
                && !heard.contains(&channel)
            {
                heard.push(channel);
                vibrator.resonate_in_group(channel, &self.service).await?;
            }
        }
        let emitter = vibrator.emitter();
        let causes = self.acts.iter().map(|_| AtomicU32::new(0)).collect();
        let actor = Arc::new(Actor { emitter, acts: self.acts, causes, shutdown: shutdown.clone() });
        for place in 0..actor.acts.len() {
            actor.spawn(Arc::clone(&actor).do_by_itself(place));
        }
        while let Some(Some(wave)) = shutdown.run_until_cancelled(vibrator.receive()).await {
            let channel = wave.channel().clone();
            let is_it =
                |trigger: &Trigger| matches!(trigger, Trigger::Heard(known) if *known == channel.as_str());
            actor.react(is_it, &wave.id(), Some(&wave));
        }
        Ok(())
    }
}

/// A stand-in that runs.
struct Actor {
    emitter: Emitter,
    acts: Vec<Act>,
    /// How many causes each act has had.
    causes: Vec<AtomicU32>,
    shutdown: CancellationToken,
}

impl Actor {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move { shutdown.run_until_cancelled(task).await });
    }

    async fn do_by_itself(self: Arc<Self>, place: usize) {
        let started = now();
        match self.acts[place].when {
            When::After(_) => {}
            When::At(times) => {
                for (number, time) in (0..).zip(times) {
                    let time = Duration::from_millis(*time);
                    if time >= started {
                        sleep(time.saturating_sub(now())).await;
                        self.begin(place, number, None, None);
                    }
                }
            }
            When::Every { period, jitter, from, until } => {
                for number in 0_u32.. {
                    let beat = from.saturating_add(period.saturating_mul(number));
                    if beat > until || beat == Duration::MAX {
                        return;
                    }
                    let late = period.mul_f64(jitter.clamp(0.0, 1.0) * fastrand::f64());
                    if beat >= started {
                        sleep((beat + late).saturating_sub(now())).await;
                        self.begin(place, number, None, None);
                    }
                }
            }
        }
    }

    /// Does what follows from a wave.
    fn react(self: &Arc<Self>, is_it: impl Fn(&Trigger) -> bool, cause: &WaveId, question: Option<&Wave>) {
        for (place, act) in self.acts.iter().enumerate() {
            let When::After(trigger) = &act.when else { continue };
            if is_it(trigger) {
                let number = self.causes[place].fetch_add(1, Ordering::Relaxed);
                if act.follows(number) {
                    self.begin(place, number, Some(cause), question);
                }
            }
        }
    }

    fn begin(self: &Arc<Self>, place: usize, number: u32, cause: Option<&WaveId>, question: Option<&Wave>) {
        let Some(delay) = self.acts[place].delay_at(now()) else { return };
        let (actor, cause, question) = (Arc::clone(self), cause.cloned(), question.cloned());
        self.spawn(async move {
            if !delay.is_zero() {
                sleep(delay).await;
            }
            actor.perform(place, number, cause, question).await;
        });
    }

    /// A wave that cannot be emitted or answered is lost, as with a service whose connection ends. Boxed, because what it
    /// does makes others of it.
    fn perform(
        self: Arc<Self>,
        place: usize,
        number: u32,
        cause: Option<WaveId>,
        question: Option<Wave>,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let act = &self.acts[place];
            if act.kind == Kind::Response {
                let Some(question) = question else { return };
                let _ = match act.failure {
                    true => question.reply_failure(FailureReason::HandlerFailed, "as recorded").await,
                    false => question.reply(number).await,
                };
                return;
            }
            let is_own = |trigger: &Trigger| matches!(trigger, Trigger::Own(known) if *known == act.channel);
            let is_answer =
                |trigger: &Trigger| matches!(trigger, Trigger::Answer(known) if *known == act.channel);
            let wave = || {
                let mut wave =
                    Wave::builder(act.channel).kind(act.kind).amplitude(act.amplitude).json(number);
                if let Some(key) = act.key {
                    wave = wave.key(key);
                }
                if let Some(cause) = &cause {
                    wave = wave.cause(cause.clone());
                }
                wave.build()
            };
            if !matches!(act.kind, Kind::Query | Kind::Command) {
                let Ok(wave) = wave() else { return };
                if let Ok(receipt) = self.emitter.emit(wave).await {
                    self.react(is_own, &self.emitter.id_of(&receipt), None);
                }
                return;
            }
            let (most, interval) = act.tries;
            for attempt in 0..most {
                let (began, Ok(wave)) = (now(), wave()) else { return };
                let Ok(asked) = self.emitter.question(wave) else { return };
                if attempt == 0 {
                    self.react(is_own, &asked.id(), None);
                }
                if let Ok(answer) = asked.ask_within(interval).await {
                    self.react(is_answer, &answer.id(), None);
                    return;
                }
                sleep((began + interval).saturating_sub(now())).await;
            }
        })
    }
}

/// The time since the beginning of the simulation.
fn now() -> Duration {
    Duration::from_micros(clock::micros_since_1970()).saturating_sub(BEGINS)
}
