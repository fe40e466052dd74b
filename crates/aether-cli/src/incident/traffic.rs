//! The traffic of a recording as what each process does: by itself, and after which wave.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use aether::physics::RecordedEntry;
use aether_core::{Amplitude, Channel, Kind, Wave};

/// The process of the detectors.
pub(super) const OBSERVER: &str = "observer";
/// The maximum number of streams, each of one process on one channel. The rarest are left out.
const MAX_STREAMS: usize = 64;
/// The maximum number of times, or of causes, that are listed. Beyond it, their mean is written.
const MAX_LISTED: usize = 500;
/// The maximum number of waves of one stream that one wave causes.
const MAX_EFFECTS: usize = 8;
/// The maximum number of runs of a regular stream; one with more breaks is not regular.
const MAX_RUNS: usize = 4;
/// A run of a regular stream has at least this number of beats.
const FEWEST_BEATS: usize = 8;
/// Gaps of a regular stream differ from their median by at most this share, apart from a tenth of them.
const EVEN: f64 = 0.25;
/// Shorter delays come from the network.
const LEAST_DELAY: Duration = Duration::from_millis(2);
/// A question is asked again after this time at the earliest: sooner, the answer may be on its way in the simulation.
const LEAST_INTERVAL: Duration = Duration::from_millis(50);
/// Nothing follows from an effect that a cause shortly before the fault did not have.
const BEFORE_FAULT: Duration = Duration::from_millis(500);

/// All processes, in the order of their first waves.
pub(super) struct Traffic {
    pub(super) processes: Vec<Process>,
    /// The number of streams that are left out.
    pub(super) left_out: usize,
}

/// A process: one instance of a service, and those that took its place when it had ended.
pub(super) struct Process {
    pub(super) name: String,
    pub(super) service: String,
    /// By the numbers of the instances, the first and the last wave of each.
    pub(super) lives: Vec<(u64, Duration, Duration)>,
    pub(super) acts: Vec<Act>,
}

/// Something that a process does.
pub(super) struct Act {
    pub(super) kind: Kind,
    pub(super) channel: Channel,
    pub(super) failure: bool,
    pub(super) amplitude: Amplitude,
    pub(super) key: Option<String>,
    pub(super) when: When,
    /// The usual delay after the cause before the fault, and after it; `None` if it does not happen any more.
    pub(super) delay: Duration,
    pub(super) delay_later: Option<Duration>,
    pub(super) tries: Option<(usize, Duration)>,
}

pub(super) enum When {
    Every { period: Duration, jitter: f64, from: Duration, until: Duration },
    At(Vec<Duration>),
    After(Trigger, Which),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Trigger {
    Heard(Channel),
    Own(Channel),
    Answer(Channel),
}

pub(super) enum Which {
    All,
    Only(Vec<u32>),
    Except(Vec<u32>),
    Share(f64),
}

type Identity = (u64, u64);
/// A stream of a process, and whether it holds failed answers.
type StreamKey = (usize, Kind, Channel, bool);

/// A wave that was seen.
struct SeenWave<'a> {
    at: Duration,
    process: usize,
    wave: &'a Wave,
    failed: bool,
    /// The first wave of which this one is another attempt.
    attempt_of: Option<usize>,
    trigger: Option<(Trigger, usize)>,
}

impl SeenWave<'_> {
    fn id(&self) -> Identity {
        id(&self.wave.id())
    }

    fn is_question(&self) -> bool {
        matches!(self.wave.kind(), Kind::Command | Kind::Query)
    }

    fn stream(&self) -> StreamKey {
        (self.process, self.wave.kind(), self.wave.channel().clone(), self.failed)
    }
}

fn id(id: &aether_core::WaveId) -> Identity {
    (id.source.instance(), id.sequence)
}

