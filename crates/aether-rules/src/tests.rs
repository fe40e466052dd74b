use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::set::Passage;
use aether_core::clock::Moment;
use aether_core::medium::{Named, Proof, Sequencer};
use aether_core::wave::SignerId;
use aether_core::{
    Aether, AskError, Channel, ConfirmError, EmitError, InboxOptions, JoinError, Pattern, Vibrator, Wave,
};

mod revoking;
mod rewriting;
mod text;
#[cfg(feature = "schema")]
mod warning;

fn channel(name: &str) -> Channel {
    Channel::new(name).unwrap()
}

fn shop() -> Rules {
    Rules::new([
        Rule::new("billing").emit(["invoices.>"]).listen(["orders.>"]).max_amplitude(0.8).max_payload(100),
        Rule::new("sensor-*").emit(["rooms.*.temperature"]).deny_emit(["rooms.vault.>"]),
        Rule::new("sensor-7").emit(["rooms.>"]),
        Rule::new("*").listen(["public.>"]).deny_listen(["secrets.>"]),
    ])
    .unwrap()
}

#[test]
fn what_is_granted_is_allowed_and_nothing_else() {
    let rules = shop();
    let may = |identity, action, name| rules.verdict(identity, action, &channel(name));
    let limits = may("billing", Action::Emit, "invoices.sent").unwrap();
    assert_eq!((limits.max_amplitude, limits.max_payload, limits.max_rate), (Some(0.8), Some(100), None));
    assert!(may("billing", Action::Listen, "orders.created").is_ok());
    assert!(may("billing", Action::Listen, "public.news").is_ok());
    let refused = may("billing", Action::Emit, "orders.created").unwrap_err();
    assert_eq!(refused.to_string(), "billing may not emit on orders.created: it may emit on invoices.>");
    assert!(may("sensor-3", Action::Emit, "rooms.hall.temperature").is_ok());
    assert!(may("sensor-7", Action::Emit, "rooms.hall.humidity").is_ok());
    let refused = may("sensor-7", Action::Emit, "rooms.vault.temperature").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "sensor-7 may not emit on rooms.vault.temperature: rule 2 denies rooms.vault.>"
    );
    let nothing = may("stranger", Action::Emit, "public.news").unwrap_err();
    assert_eq!(nothing.to_string(), "stranger may not emit on public.news: it may emit on nothing");
    let none = Rules::new([]).unwrap().verdict("billing", Action::Emit, &channel("a")).unwrap_err();
    assert_eq!(none, Refusal::Unknown { identity: "billing".to_owned() });
}

#[test]
fn a_subscription_needs_a_grant_for_all_of_its_channels_and_a_denial_of_none() {
    let rules = shop();
    let may = |pattern: &str| rules.may_listen("billing", &Pattern::new(pattern).unwrap());
    assert_eq!((may("orders.*"), may("orders.>"), may("public.news")), (Ok(()), Ok(()), Ok(())));
    assert!(matches!(may(">"), Err(Refusal::Denied { rule: 4, .. })));
    assert!(matches!(may("*.created"), Err(Refusal::Denied { .. } | Refusal::NotGranted { .. })));
    assert!(matches!(may("invoices.>"), Err(Refusal::NotGranted { .. })));
}

#[test]
fn the_strictest_limit_of_all_grants_counts() {
    let rules = Rules::new([
        Rule::new("*").emit([">"]).max_amplitude(0.5).max_rate(10),
        Rule::new("a").emit(["x"]).max_amplitude(0.9).max_payload(7),
    ]);
    let limits = rules.unwrap().verdict("a", Action::Emit, &channel("x")).unwrap();
    assert_eq!((limits.max_amplitude, limits.max_payload, limits.max_rate), (Some(0.5), Some(7), Some(10)));
}

