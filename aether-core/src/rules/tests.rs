use super::*;
use crate::channel::{Channel, Pattern};
use crate::clock::Moment;
use crate::vibrator::Vibrator;
use crate::{Aether, AskError, EmitError, JoinError, Wave};

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
    let aether = Aether::builder().border(border.clone()).connect().await.unwrap();
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

#[tokio::test]
async fn a_rate_allows_a_seconds_worth_at_once() {
    let rules = Rules::new([Rule::new("a").emit(["x"]).max_rate(3)]).unwrap();
    let aether = Aether::builder().border(Border::new(rules)).connect().await.unwrap();
    let emitter = aether.emitter("a").unwrap();
    for _ in 0..3 {
        emitter.emit_bytes("x", "1").await.unwrap();
    }
    let error = emitter.emit_bytes("x", "1").await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("3 waves a second"), "{error}");
}

#[tokio::test]
async fn a_wave_that_finds_no_room_is_given_back_to_every_rate() {
    let rules = [Rule::new("a").emit(["x"]).max_rate(5), Rule::new("*").emit([">"]).max_rate(3)];
    let border = Border::new(Rules::new(rules).unwrap());
    let aether = Aether::local();
    let mut wave = Wave::from_bytes("x", "1").unwrap();
    wave.stamp(aether.emitter("a").unwrap().sequencer(), Moment::now());
    for _ in 0..3 {
        border.may_emit(&wave).unwrap();
    }
    // A refused wave costs the other rule nothing: 2 are left of its 5.
    for _ in 0..9 {
        assert_eq!(
            border.may_emit(&wave).unwrap_err(),
            Refusal::TooFast { identity: "a".into(), max_rate: 3 }
        );
    }
    border.give_back(&wave);
    border.may_emit(&wave).unwrap();
    assert!(border.may_emit(&wave).is_err());
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
    let aether = Aether::builder().border(border.clone()).connect().await.unwrap();
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
        let Refusal::Misfit { place: at, problem: what, .. } = &**refusal else { panic!("{refusal:?}") };
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

#[test]
fn permissions_are_the_subjects_of_the_rules() {
    let permissions = NatsPermissions::new(&shop(), "sensor-7", "aether");
    assert!(permissions.publish.contains(&"aether.rooms.*.temperature".to_owned()));
    assert_eq!(permissions.deny_publish, ["aether.rooms.vault.>", "aether-ask.rooms.vault.>"]);
    assert!(permissions.subscribe.contains(&"aether-ask.public.>".to_owned()));
    assert!(permissions.to_string().contains("deny: [\"aether.rooms.vault.>\""), "{permissions}");
}

#[test]
fn a_rule_is_read_from_a_line_and_written_as_it_is_read() {
    let text = "billing: emit invoices.>, news; listen orders.>; deny emit invoices.secret; max_amplitude 0.8; max_rate 10";
    let rule: Rule = text.parse().unwrap();
    let expected = Rule::new("billing").emit(["invoices.>", "news"]).listen(["orders.>"]);
    assert_eq!(rule, expected.deny_emit(["invoices.secret"]).max_amplitude(0.8).max_rate(10));
    assert_eq!(rule.to_string(), text);
    for (text, at) in [
        ("billing", "billing"),
        ("billing: sing songs.>", "sing songs.>"),
        ("billing: emit a; max_rate many", "max_rate many"),
        ("billing: max_rate 1; max_rate 2", "max_rate 2"),
    ] {
        let error = text.parse::<Rule>().unwrap_err();
        assert_eq!(error.at, at);
        assert!(error.to_string().contains("IDENTITY: emit PATTERN"), "{error}");
    }
}
