//! Line 6: the maximum size of a wave.

use std::time::Duration;

use bytes::Bytes;

use super::report::{Checked, Failure, holds, same};
use super::stage::{Stage, listener, numbered, vibrator};
use aether_core::wave::ReplyError;
use aether_core::{AskError, EmitError, Emitter, Wave};

super::case::cases! {
    6 Nothing a_wave_of_the_largest_size_arrives_and_a_larger_one_is_handed_back,
    6 Nothing oversized_questions_and_answers_are_refused,
}

/// Bytes without short repetitions, so that a missing part is noticed.
fn payload(bytes: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(bytes as u64);
    (0..bytes).map(|_| random.u8(..)).collect()
}

/// The largest payload of a plain wave on a channel: the medium's maximum less what it adds.
async fn largest_payload(emitter: &Emitter, channel: &str, max_bytes: usize) -> Checked<usize> {
    let payload = payload(max_bytes + 1);
    match emitter.emit_bytes(channel, payload.clone()).await {
        Err(EmitError::TooLarge { wave, bytes, max_bytes: promised }) => {
            same("the maximum size in the error and in the promises", max_bytes, promised)?;
            holds("the payload that was handed back", *wave.payload() == payload, &wave)?;
            holds("a size above the largest", bytes > max_bytes, bytes)?;
            let added = bytes - payload.len();
            max_bytes
                .checked_sub(added)
                .ok_or_else(|| Failure::new("room for a payload", format_args!("{added} bytes beside it")))
        }
        other => Err(Failure::new("TooLarge", format_args!("{other:?}"))),
    }
}

async fn a_wave_of_the_largest_size_arrives_and_a_larger_one_is_handed_back(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.there, "size").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    // The numbers of the following waves have two digits each, in case a medium encodes them as text.
    for _ in 0..10 {
        emitter.emit_bytes("size", Bytes::new()).await?;
        stage.next(&mut ear, "a wave without payload").await?;
    }
    let largest = largest_payload(&emitter, "size", stage.here.promises().max_payload).await?;
    for _ in 0..3 {
        for bytes in [largest, 0, largest - 1] {
            emitter.emit_bytes("size", payload(bytes)).await?;
        }
        let results = [
            emitter.emit_bytes("size", payload(largest + 1)).await,
            emitter.try_emit(Wave::from_bytes("size", payload(largest + 1))?),
        ];
        for result in results {
            match result {
                Err(EmitError::TooLarge { wave, bytes, max_bytes }) => {
                    same("the size in the error", max_bytes + 1, bytes)?;
                    holds("the payload", *wave.payload() == payload(largest + 1), &wave)?;
                }
                other => return Err(Failure::new("TooLarge", format_args!("{other:?}"))),
            }
        }
        emitter.emit_bytes("size", payload(1)).await?;
        for bytes in [largest, 0, largest - 1, 1] {
            let wave = stage.next(&mut ear, format!("a payload of {bytes} bytes")).await?;
            same("the size of the payload", bytes, wave.payload().len())?;
            holds("the payload as it was sent", *wave.payload() == payload(bytes), &wave)?;
        }
    }
    holds("an account that adds up", ear.ledger().adds_up(), ear.ledger())
}

async fn oversized_questions_and_answers_are_refused(stage: &Stage) -> Checked {
    let hours = Duration::from_secs(7200);
    let mut oracle = listener("oracle", &stage.there, "size.ask").await?;
    let asker = vibrator("asker", &stage.here).await?;
    let max_bytes = stage.here.promises().max_payload;
    match asker.ask_within(Wave::from_bytes("size.ask", payload(max_bytes + 1))?, hours).await {
        Err(AskError::Emit(EmitError::TooLarge { wave, .. })) => {
            holds("the payload that was handed back", wave.payload().len() == max_bytes + 1, &wave)?;
        }
        other => return Err(Failure::new("TooLarge", format_args!("{other:?}"))),
    }
    let ask = async { Ok::<_, Failure>(asker.ask_within(numbered("size.ask", 0)?, hours).await?) };
    let reply = async {
        let question = stage.next(&mut oracle, "the question").await?;
        let refused = question.reply_bytes(payload(max_bytes + 1)).await;
        holds("TooLarge", matches!(refused, Err(ReplyError::TooLarge { .. })), refused)?;
        // The asker still waits for an answer that fits.
        Ok(question.reply_bytes(payload(max_bytes / 2)).await?)
    };
    let (answer, ()) = stage.within("the answer that fits", async { tokio::try_join!(ask, reply) }).await??;
    holds("the answer as it was sent", *answer.payload() == payload(max_bytes / 2), &answer)
}
