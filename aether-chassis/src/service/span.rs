//! The span around the handling of a wave.

use aether_core::Wave;
use tracing::{Span, field};

/// The target of the span: `AETHER_LOG=info,aether::handling=debug` switches it on.
pub(super) const TARGET: &str = "aether::handling";

/// A span with what finds the wave, its request and its sender in other logs and on the bus. While no subscriber wants it,
/// nothing is formatted. It is of the level `debug`, because a subscriber that writes text takes 3 us for its fields: as
/// long as an empty handler takes with all that is around it.
pub(super) fn handling_span(service: &str, wave: &Wave) -> Span {
    tracing::debug_span!(
        target: TARGET,
        "handling",
        service,
        channel = wave.channel().as_str(),
        wave = %wave.id(),
        source = wave.source().name(),
        cause = wave.cause().map(field::display),
        root = %wave.root(),
        attempt = wave.attempt(),
        baggage = (!wave.baggage().is_empty()).then(|| field::display(wave.baggage())),
    )
}
