//! Changes that keep the stamp of their writer, and reading in pages: what a gateway needs.

use aether_core::Aether;
use aether_field::core::{
    Applied, Change, ClientWrite, Entry, Key, Operation, Seen, Stamp, Submitted, WriterId,
};
use aether_field::{Field, FieldError, Names, PageEntry};
use bytes::Bytes;

/// Microseconds since 1970, of a time that has passed.
const THEN: u64 = 1_700_000_000_000_000;

fn stamp(later: u64, writer: u64) -> Stamp {
    Stamp { micros: THEN + later, logical: 0, writer: WriterId(writer) }
}

fn numbered(later: u64, number: u32, writer: u64) -> Stamp {
    Stamp { logical: number, ..stamp(later, writer) }
}

fn register(name: &str, value: &'static str, stamp: Stamp, replaces: Option<Stamp>) -> Change {
    let value = Some(Bytes::from_static(value.as_bytes()));
    Change { key: Key::Register(name.into()), entry: Entry { stamp, replaces, value } }
}

async fn field() -> (Aether, Field) {
    let aether = Aether::local();
    let field = Field::builder("home").join(&aether).await.unwrap();
    (aether, field)
}

#[tokio::test]
async fn a_change_is_applied_once_at_whichever_replicas_it_is_submitted() {
    let (aether, one) = field().await;
    let other = Field::builder("home").join(&aether).await.unwrap();
    let changes = [register("k", "1", stamp(1, 7), None), Change::counted("visits", 5, 2, stamp(2, 7))];
    for change in &changes {
        assert!(matches!(one.submit(change.clone()).unwrap(), Applied::Changed { old: None }));
        assert_eq!(one.submit(change.clone()).unwrap(), Applied::Known);
        let _ = other.submit(change.clone()).unwrap();
    }
    let write = |made, operation| ClientWrite { made, seen: Seen::Unsaid, operation };
    let (key, member) = (|| "tags".to_owned(), || Bytes::from_static(b"x"));
    let insert = write(numbered(3, 1, 7), Operation::Insert { key: key(), member: member() });
    let discard = write(numbered(4, 2, 7), Operation::Discard { key: key(), member: member() });
    for (write, created) in [(&insert, 1), (&discard, 0), (&insert, 0)] {
        let applied = one.submit_write(write.clone()).unwrap();
        assert_eq!(applied, Submitted::Applied { stamp: write.made, created });
    }
    assert_eq!(one.member("tags", &member()), None, "a removed addition stays removed");
    one.agreed(1).await.unwrap();
    for field in [&one, &other] {
        assert_eq!((field.get_json("k").as_deref(), field.count("visits")), (Some(&b"1"[..]), 3));
        assert!(field.members("tags").is_empty());
    }
    assert_eq!(one.digest(), other.digest());
}

#[tokio::test]
async fn the_loser_of_a_race_is_reported_with_its_writer_and_one_that_was_seen_is_not() {
    let (_aether, field) = field().await;
    let mut all = field.all_superseded();
    let mut own = field.superseded();
    let (first, second, third) = (stamp(1, 7), stamp(2, 8), stamp(3, 9));
    let _ = field.submit(register("k", "1", first, None)).unwrap();
    let _ = field.submit(register("k", "2", second, Some(first))).unwrap();
    let _ = field.submit(register("k", "3", third, Some(first))).unwrap();
    let lost = all.next().await.unwrap();
    assert_eq!((lost.lost_stamp, lost.stamp, lost.lost.as_deref()), (second, Some(third), Some(&b"2"[..])));
    field.close().await.unwrap();
    assert_eq!((all.next().await, own.next().await), (None, None), "nothing else was lost");
}

#[tokio::test]
async fn a_change_from_the_future_is_refused() {
    let (_aether, field) = field().await;
    let future = Stamp { micros: u64::MAX / 2, logical: 0, writer: WriterId(7) };
    let refused = field.submit(register("k", "1", future, None)).unwrap_err();
    assert!(matches!(refused, FieldError::Refused(_)), "{refused}");
    assert_eq!(field.get_json("k"), None);
}

#[tokio::test]
async fn pages_have_each_entry_once_whatever_their_size() {
    let (_aether, field) = field().await;
    for number in 0..300 {
        field.set(&format!("room/{number:03}"), &number).unwrap();
        field.insert("room/tags", format!("{number:03}")).unwrap();
        let _ = field.submit(Change::counted("room/visits", 1, 0, stamp(number, 1000 + number))).unwrap();
    }
    field.remove("room/007").unwrap();
    field.discard("room/tags", "007").unwrap();
    field.set("roof", &1).unwrap();
    for bytes in [1, 1000, usize::MAX] {
        let (mut entries, mut from) = (Vec::new(), None);
        loop {
            let page = field.page(&Names::of("room/*"), from, bytes);
            entries.extend(page.entries);
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        let of_kind = |is: fn(&PageEntry) -> bool| entries.iter().filter(|entry| is(entry)).count();
        assert_eq!(of_kind(|entry| matches!(entry, PageEntry::Register { .. })), 299, "{bytes}");
        assert_eq!(of_kind(|entry| matches!(entry, PageEntry::Member { .. })), 299, "{bytes}");
        assert_eq!(of_kind(|entry| matches!(entry, PageEntry::Counter { sum: 300, .. })), 1, "{bytes}");
        assert_eq!(entries.len(), 599, "{bytes}");
    }
    let one = field.page(&Names::of("roof"), None, 1000);
    assert!(matches!(&one.entries[..], [PageEntry::Register { name, .. }] if name == "roof"));
}

#[test]
fn names_that_two_patterns_share() {
    let and = |a: &str, b: &str| Names::of(a).and(&Names::of(b)).map(|names| names.to_string());
    for (a, b, both) in [
        ("*", "room/*", Some("room/*")),
        ("room/*", "room/7/*", Some("room/7/*")),
        ("room/*", "room/7", Some("room/7")),
        ("room/*", "room/*", Some("room/*")),
        ("room/7", "room/7", Some("room/7")),
        ("room/7", "room/7*", Some("room/7")),
        ("room/7", "room/8", None),
        ("room/7*", "room/8*", None),
        ("room/7", "room/7/*", None),
    ] {
        assert_eq!((and(a, b).as_deref(), and(b, a).as_deref()), (both, both), "{a} and {b}");
    }
}
