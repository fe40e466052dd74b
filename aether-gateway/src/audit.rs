//! Clients that may not do what they ask have a line in the log of the process: by mistake, or guessing tokens.
//!
//! The first of each reason in a minute is named, with its address and what it asked for. The others are counted in the next
//! line, so a flood of them is a line a minute.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

const NAMED_EVERY: Duration = Duration::from_secs(60);

/// The maximum length of what was asked for, in characters: strangers choose it.
const MOST_TEXT: usize = 200;

/// When each reason was named last, and how many were refused since. Reasons are constants, so there are few.
#[derive(Debug, Default)]
pub(crate) struct Audit(Mutex<BTreeMap<&'static str, (Instant, u64)>>);

impl Audit {
    /// A client was refused something. `what` must have no token in it.
    pub(crate) fn refused(
        &self,
        reason: &'static str,
        client: Option<IpAddr>,
        what: &str,
        error: impl fmt::Display,
    ) {
        let Some(before) = self.is_named(reason) else { return };
        let what: String = what.chars().take(MOST_TEXT).collect();
        // It may have any character.
        tracing::warn!(
            reason,
            client = client.map(tracing::field::display),
            ?what,
            %error,
            before,
            "a client was refused; more of them for this reason are only counted for a minute"
        );
    }

    /// Whether a refusal has a line, and how many had none since the one before.
    fn is_named(&self, reason: &'static str) -> Option<u64> {
        let (now, mut named) = (Instant::now(), self.0.lock());
        match named.get_mut(reason) {
            Some((at, since)) if now.saturating_duration_since(*at) < NAMED_EVERY => {
                *since += 1;
                None
            }
            Some(line) => Some(std::mem::replace(line, (now, 0)).1),
            None => {
                named.insert(reason, (now, 0));
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_reason_has_a_line_in_a_minute_that_counts_the_others() {
        let audit = Audit::default();
        assert_eq!([(); 100].map(|()| audit.is_named("token"))[..2], [Some(0), None]);
        assert_eq!(audit.is_named("right"), Some(0));
        tokio::time::advance(NAMED_EVERY).await;
        assert_eq!((audit.is_named("token"), audit.is_named("right")), (Some(99), Some(0)));
    }
}
