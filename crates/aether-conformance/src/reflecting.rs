//! Line 12: notices of the framework, and what is built on them: echoes and dead letters.

use std::collections::BTreeSet;

use super::report::{Checked, Failure, holds, same};
use super::stage::{Stage, listener, number, until, vibrator};
use aether_core::echo::{self, EchoesError};
use aether_core::medium::{Reach, Sequencer};
use aether_core::wave::{ATTEMPTS, ContentType, EchoRequest, MAX_HOPS};
use aether_core::{
    Aether, Channel, Echo, EchoReason, Echoes, EmitError, Emitter, Floor, InboxOptions, Kind, Pattern,
    Source, Vibrator, Wave, WhenFull,
};

super::case::cases! {
    12 Unheard a_notice_reports_whether_it_has_a_receiver,
    12 Nothing a_closed_medium_sends_no_notices,
    12 Nothing only_shed_commands_and_queries_are_reflected,
    12 Nothing a_reported_failure_is_reflected_once_for_each_receiver,
    12 Nothing a_wave_comes_back_as_its_source_asked,
    12 Nothing a_letter_is_kept_beside_the_echo_where_that_is_wanted,
    12 Nothing a_storm_of_failures_is_merged_and_counted,
    12 Nothing waves_without_a_receiver_are_reflected,
    12 Nothing of_a_burst_only_waves_without_a_receiver_are_reflected,
    12 Nothing waves_relayed_too_far_are_reflected,
    12 Nothing an_echo_of_an_unknown_wave_is_ignored_and_counted,
    12 Unheard a_failed_wave_without_its_source_becomes_a_dead_letter_that_can_be_replayed,
    12 HeldWaves waves_shed_by_the_outbox_while_away_are_reflected_at_once,
    12 Link failures_while_away_are_reflected_afterwards,
}

fn command(channel: &str, number: u64) -> Checked<Wave> {
    of_kind(Kind::Command, channel, number)
}

fn of_kind(kind: Kind, channel: &str, number: u64) -> Checked<Wave> {
    Ok(Wave::builder(channel).kind(kind).text(number.to_string()).build()?)
}

/// A receiver with little room, which sheds at once.
async fn narrow(aether: &Aether, pattern: &str, room: usize) -> Checked<Vibrator> {
    let options = InboxOptions::default().max_waves(room).when_full(WhenFull::Shed);
    let ear = Vibrator::builder("narrow").inbox(options).create(aether).await?;
    ear.resonate_on(pattern).await?;
    Ok(ear)
}

async fn next(stage: &Stage, echoes: &mut Echoes, what: &str) -> Checked<Echo> {
    let echo = stage.within(what, echoes.receive()).await?;
    echo.ok_or_else(|| Failure::new(what, "the end of all echoes"))
}

/// Waits until all receivers of `from` have reported their failures, then makes `end` fail by hand and waits for that
/// echo: earlier reports have arrived by then. Returns them.
async fn settled(stage: &Stage, echoes: &mut Echoes, failing: &Emitter, wave: &Wave) -> Checked<Vec<Echo>> {
    stage.within("the failures to be reported", stage.there.echoes_settled()).await?;
    failing.reflect(wave, EchoReason::Rejected, "the last one").await;
    let mut came = Vec::new();
    loop {
        let echo = next(stage, echoes, "the last echo").await?;
        if echo.hint == "the last one" {
            return Ok(came);
        }
        came.push(echo);
    }
}

