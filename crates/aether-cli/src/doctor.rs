//! `aether doctor`: checks the needs of a program of Aether on this machine and on its medium, and prints remedies.
//!
//! Each file below checks one thing and returns findings. Nothing is changed; on NATS it sends itself a few small messages
//! below the prefix, and on a local network it joins for some seconds.

mod fields;
mod finding;
mod lan;
mod machine;
mod peers;
mod sealing;
mod server;
mod telemetry;

use std::time::Duration;

use aether_service::config::{ConfigError, Configuration};
use aether_service::{CancellationToken, ConfigArgs, MediumArgs};

use crate::error::CommandError;
#[cfg(feature = "lan")]
use crate::error::LanCommandError;
use crate::output::Output;
use crate::values;
use finding::{Finding, Status, json, lines};

/// Check the configuration, this machine, the medium, its permissions and the clocks; each with what to do
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether doctor
  aether doctor --config /etc/aether --profile prod
  aether doctor --medium nats://10.0.0.1:4222 --json | jq '.checks[] | select(.status != \"ok\")'

Exit codes: 0 nothing failed (there may be warnings), 1 something failed.")]
pub(crate) struct DoctorArgs {
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,

    /// How long others have to announce themselves and to tell what they refused [default: 1500ms; 5500ms where waves are
    /// sealed, because accounts come every five seconds]
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    roll_call: Option<Duration>,

    #[command(flatten)]
    config: ConfigArgs,
}

/// Say why somebody is not seen on the local network; each finding with what to do
#[cfg(feature = "lan")]
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether lan doctor
  aether lan doctor --medium 'lan:?peer=192.168.1.20:7447'
  aether lan doctor --json | jq '.checks[] | select(.status != \"ok\")'

It joins the network for some seconds, asks by multicast on each interface, and
tries the TCP ports of those whom it should reach. Where another medium is not
configured, the medium is lan:.

Exit codes: 0 nothing failed (there may be warnings), 1 something failed.")]
pub(crate) struct LanDoctorArgs {
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    config: ConfigArgs,
}

/// The checks of the local network alone.
#[cfg(feature = "lan")]
pub(crate) async fn lan_doctor(args: LanDoctorArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    let LanDoctorArgs { json, mut config } = args;
    let mut loaded = crate::config::load(&config);
    if let Ok(read) = &loaded {
        let medium = read.settings().medium.args();
        if medium.is_local() {
            config.medium.url = Some("lan:".to_owned());
            loaded = crate::config::load(&config);
        } else if medium.lan_address().is_none() {
            return Err(LanCommandError::OtherMedium { medium: medium.to_string() }.into());
        }
    }
    let checking = async {
        let mut findings = configuration(&loaded);
        if let Ok(config) = &loaded {
            let medium = config.settings().medium.args();
            if let Some(address) = medium.lan_address() {
                findings.extend(lan::check(config, address).await);
            }
        }
        findings
    };
    report(checking, json, &shutdown).await
}

pub(crate) async fn doctor(args: DoctorArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    report(check(&args.config, args.roll_call), args.json, &shutdown).await
}

/// Prints what a check finds, unless it is interrupted.
async fn report(
    checking: impl Future<Output = Vec<Finding>>,
    is_json: bool,
    shutdown: &CancellationToken,
) -> Result<(), CommandError> {
    let Some(findings) = shutdown.run_until_cancelled(checking).await else {
        return Err(CommandError::Interrupted { before: "all checks were done" });
    };
    let text = if is_json { json(&findings) } else { lines(&findings) };
    Output::stdout().bytes(text.as_bytes())?;
    match findings.iter().filter(|finding| finding.status == Status::Fail).count() {
        0 => Ok(()),
        failed => Err(CommandError::Unhealthy { failed, checks: findings.len() }),
    }
}

async fn check(args: &ConfigArgs, roll_call: Option<Duration>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let config = crate::config::load(args);
    findings.extend(configuration(&config));
    let Ok(config) = config else {
        findings.extend(machine::limits(None));
        let text = "not checked, because the configuration names it";
        findings.push(Finding::warn("medium", text, "repair the configuration first"));
        return findings;
    };
    findings.extend(machine::files(&config));
    findings.extend(machine::limits(Some(&config)));
    findings.extend(telemetry::check(&config).await);
    let medium = config.settings().medium.args();
    if medium.addresses().any(|address| !MediumArgs::is_lan(address)) {
        findings.extend(sealing::keys(&config));
    }
    // Each path by itself.
    for address in medium.addresses() {
        findings.extend(match MediumArgs::is_lan(address) {
            true => lan::check(&config, address).await,
            false => server::check(&config, address).await,
        });
    }
    // Without a medium there is nobody to ask.
    if findings.iter().all(|finding| finding.check != "medium" || finding.status == Status::Ok) {
        findings.extend(peers::check(&config, roll_call).await);
    }
    findings
}

fn configuration(config: &Result<Configuration, ConfigError>) -> Vec<Finding> {
    match config {
        Ok(config) => {
            let files: Vec<_> = config.files().iter().map(|file| file.display().to_string()).collect();
            let files =
                if files.is_empty() { "no files, built-in defaults".to_owned() } else { files.join(", ") };
            vec![Finding::ok("configuration", format!("{} settings are valid: {files}", config.list().len()))]
        }
        Err(error) => {
            let failed = |mistake: &aether_service::config::Mistake| {
                Finding::fail(
                    "configuration",
                    mistake.to_string(),
                    "correct this line; `aether config check` lists all mistakes",
                )
            };
            error.mistakes.iter().map(failed).collect()
        }
    }
}
