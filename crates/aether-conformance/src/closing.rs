//! Line 8: closing.

use std::time::Duration;

use super::report::{Checked, Failure, holds, same};
use super::stage::{Stage, listener, number, numbered, poll_once, vibrator};
use aether_core::{AskError, EmitError, FlushError, JoinError};

super::case::cases! {
    8 Nothing waves_emitted_before_the_close_arrive,
    8 Nothing receivers_drain_their_inbox_and_then_end,
    8 Nothing a_close_ends_a_waiting_receiver,
    8 Nothing a_closed_medium_takes_nothing_more,
    8 Nothing a_receiver_made_after_the_close_ends_at_once,
    8 Nothing closing_twice_is_harmless,
    8 Nothing a_cancelled_close_can_be_finished,
    8 Nothing receivers_end_although_a_close_is_cancelled,
}

async fn waves_emitted_before_the_close_arrive(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.there, "last").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    for count in 0..3000 {
        emitter.emit(numbered("last", count)?).await?;
    }
    stage.within("the close to return", stage.here.close()).await??;
    for count in 0..3000 {
        let wave = stage.next(&mut ear, format!("number {count} of 3000 after the close")).await?;
        same("the wave", count, number(&wave)?)?;
    }
    let outbox = stage.here.status().outbox;
    same("waves that the medium lost", 0, outbox.lost())?;
    same("waves that left", if stage.crosses() { 3000 } else { 0 }, outbox.delivered)
}

async fn receivers_drain_their_inbox_and_then_end(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.there, "rest.*").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    for count in 0..100 {
        emitter.emit(numbered("rest.a", count)?).await?;
    }
    stage.settle(&stage.here, &emitter, &mut ear, "rest.marker").await?;
    stage.within("the close to return", stage.there.close()).await??;
    for count in 0..100 {
        let wave = stage.next(&mut ear, format!("queued number {count}")).await?;
        same("the wave", count, number(&wave)?)?;
    }
    for _ in 0..2 {
        let end = stage.within("the end of all waves", ear.receive()).await?;
        holds("the end of all waves", end.is_none(), end)?;
        let end = stage.within("the end of all waves", ear.receive_from("rest.*")).await??;
        holds("the end of all waves", end.is_none(), end)?;
    }
    holds("an account that adds up", ear.ledger().adds_up(), ear.ledger())
}

async fn a_close_ends_a_waiting_receiver(stage: &Stage) -> Checked {
    let mut ears = [listener("a", &stage.there, "never").await?, listener("b", &stage.there, "never").await?];
    let [a, b] = &mut ears;
    let Err(receive) = poll_once(Box::pin(a.receive())).await else {
        return Err(Failure::new("a receiver that waits", "a wave"));
    };
    let Err(receive_from) = poll_once(Box::pin(b.receive_from("never"))).await else {
        return Err(Failure::new("a receiver that waits", "a wave"));
    };
    stage.within("the close to return", stage.there.close()).await??;
    let end = stage.within("the end of all waves", receive).await?;
    holds("the end of all waves", end.is_none(), end)?;
    let end = stage.within("the end of all waves", receive_from).await??;
    holds("the end of all waves", end.is_none(), end)
}

async fn a_receiver_made_after_the_close_ends_at_once(stage: &Stage) -> Checked {
    stage.within("the close to return", stage.there.close()).await??;
    let mut late = vibrator("late", &stage.there).await?;
    let end = stage.within("the end of all waves", late.receive()).await?;
    holds("the end of all waves", end.is_none(), end)?;
    let end = stage.within("the end of all waves", late.receive_from("a")).await??;
    holds("the end of all waves", end.is_none(), end)?;
    let joined = stage.within("the join to return", late.resonate_on("a")).await?;
    holds("the error Closed", matches!(joined, Err(JoinError::Closed)), joined)
}

