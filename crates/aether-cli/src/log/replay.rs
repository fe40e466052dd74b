//! `aether log replay`: the waves of a log again, as new ones.

use aether_log::StoredWave;
use aether_service::{CancellationToken, MediumArgs};

use super::chosen::Chosen;
use super::interrupt::until;
use super::line::line;
use super::progress::Progress;
use crate::connect::connected;
use crate::error::CommandError;
use crate::output::{Output, stderr_line};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
To try a service with the waves of another day, start it with a prefix of its
own, and replay with the same --prefix.")]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    chosen: Chosen,

    /// 1 for the pauses that were between the waves, 2 for half of them. Default: no pauses
    #[arg(long, value_name = "FACTOR", value_parser = speed, allow_negative_numbers = true)]
    speed: Option<f64>,

    /// Print the waves at their times, and emit nothing
    #[arg(long)]
    print: bool,

    #[command(flatten)]
    medium: MediumArgs,
}

fn speed(text: &str) -> Result<f64, &'static str> {
    let speed = text.parse().ok().filter(|speed: &f64| speed.is_finite() && *speed > 0.0);
    speed.ok_or("use a number greater than 0, such as 1 or 0.5")
}

pub(super) async fn replay(args: &ReplayArgs, shutdown: &CancellationToken) -> Result<(), CommandError> {
    if args.print {
        let mut output = Output::stdout();
        let print = async |stored: StoredWave| Ok(output.line(line(&stored))?);
        return args.chosen.each(&args.medium, None, Progress::beside_output(), args.speed, print).await;
    }
    let aether = connected(&args.medium, "aether-replay", shutdown).await?;
    if !aether.promises().crosses_processes {
        return Err(CommandError::Alone { missing: "hear the waves" });
    }
    let emitter = aether.emitter("aether-replay").map_err(aether_core::CreateError::from)?;
    let mut emitted = 0_u64;
    let emit = async |stored: StoredWave| {
        emitter.emit(stored.wave).await?;
        emitted += 1;
        Ok(())
    };
    let replayed = args.chosen.each(&args.medium, None, Progress::shown(), args.speed, emit);
    let done = until(replayed, shutdown).await;
    aether_service::close(&aether).await;
    stderr_line(format_args!("{emitted} waves were emitted"));
    done
}
