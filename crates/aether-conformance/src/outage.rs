//! Line 9: network outages.

use std::time::Duration;

use aether_core::clock::Instant;
use tokio::sync::mpsc;

use super::report::{Checked, Failure, holds, same};
use super::stage::{Stage, listener, number, numbered, reached, until, vibrator};
use aether_core::{
    Aether, Amplitude, ConfirmError, EmitError, FlushError, InboxOptions, Vibrator, Wave, WhenFull,
};
use aether_paths::{PathState, paths};

super::case::cases! {
    9 Link subscriptions_are_restored_after_an_outage,
    9 HeldWaves waves_emitted_while_away_arrive,
    9 Link losses_on_the_way_are_counted,
    9 HeldWaves a_full_outbox_sheds_the_weakest_and_counts_them,
    9 Link a_join_begun_while_away_is_in_force_when_it_returns,
    9 Link a_member_that_leaves_while_away_is_gone_afterwards,
    9 HeldWaves closing_while_away_ends_and_counts_what_was_lost,
    14 HeldWaves a_wave_emitted_while_away_is_not_confirmed_and_still_arrives,
}

/// An end that checks whether it is connected by receiving its own wave.
struct Probe<'a> {
    end: &'a Aether,
    ear: Vibrator,
    channel: String,
}

/// Waits until all paths of an end stand: others may send by any of them.
async fn paths_stand(end: &Aether) {
    until(|| paths(end).iter().all(|path| path.state != PathState::Broken)).await;
}

impl<'a> Probe<'a> {
    /// Joins on all paths of the end, once they stand.
    async fn new(name: &str, end: &'a Aether) -> Checked<Self> {
        paths_stand(end).await;
        let channel = format!("probe.{name}");
        let ear = Vibrator::builder(name).hear_own(true).create(end).await?;
        ear.resonate_on(&*channel).await?;
        Ok(Self { end, ear, channel })
    }

    /// Waits until all paths stand and a wave makes the round trip.
    async fn back(&mut self, stage: &Stage) -> Checked {
        stage.within("all paths to stand", paths_stand(self.end)).await?;
        self.ear.emit(numbered(&*self.channel, 0)?).await?;
        stage.hear(&mut self.ear, &[&self.channel]).await
    }
}

async fn subscriptions_are_restored_after_an_outage(stage: &Stage) -> Checked {
    let mut probes = [Probe::new("here", &stage.here).await?, Probe::new("there", &stage.there).await?];
    let mut ear = listener("ear", &stage.there, "back.*").await?;
    let mut member = vibrator("member", &stage.there).await?;
    stage.join_group(&member, "back.>").await?;
    let mut oracle = listener("oracle", &stage.there, "ask.back").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    for round in 0..3 {
        if round > 0 {
            stage.link()?.cut().await?;
            stage.link()?.mend().await?;
        }
        for probe in &mut probes {
            probe.back(stage).await?;
        }
        for end in [&stage.here, &stage.there] {
            let status = end.status();
            holds("a medium that is connected", status.connected, status)?;
            // Of several paths, the one that is back first carries what goes round.
            if end.medium().connection().is_some() && paths(end).is_empty() {
                same("connections made", round + 1, status.connects)?;
            }
        }
        for _ in 0..2 {
            emitter.emit(numbered("back.a", round)?).await?;
            stage.flush(&stage.here).await?;
        }
        stage.hear(&mut ear, &["back.a"; 2]).await?;
        stage.hear(&mut member, &["back.a"; 2]).await?;
        same("waves offered to a listener", 2 * (round + 1), ear.ledger().offered)?;
        same("waves offered to a group", 2 * (round + 1), member.ledger().offered)?;
        let question = numbered("ask.back", round)?;
        let ask = async { Ok::<_, Failure>(emitter.ask_within(question, Duration::from_secs(7200)).await?) };
        let reply = async {
            let question = stage.next(&mut oracle, "the question").await?;
            Ok(question.reply(&number(&question)?).await?)
        };
        let (answer, ()) = stage.within("the answer", async { tokio::try_join!(ask, reply) }).await??;
        same("the answer", round, answer.json()?)?;
    }
    Ok(())
}

async fn waves_emitted_while_away_arrive(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.here, "away").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    let (mut next, mut fastest) = (0, Duration::MAX);
    for _ in 0..2 {
        let began = Instant::now();
        emitter.emit(numbered("away", next)?).await?;
        same("the wave before", next, number(&stage.next(&mut ear, "the wave before").await?)?)?;
        fastest = fastest.min(began.elapsed());
        stage.flush(&stage.here).await?;
        stage.link()?.cut().await?;
        for count in next + 1..=next + 2000 {
            emitter.emit(numbered("away", count)?).await?;
        }
        let emitted = Instant::now();
        tokio::time::sleep(Duration::from_millis(100) + 2 * fastest).await;
        let waited = emitted.elapsed();
        stage.link()?.mend().await?;
        for count in next + 1..=next + 2000 {
            let wave = stage.next(&mut ear, format!("number {count} after the outage")).await?;
            same("the wave", count, number(&wave)?)?;
            // Less the error of estimating clock offsets from the fastest frame so far.
            let least = waited.saturating_sub(Duration::from_millis(20) + fastest);
            holds("an age of at least the outage", wave.age() >= least, (wave.age(), waited))?;
        }
        next += 2001;
    }
    stage.flush(&stage.here).await?;
    let outbox = stage.here.status().outbox;
    same("waves taken", next, outbox.offered)?;
    same("waves that left", next, outbox.delivered)?;
    same("waves received", next, ear.ledger().offered)
}

