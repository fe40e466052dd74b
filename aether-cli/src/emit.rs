//! `aether emit`: emits waves from arguments or from stdin.

use aether_chassis::{CancellationToken, MediumArgs};
use aether_core::{
    Aether, Amplitude, Channel, Echo, Echoes, Kind, Phase, Vibrator, Wave, WaveBuilder, WaveId,
};
use futures_util::FutureExt;
use tokio::task::coop;

use crate::connect::connected;
use crate::error::CommandError;
use crate::output::Output;
use crate::pace::Pace;
use crate::stdin::{Document, Documents};
use crate::values::{self, HalfLife, Payload, Rate};

/// Emit one wave or many, with a JSON payload
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether emit orders.created '{\"sku\":\"lamp\",\"quantity\":2}'
  aether emit alarms.fire '\"cellar\"' --amplitude 1.0 --key cellar
  aether emit alarms.fire '\"cellar\"' --phase retract --key cellar
  aether emit stock.counted 17 --half-life 30s --count 1000 --rate 100
  cat orders.jsonl | aether emit orders.created -

A command or query that nobody hears, or that is refused at once, is a failure.")]
pub(crate) struct EmitArgs {
    /// Where to: tokens separated by dots, such as orders.created
    channel: Channel,

    /// The payload, or - for one JSON document a line from stdin, as long as a wave can be; nothing for an empty payload
    #[arg(value_name = "JSON | -", allow_negative_numbers = true)]
    payload: Option<Payload>,

    /// How important it is, above 0 and at most 1
    #[arg(short, long, value_name = "A", default_value = "0.5", value_parser = values::amplitude, allow_negative_numbers = true)]
    amplitude: Amplitude,

    /// In which time the amplitude halves, such as 8s, or never [default: 8s for events and broadcasts, else never]
    #[arg(long, value_name = "TIME")]
    half_life: Option<HalfLife>,

    /// What it is for: event, command, query, response or broadcast
    #[arg(long, default_value = "event")]
    kind: Kind,

    /// What it is about, such as the number of an order
    #[arg(long, value_parser = values::key)]
    key: Option<String>,

    /// Whether it asserts or retracts a claim: assert, retract or radians
    #[arg(long, default_value = "assert", value_parser = values::phase, allow_negative_numbers = true)]
    phase: Phase,

    /// So many times the same
    #[arg(short = 'n', long, value_name = "N", value_parser = values::whole(1), allow_negative_numbers = true)]
    count: Option<u64>,

    /// At most so many waves a second
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    rate: Option<Rate>,

    /// Who emits
    #[arg(long, value_name = "NAME", default_value = "aether-emit", value_parser = values::name)]
    name: String,

    #[command(flatten)]
    medium: MediumArgs,
}

pub(crate) async fn emit(args: EmitArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    if args.count.is_some() && matches!(args.payload, Some(Payload::Stdin)) {
        return Err(CommandError::CountOfStdin);
    }
    let aether = connected(&args.medium, "aether-emit", &shutdown).await?;
    if !aether.promises().crosses_processes {
        return Err(CommandError::Alone { nobody_would: "hear the wave" });
    }
    let vibrator = Vibrator::create(&args.name, &aether).await?;
    let echoes = if args.kind.reflects() { Some(vibrator.echoes().await?) } else { None };
    let mut emitted = Emitted::default();
    // What was emitted before a mistake has been emitted, so it is sent and told all the same.
    let most_bytes = aether.promises().max_payload;
    let done = emit_all(&args, &vibrator, most_bytes, &mut emitted, &shutdown).await;
    let mut sent = send(&aether, emitted.waves).await;
    if let (Ok(()), Some(echoes)) = (&sent, echoes) {
        sent = none_came_back(echoes, emitted.waves);
    }
    Output::stdout().line(emitted.told(&vibrator))?;
    aether_chassis::close(&aether).await;
    done.and(sent)
}

/// Emits until there is no more or `shutdown` is cancelled, which is looked at between two waves only: each wave is
/// emitted and counted, or neither.
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
        Some(Payload::Json(json)) => args.wave().json(json).build()?,
        Some(Payload::Stdin) => {
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
                let receipt = vibrator.emit(args.wave().json(&json).build()?).await;
                emitted.note(receipt.map_err(|source| CommandError::EmitLine { line, source })?.sequence);
            }
        }
    };
    for _ in 0..args.count.unwrap_or(1) {
        if shutdown.run_until_cancelled(pace.next()).await.is_none() {
            break;
        }
        emitted.note(vibrator.emit(same.clone()).await?.sequence);
    }
    Ok(())
}

/// Waits until the server has everything, and makes sure that it does.
async fn send(aether: &Aether, waves: u64) -> Result<(), CommandError> {
    aether.flush().await?;
    match aether.status().outbox.lost() {
        0 => Ok(()),
        lost => Err(CommandError::Shed { lost, waves }),
    }
}

/// Looks what has come back by now. The server says of everything that it has whether anybody hears it.
fn none_came_back(mut echoes: Echoes, waves: u64) -> Result<(), CommandError> {
    let mut back = 0;
    let mut first = None;
    while let Some(Some(echo)) = coop::unconstrained(echoes.receive()).now_or_never() {
        back += echo.count;
        first.get_or_insert(echo);
    }
    match first {
        None => Ok(()),
        Some(Echo { reason, hint, .. }) => Err(CommandError::CameBack { back, waves, reason, hint }),
    }
}

impl EmitArgs {
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
        wave
    }
}

/// Which waves were emitted.
#[derive(Debug, Default)]
struct Emitted {
    waves: u64,
    first: u64,
    last: u64,
}

impl Emitted {
    fn note(&mut self, sequence: u64) {
        if self.waves == 0 {
            self.first = sequence;
        }
        self.waves += 1;
        self.last = sequence;
    }

    /// The id of a single wave, or the number and the first and last id of several.
    fn told(&self, vibrator: &Vibrator) -> String {
        let id = |sequence| WaveId { source: vibrator.source().clone(), sequence };
        match self.waves {
            0 => "0 waves".to_owned(),
            1 => id(self.first).to_string(),
            waves => format!("{waves} waves, {} to {}", id(self.first), id(self.last)),
        }
    }
}
