//! `aether lan`: who is on the local network, how far they are, why somebody is not seen, and a router between networks.
//!
//! Each subcommand has its own file. All but the router join the network as a process that hears nothing.

mod columns;
mod joined;
mod peers;
mod ping;
mod router;
mod watch;

use aether_service::CancellationToken;

use crate::doctor::LanDoctorArgs;
use crate::error::CommandError;
use peers::PeersArgs;
use ping::PingArgs;
use router::RouterArgs;

/// Look at the local network: who is there, how far they are, why somebody is missing; run a router
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether lan peers              who is there
  aether lan ping               how far everybody is
  aether lan doctor             why somebody is not seen, and what to do
  aether lan router             between networks that multicast does not cross

Without --medium and AETHER_MEDIUM the medium is lan:. The secret comes from
AETHER_LAN_SECRET_FILE; the router needs none.")]
pub(crate) struct LanArgs {
    #[command(subcommand)]
    action: LanAction,
}

#[derive(Debug, clap::Subcommand)]
enum LanAction {
    Peers(PeersArgs),
    Ping(PingArgs),
    Doctor(LanDoctorArgs),
    Router(RouterArgs),
}

pub(crate) async fn lan(args: LanArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    match args.action {
        LanAction::Peers(args) => peers::peers(args, shutdown).await,
        LanAction::Ping(args) => ping::ping(args, shutdown).await,
        LanAction::Doctor(args) => crate::doctor::lan_doctor(args, shutdown).await,
        LanAction::Router(args) => router::router(args, shutdown).await,
    }
}
