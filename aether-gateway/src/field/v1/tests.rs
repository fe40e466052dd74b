//! The machine of the own protocol, without sockets.

use std::sync::Arc;
use std::time::Duration;

use aether_field::Names;
use aether_field::core::{Key, Limits, Operation, Seen};
use serde_json::{Value, json};

use super::Session;
use crate::access::{Access, FieldAccess, Rights};
use crate::field::counts::Refused;
use crate::field::effect::{Close, Effect, Since, Subscription, Write};
use crate::field::limits::SecurityLimits;
use crate::field::selection::Selection;

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
    Session::new("home", "id", FieldAccess::new(Arc::new(access), None), SecurityLimits::default(), &limits())
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

/// A file of tokens.
struct Tokens(tempfile::TempDir);

impl Tokens {
    fn new(text: &str) -> Self {
        let tokens = Self(tempfile::tempdir().unwrap());
        tokens.write(text);
        tokens
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("tokens.json")
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(self.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
        }
    }

    fn access(&self) -> Access {
        Access::load(&self.path()).unwrap()
    }
}

fn selection(names: &[&str], owners: &[&str]) -> Selection {
    let of = |texts: &[&str]| texts.iter().map(|text| Names::of(text)).collect::<Vec<_>>();
    Selection::readable(&of(names), &of(owners), &Rights::all())
}

