//! The gateway as a program: its arguments and its main function.
//!
//! This crate's binary and the subcommand `aether gateway` use it.

use std::io::{self, Write as _};

use aether_core::{Aether, ConnectError};
use aether_metrics::{ServeError, TrustedProxy};
use aether_service::config::{ConfigError, List, ListenAddress, Loader};
use aether_service::{CancellationToken, ConfigArgs, Configuration};

use crate::settings::{GatewaySettings, TlsSettingsError};
use crate::{FieldArgs, Gateway, LogFolder, ServeFieldsError, StartError, TraceUrl};

/// The name of the program, in the log and in the connection list of the NATS server.
const PROGRAM: &str = "aether-gateway";

/// Observe all traffic and serve live pages, an API, metrics and health checks
#[derive(Debug, Clone, clap::Parser)]
#[command(name = PROGRAM, version)]
#[non_exhaustive]
pub struct GatewayArgs {
    /// The configuration, with the medium to connect to.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The HTTP address.
    #[command(flatten)]
    pub listen: ListenArgs,
    /// The fields that are served.
    #[command(flatten)]
    pub fields: FieldArgs,
    /// Do not detect related channels, periodic streams, missing beats, polling and retry storms
    #[arg(long, help_heading = "Gateway")]
    pub no_physics: bool,
    /// Let neither pages nor programs emit and ask through the gateway
    #[arg(long, help_heading = "Gateway")]
    pub no_emit: bool,
    /// Record rates, losses and incidents in this file, for `aether report`; it is bounded
    #[arg(long, value_name = "FILE", help_heading = "Gateway")]
    pub archive: Option<String>,
    /// Link traces on the pages to this http or https URL, with {trace} in place of the id of a trace
    #[arg(long, value_name = "URL", help_heading = "Gateway")]
    pub trace_url: Option<TraceUrl>,
    /// Show the durable logs in this folder and their consumers: the folder of a log, or one with the folders of
    /// several; may be repeated. The logs of the section durable of the configuration are always shown, and so are logs
    /// in JetStream on a NATS medium
    #[arg(long, value_name = "FOLDER", help_heading = "Gateway")]
    pub durable: Vec<LogFolder>,
}

/// The HTTP address of the gateway, to be flattened into other arguments.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Gateway")]
#[non_exhaustive]
pub struct ListenArgs {
    /// The address of the pages and the metrics. On a loopback address every program of this machine can use them,
    /// unless there is a token. Elsewhere the gateway starts only with a token, --tls-clients or --insecure. Port 0
    /// takes a free port [default: 127.0.0.1:8080, or a free port if that is taken]
    #[arg(long, value_name = "ADDRESS", value_parser = clap::value_parser!(ListenAddress))]
    pub listen: Option<ListenAddress>,

    /// Serve over TLS, with the certificates in this PEM file
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<String>,

    /// The private key of the certificate, in a PEM file that not every user can read
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<String>,

    /// Serve only clients with a certificate of an authority in this PEM file; they may hear and emit without a token,
    /// unless there is one or the file of tokens lists certificates
    #[arg(long, value_name = "FILE")]
    pub tls_clients: Option<String>,

    /// Start without a token also on other than loopback addresses: everybody who can connect reads names and numbers,
    /// and reads and writes the fields. Waves still need a token
    #[arg(long)]
    pub insecure: bool,

    /// Believe this proxy about the addresses of its clients (X-Forwarded-For), so that each has limits of its own: an
    /// address, or a network such as 192.0.2.0/24; may be repeated
    #[arg(long = "trusted-proxy", value_name = "CIDR")]
    pub trusted_proxies: Vec<TrustedProxy>,
}