#[test]
fn rules_that_cannot_be_are_named_with_what_is_allowed() {
    let error = |rules: &[Rule]| Rules::new(rules.to_vec()).unwrap_err();
    let good = Rule::new("a").emit(["x"]);
    for identity in ["", "a*b", "**"] {
        let refused = error(&[good.clone(), Rule::new(identity).emit(["x"])]);
        assert_eq!(refused, RulesError::Identity { rule: 2, identity: identity.to_owned() });
    }
    let refused = error(&[Rule::new("a").listen(["x..y"])]);
    assert!(matches!(refused, RulesError::Pattern { rule: 1, field: "listen", .. }), "{refused}");
    assert!(matches!(error(&[Rule::new("a")]), RulesError::Empty { rule: 1 }));
    assert!(matches!(error(&[good.clone().max_amplitude(f32::NAN)]), RulesError::Limit { .. }));
    assert!(matches!(error(&[good.clone().max_rate(0)]), RulesError::Limit { field: "max_rate", .. }));
    let refused = error(&[good, Rule::new("*").deny_emit([">"])]);
    assert_eq!(
        refused.to_string(),
        "rule 1 grants emit x to a, and rule 2 denies all of it: remove one of the two"
    );
    // Only a part of what is granted is denied, or only to some of those that are named.
    assert!(Rules::new([Rule::new("*").emit([">"]), Rule::new("a").deny_emit([">"])]).is_ok());
    assert!(Rules::new([Rule::new("a").emit(["x.>"]).deny_emit(["x.y"])]).is_ok());
}

#[tokio::test]
async fn an_emitter_a_question_and_a_subscription_are_refused_with_the_wave_and_the_reason() {
    let border = Border::new(shop());
    let aether = aether_core::AetherBuilder::new().guard(border.clone()).connect().await.unwrap();
    let orders = Vibrator::create("billing", &aether).await.unwrap();
    orders.resonate_on("orders.>").await.unwrap();
    let refused = orders.resonate_on("secrets.>").await.unwrap_err();
    assert!(matches!(refused, JoinError::NotAllowed(_)), "{refused:?}");

    let billing = aether.emitter("billing").unwrap();
    billing.emit_bytes("invoices.sent", "1").await.unwrap();
    let error = billing.emit_bytes("orders.created", "kept").await.unwrap_err();
    let EmitError::NotAllowed { wave, refusal } = &error else { panic!("{error:?}") };
    assert_eq!((&wave.payload()[..], refusal.is_transient()), (&b"kept"[..], false));
    let large = billing.emit_bytes("invoices.sent", vec![0; 101]).await.unwrap_err();
    assert!(large.to_string().contains("100 bytes, not 101"), "{large}");
    let asked = orders.ask_wave("orders.created", &1).await.unwrap_err();
    assert!(matches!(asked, AskError::Emit(EmitError::NotAllowed { .. })), "{asked:?}");
    let counts = border.refused();
    assert_eq!((counts.emitted, counts.arrived, counts.listened), (3, 0, 1));

    // Other rules take effect at once, and none at all.
    border.change(Rules::new([Rule::new("billing").emit([">"])]).unwrap());
    billing.emit_bytes("orders.created", "1").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_rate_allows_a_seconds_worth_at_once() {
    aether_core::clock::follow_tokio();
    let rules = Rules::new([Rule::new("a").emit(["x"]).max_rate(3)]).unwrap();
    let aether = aether_core::AetherBuilder::new().guard(Border::new(rules)).connect().await.unwrap();
    let emitter = aether.emitter("a").unwrap();
    for _ in 0..3 {
        emitter.emit_bytes("x", "1").await.unwrap();
    }
    let error = emitter.emit_bytes("x", "1").await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("3 waves a second"), "{error}");
}

/// A wave of an emitter of this name, which arrives nowhere.
fn wave_of(name: &str, channel: &str) -> Wave {
    let aether = Aether::local();
    let mut wave = Wave::from_bytes(channel, "1").unwrap();
    wave.stamp(&Sequencer::new(aether.emitter(name).unwrap().source().clone()), Moment::now());
    wave
}

#[tokio::test(start_paused = true)]
async fn a_wave_that_finds_no_room_is_given_back_to_every_rate() {
    aether_core::clock::follow_tokio();
    let rules = [Rule::new("a").emit(["x"]).max_rate(5), Rule::new("*").emit([">"]).max_rate(3)];
    let border = Border::new(Rules::new(rules).unwrap());
    let mut wave = wave_of("a", "x");
    for _ in 0..3 {
        border.let_out(&mut wave).unwrap();
    }
    // A refused wave costs the other rule nothing: 2 are left of its 5.
    for _ in 0..9 {
        assert_eq!(
            border.let_out(&mut wave).unwrap_err(),
            Refusal::TooFast { identity: "a".into(), max_rate: 3 }
        );
    }
    border.give_back(&wave);
    border.let_out(&mut wave).unwrap();
    assert!(border.let_out(&mut wave).is_err());
}

