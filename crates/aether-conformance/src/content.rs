//! Line 10, second half: a wave arrives complete.

use std::time::Duration;

use aether_core::clock::Instant;

use super::report::{Checked, Failure, holds, same};
use super::stage::{Stage, listener, numbered, vibrator};
use aether_core::wave::{
    MAX_BAGGAGE_BYTES, MAX_BAGGAGE_ENTRIES, MAX_HOPS, MAX_KEY_BYTES, MAX_METADATA_BYTES,
    MAX_METADATA_ENTRIES, MAX_NAME_BYTES, MAX_SOURCE_BYTES, MAX_TOKENS, TraceContext,
};
use aether_core::{Aether, Amplitude, EmitError, Kind, Phase, Wave, WaveId};

super::case::cases! {
    10 Nothing a_wave_arrives_as_it_was_sent,
    10 Nothing metadata_arrive_in_order_and_byte_for_byte,
    10 Nothing names_and_metadata_of_the_largest_size_arrive,
    10 Nothing root_and_baggage_follow_a_request,
    10 Nothing a_trace_context_arrives_and_is_passed_on,
    10 Nothing a_wave_ages_on_its_way_and_in_the_inbox,
    10 Nothing a_relayed_wave_keeps_its_identity_and_its_age,
}

/// Longer than a case may take.
const HOURS: Duration = Duration::from_secs(7200);

/// Checks everything that must be equal at both ends, except the age.
fn same_wave(id: &WaveId, sent: &Wave, seen: &Wave) -> Checked {
    same("the id", id, &seen.id())?;
    same("the channel", sent.channel(), seen.channel())?;
    same("the kind", sent.kind(), seen.kind())?;
    same("amplitude, half-life and hops", sent.signal(), seen.signal())?;
    same("the phase", sent.phase(), seen.phase())?;
    same("the key", sent.key(), seen.key())?;
    same("the cause", sent.cause(), seen.cause())?;
    same("the baggage", sent.baggage(), seen.baggage())?;
    same("the content type", sent.content_type(), seen.content_type())?;
    same("the payload", sent.payload(), seen.payload())?;
    // As a set, because the order has a case of its own.
    let [mut sent, mut seen] = [sent, seen].map(|wave| wave.metadata().iter().collect::<Vec<_>>());
    sent.sort();
    seen.sort();
    same("the metadata", sent, seen)
}

async fn a_wave_arrives_as_it_was_sent(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.there, "content.>").await?;
    let emitter = vibrator("vibrator ü@1/2", &stage.here).await?;
    let mut cause: Option<WaveId> = None;
    let half_lives = [None, Some(Duration::from_millis(1)), Some(Duration::from_secs(1 << 30))];
    let phases = [Phase::ASSERT, Phase::RETRACT, Phase::new(1.25)?];
    let amplitudes = [Amplitude::FULL, Amplitude::NORMAL, Amplitude::FAINTEST, Amplitude::new(0.9)?];
    let mut round = 0;
    for kind in Kind::ALL {
        for amplitude in amplitudes {
            let builder = Wave::builder(format!("content.{kind}")).kind(kind).amplitude(amplitude);
            let mut builder = builder.phase(phases[round % 3]);
            builder = match half_lives[round % 3] {
                Some(half_life) => builder.half_life(half_life),
                None if round % 2 == 0 => builder.never_decays(),
                None => builder,
            };
            builder = match round % 5 {
                0 => builder.bytes(vec![0, 255, 174, b'T', b'H', b'\n', b'\r']),
                1 => builder.text("text ü \u{1F30A} \0"),
                2 => builder.json(serde_json::json!({ "round": round, "list": [1, null, "x"] })),
                3 => builder.bytes("\u{1}").content_type("application/cbor; version=\"1\""),
                _ => builder,
            };
            if round % 2 == 0 {
                builder =
                    builder.key("order-17 ü").metadata("traceparent", "00-0af7651916cd43dd-b7ad6b71-01");
                builder = builder
                    .metadata("Empty", "")
                    .metadata("b", "1")
                    .metadata("a", "ü, x: y")
                    .metadata("b", "2");
            }
            if let Some(cause) = &cause {
                builder = builder.cause(cause.clone());
            }
            let sent = builder.build()?;
            let receipt = emitter.emit(sent.clone()).await?;
            let id = WaveId { source: emitter.source().clone(), sequence: receipt.sequence };
            let seen = stage.next(&mut ear, format!("a {kind} of amplitude {amplitude}")).await?;
            same_wave(&id, &sent, &seen)?;
            same("the sequence number of the wave kept by its author", 0, sent.sequence())?;
            cause = Some(id);
            round += 1;
        }
    }
    Ok(())
}

