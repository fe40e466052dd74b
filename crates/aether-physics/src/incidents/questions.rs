//! Open questions: who answers on a channel, how fast, and who waits.

use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use smallvec::SmallVec;
use smol_str::SmolStr;

use super::pulse::Pulse;
use crate::timeline::Moment;
use aether_core::{Channel, Kind, Wave};

/// The maximum number of channels with answers. Beyond it, the least recently used is forgotten.
const MAX_CHANNELS: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// The maximum number of questions whose answer is awaited, of all channels.
const MAX_OPEN: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// The maximum number of waiting services that are named.
const MAX_ASKERS: usize = 8;
/// A channel with fewer answers so far is not judged.
const FEWEST_ANSWERS: u64 = 8;
/// A channel is judged if at least this share of its questions was answered so far: others are commands that nobody
/// answers.
const ANSWERED: f64 = 0.8;
/// Unanswered questions are judged after this time, or after six times the usual time of an answer.
const PATIENCE: Duration = Duration::from_secs(5);
const TIMES: u32 = 6;
/// And if there are this many: a single answer may have been lost on its way to the observer.
const FEWEST_QUESTIONS: u32 = 3;

/// The time of the answers is judged in windows of at least this length, with this number of answers.
const WINDOW: Duration = Duration::from_secs(2);
const SAMPLE: usize = 32;
const FEWEST_IN_WINDOW: usize = 4;
/// The windows that make a baseline.
const BASELINE: u32 = 5;
/// Answers are slow if they take longer than before by this factor, and at least this long.
const SLOW_TIMES: f64 = 10.0;
const SLOW: f64 = 0.1;
/// The number of slow windows in a row that make a slow service.
const WINDOWS: u32 = 2;
/// A judgement without newer answers holds for this time.
const STALE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Questions {
    channels: LruCache<Channel, Answers>,
    /// By the instance of the asker and the sequence number.
    open: LruCache<(u64, u64), Moment>,
}

/// The questions and answers on one channel.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// The service that answered last.
    pub(super) by: SmolStr,
    questions: u64,
    answers: u64,
    /// The first question since the last answer, and the number of questions since then.
    waiting_since: Option<Moment>,
    waiting: u32,
    pub(super) askers: SmallVec<[SmolStr; 2]>,
    /// The longest times of answers.
    slowest: Option<Pulse>,
    window: Window,
    /// The logarithm of the usual time in seconds, and the number of windows behind it.
    usual: (f64, u32),
    /// The number of windows in a row that were slow.
    slow_windows: u32,
    /// When the last window was judged.
    judged: Moment,
    takes: f64,
}

#[derive(Debug, Default)]
struct Window {
    began: Moment,
    seconds: SmallVec<[f32; 4]>,
}

impl Default for Questions {
    fn default() -> Self {
        Self { channels: LruCache::new(MAX_CHANNELS), open: LruCache::new(MAX_OPEN) }
    }
}

impl Questions {
    /// Takes in a question or an answer. The time of arrival counts: a question that waited for a connection was not asked
    /// before.
    pub(super) fn observe(&mut self, wave: &Wave, now: Moment) {
        match wave.kind() {
            Kind::Command | Kind::Query => {
                // Only channels with answers are kept, so a flood of commands is not a flood of channels.
                let Some(answers) = self.channels.get_mut(wave.channel()) else {
                    self.open.put((wave.source().instance(), wave.sequence()), now);
                    return;
                };
                answers.asked(wave.source().name(), now);
                self.open.put((wave.source().instance(), wave.sequence()), now);
            }
            Kind::Response => {
                let Some(question) = wave.cause() else { return };
                let asked = self.open.pop(&(question.source.instance(), question.sequence));
                if self.channels.peek(wave.channel()).is_none() {
                    self.channels.put(wave.channel().clone(), Answers::default());
                }
                let Some(answers) = self.channels.get_mut(wave.channel()) else { return };
                answers.answered(wave.source().name(), asked.map(|asked| now.since(asked)), now);
            }
            _ => {}
        }
    }

    /// Nothing that happened before is evidence: questions may have been answered unobserved.
    pub(super) fn forget_open(&mut self) {
        self.open.clear();
        for (_, answers) in &mut self.channels {
            answers.nobody_waits();
        }
    }

