//! The machine of the own protocol, without sockets.

use std::sync::Arc;
use std::time::Duration;

use aether_field::Names;
use aether_field::core::{Limits, Operation, Seen};
use serde_json::{Value, json};

use super::Session;
use crate::access::{Access, FieldAccess};
use crate::field::counts::Refused;
use crate::field::effect::{Close, Effect, Write};
use crate::field::limits::SecurityLimits;

/// Microseconds since 1970.
const NOW: u64 = 1_700_000_000_000_000;
/// The same in milliseconds.
const NOW_MS: f64 = 1_700_000_000_000.0;
const HORIZON: Duration = Duration::from_secs(3600);

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.horizon = HORIZON;
    limits
}

fn session(access: Access) -> Session {
    Session::new("home", "id", FieldAccess::new(Arc::new(access), None), SecurityLimits::default(), limits())
}

fn admitted() -> Session {
    let mut session = session(Access::default());
    let effects = session.receive(r#"{"type":"hello","client":"tab"}"#, NOW);
    assert!(matches!(effects[..], [Effect::Admit { writer: Some(_), .. }, Effect::Reply(_)]), "{effects:?}");
    session
}

fn send(session: &mut Session, request: &Value) -> Vec<Effect> {
    session.receive(&request.to_string(), NOW)
}

fn write_of(effects: &[Effect]) -> &Write {
    match effects {
        [Effect::Write(write)] | [Effect::Wait(_), Effect::Write(write)] => write,
        other => panic!("{other:?}"),
    }
}

fn refusal_of(effects: &[Effect]) -> (Refused, Value) {
    match effects {
        [Effect::Count(refused), Effect::Reply(reply)] => (*refused, serde_json::from_str(reply).unwrap()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_is_said_before_a_hello_with_the_right_token() {
    for first in [r#"{"type":"subscribe","patterns":["*"]}"#, r#"{"type":"hello"}"#, "no json", "[1,2]"] {
        let effects = session(Access::default()).receive(first, NOW);
        assert_eq!(effects, [Effect::Count(Refused::Json), Effect::Close(Close::NO_HELLO)], "{first}");
    }
    let guarded = || session(Access::default().token("s3cret").unwrap());
    for first in [r#"{"type":"hello","client":"tab"}"#, r#"{"type":"hello","client":"tab","token":"x"}"#] {
        let effects = guarded().receive(first, NOW);
        assert_eq!(effects, [Effect::Count(Refused::Token), Effect::Close(Close::AUTH_FAILED)], "{first}");
    }
    let in_hello = guarded().receive(r#"{"type":"hello","client":"tab","token":"s3cret"}"#, NOW);
    assert!(matches!(in_hello[0], Effect::Admit { .. }));
    let mut by_url = guarded();
    by_url.open(Some("s3cret"));
    assert!(matches!(by_url.receive(r#"{"type":"hello","client":"tab"}"#, NOW)[0], Effect::Admit { .. }));
}

#[test]
fn the_same_write_has_the_same_stamp_whenever_and_wherever_it_arrives() {
    let request = json!({ "type": "set", "op": 7, "at": NOW_MS - 2.5, "key": "k", "value": 1 });
    let (mut here, mut there) = (admitted(), admitted());
    let first = here.receive(&request.to_string(), NOW);
    let again = there.receive(&request.to_string(), NOW + 60_000_000);
    assert_eq!(write_of(&first), write_of(&again));
    let about = write_of(&first).about.unwrap();
    assert_eq!((about.stamp.micros, about.stamp.logical, about.op), (NOW - 2_500, 7, 7));

    let mut other = session(Access::default());
    other.receive(r#"{"type":"hello","client":"another tab"}"#, NOW);
    let of_other = other.receive(&request.to_string(), NOW);
    assert_ne!(write_of(&of_other).about.unwrap().stamp, about.stamp);
}

#[test]
fn a_write_of_the_next_second_waits_and_one_beyond_is_refused() {
    let set = |at: f64| json!({ "type": "set", "op": 1, "at": at, "key": "k", "value": 1 });
    let mut session = admitted();
    let soon = send(&mut session, &set(NOW_MS + 20.0));
    assert_eq!(soon[0], Effect::Wait(Duration::from_millis(20)));
    assert_eq!(write_of(&soon).about.unwrap().stamp.micros, NOW + 20_000);
    for (at, code) in
        [(NOW_MS + 1001.0, "time-ahead"), (NOW_MS - 3_600_001.0, "time-old"), (-1.0, "time"), (1e300, "time")]
    {
        let (refused, reply) = refusal_of(&send(&mut session, &set(at)));
        assert_eq!((refused, &reply["code"], &reply["op"]), (Refused::Time, &json!(code), &json!(1)), "{at}");
    }
}

#[test]
fn a_write_that_comes_from_a_gateway_with_a_faster_clock_is_taken_a_moment_later() {
    let set = |at: f64| json!({ "type": "set", "op": 1, "at": at, "key": "k", "value": 1 });
    let mut session = admitted();
    let (_, reply) = refusal_of(&send(&mut session, &set(NOW_MS + 45_000.0)));
    assert_eq!((&reply["code"], &reply["retry_after_ms"]), (&json!("time-ahead"), &json!(44000.0)));
    let again = session.receive(&set(NOW_MS + 45_000.0).to_string(), NOW + 44_000_000);
    assert_eq!(write_of(&again).about.unwrap().stamp.micros, NOW + 45_000_000, "it is the same write");
    // No clock of a replica is off by more.
    for at in [NOW_MS + 900_001.0, NOW_MS - 3_600_001.0] {
        let (_, reply) = refusal_of(&send(&mut session, &set(at)));
        assert_eq!(reply.get("retry_after_ms"), None, "{at}");
    }
}

#[test]
fn each_refusal_names_the_write_and_its_reason() {
    let mut session = admitted();
    let set = |key: &str, value: &str| {
        format!(r#"{{"type":"set","op":9,"at":{NOW_MS},"key":{},"value":{value}}}"#, json!(key))
    };
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    for (text, code) in [
        (set("", "1"), "key-size"),
        (set(&"k".repeat(257), "1"), "key-size"),
        (set("k", &format!("\"{}\"", "v".repeat(32_767))), "value-size"),
        (set("k", "null"), "null"),
        (set("k", r#""\ud800""#), "json"),
        (set("k", &deep), "json"),
        (format!(r#"{{"type":"set","op":9,"at":{NOW_MS},"key":"k"}}"#), "json"),
        (r#"{"type":"set","op":9,"key":"k","value":1}"#.to_owned(), "json"),
        (format!(r#"{{"type":"count","op":9,"at":{NOW_MS},"key":"k"}}"#), "json"),
        (format!(r#"{{"type":"insert","op":9,"at":{NOW_MS},"key":"k","member":7}}"#), "json"),
        (format!(r#"{{"type":"delete","op":9,"at":{NOW_MS},"key":"k","replaces":"x"}}"#), "version"),
    ] {
        let (_, reply) = refusal_of(&session.receive(&text, NOW));
        assert_eq!(
            (&reply["type"], &reply["op"], &reply["code"]),
            (&json!("refused"), &json!(9), &json!(code)),
            "{text:.80}"
        );
        assert!(reply["message"].as_str().is_some_and(|message| !message.is_empty()));
    }
    let (_, reply) = refusal_of(&session.receive(r#"{"type":"set","value":NaN}"#, NOW));
    assert_eq!((&reply["code"], &reply["op"]), (&json!("json"), &Value::Null));
    write_of(&session.receive(&set(&"k".repeat(256), &format!("\"{}\"", "v".repeat(32_766))), NOW));
}

#[test]
fn what_the_writer_had_seen_is_unsaid_nothing_or_a_version() {
    let mut session = admitted();
    let mut replaces = |part: &str| {
        let text = format!(r#"{{"type":"delete","op":1,"at":{NOW_MS},"key":"k"{part}}}"#);
        write_of(&session.receive(&text, NOW)).about.unwrap().seen
    };
    assert_eq!(replaces(""), Seen::Unsaid);
    assert_eq!(replaces(r#","replaces":null"#), Seen::Nothing);
    assert!(
        matches!(replaces(r#","replaces":"5.1@00000000000000ff""#), Seen::Version(seen) if seen.micros == 5)
    );
}

#[test]
fn one_message_may_have_many_requests() {
    let mut session = admitted();
    let one = json!({ "type": "set", "op": 1, "at": NOW_MS, "key": "k", "value": 1 });
    let bad = json!({ "type": "set", "op": 2, "at": NOW_MS, "key": "", "value": 1 });
    let effects = send(&mut session, &json!([one, bad, one]));
    assert!(matches!(effects[..], [Effect::Write(_), Effect::Count(_), Effect::Reply(_), Effect::Write(_)]));
    let (refused, _) = refusal_of(&send(&mut session, &json!(vec![0; 1025])));
    assert_eq!(refused, Refused::Message);
    let (refused, _) = refusal_of(&session.receive(&format!("\"{}\"", " ".repeat(65_536)), NOW));
    assert_eq!(refused, Refused::Message);
    assert_eq!(send(&mut session, &json!({ "type": "of-a-later-version" })), []);
}

#[test]
fn counters_and_sets_take_sums_and_members() {
    let mut session = admitted();
    let count = send(&mut session, &json!({ "type": "count", "op": 1, "at": NOW_MS, "key": "c", "up": 3 }));
    assert_eq!(write_of(&count).operation, Operation::Count { key: "c".to_owned(), up: 3, down: 0 });
    let insert =
        json!({ "type": "insert", "op": 1, "at": NOW_MS, "key": "s", "member": { "base64": "/w==" } });
    let inserted = Operation::Insert { key: "s".to_owned(), member: vec![255].into() };
    assert_eq!(write_of(&send(&mut session, &insert)).operation, inserted);
    let discard = json!({ "type": "discard", "op": 1, "at": NOW_MS, "key": "s", "member": "x" });
    let discarded = Operation::Discard { key: "s".to_owned(), member: "x".into() };
    assert_eq!(write_of(&send(&mut session, &discard)).operation, discarded);
}

#[test]
fn a_subscription_beyond_the_rights_is_refused_and_a_wide_one_is_narrowed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.json");
    let line = r#"[{"token":"t","read":["room/7/*"],"write":["room/7/lamp"]}]"#;
    std::fs::write(&path, line).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let mut session = session(Access::load(&path).unwrap());
    session.receive(r#"{"type":"hello","client":"tab","token":"t"}"#, NOW);
    let effects =
        send(&mut session, &json!({ "type": "subscribe", "patterns": ["*"], "epoch": "e", "revision": 4 }));
    let [Effect::Subscribe(subscription)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(subscription.names, [Names::of("room/7/*")]);
    assert_eq!(subscription.cursor, Some(("e".to_owned(), 4)));
    let (refused, reply) =
        refusal_of(&send(&mut session, &json!({ "type": "subscribe", "patterns": ["room/8/*"] })));
    assert_eq!((refused, &reply["code"]), (Refused::Right, &json!("right")));
    let write = json!({ "type": "delete", "op": 1, "at": NOW_MS, "key": "room/7/door" });
    let (refused, reply) = refusal_of(&send(&mut session, &write));
    assert_eq!((refused, &reply["op"]), (Refused::Right, &json!(1)));
}
