//! Line 5: questions and answers.

use std::time::Duration;

use aether_core::clock::Instant;
use tokio::task::JoinSet;

use super::report::{Checked, Failure, holds, same};
use super::stage::{Stage, listener, number, numbered, vibrator};
use aether_core::wave::ReplyError;
use aether_core::{AskError, Kind, Wave};

super::case::cases! {
    5 Nothing each_of_many_askers_gets_its_own_answer,
    5 Nothing an_answer_names_its_question,
    5 Nothing the_first_answer_counts,
    5 Groups a_question_to_a_group_reaches_one_member,
    5 Nothing a_vibrator_can_ask_itself,
    5 Unheard a_question_without_a_receiver_fails_at_once,
    5 Nothing a_question_held_without_an_answer_times_out,
    5 Nothing a_question_dropped_without_an_answer_fails,
    5 Nothing only_questions_can_be_answered,
}

/// Longer than a case may take: an error that arrives in time cannot be a time-out.
const HOURS: Duration = Duration::from_secs(7200);

async fn each_of_many_askers_gets_its_own_answer(stage: &Stage) -> Checked {
    let mut square = listener("square", &stage.there, "ask.square.*").await?;
    let mut tasks = JoinSet::<Checked>::new();
    tasks.spawn(async move {
        while let Some(question) = square.receive().await {
            let root = number(&question)?;
            question.reply(&(root * root)).await?;
        }
        Ok(())
    });
    let mut askers = JoinSet::new();
    for asker in 0..8 {
        let end = if asker % 2 == 0 { &stage.here } else { &stage.there };
        let emitter = vibrator("asker", end).await?.emitter();
        askers.spawn(async move {
            for count in 0..50 {
                let root: u64 = asker * 1000 + count;
                let question = numbered(format!("ask.square.{asker}"), root)?;
                let answer = emitter.ask_within(question, HOURS).await?;
                same("the answer", root * root, answer.json()?)?;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(asked) = stage.within("all askers to get their answers", askers.join_next()).await? {
        asked??;
    }
    Ok(())
}

async fn an_answer_names_its_question(stage: &Stage) -> Checked {
    let mut oracle = listener("oracle", &stage.there, "ask.what").await?;
    let asker = vibrator("asker", &stage.here).await?;
    for amplitude in [1.0, 0.25] {
        let question =
            Wave::builder("ask.what").kind(Kind::Query).amplitude(amplitude).text("what?").build()?;
        let asked = question.amplitude();
        let reply = async {
            let question = stage.next(&mut oracle, "the question").await?;
            holds("a question that can be answered", question.expects_reply(), &question)?;
            same("the kind of a question", Kind::Query, question.kind())?;
            same("the asker", "asker", question.source().name())?;
            question.reply_wave(Wave::builder("ask.what").text("this").key("k").metadata("a", "b")).await?;
            Ok(question.id())
        };
        let ask = async { Ok::<_, Failure>(asker.ask_within(question, HOURS).await?) };
        let (answer, question) = stage.within("the answer", async { tokio::try_join!(ask, reply) }).await??;
        same("the cause of the answer", Some(&question), answer.cause())?;
        same("the kind of an answer", Kind::Response, answer.kind())?;
        same("the amplitude of the answer", asked, answer.amplitude())?;
        same("the responder", oracle.source(), answer.source())?;
        same("the channel of the answer", "ask.what", answer.channel().as_str())?;
        same("the payload", "this", answer.text()?)?;
        same("the key", Some("k"), answer.key())?;
        same("the metadata", Some("b"), answer.metadata().value("a"))?;
    }
    Ok(())
}

async fn the_first_answer_counts(stage: &Stage) -> Checked {
    let mut near = listener("near", &stage.here, "ask.both").await?;
    let mut far = listener("far", &stage.there, "ask.both").await?;
    let asker = vibrator("asker", &stage.here).await?;
    for round in 0..20 {
        let ask = async { Ok::<_, Failure>(asker.ask_within(numbered("ask.both", round)?, HOURS).await?) };
        let reply = async {
            let at_near = stage.next(&mut near, "the question nearby").await?;
            let at_far = stage.next(&mut far, "the question far away").await?;
            let (first, second) = if round % 2 == 0 { (&at_near, &at_far) } else { (&at_far, &at_near) };
            first.reply(&("first", round)).await?;
            Ok((first.clone(), second.clone()))
        };
        let (answer, (first, second)) =
            stage.within("the first answer", async { tokio::try_join!(ask, reply) }).await??;
        same("the answer", ("first".to_owned(), round), answer.json()?)?;
        // Their asker has left, which the medium may or may not know; the next asker must not get them.
        for late in [second, first] {
            match late.reply(&("late", round)).await {
                Ok(()) | Err(ReplyError::AskerGone) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

async fn a_question_to_a_group_reaches_one_member(stage: &Stage) -> Checked {
    let mut oracles = JoinSet::new();
    for end in [&stage.here, &stage.there, &stage.there] {
        let mut oracle = vibrator("oracle", end).await?;
        oracle.resonate_in_group("ask.group", "oracles").await?;
        oracles.spawn(async move {
            let mut heard = 0_u64;
            while let Some(question) = oracle.receive().await {
                heard += 1;
                question.reply(&number(&question)?).await?;
            }
            Ok::<_, Failure>(heard)
        });
    }
    let asker = vibrator("asker", &stage.here).await?;
    for count in 0..100 {
        let ask = asker.ask_within(numbered("ask.group", count)?, HOURS);
        let answer = stage.within("an answer of the group", ask).await??;
        same("the answer", count, answer.json()?)?;
    }
    let close = async { tokio::try_join!(stage.here.close(), stage.there.close()) };
    stage.within("the ends to close", close).await??;
    let mut heard = 0;
    while let Some(oracle) = stage.within("the oracles to end", oracles.join_next()).await? {
        heard += oracle??;
    }
    same("questions that the members received in total", 100, heard)
}

async fn a_vibrator_can_ask_itself(stage: &Stage) -> Checked {
    let mut oracle = listener("oracle", &stage.here, "ask.self").await?;
    let emitter = oracle.emitter();
    for count in 0..20 {
        let ask = async { Ok::<_, Failure>(emitter.ask_within(numbered("ask.self", count)?, HOURS).await?) };
        let reply = async {
            let question = stage.next(&mut oracle, "one's own question").await?;
            Ok(question.reply(&number(&question)?).await?)
        };
        let (answer, ()) = stage.within("one's own answer", async { tokio::try_join!(ask, reply) }).await??;
        same("the answer", count, answer.json()?)?;
    }
    Ok(())
}

async fn a_question_without_a_receiver_fails_at_once(stage: &Stage) -> Checked {
    let asker = vibrator("asker", &stage.here).await?;
    let left = listener("left", &stage.here, "ask.nobody").await?;
    left.detune("ask.nobody")?;
    for _ in 0..20 {
        let ask = asker.ask_within(numbered("ask.nobody", 0)?, HOURS);
        match stage.within("an error at once", ask).await? {
            Err(AskError::NoResonator { channel }) => same("the channel", "ask.nobody", channel.as_str())?,
            Err(other) => return Err(Failure::new("NoResonator", format_args!("{other:?}"))),
            Ok(answer) => return Err(Failure::new("NoResonator", format_args!("{answer:?}"))),
        }
    }
    Ok(())
}

async fn a_question_held_without_an_answer_times_out(stage: &Stage) -> Checked {
    let mut mute = listener("mute", &stage.there, "ask.mute").await?;
    let asker = vibrator("asker", &stage.here).await?;
    let patience = Duration::from_millis(200);
    let started = Instant::now();
    let ask = async { Ok(asker.ask_within(numbered("ask.mute", 7)?, patience).await) };
    let keep = stage.next(&mut mute, "the question");
    let (result, kept) = stage.within("the time-out", async { tokio::try_join!(ask, keep) }).await??;
    match result {
        Err(AskError::TimedOut { channel, patience: waited }) => {
            same("the channel", "ask.mute", channel.as_str())?;
            same("the patience", patience, waited)?;
        }
        other => return Err(Failure::new("TimedOut", format_args!("{other:?}"))),
    }
    holds("the time-out to be reached", started.elapsed() >= patience, started.elapsed())?;
    // Too late: the next question must get only its own answer.
    match kept.reply(&"late").await {
        Ok(()) | Err(ReplyError::AskerGone) => {}
        Err(error) => return Err(error.into()),
    }
    let ask = async { Ok::<_, Failure>(asker.ask_within(numbered("ask.mute", 8)?, HOURS).await?) };
    let reply = async { Ok(stage.next(&mut mute, "the next question").await?.reply(&"now").await?) };
    let (answer, ()) = stage.within("the next answer", async { tokio::try_join!(ask, reply) }).await??;
    same("the answer", "now".to_owned(), answer.json()?)
}

async fn a_question_dropped_without_an_answer_fails(stage: &Stage) -> Checked {
    let mut careless = listener("careless", &stage.there, "ask.careless").await?;
    let asker = vibrator("asker", &stage.here).await?;
    // In process the medium knows when the last handle of a question is dropped; across processes the ask must time
    // out.
    let patience = if stage.crosses() { Duration::from_millis(200) } else { HOURS };
    let ask = async { Ok(asker.ask_within(numbered("ask.careless", 7)?, patience).await) };
    let keep = async { stage.next(&mut careless, "the question").await.map(drop) };
    let (result, ()) = stage.within("an error", async { tokio::try_join!(ask, keep) }).await??;
    match result {
        Err(AskError::Unanswered { .. }) if !stage.crosses() => Ok(()),
        Err(AskError::TimedOut { .. }) if stage.crosses() => Ok(()),
        other => {
            let expected = if stage.crosses() { "TimedOut" } else { "Unanswered" };
            Err(Failure::new(expected, format_args!("{other:?}")))
        }
    }
}

async fn only_questions_can_be_answered(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.there, "ask.not").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    emitter.emit(Wave::builder("ask.not").kind(Kind::Query).text("is this a question?").build()?).await?;
    let wave = stage.next(&mut ear, "the wave").await?;
    holds("a wave that expects no answer", !wave.expects_reply(), &wave)?;
    let result = wave.reply(&"no").await;
    holds("NotAsked", matches!(result, Err(ReplyError::NotAsked)), result)
}
