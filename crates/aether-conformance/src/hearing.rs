//! Line 3, ungrouped vibrators: which of them receive a wave, and how often.

use super::report::{Checked, same};
use super::stage::{Stage, listener, number, numbered, vibrator};
use aether_core::clock::Moment;
use aether_core::medium::{Carried, Sequencer};
use aether_core::{Channel, Emitter, Source, Vibrator};

super::case::cases! {
    3 Nothing wildcards_match_their_tokens,
    3 Nothing leading_wildcards_do_not_match_reserved_channels,
    3 Nothing overlapping_patterns_of_a_vibrator_deliver_once,
    3 Nothing own_waves_are_heard_only_if_asked_for,
}

async fn wildcards_match_their_tokens(stage: &Stage) -> Checked {
    let all = ["w", "w.a", "w.b", "w.a.b", "w.a.c", "x", "x.a", "W.a", "w.a.b.c", "wa.b"];
    let heard: [(&str, &[&str]); 9] = [
        ("*", &all),
        (">", &all),
        ("w", &["w"]),
        ("w.*", &["w.a", "w.b"]),
        ("w.>", &["w.a", "w.b", "w.a.b", "w.a.c", "w.a.b.c"]),
        ("*.a", &["w.a", "x.a", "W.a"]),
        ("w.*.b", &["w.a.b"]),
        ("*.*", &["w.a", "w.b", "x.a", "W.a", "wa.b"]),
        ("*.a.>", &["w.a.b", "w.a.c", "w.a.b.c"]),
    ];
    let mut ears = Vec::new();
    for (pattern, channels) in heard {
        ears.push((listener(pattern, &stage.there, pattern).await?, channels));
    }
    let emitter = vibrator("emitter", &stage.here).await?;
    // Two rounds: wrong deliveries of the first round arrive before the right ones of the second.
    for _ in 0..2 {
        for channel in all {
            emitter.emit(numbered(channel, 0)?).await?;
        }
        stage.flush(&stage.here).await?;
    }
    for (mut ear, channels) in ears {
        let twice = [channels, channels].concat();
        stage.hear(&mut ear, &twice).await?;
        same("waves offered", twice.len() as u64, ear.ledger().offered)?;
    }
    Ok(())
}

async fn leading_wildcards_do_not_match_reserved_channels(stage: &Stage) -> Checked {
    let mut framework = listener("framework", &stage.there, "_aether.conformance.>").await?;
    let mut ears = Vec::new();
    for pattern in [">", "*", "*.>", "*.*.*"] {
        ears.push(listener(pattern, &stage.there, pattern).await?);
    }
    let emitter = vibrator("emitter", &stage.here).await?;
    let sequencer = Sequencer::new(Source::new("framework")?);
    for count in 0..2 {
        // Services cannot name a reserved channel, so this bypasses the check as the framework does.
        let mut reserved = numbered(Channel::with_reserved("_aether.conformance.test")?, count)?;
        reserved.stamp(&sequencer, Moment::now());
        if let Carried::Waiting(waiting) = stage.here.medium().carry(reserved)? {
            waiting.finish().await?;
        }
        stage.flush(&stage.here).await?;
        emitter.emit(numbered("plain.conformance.test", count)?).await?;
        stage.flush(&stage.here).await?;
    }
    stage.hear(&mut framework, &["_aether.conformance.test"; 2]).await?;
    for mut ear in ears {
        stage.hear(&mut ear, &["plain.conformance.test"; 2]).await?;
        same("waves offered", 2, ear.ledger().offered)?;
    }
    Ok(())
}

async fn overlapping_patterns_of_a_vibrator_deliver_once(stage: &Stage) -> Checked {
    let mut ear = vibrator("ear", &stage.there).await?;
    for pattern in ["o.*.b", "o.a.*", "o.>", "o.a.*"] {
        ear.resonate_on(pattern).await?;
    }
    let emitter = vibrator("emitter", &stage.here).await?;
    for count in 0..500 {
        emitter.emit(numbered("o.a.b", count)?).await?;
    }
    stage.flush(&stage.here).await?;
    // One for each of the three patterns, in case the medium delivers each pattern's waves by a separate path.
    for channel in ["o.c.b", "o.a.c", "o.d"] {
        emitter.emit(numbered(channel, 500)?).await?;
    }
    let mut next = 0;
    for count in 0..503 {
        let wave = stage.next(&mut ear, format!("wave {count} of 503")).await?;
        if wave.channel().as_str() == "o.a.b" {
            same("the wave that all patterns match", next, number(&wave)?)?;
            next += 1;
        }
    }
    same("waves that all patterns match", 500, next)?;
    same("waves offered", 503, ear.ledger().offered)
}

async fn own_waves_are_heard_only_if_asked_for(stage: &Stage) -> Checked {
    let mut deaf = listener("deaf", &stage.here, "own.>").await?;
    let mut vain = Vibrator::builder("vain").hear_own(true).create(&stage.here).await?;
    vain.resonate_on("own.>").await?;
    // A member of a group hears its own waves, where there are groups.
    let mut member = Vibrator::builder("member").hear_own(!stage.has_groups()).create(&stage.here).await?;
    stage.join_group(&member, "own.>").await?;
    let other = vibrator("other", &stage.there).await?;
    async fn emit(emitter: &Emitter, count: u64) -> Checked {
        emitter.emit(numbered(format!("own.{}", emitter.source().name()), count)?).await?;
        Ok(())
    }
    for count in 0..2 {
        emit(&deaf, count).await?;
        emit(&vain, count).await?;
        emit(&member, count).await?;
        stage.flush(&stage.here).await?;
        emit(&other, count).await?;
        stage.flush(&stage.there).await?;
    }
    let all = ["own.deaf", "own.vain", "own.member", "own.other"];
    let others = ["own.vain", "own.member", "own.other"];
    stage.hear(&mut deaf, &[others, others].concat()).await?;
    same("waves offered to a vibrator that does not receive its own", 6, deaf.ledger().offered)?;
    stage.hear(&mut vain, &[all, all].concat()).await?;
    same("waves offered to a vibrator that receives its own", 8, vain.ledger().offered)?;
    // A wave of a group would be lost if the chosen member did not receive it.
    stage.hear(&mut member, &[all, all].concat()).await?;
    same("waves offered to the only member of a group", 8, member.ledger().offered)
}
