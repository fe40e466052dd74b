//! The settings that every program has, with their types and defaults.

use std::time::Duration;

use aether_core::vibrator::EmissionRate;
use aether_core::{Floor, InboxOptions, ServeOrder, WhenFull};
use serde::{Deserialize, Serialize};

use super::account::AccountSettings;
use super::address::{CollectorAddress, ListenAddress};
use super::border::BorderSettings;
use super::durable::DurableSettings;
use super::medium::MediumSettings;
use super::quantity::{Count, OrOff, QuantityError, Size, Time};
use super::rate::Rate;
use crate::logging::{DEFAULT_FILTER, LogFormat};
use crate::{AskerOptions, Breaker, Limits, Resend};

/// The settings that apply while the program runs.
pub(super) const LIVE: &[&str] = &[
    "log.filter",
    "log.format",
    "inbox.floor",
    "inbox.max_waves",
    "inbox.max_bytes",
    "handlers.rate",
    "emit.rate",
    "border.rules",
    #[cfg(feature = "schema")]
    "border.schemas",
];

/// The settings that are never shown. Addresses are shown without their passwords.
pub(super) const SECRETS: &[&str] = &[];

/// The range of a number of waves.
type Waves = Count<1, 4_294_967_294>;

/// The settings that every program has. `config/default.toml` describes each of them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Settings {
    /// Where the waves travel.
    pub medium: MediumSettings,
    /// The queue of waves that wait to be sent over a network.
    pub outbox: OutboxSettings,
    /// What is logged.
    pub log: LogSettings,
    /// Where traces, metrics and logs are exported to.
    pub telemetry: TelemetrySettings,
    /// Where the metrics are served for Prometheus.
    pub metrics: MetricsSettings,
    /// The inboxes of services.
    pub inbox: InboxSettings,
    /// The limits of handlers.
    pub handlers: HandlerSettings,
    /// How handlers ask other services.
    pub ask: AskSettings,
    /// The account that the process reports about itself.
    pub account: AccountSettings,
    /// The limits of what a service emits.
    pub emit: EmitSettings,
    /// Channels whose waves are stored.
    pub durable: DurableSettings,
    /// The rules for emitting and listening, and the schemas of payloads.
    pub border: BorderSettings,
    /// The memory of the process.
    pub memory: MemorySettings,
}

/// The queue of waves that wait to be sent over a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct OutboxSettings {
    /// The capacity in waves.
    pub max_waves: Waves,
    /// The capacity in bytes.
    pub max_bytes: Size,
}

/// What is logged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LogSettings {
    /// The filter, in the syntax of `AETHER_LOG`.
    pub filter: LogFilter,
    /// The form of the lines.
    pub format: LogFormat,
}

/// Where traces, metrics and logs are exported to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TelemetrySettings {
    /// The address of the collector, for OTLP over HTTP.
    pub otlp: OrOff<CollectorAddress>,
}

/// Where the metrics are served for Prometheus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MetricsSettings {
    /// The HTTP address.
    pub listen: OrOff<ListenAddress>,
}

/// The inboxes of services.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct InboxSettings {
    /// The capacity in waves.
    pub max_waves: Waves,
    /// The capacity in bytes.
    pub max_bytes: Size,
    /// The order of receiving.
    pub order: OrderSetting,
    /// How long an emitter waits at a full inbox; off to shed at once.
    pub patience: OrOff<Time>,
    /// The longest wait of a wave.
    pub sojourn_cap: OrOff<Time>,
    /// The noise floor.
    pub floor: FloorSetting,
}

