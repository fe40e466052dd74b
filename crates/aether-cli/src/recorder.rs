//! `aether record`: records the traffic of a pattern to a file, for the detectors.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use aether::physics::RecordingWriter;
use aether_core::presence::Roster;
use aether_core::{Aether, InboxOptions, Pattern, ServeOrder, Vibrator, WhenFull};
use aether_service::{CancellationToken, MediumArgs, Received};
use tokio::time::MissedTickBehavior;

use crate::connect::connected;
use crate::error::CommandError;
use crate::output::stderr_line;
use crate::values;

/// The interval at which the file is flushed and losses are noted.
const EVERY: Duration = Duration::from_secs(1);
/// The recorder wakes at least every second. If it was away for longer than this, its process did not run.
const PAUSED: Duration = Duration::from_millis(1500);
/// The room for a burst while the file is slow. Memory is allocated as waves arrive.
const MOST_WAVES: usize = 1 << 20;
const MOST_BYTES: usize = 512 << 20;

/// Record the traffic of a pattern to a file, without payloads; `aether physics --replay` analyses it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether record today.rec                   everything, until Ctrl-C
  aether record orders.rec 'orders.>'       one token or more after orders.
  aether record short.rec --for 1m          one minute
  aether physics --replay today.rec         what the detectors find in it

The file holds channels, sources, keys, kinds, amplitudes, times and causes. Of a payload
it holds a hash that is useless outside of the file. It is compressed with gzip.

When it ends, it reports what it recorded and what it lost.
Exit code 1: waves were lost before they were recorded.")]
pub(crate) struct RecordArgs {
    /// The file; an existing one is replaced
    file: PathBuf,

    /// The pattern: * matches one token, > at the end one or more
    #[arg(default_value = ">")]
    pattern: Pattern,

    /// How long to record; without it, until Ctrl-C
    #[arg(long = "for", value_name = "TIME", value_parser = values::time)]
    time: Option<Duration>,

    /// End after this many waves
    #[arg(short = 'n', long, value_name = "N", value_parser = values::whole(1), allow_negative_numbers = true)]
    count: Option<u64>,

    #[command(flatten)]
    medium: MediumArgs,
}

pub(crate) async fn record(args: RecordArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    let aether = connected(&args.medium, "aether-record", &shutdown).await?;
    if !aether.promises().crosses_processes {
        return Err(CommandError::Alone { missing: "emit a wave" });
    }
    let failed = |source| CommandError::Record { path: args.file.clone(), source };
    let file = File::create(&args.file).map_err(failed)?;
    let inbox = InboxOptions::interactive()
        .order(ServeOrder::Arrival)
        .when_full(WhenFull::Shed)
        .max_waves(MOST_WAVES)
        .max_bytes(MOST_BYTES);
    let vibrator = Vibrator::builder("aether-record").inbox(inbox).observe().create(&aether).await?;
    let roster = aether.roster().await?;
    vibrator.resonate_on(&args.pattern).await?;
    let start = Instant::now();
    let writer = RecordingWriter::new(file, start, SystemTime::now()).map_err(failed)?;
    stderr_line(format_args!("recording {} to {}", args.pattern, args.file.display()));

    let mut recorder = Recorder {
        connects: aether.status().connects,
        aether: aether.clone(),
        vibrator,
        roster,
        writer,
        known: BTreeMap::new(),
        lost: (0, start),
        connected: true,
        awake: start,
        pauses: 0,
        outages: 0,
    };
    let most = args.count.unwrap_or(u64::MAX);
    let recorded = recorder.run(most, args.time, &shutdown).await.and_then(|()| recorder.account());
    let ended = recorder.end(start);
    aether_service::close(&aether).await;
    let lost = recorded.and(ended).map_err(failed)?;
    if lost > 0 { Err(CommandError::NotRecorded { missed: lost }) } else { Ok(()) }
}

/// Writes what a vibrator receives.
struct Recorder {
    aether: Aether,
    vibrator: Vibrator,
    roster: Roster,
    writer: RecordingWriter<File>,
    /// The subscriptions that are in the recording.
    known: BTreeMap<String, Vec<Pattern>>,
    /// The number of waves lost by the inbox, and when it was read.
    lost: (u64, Instant),
    connected: bool,
    connects: u64,
    /// When the recorder ran last.
    awake: Instant,
    pauses: u64,
    outages: u64,
}

impl Recorder {
    /// Records up to `most` waves. The file is written in place: a write of some bytes to the cache of the file system.
    async fn run(
        &mut self,
        most: u64,
        time: Option<Duration>,
        shutdown: &CancellationToken,
    ) -> io::Result<()> {
        let mut second = tokio::time::interval(EVERY);
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = async {
            match time {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(end);
        while self.writer.waves() < most {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = &mut end => return Ok(()),
                _ = second.tick() => {
                    self.note_pause()?;
                    self.account()?;
                    self.writer.flush()?;
                }
                () = self.roster.changed() => self.note_subscriptions()?,
                received = self.vibrator.receive() => {
                    let Some(wave) = received else { return Ok(()) };
                    let now = self.note_pause()?;
                    if !self.connected {
                        self.account()?;
                    }
                    self.writer.wave(&wave, now)?;
                }
            }
        }
        Ok(())
    }

    /// Notes a pause of this process, if there was one, and returns the time.
    fn note_pause(&mut self) -> io::Result<Instant> {
        let now = Instant::now();
        let away = now.saturating_duration_since(self.awake);
        self.awake = now;
        if away > PAUSED {
            self.pauses += 1;
            self.writer.paused(away, now)?;
        }
        Ok(now)
    }

    fn note_subscriptions(&mut self) -> io::Result<()> {
        let now = self.note_pause()?;
        let heard = self.roster.heard_by_name();
        for (vibrator, patterns) in &heard {
            if self.known.get(vibrator) != Some(patterns) {
                self.writer.tuned(vibrator, patterns, now)?;
            }
        }
        self.known = heard;
        Ok(())
    }

    /// Notes losses, and outages of the connection.
    fn account(&mut self) -> io::Result<()> {
        let (lost, now) = (self.vibrator.ledger().lost(), Instant::now());
        if lost > self.lost.0 {
            self.writer.lost(lost - self.lost.0, now.saturating_duration_since(self.lost.1), now)?;
        }
        self.lost = (lost, now);
        let status = self.aether.status();
        if self.connected && (!status.connected || status.connects != self.connects) {
            self.outages += 1;
            self.connected = false;
            self.writer.link(false, now)?;
        }
        if !self.connected && status.connected {
            self.connected = true;
            self.writer.link(true, now)?;
        }
        self.connects = status.connects;
        Ok(())
    }

    /// Finishes the file and reports the account. Returns the number of waves known to be lost.
    fn end(self, start: Instant) -> io::Result<u64> {
        let Self { vibrator, writer, pauses, outages, .. } = self;
        let waves = writer.waves();
        let bytes = writer.finish()?.metadata()?.len();
        let ledger = vibrator.ledger();
        let seconds = start.elapsed().as_secs_f64();
        let lost = ledger.lost();
        stderr_line(format_args!(
            "recorded {waves} waves in {seconds:.1} s: {bytes} bytes, {lost} waves lost"
        ));
        if lost > 0 || ledger.queued > 0 {
            stderr_line(Received::of(ledger));
        }
        if pauses > 0 {
            stderr_line(format_args!("the recorder did not run {pauses} times; the recording notes when"));
        }
        if outages > 0 {
            stderr_line(format_args!("the connection broke {outages} times; the recording notes when"));
        }
        Ok(lost)
    }
}