async fn metadata_arrive_in_order_and_byte_for_byte(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.there, "content.metadata").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    let entries =
        [("b", "1"), ("a", " spaces "), ("b", "2"), ("c", ""), ("B", "3"), ("a", "4"), ("!#~", "\u{2028}")];
    let mut builder = Wave::builder("content.metadata");
    for (name, value) in entries {
        builder = builder.metadata(name, value);
    }
    let sent = builder.build()?;
    emitter.emit(sent.clone()).await?;
    let seen = stage.next(&mut ear, "the wave").await?;
    same("the metadata", sent.metadata(), seen.metadata())
}

async fn names_and_metadata_of_the_largest_size_arrive(stage: &Stage) -> Checked {
    let token = "n".repeat((MAX_NAME_BYTES - (MAX_TOKENS - 1)) / MAX_TOKENS);
    let channel = vec![token; MAX_TOKENS].join(".");
    let channel = format!("{channel}{}", "n".repeat(MAX_NAME_BYTES - channel.len()));
    let mut ear = listener("ear", &stage.there, &channel).await?;
    let name = "v".repeat(MAX_SOURCE_BYTES);
    let emitter = vibrator(&name, &stage.here).await?;
    let mut builder = Wave::builder(&*channel).key(&"k".repeat(MAX_KEY_BYTES)).text("x");
    let each = MAX_METADATA_BYTES / MAX_METADATA_ENTRIES;
    for entry in 0..MAX_METADATA_ENTRIES {
        let name = format!("name-{entry:02}");
        let value = "v".repeat(each - name.len());
        builder = builder.metadata(&name, &value);
    }
    let source = emitter.source().clone();
    let sent = builder.cause(WaveId { source: source.clone(), sequence: u64::MAX }).build()?;
    let receipt = emitter.emit(sent.clone()).await?;
    let seen = stage.next(&mut ear, "the wave").await?;
    same_wave(&WaveId { source, sequence: receipt.sequence }, &sent, &seen)
}

/// A request of three waves and an answer, by handlers on both sides.
async fn root_and_baggage_follow_a_request(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.there, "content.request.*").await?;
    let mut bearer = vibrator("emitter", &stage.here).await?.emitter();
    let each = MAX_BAGGAGE_BYTES / MAX_BAGGAGE_ENTRIES;
    for entry in 0..MAX_BAGGAGE_ENTRIES {
        let name = format!("Name-{entry:02}");
        let value = ["ü, x;\"\\= %2C", ""][entry % 2];
        let padded = if entry % 3 == 0 { "v".repeat(each - name.len()) } else { value.to_owned() };
        bearer = bearer.with_baggage(&name, &padded)?;
    }
    bearer.emit(numbered("content.request.a", 1)?).await?;
    let first = stage.next(&mut ear, "the first wave").await?;
    same("the root of the first wave", first.id(), first.root())?;
    same("the baggage of the first wave", bearer.baggage(), first.baggage())?;
    let mut last = first.clone();
    // The root of the second wave is its cause; the root of the third is another wave.
    for step in 2..=3 {
        vibrator("handler", &stage.here)
            .await?
            .following(&last)
            .emit(numbered("content.request.b", step)?)
            .await?;
        let next = stage.next(&mut ear, format!("wave {step}")).await?;
        same("the cause", Some(&last.id()), next.cause())?;
        same("the root", first.id(), next.root())?;
        same("the baggage", first.baggage(), next.baggage())?;
        last = next;
    }
    let asker = vibrator("handler", &stage.here).await?.following(&last);
    let answers = async {
        let question = stage.next(&mut ear, "the question").await?;
        same("the root of the question", first.id(), question.root())?;
        question.reply(&1).await.map_err(Failure::from)
    };
    let question = numbered("content.request.c", 4)?;
    let (answer, answered) = tokio::join!(asker.ask_within(question, HOURS), answers);
    answered?;
    let answer = answer?;
    same("the root of the answer", first.id(), answer.root())?;
    same("the baggage of the answer", first.baggage(), answer.baggage())
}