/// The limits of handlers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HandlerSettings {
    /// How many waves are handled at a time.
    pub concurrency: Count<1, 1_048_576>,
    /// How many waves are started in a time.
    pub rate: OrOff<Rate>,
    /// The time-out of a handler.
    pub time_out: OrOff<Time>,
    /// How often a failed wave is handled again.
    pub retries: OrOff<Count<1, 255>>,
    /// The failures in a row that open the circuit breaker.
    pub breaker_failures: OrOff<Count<1, 1_000_000>>,
    /// How long the circuit breaker stays open.
    pub breaker_open_for: Time,
    /// Whether busy handlers refuse waves.
    pub shed_when_busy: bool,
    /// How long running handlers may continue at shutdown.
    pub grace: Time,
}

/// How handlers ask other services.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct AskSettings {
    /// How long one attempt waits.
    pub patience: Time,
    /// How long all attempts take together.
    pub deadline: Time,
    /// How often a question is repeated.
    pub retries: Count<0, 255>,
}

/// The limits of what a service emits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct EmitSettings {
    /// How many waves are emitted in a time.
    pub rate: OrOff<Rate>,
    /// How long an emit waits for its turn.
    pub patience: Time,
}

/// The memory of the process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MemorySettings {
    /// How often the memory is read.
    pub watch: OrOff<Time>,
}

/// The order of receiving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderSetting {
    /// [`ServeOrder::Strength`].
    Strength,
    /// [`ServeOrder::Arrival`].
    Arrival,
}

/// A noise floor, from 0 (open) to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f32", into = "f32")]
pub struct FloorSetting(pub Floor);

impl TryFrom<f32> for FloorSetting {
    type Error = QuantityError;
    fn try_from(amplitude: f32) -> Result<Self, QuantityError> {
        const ALLOWED: &str = "0 (open), or an amplitude from 2.4e-10 to 1";
        Floor::new(amplitude).map(Self).map_err(|_| QuantityError::new(amplitude, ALLOWED))
    }
}

impl From<FloorSetting> for f32 {
    fn from(floor: FloorSetting) -> Self {
        floor.0.as_f32()
    }
}

/// A filter of the log that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogFilter(String);

impl LogFilter {
    /// The filter as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LogFilter {
    type Error = QuantityError;
    fn try_from(text: String) -> Result<Self, QuantityError> {
        const ALLOWED: &str = "a level such as debug, or pairs such as aether_core=trace";
        match crate::logging::parse_filter(&text) {
            Ok(_) => Ok(Self(text)),
            Err(_) => Err(QuantityError::new(format!("the filter {text}"), ALLOWED)),
        }
    }
}

impl From<LogFilter> for String {
    fn from(filter: LogFilter) -> Self {
        filter.0
    }
}

const MAX_WAVES: Waves = Count::new(65_536).unwrap();
const MAX_BYTES: Size = Size::new(64 << 20).unwrap();

impl Default for OutboxSettings {
    fn default() -> Self {
        Self { max_waves: MAX_WAVES, max_bytes: MAX_BYTES }
    }
}

#[cfg(any(feature = "nats", feature = "lan"))]
impl OutboxSettings {
    /// The options of the outbox of a medium over a network.
    pub(super) fn options(&self) -> InboxOptions {
        let outbox = InboxOptions::interactive();
        outbox.max_waves(self.max_waves.as_usize()).max_bytes(self.max_bytes.bytes())
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { filter: LogFilter(DEFAULT_FILTER.to_owned()), format: LogFormat::Text }
    }
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self { otlp: OrOff::Off }
    }
}

impl Default for MetricsSettings {
    fn default() -> Self {
        Self { listen: OrOff::Off }
    }
}

impl Default for InboxSettings {
    fn default() -> Self {
        Self {
            max_waves: MAX_WAVES,
            max_bytes: MAX_BYTES,
            order: OrderSetting::Strength,
            patience: OrOff::On(Time(Duration::from_millis(100))),
            sojourn_cap: OrOff::Off,
            floor: FloorSetting(Floor::OPEN),
        }
    }
}

