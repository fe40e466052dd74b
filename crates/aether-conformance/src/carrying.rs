//! Line 1: what Ok means for an emitted wave.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::report::{Checked, Failure, holds, same};
use super::stage::{Stage, listener, number, numbered, poll_once, vibrator};
use aether_core::{Aether, EmitError, Emitter, InboxOptions, Ledger, Receipt, Vibrator, Wave, WhenFull};

use super::case::ledger;

super::case::cases! {
    1 Nothing an_emitted_wave_is_in_the_inboxes_or_the_outbox,
    1 Nothing after_a_flush_nothing_waits_to_be_sent,
    1 Room an_emitter_without_room_waits_and_blocks_no_thread,
    1 Room try_emit_hands_back_a_wave_without_room,
    1 Room a_refused_wave_leaves_no_gap_in_the_numbers,
    1 Room weak_waves_are_refused_before_strong_ones,
    1 Room the_strongest_waiting_emitter_is_admitted_first,
    14 Nothing a_confirmed_wave_has_left_the_outbox,
    15 Nothing waves_emitted_together_arrive_in_order_but_for_those_that_are_refused,
}

async fn waves_emitted_together_arrive_in_order_but_for_those_that_are_refused(stage: &Stage) -> Checked {
    const WAVES: u64 = 500;
    let mut ears =
        [listener("a", &stage.here, "together.>").await?, listener("b", &stage.there, "together.*").await?];
    let emitter = vibrator("emitter", &stage.here).await?;
    let too_large = vec![0; stage.here.promises().max_payload + 1];
    let mut waves = Vec::new();
    for count in 1..=WAVES {
        // Runs of several lengths.
        waves.push(numbered(if count % 70 < 50 { "together.a" } else { "together.b" }, count)?);
        if count % 90 == 0 {
            waves.push(Wave::from_bytes("together.a", too_large.clone())?);
        }
    }
    let error = stage.within("the waves to be emitted", emitter.emit_all(waves)).await?;
    let Err(error) = error else {
        return Err(Failure::new("an error for the waves that are too large", "none"));
    };
    same("the waves that were emitted", WAVES, error.emitted)?;
    let all_too_large = error.refused.iter().all(|error| matches!(error, EmitError::TooLarge { .. }));
    holds("the error TooLarge for each of the others", all_too_large && error.refused.len() == 5, &error)?;
    for ear in &mut ears {
        let mut last = std::collections::HashMap::new();
        for count in 1..=WAVES {
            let wave = stage.next(ear, format!("wave {count} of {WAVES}")).await?;
            same("its number, which is the number of its place", number(&wave)?, wave.sequence())?;
            let before = last.insert(wave.channel().clone(), wave.sequence());
            holds("the order of the channel", before < Some(wave.sequence()), before)?;
        }
    }
    Ok(())
}

async fn a_confirmed_wave_has_left_the_outbox(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.there, "confirmed").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    for count in 1..=20 {
        let confirmed = emitter.emit_confirmed(numbered("confirmed", count)?);
        let receipt = stage.within("the confirmation", confirmed).await??;
        same("the number of the wave", count, receipt.sequence)?;
        let status = stage.here.status();
        same("waves that wait or are under way", 0, status.outbox.queued + status.in_flight)?;
        same("the wave", count, number(&stage.next(&mut ear, format!("wave {count}")).await?)?)?;
    }
    Ok(())
}

async fn an_emitted_wave_is_in_the_inboxes_or_the_outbox(stage: &Stage) -> Checked {
    let mut ears = [listener("a", &stage.here, "taken").await?, listener("b", &stage.here, "taken").await?];
    let emitter = vibrator("emitter", &stage.here).await?;
    for count in 1..=100 {
        let Receipt { sequence, receivers, .. } = emitter.emit(numbered("taken", count)?).await?;
        same("the number of the wave", count, sequence)?;
        let taken = stage.here.status().outbox;
        holds("an account that adds up", taken.adds_up(), taken)?;
        if stage.crosses() {
            same("the waves that the medium took", count, taken.offered)?;
        } else {
            same("the outbox of a medium that has none", Ledger::default(), taken)?;
            same("the inboxes that the wave was offered to", Some(ears.len()), receivers)?;
            for ear in &ears {
                same("waves offered when emit returned", count, ear.ledger().offered)?;
            }
        }
    }
    for ear in &mut ears {
        for count in 1..=100 {
            same("the wave", count, number(&stage.next(ear, format!("wave {count}")).await?)?)?;
        }
    }
    Ok(())
}

