//! `aether ask`: asks a question and prints the answer.

use std::time::Duration;

use aether_core::{Amplitude, Channel, Kind, Vibrator, Wave};
use aether_service::{CancellationToken, MediumArgs};
use serde_json::value::RawValue;

use crate::connect::connected;
use crate::error::CommandError;
use crate::output::Output;
use crate::record::{Payload, printable};
use crate::trace::{Followed, Tracer};
use crate::values;

/// Ask a question and print the first answer's payload
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether ask inventory.reserve '{\"order\":\"17\",\"sku\":\"lamp\",\"quantity\":2}'
  aether ask inventory.release '{\"order\":\"17\"}' --timeout 500ms | jq .outcome")]
pub(crate) struct AskArgs {
    /// The channel: tokens separated by dots, such as inventory.reserve
    channel: Channel,

    /// The question as JSON
    #[arg(value_name = "JSON", value_parser = values::json, allow_negative_numbers = true)]
    question: Box<RawValue>,

    /// How long to wait for an answer
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = values::time)]
    timeout: Duration,

    /// The importance, above 0 and at most 1
    #[arg(short, long, value_name = "A", default_value = "0.5", value_parser = values::amplitude, allow_negative_numbers = true)]
    amplitude: Amplitude,

    /// The name of the asker
    #[arg(long, value_name = "NAME", default_value = "aether-ask", value_parser = values::name)]
    name: String,

    /// Afterwards follow the request for this long, and print the tree of its waves to stderr
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    trace: Option<Duration>,

    #[command(flatten)]
    medium: MediumArgs,
}

pub(crate) async fn ask(args: AskArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    let aether = connected(&args.medium, "aether-ask", &shutdown).await?;
    if !aether.promises().crosses_processes {
        return Err(CommandError::Alone { missing: "answer" });
    }
    let vibrator = Vibrator::create(&args.name, &aether).await?;
    let question = Wave::builder(&args.channel)
        .kind(Kind::Query)
        .amplitude(args.amplitude)
        .json(&args.question)
        .build()?;
    let tracer = match args.trace {
        Some(time) => Some((Tracer::start(&aether, Followed::source(vibrator.source())).await?, time)),
        None => None,
    };
    let answered = tokio::select! {
        answered = vibrator.ask_within(question, args.timeout) => answered.map(Some),
        () = shutdown.cancelled() => Ok(None),
    };
    if let Some((tracer, time)) = tracer {
        tracer.end_after(time, &shutdown).await?;
    }
    aether_service::close(&aether).await;
    let Some(answer) = answered? else {
        return Err(CommandError::Interrupted { before: "an answer arrived" });
    };
    let payload = Payload::of(&answer).to_string();
    let mut output = Output::stdout();
    // Programs get the raw answer. On a terminal control characters are escaped.
    let shown = if output.is_terminal() { printable(&payload, usize::MAX) } else { payload };
    Ok(output.bytes(format!("{shown}\n").as_bytes())?)
}
