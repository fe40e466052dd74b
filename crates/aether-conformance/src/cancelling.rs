//! Line 10, first half: a cancelled operation leaves nothing half done.

use std::time::Duration;

use super::carrying::Narrow;
use super::report::{Checked, Failure, holds, same};
use super::stage::{Stage, listener, number, numbered, poll_once, reached, vibrator};
use aether_core::wave::ReplyError;

super::case::cases! {
    10 Room an_emit_cancelled_while_waiting_is_accounted_for,
    10 Nothing a_cancelled_receive_takes_no_wave,
    10 Nothing a_cancelled_join_leaves_nothing_behind,
    10 Nothing a_cancelled_question_disturbs_no_other,
    10 Nothing a_cancelled_flush_loses_nothing,
}

async fn an_emit_cancelled_while_waiting_is_accounted_for(stage: &Stage) -> Checked {
    let mut narrow = Narrow::new(stage).await?;
    let (mut emitted, mut cancelled) = (0, 0);
    while cancelled < 10 {
        emitted += 1;
        match poll_once(Box::pin(narrow.emitter.emit(numbered("narrow", emitted)?))).await {
            Ok(receipt) => drop(receipt?),
            Err(waiting) => {
                drop(waiting);
                cancelled += 1;
                let account = narrow.account();
                same("waves offered, the cancelled ones included", emitted, account.offered)?;
                holds("an account that adds up", account.adds_up(), account)?;
            }
        }
    }
    let lost = narrow.account().lost();
    holds("at most one loss for each emit that was cancelled", lost <= cancelled, lost)?;
    narrow.widen(stage).await?;
    let mut last = 0;
    for count in 0..emitted - lost {
        let what = format!("wave {count} of {emitted} that were emitted, less {lost} lost");
        let number = number(&stage.next(&mut narrow.receiver, what).await?)?;
        holds("waves in their order, each once", number > last, (last, number))?;
        last = number;
    }
    same("the newest wave", emitted, last)?;
    same("losses", lost, narrow.account().lost())
}

async fn a_cancelled_receive_takes_no_wave(stage: &Stage) -> Checked {
    const WAVES: u64 = 1000;
    let mut ear = listener("ear", &stage.there, "kept.*").await?;
    let emitter = vibrator("emitter", &stage.here).await?.emitter();
    let emit = async {
        for count in 0..WAVES {
            emitter.emit(numbered("kept.a", count)?).await?;
            tokio::task::yield_now().await;
        }
        Ok::<_, Failure>(())
    };
    let receive = async {
        for count in 0..WAVES {
            // Cancelled at an arbitrary point.
            drop(poll_pending(Box::pin(ear.receive_from("other.*"))).await?);
            drop(poll_pending(Box::pin(ear.receive_from("kept.b"))).await?);
            let mut waited = 0;
            let wave = loop {
                match poll_once(Box::pin(ear.receive())).await {
                    Ok(wave) => break wave,
                    Err(cancelled) => drop(cancelled),
                }
                waited += 1;
                if waited == 3 {
                    break Some(stage.next(&mut ear, format!("number {count}")).await?);
                }
                tokio::task::yield_now().await;
            };
            let wave = wave.ok_or_else(|| Failure::new("a wave", "the end of all waves"))?;
            same("the wave", count, number(&wave)?)?;
        }
        Ok(())
    };
    tokio::try_join!(emit, receive)?;
    holds("an account that adds up", ear.ledger().adds_up(), ear.ledger())?;
    same("waves received", WAVES, ear.ledger().delivered)
}

/// Polls a future that cannot be ready yet once, and hands it back.
async fn poll_pending<F: Future + Unpin>(future: F) -> Checked<F>
where
    F::Output: std::fmt::Debug,
{
    match poll_once(future).await {
        Err(pending) => Ok(pending),
        Ok(output) => Err(Failure::new("no wave of that channel", format_args!("{output:?}"))),
    }
}

async fn a_cancelled_join_leaves_nothing_behind(stage: &Stage) -> Checked {
    let mut witness = listener("witness", &stage.there, "joined").await?;
    let ear = vibrator("ear", &stage.there).await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    for count in 0..30 {
        let join = async {
            if count % 2 == 0 || !stage.has_groups() {
                ear.resonate_on("joined").await
            } else {
                ear.resonate_in_group("joined", "group").await
            }
        };
        if let Ok(joined) = poll_once(Box::pin(join)).await {
            // It completed before it could be cancelled.
            joined?;
            ear.detune("joined")?;
        }
        for _ in 0..2 {
            emitter.emit(numbered("joined", count)?).await?;
            stage.flush(&stage.here).await?;
        }
        stage.hear(&mut witness, &["joined"; 2]).await?;
        same("waves that reached a vibrator that did not join", 0, reached(&ear))?;
    }
    let mut ear = ear;
    ear.resonate_on("joined").await?;
    emitter.emit(numbered("joined", 30)?).await?;
    stage.hear(&mut ear, &["joined"]).await?;
    same("waves that reached it", 1, reached(&ear))
}

async fn a_cancelled_question_disturbs_no_other(stage: &Stage) -> Checked {
    let hours = Duration::from_secs(7200);
    let mut oracle = listener("oracle", &stage.there, "ask.cancelled").await?;
    let asker = vibrator("asker", &stage.here).await?;
    for count in 0..20 {
        let ask = Box::pin(asker.ask_within(numbered("ask.cancelled", 2 * count)?, hours));
        let question = tokio::select! {
            biased;
            answer = ask => return Err(Failure::new("no answer yet", format_args!("{answer:?}"))),
            question = stage.next(&mut oracle, "the question") => question?,
        };
        // The asker has gone, which the medium may or may not know.
        match question.reply(&"nobody hears this").await {
            Ok(()) | Err(ReplyError::AskerGone) => {}
            Err(error) => return Err(error.into()),
        }
        let next = numbered("ask.cancelled", 2 * count + 1)?;
        let ask = async { Ok::<_, Failure>(asker.ask_within(next, hours).await?) };
        let reply = async {
            let question = stage.next(&mut oracle, "the next question").await?;
            Ok(question.reply(&number(&question)?).await?)
        };
        let (answer, ()) = stage.within("the next answer", async { tokio::try_join!(ask, reply) }).await??;
        same("the answer", 2 * count + 1, answer.json()?)?;
    }
    Ok(())
}

async fn a_cancelled_flush_loses_nothing(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.there, "flushed").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    for count in 0..500 {
        emitter.emit(numbered("flushed", count)?).await?;
        drop(poll_once(Box::pin(stage.here.flush())).await);
    }
    for count in 0..500 {
        let wave = stage.next(&mut ear, format!("number {count}")).await?;
        same("the wave", count, number(&wave)?)?;
    }
    Ok(())
}
