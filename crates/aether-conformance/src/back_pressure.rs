//! Line 13: emitters wait for receivers that are slower, on whichever side of a network these are.

use std::time::Duration;

use super::report::{Checked, Failure, holds, same};
use super::stage::{Stage, number, numbered, vibrator};
use aether_core::{Aether, InboxOptions, Ledger, Vibrator, Wave, WhenFull};

use super::case::ledger;

super::case::cases! {
    13 BackPressure a_plain_loop_loses_nothing_at_a_slower_receiver,
    13 BackPressure a_member_of_a_group_makes_emitters_wait,
    13 BackPressure strong_waves_pass_those_that_wait,
    13 BackPressure a_stuck_receiver_delays_its_emitters_once,
    13 BackPressure other_channels_are_not_held,
    13 BackPressure a_receiver_that_goes_while_emitters_wait_holds_nobody,
}

/// Far longer than any receiver here is held up, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(3600);

async fn receiver(name: &str, stage: &Stage, waves: usize, patience: Duration) -> Checked<Vibrator> {
    let options = InboxOptions::default().max_waves(waves).when_full(WhenFull::Wait { patience });
    Ok(Vibrator::builder(name).inbox(options).create(&stage.there).await?)
}

/// An end whose outbox is soon full, and patient with a machine on which everything takes long.
async fn sending_end(stage: &Stage) -> Checked<Aether> {
    let when_full = WhenFull::Wait { patience: PATIENCE };
    stage.connect(InboxOptions::default().max_waves(8192).when_full(when_full)).await
}

async fn a_plain_loop_loses_nothing_at_a_slower_receiver(stage: &Stage) -> Checked {
    // Several times what an outbox, a network and the inbox hold.
    const WAVES: u64 = 30_000;
    let mut slow = receiver("slow", stage, 1024, PATIENCE).await?;
    slow.resonate_on("burst.*").await?;
    let end = sending_end(stage).await?;
    let emitter = vibrator("emitter", &end).await?;
    let emit = async {
        for count in 0..WAVES {
            emitter.emit(numbered("burst.a", count)?).await?;
        }
        Ok::<_, Failure>(())
    };
    let receive = async {
        for count in 0..WAVES {
            let wave = stage.next(&mut slow, format!("number {count}")).await?;
            same("the wave", count, number(&wave)?)?;
            if count.is_multiple_of(64) {
                // Slower than the emitter, which goes on meanwhile.
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    };
    tokio::try_join!(emit, receive)?;
    same("the account", ledger!(Ledger::default(); offered: WAVES, delivered: WAVES), slow.ledger())?;
    stage.flush(&end).await?;
    same("waves that were shed before they left", 0, end.status().outbox.lost())
}

async fn a_member_of_a_group_makes_emitters_wait(stage: &Stage) -> Checked {
    const WAVES: u64 = 20_000;
    let mut member = receiver("member", stage, 256, PATIENCE).await?;
    member.resonate_in_group("work.*", "group").await?;
    let end = sending_end(stage).await?;
    let emitter = vibrator("emitter", &end).await?;
    let emit = async {
        for count in 0..WAVES {
            emitter.emit(numbered("work.a", count)?).await?;
        }
        Ok::<_, Failure>(())
    };
    let receive = async {
        for count in 0..WAVES {
            let wave = stage.next(&mut member, format!("number {count}")).await?;
            same("the wave", count, number(&wave)?)?;
        }
        Ok(())
    };
    tokio::try_join!(emit, receive)?;
    same("the account", ledger!(Ledger::default(); offered: WAVES, delivered: WAVES), member.ledger())
}

async fn strong_waves_pass_those_that_wait(stage: &Stage) -> Checked {
    const WEAK: u64 = 60_000;
    const BEFORE: u64 = 2_000;
    let mut ear = receiver("ear", stage, 256, PATIENCE).await?;
    ear.resonate_on("mixed").await?;
    let end = sending_end(stage).await?;
    let (weak, strong) = (vibrator("weak", &end).await?, vibrator("strong", &end).await?);
    let emit = async {
        for count in 0..WEAK {
            weak.emit(Wave::builder("mixed").amplitude(0.2).text(count.to_string()).build()?).await?;
        }
        Ok::<_, Failure>(())
    };
    let receive = async {
        let mut heard_before = None;
        for count in 0..=WEAK {
            if count == BEFORE {
                strong.emit(Wave::builder("mixed").amplitude(1.0).text("0").build()?).await?;
            }
            let wave = stage.next(&mut ear, format!("wave {count}")).await?;
            if wave.source().name() == "strong" {
                heard_before = Some(count);
            }
        }
        let before = heard_before.ok_or_else(|| Failure::new("the strong wave", "weak ones only"))?;
        holds("a strong wave that passes most of the weak", before < WEAK / 2, before)
    };
    tokio::try_join!(emit, receive)?;
    same("waves that were lost", 0, ear.ledger().lost())
}

async fn a_stuck_receiver_delays_its_emitters_once(stage: &Stage) -> Checked {
    const WAVES: u64 = 10_000;
    // Were every emit, or every message, to wait that long, the case would take many minutes.
    let stuck = receiver("stuck", stage, 16, Duration::from_secs(1)).await?;
    stuck.resonate_on("stuck").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    let emit = async {
        for count in 0..WAVES {
            emitter.emit(numbered("stuck", count)?).await?;
        }
        Ok::<_, Failure>(())
    };
    stage.within("all waves to be taken", emit).await??;
    stage.flush(&stage.here).await?;
    same("waves that were shed before they left", 0, stage.here.status().outbox.lost())?;
    holds("an account that adds up", stuck.ledger().adds_up(), stuck.ledger())
}

async fn other_channels_are_not_held(stage: &Stage) -> Checked {
    const WAVES: u64 = 1_000;
    // Nobody receives there for longer than the case takes.
    let full = receiver("full", stage, 64, Duration::from_secs(3600)).await?;
    full.resonate_on("held.*").await?;
    let mut free = receiver("free", stage, 64, PATIENCE).await?;
    free.resonate_on("free.*").await?;
    let (held, other) = (vibrator("held", &stage.here).await?, vibrator("other", &stage.here).await?);
    let emit_held = async {
        // Less than an outbox holds.
        for count in 0..20_000 {
            held.emit(numbered("held.a", count)?).await?;
        }
        std::future::pending::<Checked>().await
    };
    let emit_other = async {
        for count in 0..WAVES {
            other.emit(numbered("free.a", count)?).await?;
            let wave = stage.next(&mut free, format!("number {count} on the other channel")).await?;
            same("the wave", count, number(&wave)?)?;
        }
        Ok::<_, Failure>(())
    };
    tokio::select! {
        emitted = emit_held => emitted,
        heard = emit_other => heard,
    }?;
    same("waves that were lost", 0, free.ledger().lost() + stage.here.status().outbox.lost())
}

async fn a_receiver_that_goes_while_emitters_wait_holds_nobody(stage: &Stage) -> Checked {
    const WAVES: u64 = 20_000;
    let mut goes = receiver("goes", stage, 64, Duration::from_secs(3600)).await?;
    goes.resonate_on("held.*").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    let emit = async {
        for count in 0..WAVES {
            emitter.emit(numbered("held.a", count)?).await?;
        }
        Ok::<_, Failure>(())
    };
    let go = async {
        stage.next(&mut goes, "a wave").await?;
        drop(goes);
        Ok(())
    };
    stage.within("all waves to be taken", async { tokio::try_join!(emit, go) }).await??;
    stage.flush(&stage.here).await?;
    same("waves that were shed before they left", 0, stage.here.status().outbox.lost())
}
