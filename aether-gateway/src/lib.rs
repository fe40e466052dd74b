//! The gateway: observes all traffic and shows it over HTTP.
//!
//! It runs beside the services of a process, as `aether gateway`, or alone as `aether-gateway`. It serves live pages (`/`),
//! a page without scripts (`/status`), everything on them as JSON (`/api/...`, described by `/openapi.json`), metrics
//! (`/metrics`), the service map for Graphviz and Mermaid (`/map.dot`, `/map.mmd`) and health checks (`/livez`, `/readyz`,
//! `/healthz`). These show names and numbers to everybody on the loopback address, on which it listens by default,
//! unless there are [tokens](Access). Elsewhere it starts only with tokens or certificates of its clients, and all but
//! the health checks needs one.
//!
//! Waves themselves pass through it, too: `/waves` and `/ws` send those that match a pattern, `POST /waves/{channel}` and
//! `/ws` emit and ask. Without tokens everybody on the loopback address may; otherwise only the holder of a
//! [token](Access) with this right. On request it serves [fields](FieldOptions) over WebSocket (`/field/{name}/ws`),
//! which clients with the right token may write.
//!
//! ```
//! use aether_core::{Aether, Vibrator};
//! use aether_gateway::{Gateway, GatewayOptions};
//! use tokio_util::sync::CancellationToken;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let aether = Aether::local();
//! let any_port = ([127, 0, 0, 1], 0).into();
//! let gateway = Gateway::start(&aether, GatewayOptions::default().listen(any_port)).await?;
//! println!("http://{}", gateway.address());
//!
//! let observed = gateway.observed();
//! let shutdown = CancellationToken::new();
//! let running = tokio::spawn(gateway.run(shutdown.clone()));
//!
//! let shop = Vibrator::create("shop", &aether).await?;
//! shop.emit_wave("orders.created", &"a lamp").await?;
//!
//! shutdown.cancel(); // queued waves are still observed
//! running.await?;
//! assert_eq!(observed.waves(), 1);
//! # Ok(()) }
//! ```

mod access;
mod admission;
mod answer;
mod archive;
mod args;
mod assets;
mod attention;
mod audit;
mod bucket;
mod consumers;
mod demos;
mod durable;
mod emitters;
mod event_stream;
mod field;
mod gate;
mod gateway;
mod headers;
mod heads;
mod history;
mod http;
mod increments;
mod insight;
mod letters;
mod log;
mod losses;
mod metrics;
mod observed;
mod options;
mod origin;
mod page;
mod pulses;
mod queues;
mod rate;
mod readiness;
mod sending;
mod settings;
mod status;
mod stores;
mod taps;
mod trace_url;
mod track;
mod views;
mod waves;

pub use access::{Access, AccessError};
pub use archive::{
    Archive, ArchiveError, Archived, ArchivedAccount, ArchivedIncident, ArchivedLoss, ArchivedSpan,
};
pub use args::{GatewayArgs, GatewayError, ListenArgs, main};
pub use durable::{LogFolder, LogFolderError};
pub use field::{
    AllowedOrigin, FieldArgs, FieldOptions, JoinedFields, LimitError, LimitSetting, OriginError,
    SecurityLimits, ServeFieldsError, ServedField, ServedFieldError,
};
pub use gateway::{Gateway, StartError};
pub use insight::{Found, Insight, NotedIncident};
pub use observed::{OTHER, Observed, ObservedChannel, ObservedKind};
pub use options::GatewayOptions;
pub use settings::{GatewaySettings, TlsSettingsError};
pub use trace_url::{TraceUrl, TraceUrlError};
