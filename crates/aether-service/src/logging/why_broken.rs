//! Why a connection broke: one event of the client of NATS, which it logs as `debug` and tells nobody otherwise.
//!
//! The filter of the log lets it through in addition, unless the log is off. At `debug`, the client logs a line for
//! each message otherwise.

use tracing::subscriber::Interest;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::Context;

/// The filter of the log, and the reason of a broken connection.
#[derive(Debug)]
pub(super) struct WhyBroken(pub(super) Targets);

/// `disconnected error=Some(...)`: an event of this crate with one field beside its text.
fn says_why(metadata: &Metadata<'_>) -> bool {
    let mut fields = metadata.fields().iter().map(|field| field.name());
    metadata.target() == "async_nats"
        && *metadata.level() == Level::DEBUG
        && metadata.is_event()
        && (fields.next(), fields.next(), fields.next()) == (Some("message"), Some("error"), None)
}

impl WhyBroken {
    fn is_off(&self) -> bool {
        Layer::<tracing_subscriber::Registry>::max_level_hint(&self.0) == Some(LevelFilter::OFF)
    }
}

impl<S: Subscriber> Layer<S> for WhyBroken {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        match says_why(metadata) && !self.is_off() {
            true => Interest::always(),
            false => Layer::<S>::register_callsite(&self.0, metadata),
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        says_why(metadata) && !self.is_off() || self.0.enabled(metadata, context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let hint = Layer::<S>::max_level_hint(&self.0);
        if self.is_off() { hint } else { hint.map(|level| level.max(LevelFilter::DEBUG)) }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(filter: &str) -> String {
        let written = Written::default();
        let writer = written.clone();
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let filter = WhyBroken(filter.parse().unwrap());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(filter).with(lines), || {
            let error = Some(io::Error::other("header isn't valid utf-8"));
            tracing::debug!(target: "async_nats", error = ?error, "disconnected");
            tracing::debug!(target: "async_nats", "received MESSAGE: sid=1, subject=a");
            tracing::debug!(target: "async_nats::connector", server = "a", error = "refused", "connection attempt failed");
            tracing::debug!(target: "aether_core", error = "a", "refused");
            tracing::info!(target: "aether_core", "connected");
        });
        let bytes = written.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_reason_of_a_broken_connection_is_logged_and_nothing_else_of_that_level() {
        let lines = written("info,async_nats=warn");
        assert!(lines.contains("disconnected") && lines.contains("header isn't valid utf-8"), "{lines}");
        assert!(lines.contains("connected") && lines.lines().count() == 2, "{lines}");
        assert_eq!(written("off"), "");
    }
}
