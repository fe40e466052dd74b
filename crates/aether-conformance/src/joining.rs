//! Line 4: when a subscription starts and ends.

use std::sync::atomic::{AtomicU64, Ordering};

use super::report::{Checked, Failure, holds, same};
use super::stage::{Stage, listener, number, numbered, reached, vibrator};
use aether_core::wave::ChannelError;
use aether_core::{InboxOptions, Vibrator};

super::case::cases! {
    4 Nothing the_next_wave_after_a_join_arrives,
    4 Groups joining_twice_changes_nothing,
    4 Nothing detuning_ends_delivery,
    4 Nothing dropping_a_vibrator_ends_delivery,
    4 Nothing detuning_one_of_two_patterns_loses_and_repeats_nothing,
    4 Nothing detuning_and_joining_again_repeats_nothing,
    4 Nothing an_overlapping_pattern_does_not_deliver_for_a_detuned_one,
}

async fn the_next_wave_after_a_join_arrives(stage: &Stage) -> Checked {
    let (near, far) = (vibrator("near", &stage.there).await?, vibrator("far", &stage.here).await?);
    let mut kept = vibrator("kept", &stage.there).await?;
    for count in 0..150 {
        let channel = format!("join.{count}.x");
        // Caches the route before the join.
        far.emit(numbered(&*channel, 0)?).await?;
        let pattern = match count % 3 {
            0 => channel.clone(),
            1 => format!("join.{count}.>"),
            _ => format!("*.{count}.*"),
        };
        let mut fresh = vibrator("fresh", &stage.there).await?;
        if count % 2 == 0 || !stage.has_groups() {
            fresh.resonate_on(&*pattern).await?;
        } else {
            fresh.resonate_in_group(&*pattern, "group").await?;
        }
        far.emit(numbered(&*channel, 1)?).await?;
        same("the wave from the far end", 1, next_but_zero(stage, &mut fresh).await?)?;

        kept.resonate_on(&*pattern).await?;
        near.emit(numbered(&*channel, 2)?).await?;
        same(
            "the wave from the near end",
            2,
            number(&stage.next(&mut fresh, "the wave from the near end").await?)?,
        )?;
        // A wave from before the join may arrive; the one from after it must.
        while next_but_zero(stage, &mut kept).await? != 2 {}
    }
    Ok(())
}

/// The next number but zero: that wave was emitted before the join and may or may not arrive.
async fn next_but_zero(stage: &Stage, ear: &mut Vibrator) -> Checked<u64> {
    loop {
        match number(&stage.next(ear, "the wave after the join").await?)? {
            0 => {}
            number => return Ok(number),
        }
    }
}

async fn joining_twice_changes_nothing(stage: &Stage) -> Checked {
    let mut ear = vibrator("ear", &stage.there).await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    for _ in 0..3 {
        ear.resonate_on("twice.*").await?;
        ear.resonate_in_group("twice.>", "group").await?;
    }
    // Once ungrouped and once as a member of a group.
    for _ in 0..2 {
        emitter.emit(numbered("twice.a", 0)?).await?;
        stage.flush(&stage.here).await?;
    }
    stage.hear(&mut ear, &["twice.a"; 4]).await?;
    same("waves offered", 4, ear.ledger().offered)?;
    ear.detune("twice.>")?;
    ear.detune("never.heard")?;
    let mut witness = listener("witness", &stage.there, "twice.*").await?;
    for _ in 0..2 {
        emitter.emit(numbered("twice.a", 0)?).await?;
    }
    stage.hear(&mut witness, &["twice.a"; 2]).await?;
    stage.hear(&mut ear, &["twice.a"; 2]).await?;
    same("waves offered", 6, ear.ledger().offered)
}

async fn detuning_ends_delivery(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.there, "on").await?;
    off(stage, &ear).await?;
    let copies = if stage.has_groups() { 2 } else { 1 };
    // Receives, by the same connection, what the other one has unsubscribed from.
    let mut witness = listener("witness", &stage.there, "off").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    let mut offered = 0;
    for count in 0..50 {
        emitter.emit(numbered("off", count)?).await?;
        stage.hear(&mut ear, &["off"; 2][..copies]).await?;
        ear.detune("off")?;
        emitter.emit(numbered("off", count)?).await?;
        stage.flush(&stage.here).await?;
        emitter.emit(numbered("on", count)?).await?;
        stage.hear(&mut witness, &["off"; 2]).await?;
        stage.hear(&mut ear, &["on"]).await?;
        offered += 1 + copies as u64;
        same("waves that reached it", offered, reached(&ear))?;
        off(stage, &ear).await?;
    }
    Ok(())
}

/// Joins alone, and as a member of a group where there are groups.
async fn off(stage: &Stage, ear: &Vibrator) -> Checked {
    ear.resonate_on("off").await?;
    if stage.has_groups() {
        ear.resonate_in_group("off", "group").await?;
    }
    Ok(())
}