async fn a_full_outbox_sheds_the_weakest_and_counts_them(stage: &Stage) -> Checked {
    let (report, mut losses) = mpsc::unbounded_channel();
    let outbox = InboxOptions::default().max_waves(64).when_full(WhenFull::Shed).on_shed(
        move |wave: &Wave, _reason| {
            let _ = report.send(wave.clone());
        },
    );
    let end = stage.connect(outbox).await?;
    let mut ear = listener("ear", &end, "shed").await?;
    let emitter = vibrator("emitter", &end).await?;
    stage.flush(&end).await?;
    let before = end.status().outbox;
    stage.cut_off(&end).await?;

    let strong = Amplitude::new(0.9)?;
    let (mut emitted, mut emitted_strong) = (0_u64, 0_u64);
    let mut emit_some = async |count: u64| {
        for _ in 0..count {
            let is_strong = emitted % 50 == 17 && emitted_strong < 32;
            let amplitude = if is_strong { strong } else { Amplitude::NORMAL };
            let wave = Wave::builder("shed").amplitude(amplitude).text(emitted.to_string()).build()?;
            emitter.emit(wave).await?;
            emitted += 1;
            emitted_strong += u64::from(is_strong);
        }
        Ok::<_, Failure>(())
    };
    // Until it is full, and then far more than fit.
    while losses.is_empty() {
        emit_some(64).await?;
        tokio::task::yield_now().await;
    }
    emit_some(2000).await?;

    let account = end.status().outbox;
    holds("an account that adds up", account.adds_up(), account)?;
    same("waves taken", emitted, account.offered - before.offered)?;
    same("losses, all because the outbox was full", account.lost(), account.shed_full)?;
    holds("losses of most of the last 2000", account.shed_full >= 1900, account)?;
    stage.link()?.mend().await?;
    let mut lost = std::collections::BTreeSet::new();
    for _ in 0..account.shed_full {
        let wave = stage.within("a report of each loss", losses.recv()).await?;
        let wave = wave.ok_or_else(|| Failure::new("a loss", "the end of the reports"))?;
        same("the amplitude of a wave that was shed", Amplitude::NORMAL, wave.amplitude())?;
        lost.insert(number(&wave)?);
    }
    same("different waves that were reported", account.shed_full, lost.len() as u64)?;
    let mut arrived_strong = 0;
    for count in 0..emitted - account.shed_full {
        let wave = stage.next(&mut ear, format!("wave {count} of those that were not shed")).await?;
        holds("each wave either reported as lost or here, once", lost.insert(number(&wave)?), &wave)?;
        arrived_strong += u64::from(wave.amplitude() == strong);
    }
    same("strong waves that arrived", emitted_strong, arrived_strong)?;
    same("waves lost or here", emitted, lost.len() as u64)
}

async fn a_join_begun_while_away_is_in_force_when_it_returns(stage: &Stage) -> Checked {
    let mut probe = Probe::new("here", &stage.here).await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    let mut ear = vibrator("ear", &stage.here).await?;
    stage.link()?.cut().await?;
    let join = ear.resonate_on("joined");
    let mend = async { stage.link()?.mend().await.map_err(Failure::from) };
    let (joined, mended) = stage.within("the join to return", async { tokio::join!(join, mend) }).await?;
    mended?;
    if joined.is_err() {
        // A medium may refuse, but not forever.
        probe.back(stage).await?;
        ear.resonate_on("joined").await?;
    }
    emitter.emit(numbered("joined", 7)?).await?;
    same("the wave", 7, number(&stage.next(&mut ear, "the wave after the join").await?)?)
}

async fn a_member_that_leaves_while_away_is_gone_afterwards(stage: &Stage) -> Checked {
    let mut probe = Probe::new("here", &stage.here).await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    let (leaves, mut stays) = (vibrator("leaves", &stage.here).await?, vibrator("stays", &stage.here).await?);
    for member in [&leaves, &stays] {
        stage.join_group(member, "shift").await?;
    }
    stage.link()?.cut().await?;
    leaves.detune("shift")?;
    stage.link()?.mend().await?;
    probe.back(stage).await?;
    for count in 0..200 {
        emitter.emit(numbered("shift", count)?).await?;
    }
    for count in 0..200 {
        let wave = stage.next(&mut stays, format!("the last member to receive number {count}")).await?;
        same("the wave", count, number(&wave)?)?;
    }
    same("waves that reached the member that left", 0, reached(&leaves))
}

