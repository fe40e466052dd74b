//! The description of a service, and the set of handlers that answers for it.

use std::sync::Arc;
use std::time::Duration;

use aether_core::{InboxOptions, Pattern, WhenFull};

use super::error::ServiceError;
use super::handlers::{HandlerSet, Handlers};
use super::limits::Limits;
use crate::description::{Announcer, Collected, Description, answer, channel_of};
use crate::handler::Payload;

/// The author's additions to the description of the handlers.
#[derive(Debug)]
pub(super) struct About {
    pub(super) version: String,
    pub(super) summary: String,
    /// The patterns of the waves that the service emits by itself.
    pub(super) emits: Vec<(String, Payload)>,
    /// Whether the service answers for its description.
    pub(super) answers: bool,
}

impl Default for About {
    fn default() -> Self {
        Self { version: "0.0.0".to_owned(), summary: String::new(), emits: Vec::new(), answers: false }
    }
}

impl About {
    /// The description of a service with these handlers.
    pub(super) fn describe(&self, name: &str, sets: &[HandlerSet]) -> Result<Description, ServiceError> {
        let mut collected = Collected::new();
        for route in sets.iter().flat_map(|set| &set.routes) {
            collected.receives(route.pattern.as_str(), route.group.as_deref(), route.takes, route.answers);
        }
        for (pattern, payload) in &self.emits {
            let refused = |source| ServiceError::Emits { given: pattern.clone(), source };
            collected.sends(Pattern::new(pattern).map_err(refused)?.as_str(), *payload);
        }
        let description = collected.describe(name, &self.version, &self.summary);
        // Without answers nobody but the author reads it.
        Ok(if self.answers { description.checked()? } else { description })
    }
}

/// The set that answers questions for the description.
pub(super) fn describing(description: &Arc<Description>) -> HandlerSet {
    let inbox = InboxOptions::default().max_waves(64).max_bytes(64 << 10).when_full(WhenFull::Shed);
    let limits = Limits::independent().concurrency(4).time_out(Duration::from_secs(10));
    let handlers = Handlers::new().state(Announcer(Arc::clone(description)));
    handlers.on_query(channel_of(fastrand::u64(..)), answer).limits(limits).inbox(inbox).into_set()
}
