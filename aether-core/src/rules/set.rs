//! A set of rules, compiled: answers who may do what.

use std::sync::Arc;

use super::action::Action;
use super::bucket::Bucket;
use super::error::RulesError;
use super::limits::Limits;
use super::refusal::Refusal;
use super::rule::Rule;
use crate::amplitude::Amplitude;
use crate::channel::{Channel, Pattern};
use crate::named::Named;
use crate::wave::Wave;

#[derive(Debug)]
struct Compiled {
    named: Named,
    emit: Vec<Pattern>,
    listen: Vec<Pattern>,
    deny_emit: Vec<Pattern>,
    deny_listen: Vec<Pattern>,
    limits: Limits,
    /// Two, because a process may both emit and receive by one rule.
    emitted: Option<Bucket>,
    arrived: Option<Bucket>,
}

impl Compiled {
    fn granted(&self, action: Action) -> &[Pattern] {
        match action {
            Action::Emit => &self.emit,
            Action::Listen => &self.listen,
        }
    }

    fn denied(&self, action: Action) -> &[Pattern] {
        match action {
            Action::Emit => &self.deny_emit,
            Action::Listen => &self.deny_listen,
        }
    }
}

/// Where a wave is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Emitter,
    Receiver,
}

/// Rules. A clone bumps a reference count. The rates are counted in the set, so clones share them.
///
/// A check looks at each rule that names the identity: about 20 ns a rule.
#[derive(Debug, Clone)]
pub struct Rules {
    rules: Arc<[Compiled]>,
}

fn patterns(rule: usize, field: &'static str, texts: &[String]) -> Result<Vec<Pattern>, RulesError> {
    let pattern = |text: &String| {
        Pattern::new(text).map_err(|source| RulesError::Pattern {
            rule,
            field,
            pattern: text.clone(),
            source,
        })
    };
    texts.iter().map(pattern).collect()
}

fn compile(number: usize, rule: &Rule) -> Result<Compiled, RulesError> {
    let Some(named) = Named::parse(&rule.identity) else {
        return Err(RulesError::Identity { rule: number, identity: rule.identity.clone() });
    };
    let of = |field, texts: &[String]| patterns(number, field, texts);
    let limit = |field, allowed| Err(RulesError::Limit { rule: number, field, allowed });
    if rule.max_amplitude.is_some_and(|most| Amplitude::new(most).is_err()) {
        return limit("max_amplitude", "above 0 and at most 1; grant no pattern to allow none");
    }
    if rule.max_rate == Some(0) {
        return limit("max_rate", "at least 1 wave a second; grant no pattern to allow none");
    }
    let limits =
        Limits { max_amplitude: rule.max_amplitude, max_payload: rule.max_payload, max_rate: rule.max_rate };
    let compiled = Compiled {
        named,
        emit: of("emit", &rule.emit)?,
        listen: of("listen", &rule.listen)?,
        deny_emit: of("deny_emit", &rule.deny_emit)?,
        deny_listen: of("deny_listen", &rule.deny_listen)?,
        limits,
        emitted: rule.max_rate.map(Bucket::new),
        arrived: rule.max_rate.map(Bucket::new),
    };
    let says = [Action::Emit, Action::Listen]
        .iter()
        .any(|action| !compiled.granted(*action).is_empty() || !compiled.denied(*action).is_empty());
    if says { Ok(compiled) } else { Err(RulesError::Empty { rule: number }) }
}

