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
use crate::demo::DemoArgs;
use crate::describe::DescribeArgs;
use crate::doctor::DoctorArgs;
use crate::emit::EmitArgs;
use crate::error::CommandError;
use crate::field::FieldArgs;
use crate::jobs::JobsArgs;
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
#[command(name = "aether", version, propagate_version = true, help_template = HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The commands in groups, in a terminal of 24 lines and 80 columns. A test knows that each one is named.
const HELP: &str = concat!(
    "\
{about}

{usage-heading} {usage}

  up           The order system in one process: http://127.0.0.1:8080/
  new          A service of your own, with its test
  emit         One wave or many, with a payload: aether emit orders.created 17
  listen       The waves of a pattern, one a line: aether listen 'orders.>'
  ask          A question, and the first answer
  top          What every process does and loses, live
  map          Which channels are related, and their latency
  trace        The tree of the waves that one wave led to
  letters      Dead letters: list, show, replay, drop
  jobs         Queues of durable logs: list, pause, retry, cancel
  log          Durable logs: read, check, replay
  field        Shared state: read, write, watch
  doctor       What is wrong, and what to do

Set up:        config  keys  acl  describe  completions
Observe:       gateway  physics  record  report
Connect:       bridge",
    if_lan!("  lan"),
    "
Try out:       demo  alpha  beta",
    if_bench!("  bench"),
    "

AETHER_MEDIUM=nats://127.0.0.1:4222 connects processes. Exit codes: 0 done,
1 failed, 2 wrong usage. `aether COMMAND --help` has all options and examples.
"
);

#[derive(Debug, Subcommand)]
enum Command {
    Up(UpArgs),
    Demo(DemoArgs),
    Emit(EmitArgs),
    Listen(ListenArgs),
    Ask(AskArgs),
    Letters(LettersArgs),
    Jobs(JobsArgs),
    Log(LogArgs),
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
            Command::Demo(args) => crate::demo::demo(args, shutdown).await,
            Command::Emit(args) => crate::emit::emit(args, shutdown).await,
            Command::Listen(args) => crate::listen::listen(args, shutdown).await,
            Command::Map(args) => crate::map::map(args, shutdown).await,
            Command::Physics(args) => crate::physics::physics(args, shutdown).await,
            Command::Top(args) => crate::top::top(args, shutdown).await,
            Command::Field(args) => crate::field::field(args, shutdown).await,
            Command::Letters(args) => crate::letters::letters(args, shutdown).await,
            Command::Jobs(args) => crate::jobs::jobs(args, shutdown).await,
            Command::Log(args) => crate::log::log(args, shutdown).await,
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

    #[test]
    fn the_help_fits_a_screen_and_names_every_command() {
        let mut command = Cli::command();
        let help = command.render_help().to_string();
        let names: Vec<_> = help.split_whitespace().collect();
        for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
            assert!(names.contains(&command.get_name()), "{}: {help}", command.get_name());
        }
        assert!(help.lines().count() <= 26 && help.lines().all(|line| line.len() <= 80), "{help}");
    }
}
