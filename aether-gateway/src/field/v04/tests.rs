//! The machine of protocol 0.4, without sockets.

use std::sync::Arc;

use super::*;
use crate::access::Access;

fn limits() -> SecurityLimits {
    SecurityLimits::default()
}

fn open_session() -> Session {
    let mut session = Session::new("home", "id", FieldAccess::new(Arc::default(), None), limits());
    assert!(matches!(session.open(None)[..], [Effect::Admit { .. }, Effect::Reply(_), Effect::Subscribe(_)]));
    session
}

fn guarded_session() -> Session {
    let access = Access::default().token("s3cret").unwrap();
    Session::new("home", "id", FieldAccess::new(Arc::new(access), None), limits())
}

fn writes(session: &mut Session, text: &str) -> Vec<Operation> {
    let effects = session.receive(text).into_iter();
    effects
        .filter_map(|effect| if let Effect::Write(write) = effect { Some(write.operation) } else { None })
        .collect()
}

fn set(key: &str, value: &str) -> Operation {
    Operation::Set { key: key.to_owned(), value: value.to_owned().into() }
}

#[test]
fn the_colour_is_a_hash_of_the_id() {
    // Computed with Python: int(hashlib.sha1(id).hexdigest()[:6], 16) % 360.
    assert_eq!(colour("00000000-0000-4000-8000-000000000000"), "hsl(134, 78%, 62%)");
    let hello: serde_json::Value = serde_json::from_str(&hello("a")).unwrap();
    let keys: Vec<_> = hello.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["color", "id", "type"]);
}