fn subscription_of(effects: &[Effect]) -> &Subscription {
    match effects {
        [.., Effect::Subscribe(subscription)] => subscription,
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
        assert_eq!(effects, [Effect::Count(Refused::Token), Effect::Close(Close::NOT_KNOWN)], "{first}");
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
    let tokens = Tokens::new(r#"[{"token":"t","read":["room/7/*"],"write":["room/7/lamp"]}]"#);
    let mut session = session(tokens.access());
    session.receive(r#"{"type":"hello","client":"tab","token":"t"}"#, NOW);
    let effects =
        send(&mut session, &json!({ "type": "subscribe", "patterns": ["*"], "epoch": "e", "revision": 4 }));
    let [Effect::Subscribe(subscription)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(subscription.selection, selection(&["room/7/*"], &[]));
    assert_eq!(subscription.since, Since::Cursor("e".to_owned(), 4));
    let (refused, reply) =
        refusal_of(&send(&mut session, &json!({ "type": "subscribe", "patterns": ["room/8/*"] })));
    assert_eq!((refused, &reply["code"]), (Refused::Right, &json!("right")));
    let write = json!({ "type": "delete", "op": 1, "at": NOW_MS, "key": "room/7/door" });
    let (refused, reply) = refusal_of(&send(&mut session, &write));
    assert_eq!((refused, &reply["op"]), (Refused::Right, &json!(1)));
}

#[test]
fn a_subscription_changes_by_what_is_added_and_removed() {
    let mut session = admitted();
    let subscribe = |session: &mut Session, request: Value| {
        let effects = send(session, &request);
        subscription_of(&effects).clone()
    };
    let first = subscribe(
        &mut session,
        json!({ "type": "subscribe", "patterns": ["a/*"], "owners": ["pi-*"], "presence": true }),
    );
    assert_eq!((first.since, first.presence), (Since::Start, Some(true)));
    let second = subscribe(&mut session, json!({ "type": "subscribe", "add": ["b/*", "a/*"] }));
    assert_eq!(second.selection, selection(&["a/*", "b/*"], &["pi-*"]));
    assert_eq!((second.since, second.presence), (Since::Before, None));
    let third = subscribe(&mut session, json!({ "type": "subscribe", "add": ["c"], "remove": ["a/*", "x"] }));
    assert_eq!(third.selection, selection(&["b/*", "c"], &["pi-*"]));
    let many: Vec<_> = (0..65).map(|number| format!("room/{number}")).collect();
    let (_, reply) = refusal_of(&send(&mut session, &json!({ "type": "subscribe", "add": many })));
    assert_eq!(reply["code"], "patterns");
    let last = subscribe(&mut session, json!({ "type": "subscribe", "presence": false }));
    assert_eq!((last.selection, last.presence), (third.selection, Some(false)), "nothing was lost");
}

#[test]
fn a_ping_gets_the_time() {
    let mut session = admitted();
    let effects = send(&mut session, &json!({ "type": "ping", "id": 7 }));
    let [Effect::Reply(pong)] = &effects[..] else { panic!("{effects:?}") };
    let pong: Value = serde_json::from_str(pong).unwrap();
    assert_eq!(pong, json!({ "type": "pong", "id": 7, "time": NOW_MS }));
}

#[test]
fn a_token_is_renewed_within_a_session_and_a_wrong_one_ends_it() {
    let tokens = Tokens::new(
        r#"[{"token":"one","read":["a/*"],"write":["a/*"]},{"token":"two","read":["*"]},{"token":"w","hear":["x"]}]"#,
    );
    let mut session = session(tokens.access());
    session.receive(r#"{"type":"hello","client":"tab","token":"one"}"#, NOW);
    send(&mut session, &json!({ "type": "subscribe", "patterns": ["*"] }));
    let same = send(&mut session, &json!({ "type": "token", "token": "one" }));
    assert!(matches!(&same[..], [Effect::Admit { .. }, Effect::Reply(_)]), "nothing starts again: {same:?}");
    let other = send(&mut session, &json!({ "type": "token", "token": "two" }));
    let [Effect::Admit { .. }, Effect::Reply(reply), Effect::Leave, Effect::Subscribe(wider)] = &other[..]
    else {
        panic!("{other:?}")
    };
    let reply: Value = serde_json::from_str(reply).unwrap();
    assert_eq!(reply, json!({ "type": "token", "read": ["*"], "write": [] }));
    assert_eq!((&wider.selection, &wider.since), (&selection(&["*"], &[]), &Since::Before));
    let wrong = send(&mut session, &json!({ "type": "token", "token": "no" }));
    assert_eq!(wrong, [Effect::Count(Refused::Token), Effect::Close(Close::NOT_KNOWN)]);
    let of_waves = send(&mut session, &json!({ "type": "token", "token": "w" }));
    assert_eq!(of_waves, [Effect::Count(Refused::Right), Effect::Close(Close::NO_RIGHT)]);
}

#[test]
fn an_entry_of_an_owner_is_passed_on_by_those_who_may_write_for_it() {
    let tokens = Tokens::new(r#"[{"token":"t","read":["*"],"write":["@pi-*","room/*"]}]"#);
    let mut session = session(tokens.access());
    session.receive(r#"{"type":"hello","client":"tab","token":"t"}"#, NOW);
    let own = |more: Value| {
        let mut request =
            json!({ "type": "own", "op": 3, "owner": "pi-1", "version": "5.1@00000000000000ff" });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    for (more, expected) in [
        (json!({ "key": "t", "entry": "AQ==" }), Key::Owned("pi-1".into(), "t".into())),
        (json!({ "entry": "Ag==" }), Key::Floor("pi-1".into())),
        (json!({ "certificate": "AA==" }), Key::Binding("pi-1".into())),
    ] {
        let effects = send(&mut session, &own(more));
        let [Effect::Submit(write)] = &effects[..] else { panic!("{effects:?}") };
        assert_eq!((&write.change.key, write.op, write.change.entry.stamp.micros), (&expected, 3, 5));
    }
    for (more, code) in [
        (json!({}), "json"),
        (json!({ "key": "t" }), "json"),
        (json!({ "key": "t", "entry": "?" }), "json"),
        (json!({ "key": "t", "entry": "AQ==", "certificate": "AA==" }), "json"),
        (json!({ "key": "t", "entry": "AQ==", "version": "x" }), "version"),
        (json!({ "key": "", "entry": "AQ==" }), "key-size"),
        (json!({ "key": "t", "entry": "AQ==", "owner": "tv" }), "right"),
    ] {
        let (_, reply) = refusal_of(&send(&mut session, &own(more)));
        assert_eq!((&reply["code"], &reply["op"]), (&json!(code), &json!(3)));
    }
}
