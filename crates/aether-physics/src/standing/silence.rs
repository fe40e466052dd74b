//! Judges silences: which stream is missing, what its silence explains, and when it is over.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::outage::Outage;
use super::rhythm::{Role, Standing};
use super::{Finding, Moment, StandingWave, StandingWaves};
use aether_core::Source;

/// A chain of echoes is followed over this many streams.
const LONGEST_CHAIN: usize = 8;
/// An instance that replaces another begins this long before the other ends at most, and this long after the other began
/// at least.
const OVERLAP: Duration = Duration::from_secs(30);
const APART: Duration = Duration::from_secs(10);

impl StandingWaves {
    /// Checks whether the silence of a stream at its deadline is too long.
    pub(super) fn listen(&mut self, slot: u32, now: Moment) -> Option<Finding> {
        if self.deadline_of(slot).is_none_or(|due| due > now) {
            self.arm(slot);
            return None;
        }
        let standing = self.streams.value(slot).stream.standing?;
        if standing.role == Role::Candidate {
            // It was regular for a while, as a limiter or a load generator is.
            self.streams.value_mut(slot).stream.lose_rhythm();
        } else if let Some(successor) = self.successor(slot) {
            self.hand_over(slot, successor, now);
        } else {
            let first = self.first_silent(slot, now);
            if first == slot {
                if let Some(finding) = self.judge(slot, &standing, now) {
                    return Some(finding);
                }
            } else if let Some(outage) = self.streams.value(first).outage {
                self.join(slot, outage);
            } else if self.streams.value(first).stream.standing.is_some_and(|first| first.silent) {
                self.be_quiet(slot);
            } else {
                // The first of the chain is judged before.
                let due = self.deadline_of(first).unwrap_or(now).max(now);
                self.streams.value_mut(slot).not_before = due.plus(self.options.shortest_silence / 8);
            }
        }
        self.arm(slot);
        None
    }

    /// Decides about a silence that no other stream explains.
    fn judge(&mut self, slot: u32, standing: &Standing, now: Moment) -> Option<Finding> {
        let watched = self.lapses.watched_since();
        let (from, to) = (standing.silent_since(watched), standing.stopped_before(watched));
        let source_is_silent = self.heard_last(&self.streams.key(slot).source) <= standing.was_due(watched);
        if standing.role == Role::Echo && !source_is_silent {
            // Its source is alive and does something else now.
            self.be_quiet(slot);
            return None;
        }
        let open = self.outages.iter().find(|(_, outage)| {
            let together = source_is_silent && outage.may_include(from, to);
            outage.spreads(now) && (together || self.affects(outage, slot))
        });
        if let Some((&outage, _)) = open {
            self.join(slot, outage);
            return None;
        }
        self.report(slot, standing, now)
    }

    /// Whether another stream of the same source is in an outage.
    fn affects(&self, outage: &Outage, slot: u32) -> bool {
        let source = &self.streams.key(slot).source;
        outage.streams.iter().any(|other| self.streams.key(*other).source == *source)
    }

