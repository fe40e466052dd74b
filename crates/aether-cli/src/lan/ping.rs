//! `aether lan ping`: round trips to peers and their clocks, measured by messages of the medium.

use std::time::Duration;

use aether::lan::{LanPeer, LanPong, LanView};
use aether_service::{CancellationToken, MediumArgs};
use futures_util::future::join_all;
use serde_json::json;
use tokio::time::MissedTickBehavior;

use super::joined::{clock, id, joined, met, micros, millis, safe};
use crate::error::{CommandError, LanCommandError};
use crate::output::{Output, stderr_line};
use crate::values;

/// Measure round trips and clocks of everybody on the local network, or of one peer
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether lan ping                      everybody, ten times
  aether lan ping pi-2 --count 100     one machine
  aether lan ping --json | jq .p99_micros

Round trips are measured with messages through both processes, past their
queues of waves. The fastest one gives the clock, to within half of it.
Exit code 1: the peer is unknown, nobody is there, or nobody answered.")]
pub(crate) struct PingArgs {
    /// A name, a machine or an id, as `aether lan peers` prints them; everybody without it
    peer: Option<String>,

    /// The number of pings to each
    #[arg(short = 'n', long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=100_000), allow_negative_numbers = true)]
    count: u32,

    /// The time between two pings to one peer
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = values::time)]
    interval: Duration,

    /// A ping that is not answered within this time is lost
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = values::time)]
    timeout: Duration,

    /// How long to wait for the peer, or for anybody, to be found
    #[arg(long = "for", value_name = "TIME", default_value = "2s", value_parser = values::time)]
    time: Duration,

    /// Print one JSON object per line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    medium: MediumArgs,
}

pub(super) async fn ping(args: PingArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    let (aether, view) = joined(&args.medium, "aether-lan-ping", &shutdown).await?;
    let done = ping_peers(&view, &args, &shutdown).await;
    aether_service::close(&aether).await;
    done
}

async fn ping_peers(
    view: &LanView,
    args: &PingArgs,
    shutdown: &CancellationToken,
) -> Result<(), CommandError> {
    let is_meant = |peer: &LanPeer| args.peer.as_deref().is_none_or(|name| is_called(peer, name));
    let meeting = met(view, args.time, |peers| peers.iter().any(is_meant));
    let Some(mut peers) = shutdown.run_until_cancelled(meeting).await else {
        return Err(CommandError::Interrupted { before: "anybody was found" });
    };
    let there = peers.len();
    peers.retain(is_meant);
    if peers.is_empty() {
        let within = args.time;
        return Err(match &args.peer {
            Some(name) => LanCommandError::UnknownPeer { name: name.clone(), there }.into(),
            None => LanCommandError::Nobody { within }.into(),
        });
    }
    stderr_line(format_args!("pinging {} peers", peers.len()));
    let series = join_all(peers.iter().map(|peer| ping_one(view, peer, args, shutdown))).await;
    let mut output = Output::stdout();
    for (peer, series) in peers.iter().zip(&series) {
        if args.json {
            output.line(series.record(peer))?;
        } else {
            output.line(series.line(peer))?;
        }
    }
    if series.iter().all(|series| series.pongs.is_empty()) {
        let pings = series.iter().map(|series| series.lost).sum();
        return Err(LanCommandError::Unanswered { pings }.into());
    }
    Ok(())
}

/// Whether a peer is meant by a name, a machine, both or an id.
fn is_called(peer: &LanPeer, name: &str) -> bool {
    let LanPeer { name: own, machine, .. } = peer;
    own == name || machine == name || id(peer) == name || format!("{own} on {machine}") == name
}

/// The pings to one peer.
#[derive(Debug, Default)]
struct Series {
    /// The fastest first.
    pongs: Vec<LanPong>,
    lost: u64,
}

async fn ping_one(view: &LanView, peer: &LanPeer, args: &PingArgs, shutdown: &CancellationToken) -> Series {
    let mut series = Series::default();
    let mut turns = tokio::time::interval(args.interval);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..args.count {
        let ping = async {
            turns.tick().await;
            view.ping(peer.node, args.timeout).await
        };
        // Measurements from before an interruption are printed.
        match shutdown.run_until_cancelled(ping).await {
            Some(Ok(pong)) => series.pongs.push(pong),
            Some(Err(_)) => series.lost += 1,
            None => break,
        }
    }
    series.pongs.sort_by_key(|pong| pong.round_trip);
    series
}

impl Series {
    /// The round trip that this part of the answers did not exceed (nearest rank).
    fn quantile(&self, part: f64) -> Option<Duration> {
        let rank = (self.pongs.len() as f64 * part).ceil() as usize;
        self.pongs.get(rank.saturating_sub(1)).map(|pong| pong.round_trip)
    }

    fn line(&self, peer: &LanPeer) -> String {
        let Self { pongs, lost } = self;
        let who = format!("{} on {} ({})", safe(&peer.name), safe(&peer.machine), id(peer));
        let counts = format!("{} answered, {lost} lost", pongs.len());
        let quantile = |part| self.quantile(part).map(|time| millis(time).to_string());
        match (pongs.first(), quantile(0.0), quantile(0.5), quantile(0.99), quantile(1.0)) {
            (Some(first), Some(min), Some(median), Some(p99), Some(max)) => format!(
                "{who}: {counts}; round trip min {min}, median {median}, p99 {p99}, max {max}; clock {} to within {}",
                clock(first.clock_ahead_micros),
                millis(first.round_trip / 2),
            ),
            _ => format!("{who}: {counts}"),
        }
    }

    fn record(&self, peer: &LanPeer) -> serde_json::Value {
        let Self { pongs, lost } = self;
        let quantile = |part| self.quantile(part).map(micros);
        json!({
            "name": peer.name,
            "machine": peer.machine,
            "id": id(peer),
            "answered": pongs.len(),
            "lost": lost,
            "min_micros": quantile(0.0),
            "median_micros": quantile(0.5),
            "p99_micros": quantile(0.99),
            "max_micros": quantile(1.0),
            "clock_ahead_micros": pongs.first().map(|pong| pong.clock_ahead_micros),
            "clock_within_micros": pongs.first().map(|pong| micros(pong.round_trip / 2)),
        })
    }
}