async fn after_a_flush_nothing_waits_to_be_sent(stage: &Stage) -> Checked {
    let emitter = vibrator("emitter", &stage.here).await?;
    for count in 1..=5 {
        for wave in 0..200 {
            emitter.emit(numbered("flushed", wave)?).await?;
        }
        stage.flush(&stage.here).await?;
        let status = stage.here.status();
        let left = if stage.crosses() { count * 200 } else { 0 };
        let outbox = ledger!(Ledger::default(); offered: left, delivered: left);
        same("the outbox after a flush", outbox, status.outbox)?;
        same("the waves that the broker did not confirm", 0, status.unconfirmed)?;
        holds("a medium that is connected for the first time", status.connected, status)?;
        same("connections made", 1, status.connects)?;
    }
    Ok(())
}

async fn an_emitter_without_room_waits_and_blocks_no_thread(stage: &Stage) -> Checked {
    let mut narrow = Narrow::new(stage).await?;
    let mut emitted = 0;
    // Polling an emit returns at once, whether or not there is room; otherwise this task would block here.
    let waiting = loop {
        emitted += 1;
        let emit = Box::pin(narrow.emitter.emit(numbered("narrow", emitted)?));
        match poll_once(emit).await {
            Ok(receipt) => drop(receipt?),
            Err(waiting) => break waiting,
        }
    };
    narrow.widen(stage).await?;
    let receive_all = async {
        for count in 1..=emitted {
            let wave = stage.next(&mut narrow.receiver, format!("wave {count} of {emitted}")).await?;
            same("the wave", count, number(&wave)?)?;
        }
        Ok::<_, Failure>(())
    };
    let emit = stage.within("the emitter to be admitted", waiting);
    let (received, receipt) = tokio::join!(receive_all, emit);
    received?;
    same("the number of the wave that waited", emitted, receipt??.sequence)?;
    same("waves lost", 0, narrow.account().lost())
}

async fn try_emit_hands_back_a_wave_without_room(stage: &Stage) -> Checked {
    let mut narrow = Narrow::new(stage).await?;
    let mut taken = 0;
    let error = loop {
        match narrow.emitter.try_emit(numbered("narrow", taken + 1)?) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        // Another task empties the outbox until it notices the cut.
        tokio::task::yield_now().await;
    };
    holds("the error Full", matches!(error, EmitError::Full { .. }), &error)?;
    holds("a transient error", error.is_transient(), &error)?;
    let Some(wave) = error.into_wave() else { return Err(Failure::new("the wave in the error", "none")) };
    same("the wave that was handed back", taken + 1, number(&wave)?)?;
    same("the waves that were offered", taken, narrow.account().offered)?;
    narrow.widen(stage).await?;
    for count in 1..=taken {
        let wave = stage.next(&mut narrow.receiver, format!("wave {count} of {taken}")).await?;
        same("the wave", count, number(&wave)?)?;
    }
    // There is room again sooner or later.
    let emit = pin!(narrow.emitter.emit(wave));
    stage.within("the wave to be taken after all", emit).await??;
    let wave = stage.next(&mut narrow.receiver, "the wave that had no room").await?;
    same("the wave", taken + 1, number(&wave)?)
}

async fn a_refused_wave_leaves_no_gap_in_the_numbers(stage: &Stage) -> Checked {
    let mut narrow = Narrow::new(stage).await?;
    let (mut taken, mut refused) = (0, 0);
    while refused < 10 {
        match narrow.emitter.try_emit(numbered("narrow", 0)?) {
            Ok(receipt) => {
                taken += 1;
                same("the number of the wave", taken, receipt.sequence)?;
            }
            Err(_) => refused += 1,
        }
        tokio::task::yield_now().await;
    }
    same("waves that have a number", taken, narrow.emitter.account().numbered)?;
    narrow.widen(stage).await?;
    for count in 1..=taken {
        let wave = stage.next(&mut narrow.receiver, format!("wave {count} of {taken}")).await?;
        same("the number of the wave", count, wave.sequence())?;
    }
    Ok(())
}

/// A numbered wave of this amplitude.
fn of_amplitude(amplitude: f32, number: u64) -> Checked<Wave> {
    Ok(Wave::builder("narrow").amplitude(amplitude).text(number.to_string()).build()?)
}