    /// Reports a silence with the streams that fell silent at the same time.
    fn report(&mut self, slot: u32, standing: &Standing, now: Moment) -> Option<Finding> {
        let watched = self.lapses.watched_since();
        let (from, to) = (standing.silent_since(watched), standing.stopped_before(watched));
        let mut heard: HashMap<&Source, Moment> = HashMap::new();
        for (key, state) in self.streams.iter() {
            let last = heard.entry(&key.source).or_default();
            *last = state.stream.heard.max(*last);
        }
        let due = standing.was_due(watched);
        let nothing_arrives = heard.values().all(|last| *last <= due);
        let source = &self.streams.key(slot).source;
        let mut streams = vec![slot];
        let (mut of_several_sources, mut others) = (false, Vec::new());
        for other in self.streams.slots().filter(|other| *other != slot) {
            let (key, state) = (self.streams.key(other), self.streams.value(other));
            let Some(rhythm) = state.stream.standing.filter(|rhythm| !rhythm.silent) else { continue };
            if rhythm.role == Role::Candidate {
                continue;
            }
            let same_source = key.source == *source;
            let is_silent = heard.get(&key.source).is_none_or(|last| *last <= due);
            let overlaps = rhythm.silent_since(watched) <= to && from <= rhythm.stopped_before(watched);
            let stopped_too = overlaps && rhythm.is_overdue(watched, now);
            let explained = if is_silent {
                same_source || stopped_too
            } else {
                // Their source is alive: a part of it stopped, or they echo the silent stream.
                stopped_too
                    && ((same_source && rhythm.has_period_of(standing))
                        || self.first_silent(other, now) == slot)
            };
            if explained {
                streams.push(other);
                of_several_sources |= !same_source;
            } else {
                others.push(other);
            }
        }
        if of_several_sources && nothing_arrives {
            // The medium is away, or the way from it. Slow streams are not overdue yet.
            streams.append(&mut others);
        }
        let silence = now.since(from);
        let phi = standing.habit.phi(&standing.history, silence.as_secs_f64() / standing.period);
        let stream = self.standing_wave(slot)?;
        let also_silent: Vec<StandingWave> =
            streams[1..].iter().filter_map(|other| self.standing_wave(*other)).collect();
        for &other in &streams {
            self.streams.value_mut(other).outage = Some(slot);
            self.be_quiet(other);
            self.arm(other);
        }
        let (silent_since, stopped_before) = (from, to);
        let outage = Outage {
            fell_silent: streams.len(),
            streams,
            of_several_sources,
            silent_since,
            stopped_before,
            reported: now,
        };
        self.outages.insert(slot, outage);
        Some(Finding::MissingBeat { stream, silence, phi, also_silent })
    }

    fn join(&mut self, slot: u32, named: u32) {
        let Some(outage) = self.outages.get_mut(&named) else { return };
        outage.streams.push(slot);
        outage.fell_silent += 1;
        self.streams.value_mut(slot).outage = Some(named);
        self.be_quiet(slot);
    }

    /// Reports no silence of this stream before it has beaten again.
    fn be_quiet(&mut self, slot: u32) {
        if let Some(standing) = &mut self.streams.value_mut(slot).stream.standing {
            standing.silent = true;
        }
    }

    /// Notes that a silent stream beats again, after a number of periods. `now_in` is its slot, which is another one if
    /// another instance of its source replaces it.
    pub(super) fn returned(&mut self, slot: u32, now_in: u32, periods: f64, now: Moment) {
        let Some(named) = self.streams.value_mut(slot).outage.take() else { return };
        let Some(outage) = self.outages.get_mut(&named) else { return };
        outage.streams.retain(|other| *other != slot);
        let reported = outage.reported;
        if outage.fell_silent == 1
            && let Some(standing) = &mut self.streams.value_mut(now_in).stream.standing
        {
            standing.history.note(periods, standing.habit.late());
        }
        self.restart_with(&[slot], reported, now);
        let Some(outage) = self.outages.get(&named) else { return };
        let most_returned = outage.of_several_sources && 2 * outage.streams.len() < outage.fell_silent;
        if slot != named && !most_returned {
            return;
        }
        let Some(outage) = self.outages.remove(&named) else { return };
        let stream = self.standing_wave(if slot == named { now_in } else { named });
        let silence = now.since(outage.silent_since);
        let also_silent = outage.streams.iter().filter(|other| **other != named).count();
        self.resumed.extend(stream.map(|stream| Finding::Resumed { stream, silence, also_silent }));
        self.release(named, outage, now);
    }

    /// Awaits the streams of an outage that is over.
    pub(super) fn release(&mut self, named: u32, outage: Outage, now: Moment) {
        self.restart_with(&outage.streams, outage.reported, now);
        for other in outage.streams {
            let state = self.streams.value_mut(other);
            if state.outage == Some(named) {
                state.outage = None;
                if let Some(standing) = &mut state.stream.standing {
                    standing.restart(now);
                }
                self.arm(other);
            }
        }
    }