async fn dropping_a_vibrator_ends_delivery(stage: &Stage) -> Checked {
    let mut witness = listener("witness", &stage.there, "gone.*").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    for count in 0..50 {
        let mut ear = listener("ear", &stage.there, "gone.*").await?;
        let survivor = ear.emitter();
        emitter.emit(numbered("gone.a", count)?).await?;
        stage.hear(&mut ear, &["gone.a"]).await?;
        // Both were offered the wave before the sum is read.
        stage.hear(&mut witness, &["gone.a"]).await?;
        drop(ear);
        let before = stage.there.ledger();
        emitter.emit(numbered("gone.a", count)?).await?;
        stage.flush(&stage.here).await?;
        emitter.emit(numbered("gone.b", count)?).await?;
        stage.hear(&mut witness, &["gone.a", "gone.b"]).await?;
        let after = stage.there.ledger();
        same("waves offered to the witness alone", before.offered + 2, after.offered)?;
        holds("an account that adds up", after.adds_up(), after)?;
        // Its sending half keeps working.
        survivor.emit(numbered("gone.c", count)?).await?;
        stage.hear(&mut witness, &["gone.c"]).await?;
    }
    Ok(())
}

async fn detuning_one_of_two_patterns_loses_and_repeats_nothing(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.there, "both.>").await?;
    let emitter = vibrator("emitter", &stage.here).await?.emitter();
    let emit = async {
        for count in 0..3000 {
            emitter.emit(numbered("both.a", count)?).await?;
            if count % 16 == 0 {
                // Lets the two sides alternate on a runtime of one thread.
                tokio::task::yield_now().await;
            }
        }
        Ok::<_, Failure>(())
    };
    let receive = async {
        for count in 0..3000 {
            // At any time one of the two patterns matches; the older one alternates.
            match count % 60 {
                0 => ear.resonate_on("both.*").await?,
                15 => ear.detune("both.>")?,
                30 => ear.resonate_on("both.>").await?,
                45 => ear.detune("both.*")?,
                _ => {}
            }
            let wave = stage.next(&mut ear, format!("number {count}")).await?;
            same("the next wave, though patterns come and go", count, number(&wave)?)?;
        }
        Ok(())
    };
    tokio::try_join!(emit, receive)?;
    same("waves offered", 3000, ear.ledger().offered)
}

async fn detuning_and_joining_again_repeats_nothing(stage: &Stage) -> Checked {
    let mut ear = vibrator("ear", &stage.there).await?;
    let mut group = vibrator("group", &stage.there).await?;
    // A short path from the emitter to the receivers: waves emitted before a join are soon received.
    let end = stage.connect(InboxOptions::default().max_waves(16)).await?;
    let emitter = vibrator("emitter", &end).await?.emitter();
    let last = AtomicU64::new(0);
    let emit = async {
        loop {
            for _ in 0..16 {
                emitter.emit(numbered("again", last.fetch_add(1, Ordering::Relaxed) + 1)?).await?;
                tokio::task::yield_now().await;
            }
            // Else the receivers work off, after each join, what a faster emitter has sent before it.
            stage.flush(&end).await?;
        }
    };
    let receive = async {
        let mut heard = [0, 0];
        for _ in 0..100 {
            ear.resonate_on("again").await?;
            stage.join_group(&group, "again").await?;
            let joined = last.load(Ordering::Relaxed);
            for (ear, heard) in [&mut ear, &mut group].into_iter().zip(&mut heard) {
                // Possibly some that were queued before it left, and then one from after the join.
                while *heard <= joined {
                    let number = number(&stage.next(ear, "a wave after the join").await?)?;
                    holds("each wave at most once, in order", number > *heard, (*heard, number))?;
                    *heard = number;
                }
                ear.detune("again")?;
            }
        }
        Ok::<_, Failure>(())
    };
    tokio::select! {
        result = receive => result,
        emitted = emit => emitted,
    }
}

async fn an_overlapping_pattern_does_not_deliver_for_a_detuned_one(stage: &Stage) -> Checked {
    let mut ear = vibrator("ear", &stage.there).await?;
    let mut witness = listener("witness", &stage.there, "left.>").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    let all = ["left.a", "left.b", "left.a.c"];
    type LeaveFn = fn(&Vibrator) -> Result<(), ChannelError>;
    // The action, and the channels received from then on.
    let steps: [(LeaveFn, &[&str], &[&str]); 6] = [
        (|_| Ok(()), &["left.>", "left.*", "*.a"], &all),
        (|ear| ear.detune("left.>"), &[], &["left.a", "left.b"]),
        (|ear| ear.detune("left.*"), &[], &["left.a"]),
        (|_| Ok(()), &["left.>"], &all),
        (|ear| ear.detune("*.a"), &[], &all),
        (|ear| ear.detune("left.>"), &["end"], &[]),
    ];
    let mut offered = 0;
    for (step, (leave, join, heard)) in steps.into_iter().enumerate() {
        leave(&ear)?;
        for pattern in join {
            ear.resonate_on(*pattern).await?;
        }
        // Two rounds: wrong deliveries of the first round arrive before the right ones of the second.
        for _ in 0..2 {
            for channel in all {
                emitter.emit(numbered(channel, step as u64)?).await?;
            }
            stage.flush(&stage.here).await?;
        }
        stage.hear(&mut witness, &[all, all].concat()).await?;
        stage.hear(&mut ear, &[heard, heard].concat()).await?;
        offered += 2 * heard.len() as u64;
        same("waves offered", offered, ear.ledger().offered)?;
    }
    emitter.emit(numbered("end", 0)?).await?;
    stage.hear(&mut ear, &["end"]).await?;
    same("waves offered", offered + 1, ear.ledger().offered)
}
