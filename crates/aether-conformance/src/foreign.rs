//! Line 11: messages from clients of the broker that do not know Aether.

use aether_core::clock::Instant;
use bytes::Bytes;

use super::harness::ForeignMessage;
use super::report::{Checked, Failure, holds, same};
use super::stage::{Stage, listener, number, numbered, vibrator};
use aether_core::wave::{ContentType, MAX_METADATA_BYTES, MAX_METADATA_ENTRIES, MAX_TOKENS};
use aether_core::{Amplitude, HalfLife, Kind, Phase, Wave};
use aether_link::wire::{Sender, encode, is_frame};

super::case::cases! {
    11 Foreign a_foreign_message_arrives_as_a_wave_with_default_values,
    11 Foreign foreign_headers_become_metadata,
    11 Foreign a_foreign_requester_gets_a_plain_answer,
    11 Foreign malformed_messages_are_counted_and_end_nothing,
}

fn plain(payload: impl Into<Bytes>) -> ForeignMessage {
    ForeignMessage { headers: Vec::new(), payload: payload.into() }
}

async fn a_foreign_message_arrives_as_a_wave_with_default_values(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.there, "foreign.*").await?;
    let mut member = vibrator("member", &stage.there).await?;
    stage.join_group(&member, "foreign.>").await?;
    let mut elsewhere = listener("elsewhere", &stage.here, "foreign.a").await?;
    let payloads: [&'static [u8]; 5] = [b"text", b"text", b"", b"{\"a\":1}", &[0, 255, 0xAE, b'T']];
    let mut ids = Vec::new();
    for payload in payloads {
        stage.foreign()?.publish("foreign.a", plain(payload)).await?;
        let wave = stage.next(&mut ear, "the foreign message").await?;
        same("the channel", "foreign.a", wave.channel().as_str())?;
        same("the payload", payload, wave.payload())?;
        same("the amplitude", Amplitude::NORMAL, wave.amplitude())?;
        same("the half-life", HalfLife::EIGHT_SECONDS, wave.half_life())?;
        same("the kind", Kind::Event, wave.kind())?;
        same("the phase", Phase::ASSERT, wave.phase())?;
        same("the content type", &ContentType::Bytes, wave.content_type())?;
        same("the hops", 0, wave.hops())?;
        same("the key", None, wave.key())?;
        same("the cause", None, wave.cause())?;
        holds("no metadata", wave.metadata().is_empty(), wave.metadata())?;
        holds("a wave that expects no answer", !wave.expects_reply(), &wave)?;
        holds("an age of less than the time-out", wave.age() < crate::Suite::LIMIT, wave.age())?;
        holds("an instance, as every source has", wave.source().instance() != 0, wave.source())?;
        holds("an identity of its own", !ids.contains(&wave.id()), wave.id())?;
        ids.push(wave.id());
        let there_too = stage.next(&mut elsewhere, "the foreign message elsewhere").await?;
        same("the identity that another receiver gives it", wave.id(), there_too.id())?;
        let wave = stage.next(&mut member, "the foreign message in a group").await?;
        same("the payload", payload, wave.payload())?;
    }
    Ok(())
}

async fn foreign_headers_become_metadata(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.there, "foreign.*").await?;
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "A234-1234-1234"),
        ("ce-source", "https://example.org/shop"),
        ("ce-type", "org.example.created"),
        ("ce-severity", "3"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("X-Own", "ü and spaces"),
    ];
    let mut message = plain("{}");
    message.headers.extend(headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
    message.headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    stage.foreign()?.publish("foreign.a", message).await?;
    let wave = stage.next(&mut ear, "the foreign message").await?;
    for (name, value) in headers {
        same(name, Some(value), wave.metadata().value(name))?;
    }
    same("the content type", &ContentType::Json, wave.content_type())?;
    same("the payload", b"{}".as_slice(), wave.payload())?;

    // More headers than a wave can have: the excess is dropped, the message is not.
    let mut message = plain("much");
    for count in 0..2 * MAX_METADATA_ENTRIES {
        message.headers.push((format!("n-{count}"), "v".to_owned()));
    }
    message.headers.push(("big".to_owned(), "v".repeat(2 * MAX_METADATA_BYTES)));
    stage.foreign()?.publish("foreign.a", message).await?;
    let wave = stage.next(&mut ear, "the message with too many headers").await?;
    same("the payload", b"much".as_slice(), wave.payload())?;
    same("the entries that fit", MAX_METADATA_ENTRIES, wave.metadata().len())?;
    same("messages that are malformed", 0, stage.there.status().malformed)
}

