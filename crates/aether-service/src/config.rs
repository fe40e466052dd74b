//! Configuration: settings in layers, checked when they are loaded, and followed while the program runs.
//!
//! A program loads it in one call ([`ConfigArgs::load`]). Later layers replace earlier ones: built-in defaults,
//! `config/default.toml`, `config/PROFILE.toml`, the environment (`AETHER__INBOX__FLOOR`), arguments. Nothing is taken
//! from a configuration that has a mistake. It does not know what services do with their own sections.
//!
//! ```
//! use aether_service::config::{ConfigArgs, Section};
//! use aether_service::Service;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, Serialize, Deserialize)]
//! #[serde(default, deny_unknown_fields)]
//! struct Greeter {
//!     greeting: String,
//! }
//!
//! impl Default for Greeter {
//!     fn default() -> Self {
//!         Self { greeting: "hello".to_owned() }
//!     }
//! }
//!
//! impl Section for Greeter {
//!     const NAME: &'static str = "greeter"; // [service.greeter]
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let shutdown = aether_service::CancellationToken::new();
//! let args = ConfigArgs::default(); // flattened into the arguments of the program
//! let config = args.load::<Greeter>()?;
//! let greeting = config.section::<Greeter>().greeting;
//! let Some(aether) = config.connect_until(&shutdown, "greeter").await? else { return Ok(()) };
//! let service = Service::builder("greeter")
//!     .configured(&config)
//!     .on_query("greet", move || std::future::ready(greeting.clone()))
//!     .build(&aether)
//!     .await?;
//! # drop(service);
//! # Ok(()) }
//! ```

mod account;
mod address;
mod args;
mod border;
mod bounded;
mod durable;
mod environment;
mod file;
mod given_medium;
mod list;
mod machine;
mod medium;
mod medium_layers;
mod mistake;
#[cfg(feature = "schema")]
mod payloads;
mod quantity;
mod rate;
mod reload;
mod schema;
mod settings;
mod shared_log;
mod sources;
mod watch;

pub use account::{AccountInterval, AccountSettings};
pub use address::{CollectorAddress, ListenAddress};
pub use args::{ConfigArgs, Loader};
pub use border::{BorderSettings, RuleList};
pub use bounded::{AckWait, CleanUpInterval, CommitWindow, DuplicateWindow, SegmentSize};
pub use durable::{AcknowledgedLevel, AgeOf, ConsumerName, DurablePattern, DurableSettings};
pub use given_medium::GivenMedium;
pub use list::List;
pub use medium::MediumSettings;
pub use mistake::{ConfigError, Mistake, Origin, Problem};
#[cfg(feature = "schema")]
pub use payloads::{PayloadSchemas, SchemaFile, SchemaFileError};
pub use quantity::{Count, OrOff, QuantityError, Size, Time};
pub use rate::Rate;
pub use reload::Reloads;
pub use schema::{NoSection, Section};
pub use settings::{
    AskSettings, EmitSettings, FloorSetting, HandlerSettings, InboxSettings, LogFilter, LogSettings,
    MemorySettings, MetricsSettings, OrderSetting, OutboxSettings, Settings, TelemetrySettings,
};
pub use shared_log::{SharedLog, SharedLogError};
pub use sources::Setting;

pub use crate::login::{CertificateFiles, LoginError, LoginFile};

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aether::rules::Border;
use aether_core::vibrator::EmissionRate;
use aether_core::{Aether, AetherBuilder, ConnectError, InboxControl, InboxOptions};
use aether_log::DurableLog;
use parking_lot::Mutex;
use tokio::sync::watch as channel;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::cgroup::CgroupLimits;
use crate::service::{LiveRate, RateLayer};
use crate::{ServiceBuilder, connecting, error_chain, memory_watch, telemetry};
use sources::{Sources, Values};

/// The configuration of a running program. Cloning it is one reference count.
///
/// The default has the built-in settings and follows nothing.
#[derive(Clone)]
pub struct Configuration {
    shared: Arc<Shared>,
}

struct Shared {
    sources: Sources,
    current: Mutex<Arc<Values>>,
    is_followed: AtomicBool,
    /// Whether the memory is watched.
    is_watched: AtomicBool,
    /// The settings with which the program started.
    at_start: Vec<Setting>,
    inbox: InboxControl,
    rate: channel::Sender<LiveRate>,
    /// The emission limit, if there was one at the start.
    emission: Option<EmissionRate>,
    /// The boundary rules and schemas, which may be none.
    border: Border,
    reloads: channel::Sender<Reloads>,
    /// Ends the watching with the last handle.
    dropped: CancellationToken,
    _drop: DropGuard,
}