async fn a_notice_reports_whether_it_has_a_receiver(stage: &Stage) -> Checked {
    let sequencer = Sequencer::new(Source::framework());
    let notice = |channel: &str, text: &str| -> Checked<Wave> {
        let wave = Wave::plain(Channel::with_reserved(channel)?, text.to_owned().into(), ContentType::Text);
        Ok(wave.noticed(&sequencer))
    };
    let observer = Vibrator::builder("observer").observe().create(&stage.there).await?;
    observer.resonate_on(Pattern::new("_aether.test.*")?).await?;
    let mut near = listener("near", &stage.here, "_aether.test.heard").await?;
    let mut far = listener("far", &stage.there, "_aether.test.heard").await?;
    for round in 0..20 {
        let channels = ["heard", "unheard", "heard", "unheard", "unheard"];
        let notices: Checked<Vec<_>> = channels
            .iter()
            .enumerate()
            .map(|(place, name)| notice(&format!("_aether.test.{name}"), &format!("{}", round * 10 + place)))
            .collect();
        let reaches = stage.within("notify to return", stage.here.medium().notify(notices?)).await?;
        let expected: Vec<_> =
            channels.map(|name| if name == "heard" { Reach::Delivered } else { Reach::NoListener }).into();
        same("how far they went", expected, reaches)?;
        for place in [0, 2] {
            for ear in [&mut near, &mut far] {
                let wave = stage.next(ear, "the notice").await?;
                same("the notice", (round * 10 + place) as u64, number(&wave)?)?;
            }
        }
    }
    near.detune("_aether.test.heard")?;
    far.detune("_aether.test.heard")?;
    // The server learns of the leave from one connection and of the notice from the other.
    for end in [&stage.here, &stage.there] {
        stage.flush(end).await?;
    }
    let told = stage.here.medium().notify(vec![notice("_aether.test.heard", "7")?]);
    same("how far it went", vec![Reach::NoListener], stage.within("notify to return", told).await?)?;
    same("waves in the outbox", 0, stage.here.status().outbox.offered)
}

async fn a_closed_medium_sends_no_notices(stage: &Stage) -> Checked {
    let ear = listener("ear", &stage.there, "_aether.test").await?;
    let wave = Wave::plain(Channel::with_reserved("_aether.test")?, "7".into(), ContentType::Text);
    let wave = wave.noticed(&Sequencer::new(Source::framework()));
    stage.within("the close to return", stage.here.close()).await??;
    let reaches =
        stage.within("notify to return", stage.here.medium().notify(vec![wave.clone(), wave])).await?;
    same("how far they went", vec![Reach::Unsent; 2], reaches)?;
    let asked = stage.within("an error", vibrator("late", &stage.here).await?.echoes()).await?;
    holds("Closed", matches!(asked, Err(EchoesError::Join(_))), asked)?;
    same("waves offered to the listener", 0, ear.ledger().offered)
}

async fn only_shed_commands_and_queries_are_reflected(stage: &Stage) -> Checked {
    let full = narrow(&stage.there, "shed.full", 1).await?;
    let deaf = Vibrator::builder("deaf").floor(Floor::new(0.9)?).create(&stage.there).await?;
    deaf.resonate_on("shed.deaf").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    let mut echoes = emitter.echoes().await?;
    let taken = emitter.echoes().await;
    holds("Taken", matches!(taken, Err(EchoesError::Taken { .. })), taken)?;
    let (mut expected, mut last) = (BTreeSet::new(), None);
    for kind in Kind::ALL {
        let receipt = emitter.emit(of_kind(kind, "shed.deaf", 1)?).await?;
        if kind.reflects() {
            expected.insert((receipt.sequence, "shed.deaf", "deaf"));
        }
    }
    // Room for one: the oldest of the weakest is shed, so all but the last.
    for count in 0..8 {
        let wave = command("shed.full", count)?;
        expected.extend(last.replace(emitter.emit(wave).await?.sequence).map(|n| (n, "shed.full", "narrow")));
    }
    let mut came = BTreeSet::new();
    for _ in 0..expected.len() {
        let echo = next(stage, &mut echoes, "each wave that was shed to come back").await?;
        same("the reason", EchoReason::Shed, echo.reason)?;
        same("of how many", 1, echo.count)?;
        same("the source", emitter.source(), &echo.of.source)?;
        let channel = if echo.channel.as_str() == "shed.deaf" { "shed.deaf" } else { "shed.full" };
        let by = if echo.by == "deaf" { "deaf" } else { "narrow" };
        came.insert((echo.of.sequence, channel, by));
    }
    same("the echoes", expected, came)?;
    // What is left in an inbox is reflected as well.
    drop(full);
    let echo = next(stage, &mut echoes, "what a receiver leaves behind").await?;
    same("the wave", last, Some(echo.of.sequence))?;
    let ledger = stage.there.echo_ledger();
    holds("an account that adds up, with nothing buried", ledger.adds_up() && ledger.buried == 0, ledger)?;
    same("dead letters", 0, stage.there.dead_letters().counts().buried)
}