impl Traffic {
    /// The traffic of these entries. Habits are those before the fault.
    pub(super) fn of(entries: &[(Duration, RecordedEntry)], fault: Duration) -> Self {
        let waves: Vec<(Duration, &Wave)> = entries
            .iter()
            .filter_map(|(at, entry)| match entry {
                RecordedEntry::Wave(wave) if wave.source().instance() != 0 => Some((*at, wave)),
                _ => None,
            })
            .collect();
        let mut processes = processes_of(&waves);
        let places: HashMap<u64, usize> = (0..)
            .zip(&processes)
            .flat_map(|(place, process)| process.lives.iter().map(move |(instance, ..)| (*instance, place)))
            .collect();
        let mut seen: Vec<SeenWave<'_>> = waves
            .iter()
            .map(|(at, wave)| SeenWave {
                at: *at,
                process: places[&wave.source().instance()],
                wave,
                failed: wave.failure().is_some(),
                attempt_of: None,
                trigger: None,
            })
            .collect();
        let left_out = keep_most_frequent(&mut seen);
        let intervals = find_attempts(&mut seen);
        let causes = find_triggers(&mut seen, &processes);
        let acts = grouped(&seen, &causes);
        for ((key, trigger, _), places) in ordered(acts) {
            let process = key.0;
            let tries = intervals
                .get(&key)
                .map(|(most, intervals)| (*most, median(intervals.clone()).max(LEAST_INTERVAL)));
            let of_stream = Stream { seen: &seen, places: &places, fault };
            let made = match trigger {
                Some(trigger) => vec![of_stream.after(trigger.clone(), &causes[&(process, trigger)])],
                None => of_stream.by_itself(),
            };
            processes[process].acts.extend(made.into_iter().map(|act| Act { tries, ..act }));
        }
        processes.retain(|process| !process.acts.is_empty());
        Self { processes, left_out }
    }
}

/// The processes, without what they do.
fn processes_of(waves: &[(Duration, &Wave)]) -> Vec<Process> {
    let mut lives: Vec<(&str, u64, Duration, Duration)> = Vec::new();
    let mut known: HashMap<u64, usize> = HashMap::new();
    for (at, wave) in waves {
        let place = *known.entry(wave.source().instance()).or_insert_with(|| {
            lives.push((wave.source().name(), wave.source().instance(), *at, *at));
            lives.len() - 1
        });
        lives[place].3 = *at;
    }
    let mut processes: Vec<Process> = Vec::new();
    for (service, instance, first, last) in lives {
        let life = (instance, first, last);
        let of_service = processes.iter_mut().filter(|process| process.service == service);
        let mut is_free = of_service.filter(|process| process.lives.iter().all(|(.., last)| *last < first));
        if let Some(process) = is_free.next() {
            process.lives.push(life);
            continue;
        }
        let is_taken = |name: &str| name == OBSERVER || processes.iter().any(|process| process.name == name);
        let names = (2..).map(|number| format!("{service} {number}"));
        let name = std::iter::once(service.to_owned()).chain(names).find(|name| !is_taken(name));
        let name = name.unwrap_or_default();
        processes.push(Process { name, service: service.to_owned(), lives: vec![life], acts: Vec::new() });
    }
    processes
}

/// Keeps the waves of the most frequent streams, and returns the number of the others.
fn keep_most_frequent(seen: &mut Vec<SeenWave<'_>>) -> usize {
    let mut counts: HashMap<(usize, Channel, Kind), usize> = HashMap::new();
    let key = |seen: &SeenWave<'_>| (seen.process, seen.wave.channel().clone(), seen.wave.kind());
    for wave in &*seen {
        *counts.entry(key(wave)).or_default() += 1;
    }
    let mut streams: Vec<_> = counts.into_iter().collect();
    streams.sort_by(|((_, channel, kind), count), ((_, other, of), others)| {
        others.cmp(count).then_with(|| (channel.as_str(), kind.as_str()).cmp(&(other.as_str(), of.as_str())))
    });
    let rare: HashSet<_> = streams.into_iter().skip(MAX_STREAMS).map(|(key, _)| key).collect();
    if !rare.is_empty() {
        seen.retain(|wave| !rare.contains(&key(wave)));
    }
    rare.len()
}