async fn a_closed_medium_takes_nothing_more(stage: &Stage) -> Checked {
    let ear = listener("ear", &stage.here, "heard").await?;
    let late = vibrator("late", &stage.here).await?;
    let relayed = {
        let elsewhere = aether_core::Aether::local();
        let mut ear = listener("ear", &elsewhere, "heard").await?;
        vibrator("emitter", &elsewhere).await?.emit(numbered("heard", 7)?).await?;
        stage.next(&mut ear, "a wave of another medium").await?
    };
    stage.within("the close to return", stage.here.close()).await??;
    let before = stage.here.status().outbox.offered;

    let emits = [
        stage.within("emit to return", ear.emit(numbered("heard", 7)?)).await?,
        stage.within("emit to return", late.emit(numbered("nobody.hears", 7)?)).await?,
        stage.within("relay to return", late.relay(&relayed)).await?,
        late.try_emit(numbered("heard", 7)?),
    ];
    for result in emits {
        match result {
            Err(EmitError::Closed { wave }) => same("the wave that was handed back", 7, number(&wave)?)?,
            other => return Err(Failure::new("Closed", format_args!("{other:?}"))),
        }
    }
    let ask = late.ask_within(numbered("heard", 7)?, Duration::from_secs(7200));
    match stage.within("ask to return", ask).await? {
        Err(AskError::Emit(EmitError::Closed { wave })) => {
            same("the question that was handed back", 7, number(&wave)?)?;
        }
        other => return Err(Failure::new("Closed", format_args!("{other:?}"))),
    }
    let join = stage.within("join to return", late.resonate_on("heard")).await?;
    holds("Closed", matches!(join, Err(JoinError::Closed)), join)?;
    let join = stage.within("join to return", late.resonate_in_group("heard", "group")).await?;
    holds("Closed", matches!(join, Err(JoinError::Closed)), join)?;
    let flush = stage.within("flush to return", stage.here.flush()).await?;
    holds("Closed", matches!(flush, Err(FlushError::Closed)), flush)?;
    // Unsubscribing always succeeds.
    ear.detune("heard")?;
    let status = stage.here.status();
    same("waves that the medium took after the close", before, status.outbox.offered)?;
    holds("a medium that is not connected", !status.connected, status)?;
    same("waves offered to a receiver", 0, ear.ledger().offered)
}

async fn closing_twice_is_harmless(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.there, "twice").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    emitter.emit(numbered("twice", 7)?).await?;
    for _ in 0..3 {
        stage.within("the close to return", stage.here.close()).await??;
    }
    same("the wave", 7, number(&stage.next(&mut ear, "the wave from before the close").await?)?)?;
    let together = async { tokio::join!(stage.there.close(), stage.there.close()) };
    let (first, second) = stage.within("two closes at once to return", together).await?;
    first?;
    second?;
    let end = stage.within("the end of all waves", ear.receive()).await?;
    holds("the end of all waves", end.is_none(), end)
}

async fn a_cancelled_close_can_be_finished(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.there, "cancelled").await?;
    let mut own = listener("own", &stage.here, "cancelled").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    for count in 0..100 {
        emitter.emit(numbered("cancelled", count)?).await?;
    }
    drop(poll_once(Box::pin(stage.here.close())).await);
    let late = stage.within("emit to return", emitter.emit(numbered("cancelled", 100)?)).await?;
    holds("Closed", matches!(late, Err(EmitError::Closed { .. })), late)?;
    stage.within("the close to return", stage.here.close()).await??;
    let outbox = stage.here.status().outbox;
    same("waves that wait when the second close has returned", 0, outbox.queued)?;
    same("waves that were lost", 0, outbox.lost())?;
    for count in 0..100 {
        let wave = stage.next(&mut ear, format!("number {count}")).await?;
        same("the wave", count, number(&wave)?)?;
    }
    while let Some(wave) = stage.within("the end of all waves", own.receive()).await? {
        holds("a wave from before the close", number(&wave)? < 100, &wave)?;
    }
    Ok(())
}

async fn receivers_end_although_a_close_is_cancelled(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.here, "cancelled").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    // Makes the close wait.
    emitter.emit(numbered("elsewhere", 0)?).await?;
    drop(poll_once(Box::pin(stage.here.close())).await);
    let end = stage.within("the end of all waves", ear.receive()).await?;
    holds("the end of all waves", end.is_none(), end)
}
