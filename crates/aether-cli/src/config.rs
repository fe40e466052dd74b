//! `aether config`: shows and checks the configuration of the gateway and the sample services.

use std::fmt::Write as _;

use aether::check_address;
use aether_gateway::GatewaySettings;
use aether_service::config::{ConfigError, Configuration};
use aether_service::{ConfigArgs, error_chain};
use aether_service_alpha::OrderSettings;
use aether_service_beta::StockSettings;

use crate::error::CommandError;
use crate::output::Output;

/// Show or check the configuration: files, environment and arguments together
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether config show
  aether config show --changed --profile prod
  aether config check --config /etc/aether

Exit codes of check: 0 valid, 1 mistakes; each is a line with its file and line.")]
pub(crate) struct ShowArgs {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print each setting with its value and where that comes from; secrets are hidden
    Show {
        /// Only settings that are not as built in
        #[arg(long)]
        changed: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Print all mistakes; the exit code is 1 if there are any
    Check {
        #[command(flatten)]
        config: ConfigArgs,
    },
}

pub(crate) fn config(args: ShowArgs) -> Result<(), CommandError> {
    match args.command {
        Action::Show { config, changed } => {
            let config = load(&config)?;
            Ok(Output::stdout().bytes(shown(&config, changed).as_bytes())?)
        }
        Action::Check { config } => match load(&config) {
            Ok(config) => match check_address(&config.settings().medium.url) {
                Ok(()) => Ok(Output::stdout().bytes(valid(&config).as_bytes())?),
                Err(error) => {
                    Output::stdout().bytes(format!("medium.url: {}\n", error_chain(&error)).as_bytes())?;
                    Err(CommandError::Mistakes { mistakes: 1 })
                }
            },
            Err(error) => {
                let lines: String = error.mistakes.iter().map(|mistake| format!("{mistake}\n")).collect();
                Output::stdout().bytes(lines.as_bytes())?;
                Err(CommandError::Mistakes { mistakes: error.mistakes.len() })
            }
        },
    }
}

/// Loads the settings of all programs of this command.
pub(crate) fn load(args: &ConfigArgs) -> Result<Configuration, ConfigError> {
    let loader = args.loader().section::<GatewaySettings>();
    loader.section::<OrderSettings>().section::<StockSettings>().load()
}

fn shown(config: &Configuration, changed: bool) -> String {
    let list = config.list();
    let lines: Vec<_> = list
        .iter()
        .filter(|setting| !changed || setting.origin != "built-in")
        .map(|setting| (format!("{} = {}", setting.key, setting.value), setting))
        .collect();
    let width = lines.iter().map(|(line, _)| line.len()).max().unwrap_or_default().min(60);
    let mut text = String::new();
    for (line, setting) in &lines {
        let live = if setting.is_live { ", applies at once" } else { "" };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line:width$}  # {}{live}", setting.origin);
    }
    for other in config.others() {
        let _ = writeln!(text, "# {other}: not checked, it belongs to another program");
    }
    text
}

fn valid(config: &Configuration) -> String {
    let files: Vec<_> = config.files().iter().map(|file| file.display().to_string()).collect();
    let files = if files.is_empty() { "no files".to_owned() } else { files.join(", ") };
    let mut text = format!("the configuration is valid: {} settings, {files}\n", config.list().len());
    for other in config.others() {
        let _ = writeln!(text, "{other} was not checked: it belongs to another program");
    }
    text
}