impl ListenArgs {
    /// Adds the section of the gateway to a configuration, with what was given.
    pub fn layer(&self, loader: Loader) -> Loader {
        loader
            .section::<GatewaySettings>()
            .given("service.gateway.listen", "--listen", self.listen)
            .given("service.gateway.tls_cert", "--tls-cert", self.tls_cert.as_ref())
            .given("service.gateway.tls_key", "--tls-key", self.tls_key.as_ref())
            .given("service.gateway.tls_clients", "--tls-clients", self.tls_clients.as_ref())
            .given("service.gateway.insecure", "--insecure", self.insecure.then_some(true))
            .given(
                "service.gateway.trusted_proxies",
                "--trusted-proxy",
                List(self.trusted_proxies.clone()).as_argument(),
            )
    }
}

/// Why the program failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The configuration is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The medium could not be reached.
    #[error("the gateway cannot use its medium")]
    Connect(#[from] ConnectError),
    /// The gateway could not start.
    #[error("the gateway could not start")]
    Start(#[from] StartError),
    /// The certificate or its key cannot be used.
    #[error("the gateway cannot use TLS")]
    Tls(#[from] TlsSettingsError),
    /// The fields cannot be served, or not be stored at the end.
    #[error("the gateway cannot serve its fields")]
    Fields(#[from] ServeFieldsError),
    /// The metrics cannot be served on an address of their own.
    #[error(transparent)]
    Metrics(#[from] ServeError),
    /// The address could not be printed.
    #[error("the address could not be printed")]
    Output(#[source] io::Error),
}

impl GatewayError {
    /// Whether the program was used wrongly: it ends with the exit code of the argument parser then.
    #[must_use]
    pub const fn is_wrong_usage(&self) -> bool {
        match self {
            Self::Config(_) | Self::Start(StartError::Exposed { .. } | StartError::Certificates) => true,
            Self::Connect(error) => {
                !matches!(error, ConnectError::Unreachable { .. } | ConnectError::Layer { .. })
            }
            _ => false,
        }
    }
}

/// Connects, prints where the gateway listens, and runs it until `shutdown` is cancelled.
///
/// # Errors
/// [`GatewayError`] if the configuration is not valid, the medium cannot be reached or the address cannot be bound.
///
/// # Cancel safety
/// Cancelled before completion, all connections are closed and the observer is gone.
pub async fn main(args: GatewayArgs, shutdown: CancellationToken) -> Result<(), GatewayError> {
    let physics = args.no_physics.then_some(false);
    let loader = args.fields.layer(args.listen.layer(args.config.loader()));
    let emit = args.no_emit.then_some(false);
    let loader = loader.given("service.gateway.physics", "--no-physics", physics);
    let loader = loader.given("service.gateway.emit", "--no-emit", emit);
    let loader = loader.given("service.gateway.archive", "--archive", args.archive.as_ref());
    let loader = loader.given("service.gateway.trace_url", "--trace-url", args.trace_url.as_ref());
    let loader =
        loader.given("service.gateway.durable", "--durable", List(args.durable.clone()).as_argument());
    let config = loader.load()?;
    let Some(aether) = config.connect_until(&shutdown, PROGRAM).await? else { return Ok(()) };
    if config.settings().medium.args().is_local() && !config.section::<GatewaySettings>().serves_fields() {
        tracing::warn!(
            "the local medium lives inside this process, so there is nothing to observe; use --medium nats://host:port"
        );
    }
    let done = serve(&config, &aether, shutdown).await;
    // It emits nothing, so it can lose nothing of its own.
    let _ = aether_service::close_with_account(&aether).await;
    done
}

async fn serve(
    config: &Configuration,
    aether: &Aether,
    shutdown: CancellationToken,
) -> Result<(), GatewayError> {
    let settings = config.section::<GatewaySettings>();
    let options = settings.options(&config.settings())?;
    let (fields, joined) = settings.join_fields(aether).await?;
    let gateway = Gateway::start(aether, options.fields(fields)).await?;
    let _metrics = gateway.metrics().serve_configured(config).await?;
    config.settings().medium.args().announce(
        PROGRAM,
        env!("CARGO_PKG_VERSION"),
        format_args!("observes every wave, {}", gateway.url()),
    );
    writeln!(io::stdout(), "{}", gateway.announcement()).map_err(GatewayError::Output)?;
    gateway.run(shutdown).await;
    Ok(joined.close().await?)
}
