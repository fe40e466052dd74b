//! The command line: subcommands and their help.

use aether_gateway::GatewayArgs;
use aether_service::CancellationToken;
use aether_service_alpha::AlphaArgs;
use aether_service_beta::BetaArgs;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::acl::AclArgs;
use crate::ask::AskArgs;
#[cfg(feature = "bench")]
use crate::bench::BenchArgs;
use crate::bridge::BridgeArgs;
use crate::config::ShowArgs;
use crate::dead::DeadArgs;
use crate::describe::DescribeArgs;
use crate::doctor::DoctorArgs;
use crate::emit::EmitArgs;
use crate::error::CommandError;
use crate::field::FieldArgs;
use crate::keys::KeysArgs;
#[cfg(feature = "lan")]
use crate::lan::LanArgs;
use crate::letters::LettersArgs;
use crate::listen::ListenArgs;
use crate::log::LogArgs;
use crate::map::MapArgs;
use crate::new::NewArgs;
use crate::output::Output;
use crate::physics::PhysicsArgs;
use crate::recorder::RecordArgs;
use crate::report::ReportArgs;
use crate::top::TopArgs;
use crate::trace::TraceArgs;
use crate::up::UpArgs;

/// A message bus on which important messages get through
#[derive(Debug, Parser)]
#[command(name = "aether", version, propagate_version = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Fits a terminal of 80 columns.
const EXAMPLES: &str = concat!(
    "\
Examples:
  aether up                  the order system in one process: http://127.0.0.1:8080/
  aether up --orders 50      the same; ends by itself and prints the sums
  aether new greeter         a service of your own, with its test
",
    if_bench!("  aether bench overload      which waves get through an overload\n"),
    "
  With a NATS server, across processes:
  export AETHER_MEDIUM=nats://127.0.0.1:4222
  aether listen 'orders.>'   one line for each wave
  aether emit orders.created '{\"sku\":\"lamp\"}' --amplitude 0.9
  aether beta                the inventory service, which answers:
  aether top                 what every process does and loses, live
  aether map                 which channels are related, and their latency
  aether ask inventory.restock '{\"sku\":\"lamp\",\"quantity\":5}'
",
    if_lan!(
        "
  Without a server, between machines of one network:
  export AETHER_MEDIUM=lan: AETHER_LAN_SECRET_FILE=~/aether-secret
  aether lan peers           who is there; `aether lan doctor` explains why not
"
    ),
    "
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a dead letter is gone,
130 ended by a second Ctrl-C.
AETHER_LOG=debug shows more."
);

#[derive(Debug, Subcommand)]
enum Command {
    Up(UpArgs),
    Emit(EmitArgs),
    Listen(ListenArgs),
    Ask(AskArgs),
    Letters(LettersArgs),
    Log(LogArgs),
    Dead(DeadArgs),
    Bridge(BridgeArgs),
    Trace(TraceArgs),
    Map(MapArgs),
    Physics(PhysicsArgs),
    Top(TopArgs),
    New(NewArgs),
    Config(ShowArgs),
    Keys(KeysArgs),
    Acl(AclArgs),
    Describe(DescribeArgs),
    Doctor(DoctorArgs),
    #[cfg(feature = "lan")]
    Lan(LanArgs),
    Field(FieldArgs),
    Record(RecordArgs),
    Report(ReportArgs),
    Gateway(GatewayArgs),
    Alpha(AlphaArgs),
    Beta(BetaArgs),
    #[cfg(feature = "bench")]
    Bench(BenchArgs),
    /// Print a shell completion script
    #[command(after_help = "\
Examples:
  aether completions bash > ~/.local/share/bash-completion/completions/aether
  aether completions fish > ~/.config/fish/completions/aether.fish")]
    Completions {
        /// The shell
        shell: Shell,
    },
}

impl Cli {
    /// Preparations before any thread starts.
    pub(crate) fn prepare(&self) {
        #[cfg(feature = "bench")]
        if let Command::Bench(args) = &self.command {
            args.prepare();
        }
    }

    /// Runs the subcommand until it is done or `shutdown` is cancelled.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<(), CommandError> {
        match self.command {
            Command::Up(args) => crate::up::up(args, shutdown).await,
            Command::Emit(args) => crate::emit::emit(args, shutdown).await,
            Command::Listen(args) => crate::listen::listen(args, shutdown).await,
            Command::Map(args) => crate::map::map(args, shutdown).await,
            Command::Physics(args) => crate::physics::physics(args, shutdown).await,
            Command::Top(args) => crate::top::top(args, shutdown).await,
            Command::Field(args) => crate::field::field(args, shutdown).await,
            Command::Letters(args) => crate::letters::letters(args, shutdown).await,
            Command::Log(args) => crate::log::log(args, shutdown).await,
            Command::Dead(args) => crate::dead::dead(args, shutdown).await,
            Command::Record(args) => crate::recorder::record(args, shutdown).await,
            Command::Report(args) => args.run(),
            Command::Ask(args) => crate::ask::ask(args, shutdown).await,
            Command::New(args) => Ok(Output::stdout().bytes(crate::new::new(args)?.as_bytes())?),
            Command::Describe(args) => crate::describe::describe(args, shutdown).await,
            Command::Doctor(args) => crate::doctor::doctor(args, shutdown).await,
            #[cfg(feature = "lan")]
            Command::Lan(args) => crate::lan::lan(args, shutdown).await,
            Command::Config(args) => crate::config::config(args),
            Command::Acl(args) => crate::acl::acl(args),
            Command::Keys(args) => crate::keys::keys(args),
            Command::Bridge(args) => crate::bridge::bridge(args, shutdown).await,
            Command::Trace(args) => crate::trace::trace(args, shutdown).await,
            Command::Gateway(args) => Ok(aether_gateway::main(args, shutdown).await?),
            Command::Alpha(args) => Ok(aether_service_alpha::main(args, shutdown).await?),
            Command::Beta(args) => Ok(aether_service_beta::main(args, shutdown).await?),
            #[cfg(feature = "bench")]
            Command::Bench(args) => crate::bench::bench(args, shutdown).await,
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "aether", &mut script);
                Ok(Output::stdout().bytes(&script)?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
