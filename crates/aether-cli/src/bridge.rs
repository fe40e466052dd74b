//! `aether bridge`: relays waves between two media, and prints what became of them.

mod print;

use std::path::PathBuf;
use std::time::Duration;

use aether::bridge::{Bridge, BridgeAccount};
use aether::rules::{Border, Rule, Rules};
use aether_core::{Aether, Channel, Pattern};
use aether_service::config::{CertificateFiles, ConfigError, LoginFile};
use aether_service::{CancellationToken, MediumArgs};

use crate::connect::connected_with;
use crate::error::CommandError;
use crate::output::{Output, stderr_line};
use crate::values;
use print::Summary;

/// Relay the waves of chosen patterns from one medium to another, and back
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether bridge lan: nats://hub:4222 --relay 'sensors.>' 'alarms.>'
  aether bridge nats://edge:4222 nats://hub:4222 --relay 'sensors.>' --one-way
  aether bridge nats://edge:4222 nats://hub:4222 --relay '>' --group edge-hub
                                    several of these share the waves

A relayed wave keeps its id, source, amplitude, age, metadata and cause. Questions
are relayed too. While one side is away, waves for it wait, the strongest first,
and the weakest are shed once 65536 waves or 64 MiB wait.

Each side logs in by itself: with its own options, or with a folder of its own
such as --here-config edge/. The folder and the variables that other
commands read (AETHER_CONFIG, AETHER__MEDIUM__LOGIN) count for neither, so that
no side gets the secret of the other.

Until both sides were reached once, nothing is relayed. SIGINT or SIGTERM ends it:
it prints what it relayed, what not and why, and what was lost.")]
pub(crate) struct BridgeArgs {
    /// The address of the first medium: nats://host:port or, where it is built in, lan:
    #[arg(value_name = "HERE")]
    here: String,

    /// The address of the second medium
    #[arg(value_name = "THERE")]
    there: String,

    /// The channels to relay: * matches one token, > at the end one or more
    #[arg(long, value_name = "PATTERN", required = true, num_args = 1..)]
    relay: Vec<Pattern>,

    /// Relay from HERE to THERE only
    #[arg(long)]
    one_way: bool,

    /// Share the waves with the other bridges of this group, which are between the same two media
    #[arg(long, value_name = "NAME")]
    group: Option<Channel>,

    /// Relay no wave that was relayed this often already, from 1 to 10
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u8).range(1..=10))]
    hops: u8,

    /// How long a relayed question waits for its answer
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = values::time)]
    patience: Duration,

    /// The name of the bridge on both media
    #[arg(long, value_name = "NAME", default_value = "aether-bridge", value_parser = values::name)]
    name: String,

    /// How long to wait for each side to be there at the start, such as 30s [default: until it is]
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    wait: Option<Duration>,

    /// Print the account as one JSON object
    #[arg(long)]
    json: bool,

    /// The folder with the default.toml whose section medium applies to HERE, but for the address [default: none]
    #[arg(long, value_name = "FOLDER")]
    here_config: Option<PathBuf>,
    /// The folder with the configuration of THERE
    #[arg(long, value_name = "FOLDER")]
    there_config: Option<PathBuf>,

    /// NATS: the subject prefix of HERE [default: aether]
    #[arg(long, value_name = "NAME")]
    here_prefix: Option<String>,
    /// NATS: the subject prefix of THERE [default: aether]
    #[arg(long, value_name = "NAME")]
    there_prefix: Option<String>,

    /// NATS: the file with the secret for HERE: credentials:FILE, nkey:FILE, token:FILE or password:USER:FILE
    #[arg(long, value_name = "KIND:FILE")]
    here_login: Option<LoginFile>,
    /// NATS: the file with the secret for THERE
    #[arg(long, value_name = "KIND:FILE")]
    there_login: Option<LoginFile>,

    /// The authorities (PEM) that are trusted for HERE instead of the system's
    #[arg(long, value_name = "FILE")]
    here_ca: Option<PathBuf>,
    /// The authorities (PEM) that are trusted for THERE
    #[arg(long, value_name = "FILE")]
    there_ca: Option<PathBuf>,

    /// The certificate of the bridge for HERE, and its key (PEM)
    #[arg(long, value_name = "FILE,KEY")]
    here_certificate: Option<CertificateFiles>,
    /// The certificate of the bridge for THERE, and its key (PEM)
    #[arg(long, value_name = "FILE,KEY")]
    there_certificate: Option<CertificateFiles>,

    /// The file with the keys of sealed waves of HERE
    #[arg(long, value_name = "FILE")]
    here_keys: Option<PathBuf>,
    /// The file with the keys of sealed waves of THERE
    #[arg(long, value_name = "FILE")]
    there_keys: Option<PathBuf>,

    /// NATS: the file with the key that signs what is relayed to HERE
    #[arg(long, value_name = "FILE")]
    here_signing_key: Option<PathBuf>,
    /// NATS: the file with the key that signs what is relayed to THERE
    #[arg(long, value_name = "FILE")]
    there_signing_key: Option<PathBuf>,

    /// NATS: the list of signers of HERE
    #[arg(long, value_name = "FILE")]
    here_signers: Option<PathBuf>,
    /// NATS: the list of signers of THERE
    #[arg(long, value_name = "FILE")]
    there_signers: Option<PathBuf>,

    /// A boundary rule of HERE, as in the table border of a configuration, such as 'shop: emit orders.>'. May be repeated
    #[arg(long, value_name = "RULE")]
    here_rule: Vec<Rule>,
    /// A boundary rule of THERE
    #[arg(long, value_name = "RULE")]
    there_rule: Vec<Rule>,
}