    /// Awaits the other streams of the sources of these, which had no time to beat since `reported`.
    fn restart_with(&mut self, slots: &[u32], reported: Moment, now: Moment) {
        let watched = self.lapses.watched_since();
        let sources: HashSet<Source> =
            slots.iter().map(|slot| self.streams.key(*slot).source.clone()).collect();
        for slot in self.streams.slots() {
            if sources.contains(&self.streams.key(slot).source)
                && let Some(standing) = &mut self.streams.value_mut(slot).stream.standing
                && !standing.silent
                && standing.silent_since(watched) < reported
            {
                standing.restart(now);
                self.arm(slot);
            }
        }
    }

    /// Lets a stream continue a silent one that another instance of its source had on the same channel.
    pub(super) fn replace_silent(&mut self, slot: u32, now: Moment) {
        let key = self.streams.key(slot);
        let silent = self.outages.values().flat_map(|outage| &outage.streams).copied().find(|&silent| {
            silent != slot
                && self.streams.value(silent).outage.is_some()
                && self.streams.key(silent).is_of_another_instance(key)
        });
        if let Some(silent) = silent {
            self.hand_over(silent, slot, now);
        }
    }

    /// A stream of another instance on the same channel that replaces this one: it began after this one had stopped, or
    /// shortly before, as when a service is deployed again. Instances that began together do not replace each other.
    fn successor(&self, slot: u32) -> Option<u32> {
        let state = self.streams.value(slot);
        let from = state.stream.heard.minus(OVERLAP).max(state.born.plus(APART));
        self.streams.slots().find(|&other| {
            let state = self.streams.value(other);
            state.born > from
                && !state.replaces
                && self.streams.key(slot).is_of_another_instance(self.streams.key(other))
        })
    }

    fn hand_over(&mut self, from: u32, to: u32, now: Moment) {
        let Some(standing) = self.streams.value_mut(from).stream.standing.take() else { return };
        let state = self.streams.value_mut(to);
        state.replaces = true;
        let inherits = state.stream.standing.is_none_or(|own| own.role == Role::Candidate);
        if inherits && let Some(&last) = state.stream.moments().back() {
            let mut inherited = standing.inherited(last, state.stream.heard);
            if state.origin.is_caused() {
                inherited.role = Role::Echo;
            }
            state.stream.standing = Some(inherited);
        }
        self.returned(from, to, 0.0, now);
        self.arm(from);
        self.arm(to);
    }

    /// The stream that this one echoes.
    pub(super) fn leader(&self, slot: u32) -> Option<u32> {
        let state = self.streams.value(slot);
        let standing = state.stream.standing?;
        let is_regular = |other: u32| {
            let rhythm = self.streams.value(other).stream.standing;
            other != slot && rhythm.is_some_and(|rhythm| rhythm.has_period_of(&standing))
        };
        match state.origin.cause() {
            Some(cause) => self
                .streams
                .slots()
                .find(|&other| self.streams.key(other).source == *cause && is_regular(other)),
            None => state.origin.follows.filter(|&other| is_regular(other)),
        }
    }

    /// The first of the silent streams that lead to this one; itself if it echoes none, or one that beats.
    fn first_silent(&self, slot: u32, now: Moment) -> u32 {
        let watched = self.lapses.watched_since();
        let mut first = slot;
        for _ in 0..LONGEST_CHAIN {
            let since = self.streams.value(first).stream.standing.map(|echo| echo.silent_since(watched));
            let leader = self.leader(first).filter(|&leader| {
                let standing = self.streams.value(leader).stream.standing;
                // Two streams may lead to each other: then the one that is asked about is the first. An echo that went
                // on after its leader had stopped is none.
                leader != slot
                    && standing.is_some_and(|leader| {
                        (leader.silent || leader.is_overdue(watched, now))
                            && since.is_some_and(|since| since <= leader.stopped_before(watched))
                    })
            });
            match leader {
                Some(leader) => first = leader,
                None => break,
            }
        }
        first
    }

    /// The arrival of the last wave of a source.
    fn heard_last(&self, source: &Source) -> Moment {
        let of_source = self.streams.iter().filter(|(key, _)| key.source == *source);
        of_source.map(|(_, state)| state.stream.heard).max().unwrap_or_default()
    }
}