impl Configuration {
    fn read(sources: Sources) -> Result<Self, ConfigError> {
        let values = sources.read(&[])?;
        let at_start = values.settings.clone();
        let dropped = CancellationToken::new();
        let configuration = Self {
            shared: Arc::new(Shared {
                sources,
                is_followed: AtomicBool::new(false),
                is_watched: AtomicBool::new(false),
                at_start,
                inbox: InboxControl::default(),
                rate: channel::Sender::new(None),
                emission: values.settings().emit.limit(),
                border: Border::default(),
                reloads: channel::Sender::new(Reloads::default()),
                _drop: dropped.clone().drop_guard(),
                dropped,
                current: Mutex::new(Arc::new(values)),
            }),
        };
        let values = configuration.values();
        configuration.apply(&values);
        values.settings().border.apply(&configuration.shared.border);
        Ok(configuration)
    }

    fn values(&self) -> Arc<Values> {
        Arc::clone(&self.shared.current.lock())
    }

    /// The settings that every program has, as of the last valid version of the files.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.values().settings()
    }

    /// The settings of a program, as of the last valid version of the files. They are the defaults if the program did
    /// not load this section.
    #[must_use]
    pub fn section<S: Section>(&self) -> S {
        self.values().section()
    }

    /// All settings by name, with their origins. Secrets are hidden.
    #[must_use]
    pub fn list(&self) -> Vec<Setting> {
        self.values().settings.clone()
    }

    /// The files that were read.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.values().files.clone()
    }

    /// The sections of programs other than this one, which were not checked.
    #[must_use]
    pub fn others(&self) -> Vec<String> {
        self.values().others.clone()
    }

    /// Follows the reading of changed files: each version that was applied or refused is a change of this receiver.
    #[must_use]
    pub fn reloads(&self) -> channel::Receiver<Reloads> {
        self.shared.reloads.subscribe()
    }

    /// The options of an inbox. Its floor and bounds follow the configuration.
    #[must_use]
    pub fn inbox(&self) -> InboxOptions {
        self.settings().inbox.options().controlled_by(&self.shared.inbox)
    }

    /// The limit of what the program emits. All emitters of an `Aether` that [`connect_until`](Self::connect_until) or
    /// [`builder`](Self::builder) made share it, including emitters of services. It follows the configuration; `None`
    /// if there was none at the start.
    #[must_use]
    pub fn emission_rate(&self) -> Option<EmissionRate> {
        self.shared.emission.clone()
    }

    /// The border of the program, whose rules and schemas follow the configuration. While it has none it is open.
    #[must_use]
    pub fn border(&self) -> Border {
        self.shared.border.clone()
    }

    /// A builder for the medium of the configuration, with its emission limit and its boundary rules. The server shows
    /// the client name for the connection.
    pub fn builder(&self, client_name: &str) -> AetherBuilder {
        let settings = self.settings();
        let medium = settings.medium.args();
        let builder = medium.builder(client_name).account_every(settings.account.interval());
        let builder = match &self.shared.emission {
            Some(rate) => builder.emission_rate(rate.clone()),
            None => builder,
        };
        let builder = builder.guard(self.border());
        #[cfg(feature = "nats")]
        let builder = builder.options(medium.nats(client_name).outbox(settings.outbox.options()));
        #[cfg(feature = "lan")]
        let builder = builder.options(medium.lan(client_name).outbox(settings.outbox.options()));
        builder
    }

    /// Connects as [`MediumArgs::connect_with_until`](crate::MediumArgs::connect_with_until) does, and follows changes
    /// of the files from now on, until `shutdown` is cancelled. [Telemetry](crate::telemetry) starts if it has an
    /// address, with the client name as the name of the service.
    ///
    /// With durable channels in `[durable]`, the log of the program is opened in a folder of that name or in JetStream,
    /// and waves of those channels are stored before they are carried. [`DurableLog::of`] returns it, and
    /// [`ResonateDurable`](aether_log::ResonateDurable) listens.
    ///
    /// # Errors
    /// [`ConnectError`] at once if the address is not valid, the server refuses the connection, or the log cannot be opened;
    /// after the wait if the server did not answer.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing stays connected. The files may be followed.
    pub async fn connect_until(
        &self,
        shutdown: &CancellationToken,
        client_name: &str,
    ) -> Result<Option<Aether>, ConnectError> {
        self.follow(shutdown);
        self.watch_memory(shutdown);
        let settings = self.settings();
        // Telemetry helps to find what is wrong; its own mistakes do not keep a service from running.
        if let OrOff::On(collector) = &settings.telemetry.otlp
            && !telemetry::is_disabled()
            && let Err(error) = telemetry::start(collector.as_str(), client_name)
        {
            tracing::error!(error = error_chain(&error), "nothing is exported");
        }
        let Some(log) = shutdown.run_until_cancelled(self.open_log(client_name)).await.transpose()? else {
            return Ok(None);
        };
        let builder = self.builder(client_name);
        let builder = log.iter().fold(builder, |builder, log| log.layer(builder));
        let connected = settings.medium.args().connect_with_until(shutdown, builder).await?;
        connected.iter().for_each(telemetry::observe);
        if let (Some(log), Some(aether)) = (log, &connected) {
            log.attach(aether);
        }
        Ok(connected)
    }

    /// Opens the durable log of this program, if it has one.
    async fn open_log(&self, client_name: &str) -> Result<Option<DurableLog>, ConnectError> {
        let refused = |source: Box<dyn std::error::Error + Send + Sync>| ConnectError::Layer {
            layer: "durable log",
            source,
        };
        let settings = self.settings();
        #[cfg(feature = "jetstream")]
        if let Some(log) =
            settings.durable.jetstream(&settings.medium.args()).map_err(|error| refused(error.into()))?
        {
            let opened = log.open().await.map_err(|error| refused(error.into()))?;
            return Ok(Some(opened.into()));
        }
        #[cfg(not(feature = "jetstream"))]
        if settings.durable.log != OrOff::Off {
            return Err(refused(SharedLogError::Feature.into()));
        }
        let keys = settings.medium.args().keys;
        let log = settings.durable.log(client_name, keys.as_deref());
        let Some(log) = log.map_err(|error| refused(error.into()))? else { return Ok(None) };
        let opened =
            aether_files::disk::spawn_blocking(|| log.open()).await.map_err(|error| refused(error.into()))?;
        Ok(Some(opened.map_err(|error| refused(error.into()))?.into()))
    }

    /// Logs the limits of the machine, and watches the memory until `shutdown` is cancelled. Only the first call counts.
    fn watch_memory(&self, shutdown: &CancellationToken) {
        if self.shared.is_watched.swap(true, Ordering::Relaxed) {
            return;
        }
        let settings = self.settings();
        let limits = CgroupLimits::read();
        if limits != CgroupLimits::default() {
            let workers = std::thread::available_parallelism().map_or(1, usize::from);
            tracing::info!(
                memory_limit_bytes = limits.memory_bytes,
                cpu_limit = limits.cpus,
                inbox_bytes = settings.inbox.max_bytes.bytes(),
                workers,
                "this process runs within limits of its container or service manager"
            );
        }
        if let Some(Time(period)) = settings.memory.watch.on() {
            let watching = memory_watch::watch(connecting::buses().clone(), period);
            tokio::spawn(shutdown.clone().run_until_cancelled_owned(watching));
        }
    }

    /// Follows changes of the files from now on, until `shutdown` is cancelled, for a program that connects by itself.
    /// Only the first call counts. It needs a tokio runtime.
    pub fn follow(&self, shutdown: &CancellationToken) {
        self.watch(shutdown.clone());
    }
}

