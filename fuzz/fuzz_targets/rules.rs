//! Boundary rules: any text is a rule or an error, and what compiled rules decide is what a naive reader of them
//! decides. The input is a name and a channel in the first line, separated by a space, and a rule in each further line.

#![no_main]

use aether::nats::NatsPermissions;
use aether::rules::{Action, Refusal, Rule, Rules};
use aether_core::{Channel, Pattern};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &str| {
    let mut lines = data.split('\n');
    let (name, channel) = lines.next().unwrap_or_default().split_once(' ').unwrap_or_default();
    let mut rules = Vec::new();
    for line in lines.take(16) {
        match line.parse::<Rule>() {
            Ok(rule) => {
                let again = rule.to_string().parse::<Rule>();
                // A NaN is not an amplitude, and equals nothing.
                let is_number = |limit: Option<f32>| limit.is_none_or(|limit| !limit.is_nan());
                if is_number(rule.max_amplitude) && is_number(rule.clamp_amplitude) {
                    assert_eq!(again.as_ref(), Ok(&rule), "{line:?}");
                }
                rules.push(rule);
            }
            Err(error) => assert!(error.text == line && line.contains(&error.at), "{error}"),
        }
    }
    let compiled = match Rules::new(rules.clone()) {
        Ok(compiled) => compiled,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let permissions = NatsPermissions::new(&compiled, name, "aether");
    assert!(permissions.to_string().contains("_INBOX."));
    let Ok(channel) = Channel::new(channel) else { return };
    for action in [Action::Emit, Action::Listen] {
        check(&rules, &compiled, name, action, &channel);
    }
    match compiled.rewritten(name, &channel) {
        Ok(Some((becomes, rule))) => {
            assert!(!rules[rule - 1].rewrite.is_empty());
            assert_eq!(compiled.rewritten(name, &becomes), Ok(None), "{channel} becomes {becomes}");
        }
        Ok(None) => {}
        Err(refusal) => assert!(matches!(refusal, Refusal::Unwritable { .. })),
    }
});

fn check(rules: &[Rule], compiled: &Rules, name: &str, action: Action, channel: &Channel) {
    let parts = |rule: &Rule| match action {
        Action::Emit => (rule.emit.clone(), rule.deny_emit.clone()),
        Action::Listen => (rule.listen.clone(), rule.deny_listen.clone()),
    };
    let matches = |patterns: &[String]| {
        patterns.iter().any(|pattern| Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(channel)))
    };
    let ours: Vec<_> = rules.iter().filter(|rule| is_for(&rule.identity, name)).collect();
    let granting: Vec<_> = ours.iter().filter(|rule| matches(&parts(rule).0)).collect();
    let is_denied = ours.iter().any(|rule| matches(&parts(rule).1));
    match compiled.verdict(name, action, channel) {
        Ok(limits) => {
            assert!(!is_denied && !granting.is_empty());
            assert_eq!(limits.max_rate, granting.iter().filter_map(|rule| rule.max_rate).min());
            assert_eq!(limits.max_payload, granting.iter().filter_map(|rule| rule.max_payload).min());
            assert_eq!(limits.max_depth, granting.iter().filter_map(|rule| rule.max_depth).min());
        }
        Err(Refusal::Denied { rule, .. }) => assert!(is_denied && is_for(&rules[rule - 1].identity, name)),
        Err(Refusal::NotGranted { .. }) => assert!(!is_denied && granting.is_empty() && !ours.is_empty()),
        Err(refusal) => assert!(matches!(refusal, Refusal::Unknown { .. }) && ours.is_empty(), "{refusal}"),
    }
    // A name that may listen to the pattern of one channel may listen to the channel.
    if action == Action::Listen {
        let alone = compiled.may_listen(name, &Pattern::from(channel));
        assert_eq!(alone.is_ok(), compiled.verdict(name, action, channel).is_ok());
    }
}

fn is_for(identity: &str, name: &str) -> bool {
    match identity.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => identity == name,
    }
}
