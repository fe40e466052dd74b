//! Whether the gateway observes, and why not. A leaf: the status reads it, and the log notes its changes.

use aether_service::health::Health;
use serde::Serialize;

/// The readiness of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Readiness {
    Ready,
    NotConnected,
    /// Waves of durable channels cannot be stored.
    NotStoring,
    ObserverEnded,
}

impl Readiness {
    /// The reason as the API has it.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::NotConnected => "not_connected",
            Self::NotStoring => "not_storing",
            Self::ObserverEnded => "observer_ended",
        }
    }

    /// The readiness with its reason.
    pub(crate) fn health(self) -> Health {
        let text = "the medium is closed or the gateway is stopping";
        Health::ready()
            .unless(self != Self::NotConnected, "not_connected", "the medium is not connected")
            .unless(self != Self::NotStoring, "not_storing", "waves of durable channels cannot be stored")
            .unless(self != Self::ObserverEnded, "observer_ended", text)
    }

    /// The readiness as text.
    pub(crate) fn as_text(self) -> String {
        self.health().to_string()
    }
}
