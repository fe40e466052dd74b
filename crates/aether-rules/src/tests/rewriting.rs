//! The changes of a wave that passes a border: its channel and its amplitude.

use std::time::Duration;

use crate::set::Passage;
use crate::{Border, Refusal, Rule, Rules, RulesError};
use aether_bridge::Bridge;
use aether_core::medium::Sequencer;
use aether_core::{Aether, Channel, ConfirmError, EmitError, Pattern, Vibrator, Wave};

fn channel(name: &str) -> Channel {
    Channel::new(name).unwrap()
}

async fn with_rules(rules: impl IntoIterator<Item = Rule>) -> Aether {
    let border = Border::new(Rules::new(rules).unwrap());
    aether_core::AetherBuilder::new().guard(border).connect().await.unwrap()
}

#[tokio::test]
async fn what_is_emitted_below_a_prefix_leaves_below_another_one_and_is_judged_there() {
    let sensor =
        Rule::new("sensor-*").emit(["plant7.>"]).deny_emit(["plant7.vault.>"]).rewrite("rooms", "plant7");
    let aether = with_rules([sensor, Rule::new("hall").listen([">"])]).await;
    let mut hall = Vibrator::create("hall", &aether).await.unwrap();
    hall.resonate_on("plant7.>").await.unwrap();
    let answering = Vibrator::create("hall", &aether).await.unwrap();
    answering.resonate_on("plant7.asked").await.unwrap();

    let sensor = aether.emitter("sensor-1").unwrap();
    sensor.emit_bytes("rooms.attic", "emit").await.unwrap();
    sensor.try_emit(Wave::from_bytes("rooms.attic", "try_emit").unwrap()).unwrap();
    sensor.emit_confirmed(Wave::from_bytes("rooms.attic", "emit_confirmed").unwrap()).await.unwrap();
    let waves = ["one", "two"].map(|text| Wave::from_bytes("rooms.attic", text).unwrap());
    sensor.emit_all(waves).await.unwrap();
    sensor.emit_bytes("plant7.attic", "as it leaves").await.unwrap();
    for text in ["emit", "try_emit", "emit_confirmed", "one", "two", "as it leaves"] {
        let wave = hall.receive().await.unwrap();
        assert_eq!((wave.text().unwrap(), wave.channel().as_str()), (text, "plant7.attic"));
    }
    // The prefix alone, and a question.
    let (_, mut answering) = answering.split();
    let asking = tokio::spawn({
        let sensor = sensor.clone();
        let question = Wave::from_bytes("rooms.asked", "?").unwrap();
        async move { sensor.ask_within(question, Duration::from_secs(60)).await }
    });
    let question = answering.receive().await.unwrap();
    assert_eq!(question.channel().as_str(), "plant7.asked");
    question.reply(&17).await.unwrap();
    assert_eq!(asking.await.unwrap().unwrap().text().unwrap(), "17");

    // What is granted and denied is the name outside.
    let refused = sensor.emit_bytes("rooms.vault.door", "").await.unwrap_err();
    let text =
        "the wave was not emitted: sensor-1 may not emit on plant7.vault.door: rule 1 denies plant7.vault.>";
    assert_eq!(refused.to_string(), text);
    let refused = sensor.emit_confirmed(Wave::from_bytes("roomsy.a", "").unwrap()).await.unwrap_err();
    assert!(matches!(refused, ConfirmError::Emit(EmitError::NotAllowed { .. })), "{refused}");
    let long = format!("rooms.{}", "a".repeat(249));
    let refused = sensor.emit_bytes(long.as_str(), "").await.unwrap_err();
    let EmitError::NotAllowed { refusal, .. } = refused else { panic!("{refused}") };
    assert!(matches!(refusal.downcast_ref(), Some(Refusal::Unwritable { .. })), "{refusal}");
}

