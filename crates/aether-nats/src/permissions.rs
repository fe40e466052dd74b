//! The permissions of a NATS user that match the rules of an identity.

use std::fmt;

use super::subjects::{Root, user_inbox};
use aether_core::Pattern;
use aether_rules::Action;
use aether_rules::Rules;

/// The permissions that a NATS server needs to refuse what the rules refuse to one identity. Formatted, it is the
/// `permissions` of a user in the configuration of nats-server.
///
/// The server knows subjects only: amplitudes, sizes, rates and depths stay with the rules, and what the framework
/// itself sends is allowed to everybody. Each user hears answers below an inbox of its own, `_INBOX.NAME`, and
/// publishes answers only to those that have asked it. A program that logs in with a user and a password uses the
/// inbox of that user; others say so with [`NatsOptions::inbox`](crate::NatsOptions::inbox).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NatsPermissions {
    /// Where the user may publish.
    pub publish: Vec<String>,
    /// Where it may not, whatever `publish` allows.
    pub deny_publish: Vec<String>,
    /// Where it may subscribe.
    pub subscribe: Vec<String>,
    /// Where it may not, whatever `subscribe` allows.
    pub deny_subscribe: Vec<String>,
    /// How many answers it may publish to each question that it hears; 0 if it hears none.
    pub answers: u32,
}

/// The answers to a question: one from each vibrator of the process, of which the first counts.
const ANSWERS: u32 = 16;

/// How long a question may be answered. Longer than anybody waits.
const ANSWERED_WITHIN: &str = "5m";

/// What is said below a root.
struct Subjects<'a> {
    prefix: &'a str,
    allowed: Vec<String>,
    denied: Vec<String>,
}

impl Subjects<'_> {
    /// Adds patterns below a root. One that begins with a wildcard does not cover the channels of the framework.
    fn add(&mut self, root: &str, (granted, denied): (&[Pattern], &[Pattern])) {
        let below = |pattern: &dyn fmt::Display| format!("{}{root}.{pattern}", self.prefix);
        self.allowed.extend(granted.iter().map(|pattern| below(pattern)));
        self.denied.extend(denied.iter().map(|pattern| below(pattern)));
        // Messages of the framework travel below the root of questions, and everybody may send and hear them.
        if root != ASK && granted.iter().any(|pattern| pattern.as_str().starts_with(['*', '>'])) {
            self.denied.push(below(&"_aether.>"));
        }
    }

    fn done(self) -> (Vec<String>, Vec<String>) {
        let once = |mut subjects: Vec<String>| {
            let mut known = std::collections::HashSet::new();
            subjects.retain(|subject| known.insert(subject.clone()));
            subjects
        };
        (once(self.allowed), once(self.denied))
    }
}

const WAVES: &str = Root::Waves.as_suffix();
const ASK: &str = Root::Questions.as_suffix();
const SEEN: &str = Root::Seen.as_suffix();

impl NatsPermissions {
    /// The permissions of an identity, for subjects below a prefix (`aether` unless
    /// [`NatsOptions::prefix`](crate::NatsOptions::prefix) sets another one).
    #[must_use]
    pub fn new(rules: &Rules, identity: &str, prefix: &str) -> Self {
        let (emit, deny_emit) = rules.patterns(identity, Action::Emit);
        let (listen, deny_listen) = rules.patterns(identity, Action::Listen);
        // Notices, and the answers and markers that come to this user alone.
        let framework = [format!("{prefix}-ask._aether.>"), format!("{}.>", user_inbox(identity))];
        let subjects = || Subjects { prefix, allowed: framework.to_vec(), denied: Vec::new() };
        let mut publish = subjects();
        publish.add(WAVES, (&emit, &deny_emit));
        publish.add(ASK, (&emit, &deny_emit));
        // Copies for observers: of questions by those that ask, of answers by those that listen.
        publish.add(SEEN, (&emit, &[]));
        publish.add(SEEN, (&listen, &[]));
        let mut subscribe = subjects();
        for root in [WAVES, ASK, SEEN] {
            subscribe.add(root, (&listen, &deny_listen));
        }
        let ((publish, deny_publish), (subscribe, deny_subscribe)) = (publish.done(), subscribe.done());
        let answers = if listen.is_empty() { 0 } else { ANSWERS };
        Self { publish, deny_publish, subscribe, deny_subscribe, answers }
    }
}

impl fmt::Display for NatsPermissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut side = |name: &str, allow: &[String], deny: &[String]| {
            writeln!(f, "  {name}: {{")?;
            for (which, subjects) in [("allow", allow), ("deny", deny)] {
                if !subjects.is_empty() {
                    let quoted: Vec<_> = subjects.iter().map(|subject| format!("{subject:?}")).collect();
                    writeln!(f, "    {which}: [{}]", quoted.join(", "))?;
                }
            }
            writeln!(f, "  }}")
        };
        side("publish", &self.publish, &self.deny_publish)?;
        side("subscribe", &self.subscribe, &self.deny_subscribe)?;
        match self.answers {
            0 => Ok(()),
            answers => writeln!(f, "  allow_responses: {{ max: {answers}, expires: {ANSWERED_WITHIN:?} }}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use aether_rules::Rule;

    use super::*;

    fn shop() -> Rules {
        Rules::new([
            Rule::new("sensor-*").emit(["rooms.*.temperature"]).deny_emit(["rooms.vault.>"]),
            Rule::new("sensor-7").emit(["rooms.>"]),
            Rule::new("*").listen(["public.>"]).deny_listen(["secrets.>"]),
        ])
        .unwrap()
    }

    #[test]
    fn permissions_are_the_subjects_of_the_rules() {
        let permissions = NatsPermissions::new(&shop(), "sensor-7", "aether");
        assert!(permissions.publish.contains(&"aether.rooms.*.temperature".to_owned()));
        assert_eq!(permissions.deny_publish, ["aether.rooms.vault.>", "aether-ask.rooms.vault.>"]);
        assert!(permissions.subscribe.contains(&"aether-ask.public.>".to_owned()));
        assert!(permissions.to_string().contains("deny: [\"aether.rooms.vault.>\""), "{permissions}");
        // Answers come to its own inbox, and go only to those that have asked.
        let inboxes = |subjects: &[String]| -> Vec<_> {
            subjects.iter().filter(|subject| subject.starts_with("_INBOX")).cloned().collect()
        };
        assert_eq!(inboxes(&permissions.publish), ["_INBOX.sensor-7.>"]);
        assert_eq!(inboxes(&permissions.subscribe), ["_INBOX.sensor-7.>"]);
        assert!(permissions.to_string().contains("allow_responses: { max: 16"), "{permissions}");
    }

    #[test]
    fn permissions_for_everything_are_none_for_the_channels_of_the_framework() {
        let rules =
            Rules::new([Rule::new("audit").emit(["*.audited"]).listen([">"]), Rule::new("mute").emit(["a"])])
                .unwrap();
        let permissions = NatsPermissions::new(&rules, "audit", "aether");
        assert_eq!(permissions.deny_subscribe, ["aether._aether.>", "aether-seen._aether.>"]);
        assert_eq!(permissions.deny_publish, ["aether._aether.>", "aether-seen._aether.>"]);
        let permissions = NatsPermissions::new(&rules, "mute", "aether");
        assert_eq!((permissions.answers, &permissions.deny_publish[..]), (0, &[][..]));
        assert!(!permissions.to_string().contains("allow_responses"), "{permissions}");
    }
}