/// A wave of a trace, one that follows from it, and an answer, in processes without a tracer.
async fn a_trace_context_arrives_and_is_passed_on(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.there, "content.trace.*").await?;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let given = parent.parse::<TraceContext>()?.with_state("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")?;
    let emitter = vibrator("emitter", &stage.here).await?.emitter();
    let wave = Wave::builder("content.trace.a").trace_context(given.clone()).build()?;
    emitter.emit(wave).await?;
    let first = stage.next(&mut ear, "the first wave").await?;
    same("the trace context", Some(&given), first.trace_context().as_ref())?;
    emitter.following(&first).emit(numbered("content.trace.b", 2)?).await?;
    let second = stage.next(&mut ear, "the second wave").await?;
    same("the trace context of the second wave", Some(&given), second.trace_context().as_ref())?;
    let asker = emitter.within_trace(given.clone());
    let answers = async {
        let question = stage.next(&mut ear, "the question").await?;
        same("the trace context of the question", Some(&given), question.trace_context().as_ref())?;
        question.reply(&1).await.map_err(Failure::from)
    };
    let question = numbered("content.trace.c", 3)?;
    let (answer, answered) = tokio::join!(asker.ask_within(question, HOURS), answers);
    answered?;
    same("the trace context of the answer", Some(&given), answer?.trace_context().as_ref())
}

async fn a_wave_ages_on_its_way_and_in_the_inbox(stage: &Stage) -> Checked {
    let pause = Duration::from_millis(50);
    let mut ear = listener("ear", &stage.there, "age.*").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    for _ in 0..3 {
        let before = Instant::now();
        emitter.emit(numbered("age.a", 1)?).await?;
        stage.settle(&stage.here, &emitter, &mut ear, "age.marker").await?;
        // The wave is in the inbox.
        let queued = Instant::now();
        tokio::time::sleep(pause).await;
        let waited = queued.elapsed();
        let wave = stage.next(&mut ear, "the wave").await?;
        let age = wave.age();
        // Ages are read from the time stamp counter, which is calibrated to some ten parts in a million.
        let (least, most) = (waited.mul_f64(0.999), before.elapsed().mul_f64(1.001));
        holds("an age of at least the time in the inbox", age >= least, (age, waited))?;
        holds("an age of at most the time since the emission", age <= most, (age, most))?;
        let (inner, age) = (Instant::now(), wave.age());
        tokio::time::sleep(pause).await;
        let (grown, passed) = (wave.age() - age, inner.elapsed());
        holds(
            "an age that grows as time passes",
            grown >= pause.mul_f64(0.999) && grown <= passed.mul_f64(1.001),
            (grown, passed),
        )?;
    }
    Ok(())
}

async fn a_relayed_wave_keeps_its_identity_and_its_age(stage: &Stage) -> Checked {
    let elsewhere = Aether::local();
    let mut bridge = listener("bridge", &elsewhere, "relayed").await?;
    let author = vibrator("author", &elsewhere).await?;
    author
        .emit(Wave::builder("relayed").amplitude(0.8).key("k").metadata("a", "b").text("x").build()?)
        .await?;
    let first = stage.next(&mut bridge, "the wave to relay").await?;

    let mut ear = listener("ear", &stage.there, "relayed").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    let mut wave = first.clone();
    for hops in 1..=MAX_HOPS {
        let age = wave.age();
        emitter.relay(&wave).await?;
        wave = stage.next(&mut ear, format!("the wave at hop {hops}")).await?;
        same("hops", hops, wave.hops())?;
        same("the amplitude at the source", first.amplitude(), wave.amplitude())?;
        same("the id", first.id(), wave.id())?;
        same("the key", first.key(), wave.key())?;
        same("the metadata", first.metadata(), wave.metadata())?;
        same("the payload", first.payload(), wave.payload())?;
        holds("an age that keeps growing", wave.age() >= age, (age, wave.age()))?;
    }
    match emitter.relay(&wave).await {
        Err(EmitError::TooFar { wave: back }) => same("the wave that was handed back", first.id(), back.id()),
        other => Err(Failure::new("TooFar", format_args!("{other:?}"))),
    }
}
