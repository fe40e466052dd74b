//! The permissions of a NATS user that match the rules of an identity.

use std::fmt;

use super::action::Action;
use super::set::Rules;
use crate::channel::Pattern;

/// The permissions that a NATS server needs to refuse what the rules refuse to one identity. Formatted, it is the
/// `permissions` of a user in the configuration of nats-server.
///
/// The server knows subjects only: amplitudes, sizes and rates stay with the rules, and what the framework itself sends
/// is allowed to everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NatsPermissions {
    /// Where the user may publish.
    pub publish: Vec<String>,
    /// Where it may not, whatever `publish` says.
    pub deny_publish: Vec<String>,
    /// Where it may subscribe.
    pub subscribe: Vec<String>,
    /// Where it may not, whatever `subscribe` says.
    pub deny_subscribe: Vec<String>,
}

/// What all of the framework needs: notices, answers, and the markers that a process sends to itself.
const INBOXES: &str = "_INBOX.>";

fn subjects(prefix: &str, roots: &[&str], patterns: &[Pattern]) -> Vec<String> {
    let on = |pattern: &Pattern| -> Vec<String> {
        roots.iter().map(|root| format!("{prefix}{root}.{pattern}")).collect()
    };
    patterns.iter().flat_map(on).collect()
}

impl NatsPermissions {
    /// Those of an identity, for subjects below a prefix (`aether` unless [`NatsOptions::prefix`](crate::NatsOptions::prefix)
    /// says something else).
    #[must_use]
    pub fn new(rules: &Rules, identity: &str, prefix: &str) -> Self {
        let (emit, deny_emit) = rules.patterns(identity, Action::Emit);
        let (listen, deny_listen) = rules.patterns(identity, Action::Listen);
        let framework = [format!("{prefix}-ask._aether.>"), INBOXES.to_owned()];
        let mut publish = subjects(prefix, &["", "-ask"], &emit);
        // Copies for observers: of questions by those that ask, of answers by those that listen.
        for copies in [&emit, &listen].map(|patterns| subjects(prefix, &["-seen"], patterns)) {
            publish.extend(copies);
        }
        publish.extend(framework.clone());
        publish.dedup();
        let mut subscribe = subjects(prefix, &["", "-ask", "-seen"], &listen);
        subscribe.extend(framework);
        Self {
            publish,
            deny_publish: subjects(prefix, &["", "-ask"], &deny_emit),
            subscribe,
            deny_subscribe: subjects(prefix, &["", "-ask", "-seen"], &deny_listen),
        }
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
        side("subscribe", &self.subscribe, &self.deny_subscribe)
    }
}