async fn a_reported_failure_is_reflected_once_for_each_receiver(stage: &Stage) -> Checked {
    let mut ears =
        [listener("a", &stage.there, "hand.*").await?, listener("b", &stage.there, "hand.*").await?];
    let emitter = vibrator("emitter", &stage.here).await?;
    let mut echoes = emitter.echoes().await?;
    let event = emitter.emit(of_kind(Kind::Event, "hand.event", 1)?).await?;
    let sent = emitter.emit(command("hand.command", 2)?).await?;
    for ear in &mut ears {
        for _ in 0..2 {
            let wave = stage.next(ear, "the wave").await?;
            holds("one of the two", [event.sequence, sent.sequence].contains(&wave.sequence()), &wave)?;
            for _ in 0..3 {
                ear.reflect(&wave, EchoReason::HandlerFailed, "the disk is full").await;
            }
        }
    }
    let mut by = BTreeSet::new();
    for _ in 0..2 {
        let echo = next(stage, &mut echoes, "an echo of each receiver").await?;
        same("the wave", emitter.id_of(&sent), echo.of)?;
        same("the reason", EchoReason::HandlerFailed, echo.reason)?;
        same("the hint", "the disk is full", &*echo.hint)?;
        same("of how many", 1, echo.count)?;
        by.insert(echo.by);
    }
    same("the receivers that failed", BTreeSet::from(["a".to_owned(), "b".to_owned()]), by)?;
    let further = emitter.emit(command("hand.command", 3)?).await?;
    let [a, _] = &mut ears;
    let wave = stage.next(a, "the wave").await?;
    same("the wave", further.sequence, wave.sequence())?;
    let more = settled(stage, &mut echoes, &a.emitter(), &wave).await?;
    holds("no echo beyond one for each receiver", more.is_empty(), more)
}

async fn a_wave_comes_back_as_its_source_asked(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.there, "asked.*").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    let mut echoes = emitter.echoes().await?;
    let wave = |kind, text: &str| {
        Wave::builder("asked.one").kind(kind).key("order-17").metadata("tenant", "blue").text(text)
    };
    emitter.emit(wave(Kind::Event, "not asked").build()?).await?;
    emitter.emit(wave(Kind::Event, "event").echo(EchoRequest::told()).build()?).await?;
    emitter.emit(wave(Kind::Command, "command").echo(EchoRequest::told().payload()).build()?).await?;
    let large = "x".repeat(echo::MAX_ECHO_PAYLOAD + 1);
    emitter.emit(wave(Kind::Broadcast, &large).echo(EchoRequest::told().payload()).build()?).await?;
    for _ in 0..4 {
        let wave = stage.next(&mut ear, "the wave").await?;
        ear.reflect(&wave, EchoReason::HandlerFailed, "the disk is full").await;
    }
    let mut came = Vec::new();
    for _ in 0..3 {
        let echo = next(stage, &mut echoes, "the echoes that were asked for").await?;
        same("the key", Some("order-17"), echo.key())?;
        same("the metadata", Some("blue"), echo.metadata().value("tenant"))?;
        same("the amplitude", wave(Kind::Event, "").build()?.amplitude(), echo.to_wave().amplitude())?;
        let details = echo.wave.ok_or_else(|| Failure::new("what the echo carries", "nothing"))?;
        came.push((details.kind, details.payload_bytes, details.payload));
    }
    came.sort_by_key(|(_, bytes, _)| *bytes);
    let expected = vec![
        (Kind::Event, 5, None),
        (Kind::Command, 7, Some("command".into())),
        (Kind::Broadcast, large.len(), None),
    ];
    same("what came back", expected, came)?;
    // Nobody hears this one.
    if stage.here.promises().reflects_unheard {
        let unheard = Wave::builder("nobody.asked").echo(EchoRequest::told()).build()?;
        let receipt = emitter.emit(unheard).await?;
        let echo = next(stage, &mut echoes, "the event that nobody heard").await?;
        same("the wave", (receipt.sequence, EchoReason::NoResonator), (echo.of.sequence, echo.reason))?;
    }
    Ok(())
}