impl<S: Send + Sync + 'static, L> ServiceBuilder<S, L> {
    /// Takes the inbox, the limits, the grace period and the asking of a service from a configuration. The floor and
    /// the bounds of the inbox follow its changes, and so does the rate of the handlers, if there was one at the start.
    ///
    /// Call it first: what is set afterwards is as it was set, except for the floor and the bounds of an inbox that has
    /// [`Configuration::inbox`] as its options.
    pub fn configured(self, configuration: &Configuration) -> Self {
        let settings = configuration.settings();
        let mut limits = settings.handlers.limits();
        // Handlers without a rate are called without its layer, so a rate cannot be added while they run.
        if let OrOff::On(rate) = settings.handlers.rate {
            limits = limits.live_rate(rate.parts(), RateLayer::new(configuration.shared.rate.subscribe()));
        }
        self.limits(limits)
            .inbox(configuration.inbox())
            .grace(settings.handlers.grace.0)
            .emission_rate(configuration.emission_rate())
            .asking(settings.ask.options())
    }
}

impl Default for Configuration {
    fn default() -> Self {
        let sources = Sources::default();
        // Without layers there are no mistakes.
        Self::read(sources).unwrap_or_else(|_| unreachable!("the built-in defaults are valid"))
    }
}

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configuration").field("files", &self.files()).finish_non_exhaustive()
    }
}