impl InboxSettings {
    /// The options of an inbox.
    #[must_use]
    pub fn options(&self) -> InboxOptions {
        InboxOptions::interactive()
            .max_waves(self.max_waves.as_usize())
            .max_bytes(self.max_bytes.bytes())
            .order(match self.order {
                OrderSetting::Strength => ServeOrder::Strength,
                OrderSetting::Arrival => ServeOrder::Arrival,
            })
            .when_full(match self.patience {
                OrOff::On(Time(patience)) => WhenFull::Wait { patience },
                OrOff::Off => WhenFull::Shed,
            })
            .sojourn_cap(self.sojourn_cap.on().map(|Time(cap)| cap))
            .floor(self.floor.0)
    }
}

impl Default for HandlerSettings {
    fn default() -> Self {
        Self {
            concurrency: Count::new(64).unwrap_or(Count::LEAST),
            rate: OrOff::Off,
            time_out: OrOff::Off,
            retries: OrOff::Off,
            breaker_failures: OrOff::Off,
            breaker_open_for: Time(Duration::from_secs(1)),
            shed_when_busy: false,
            grace: Time(Duration::from_secs(5)),
        }
    }
}

impl HandlerSettings {
    /// The limits of a service, without the rate, which can change while it runs.
    pub(super) fn limits(&self) -> Limits {
        let mut limits =
            Limits::new().concurrency(self.concurrency.as_usize()).shed_when_busy(self.shed_when_busy);
        if let OrOff::On(Time(time)) = self.time_out {
            limits = limits.time_out(time);
        }
        if let OrOff::On(most) = self.retries {
            limits = limits.retry(Resend::default().most(most.as_u8()));
        }
        if let OrOff::On(failures) = self.breaker_failures {
            let breaker = Breaker::default().failures(failures.as_usize()).open_for(self.breaker_open_for.0);
            limits = limits.circuit_breaker(breaker);
        }
        limits
    }
}

impl Default for EmitSettings {
    fn default() -> Self {
        Self { rate: OrOff::Off, patience: Time(EmissionRate::PATIENCE) }
    }
}

impl EmitSettings {
    /// The limit, if there is one.
    pub(super) fn limit(&self) -> Option<EmissionRate> {
        let (waves, period) = self.rate.on()?.parts();
        // The types allow no rate that this refuses.
        let limit = EmissionRate::new(waves, period).ok()?;
        Some(limit.patience(self.patience.0))
    }
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self { watch: OrOff::On(Time(Duration::from_secs(10))) }
    }
}

impl Default for AskSettings {
    fn default() -> Self {
        Self {
            patience: Time(Duration::from_secs(1)),
            deadline: Time(Duration::from_secs(10)),
            retries: Count::new(8).unwrap_or(Count::LEAST),
        }
    }
}

impl AskSettings {
    /// The options of an asker.
    pub fn options(&self) -> AskerOptions {
        let resend = Resend::default().most(self.retries.as_u8());
        AskerOptions::default().patience(self.patience.0).deadline(self.deadline.0).resend(resend)
    }
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "nats")]
    use aether::nats::NatsOptions;

    use super::*;
    use crate::MediumArgs;

    #[test]
    fn the_defaults_are_those_of_the_code() {
        let settings = Settings::default();
        assert_eq!(format!("{:?}", settings.inbox.options()), format!("{:?}", InboxOptions::default()));
        assert_eq!(format!("{:?}", settings.ask.options()), format!("{:?}", AskerOptions::default()));
        #[cfg(feature = "nats")]
        {
            let own = NatsOptions::default().client_name("shop");
            assert_eq!(format!("{:?}", settings.medium.args().nats("shop")), format!("{own:?}"));
            let nats = NatsOptions::default().outbox(settings.outbox.options());
            assert_eq!(format!("{nats:?}"), format!("{:?}", NatsOptions::default()));
        }
        let MediumArgs { medium, prefix, .. } = settings.medium.args();
        assert_eq!((medium.as_str(), prefix.as_str()), ("local:", "aether"));
    }
}
