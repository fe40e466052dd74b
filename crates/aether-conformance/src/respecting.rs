//! Line 12, continued: floors that are advertised and respected.

use super::report::{Checked, holds, same};
use super::stage::{Stage, listener, number, vibrator};
use aether_core::{EmitError, InboxOptions, Kind, Vibrator, Wave, WhenFull};

super::case::cases! {
    12 Nothing waves_below_every_floor_are_stopped_at_their_source,
    12 Nothing waves_that_another_receiver_hears_are_not_stopped,
    12 Nothing a_receiver_from_before_the_sender_counts_too,
    12 Nothing a_departed_receiver_stops_nothing,
}

fn wave(channel: &str, amplitude: f32, number: u64) -> Checked<Wave> {
    Ok(Wave::builder(channel).kind(Kind::Command).amplitude(amplitude).text(number.to_string()).build()?)
}

/// An overloaded receiver at one end; at the other the cause of the overload, and a sender that respects its floor.
struct Overload {
    narrow: Vibrator,
    flood: Vibrator,
    sender: Vibrator,
    /// Where the sender emits.
    channel: &'static str,
    /// Weak waves emitted by the sender, and the number of them that were stopped.
    emitted: u64,
    stopped: u64,
}

impl Overload {
    async fn new(stage: &Stage) -> Checked<Self> {
        let options = InboxOptions::default().max_waves(8).when_full(WhenFull::Shed);
        let narrow = Vibrator::builder("narrow").inbox(options).create(&stage.there).await?;
        narrow.resonate_on("jobs.*").await?;
        let flood = vibrator("flood", &stage.here).await?;
        let sender = Vibrator::builder("sender").respect_floor().create(&stage.here).await?;
        Ok(Self { narrow, flood, sender, channel: "jobs.a", emitted: 0, stopped: 0 })
    }

    /// Keeps the receiver overloaded through a channel of its own, and emits weak waves until one of them is stopped or
    /// passes, as requested.
    async fn until(&mut self, stage: &Stage, stops: bool) -> Checked {
        let what = if stops { "a weak wave to be stopped" } else { "a weak wave to be pass" };
        loop {
            for count in 0..20 {
                self.flood.emit(wave("jobs.flood", 0.5, count)?).await?;
            }
            stage.flush(&stage.here).await?;
            if self.weak().await? == stops {
                return Ok(());
            }
            // Lets the advertising task run if nothing else here yields.
            stage.within(what, tokio::task::yield_now()).await?;
        }
    }

    /// Emits a weak wave and returns whether it was stopped.
    async fn weak(&mut self) -> Checked<bool> {
        match self.sender.emit(wave(self.channel, 0.1, self.emitted)?).await {
            Ok(_) => {
                self.emitted += 1;
                Ok(false)
            }
            Err(EmitError::BelowFloor { wave, floor }) => {
                same("the wave that was handed back", self.emitted, number(&wave)?)?;
                holds("a floor above the wave", floor.as_f32() > 0.1, floor)?;
                self.stopped += 1;
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Checks the counts once everything has arrived.
    fn adds_up(&self, stage: &Stage) -> Checked {
        let account = self.sender.account();
        same(
            "emitted and stopped",
            (self.emitted, self.stopped),
            (account.numbered, account.shed_at_source),
        )?;
        same("stopped at this end", self.stopped, stage.here.status().shed_at_source)?;
        holds("an account that adds up", self.narrow.ledger().adds_up(), self.narrow.ledger())
    }
}

async fn waves_below_every_floor_are_stopped_at_their_source(stage: &Stage) -> Checked {
    let mut overload = Overload::new(stage).await?;
    overload.until(stage, true).await?;
    let strong = overload.sender.emit(wave("jobs.a", 1.0, 7)?).await?;
    same("the number of the next wave", overload.emitted + 1, strong.sequence)?;
    overload.emitted += 1;
    let heard = loop {
        let heard = stage.next(&mut overload.narrow, "the strong wave").await?;
        if heard.source() == overload.sender.source() && heard.amplitude().as_f32() > 0.9 {
            break heard;
        }
    };
    same("the strong wave", 7, number(&heard)?)?;
    overload.adds_up(stage)
}

async fn waves_that_another_receiver_hears_are_not_stopped(stage: &Stage) -> Checked {
    let mut overload = Overload::new(stage).await?;
    overload.until(stage, true).await?;
    let mut other = listener("other", &stage.there, "jobs.a").await?;
    overload.until(stage, false).await?;
    // The second receiver is known now, however overloaded the other one is.
    for _ in 0..100 {
        overload.flood.emit(wave("jobs.flood", 0.5, 0)?).await?;
        holds("a weak wave that passes", !overload.weak().await?, overload.stopped)?;
    }
    let last = overload.emitted - 1;
    while {
        let heard = stage.next(&mut other, "the last weak wave").await?;
        heard.source() != overload.sender.source() || number(&heard)? != last
    } {}
    overload.adds_up(stage)
}

async fn a_receiver_from_before_the_sender_counts_too(stage: &Stage) -> Checked {
    let other = listener("other", &stage.there, "jobs.a").await?;
    let mut overload = Overload::new(stage).await?;
    // The wave that only the overloaded one receives is stopped, so its floor is known and the roll was called.
    overload.channel = "jobs.b";
    overload.until(stage, true).await?;
    overload.channel = "jobs.a";
    for _ in 0..100 {
        overload.flood.emit(wave("jobs.flood", 0.5, 0)?).await?;
        holds("a weak wave that passes", !overload.weak().await?, overload.stopped)?;
    }
    drop(other);
    overload.until(stage, true).await?;
    overload.adds_up(stage)
}

async fn a_departed_receiver_stops_nothing(stage: &Stage) -> Checked {
    let mut overload = Overload::new(stage).await?;
    overload.until(stage, true).await?;
    overload.narrow.detune("jobs.*")?;
    overload.until(stage, false).await?;
    for _ in 0..100 {
        holds("a weak wave that passes", !overload.weak().await?, overload.stopped)?;
    }
    overload.adds_up(stage)
}
