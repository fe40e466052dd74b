//! `aether emit`: emits waves from arguments or from stdin.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use aether_core::{
    Aether, Amplitude, Channel, Echo, Echoes, EmitError, InboxOptions, Kind, Phase, Vibrator, Wave,
    WaveBuilder, WaveId, WhenFull, medium::MediumStatus,
};
use aether_service::{CancellationToken, MediumArgs, Sent};
use futures_util::FutureExt;
use tokio::task::coop;
use tokio::time::{Instant, timeout};

use crate::connect::connected_with;
use crate::error::CommandError;
use crate::output::{Output, stderr_line};
use crate::pace::Pace;
use crate::stdin::{Document, Documents};
use crate::trace::{Followed, Tracer};
use crate::values::{self, HalfLife, PayloadArg, Rate};

/// Emit one wave or many, with a JSON payload
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether emit orders.created '{\"sku\":\"lamp\",\"quantity\":2}'
  aether emit alarms.fire '\"cellar\"' --amplitude 1.0 --key cellar
  aether emit alarms.fire '\"cellar\"' --phase retract --key cellar
  aether emit stock.counted 17 --half-life 30s --count 1000 --rate 100
  cat orders.jsonl | aether emit orders.created -

It ends when the server has confirmed every wave. While the outbox is full or
the server is away, it waits until Ctrl-C; after the last wave it waits for the
server for up to the time of --wait. An account of several waves, or of a lost
one, is printed to stderr. Exit code 1: not every wave was confirmed, or a
command or query came back because it had no receiver or was refused at once.")]
pub(crate) struct EmitArgs {
    /// The channel: tokens separated by dots, such as orders.created
    channel: Channel,

    /// The payload, or - for one JSON document per line of stdin; without it the payload is empty
    #[arg(value_name = "JSON | -", allow_negative_numbers = true)]
    payload: Option<PayloadArg>,

    /// The importance, above 0 and at most 1
    #[arg(short, long, value_name = "A", default_value = "0.5", value_parser = values::amplitude, allow_negative_numbers = true)]
    amplitude: Amplitude,

    /// The half-life of the amplitude, such as 8s, or never [default: 8s for events and broadcasts, else never]
    #[arg(long, value_name = "TIME")]
    half_life: Option<HalfLife>,

    /// The kind: event, command, query, response or broadcast
    #[arg(long, default_value = "event")]
    kind: Kind,

    /// The coherence key: what the wave is about, such as an order number
    #[arg(long, value_parser = values::key)]
    key: Option<String>,

    /// Whether it asserts or retracts a claim: assert, retract or radians
    #[arg(long, default_value = "assert", value_parser = values::phase, allow_negative_numbers = true)]
    phase: Phase,

    /// The wave that caused it, by its id, such as shop@1f9a3c5b7d2e4f60/17
    #[arg(long, value_name = "ID")]
    cause: Option<WaveId>,

    /// A header of the wave; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::header)]
    metadata: Vec<(String, String)>,

    /// Emit the same wave this many times
    #[arg(short = 'n', long, value_name = "N", value_parser = values::whole(1), allow_negative_numbers = true)]
    count: Option<u64>,

    /// The maximum rate in waves a second
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    rate: Option<Rate>,

    /// Shed the weakest waves when the outbox is full, instead of waiting for room
    #[arg(long)]
    shed: bool,

    /// The name of the emitter
    #[arg(long, value_name = "NAME", default_value = "aether-emit", value_parser = values::name)]
    name: String,

    /// Afterwards follow the requests that begin here for this long, and print the tree of their waves to stderr
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    trace: Option<Duration>,

    #[command(flatten)]
    medium: MediumArgs,
}

/// How long a wave waits for room, or the last ones for the server, before the wait is reported; and how long they wait at
/// least.
const LONG_FOR_A_WAVE: Duration = Duration::from_secs(1);

