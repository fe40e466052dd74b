//! `aether describe`: prints what the services on a medium receive, answer and emit.
//!
//! Only services that were built with `.describe(..)` answer.

use std::time::Duration;

use aether_core::CreateError;
use aether_core::presence::Roster;
use aether_service::description::{Directory, asyncapi};
use aether_service::{CancellationToken, MediumArgs};

use crate::connect::connected;
use crate::error::CommandError;
use crate::output::{Output, stderr_line};
use crate::{roll_call, values};

/// Print what the services on the medium receive, answer and emit, as AsyncAPI 3.1
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether describe > asyncapi.json       all services that answer
  aether describe beta                  one of them
  aether describe | jq '.operations | keys'")]
pub(crate) struct DescribeArgs {
    /// The name of a service; all of them without it
    service: Option<String>,

    /// How long services have to announce themselves. They do so together, once a second
    #[arg(long, value_name = "TIME", default_value = "1500ms", value_parser = values::time)]
    roll_call: Duration,

    /// Wait no longer than until this many services have described themselves
    #[arg(long, value_name = "N", value_parser = values::whole(1))]
    expect: Option<u64>,

    #[command(flatten)]
    medium: MediumArgs,
}

pub(crate) async fn describe(args: DescribeArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    let aether = connected(&args.medium, "aether-describe", &shutdown).await?;
    if !aether.promises().crosses_processes {
        return Err(CommandError::Alone { missing: "describe itself" });
    }
    let reading = async {
        let emitter = aether.emitter("aether-describe").map_err(CreateError::from)?;
        let directory = Directory::open(&aether, emitter).await?;
        let is_wanted = |name: &str| args.service.as_ref().is_none_or(|wanted| name == wanted);
        let described = async |_: &Roster| {
            let services = directory.read().await.services;
            services.iter().filter(|service| is_wanted(&service.description.service)).count()
        };
        let mut roster = aether.roster().await?;
        let again = async || directory.rested().await;
        roll_call::wait(args.roll_call, &mut roster, args.expect, described, again).await;
        Ok(directory.read().await)
    };
    let listing = tokio::select! {
        read = reading => read,
        () = shutdown.cancelled() => Err(CommandError::Interrupted { before: "all services answered" }),
    };
    aether_service::close(&aether).await;
    let listing = listing?;
    let refused = listing.refused;
    let vain = refused.invalid + refused.too_large + refused.silent + refused.left_out;
    if vain > 0 {
        stderr_line(format_args!(
            "{vain} services were asked in vain: {} answered nonsense, {} too much, {} nothing, {} were not asked",
            refused.invalid, refused.too_large, refused.silent, refused.left_out
        ));
    }
    let mut services = listing.descriptions();
    if let Some(name) = &args.service {
        services.retain(|service| service.service == *name);
    }
    let Some(first) = services.first() else {
        return Err(match listing.failed {
            Some(reason) => CommandError::DescriptionNotSent { reason },
            None => CommandError::NotDescribed { service: args.service },
        });
    };
    let document = match services.iter().all(|service| service == first) {
        true => asyncapi(&first.service, &first.version, &first.summary, &services[..1]),
        false => {
            let summary = "The messages that the services on this medium receive, answer and emit";
            asyncapi("aether", env!("CARGO_PKG_VERSION"), summary, &services)
        }
    };
    Ok(Output::stdout().bytes(format!("{document:#}\n").as_bytes())?)
}
