//! Line 5, observers of questions and answers.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::mpsc;

use super::report::{Checked, Failure, holds, same};
use super::stage::{Stage, listener, number, numbered, vibrator};
use aether_core::{Aether, AskError, InboxOptions, JoinError, Kind, Ledger, Vibrator, WhenFull};

use super::case::ledger;

super::case::cases! {
    5 Nothing observers_see_each_question_and_each_answer_once,
    5 Nothing observers_do_not_count_as_responders,
    7 Nothing a_full_observer_blocks_no_emitter,
}

/// Longer than a case may take: an error that arrives in time cannot be a time-out.
const HOURS: Duration = Duration::from_secs(7200);

async fn observer(aether: &Aether, patterns: &[&str]) -> Checked<Vibrator> {
    let observer = Vibrator::builder("observer").observe().create(aether).await?;
    for pattern in patterns {
        observer.resonate_on(*pattern).await?;
    }
    Ok(observer)
}

async fn observers_see_each_question_and_each_answer_once(stage: &Stage) -> Checked {
    const QUESTIONS: u64 = 50;
    let patterns = ["seen.*", ">"];
    let mut observers = [observer(&stage.here, &patterns).await?, observer(&stage.there, &patterns).await?];
    let mut oracle = listener("oracle", &stage.there, "seen.asked").await?;
    let asker = vibrator("asker", &stage.here).await?;
    for count in 0..QUESTIONS {
        let question = aether_core::Wave::builder("seen.asked").kind(Kind::Query).text(count.to_string());
        let ask = async { Ok::<_, Failure>(asker.ask_within(question.build()?, HOURS).await?) };
        let reply = async {
            let question = stage.next(&mut oracle, "the question").await?;
            Ok(question.reply(&number(&question)?).await?)
        };
        let (answer, ()) = stage.within("the answer", async { tokio::try_join!(ask, reply) }).await??;
        same("the answer", count, answer.json()?)?;
    }
    for observer in &mut observers {
        // By whether it is the answer, and the number.
        let mut missing: BTreeSet<(bool, u64)> =
            (0..QUESTIONS).flat_map(|count| [(false, count), (true, count)]).collect();
        while let Some(next) = missing.first() {
            let what = format!("an observer to see {next:?} and {} more", missing.len() - 1);
            let wave = stage.next(observer, what).await?;
            let seen = (wave.kind() == Kind::Response, number(&wave)?);
            holds("each question and each answer once", missing.remove(&seen), seen)?;
            holds("a copy that cannot be answered", !wave.expects_reply(), &wave)?;
            same("the channel", "seen.asked", wave.channel().as_str())?;
            let author = if seen.0 { &oracle } else { &asker };
            same("the source", author.source(), wave.source())?;
            same("whether it has a cause", seen.0, wave.cause().is_some())?;
        }
    }
    // An extra copy would arrive before this.
    stage.ask_nobody(&asker, numbered("seen.last", 0)?).await?;
    for observer in &mut observers {
        stage.hear(observer, &["seen.last"]).await?;
    }
    Ok(())
}

async fn observers_do_not_count_as_responders(stage: &Stage) -> Checked {
    let mut observer = observer(&stage.there, &["watched.*"]).await?;
    let asker = vibrator("asker", &stage.here).await?;
    let joined = observer.resonate_in_group("watched.*", "group").await;
    holds("no observer in a group", matches!(joined, Err(JoinError::Observer { .. })), joined)?;
    for _ in 0..10 {
        stage.ask_nobody(&asker, numbered("watched.a", 0)?).await?;
        // A question without a receiver is observed as well.
        let wave = stage.next(&mut observer, "the question").await?;
        holds("a copy that cannot be answered", !wave.expects_reply(), &wave)?;
    }
    if !stage.crosses() {
        // Keeping the copy does not keep the question's reply path open.
        let mut careless = listener("careless", &stage.there, "watched.b").await?;
        let ask = async { Ok(asker.ask_within(numbered("watched.b", 0)?, HOURS).await) };
        let keep = async {
            let copy = stage.next(&mut observer, "the copy of the question").await?;
            drop(stage.next(&mut careless, "the question").await?);
            Ok::<_, Failure>(copy)
        };
        let (asked, _copy) = stage.within("an error", async { tokio::try_join!(ask, keep) }).await??;
        holds("Unanswered", matches!(asked, Err(AskError::Unanswered { .. })), &asked)?;
    }
    Ok(())
}

async fn a_full_observer_blocks_no_emitter(stage: &Stage) -> Checked {
    const WAVES: u64 = 500;
    const ROOM: u64 = 8;
    let (report, mut losses) = mpsc::unbounded_channel();
    let options = InboxOptions::default()
        .max_waves(ROOM as usize)
        .when_full(WhenFull::Wait { patience: HOURS })
        .on_shed(move |_, _| {
            let _ = report.send(());
        });
    let full = Vibrator::builder("full").observe().inbox(options).create(&stage.there).await?;
    full.resonate_on("crowd.*").await?;
    let mut ear = listener("ear", &stage.there, "crowd.*").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    for count in 0..WAVES {
        let wave = numbered("crowd.a", count)?;
        if count % 2 == 0 {
            emitter.try_emit(wave)?;
        } else {
            stage.within("an emit that does not wait for an observer", emitter.emit(wave)).await??;
        }
    }
    for count in 0..WAVES {
        let wave = stage.next(&mut ear, format!("number {count}")).await?;
        same("the wave", count, number(&wave)?)?;
    }
    for count in 0..WAVES - ROOM {
        stage.within(format!("the observer to report loss {count}"), losses.recv()).await?;
    }
    let ledger = ledger!(Ledger::default(); offered: WAVES, shed_full: WAVES - ROOM, queued: ROOM);
    same("the account of the observer", ledger, full.ledger())?;
    // A question does not wait for it either.
    let answer = async { Ok::<_, Failure>(stage.next(&mut ear, "the question").await?.reply(&"yes").await?) };
    let ask = async { Ok(emitter.ask_within(numbered("crowd.b", 0)?, HOURS).await?) };
    stage.within("an answer", async { tokio::try_join!(ask, answer) }).await??;
    Ok(())
}