async fn a_foreign_requester_gets_a_plain_answer(stage: &Stage) -> Checked {
    let mut oracle = listener("oracle", &stage.there, "ask.foreign").await?;
    let foreign = stage.foreign()?;
    for count in 0..5_u64 {
        let ask = async {
            let asked = foreign.request("ask.foreign", plain(count.to_string())).await;
            asked.map_err(Failure::from)
        };
        let reply = async {
            let question = stage.next(&mut oracle, "the foreign question").await?;
            holds("a question that can be answered", question.expects_reply(), &question)?;
            same("the kind of a question", Kind::Query, question.kind())?;
            let root = number(&question)?;
            if count % 2 == 0 {
                question.reply(&(root * root)).await?;
            } else {
                question.reply_bytes((root * root).to_string()).await?;
            }
            Ok(())
        };
        let (answer, ()) =
            stage.within("the foreign answer", async { tokio::try_join!(ask, reply) }).await??;
        same(
            "the answer, as bytes without a frame",
            (count * count).to_string().into_bytes(),
            answer.payload.to_vec(),
        )?;
    }
    // An asker that knows Aether still gets a complete answer.
    let asker = vibrator("asker", &stage.here).await?;
    let question = Wave::builder("ask.foreign").kind(Kind::Query).json(3).build()?;
    let ask = async { Ok::<_, Failure>(asker.ask_within(question, crate::Suite::LIMIT).await?) };
    let reply = async { Ok(stage.next(&mut oracle, "the question").await?.reply(&9).await?) };
    let (answer, ()) = stage.within("the answer", async { tokio::try_join!(ask, reply) }).await??;
    same("the answer", 9, answer.json()?)?;
    same("the kind of an answer", Kind::Response, answer.kind())?;
    same("the responder", oracle.source(), answer.source())
}

async fn malformed_messages_are_counted_and_end_nothing(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.there, "garbage.>").await?;
    let mut member = vibrator("member", &stage.there).await?;
    stage.join_group(&member, "garbage.>").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    let foreign = stage.foreign()?;

    let sender = Sender { node: 1, sent_micros: 1 };
    let wave = numbered("garbage.a", 7)?;
    let now = Instant::now();
    let frame = encode(sender, None, std::slice::from_ref(&wave), now)?;
    let mut unknown_version = frame.to_vec();
    unknown_version[3] = 99;
    let other = numbered("garbage.b", 7)?;
    let other_channel = encode(sender, Some(other.channel()), std::slice::from_ref(&other), now)?;
    let mut garbage = vec![
        ("garbage.a".to_owned(), frame.slice(..3)),
        ("garbage.a".to_owned(), frame.slice(..frame.len() - 1)),
        ("garbage.a".to_owned(), [&frame[..], b"x"].concat().into()),
        ("garbage.a".to_owned(), unknown_version.into()),
        ("garbage.a".to_owned(), other_channel),
        ("garbage.a".to_owned(), [&frame[..3], &[1; 300]].concat().into()),
    ];
    // Names that are valid for the broker but not as channels.
    garbage.push((format!("garbage{}", ".x".repeat(MAX_TOKENS)), Bytes::from_static(b"plain")));
    garbage.push(("garbage.ü".to_owned(), Bytes::from_static(b"plain")));
    holds("garbage that begins like a frame", is_frame(&garbage[0].1), &garbage[0])?;

    for (count, (channel, payload)) in garbage.into_iter().enumerate() {
        foreign.publish(&channel, plain(payload)).await?;
        emitter.emit(numbered("garbage.a", count as u64)?).await?;
        for ear in [&mut ear, &mut member] {
            let wave = stage.next(ear, format!("the wave after garbage number {count}")).await?;
            same("the wave", count as u64, number(&wave)?)?;
        }
        // Once for the listener's subscription and once for the group's.
        same("malformed messages", 2 * (count as u64 + 1), stage.there.status().malformed)?;
    }
    // Plain messages still arrive.
    foreign.publish("garbage.a", plain("8")).await?;
    same("the plain message", 8, number(&stage.next(&mut ear, "a plain message").await?)?)
}
