//! Line 7: a receiver that cannot keep up, and its ledger.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::mpsc;

use super::report::{Checked, Failure, holds, same};
use super::stage::{Stage, listener, number, numbered, vibrator};
use aether_core::{Floor, InboxOptions, Ledger, ShedReason, Vibrator, Wave, WhenFull};

use super::case::ledger;

super::case::cases! {
    7 Nothing a_slow_receiver_sheds_its_own_weakest_waves_and_counts_them,
    7 Nothing a_stuck_receiver_blocks_no_other,
    7 Nothing an_overload_of_weak_waves_sheds_no_strong_ones,
    7 Nothing waves_below_the_floor_are_shed_and_counted,
    7 Nothing waves_left_by_a_receiver_are_counted,
}

/// Few strong waves, so that the shed waves reveal the order of eviction.
fn amplitude_of(count: u64) -> f32 {
    match count {
        count if count % 250 == 7 => 1.0,
        count if count % 200 == 11 => 0.7,
        count if count % 3 == 0 => 0.05,
        _ => 0.5,
    }
}

async fn a_slow_receiver_sheds_its_own_weakest_waves_and_counts_them(stage: &Stage) -> Checked {
    const WAVES: u64 = 5000;
    const ROOM: u64 = 64;
    let (report, mut losses) = mpsc::unbounded_channel();
    let options = InboxOptions::default().max_waves(ROOM as usize).when_full(WhenFull::Shed).on_shed(
        move |wave: &Wave, reason| {
            let _ = report.send((wave.clone(), reason));
        },
    );
    let mut slow = Vibrator::builder("slow").inbox(options).create(&stage.there).await?;
    slow.resonate_on("load").await?;
    let mut fast = listener("fast", &stage.there, "load").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    let emit = async {
        for count in 0..WAVES {
            let wave = Wave::builder("load").amplitude(amplitude_of(count)).text(count.to_string());
            emitter.emit(wave.build()?).await?;
        }
        Ok::<_, Failure>(())
    };
    let receive = async {
        let mut missing: BTreeSet<u64> = (0..WAVES).collect();
        while !missing.is_empty() {
            let what = format!("the fast receiver to receive {} more waves", missing.len());
            let number = number(&stage.next(&mut fast, what).await?)?;
            holds("each wave once at the fast receiver", missing.remove(&number), number)?;
        }
        Ok(())
    };
    tokio::try_join!(emit, receive)?;
    let mut lost = Vec::new();
    for count in 0..WAVES - ROOM {
        let what = format!("the slow receiver to report loss {count} of {}", WAVES - ROOM);
        let loss = stage.within(what, losses.recv()).await?;
        let (wave, reason) = loss.ok_or_else(|| Failure::new("a loss", "the end of the reports"))?;
        same("the reason", ShedReason::Full, reason)?;
        lost.push(number(&wave)?);
    }
    let ledger = ledger!(Ledger::default(); offered: WAVES, shed_full: WAVES - ROOM, queued: ROOM);
    same("the account of the slow receiver", ledger, slow.ledger())?;

    // The oldest of the weakest were shed: the strongest remain and, of the weakest of them, the newest.
    let mut kept: Vec<u64> = (0..WAVES).collect();
    kept.sort_by(|a, b| amplitude_of(*b).total_cmp(&amplitude_of(*a)).then(b.cmp(a)));
    let weaker = kept.split_off(ROOM as usize);
    same(
        "the waves that were shed",
        weaker.into_iter().collect::<BTreeSet<_>>(),
        lost.into_iter().collect(),
    )?;
    kept.sort_by(|a, b| amplitude_of(*b).total_cmp(&amplitude_of(*a)).then(a.cmp(b)));
    for expected in kept {
        let wave = stage.next(&mut slow, format!("the slow receiver to receive number {expected}")).await?;
        same("the wave", expected, number(&wave)?)?;
    }
    let ledger = ledger!(Ledger::default(); offered: WAVES, shed_full: WAVES - ROOM, delivered: ROOM);
    same("the account of the slow receiver", ledger, slow.ledger())?;
    let ledger = ledger!(Ledger::default(); offered: WAVES, delivered: WAVES);
    same("the account of the fast receiver", ledger, fast.ledger())
}

