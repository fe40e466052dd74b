//! A set of rules, compiled: answers who may do what.

use std::sync::Arc;

use super::action::Action;
use super::bucket::Buckets;
use super::compiled::{Compiled, check_grants, check_rewrites, compile};
use super::depth::too_deep;
use super::error::RulesError;
use super::limits::Limits;
use super::refusal::Refusal;
use super::rule::Rule;
use aether_core::{Amplitude, Channel, Pattern, Wave};

/// Which way a wave passes the border.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Passage<'a> {
    Out,
    /// In, by a subscription: of a pattern, or of one member of a group. A network delivers a wave once for each of
    /// them, and each has a rate of its own.
    In(&'a Pattern, Option<u64>),
}

/// Rules. A clone bumps a reference count. The rates are counted in the set, so clones share them.
///
/// A check looks at each rule that names the identity. With one rule it takes some 800 instructions.
#[derive(Debug, Clone)]
pub struct Rules {
    rules: Arc<[Compiled]>,
    /// Whether any of them rewrites channels.
    rewrites: bool,
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
        check_grants(&rules)?;
        check_rewrites(&rules)?;
        let rewrites = rules.iter().any(|rule| !rule.rewrite.is_empty());
        Ok(Self { rules: rules.into(), rewrites })
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
    /// [`Refusal`] gives the reason, and what is allowed.
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
    /// [`Refusal`] gives the reason, and what is allowed.
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

    /// The channel that results as an identity emits on it, and the number of the rule that rewrites it; `None` for a
    /// channel that stays. [`Rules::verdict`] is about the channel that results.
    ///
    /// # Errors
    /// [`Refusal::Unwritable`] if the result would be too long for a channel.
    pub fn rewritten(&self, identity: &str, channel: &Channel) -> Result<Option<(Channel, usize)>, Refusal> {
        if !self.rewrites {
            return Ok(None);
        }
        let mut rewritings =
            self.of(identity).flat_map(|(index, rule)| rule.rewrite.iter().map(move |one| (index, one)));
        let made = rewritings.find_map(|(index, rewriting)| Some((rewriting.of(channel)?, index + 1)));
        let Some((made, rule)) = made else { return Ok(None) };
        let made = made.map_err(|source| Refusal::Unwritable { channel: channel.clone(), source })?;
        Ok(Some((made, rule)))
    }

    /// Moves a wave of this process to the channel on which it leaves.
    pub(super) fn rewrite(&self, wave: &mut Wave) -> Result<(), Refusal> {
        if let Some((channel, _)) = self.rewritten(wave.source().name(), wave.channel())? {
            wave.move_to(&channel);
        }
        Ok(())
    }

    /// Whether a wave may pass. Weakens it if it is stronger than it may leave, and counts it against the rates of the
    /// rules that grant it, if it may pass.
    pub(super) fn admit(&self, wave: &mut Wave, passage: Passage<'_>) -> Result<(), Refusal> {
        let limits = self.check(wave)?;
        if limits.max_rate.is_none() {
            return Ok(());
        }
        for (taken, (buckets, max_rate)) in self.buckets(wave, passage).enumerate() {
            if !take(buckets, wave, passage) {
                self.buckets(wave, passage)
                    .take(taken)
                    .for_each(|(buckets, _)| give_back(buckets, wave, passage));
                return Err(Refusal::TooFast { identity: wave.source().name().to_owned(), max_rate });
            }
        }
        Ok(())
    }

    /// As `admit`, whatever the rate.
    pub(super) fn check(&self, wave: &mut Wave) -> Result<Limits, Refusal> {
        let limits = self.verdict(wave.source().name(), Action::Emit, wave.channel())?;
        // As amplitudes, which are rounded.
        if let Some(most) = limits.clamp_amplitude.and_then(|most| Amplitude::new(most).ok())
            && wave.amplitude() > most
        {
            wave.weaken_to(most);
        }
        let owned = || wave.source().name().to_owned();
        let is_too_strong = |most: &f32| Amplitude::new(*most).is_ok_and(|most| wave.amplitude() > most);
        if let Some(max_amplitude) = limits.max_amplitude.filter(is_too_strong) {
            let amplitude = wave.amplitude().as_f32();
            return Err(Refusal::TooStrong { identity: owned(), amplitude, max_amplitude });
        }
        let bytes = wave.payload().len();
        if let Some(max_payload) = limits.max_payload.filter(|most| bytes > *most) {
            return Err(Refusal::TooLarge { identity: owned(), bytes, max_payload });
        }
        if let Some(max_depth) = limits.max_depth
            && let Some(place) = too_deep(wave.payload(), max_depth)
        {
            return Err(Refusal::TooDeep { identity: owned(), max_depth, place });
        }
        Ok(limits)
    }

    /// Takes back what `admit` counted for a wave that was not emitted after all.
    pub(super) fn give_back(&self, wave: &Wave) {
        self.buckets(wave, Passage::Out).for_each(|(buckets, _)| give_back(buckets, wave, Passage::Out));
    }

    /// The buckets of the rules that grant a wave, and their rates.
    fn buckets<'a>(
        &'a self,
        wave: &'a Wave,
        passage: Passage<'_>,
    ) -> impl Iterator<Item = (&'a Buckets, u32)> {
        let is_out = matches!(passage, Passage::Out);
        self.of(wave.source().name()).filter_map(move |(_, rule)| {
            let buckets = if is_out { &rule.emitted } else { &rule.arrived };
            let counts = rule.emit.iter().any(|pattern| pattern.matches(wave.channel()));
            buckets.as_ref().filter(|_| counts).zip(rule.limits.max_rate)
        })
    }
}

fn take(buckets: &Buckets, wave: &Wave, passage: Passage<'_>) -> bool {
    buckets.take(&(wave.rated(), passage))
}

fn give_back(buckets: &Buckets, wave: &Wave, passage: Passage<'_>) {
    buckets.give_back(&(wave.rated(), passage));
}
