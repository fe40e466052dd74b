//! `aether acl`: explains the boundary rules of a configuration. Nothing is sent anywhere.

use aether::nats::NatsPermissions;
use aether::rules::{Action, Limits, Rules};
use aether_core::Channel;
use aether_core::wave::ChannelError;
use aether_service::ConfigArgs;

use crate::config::load;
use crate::error::CommandError;
use crate::output::Output;

/// Explain the boundary rules: who may emit and who may listen where
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether acl check billing emit invoices.sent
  aether acl check billing listen orders.created --config /etc/aether
  aether acl nats billing     the permissions of the user billing, for nats-server

With these permissions a user hears answers below _INBOX.billing only. A
program that logs in as billing with a password uses that inbox; one that logs
in otherwise needs medium.inbox = \"billing\" in its configuration.

Exit codes of check: 0 allowed, 1 refused.")]
pub(crate) struct AclArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say whether an identity may emit on a channel or listen to it, and why
    Check {
        /// The name of a vibrator or an emitter
        identity: String,
        /// The action to check
        #[arg(value_enum)]
        action: Wanted,
        /// The channel
        #[arg(value_parser = channel)]
        channel: Channel,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Print the permissions of a NATS user with which the server refuses what the rules refuse
    Nats {
        /// The name of a vibrator or an emitter
        identity: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Wanted {
    Emit,
    Listen,
}

impl From<Wanted> for Action {
    fn from(wanted: Wanted) -> Self {
        match wanted {
            Wanted::Emit => Self::Emit,
            Wanted::Listen => Self::Listen,
        }
    }
}

fn channel(text: &str) -> Result<Channel, ChannelError> {
    Channel::new(text)
}

pub(crate) fn acl(args: AclArgs) -> Result<(), CommandError> {
    match args.command {
        Command::Check { identity, action, channel, config } => {
            let rules = load(&config)?.settings().border.rules();
            let text = verdict(rules.as_ref(), &identity, action.into(), &channel)?;
            Ok(Output::stdout().bytes(text.as_bytes())?)
        }
        Command::Nats { identity, config } => {
            let settings = load(&config)?.settings();
            let rules = settings.border.rules().ok_or(CommandError::NoRules)?;
            let permissions = NatsPermissions::new(&rules, &identity, &settings.medium.prefix);
            let text = format!("permissions: {{\n{permissions}}}\n");
            Ok(Output::stdout().bytes(text.as_bytes())?)
        }
    }
}

fn verdict(
    rules: Option<&Rules>,
    identity: &str,
    action: Action,
    channel: &Channel,
) -> Result<String, CommandError> {
    let Some(rules) = rules else { return Ok("allowed: there are no rules in [border]\n".to_owned()) };
    let rewritten = match action {
        Action::Emit => rules.rewritten(identity, channel)?,
        _ => None,
    };
    let Some((becomes, rule)) = rewritten else {
        let limits = rules.verdict(identity, action, channel)?;
        let limits = if action == Action::Emit { limited(&limits) } else { String::new() };
        return Ok(format!("allowed: {identity} may {action} {channel}{limits}\n"));
    };
    let channel = channel.clone();
    match rules.verdict(identity, action, &becomes) {
        Ok(limits) => Ok(format!(
            "allowed: {channel} leaves as {becomes} (rule {rule}), and {identity} may {action} {becomes}{}\n",
            limited(&limits)
        )),
        Err(refusal) => {
            let source = Box::new(refusal);
            Err(CommandError::RewrittenNotAllowed { channel, becomes, rule, source })
        }
    }
}

fn limited(limits: &Limits) -> String {
    let parts = [
        limits.max_amplitude.map(|most| format!("amplitudes up to {most}")),
        limits.clamp_amplitude.map(|most| format!("weakened to {most}")),
        limits.max_payload.map(|most| format!("payloads up to {most} bytes")),
        limits.max_depth.map(|most| format!("JSON nested up to {most} deep")),
        limits.max_rate.map(|most| format!("{most} waves a second")),
    ];
    parts.into_iter().flatten().map(|part| format!(", {part}")).collect()
}