    pub(super) fn channels(&self) -> impl Iterator<Item = (&Channel, &Answers)> {
        self.channels.iter()
    }

    pub(super) fn channel(&self, channel: &Channel) -> Option<&Answers> {
        self.channels.peek(channel)
    }

    /// Whether one service waits for another now.
    pub(super) fn waits(&self, asker: &str, answerer: &str) -> bool {
        self.channels.iter().any(|(_, answers)| {
            answers.by == answerer && answers.waiting > 0 && answers.askers.iter().any(|name| name == asker)
        })
    }
}

impl Answers {
    fn asked(&mut self, asker: &str, now: Moment) {
        self.questions += 1;
        self.waiting = self.waiting.saturating_add(1);
        self.waiting_since.get_or_insert(now);
        if self.askers.len() < MAX_ASKERS && !self.askers.iter().any(|name| name == asker) {
            self.askers.push(asker.into());
        }
    }

    fn answered(&mut self, by: &str, took: Option<Duration>, now: Moment) {
        if self.by != by {
            self.by = by.into();
        }
        self.answers += 1;
        self.questions = self.questions.max(self.answers);
        self.nobody_waits();
        let Some(took) = took else { return };
        // A pulse keeps the longest of anything. Here each beat is as long after the last one as the answer took.
        let slowest = self.slowest.get_or_insert_with(|| Pulse::new(Moment::default()));
        slowest.beat(slowest.last.plus(took), Moment::default());
        if self.window.seconds.is_empty() {
            self.window.began = now;
        }
        if self.window.seconds.len() < SAMPLE {
            self.window.seconds.push(took.as_secs_f32());
        }
        if now.since(self.window.began) >= WINDOW && self.window.seconds.len() >= FEWEST_IN_WINDOW {
            self.close_window(now);
        }
    }

    fn nobody_waits(&mut self) {
        (self.waiting, self.waiting_since) = (0, None);
        self.askers.clear();
    }

    fn close_window(&mut self, now: Moment) {
        self.judged = now;
        let middle = self.window.seconds.len() / 2;
        let median = *self.window.seconds.select_nth_unstable_by(middle, f32::total_cmp).1;
        let median = f64::from(median).max(1e-6);
        self.window.seconds.clear();
        let (usual, windows) = &mut self.usual;
        let is_slow = *windows >= BASELINE && median > (SLOW_TIMES * libm::exp(*usual)).max(SLOW);
        if is_slow {
            (self.slow_windows, self.takes) = (self.slow_windows.saturating_add(1), median);
            return;
        }
        self.slow_windows = 0;
        *windows = windows.saturating_add(1);
        // The first windows weigh the same, later ones a tenth.
        *usual += (libm::log(median) - *usual) / f64::from((*windows).min(10));
    }

    fn patience(&self) -> Duration {
        let usual = self.slowest.map_or(Duration::ZERO, |slowest| slowest.longest());
        PATIENCE.max((usual * TIMES).min(PATIENCE * TIMES))
    }

    /// Since when all questions are unanswered, if there are enough of them, for long enough.
    pub(super) fn unanswered(&self, now: Moment, watched: Moment) -> Option<Moment> {
        let since = self.waiting_since?.max(watched);
        let patience = self.patience();
        let is_judged = self.answers >= FEWEST_ANSWERS
            && self.answers as f64 >= ANSWERED * (self.questions - u64::from(self.waiting)) as f64;
        let waited = now.since(since);
        (is_judged && self.waiting >= FEWEST_QUESTIONS && waited >= patience).then_some(since)
    }

    /// Whether somebody waits for an answer.
    pub(super) fn is_awaited(&self) -> bool {
        self.waiting > 0
    }

    /// When the judgement about open questions may change.
    pub(super) fn deadline(&self, now: Moment, watched: Moment) -> Option<Moment> {
        Some(self.waiting_since?.max(watched).plus(self.patience())).filter(|deadline| *deadline > now)
    }

    /// The median time of an answer now and before, if the service is slow.
    pub(super) fn slow(&self, now: Moment) -> Option<(Duration, Duration)> {
        let duration = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let is_slow = self.slow_windows >= WINDOWS && now.since(self.judged) < STALE;
        is_slow.then(|| (duration(self.takes), duration(libm::exp(self.usual.0))))
    }
}
