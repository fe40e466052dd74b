//! `aether lan router`: connects networks that multicast does not cross, until it is interrupted.

use std::path::PathBuf;

use aether::lan::{LanChange, LanError, LanNode, LanRouter, LanRouterAccount};
use aether_service::config::CertificateFiles;
use aether_service::{CancellationToken, service_manager};

use crate::error::{CommandError, LanCommandError};
use crate::output::Output;

/// Run a router between networks that multicast does not cross; it needs no secret and reads nothing
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether lan router                                 on TCP port 7447
  aether lan router --listen 10.0.0.1:7447          on one interface only
  aether lan router --connect hub.example:7447      connected to another router
  aether lan router --ca ca.pem --certificate hub.pem,hub.key

With certificates everybody has to show one, and connects over QUIC alone.
Processes reach it by lan:?router=HOST:7447, or by multicast on its networks.
It prints who comes and goes. Processes hear each other if they have the same
key, whose id it prints; the id tells nothing about the secret.")]
pub(crate) struct RouterArgs {
    /// Listen on this endpoint
    #[arg(
        long,
        value_name = "ENDPOINT",
        help = "Listen on this endpoint, such as 0.0.0.0:7447 or quic/[::]:7447; may be repeated [default: [::]:7447]"
    )]
    listen: Vec<String>,

    /// Connect to this router; may be repeated. One that is away is tried again
    #[arg(long, value_name = "ENDPOINT")]
    connect: Vec<String>,

    /// Answer multicast on this interface only
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,

    /// Do not answer multicast: only processes that name this router find it
    #[arg(long, conflicts_with = "interface")]
    no_multicast: bool,

    /// Connect over QUIC and in no other way: trust the authorities in this file (PEM)
    #[arg(long, value_name = "FILE", requires = "certificate")]
    ca: Option<PathBuf>,

    /// The certificate of this machine, which has its name or address, and its key (PEM)
    #[arg(long, value_name = "FILE,KEY", requires = "ca")]
    certificate: Option<CertificateFiles>,
}

impl RouterArgs {
    fn address(&self) -> String {
        // These have a meaning in addresses.
        let part =
            |name: &str, value: &str| format!("{name}={}&", value.replace('%', "%25").replace('&', "%26"));
        let mut address = "lan:?".to_owned();
        address.extend(self.listen.iter().map(|endpoint| part("listen", endpoint)));
        address.extend(self.connect.iter().map(|endpoint| part("router", endpoint)));
        address.extend(self.interface.iter().map(|name| part("interface", name)));
        if self.no_multicast {
            address.push_str("multicast=off");
        }
        address
    }

    async fn open(&self, address: &str) -> Result<LanRouter, LanError> {
        match (&self.ca, &self.certificate) {
            (Some(ca), Some(CertificateFiles { certificate, key })) => {
                LanRouter::open_with_certificates(address, ca, certificate, key).await
            }
            _ => LanRouter::open(address).await,
        }
    }
}

pub(super) async fn router(args: RouterArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    let address = args.address();
    let opening = shutdown.run_until_cancelled(args.open(&address));
    let Some(opened) = opening.await else {
        return Err(CommandError::Interrupted { before: "the router listened" });
    };
    let mut router = opened.map_err(LanCommandError::Router)?;
    let mut output = Output::stdout();
    let printed = async {
        output.line(format_args!("listening on {}", router.listens().join(", ")))?;
        service_manager::ready();
        while let Some(Some(change)) = shutdown.run_until_cancelled(router.changed()).await {
            output.line(line(&change))?;
        }
        Ok(())
    };
    let printed: Result<(), CommandError> = printed.await;
    let account = router.account();
    router.close().await;
    printed?;
    Ok(output.line(sum(&account))?)
}

fn line(LanChange { who, is_there, .. }: &LanChange) -> String {
    let event = if *is_there { "came" } else { "left" };
    match who {
        LanNode::Process { node, realm, .. } if realm == "open" => {
            format!("{event}  process {node:016x} without a secret")
        }
        LanNode::Process { node, realm, .. } => format!("{event}  process {node:016x} with key {realm}"),
        LanNode::Router { id, .. } => format!("{event}  router {id}"),
        _ => format!("{event}  {who:?}"),
    }
}

fn sum(account: &LanRouterAccount) -> String {
    let LanRouterAccount { processes, routers, most_processes, came, left, left_out, untold, .. } = account;
    let mut text = format!(
        "processes: {came} came = {processes} there + {left} left; at most {most_processes} at once, {routers} routers"
    );
    for (number, what) in
        [(left_out, "came without room to count them"), (untold, "changes were not printed")]
    {
        if *number > 0 {
            text.push_str(&format!("; {number} {what}"));
        }
    }
    text
}
