//! One rule, compiled, and what several of them must not say together.

use std::time::Duration;

use super::action::Action;
use super::bucket::Buckets;
use super::error::RulesError;
use super::limits::Limits;
use super::rewriting::{Rewriting, meet};
use super::rule::Rule;
use aether_core::medium::Named;
use aether_core::{Amplitude, Pattern};

/// How many waves may come at once, as the time in which they may be emitted. At a receiver they come together that waited
/// for a connection, or in one frame; the mean rate is the same.
const AT_ONCE_EMITTED: Duration = Duration::from_secs(1);
const AT_ONCE_ARRIVED: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) named: Named,
    pub(super) emit: Vec<Pattern>,
    listen: Vec<Pattern>,
    deny_emit: Vec<Pattern>,
    deny_listen: Vec<Pattern>,
    pub(super) rewrite: Vec<Rewriting>,
    pub(super) limits: Limits,
    /// Two, because a process may both emit and receive by one rule.
    pub(super) emitted: Option<Buckets>,
    pub(super) arrived: Option<Buckets>,
}

impl Compiled {
    pub(super) fn granted(&self, action: Action) -> &[Pattern] {
        match action {
            Action::Emit => &self.emit,
            Action::Listen => &self.listen,
        }
    }

    pub(super) fn denied(&self, action: Action) -> &[Pattern] {
        match action {
            Action::Emit => &self.deny_emit,
            Action::Listen => &self.deny_listen,
        }
    }
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

pub(super) fn compile(number: usize, rule: &Rule) -> Result<Compiled, RulesError> {
    let Some(named) = Named::parse(&rule.identity) else {
        return Err(RulesError::Identity { rule: number, identity: rule.identity.clone() });
    };
    let of = |field, texts: &[String]| patterns(number, field, texts);
    let limit = |field, allowed| Err(RulesError::Limit { rule: number, field, allowed });
    let amplitudes = [("max_amplitude", rule.max_amplitude), ("clamp_amplitude", rule.clamp_amplitude)];
    for (field, amplitude) in amplitudes {
        if amplitude.is_some_and(|most| Amplitude::new(most).is_err()) {
            return limit(field, "above 0 and at most 1; grant no pattern to allow none");
        }
    }
    if rule.max_rate == Some(0) {
        return limit("max_rate", "at least 1 wave a second; grant no pattern to allow none");
    }
    let limits = Limits {
        max_amplitude: rule.max_amplitude,
        clamp_amplitude: rule.clamp_amplitude,
        max_payload: rule.max_payload,
        max_rate: rule.max_rate,
        max_depth: rule.max_depth,
    };
    let rewrite = rule.rewrite.iter().map(|rewrite| Rewriting::compile(number, rewrite));
    let compiled = Compiled {
        named,
        emit: of("emit", &rule.emit)?,
        listen: of("listen", &rule.listen)?,
        deny_emit: of("deny_emit", &rule.deny_emit)?,
        deny_listen: of("deny_listen", &rule.deny_listen)?,
        rewrite: rewrite.collect::<Result<_, _>>()?,
        limits,
        emitted: rule.max_rate.map(|rate| Buckets::new(rate, AT_ONCE_EMITTED)),
        arrived: rule.max_rate.map(|rate| Buckets::new(rate, AT_ONCE_ARRIVED)),
    };
    let says = [Action::Emit, Action::Listen]
        .iter()
        .any(|action| !compiled.granted(*action).is_empty() || !compiled.denied(*action).is_empty());
    if says || !compiled.rewrite.is_empty() { Ok(compiled) } else { Err(RulesError::Empty { rule: number }) }
}

/// Finds grants that have no effect.
pub(super) fn check_grants(rules: &[Compiled]) -> Result<(), RulesError> {
    for (index, rule) in rules.iter().enumerate() {
        for (action, field) in [(Action::Emit, "emit"), (Action::Listen, "listen")] {
            for granted in rule.granted(action) {
                let denies = |other: &Compiled| {
                    other.named.covers(&rule.named)
                        && other.denied(action).iter().any(|denied| denied.covers(granted))
                };
                if let Some(denying) = rules.iter().position(denies) {
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

/// Finds rewrites that are not clear, never end, or lead nowhere.
pub(super) fn check_rewrites(rules: &[Compiled]) -> Result<(), RulesError> {
    let all: Vec<_> = rules
        .iter()
        .enumerate()
        .flat_map(|(index, rule)| rule.rewrite.iter().map(move |rewriting| (index + 1, rule, rewriting)))
        .collect();
    for (place, &(number, rule, rewriting)) in all.iter().enumerate() {
        let Rewriting { from, to } = rewriting;
        for (other_place, &(other, other_rule, second)) in all.iter().enumerate() {
            if !rule.named.overlaps(&other_rule.named) {
                continue;
            }
            if other_place < place && meet(from, &second.from) {
                let (from, other_from) = (from.clone(), second.from.clone());
                return Err(RulesError::Overlap { rule: number, from, other, other_from });
            }
            if meet(to, &second.from) {
                let (to, from) = (to.clone(), second.from.clone());
                return Err(RulesError::Loop { rule: number, to, other, from });
            }
        }
        let grants = |granting: &Compiled| {
            rule.named.overlaps(&granting.named)
                && granting.emit.iter().any(|granted| rewriting.leads_to(granted))
        };
        if !rules.iter().any(grants) {
            let (identity, to) = (rule.named.to_string(), to.clone());
            return Err(RulesError::Nowhere { rule: number, identity, to });
        }
    }
    Ok(())
}