impl Rules {
    /// Compiles rules. Without any rule everything is refused.
    ///
    /// # Errors
    /// [`RulesError`] names the first rule that cannot be used, and what is allowed.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Result<Self, RulesError> {
        let rules: Vec<_> = rules
            .into_iter()
            .enumerate()
            .map(|(index, rule)| compile(index + 1, &rule))
            .collect::<Result<_, _>>()?;
        let rules = Self { rules: rules.into() };
        rules.check()?;
        Ok(rules)
    }

    /// Finds grants that have no effect.
    fn check(&self) -> Result<(), RulesError> {
        for (index, rule) in self.rules.iter().enumerate() {
            for (action, field) in [(Action::Emit, "emit"), (Action::Listen, "listen")] {
                for granted in rule.granted(action) {
                    let denies = |other: &Compiled| {
                        other.named.covers(&rule.named)
                            && other.denied(action).iter().any(|denied| denied.covers(granted))
                    };
                    if let Some(denying) = self.rules.iter().position(denies) {
                        let identity = rule.named.to_string();
                        return Err(RulesError::Contradiction {
                            rule: index + 1,
                            field,
                            pattern: granted.to_string(),
                            identity,
                            denying: denying + 1,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// The rules that name an identity.
    fn of<'a>(&'a self, identity: &'a str) -> impl Iterator<Item = (usize, &'a Compiled)> {
        self.rules.iter().enumerate().filter(|(_, rule)| rule.named.names(identity))
    }

    /// The patterns that are granted to an identity, and those that are denied.
    #[must_use]
    pub fn patterns(&self, identity: &str, action: Action) -> (Vec<Pattern>, Vec<Pattern>) {
        let all = |of: fn(&Compiled, Action) -> &[Pattern]| {
            let patterns = self.of(identity).flat_map(|(_, rule)| of(rule, action).to_vec());
            patterns.fold(Vec::new(), |mut all, pattern| {
                if !all.contains(&pattern) {
                    all.push(pattern);
                }
                all
            })
        };
        (all(Compiled::granted), all(Compiled::denied))
    }

    /// Whether an identity may emit on a channel, and with which limits, or listen to it.
    ///
    /// # Errors
    /// [`Refusal`] says why not, and what is allowed.
    pub fn verdict(&self, identity: &str, action: Action, channel: &Channel) -> Result<Limits, Refusal> {
        self.judge(
            identity,
            action,
            channel.as_str(),
            |pattern| pattern.matches(channel),
            |pattern| pattern.matches(channel),
        )
    }

    /// Whether an identity may listen to all channels of a pattern.
    ///
    /// # Errors
    /// [`Refusal`] says why not, and what is allowed.
    pub fn may_listen(&self, identity: &str, pattern: &Pattern) -> Result<(), Refusal> {
        let judged = self.judge(
            identity,
            Action::Listen,
            pattern.as_str(),
            |granted| granted.covers(pattern),
            |denied| denied.overlaps(pattern),
        );
        judged.map(drop)
    }

    fn judge(
        &self,
        identity: &str,
        action: Action,
        channel: &str,
        grants: impl Fn(&Pattern) -> bool,
        denies: impl Fn(&Pattern) -> bool,
    ) -> Result<Limits, Refusal> {
        let mut limits = None;
        let mut is_known = false;
        for (index, rule) in self.of(identity) {
            is_known = true;
            if let Some(pattern) = rule.denied(action).iter().find(|pattern| denies(pattern)) {
                return Err(Refusal::Denied {
                    identity: identity.to_owned(),
                    action,
                    channel: channel.to_owned(),
                    rule: index + 1,
                    pattern: pattern.to_string(),
                });
            }
            if rule.granted(action).iter().any(&grants) {
                limits = Some(limits.map_or(rule.limits, |limits: Limits| limits.stricter(rule.limits)));
            }
        }
        match limits {
            Some(limits) => Ok(limits),
            None if is_known => Err(Refusal::NotGranted {
                identity: identity.to_owned(),
                action,
                channel: channel.to_owned(),
                granted: self.patterns(identity, action).0.iter().map(ToString::to_string).collect(),
            }),
            None => Err(Refusal::Unknown { identity: identity.to_owned() }),
        }
    }

    /// Whether a wave may pass. Counts it against the rates of the rules that grant it, if it may.
    pub(super) fn admit(&self, wave: &Wave, side: Side) -> Result<(), Refusal> {
        let identity = wave.source().name();
        let limits = self.verdict(identity, Action::Emit, wave.channel())?;
        let owned = || identity.to_owned();
        // As amplitudes, which are rounded.
        let is_too_strong = |most: &f32| Amplitude::new(*most).is_ok_and(|most| wave.amplitude() > most);
        if let Some(max_amplitude) = limits.max_amplitude.filter(is_too_strong) {
            let amplitude = wave.amplitude().as_f32();
            return Err(Refusal::TooStrong { identity: owned(), amplitude, max_amplitude });
        }
        let bytes = wave.payload().len();
        if let Some(max_payload) = limits.max_payload.filter(|most| bytes > *most) {
            return Err(Refusal::TooLarge { identity: owned(), bytes, max_payload });
        }
        if limits.max_rate.is_none() {
            return Ok(());
        }
        for (taken, (bucket, max_rate)) in self.buckets(wave, side).enumerate() {
            if !bucket.take() {
                self.buckets(wave, side).take(taken).for_each(|(bucket, _)| bucket.give_back());
                return Err(Refusal::TooFast { identity: owned(), max_rate });
            }
        }
        Ok(())
    }

    /// Takes back what `admit` counted for a wave that was not emitted after all.
    pub(super) fn give_back(&self, wave: &Wave) {
        self.buckets(wave, Side::Emitter).for_each(|(bucket, _)| bucket.give_back());
    }

    /// The buckets of the rules that grant a wave, and their rates.
    fn buckets<'a>(&'a self, wave: &'a Wave, side: Side) -> impl Iterator<Item = (&'a Bucket, u32)> {
        self.of(wave.source().name()).filter_map(move |(_, rule)| {
            let bucket = match side {
                Side::Emitter => &rule.emitted,
                Side::Receiver => &rule.arrived,
            };
            let counts = rule.emit.iter().any(|pattern| pattern.matches(wave.channel()));
            bucket.as_ref().filter(|_| counts).zip(rule.limits.max_rate)
        })
    }
}