#[tokio::test(start_paused = true)]
async fn each_name_has_a_rate_of_its_own() {
    aether_core::clock::follow_tokio();
    let rules = Rules::new([Rule::new("sensor-*").emit([">"]).max_rate(3)]).unwrap();
    let aether = aether_core::AetherBuilder::new().guard(Border::new(rules)).connect().await.unwrap();
    for name in ["sensor-1", "sensor-2"] {
        let sensor = aether.emitter(name).unwrap();
        for _ in 0..3 {
            sensor.emit_bytes("x", "1").await.unwrap();
        }
        assert!(sensor.emit_bytes("x", "1").await.is_err());
        // The name counts, and not the instance.
        assert!(aether.emitter(name).unwrap().emit_bytes("x", "1").await.is_err());
    }
}

#[tokio::test]
async fn what_a_receiver_has_no_room_for_costs_no_rate() {
    let rules = Rules::new([Rule::new("shop").emit(["orders.>"]).max_rate(3), Rule::new("*").listen([">"])]);
    let aether =
        aether_core::AetherBuilder::new().guard(Border::new(rules.unwrap())).connect().await.unwrap();
    let inbox = InboxOptions::default().max_waves(1);
    let mut stock = Vibrator::builder("stock").inbox(inbox).create(&aether).await.unwrap();
    stock.resonate_on("orders.>").await.unwrap();
    let shop = aether.emitter("shop").unwrap();
    let order = || Wave::from_bytes("orders.created", "1").unwrap();
    shop.try_emit(order()).unwrap();
    for _ in 0..100 {
        let error = shop.try_emit(order()).unwrap_err();
        assert!(matches!(error, EmitError::Full { .. }), "{error}");
    }
    stock.receive().await.unwrap();
    shop.emit(order()).await.unwrap();
    stock.receive().await.unwrap();
    aether.close().await.unwrap();
    for _ in 0..100 {
        let error = shop.emit(order()).await.unwrap_err();
        assert!(matches!(error, EmitError::Closed { .. }), "{error}");
        let error = shop.emit_confirmed(order()).await.unwrap_err();
        assert!(matches!(error, ConfirmError::Emit(EmitError::Closed { .. })), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_takes_what_has_waited_and_holds_to_the_rate_for_each_subscription() {
    aether_core::clock::follow_tokio();
    let border = Border::new(Rules::new([Rule::new("sensor-*").emit([">"]).max_rate(10)]).unwrap());
    let pattern = |text: &str| Pattern::new(text).unwrap();
    let (all, some) = (pattern(">"), pattern("x"));
    let passed = |name: &str, by: &Pattern, waves: usize| {
        let mut waves = vec![wave_of(name, "x"); waves];
        border.filter_arrived(&mut waves, Passage::In(by, None));
        waves.len()
    };
    // The waves of nine seconds without a connection, and a second's worth that came at once.
    assert_eq!(passed("sensor-1", &all, 150), 100);
    assert_eq!((passed("sensor-1", &some, 50), passed("sensor-2", &all, 50)), (50, 50));
    assert_eq!(border.refused().arrived, 50);
    for _ in 0..10 {
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(passed("sensor-1", &all, 20), 10);
    }
}

#[tokio::test(start_paused = true)]
async fn a_signer_that_may_use_any_name_has_one_rate_and_a_listed_name_its_own() {
    aether_core::clock::follow_tokio();
    let border = Border::new(Rules::new([Rule::new("*").emit([">"]).max_rate(10)]).unwrap());
    let signer = |number: u64, names: &[&str]| {
        let names = names.iter().map(|name| Named::parse(name).unwrap()).collect();
        Proof::new(SignerId(number), names, Arc::default())
    };
    let all = Pattern::everything();
    let passed = |signer: &Proof, names: &mut dyn Iterator<Item = String>| {
        let signed = |name: String| {
            let mut wave = wave_of(&name, "x");
            assert!(wave.prove(signer), "{name}");
            wave
        };
        let mut waves: Vec<_> = names.map(signed).collect();
        border.filter_arrived(&mut waves, Passage::In(&all, None));
        waves.len()
    };
    let fleet = signer(1, &["sensor-*", "hub"]);
    assert_eq!(passed(&fleet, &mut (0..1000).map(|invented| format!("sensor-{invented}"))), 100);
    assert_eq!(passed(&fleet, &mut (0..200).map(|_| "hub".to_owned())), 100, "it is listed by its name");
    let other = signer(2, &["sensor-*"]);
    assert_eq!(passed(&other, &mut (0..1000).map(|invented| format!("sensor-{invented}"))), 100);
    // With two keys a listed name has one rate, so a change of the key gives none.
    let [old, new] = [3, 4].map(|key| signer(key, &["shop"]));
    assert_eq!(passed(&old, &mut (0..60).map(|_| "shop".to_owned())), 60);
    assert_eq!(passed(&new, &mut (0..60).map(|_| "shop".to_owned())), 40);
}

#[tokio::test]
async fn json_that_is_nested_too_deeply_is_refused_with_the_place() {
    let rules = Rules::new([Rule::new("a").emit(["x"]).max_depth(2)]).unwrap();
    let aether = aether_core::AetherBuilder::new().guard(Border::new(rules)).connect().await.unwrap();
    let emitter = aether.emitter("a").unwrap();
    emitter.emit_bytes("x", r#"{"a":[1,"[[["]}"#).await.unwrap();
    emitter.emit_bytes("x", "no JSON [[[").await.unwrap();
    let error = emitter.emit_bytes("x", r#"{"a":[{}]}"#).await.unwrap_err();
    let text = "the wave was not emitted: a may emit JSON nested up to 2 deep: byte 6 of the payload begins one more";
    assert_eq!(error.to_string(), text);
}

#[cfg(feature = "schema")]
#[tokio::test]
async fn payloads_that_do_not_fit_the_schema_of_their_channel_are_refused_with_the_place() {
    let order = serde_json::json!({
        "type": "object",
        "properties": { "items": { "type": "array", "items": { "type": "integer", "minimum": 1 } } },
        "required": ["items"],
    });
    let border = Border::default();
    border.check_payloads(Schemas::new([("orders.*", &order), ("*.created", &true.into())]).unwrap());
    let aether = aether_core::AetherBuilder::new().guard(border.clone()).connect().await.unwrap();
    let emitter = aether.emitter("shop").unwrap();
    emitter.emit_bytes("orders.created", r#"{"items":[1,2]}"#).await.unwrap();
    emitter.emit_bytes("orders.by.hand", "no schema").await.unwrap();
    for (payload, place, problem) in [
        (r#"{"items":[1,0]}"#, "/items/1", "0 is less than the minimum of 1"),
        ("{}", "the whole", "required"),
        (r#"{"items": "#, "line 1, column 10", "EOF"),
        ("\u{1}", "line 1, column 1", "expected value"),
    ] {
        let error = emitter.emit_bytes("orders.created", payload).await.unwrap_err();
        let EmitError::NotAllowed { wave, refusal } = &error else { panic!("{error:?}") };
        assert_eq!(wave.payload(), payload.as_bytes());
        let Some(Refusal::Misfit { place: at, problem: what, .. }) = refusal.downcast_ref() else {
            panic!("{refusal:?}")
        };
        assert!(at == place && what.contains(problem), "{error}");
    }
    // What is quoted of the payload is short.
    let long = emitter.emit_bytes("orders.created", format!("{:?}", "x".repeat(10_000))).await.unwrap_err();
    assert!(long.to_string().len() < 400, "{long}");
    assert_eq!(border.refused().emitted, 5);
    border.check_payloads(None);
    emitter.emit_bytes("orders.created", "{}").await.unwrap();
}

#[cfg(feature = "schema")]
#[test]
fn a_schema_that_does_not_compile_is_named_with_the_place() {
    let wrong = serde_json::json!({ "properties": { "price": { "type": "money" } } });
    let error = Schemas::new([("a", &true.into()), ("orders.>", &wrong)]).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("schema 2, for orders.>, does not compile at /properties/price/type"), "{text}");
    let elsewhere = serde_json::json!({ "$ref": "http://localhost:1/order.json" });
    let error = Schemas::new([("a", &elsewhere)]).unwrap_err();
    assert!(error.to_string().contains("order.json"), "{error}");
    let error = Schemas::new([("a..b", &true.into())]).unwrap_err();
    assert!(matches!(error, SchemaError::Pattern { schema: 1, .. }), "{error}");
}