/// Finds the questions that are asked again without an answer. Returns for each stream the most attempts of one question,
/// and the intervals between them.
fn find_attempts(seen: &mut [SeenWave<'_>]) -> HashMap<StreamKey, (usize, Vec<Duration>)> {
    struct AskedQuestion {
        first: usize,
        last: Identity,
        at: Duration,
        attempts: usize,
    }
    let mut answered: HashSet<Identity> = HashSet::new();
    let mut asked: HashMap<(usize, u64), AskedQuestion> = HashMap::new();
    let mut intervals: HashMap<StreamKey, (usize, Vec<Duration>)> = HashMap::new();
    for (place, wave) in (0..).zip(seen) {
        if wave.wave.kind() == Kind::Response && !wave.failed {
            answered.extend(wave.wave.cause().map(id));
        }
        if !wave.is_question() {
            continue;
        }
        let mut content = DefaultHasher::new();
        let of = (wave.wave.channel(), wave.wave.key(), wave.wave.payload(), wave.wave.cause().map(id));
        of.hash(&mut content);
        // Attempts that waited for a connection arrive together.
        let (key, at) = ((wave.process, content.finish()), wave.at.saturating_sub(wave.wave.age()));
        match asked.get_mut(&key).filter(|asked| !answered.contains(&asked.last)) {
            Some(before) => {
                before.attempts += 1;
                let (most, gaps) = intervals.entry(wave.stream()).or_default();
                *most = (*most).max(before.attempts);
                gaps.push(at.saturating_sub(before.at));
                (before.last, before.at) = (wave.id(), at);
                wave.attempt_of = Some(before.first);
            }
            None => {
                asked.insert(key, AskedQuestion { first: place, last: wave.id(), at, attempts: 1 });
            }
        }
    }
    intervals
}

/// Finds for each wave after which other it comes. Returns for each process and trigger the waves that fulfil it, in
/// their order.
fn find_triggers(
    seen: &mut [SeenWave<'_>],
    processes: &[Process],
) -> HashMap<(usize, Trigger), Vec<(Duration, usize)>> {
    let by_id: HashMap<Identity, usize> = (0..).zip(&*seen).map(|(place, wave)| (wave.id(), place)).collect();
    let cause_of = |wave: &SeenWave<'_>| wave.wave.cause().and_then(|cause| by_id.get(&id(cause)).copied());
    let triggers: Vec<Option<(Trigger, usize)>> = seen
        .iter()
        .map(|wave| {
            let place = cause_of(wave)?;
            let cause = &seen[place];
            let channel = cause.wave.channel().clone();
            let is_response = cause.wave.kind() == Kind::Response;
            let trigger = if cause.process == wave.process && !is_response {
                Trigger::Own(channel)
            } else if !is_response {
                Trigger::Heard(channel)
            } else {
                let question = cause_of(cause).filter(|question| seen[*question].process == wave.process);
                question.filter(|_| !cause.failed).map(|_| Trigger::Answer(channel))?
            };
            Some((trigger, cause.attempt_of.filter(|_| cause.process == wave.process).unwrap_or(place)))
        })
        .collect();
    let mut wanted: HashMap<(usize, Trigger), HashSet<usize>> = HashMap::new();
    for (wave, trigger) in seen.iter_mut().zip(triggers) {
        if let Some((trigger, place)) = &trigger {
            wanted.entry((wave.process, trigger.clone())).or_default().insert(*place);
        }
        wave.trigger = trigger;
    }
    let mut causes = HashMap::new();
    for ((process, trigger), with_effect) in wanted {
        let service = &processes[process].service;
        // Of several instances, each gets a part of the waves.
        let is_shared = processes.iter().filter(|process| process.service == *service).count() > 1;
        let fulfils = |(place, wave): &(usize, &SeenWave<'_>)| {
            let is_response = wave.wave.kind() == Kind::Response;
            match &trigger {
                Trigger::Own(channel) => {
                    wave.process == process
                        && !is_response
                        && wave.wave.channel() == channel
                        && wave.attempt_of.is_none()
                }
                Trigger::Heard(channel) => {
                    wave.process != process
                        && !is_response
                        && wave.wave.channel() == channel
                        && (!is_shared || with_effect.contains(place))
                }
                Trigger::Answer(channel) => {
                    is_response
                        && !wave.failed
                        && wave.wave.channel() == channel
                        && cause_of(wave).is_some_and(|question| seen[question].process == process)
                }
            }
        };
        let places = (0..).zip(&*seen).filter(fulfils).map(|(place, wave)| (wave.at, place)).collect();
        causes.insert((process, trigger), places);
    }
    causes
}

/// A stream, its trigger, and which of the waves after one cause it is.
type ActKey = (StreamKey, Option<Trigger>, usize);

/// The waves of each act, with the numbers of their causes.
fn grouped(
    seen: &[SeenWave<'_>],
    causes: &HashMap<(usize, Trigger), Vec<(Duration, usize)>>,
) -> HashMap<ActKey, Vec<(usize, u32)>> {
    let numbers: HashMap<(usize, &Trigger), HashMap<usize, u32>> = causes
        .iter()
        .map(|((process, trigger), places)| {
            let numbers = (0..).zip(places).map(|(number, (_, place))| (*place, number)).collect();
            ((*process, trigger), numbers)
        })
        .collect();
    let mut acts: HashMap<ActKey, Vec<(usize, u32)>> = HashMap::new();
    let mut effects: HashMap<(StreamKey, usize), usize> = HashMap::new();
    for (place, wave) in (0..).zip(seen).filter(|(_, wave)| wave.attempt_of.is_none()) {
        let number = wave.trigger.as_ref().and_then(|(trigger, cause)| {
            let number = numbers.get(&(wave.process, trigger))?.get(cause)?;
            Some((trigger.clone(), *cause, *number))
        });
        let (trigger, effect, number) = match number {
            Some((trigger, cause, number)) => {
                let effect = effects.entry((wave.stream(), cause)).or_default();
                *effect += 1;
                (Some(trigger), *effect - 1, number)
            }
            None => (None, 0, 0),
        };
        // Nobody can answer a question that was not seen, nor twice.
        let is_answer = wave.wave.kind() == Kind::Response;
        if effect < MAX_EFFECTS && !(is_answer && (trigger.is_none() || effect > 0)) {
            acts.entry((wave.stream(), trigger, effect)).or_default().push((place, number));
        }
    }
    acts
}

/// The acts in the order of their first waves.
fn ordered(acts: HashMap<ActKey, Vec<(usize, u32)>>) -> Vec<(ActKey, Vec<(usize, u32)>)> {
    let mut acts: Vec<_> = acts.into_iter().collect();
    acts.sort_by_key(|(_, places)| places[0].0);
    acts
}

/// The waves of an act.
struct Stream<'a> {
    seen: &'a [SeenWave<'a>],
    /// Their places, and the numbers of their causes.
    places: &'a [(usize, u32)],
    fault: Duration,
}

impl Stream<'_> {
    fn act(&self, when: When) -> Act {
        let waves = || self.places.iter().map(|(place, _)| &self.seen[*place]);
        let first = &self.seen[self.places[0].0];
        let mut amplitudes: Vec<Amplitude> = waves().map(|wave| wave.wave.amplitude()).collect();
        amplitudes.sort_unstable_by(|one, other| one.as_f32().total_cmp(&other.as_f32()));
        let key = first.wave.key().filter(|key| waves().all(|wave| wave.wave.key() == Some(key)));
        Act {
            kind: first.wave.kind(),
            channel: first.wave.channel().clone(),
            failure: first.failed,
            amplitude: amplitudes[amplitudes.len() / 2],
            key: key.map(str::to_owned),
            when,
            delay: Duration::ZERO,
            delay_later: None,
            tries: None,
        }
    }

    fn after(&self, trigger: Trigger, causes: &[(Duration, usize)]) -> Act {
        let present: HashSet<u32> = self.places.iter().map(|(_, number)| *number).collect();
        let habit = self.fault.saturating_sub(BEFORE_FAULT);
        let missing: Vec<u32> = (0..)
            .zip(causes)
            .filter(|(number, (at, _))| *at < habit && !present.contains(number))
            .map(|(number, _)| number)
            .collect();
        let mut present: Vec<u32> = present.into_iter().collect();
        present.sort_unstable();
        let chosen = if missing.is_empty() {
            Which::All
        } else if present.len().min(missing.len()) > MAX_LISTED {
            Which::Share(present.len() as f64 / causes.len() as f64)
        } else if present.len() <= missing.len() {
            Which::Only(present)
        } else {
            Which::Except(missing)
        };
        let delays = |is_later: bool| -> Vec<Duration> {
            let of_time = self.places.iter().filter(|(_, number)| {
                let (at, _) = causes[*number as usize];
                (at >= self.fault) == is_later
            });
            of_time
                .map(|(place, number)| self.seen[*place].at.saturating_sub(causes[*number as usize].0))
                .collect()
        };
        let (before, later) = (delays(false), delays(true));
        let usual = |delays: Vec<Duration>| {
            let delay = median(delays);
            if delay < LEAST_DELAY { Duration::ZERO } else { delay }
        };
        let delay = if before.is_empty() { usual(later.clone()) } else { usual(before) };
        let delay_later = (!later.is_empty()).then(|| usual(later));
        Act { delay, delay_later, ..self.act(When::After(trigger, chosen)) }
    }

    /// The acts of waves that nothing seen has caused.
    fn by_itself(&self) -> Vec<Act> {
        let times: Vec<Duration> = self.places.iter().map(|(place, _)| self.seen[*place].at).collect();
        let regular = |run: &[Duration]| regular(run).map(|when| self.act(when));
        if let Some(acts) =
            runs(&times).and_then(|runs| runs.into_iter().map(regular).collect::<Option<Vec<_>>>())
        {
            return acts;
        }
        if times.len() <= MAX_LISTED {
            return vec![self.act(When::At(times))];
        }
        let (from, until) = (times[0], times[times.len() - 1]);
        let period = (until - from) / (times.len() - 1) as u32;
        vec![self.act(When::Every { period, jitter: 1.0, from, until })]
    }
}