/// One of the two media, as given.
struct Side {
    medium: MediumArgs,
    rules: Vec<Rule>,
}

/// An unreachable server is retried for as long as anybody waits.
const ALWAYS: Duration = Duration::from_secs(365 * 24 * 3600);

impl BridgeArgs {
    fn sides(&mut self) -> Result<[Side; 2], ConfigError> {
        let wait = self.wait.unwrap_or(ALWAYS);
        let medium = |url: &str, folder: &Option<PathBuf>| {
            let medium = folder.as_deref().map_or_else(|| Ok(MediumArgs::default()), MediumArgs::of_folder);
            medium.map(|mut medium| {
                url.clone_into(&mut medium.medium);
                medium.wait = wait;
                medium
            })
        };
        let mut here = medium(&self.here, &self.here_config)?;
        let mut there = medium(&self.there, &self.there_config)?;
        replace(&mut here.prefix, self.here_prefix.take());
        replace(&mut there.prefix, self.there_prefix.take());
        add(&mut here.login, self.here_login.take());
        add(&mut there.login, self.there_login.take());
        add(&mut here.ca, self.here_ca.take());
        add(&mut there.ca, self.there_ca.take());
        add(&mut here.certificate, self.here_certificate.take());
        add(&mut there.certificate, self.there_certificate.take());
        add(&mut here.keys, self.here_keys.take());
        add(&mut there.keys, self.there_keys.take());
        add(&mut here.signing_key, self.here_signing_key.take());
        add(&mut there.signing_key, self.there_signing_key.take());
        add(&mut here.signers, self.here_signers.take());
        add(&mut there.signers, self.there_signers.take());
        let [here_rules, there_rules] = [&mut self.here_rule, &mut self.there_rule].map(std::mem::take);
        Ok([Side { medium: here, rules: here_rules }, Side { medium: there, rules: there_rules }])
    }
}

/// An option replaces a setting.
fn replace<T>(setting: &mut T, option: Option<T>) {
    if let Some(given) = option {
        *setting = given;
    }
}

/// The same of a setting that may be off.
fn add<T>(setting: &mut Option<T>, option: Option<T>) {
    if option.is_some() {
        *setting = option;
    }
}

impl Side {
    async fn connected(&self, name: &str, shutdown: &CancellationToken) -> Result<Aether, CommandError> {
        let mut builder = self.medium.builder(name);
        if !self.rules.is_empty() {
            builder = builder.guard(Border::new(Rules::new(self.rules.iter().cloned())?));
        }
        connected_with(&self.medium, builder, shutdown).await
    }
}

pub(crate) async fn bridge(mut args: BridgeArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    let [here, there] = args.sides()?;
    if here.medium.is_local() || there.medium.is_local() {
        return Err(CommandError::BridgeToNowhere);
    }
    if (&here.medium.medium, &here.medium.prefix) == (&there.medium.medium, &there.medium.prefix) {
        return Err(CommandError::BridgeToItself);
    }
    // At the same time, so that each reports what it waits for.
    let (media_here, media_there) =
        tokio::try_join!(here.connected(&args.name, &shutdown), there.connected(&args.name, &shutdown))?;
    let mut builder =
        Bridge::builder(args.relay.clone()).name(&args.name).max_hops(args.hops).patience(args.patience);
    if args.one_way {
        builder = builder.one_way();
    }
    if let Some(group) = args.group {
        builder = builder.group(group);
    }
    let bridge = builder.between(&media_here, &media_there).await?;
    let patterns: Vec<_> = args.relay.iter().map(ToString::to_string).collect();
    let ways = if args.one_way { "to" } else { "and" };
    stderr_line(format_args!(
        "relaying {} between {} {ways} {}",
        patterns.join(" "),
        here.medium,
        there.medium
    ));
    let account = until_the_end(bridge, [&media_here, &media_there], [&here, &there], &shutdown).await;
    // At the same time: each may take its time with a server that does not answer.
    tokio::join!(aether_service::close(&media_here), aether_service::close(&media_there));
    let names = [here.medium.to_string(), there.medium.to_string()];
    let summary = Summary::new(names, &account, [&media_here, &media_there]);
    let mut output = Output::stdout();
    match args.json {
        true => output.line(summary.json())?,
        false => summary.lines().iter().try_for_each(|line| output.line(line))?,
    }
    Ok(())
}

/// Reports the progress whenever a side goes away or comes back, until the bridge is to end.
async fn until_the_end(
    bridge: Bridge,
    media: [&Aether; 2],
    sides: [&Side; 2],
    shutdown: &CancellationToken,
) -> BridgeAccount {
    let [mut here, mut there] = media.map(Aether::connection);
    // A medium without a connection has nothing to watch.
    let (mut here_is_watched, mut there_is_watched) = (true, true);
    loop {
        let (side, changed, is_watched) = tokio::select! {
            () = shutdown.cancelled() => return bridge.close().await,
            changed = here.changed(), if here_is_watched => (sides[0], changed, &mut here_is_watched),
            changed = there.changed(), if there_is_watched => (sides[1], changed, &mut there_is_watched),
        };
        let Some(status) = changed else {
            *is_watched = false;
            continue;
        };
        let is = if status.connected { "is there" } else { "is away" };
        let (queued, ways) = (status.outbox.queued, print::ways(&bridge.account()));
        stderr_line(format_args!("{} {is}, {queued} waves wait for it; {ways}", side.medium));
    }
}