pub(crate) async fn emit(args: EmitArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    if args.count.is_some() && matches!(args.payload, Some(PayloadArg::Stdin)) {
        return Err(CommandError::CountOfStdin);
    }
    let builder =
        args.medium.builder("aether-emit").options(args.medium.nats("aether-emit").outbox(args.outbox()));
    #[cfg(feature = "lan")]
    let builder = builder.options(args.medium.lan("aether-emit").outbox(args.outbox()));
    let aether = connected_with(&args.medium, builder, &shutdown).await?;
    if !aether.promises().crosses_processes {
        return Err(CommandError::Alone { missing: "receive the wave" });
    }
    let vibrator = Vibrator::create(&args.name, &aether).await?;
    let echoes = if args.kind.reflects() { Some(vibrator.echoes().await?) } else { None };
    let tracer = match args.trace {
        Some(time) => Some((Tracer::start(&aether, Followed::source(vibrator.source())).await?, time)),
        None => None,
    };
    let mut emitted = Emitted::default();
    let most_bytes = aether.promises().max_payload;
    // Waves emitted before an error are still sent and reported.
    let done = emit_all(&args, &vibrator, most_bytes, &mut emitted, &shutdown).await;
    let patience = args.medium.wait.max(LONG_FOR_A_WAVE);
    let has_settled = settle(&aether, patience, &shutdown).await;
    let back = echoes.map_or(Ok(()), |echoes| none_came_back(echoes, emitted.waves));
    let printed = Output::stdout().line(emitted.summary(&vibrator));
    if let Some((tracer, time)) = tracer {
        tracer.end_after(time, &shutdown).await?;
    }
    let closing = aether_service::close(&aether);
    if has_settled {
        closing.await;
    } else {
        // The server has been waited for already.
        let _ = timeout(patience, closing).await;
    }
    let sent = Sent::of(aether.status());
    if emitted.waves != 1 || sent.lost() > 0 {
        stderr_line(sent);
    }
    done?;
    sent.check()?;
    back?;
    Ok(printed?)
}

/// Emits all waves, or until `shutdown` is cancelled.
async fn emit_all(
    args: &EmitArgs,
    vibrator: &Vibrator,
    most_bytes: usize,
    emitted: &mut Emitted,
    shutdown: &CancellationToken,
) -> Result<(), CommandError> {
    let mut pace = Pace::new(args.rate);
    let same = match &args.payload {
        None => args.wave().build()?,
        Some(PayloadArg::Json(json)) => args.wave().json(json).build()?,
        Some(PayloadArg::Stdin) => {
            let mut documents = Documents::of_stdin(most_bytes);
            loop {
                let next = async {
                    let next = documents.next().await;
                    pace.next().await;
                    next
                };
                let Some(Some(Document { line, json })) =
                    shutdown.run_until_cancelled(next).await.transpose()?
                else {
                    return Ok(());
                };
                let wave = args.wave().json(&json).build()?;
                emitted
                    .emit(vibrator, wave, shutdown)
                    .await
                    .map_err(|source| CommandError::EmitLine { line, source })?;
            }
        }
    };
    for _ in 0..args.count.unwrap_or(1) {
        if shutdown.run_until_cancelled(pace.next()).await.is_none() {
            break;
        }
        emitted.emit(vibrator, same.clone(), shutdown).await?;
    }
    Ok(())
}

/// Flushes until the server has confirmed everything. Gives up after `patience` without progress, or at `shutdown`. The
/// final account lists unconfirmed waves. Returns false if it gave up because the server does not answer.
async fn settle(aether: &Aether, patience: Duration, shutdown: &CancellationToken) -> bool {
    let (mut seen, mut since) = (MediumStatus::default(), Instant::now());
    let mut is_reported = false;
    while let Some(Err(_) | Ok(Err(_))) =
        shutdown.run_until_cancelled(timeout(LONG_FOR_A_WAVE, aether.flush())).await
    {
        let status = aether.status();
        let waiting = status.outbox.queued.saturating_add(status.in_flight);
        if (status.outbox, status.in_flight) != (seen.outbox, seen.in_flight) {
            (seen, since) = (status, Instant::now());
        }
        // Without waiting waves, the connection broke. The final account lists those that were under way.
        if waiting == 0 {
            return true;
        }
        if since.elapsed() >= patience {
            return false;
        }
        if !is_reported {
            match status.held {
                0 => stderr_line(format_args!(
                    "waiting for the server, which has not confirmed {waiting} waves"
                )),
                held => stderr_line(format_args!(
                    "waiting for receivers, which have no room for {held} waves yet"
                )),
            }
            is_reported = true;
        }
    }
    true
}

