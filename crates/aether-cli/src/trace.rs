//! `aether trace`: follows a request on the bus and prints its waves as a tree.
//!
//! `aether emit --trace` and `aether ask --trace` use the [`Tracer`], too.

mod tree;

use std::time::Duration;

use aether_core::{Aether, InboxOptions, ServeOrder, Vibrator, WaveId};
use aether_service::{CancellationToken, MediumArgs, Received};
use tokio::task::JoinHandle;

pub(crate) use tree::Followed;
use tree::Tree;

use crate::connect::connected;
use crate::error::CommandError;
use crate::output::{Output, stderr_line};
use crate::values;

/// Follow a request: print the tree of the waves that one wave led to
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether trace alpha@31e26ac9769592bd/17           until Ctrl-C
  aether trace alpha@31e26ac9769592bd/17 --for 10s
  aether trace alpha@31e26ac9769592bd/17 --json | jq .outcome
  aether emit orders.created '{\"sku\":\"lamp\"}' --trace 2s
  aether ask inventory.reserve '{\"order\":\"17\",\"sku\":\"lamp\",\"quantity\":2}' --trace 2s

Give the id of any wave of the request, as logs, `aether emit` and
`aether listen --ids` print it. The tree is printed at the end.

It sees what passes while it listens, and nothing from before. Failures are
shown as far as they are answers; an echo goes to its source only.
Exit code 1: no wave of the request was seen.")]
pub(crate) struct TraceArgs {
    /// The id of a wave of the request: name@instance/sequence
    #[arg(value_name = "ID")]
    id: WaveId,

    /// How long to listen [default: until Ctrl-C]
    #[arg(long = "for", value_name = "TIME", value_parser = values::time)]
    time: Option<Duration>,

    /// Print one JSON object per wave, in the order of the tree
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    medium: MediumArgs,
}

pub(crate) async fn trace(args: TraceArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    let aether = connected(&args.medium, "aether-trace", &shutdown).await?;
    if !aether.promises().crosses_processes {
        return Err(CommandError::Alone { missing: "emit a wave" });
    }
    let tracer = Tracer::start(&aether, Followed::wave(args.id.clone())).await?;
    stderr_line(format_args!("following {}", args.id));
    linger(args.time, &shutdown).await;
    // First, because it delivers what has arrived.
    aether_service::close(&aether).await;
    let tree = tracer.end().await?;
    if tree.is_empty() {
        return Err(CommandError::NotSeen { id: args.id });
    }
    let mut output = Output::stdout();
    if args.json {
        for line in tree.to_json() {
            output.bytes(format!("{line}\n").as_bytes())?;
        }
    } else {
        for line in tree.to_lines() {
            output.line(line)?;
        }
    }
    Ok(())
}

/// Waits for a time, or without one until `shutdown` is cancelled.
pub(crate) async fn linger(time: Option<Duration>, shutdown: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(time.unwrap_or_default()), if time.is_some() => {}
        () = shutdown.cancelled() => {}
    }
}

/// The room for a burst. The tracer delays no emitter, so it needs some of its own. Memory is allocated as waves arrive.
const QUEUED_WAVES: usize = 1 << 20;
const QUEUED_BYTES: usize = 512 << 20;

/// Observes all waves in a task of its own, and keeps the waves of a request.
pub(crate) struct Tracer {
    ending: CancellationToken,
    task: JoinHandle<(Tree, Vibrator)>,
}

impl Tracer {
    /// Observes from now on.
    pub(crate) async fn start(aether: &Aether, followed: Followed) -> Result<Self, CommandError> {
        let inbox = InboxOptions::interactive().order(ServeOrder::Arrival);
        let inbox = inbox.max_waves(QUEUED_WAVES).max_bytes(QUEUED_BYTES);
        let mut vibrator = Vibrator::builder("aether-trace").inbox(inbox).observe().create(aether).await?;
        vibrator.resonate_on(">").await?;
        let (ending, mut tree) = (CancellationToken::new(), Tree::new(followed));
        let token = ending.clone();
        let task = tokio::spawn(async move {
            while let Some(Some(wave)) = token.run_until_cancelled(vibrator.receive()).await {
                tree.take(&wave);
            }
            while let Ok(wave) = vibrator.try_receive() {
                tree.take(&wave);
            }
            (tree, vibrator)
        });
        Ok(Self { ending, task })
    }

    /// Ends the observation, and reports on stderr which waves may be missing.
    pub(crate) async fn end(self) -> Result<Tree, CommandError> {
        self.ending.cancel();
        let (tree, vibrator) = self.task.await?;
        let received = Received::of(vibrator.ledger());
        if received.missed() > 0 {
            stderr_line(format_args!(
                "{} waves were not seen; the tree may lack some: {received}",
                received.missed()
            ));
        }
        if tree.left_out() > 0 {
            stderr_line(format_args!(
                "{} waves of the request are left out: it has too many",
                tree.left_out()
            ));
        }
        Ok(tree)
    }

    /// Ends the observation after a time, and prints the tree to stderr.
    pub(crate) async fn end_after(
        self,
        time: Duration,
        shutdown: &CancellationToken,
    ) -> Result<(), CommandError> {
        linger(Some(time), shutdown).await;
        self.end().await?.to_lines().into_iter().for_each(stderr_line);
        Ok(())
    }
}