async fn a_stuck_receiver_blocks_no_other(stage: &Stage) -> Checked {
    const WAVES: u64 = 2000;
    // If every emit waited that long, the case would take minutes.
    let patience = Duration::from_millis(100);
    let options = InboxOptions::default().max_waves(16).when_full(WhenFull::Wait { patience });
    let stuck = Vibrator::builder("stuck").inbox(options).create(&stage.there).await?;
    stuck.resonate_on("stuck").await?;
    let mut ear = listener("ear", &stage.there, "stuck").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    let emit = async {
        for count in 0..WAVES {
            emitter.emit(numbered("stuck", count)?).await?;
        }
        Ok::<_, Failure>(())
    };
    let receive = async {
        for count in 0..WAVES {
            let wave = stage.next(&mut ear, format!("number {count}")).await?;
            same("the wave", count, number(&wave)?)?;
        }
        Ok(())
    };
    stage.within("all waves to be taken", async { tokio::try_join!(emit, receive) }).await??;
    holds("an account that adds up", stuck.ledger().adds_up(), stuck.ledger())?;
    let sum = stage.there.ledger();
    holds("a sum of accounts that adds up", sum.adds_up(), sum)
}

async fn an_overload_of_weak_waves_sheds_no_strong_ones(stage: &Stage) -> Checked {
    const ROUNDS: u64 = 400;
    // Of fifteen offered waves the receiver takes five; three are strong.
    const OFFERED: [f32; 15] = [0.1, 0.3, 0.9, 0.1, 0.3, 0.1, 0.3, 0.9, 0.1, 0.3, 0.1, 0.3, 0.9, 0.1, 0.3];
    const TAKEN: usize = 5;
    let options = InboxOptions::default().max_waves(256);
    let mut ear = Vibrator::builder("ear").inbox(options).create(&stage.there).await?;
    ear.resonate_on("flood.*").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    let mut strong = BTreeSet::new();
    let (mut round, mut refused) = (0_u64, 0);
    while round < ROUNDS {
        for (count, amplitude) in (round * OFFERED.len() as u64..).zip(OFFERED) {
            let wave = Wave::builder("flood.a").amplitude(amplitude).text(count.to_string()).build()?;
            match emitter.try_emit(wave) {
                Ok(_) if amplitude >= 0.9 => drop(strong.insert(count)),
                Ok(_) => {}
                Err(error) => {
                    holds("a weaker wave that is refused", amplitude < 0.9, error)?;
                    refused += 1;
                }
            }
        }
        for _ in 0..TAKEN {
            strong.remove(&number(&stage.next(&mut ear, format!("a wave of round {round}")).await?)?);
        }
        round += 1;
        if round.is_multiple_of(8) {
            // Keeps waves in flight from accumulating and arriving all at once.
            stage.flush(&stage.here).await?;
            emitter.emit(Wave::builder("flood.marker").amplitude(1.0).build()?).await?;
            let marker = stage.within("the marker to arrive", ear.receive_from("flood.marker")).await??;
            holds("the marker", marker.is_some(), marker)?;
        }
    }
    for _ in 0..ear.ledger().queued {
        strong.remove(&number(&stage.next(&mut ear, "what is queued").await?)?);
    }
    same("strong waves that did not arrive", BTreeSet::new(), strong)?;
    let ledger = ear.ledger();
    holds("more waves than could be taken", refused + ledger.lost() > ROUNDS, (refused, ledger))?;
    holds("an account that adds up", ledger.adds_up(), ledger)
}

async fn waves_below_the_floor_are_shed_and_counted(stage: &Stage) -> Checked {
    let mut ear = Vibrator::builder("ear").floor(Floor::new(0.3)?).create(&stage.there).await?;
    ear.resonate_on("floor.*").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    for count in 0..100 {
        for amplitude in [0.5, 0.1] {
            let wave = Wave::builder("floor.a").amplitude(amplitude).never_decays().text(count.to_string());
            emitter.emit(wave.build()?).await?;
        }
    }
    stage.settle(&stage.here, &emitter, &mut ear, "floor.marker").await?;
    let ledger = ledger!(Ledger::default(); offered: 201, delivered: 1, shed_below_floor: 100, queued: 100);
    same("the account", ledger, ear.ledger())?;
    for count in 0..100 {
        let wave = stage.next(&mut ear, format!("number {count}")).await?;
        same("the wave", count, number(&wave)?)?;
        holds("a wave above the floor", wave.amplitude().as_f32() > 0.3, &wave)?;
    }
    Ok(())
}

async fn waves_left_by_a_receiver_are_counted(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.there, "behind.*").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    for count in 0..100 {
        emitter.emit(numbered("behind.a", count)?).await?;
    }
    stage.settle(&stage.here, &emitter, &mut ear, "behind.marker").await?;
    let before = stage.there.ledger();
    same("waves that wait", 100, before.queued)?;
    drop(ear);
    let after = ledger!(before; shed_closed: 100, queued: 0);
    same("the sum of the accounts", after, stage.there.ledger())?;
    holds("a sum of accounts that adds up", after.adds_up(), after)
}
