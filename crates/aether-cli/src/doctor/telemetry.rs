//! The collector of telemetry: whether it takes what programs send.

use aether_service::config::{Configuration, OrOff};
use aether_service::error_chain;
use aether_service::telemetry::{self, TelemetryError};

use super::finding::Finding;

const CHECK: &str = "telemetry";

/// Nothing where telemetry is off.
pub(super) async fn check(config: &Configuration) -> Option<Finding> {
    let OrOff::On(collector) = config.settings().telemetry.otlp.clone() else { return None };
    let shown = collector.to_string();
    // It blocks.
    let asking = tokio::task::spawn_blocking(move || telemetry::check(collector.as_str()));
    let answer = asking.await.ok()?;
    Some(match answer {
        Ok(()) => Finding::ok(CHECK, format!("{shown} takes traces")),
        Err(error) => {
            let remedy = match error {
                TelemetryError::Refused { status: 401 | 403 } => {
                    "put the user and the password in telemetry.otlp, or set OTEL_EXPORTER_OTLP_HEADERS"
                }
                TelemetryError::Refused { .. } => {
                    "correct telemetry.otlp: the address of OTLP over HTTP, without /v1/traces"
                }
                TelemetryError::NotBuilt => "build it with the feature otlp, or set telemetry.otlp = off",
                _ => "start the collector, or correct telemetry.otlp",
            };
            Finding::warn(CHECK, format!("{shown}: {}", error_chain(&error)), remedy)
        }
    })
}