/// The times without the gaps between runs, if there are few.
fn runs(times: &[Duration]) -> Option<Vec<&[Duration]>> {
    if times.len() < FEWEST_BEATS {
        return None;
    }
    let usual = median(times.windows(2).map(|pair| pair[1] - pair[0]).collect());
    let runs: Vec<&[Duration]> = times.chunk_by(|one, next| *next - *one <= usual * 3).collect();
    (runs.len() <= MAX_RUNS).then_some(runs)
}

/// A regular stream, if the times are one.
fn regular(times: &[Duration]) -> Option<When> {
    if times.len() < FEWEST_BEATS {
        return None;
    }
    let (from, until) = (times[0], times[times.len() - 1]);
    let period = (until - from) / (times.len() - 1) as u32;
    let usual = period.as_secs_f64();
    let off = |pair: &[Duration]| ((pair[1] - pair[0]).as_secs_f64() / usual - 1.0).abs();
    let uneven = times.windows(2).filter(|pair| off(pair) > EVEN).count();
    if usual == 0.0 || uneven * 10 > times.len() {
        return None;
    }
    let variance = times.windows(2).map(|pair| off(pair).powi(2)).sum::<f64>() / (times.len() - 1) as f64;
    // A beat that is late by a share of up to `jitter` makes gaps that vary by 0.41 times as much.
    let jitter = (variance.sqrt() / 0.41).min(1.0);
    Some(When::Every { period, jitter, from, until })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