/// Checks for waves that came back. The server has already reported channels without receivers for all confirmed waves.
fn none_came_back(mut echoes: Echoes, waves: u64) -> Result<(), CommandError> {
    let taken = || coop::unconstrained(echoes.receive()).now_or_never().flatten();
    let came: Vec<_> = std::iter::from_fn(taken).collect();
    let back = plausible(came.iter().map(|echo| echo.count), waves);
    match came.into_iter().next() {
        None => Ok(()),
        Some(Echo { reason, hint, .. }) => Err(CommandError::CameBack { back, waves, reason, hint }),
    }
}

/// The number of waves that came back, at most `waves`: echoes come from the network and may be forged.
fn plausible(mut counts: impl Iterator<Item = u64>, waves: u64) -> u64 {
    counts.try_fold(0_u64, u64::checked_add).unwrap_or(waves).min(waves)
}

impl EmitArgs {
    fn outbox(&self) -> InboxOptions {
        let when_full = if self.shed { WhenFull::Shed } else { WhenFull::Wait { patience: Duration::MAX } };
        InboxOptions::interactive().when_full(when_full)
    }

    fn wave(&self) -> WaveBuilder {
        let mut wave =
            Wave::builder(&self.channel).kind(self.kind).amplitude(self.amplitude).phase(self.phase);
        wave = match self.half_life {
            None => wave,
            Some(HalfLife::Never) => wave.never_decays(),
            Some(HalfLife::Time(half_life)) => wave.half_life(half_life),
        };
        if let Some(key) = &self.key {
            wave = wave.key(key);
        }
        if let Some(cause) = &self.cause {
            wave = wave.cause(cause.clone());
        }
        self.metadata.iter().fold(wave, |wave, (name, value)| wave.metadata(name, value))
    }
}

/// The emitted waves.
#[derive(Debug, Default)]
struct Emitted {
    waves: u64,
    first: u64,
    last: u64,
    reported_waiting: bool,
}

/// Reports once that a wave waits for a long time. It is polled only while a wave waits, so other waves cost no timer.
async fn report_waiting(is_reported: &mut bool) -> Infallible {
    if !*is_reported {
        tokio::time::sleep(LONG_FOR_A_WAVE).await;
        stderr_line(format_args!(
            "the server has accepted nothing for {LONG_FOR_A_WAVE:?}; waiting until it does, or Ctrl-C"
        ));
        *is_reported = true;
    }
    pending().await
}

impl Emitted {
    /// Emits a wave. If it is waiting for room when `shutdown` is cancelled, the outbox sheds its weakest wave for it.
    async fn emit(
        &mut self,
        vibrator: &Vibrator,
        wave: Wave,
        shutdown: &CancellationToken,
    ) -> Result<(), EmitError> {
        let emitted = tokio::select! {
            // Biased, so that the wave is emitted in any case.
            biased;
            emitted = vibrator.emit(wave) => Some(emitted?.sequence),
            () = shutdown.cancelled() => None,
            never = report_waiting(&mut self.reported_waiting) => match never {},
        };
        self.note(emitted.unwrap_or_else(|| vibrator.account().numbered));
        Ok(())
    }

    fn note(&mut self, sequence: u64) {
        if self.waves == 0 {
            self.first = sequence;
        }
        self.waves += 1;
        self.last = sequence;
    }

    /// The id of a single wave, or the number and the first and last id of several.
    fn summary(&self, vibrator: &Vibrator) -> String {
        let id = |sequence| WaveId { source: vibrator.source().clone(), sequence };
        match self.waves {
            0 => "0 waves".to_owned(),
            1 => id(self.first).to_string(),
            waves => format!("{waves} waves, {} to {}", id(self.first), id(self.last)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_waves_come_back_than_were_emitted_whatever_is_reported() {
        assert_eq!(plausible([].into_iter(), 3), 0);
        assert_eq!(plausible([1, 1].into_iter(), 3), 2);
        assert_eq!(plausible([u64::MAX, 20_000].into_iter(), 20_000), 20_000);
    }
}