#[test]
fn rewrites_that_overlap_or_loop_or_lead_nowhere_are_refused() {
    let rule = |name: &str, from: &str, to: &str| Rule::new(name).emit([">"]).rewrite(from, to);
    let compile = |rules: &[Rule]| Rules::new(rules.to_vec());
    let error = |rules: &[Rule]| compile(rules).unwrap_err();
    for second in ["a", "a.b", "a.b.c.d"] {
        let refused = error(&[rule("shop-*", "a.b.c", "x"), rule("shop-1", second, "y")]);
        let RulesError::Overlap { rule: 2, other: 1, from, .. } = &refused else { panic!("{refused}") };
        assert_eq!(from.as_str(), second);
    }
    assert!(matches!(
        error(&[rule("a", "a", "b").rewrite("a.b", "c")]),
        RulesError::Overlap { rule: 1, other: 1, .. }
    ));
    // Of others, or beside each other.
    assert!(
        compile(&[rule("shop-*", "a.b", "x"), rule("shop-1", "a.bc", "x"), rule("till", "a", "y")]).is_ok()
    );
    for (from, to) in [("a", "a"), ("a", "a.b"), ("a.b", "a")] {
        assert!(matches!(error(&[rule("shop", from, to)]), RulesError::Loop { rule: 1, other: 1, .. }));
    }
    let refused = error(&[rule("shop", "a", "b.c"), rule("*", "b", "a")]);
    assert_eq!(
        refused.to_string(),
        "rule 1 rewrites to b.c, and rule 2 rewrites b of the same names: name the last channel in one rewrite"
    );
    let nowhere = error(&[Rule::new("shop").emit(["a.>"]).rewrite("a", "b")]);
    assert_eq!(nowhere.to_string(), "rule 1 rewrites to b, where no rule lets shop emit: grant it emit b.>");
    assert!(compile(&[Rule::new("shop").rewrite("a", "b"), Rule::new("*").emit(["b.c"])]).is_ok());
    for prefix in ["", "a.>", "a..b", "_aether.x"] {
        let refused = error(&[rule("shop", prefix, "b")]);
        assert!(matches!(refused, RulesError::Prefix { rule: 1, .. }), "{refused}");
    }
}

#[test]
fn a_rewrite_is_explained_with_its_rule() {
    let rules =
        Rules::new([Rule::new("a").emit(["x"]), Rule::new("shop").emit([">"]).rewrite("a", "b")]).unwrap();
    assert_eq!(rules.rewritten("shop", &channel("a.c")), Ok(Some((channel("b.c"), 2))));
    assert_eq!(rules.rewritten("shop", &channel("c")), Ok(None));
    assert_eq!(rules.rewritten("till", &channel("a.c")), Ok(None));
}

#[tokio::test]
async fn what_is_too_strong_is_weakened_where_a_rule_says_so() {
    let weak = Rule::new("a").emit(["x"]).clamp_amplitude(0.25).max_amplitude(0.75);
    let rules = Rules::new([weak, Rule::new("*").listen([">"])]).unwrap();
    let border = Border::new(rules);
    let aether = aether_core::AetherBuilder::new().guard(border.clone()).connect().await.unwrap();
    let mut hears = Vibrator::create("b", &aether).await.unwrap();
    hears.resonate_on("x").await.unwrap();
    let emitter = aether.emitter("a").unwrap();
    for (amplitude, arrives) in [(1.0, 0.25), (0.125, 0.125)] {
        let mut wave = Wave::builder("x").amplitude(amplitude).build().unwrap();
        emitter.emit(wave.clone()).await.unwrap();
        assert_eq!(hears.receive().await.unwrap().amplitude().as_f32(), arrives);
        // And at the receiver.
        wave.stamp(&Sequencer::new(emitter.source().clone()), aether_core::clock::Moment::now());
        let mut waves = vec![wave];
        border.filter_arrived(&mut waves, Passage::In(&Pattern::everything(), None));
        assert_eq!(waves[0].amplitude().as_f32(), arrives);
    }
}

#[tokio::test]
async fn a_bridge_rewrites_by_the_rules_of_the_side_to_which_it_relays() {
    let edge =
        with_rules([Rule::new("*").emit([">"]).listen([">"]).rewrite("plant7.commands", "commands")]).await;
    let plant =
        Rule::new("*").emit([">"]).listen([">"]).rewrite("sensors", "plant7.sensors").clamp_amplitude(0.5);
    let hub = with_rules([plant]).await;
    let patterns = ["sensors.>", "plant7.commands.>"].map(|pattern| Pattern::new(pattern).unwrap());
    let bridge = Bridge::builder(patterns).between(&edge, &hub).await.unwrap();
    let mut archive = Vibrator::create("archive", &hub).await.unwrap();
    archive.resonate_on(">").await.unwrap();
    let mut valve = Vibrator::create("valve", &edge).await.unwrap();
    valve.resonate_on("commands.>").await.unwrap();

    edge.emitter("thermometer").unwrap().emit_bytes("sensors.attic", "21").await.unwrap();
    let wave = archive.receive().await.unwrap();
    assert_eq!((wave.channel().as_str(), wave.source().name()), ("plant7.sensors.attic", "thermometer"));
    assert_eq!((wave.amplitude().as_f32(), wave.hops()), (0.5, 1));
    archive.emit_bytes("plant7.commands.close", "now").await.unwrap();
    let wave = valve.receive().await.unwrap();
    assert_eq!((wave.channel().as_str(), wave.text().unwrap()), ("commands.close", "now"));
    let account = bridge.close().await;
    assert_eq!((account.there.relayed, account.back.unwrap().relayed), (1, 1));
}