async fn weak_waves_are_refused_before_strong_ones(stage: &Stage) -> Checked {
    let mut narrow = Narrow::with_room_for(16, stage).await?;
    let (mut taken, mut rounds_left) = (0, None);
    while rounds_left != Some(0) {
        for amplitude in [0.1, 0.9] {
            match narrow.emitter.try_emit(of_amplitude(amplitude, taken)?) {
                Ok(_) => taken += 1,
                Err(error) => {
                    holds("a weaker wave that is refused", amplitude < 0.9, error)?;
                    // Of the last eighth, two places, this round takes one.
                    rounds_left.get_or_insert(2);
                }
            }
        }
        rounds_left = rounds_left.map(|left: u32| left - 1);
        tokio::task::yield_now().await;
    }
    same("waves lost", 0, narrow.account().lost())?;
    narrow.widen(stage).await?;
    for count in 0..taken {
        stage.next(&mut narrow.receiver, format!("wave {count} of {taken}")).await?;
    }
    Ok(())
}

async fn the_strongest_waiting_emitter_is_admitted_first(stage: &Stage) -> Checked {
    const EACH: u64 = 20;
    let mut narrow = Narrow::new(stage).await?;
    let mut emitted = 0;
    let mut emits = FuturesUnordered::new();
    while emits.is_empty() {
        emitted += 1;
        let emit = Box::pin(narrow.emitter.emit(of_amplitude(0.5, 0)?));
        match poll_once(emit).await {
            Ok(receipt) => drop(receipt?),
            Err(waiting) => emits.push(waiting),
        }
    }
    for (amplitude, numbers) in [(0.1, 1..=EACH), (0.9, EACH + 1..=2 * EACH)] {
        for number in numbers {
            let emit = Box::pin(narrow.emitter.emit(of_amplitude(amplitude, number)?));
            match poll_once(emit).await {
                Ok(_) => return Err(Failure::new("an emitter that waits", "one that does not")),
                Err(waiting) => emits.push(waiting),
            }
        }
    }
    narrow.widen(stage).await?;
    let receive_all = async {
        let mut waited = Vec::new();
        for count in 0..emitted + 2 * EACH {
            let number = number(&stage.next(&mut narrow.receiver, format!("wave {count}")).await?)?;
            waited.extend((number > 0).then_some(number));
        }
        Ok::<_, Failure>(waited)
    };
    let let_in = async {
        while let Some(receipt) = emits.next().await {
            receipt?;
        }
        Ok::<_, Failure>(())
    };
    let (waited, let_in) = tokio::join!(receive_all, stage.within("the emitters to be admitted", let_in));
    let_in??;
    // Emitters of one strength that wait at the same time may overtake each other.
    let mut waited = waited?;
    let (strong, weak) = waited.split_at_mut(EACH as usize);
    strong.sort_unstable();
    weak.sort_unstable();
    same("the order of the waiting emitters", (EACH + 1..=2 * EACH).chain(1..=EACH).collect(), waited)?;
    same("waves lost", 0, narrow.account().lost())
}

/// A path with room for a few waves and a plug at its end: a receiver that takes nothing, or a link that is cut. An
/// emitter that finds it full waits for an hour.
pub(super) struct Narrow {
    pub(super) emitter: Emitter,
    pub(super) receiver: Vibrator,
    end: Aether,
    crosses: bool,
}

impl Narrow {
    pub(super) async fn new(stage: &Stage) -> Checked<Self> {
        Self::with_room_for(4, stage).await
    }

    async fn with_room_for(waves: usize, stage: &Stage) -> Checked<Self> {
        let options = InboxOptions::default()
            .max_waves(waves)
            .when_full(WhenFull::Wait { patience: Duration::from_secs(3600) });
        let crosses = stage.crosses();
        let (end, inbox) = if crosses {
            (stage.connect(options).await?, InboxOptions::default())
        } else {
            (stage.here.clone(), options)
        };
        let receiver = Vibrator::builder("receiver").inbox(inbox).create(&end).await?;
        receiver.resonate_on("narrow").await?;
        let emitter = vibrator("emitter", &end).await?.emitter();
        if crosses {
            stage.cut_off(&end).await?;
        }
        Ok(Self { emitter, receiver, end, crosses })
    }

    /// Pulls the plug; in process by receiving.
    pub(super) async fn widen(&self, stage: &Stage) -> Checked {
        if self.crosses { Ok(stage.link()?.mend().await?) } else { Ok(()) }
    }

    /// The ledger at the bottleneck.
    pub(super) fn account(&self) -> Ledger {
        if self.crosses { self.end.status().outbox } else { self.receiver.ledger() }
    }
}