async fn closing_while_away_ends_and_counts_what_was_lost(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.here, "lost").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    emitter.emit(numbered("lost", 0)?).await?;
    stage.next(&mut ear, "the wave before").await?;
    stage.flush(&stage.here).await?;
    stage.link()?.cut().await?;
    for count in 1..=50 {
        emitter.emit(numbered("lost", count)?).await?;
    }
    match stage.within("the close to give up", stage.here.close()).await? {
        Err(FlushError::Unconfirmed { waves, .. }) => same("waves that were given up", 50, waves)?,
        other => return Err(Failure::new("Unconfirmed", format_args!("{other:?}"))),
    }
    let status = stage.here.status();
    same("waves taken", 51, status.outbox.offered)?;
    holds("an account that adds up", status.outbox.adds_up(), status)?;
    same("waves that wait", 0, status.outbox.queued)?;
    same("waves that were lost or never confirmed", 50, status.outbox.lost() + status.unconfirmed)?;
    let late = emitter.emit(numbered("lost", 51)?).await;
    holds("Closed", matches!(late, Err(EmitError::Closed { .. })), late)?;
    let end = stage.within("the end of all waves", ear.receive()).await?;
    holds("the end of all waves", end.is_none(), end)
}

async fn a_wave_emitted_while_away_is_not_confirmed_and_still_arrives(stage: &Stage) -> Checked {
    // On the connection of the emitter, so that it is subscribed again before the wave leaves.
    let mut ear = listener("ear", &stage.here, "sure").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    stage.link()?.cut().await?;
    let emitting = emitter.emit_confirmed(numbered("sure", 1)?);
    match stage.within("the emitter to give up", emitting).await? {
        Err(ConfirmError::Unconfirmed { id, .. }) => same("the number of the wave", 1, id.sequence)?,
        other => return Err(Failure::new("Unconfirmed", format_args!("{other:?}"))),
    }
    stage.link()?.mend().await?;
    same("the wave", 1, number(&stage.next(&mut ear, "the wave after the outage").await?)?)?;
    let emitting = emitter.emit_confirmed(numbered("sure", 2)?);
    stage.within("the confirmation", emitting).await??;
    Ok(())
}

/// Every accepted wave is delivered or known to be lost, even if the network fails halfway.
async fn losses_on_the_way_are_counted(stage: &Stage) -> Checked {
    let mut ears =
        [listener("ear", &stage.there, "lossy.*").await?, listener("wide", &stage.there, "lossy.>").await?];
    let emitter = vibrator("emitter", &stage.here).await?;
    let mut emitted = 0;
    for _ in 0..3 {
        for _ in 0..2000 {
            emitter.emit(numbered("lossy.a", emitted)?).await?;
            emitted += 1;
        }
        // Some have arrived, the others may be anywhere.
        stage.next(&mut ears[0], "the first waves").await?;
        stage.link()?.cut().await?;
        stage.link()?.mend().await?;
        for (name, end) in [("here", &stage.here), ("there", &stage.there)] {
            let probe = stage.within("the connections to be back", Probe::new(name, end)).await?;
            probe?.back(stage).await?;
        }
        // By another channel, which shows no gap in this one: its arrival means that everything before was processed.
        emitter.emit(numbered("lossy.b", emitted)?).await?;
        emitted += 1;
        for ear in &mut ears {
            while stage.next(ear, "the other channel").await?.channel().as_str() != "lossy.b" {}
        }
        let mut late = listener("late", &stage.there, "lossy.*").await?;
        // A loss is detected by the next wave.
        emitter.emit(numbered("lossy.a", emitted)?).await?;
        emitted += 1;
        for ear in &mut ears {
            while {
                let wave = stage.next(ear, format!("number {} after the outage", emitted - 1)).await?;
                number(&wave)? < emitted - 1
            } {}
            if !paths(&stage.there).is_empty() {
                // The next wave may have gone by another path. By the one that lost waves, their number comes when it
                // is back.
                let known = until(|| ear.ledger().offered >= emitted);
                stage.within("the losses to be known", known).await?;
            }
            let ledger = ear.ledger();
            same("waves that were received or are known to be lost", emitted, ledger.offered)?;
            // Waves that came by another path may be queued behind it.
            same("all others", emitted, ledger.delivered + ledger.lost_upstream + ledger.queued)?;
        }
        stage.next(&mut late, "what was emitted after it had joined").await?;
        let ledger = late.ledger();
        same("losses of one that joined after the outage", 0, ledger.lost_upstream)?;
        if paths(&stage.there).is_empty() {
            // Earlier ones may still come by another path.
            same("waves sent to it", 1, ledger.offered)?;
        }
    }
    Ok(())
}
