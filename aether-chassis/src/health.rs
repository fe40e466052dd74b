//! Whether a program is ready for work, and if not, why: as a line for people and as JSON for programs.
//!
//! The endpoint of `aether-metrics` and the gateway answer `/readyz` with it. Ordinary term: a readiness probe. It reads the
//! status of the bus and decides nothing; a program that is not ready goes on, and its waves wait.

use std::fmt;

use aether_core::Aether;
use aether_log::Log;
use serde::Serialize;

use crate::error_chain;

/// The readiness of a program.
///
/// ```
/// use aether_chassis::health::Health;
/// use aether_core::Aether;
///
/// let health = Health::of(&Aether::local()).unless(false, "no_stock", "the stock is not loaded yet");
/// assert_eq!(health.to_string(), "not ready: the stock is not loaded yet");
/// assert_eq!(health.to_json(), r#"{"ready":false,"reasons":[{"code":"no_stock","text":"the stock is not loaded yet"}]}"#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// Whether there are no reasons against it.
    pub ready: bool,
    /// Why it is not ready.
    pub reasons: Vec<HealthReason>,
}

/// Why a program is not ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HealthReason {
    /// A word for programs, such as `not_connected`.
    pub code: &'static str,
    /// A sentence for people.
    pub text: String,
}

impl Health {
    /// Ready, without a look at anything.
    #[must_use]
    pub const fn ready() -> Self {
        Self { ready: true, reasons: Vec::new() }
    }

    /// Whether the bus can carry waves now, and store those of durable channels.
    #[must_use]
    pub fn of(aether: &Aether) -> Self {
        let health =
            Self::ready().unless(aether.status().connected, "not_connected", "the medium is not connected");
        match log_trouble(aether) {
            Some(trouble) => health.unless(false, "not_storing", trouble),
            None => health,
        }
    }

    /// Adds a reason unless all is well.
    #[must_use]
    pub fn unless(mut self, is_well: bool, code: &'static str, text: impl Into<String>) -> Self {
        if !is_well {
            self.ready = false;
            self.reasons.push(HealthReason { code, text: text.into() });
        }
        self
    }

    /// `{"ready":false,"reasons":[{"code":"not_connected","text":"…"}]}`.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Texts and a flag can always be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Why waves of durable channels cannot be stored, if that is so.
#[must_use]
pub fn log_trouble(aether: &Aether) -> Option<String> {
    let error = Log::of(aether)?.ready().err()?;
    Some(format!("waves of durable channels cannot be stored: {}", error_chain(&error)))
}

/// `ready`, or `not ready: ` and the reasons.
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ready {
            return f.write_str("ready");
        }
        let reasons: Vec<_> = self.reasons.iter().map(|reason| reason.text.as_str()).collect();
        write!(f, "not ready: {}", reasons.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_medium_is_a_reason() {
        let aether = Aether::local();
        assert_eq!(Health::of(&aether), Health::ready());
        aether.close().await.unwrap();
        let health = Health::of(&aether);
        assert_eq!((health.ready, health.reasons[0].code), (false, "not_connected"));
        assert_eq!(health.to_string(), "not ready: the medium is not connected");
    }
}