#[test]
fn nothing_is_sent_before_the_token_is_right() {
    for first in [
        r#"{"type":"auth","token":"wrong"}"#,
        r#"{"type":"auth","token":1}"#,
        r#"{"type":"auth"}"#,
        r#"{"type":"set","key":"a","value":1}"#,
        "no json",
    ] {
        let mut session = guarded_session();
        assert_eq!(session.open(None), []);
        let effects = session.receive(first);
        assert_eq!(effects, [Effect::Count(Refused::Token), Effect::Close(Close::AUTH_FAILED)], "{first}");
        assert!(!session.is_admitted());
    }
    let mut session = guarded_session();
    assert_eq!(session.open(Some("wrong")).last(), Some(&Effect::Close(Close::AUTH_FAILED)));
    let mut session = guarded_session();
    assert!(matches!(session.open(Some("s3cret"))[0], Effect::Admit { .. }));
    let mut session = guarded_session();
    session.open(None);
    assert!(matches!(session.receive(r#"{"type":"auth","token":"s3cret"}"#)[0], Effect::Admit { .. }));
    assert_eq!(session.receive(r#"{"type":"auth","token":"wrong"}"#), [], "later ones are ignored");
}

#[test]
fn writes_are_compact_and_null_deletes() {
    let mut session = open_session();
    let expected = [set("k", r#"{"b":[1,2.50],"a":"x y"}"#)];
    assert_eq!(
        writes(&mut session, r#"{"type":"set","key":"k","value":{ "b" : [1, 2.50], "a": "x y" }}"#),
        expected
    );
    let deleted = [Operation::Delete { key: "k".to_owned() }];
    for text in [
        r#"{"type":"delete","key":"k"}"#,
        r#"{"type":"set","key":"k","value":null}"#,
        r#"{"type":"set","key":"k"}"#,
    ] {
        assert_eq!(writes(&mut session, text), deleted, "{text}");
    }
    assert_eq!(
        writes(&mut session, r#"{"type":"set","key":"__proto__","value":1}"#),
        [set("__proto__", "1")]
    );
}

#[test]
fn bad_input_is_dropped_and_counted() {
    let mut session = open_session();
    let key = |bytes| format!(r#"{{"type":"set","key":"{}","value":1}}"#, "k".repeat(bytes));
    let value = |bytes: usize| format!(r#"{{"type":"set","key":"k","value":"{}"}}"#, "v".repeat(bytes - 2));
    let deep = format!(r#"{{"type":"set","key":"k","value":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    for (text, refused) in [
        ("no json".to_owned(), Refused::Json),
        ("[1]".to_owned(), Refused::Json),
        (r#"{"key":"k"}"#.to_owned(), Refused::Json),
        (r#"{"type":"set","value":1}"#.to_owned(), Refused::Key),
        (r#"{"type":"set","key":"","value":1}"#.to_owned(), Refused::Key),
        (r#"{"type":"set","key":7,"value":1}"#.to_owned(), Refused::Key),
        (key(257), Refused::Key),
        (value(32_769), Refused::Value),
        (r#"{"type":"set","key":"k","value":NaN}"#.to_owned(), Refused::Json),
        (r#"{"type":"set","key":"k","value":"\ud800"}"#.to_owned(), Refused::Json),
        (deep, Refused::Json),
        (format!(r#"{{"type":"x","pad":"{}"}}"#, " ".repeat(65_536)), Refused::Message),
        (r#"{"type":"presence","x":"left"}"#.to_owned(), Refused::Json),
    ] {
        assert_eq!(session.receive(&text), [Effect::Count(refused)], "{text:.60}");
    }
    assert_eq!(writes(&mut session, &key(256)).len(), 1);
    assert_eq!(writes(&mut session, &value(32_768)).len(), 1);
    assert_eq!(session.receive(r#"{"type":"of-a-later-version"}"#), []);
}

#[test]
fn coordinates_are_whole_numbers() {
    let mut session = open_session();
    let mut announced = |text: &str| session.receive(text);
    let effect = |json: &str| {
        let announcement = Announcement { about: vec![Names::of("*")], value: json.to_owned() };
        vec![Effect::Announce(None, Some(announcement))]
    };
    assert_eq!(announced(r#"{"type":"presence","x":1.9,"y":"-3"}"#), effect(r#"{"x":1,"y":-3}"#));
    assert_eq!(announced(r#"{"type":"presence","y":true}"#), effect(r#"{"x":0,"y":1}"#));
}

#[test]
fn rights_hold_for_each_write_and_for_the_snapshot() {
    let rights = Rights { read: vec![Names::of("room/7/*")], write: vec![Names::of("room/7/lamp")] };
    let mut session = open_session();
    let effects = session.admit(rights, None);
    let Some(Effect::Subscribe(subscription)) = effects.last() else { panic!("{effects:?}") };
    assert_eq!(subscription.selection.patterns(), (vec!["room/7/*".to_owned()], Vec::new()));
    assert_eq!(writes(&mut session, r#"{"type":"set","key":"room/7/lamp","value":1}"#).len(), 1);
    let refused = session.receive(r#"{"type":"delete","key":"room/8/lamp"}"#);
    assert_eq!(refused, [Effect::Count(Refused::Right)]);
}

#[test]
fn only_participants_with_a_place_are_shown() {
    assert_eq!(presence("a", None).unwrap(), r#"{"type":"presence-leave","id":"a"}"#);
    let shown: serde_json::Value =
        serde_json::from_str(&presence("a", Some(br#"{"x":1,"y":2}"#)).unwrap()).unwrap();
    assert_eq!((&shown["x"], &shown["y"], shown.as_object().unwrap().len()), (&1.into(), &2.into(), 5));
    for value in [&br#""typing""#[..], br#"{"x":1}"#, b"7"] {
        assert_eq!(presence("a", Some(value)), None);
    }
}

#[test]
fn a_snapshot_leaves_out_what_is_no_json() {
    let mut snapshot = Snapshot::new();
    assert!(snapshot.add("a\"b", b"1") && !snapshot.add("bad", b"NaN") && snapshot.add("c", b"[2]"));
    assert_eq!(snapshot.finish(), r#"{"type":"snapshot","data":{"a\"b":1,"c":[2]}}"#);
}