async fn a_letter_is_kept_beside_the_echo_where_that_is_wanted(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.there, "kept").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    let mut echoes = emitter.echoes().await?;
    let letters = stage.there.dead_letters();
    let plain = || Wave::builder("kept").kind(Kind::Command).text("7");
    for (is_asked, keeps) in [(false, false), (true, false), (false, true)] {
        letters.keep_echoed(keeps);
        let wave = if is_asked { plain().echo(EchoRequest::told().letter()) } else { plain() };
        let receipt = emitter.emit(wave.build()?).await?;
        let wave = stage.next(&mut ear, "the wave").await?;
        ear.reflect(&wave, EchoReason::HandlerFailed, "the disk is full").await;
        let echo = next(stage, &mut echoes, "the echo").await?;
        same("the wave", receipt.sequence, echo.of.sequence)?;
        let kept: Vec<_> = letters.take_all().iter().map(|letter| letter.wave.id()).collect();
        let expected: Vec<_> = (is_asked || keeps).then(|| emitter.id_of(&receipt)).into_iter().collect();
        same("the letters", expected, kept)?;
    }
    stage.within("the failures to settle", stage.there.echoes_settled()).await?;
    let (ledger, counts) = (stage.there.echo_ledger(), letters.counts());
    holds("accounts that add up", ledger.adds_up() && counts.adds_up(), (ledger, counts))?;
    same("echoes and letters", (3, 0, 2), (ledger.echoed, ledger.buried, counts.buried))
}

async fn a_storm_of_failures_is_merged_and_counted(stage: &Stage) -> Checked {
    const WAVES: u64 = 20_000;
    let mut ear = narrow(&stage.there, "storm", 1).await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    let mut echoes = emitter.echoes().await?;
    let mut last = None;
    for count in 0..WAVES {
        last = Some(emitter.emit(command("storm", count)?).await?.sequence);
    }
    let wave = loop {
        let wave = stage.next(&mut ear, "the last of the storm").await?;
        if Some(wave.sequence()) == last {
            break wave;
        }
    };
    let shed = ear.ledger().shed_full;
    // The last waves that were shed are reported after the receiver was woken.
    let noticed = until(|| stage.there.echo_ledger().reflected >= shed);
    stage.within("all failures to be noticed", noticed).await?;
    let came = settled(stage, &mut echoes, &ear.emitter(), &wave).await?;
    let reported: u64 = came.iter().map(|echo| echo.count).sum();
    holds("all failures to be reported", reported == shed, (reported, shed, stage.there.echo_ledger()))?;
    holds("fewer echoes than failures", (came.len() as u64) < shed / 4, (came.len(), shed))?;
    // The echo can arrive before the broker's confirmation that it has a receiver.
    stage.within("the failures to settle", stage.there.echoes_settled()).await?;
    let ledger = stage.there.echo_ledger();
    holds("an account that adds up", ledger.adds_up(), ledger)?;
    same("failures of this receiver", shed + 1, ledger.echoed)
}

async fn waves_without_a_receiver_are_reflected(stage: &Stage) -> Checked {
    let observer = Vibrator::builder("observer").observe().create(&stage.there).await?;
    observer.resonate_on(">").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    let mut echoes = emitter.echoes().await?;
    emitter.emit(of_kind(Kind::Event, "nobody.hears", 1)?).await?;
    let sent = [
        emitter.emit(command("nobody.hears", 2)?).await?,
        emitter.try_emit(of_kind(Kind::Query, "nobody.hears", 3)?)?,
    ];
    // The asker learns it from the error only.
    stage.ask_nobody(&emitter, Wave::builder("nobody.hears").kind(Kind::Query).text("4").build()?).await?;
    let mut ear = listener("ear", &stage.here, "marker").await?;
    for receipt in sent.iter().filter(|_| stage.here.promises().reflects_unheard) {
        let echo = next(stage, &mut echoes, "the wave without a receiver").await?;
        same("the wave", emitter.id_of(receipt), echo.of)?;
        same("the reason", EchoReason::NoResonator, echo.reason)?;
    }
    emitter.emit(command("marker", 5)?).await?;
    let wave = stage.next(&mut ear, "the marker").await?;
    let more = settled(stage, &mut echoes, &ear.emitter(), &wave).await?;
    holds("no further echo", more.is_empty(), more)
}

