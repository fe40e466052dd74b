//! The gateway as a program: its arguments and its main function.
//!
//! This crate's binary and the subcommand `aether gateway` use it.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;

use aether_chassis::{CancellationToken, MediumArgs};
use aether_core::{Aether, ConnectError};
use aether_metrics::{Tls, TlsError};

use crate::{FieldArgs, FieldArgsError, Gateway, GatewayOptions, StartError};

/// The name of the program, in the log and in the connection list of the NATS server.
const PROGRAM: &str = "aether-gateway";

/// Observe all traffic and serve a status page, metrics and health checks
#[derive(Debug, Clone, clap::Parser)]
#[command(name = PROGRAM, version)]
#[non_exhaustive]
pub struct GatewayArgs {
    /// The medium to connect to.
    #[command(flatten)]
    pub medium: MediumArgs,
    /// The HTTP address.
    #[command(flatten)]
    pub listen: ListenArgs,
    /// The fields that are served.
    #[command(flatten)]
    pub fields: FieldArgs,
    /// Do not detect related channels, periodic streams, missing beats, polling and retry storms
    #[arg(long, help_heading = "Gateway")]
    pub no_physics: bool,
}

/// The HTTP address of the gateway, to be flattened into other arguments.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Gateway")]
#[non_exhaustive]
pub struct ListenArgs {
    /// The address of the status page and the metrics. There is no password: anyone who can connect can read them. Port
    /// 0 takes a free port [default: 127.0.0.1:8080, or a free port if that is taken]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub listen: Option<SocketAddr>,

    /// Serve over TLS, with the certificates in this PEM file
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// The private key of the certificate, in a PEM file that not every user can read
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

/// A text that is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("use an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080, with port 0 for any free one")]
struct AddressError;

fn address(text: &str) -> Result<SocketAddr, AddressError> {
    text.parse().map_err(|_| AddressError)
}

impl ListenArgs {
    /// The options of the gateway.
    ///
    /// # Errors
    /// [`TlsError`] if the certificate or its key cannot be used.
    pub fn options(&self) -> Result<GatewayOptions, TlsError> {
        let files = self.tls_cert.as_deref().zip(self.tls_key.as_deref());
        let tls = files.map(|(certificate, key)| Tls::load(certificate, key)).transpose()?;
        let options = GatewayOptions::default().tls(tls);
        Ok(match self.listen {
            Some(address) => options.listen(address),
            None => options,
        })
    }
}

/// Why the program failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The medium could not be reached.
    #[error("the gateway cannot use its medium")]
    Connect(#[from] ConnectError),
    /// The gateway could not start.
    #[error("the gateway could not start")]
    Start(#[from] StartError),
    /// The certificate or its key cannot be used.
    #[error("the gateway cannot use TLS")]
    Tls(#[from] TlsError),
    /// The fields cannot be served, or not be stored at the end.
    #[error("the gateway cannot serve its fields")]
    Fields(#[from] FieldArgsError),
    /// The address could not be printed.
    #[error("the address could not be printed")]
    Output(#[source] io::Error),
}

/// Connects, prints where the gateway listens, and runs it until `shutdown` is cancelled.
///
/// # Errors
/// [`GatewayError`] if the medium cannot be reached or the address cannot be bound.
///
/// # Cancel safety
/// Cancelled before completion, all connections are closed and the observer is gone.
pub async fn main(args: GatewayArgs, shutdown: CancellationToken) -> Result<(), GatewayError> {
    let Some(aether) = args.medium.connect_until(&shutdown, PROGRAM).await? else { return Ok(()) };
    if args.medium.is_local() && args.fields.fields.is_empty() {
        tracing::warn!(
            "the local medium lives inside this process, so there is nothing to observe; use --medium nats://host:port"
        );
    }
    let done = serve(&args, &aether, shutdown).await;
    // It emits nothing, so it can lose nothing of its own.
    let _ = aether_chassis::close_with_account(&aether).await;
    done
}

async fn serve(args: &GatewayArgs, aether: &Aether, shutdown: CancellationToken) -> Result<(), GatewayError> {
    let options = args.listen.options()?.physics(!args.no_physics);
    let (fields, joined) = args.fields.join(aether).await?;
    let gateway = Gateway::start(aether, options.fields(fields)).await?;
    let address = gateway.address();
    args.medium.announce(
        PROGRAM,
        env!("CARGO_PKG_VERSION"),
        format_args!("observes every wave, http://{address}/"),
    );
    writeln!(io::stdout(), "{}", gateway.announcement()).map_err(GatewayError::Output)?;
    gateway.run(shutdown).await;
    Ok(joined.close().await?)
}