async fn of_a_burst_only_waves_without_a_receiver_are_reflected(stage: &Stage) -> Checked {
    const WAVES: u64 = 3000;
    let emitter = vibrator("emitter", &stage.here).await?;
    let mut echoes = emitter.echoes().await?;
    let mut lone = listener("lone", &stage.there, "burst.lone").await?;
    let mut member = vibrator("member", &stage.there).await?;
    stage.join_group(&member, "burst.group").await?;
    let kinds = [Kind::Command, Kind::Query, Kind::Event];
    let mut unheard = 0;
    for count in 0..WAVES {
        for channel in ["burst.lone", "burst.nobody", "burst.group"] {
            let kind = kinds[(count % 3) as usize];
            emitter.emit(of_kind(kind, channel, count)?).await?;
            let comes_back = kind.reflects() && channel == "burst.nobody";
            unheard += u64::from(comes_back && stage.here.promises().reflects_unheard);
        }
    }
    stage.settle(&stage.here, &emitter.emitter(), &mut lone, "burst.lone").await?;
    let ledger = stage.here.echo_ledger();
    same("waves that came back", (unheard, unheard), (ledger.reflected, ledger.echoed))?;
    let mut told = 0;
    while told < unheard {
        let echo = next(stage, &mut echoes, "the wave without a receiver").await?;
        same(
            "where and why",
            ("burst.nobody", EchoReason::NoResonator),
            (echo.channel.as_str(), echo.reason),
        )?;
        told += echo.count;
    }
    same("waves that were reported", unheard, told)?;
    for count in 0..WAVES {
        same("the group's wave", count, number(&stage.next(&mut member, "the group's wave").await?)?)?;
    }
    Ok(())
}

async fn waves_relayed_too_far_are_reflected(stage: &Stage) -> Checked {
    let emitter = vibrator("emitter", &stage.here).await?;
    let mut echoes = emitter.echoes().await?;
    let mut ear = listener("ear", &stage.there, "far").await?;
    let bridge = vibrator("bridge", &stage.there).await?;
    let sent = emitter.emit(command("far", 7)?).await?;
    let mut wave = stage.next(&mut ear, "the wave").await?;
    for hop in 1..=MAX_HOPS {
        bridge.relay(&wave).await?;
        wave = stage.next(&mut ear, "the relayed wave").await?;
        same("how often it was relayed", hop, wave.hops())?;
    }
    let refused = bridge.relay(&wave).await;
    holds("TooFar", matches!(refused, Err(EmitError::TooFar { .. })), refused)?;
    let echo = next(stage, &mut echoes, "the echo").await?;
    same("the wave", emitter.id_of(&sent), echo.of)?;
    same("the reason", EchoReason::TooFar, echo.reason)?;
    same("the relay", "bridge", &*echo.by)?;
    // The framework's own waves are not relayed.
    let own = Wave::plain(Channel::with_reserved("_aether.test")?, "7".into(), ContentType::Text);
    let refused = bridge.relay(&own).await;
    holds("Reserved", matches!(refused, Err(EmitError::Reserved { .. })), refused)
}

async fn an_echo_of_an_unknown_wave_is_ignored_and_counted(stage: &Stage) -> Checked {
    let emitter = vibrator("emitter", &stage.here).await?;
    let mut ear = listener("ear", &stage.there, "known").await?;
    let mut echoes = emitter.echoes().await?;
    emitter.emit(command("known", 7)?).await?;
    let wave = stage.next(&mut ear, "the wave").await?;
    let known = Echo::new(&wave, EchoReason::Rejected, "made up", "somebody");
    let with = |change: fn(&mut Echo)| {
        let mut echo = known.clone();
        change(&mut echo);
        echo
    };
    let echoed = [
        with(|echo| echo.of.sequence = 0),
        with(|echo| echo.of.sequence = 2),
        with(|echo| echo.of.source = Source::framework()),
        known.clone(),
    ];
    let sequencer = Sequencer::new(Source::framework());
    let channel = echo::channel_of(emitter.source().instance())?;
    let payloads = [echo::write(&echoed), b"[{\"of\":7}]".to_vec()];
    let notices = payloads
        .map(|payload| Wave::plain(channel.clone(), payload.into(), ContentType::Json).noticed(&sequencer));
    let reaches = stage.within("notify to return", stage.there.medium().notify(notices.into())).await?;
    same("how far they went", vec![Reach::Delivered; 2], reaches)?;
    same("the only one that is known", known, next(stage, &mut echoes, "the known echo").await?)?;
    let more = settled(stage, &mut echoes, &ear.emitter(), &wave).await?;
    holds("no further echo", more.is_empty(), more)?;
    same("unknown and malformed ones", (3, 1), (echoes.unknown(), echoes.malformed()))
}

async fn a_failed_wave_without_its_source_becomes_a_dead_letter_that_can_be_replayed(
    stage: &Stage,
) -> Checked {
    let mut ear = listener("ear", &stage.there, "dead").await?;
    let gone = vibrator("gone", &stage.here).await?;
    // It listened for echoes, but no longer does.
    drop(gone.echoes().await?);
    stage.flush(&stage.here).await?;
    let sent = gone.emit(command("dead", 7)?).await?;
    let wave = stage.next(&mut ear, "the wave").await?;
    ear.reflect(&wave, EchoReason::HandlerFailed, "the disk is full").await;
    stage.within("the failure to settle", stage.there.echoes_settled()).await?;
    let letters = stage.there.dead_letters();
    let all = letters.list();
    let [letter] = &*all else { return Err(Failure::new("one dead letter", format_args!("{all:?}"))) };
    same("the wave", gone.id_of(&sent), letter.wave.id())?;
    same("the payload", 7, number(&letter.wave)?)?;
    same("the reason", EchoReason::HandlerFailed, letter.reason)?;
    same("the hint", "the disk is full", &*letter.hint)?;
    same("the attempts", 1, letter.attempts)?;

    let clerk = vibrator("clerk", &stage.there).await?;
    letters.replay(letter.number, &clerk).await?;
    let again = stage.next(&mut ear, "the wave again").await?;
    same("the payload", 7, number(&again)?)?;
    same("its cause", Some(&gone.id_of(&sent)), again.cause())?;
    same("its attempts", Some("2"), again.metadata().value(ATTEMPTS))?;
    same("the amplitude of the first attempt", wave.amplitude(), again.amplitude())?;
    ear.reflect(&again, EchoReason::Rejected, "still").await;
    stage.within("the failure to settle", stage.there.echoes_settled()).await?;
    let next = letters.take(letter.number + 1);
    let attempts = next.map(|letter| (letter.attempts, letter.reason));
    same("the attempts of the next letter", Some((2, EchoReason::Rejected)), attempts)?;
    let missing = letters.replay(letter.number, &clerk).await;
    holds("Unknown", matches!(missing, Err(echo::ReplayError::Unknown { .. })), missing)?;
    let counts = letters.counts();
    same("letters that came, and were taken", (2, 2), (counts.buried, counts.taken))?;
    let ledger = stage.there.echo_ledger();
    holds("an account that adds up", ledger.adds_up() && counts.adds_up() && ledger.buried == 2, ledger)
}

async fn waves_shed_by_the_outbox_while_away_are_reflected_at_once(stage: &Stage) -> Checked {
    const ROOM: u64 = 4;
    let outbox = InboxOptions::default().max_waves(ROOM as usize).when_full(WhenFull::Shed);
    let here = stage.connect(outbox).await?;
    let emitter = vibrator("emitter", &here).await?;
    let mut echoes = emitter.echoes().await?;
    stage.cut_off(&here).await?;
    let mut sent = Vec::new();
    for count in 0..3 * ROOM {
        sent.push(emitter.emit(command("away", count)?).await?.sequence);
    }
    let shed = here.status().outbox.shed_full;
    holds("an outbox that sheds", shed > 0, shed)?;
    for _ in 0..shed {
        let echo = next(stage, &mut echoes, "what the outbox shed").await?;
        holds("one of the waves", sent.contains(&echo.of.sequence), &echo)?;
        same(
            "the reason, the count and the place",
            (EchoReason::Shed, 1, "-"),
            (echo.reason, echo.count, &*echo.by),
        )?;
    }
    let ledger = here.echo_ledger();
    same("reported", (shed, shed), (ledger.reflected, ledger.echoed))
}

async fn failures_while_away_are_reflected_afterwards(stage: &Stage) -> Checked {
    let mut ear = listener("ear", &stage.there, "later").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    let mut echoes = emitter.echoes().await?;
    emitter.emit(command("later", 7)?).await?;
    let wave = stage.next(&mut ear, "the wave").await?;
    stage.link()?.cut().await?;
    ear.reflect(&wave, EchoReason::Rejected, "while away").await;
    stage.link()?.mend().await?;
    // If it was handed to the connection before the client noticed the cut, it is not sent again: at most one echo.
    let settled = async {
        stage.there.echoes_settled().await;
        stage.there.echo_ledger()
    };
    let ledger = stage.within("the failure to settle", settled).await?;
    holds("an account that adds up", ledger.adds_up() && ledger.reflected == 1, ledger)?;
    if ledger.echoed == 1 {
        let echo = next(stage, &mut echoes, "the reported echo").await?;
        same("the wave", wave.id(), echo.of)?;
    }
    Ok(())
}
