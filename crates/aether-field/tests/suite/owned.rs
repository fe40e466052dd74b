//! Owned state: what nobody but its owner can change, whatever arrives and in whatever way. Cases C3 of the acceptance.

use aether_field::core::{
    Applied, Change, Entry, Identity, Initiator, Intake, Key, Limits, Message, Refusal, Responder, Stamp,
    State, WriterId,
};
use aether_field::{Certificate, PublicKey, Trust};
use bytes::Bytes;

const FIELD: &str = "home";
/// When everything happens, in microseconds since 1970.
const NOW: u64 = 1_700_000_000_000_000;
const HOUR: u64 = 3_600_000_000;
const DAY: u64 = 24 * HOUR;

fn identity(name: &str) -> Identity {
    Identity::generate(name).unwrap()
}

fn state(writer: u64, trust: Trust) -> State {
    State::new(WriterId(writer), Limits::default()).with_trust(FIELD, trust)
}

/// An owner and its state, which trusts itself.
fn owner(writer: u64, identity: &Identity) -> State {
    state(writer, Trust::none().with_self(identity))
}

fn pinned(identity: &Identity) -> Trust {
    Trust::allow_list([(identity.name(), identity.public_key())])
}

fn set(state: &mut State, identity: &Identity, name: &str, value: &'static str, wall: u64) -> Change {
    state.set_owned(identity, name, value.into(), wall).unwrap().0
}

/// Reconciles two replicas. Returns the messages of both directions.
fn reconcile(a: &mut State, b: &mut State, wall: u64) -> Vec<Message> {
    let (mut initiator, first) = Initiator::start(a).unwrap();
    let mut responder = Responder::default();
    let (mut to_responder, mut all) = (vec![first], Vec::new());
    while !initiator.is_done() {
        for message in std::mem::take(&mut to_responder) {
            all.push(message.clone());
            for answer in responder.handle(b, message, wall).unwrap().send {
                all.push(answer.clone());
                to_responder.extend(initiator.handle(a, answer, wall).unwrap().send);
            }
        }
    }
    all
}

fn changes_in(messages: &[Message]) -> usize {
    let changes = |message: &Message| match message {
        Message::Offer(changes) | Message::Given { changes, .. } => changes.len(),
        _ => 0,
    };
    messages.iter().map(changes).sum()
}

fn shown(state: &State, owner: &str, name: &str) -> Option<String> {
    state.get_owned(owner, name).map(|value| String::from_utf8(value.to_vec()).unwrap())
}

fn altered(change: &Change, alter: impl FnOnce(&mut Change)) -> Change {
    let mut altered = change.clone();
    alter(&mut altered);
    altered
}

/// The change with one bit of its sealed value turned.
fn flipped(change: &Change, bit: usize) -> Change {
    altered(change, |change| {
        let mut value = change.entry.value.as_deref().unwrap().to_vec();
        value[bit / 8] ^= 1 << (bit % 8);
        change.entry.value = Some(value.into());
    })
}

#[test]
fn c3_2_whatever_is_altered_on_the_way_has_no_effect() {
    let pi = identity("pi-2");
    let (mut from, mut to) = (owner(1, &pi), state(2, pinned(&pi)));
    let change = set(&mut from, &pi, "temp", "21", NOW);
    let before = to.digest();
    let bits = 8 * change.entry.value.as_ref().unwrap().len();
    for bit in 0..bits {
        let refusal = to.apply(flipped(&change, bit), NOW).unwrap_err();
        assert!(
            matches!(refusal, Refusal::Forged { .. } | Refusal::ForeignKey { .. }),
            "bit {bit}: {refusal}"
        );
    }
    let named = |name: &str| Key::Owned("pi-2".into(), name.into());
    let later = Stamp { micros: NOW + 1, ..change.entry.stamp };
    for forgery in [
        altered(&change, |change| change.key = named("door")),
        altered(&change, |change| change.key = Key::Floor("pi-2".into())),
        altered(&change, |change| change.key = Key::Binding("pi-2".into())),
        altered(&change, |change| change.entry.stamp = later),
        altered(&change, |change| change.entry.stamp.writer = WriterId(9)),
        altered(&change, |change| change.entry.stamp.logical += 1),
        altered(&change, |change| change.entry.value = None),
        altered(&change, |change| change.entry.value = Some("21".into())),
        altered(&change, |change| change.entry.value = Some(Bytes::new())),
    ] {
        let refusal = to.apply(forgery.clone(), NOW).unwrap_err();
        assert!(matches!(refusal, Refusal::Forged { .. }), "{forgery:?}: {refusal}");
    }
    // The same bytes in another field.
    let mut elsewhere = State::new(WriterId(3), Limits::default()).with_trust("office", pinned(&pi));
    assert!(matches!(elsewhere.apply(change.clone(), NOW), Err(Refusal::Forged { .. })));
    assert_eq!((to.digest(), shown(&to, "pi-2", "temp")), (before, None));
    assert_eq!(to.apply(change, NOW), Ok(Applied::Changed { old: None }));
    assert_eq!(shown(&to, "pi-2", "temp").as_deref(), Some("21"));
}

#[test]
fn c3_2_every_key_of_another_owner_changes_nothing_also_by_a_relay() {
    let (pi, evil) = (identity("pi-2"), identity("evil"));
    let trust = pinned(&pi).with("evil", evil.public_key());
    let (mut victim, mut relay) = (owner(1, &pi), state(2, trust.clone()));
    let _ = relay.apply(set(&mut victim, &pi, "temp", "21", NOW), NOW).unwrap();
    // The attacker signs with its own key in the name of the owner.
    let fake = Identity::from_secret("pi-2", &[7; 32]);
    let mut attacker = owner(3, &fake);
    let forged = set(&mut attacker, &fake, "temp", "99", NOW + 1);
    let renamed = {
        let mut own = owner(4, &evil);
        let change = set(&mut own, &evil, "temp", "99", NOW + 1);
        altered(&change, |change| change.key = Key::Owned("pi-2".into(), "temp".into()))
    };
    for change in [forged, renamed] {
        let refusal = relay.apply(change, NOW + 1).unwrap_err();
        assert!(matches!(refusal, Refusal::ForeignKey { .. }), "{refusal}");
    }
    // It reconciles with the relay, which keeps nothing of it, and it cannot say that something is gone.
    reconcile(&mut attacker, &mut relay, NOW + 1);
    let mut responder = Responder::default();
    let ids: Vec<_> =
        relay.entries().map(|(key, entry)| Change { key: key.clone(), entry: entry.clone() }.id()).collect();
    let step = responder.handle(&mut relay, Message::Gone(ids), NOW).unwrap();
    assert!(step.forgotten.is_empty());
    // A replica that has never met the victim gets its state by the relay, also if a liar has told it that everything so
    // far was collected.
    let mut late = state(5, trust);
    let collected = Stamp { micros: NOW + HOUR / 10, ..Stamp::default() };
    let _ = responder.handle(&mut late, Message::Open(vec![0x61]), NOW).unwrap();
    let _ = responder.handle(&mut late, Message::Done { collected }, NOW).unwrap();
    assert_eq!(late.collected(), collected);
    reconcile(&mut late, &mut relay, NOW + 2);
    assert_eq!(shown(&late, "pi-2", "temp").as_deref(), Some("21"));
}

#[test]
fn c3_3_a_squatted_name_blocks_nobody_and_the_certificate_brings_what_it_makes_valid() {
    let (root, pi) = (identity("root"), identity("pi-2"));
    let squatter = Identity::from_secret("pi-2", &[1; 32]);
    let trust = || Trust::root(root.public_key());
    let (mut early, mut squats) = (state(1, trust()), owner(2, &squatter));
    // The squatter comes first.
    let refusal = early.apply(set(&mut squats, &squatter, "temp", "0", NOW), NOW).unwrap_err();
    assert_eq!(refusal, Refusal::UnknownOwner { owner: "pi-2".into() });
    // The owner writes before it has a certificate; only it sees that.
    let mut real = state(3, trust().with_self(&pi));
    let change = set(&mut real, &pi, "temp", "21", NOW + 1);
    assert!(matches!(early.apply(change, NOW + 1), Err(Refusal::UnknownOwner { .. })));
    assert_eq!((early.digest().entries, shown(&real, "pi-2", "temp").as_deref()), (0, Some("21")));
    // A certificate of somebody else is none.
    let own = Certificate::issue(&squatter, FIELD, "pi-2", squatter.public_key(), 1, None, NOW);
    let refusal = early.publish(&own, NOW + 1).unwrap_err();
    assert_eq!(refusal, Refusal::Forged { owner: "pi-2".into() });
    // Neither is one for another field.
    let elsewhere = Certificate::issue(&root, "office", "pi-2", pi.public_key(), 1, None, NOW);
    assert!(matches!(early.publish(&elsewhere, NOW + 1), Err(Refusal::Forged { .. })));
    let certificate = Certificate::issue(&root, FIELD, "pi-2", pi.public_key(), 1, None, NOW + 2);
    early.publish(&certificate, NOW + 2).unwrap();
    reconcile(&mut early, &mut real, NOW + 3);
    reconcile(&mut early, &mut real, NOW + 3);
    assert_eq!(shown(&early, "pi-2", "temp").as_deref(), Some("21"));
    assert_eq!(early.digest(), real.digest());
}

#[test]
fn c3_3_replicas_that_trust_different_owners_share_what_both_trust_and_offer_no_more() {
    let (a, b, c) = (identity("a"), identity("b"), identity("c"));
    let mut left = state(1, pinned(&a).with("b", b.public_key()));
    let mut right = state(2, pinned(&b).with("c", c.public_key()));
    let (mut of_a, mut of_b, mut of_c) = (owner(3, &a), owner(4, &b), owner(5, &c));
    for n in 0..100 {
        let name = format!("n/{n}");
        let write = |state: &mut State, identity: &Identity| {
            state.set_owned(identity, &name, "1".into(), NOW + n).unwrap().0
        };
        let (in_a, in_b, in_c) = (write(&mut of_a, &a), write(&mut of_b, &b), write(&mut of_c, &c));
        let _ = left.apply(in_a, NOW + n).unwrap();
        // Each has one half of what both trust.
        let _ = if n % 2 == 0 { &mut left } else { &mut right }.apply(in_b, NOW + n).unwrap();
        let _ = right.apply(in_c, NOW + n).unwrap();
    }
    left.set("open", "1".into(), NOW).unwrap();
    let messages = reconcile(&mut left, &mut right, NOW + 100);
    assert_eq!(changes_in(&messages), 101);
    for state in [&left, &right] {
        assert_eq!((state.owned_by("b", "").count(), state.get("open").is_some()), (100, true));
    }
    assert_eq!((left.owned_by("c", "").count(), right.owned_by("a", "").count()), (0, 0));
    // The digests differ for ever, and a reconciliation finds at once that nothing is missing.
    assert_ne!(left.digest(), right.digest());
    let messages = reconcile(&mut left, &mut right, NOW + 101);
    assert_eq!((changes_in(&messages), messages.len()), (0, 4));
    // With a replica that trusts nobody there is nothing to say of owners.
    let mut open = state(6, Trust::none());
    reconcile(&mut open, &mut left, NOW + 102);
    let messages = [reconcile(&mut open, &mut right, NOW + 103), reconcile(&mut right, &mut open, NOW + 103)];
    assert_eq!(messages.map(|messages| changes_in(&messages)), [0, 0]);
    assert_eq!(open.digest().entries, 1);
}

#[test]
fn c3_4_a_replay_has_no_effect_also_when_the_removal_is_forgotten() {
    let pi = identity("pi-2");
    let (mut from, mut to) = (owner(1, &pi), state(2, pinned(&pi)));
    let recorded = set(&mut from, &pi, "temp", "21", NOW);
    let _ = to.apply(recorded.clone(), NOW).unwrap();
    let _ = to.apply(set(&mut from, &pi, "temp", "22", NOW + 1), NOW + 1).unwrap();
    let _ = to.apply(set(&mut from, &pi, "door", "open", NOW + 2), NOW + 2).unwrap();
    assert_eq!(to.apply(recorded.clone(), NOW + 3), Ok(Applied::Known));
    let (removal, _) = from.remove_owned(&pi, "temp", NOW + 4).unwrap().unwrap();
    let _ = to.apply(removal, NOW + 4).unwrap();
    assert_eq!(to.apply(recorded.clone(), NOW + 5), Ok(Applied::Known));
    // After the horizon nobody keeps the removal; what is younger than the floor stays.
    let late = NOW + 8 * DAY;
    assert!(from.collect(late).is_empty());
    let written = from.maintain(&pi, &mut Default::default(), false, late).unwrap();
    assert_eq!(written.len(), 2, "the door signed again, and the floor");
    for (change, _) in &written {
        let _ = to.apply(change.clone(), late).unwrap();
    }
    assert_eq!((to.digest(), to.digest().entries), (from.digest(), 2));
    assert_eq!(to.apply(recorded, late), Ok(Applied::Known));
    assert_eq!((shown(&to, "pi-2", "temp"), shown(&to, "pi-2", "door").as_deref()), (None, Some("open")));
    // Nothing is due any more.
    assert_eq!(from.maintain(&pi, &mut Default::default(), true, late + DAY).unwrap(), []);
}

#[test]
fn c3_7_after_a_rotation_only_the_next_key_writes() {
    let (old, new) = (identity("pi-2"), identity("pi-2"));
    let (mut from, mut to) = (owner(1, &old), state(2, pinned(&old)));
    let before = set(&mut from, &old, "temp", "21", NOW);
    let _ = to.apply(before.clone(), NOW).unwrap();
    // A thief has the key from the start.
    let mut thief = owner(9, &old);
    let backdated = set(&mut thief, &old, "fake", "1", NOW + 1);
    let rotated = from.rotate(&old, &new, NOW + 2).unwrap();
    assert_eq!(rotated.len(), 3, "the certificate, the value signed again, the floor");
    // At no moment of it the value is missing.
    for (change, _) in rotated {
        let _ = to.apply(change, NOW + 2).unwrap();
        assert_eq!(shown(&to, "pi-2", "temp").as_deref(), Some("21"));
    }
    assert_eq!(to.digest(), from.digest());
    let after = set(&mut thief, &old, "temp", "99", NOW + 3);
    assert_eq!(to.apply(backdated, NOW + 3), Ok(Applied::Known), "it is older than the floor");
    assert_eq!(to.apply(after, NOW + 3), Err(Refusal::ForeignKey { owner: "pi-2".into() }));
    assert!(matches!(from.set_owned(&old, "temp", "99".into(), NOW + 3), Err(Refusal::ForeignKey { .. })));
    // Another successor by the old key is refused by all that know the first.
    let evil = identity("pi-2");
    let fork = thief.rotate(&old, &evil, NOW + 4).unwrap();
    for (change, _) in fork {
        assert!(matches!(to.apply(change, NOW + 4), Err(Refusal::ForeignKey { .. }) | Ok(Applied::Known)));
    }
    let next = set(&mut from, &new, "temp", "22", NOW + 5);
    let _ = to.apply(next, NOW + 5).unwrap();
    assert_eq!(shown(&to, "pi-2", "temp").as_deref(), Some("22"));
    // A newcomer that pins the first key follows the chain, and a restart does as well.
    let mut late = state(3, pinned(&old));
    reconcile(&mut late, &mut to, NOW + 6);
    assert_eq!((late.digest(), shown(&late, "pi-2", "temp").as_deref()), (to.digest(), Some("22")));
    let stored = to.entries().map(|(key, entry)| Change { key: key.clone(), entry: entry.clone() }).collect();
    let mut restarted = state(4, pinned(&old));
    assert_eq!(restarted.load_owned(stored), []);
    assert_eq!(restarted.digest(), to.digest());
}

#[test]
fn c3_12_own_updates_are_taken_after_a_restart_with_a_clock_set_back() {
    let pi = identity("pi-2");
    let (mut before, mut to) = (owner(1, &pi), state(2, pinned(&pi)));
    let _ = to.apply(set(&mut before, &pi, "temp", "21", NOW), NOW).unwrap();
    let stored = || before.entries().map(|(key, entry)| Change { key: key.clone(), entry: entry.clone() });
    // With its store.
    let mut after = State::restore(WriterId(3), Limits::default(), [], Stamp::default(), before.last_stamp())
        .unwrap()
        .with_trust(FIELD, Trust::none().with_self(&pi));
    assert_eq!(after.load_owned(stored().collect()), []);
    assert_eq!(shown(&after, "pi-2", "temp").as_deref(), Some("21"));
    let back = NOW - HOUR;
    let change = set(&mut after, &pi, "temp", "22", back);
    assert!(change.entry.stamp > before.last_stamp());
    let _ = to.apply(change, NOW + 1).unwrap();
    assert_eq!(shown(&to, "pi-2", "temp").as_deref(), Some("22"));
}

#[test]
fn c3_13_the_root_gives_a_lost_name_a_new_key_and_its_state_survives() {
    let (root, lost, new) = (identity("root"), identity("pi-2"), identity("pi-2"));
    let trust = Trust::root(root.public_key());
    let first = Certificate::issue(&root, FIELD, "pi-2", lost.public_key(), 1, None, NOW);
    let (mut gone, mut keeps) = (state(1, trust.clone()), state(2, trust.clone()));
    gone.publish(&first, NOW).unwrap();
    set(&mut gone, &lost, "temp", "21", NOW + 1);
    reconcile(&mut keeps, &mut gone, NOW + 2);
    reconcile(&mut keeps, &mut gone, NOW + 2);
    // Key and store are lost. Only the root can go on; the name itself proves nothing.
    let mut back = state(3, trust.clone().with_self(&new));
    reconcile(&mut back, &mut keeps, NOW + 3);
    assert!(matches!(back.set_owned(&new, "temp", "0".into(), NOW + 4), Err(Refusal::ForeignKey { .. })));
    let second =
        Certificate::issue(&root, FIELD, "pi-2", new.public_key(), 2, Some(lost.public_key()), NOW + 5);
    back.publish(&second, NOW + 5).unwrap();
    assert_eq!(shown(&back, "pi-2", "temp").as_deref(), Some("21"));
    let written = back.maintain(&new, &mut Default::default(), true, NOW + 6).unwrap();
    assert_eq!(written.len(), 2, "the value signed again, and the floor");
    set(&mut back, &new, "temp", "22", NOW + 7);
    reconcile(&mut keeps, &mut back, NOW + 8);
    assert_eq!((keeps.digest(), shown(&keeps, "pi-2", "temp").as_deref()), (back.digest(), Some("22")));
    // The lost key, found by somebody, and the old certificate change nothing.
    let found = set(&mut gone, &lost, "temp", "99", NOW + 9);
    assert!(matches!(keeps.apply(found, NOW + 9), Err(Refusal::ForeignKey { .. })));
    assert!(keeps.publish(&first, NOW + 9).is_ok());
    assert_eq!(keeps.digest(), back.digest());
    // Without the key before, everything that it signed is void at once.
    let third = Certificate::issue(&root, FIELD, "pi-2", identity("pi-2").public_key(), 3, None, NOW + 10);
    keeps.publish(&third, NOW + 10).unwrap();
    assert_eq!((shown(&keeps, "pi-2", "temp"), keeps.take_voided().len()), (None, 2));
}

#[test]
fn a_flood_of_forgeries_costs_one_signature_a_message_and_repetitions_none() {
    let pi = identity("pi-2");
    let (mut from, mut to) = (owner(1, &pi), state(2, pinned(&pi)));
    let good = set(&mut from, &pi, "temp", "21", NOW);
    let other = set(&mut from, &pi, "door", "open", NOW);
    let mut intake = Intake::default();
    assert!(matches!(intake.apply(&mut to, flipped(&good, 100), NOW), Err(Refusal::Forged { .. })));
    assert_eq!(intake.apply(&mut to, other.clone(), NOW), Err(Refusal::Unchecked));
    // Entries that everybody may write are not concerned, and the next message is looked at again.
    let open = state(3, Trust::none()).set("k", "v".into(), NOW).unwrap();
    assert!(intake.apply(&mut to, open, NOW).is_ok());
    assert_eq!(Intake::default().apply(&mut to, other, NOW), Ok(Applied::Changed { old: None }));
    let _ = to.apply(good.clone(), NOW).unwrap();
    // Known by its stamp: even a wrong signature is not looked at.
    let older = altered(&flipped(&good, 100), |change| change.entry.stamp.micros -= 1);
    assert_eq!(to.apply(older, NOW), Ok(Applied::Known));
}

#[test]
fn bad_input_of_an_owner_is_refused_by_itself_and_by_others_alike() {
    let pi = identity("pi-2");
    let (mut from, mut to) = (owner(1, &pi), state(2, pinned(&pi)));
    let value = |bytes: usize| Bytes::from(vec![b'v'; bytes]);
    assert_eq!(from.set_owned(&pi, "", "1".into(), NOW).unwrap_err(), Refusal::EmptyName);
    let refusal = from.set_owned(&pi, &"n".repeat(257), "1".into(), NOW).unwrap_err();
    assert_eq!(refusal, Refusal::NameTooLong { bytes: 257, allowed: 256 });
    let refusal = from.set_owned(&pi, "k", value(32_769), NOW).unwrap_err();
    assert_eq!(refusal, Refusal::ValueTooLarge { bytes: 32_769, allowed: 32_768 });
    let (change, _) = from.set_owned(&pi, &"n".repeat(256), value(32_768), NOW).unwrap();
    assert!(to.apply(change, NOW).is_ok());
    // A stamp from the future.
    let ahead = set(&mut from, &pi, "k", "1", NOW + HOUR);
    let refusal = to.apply(ahead.clone(), NOW).unwrap_err();
    assert!(refusal.to_string().contains("ahead of this replica's clock"), "{refusal}");
    assert!(to.apply(ahead, NOW + HOUR).is_ok());
    // A register of the same name is another thing.
    to.set("k", "mine".into(), NOW).unwrap();
    assert_eq!(
        (to.get("k").map(|value| &value[..]), shown(&to, "pi-2", "k").as_deref()),
        (Some(&b"mine"[..]), Some("1"))
    );
    // An entry cannot come as one of everybody's.
    let entry = Entry { stamp: Stamp::default(), replaces: None, value: None };
    let restored = State::restore(
        WriterId(5),
        Limits::default(),
        [Change { key: Key::Owned("pi-2".into(), "k".into()), entry }],
        Stamp::default(),
        Stamp::default(),
    );
    assert!(matches!(restored, Err(Refusal::UnknownOwner { .. })));
}

#[test]
fn a_key_is_its_64_digits_and_no_weak_point() {
    let key = identity("pi-2").public_key();
    assert_eq!(key.to_string().parse::<PublicKey>(), Ok(key));
    for text in ["", "12", &"0".repeat(64), &"g".repeat(64), &format!("+{}", &key.to_string()[1..])] {
        assert!(text.parse::<PublicKey>().is_err(), "{text}");
    }
    let shown = format!("{:?}", Identity::from_secret("pi-2", &[0xab; 32]));
    assert!(shown.contains("pi-2") && !shown.contains("abab"), "{shown}");
}

#[test]
fn an_owner_that_is_trusted_later_is_fetched_and_keeps_its_first_key() {
    let (pi, thief) = (identity("pi"), identity("pi"));
    let mut a = owner(1, &pi);
    let mut b = state(2, Trust::none());
    set(&mut a, &pi, "temperature", "21", NOW);
    reconcile(&mut b, &mut a, NOW);
    assert_eq!(shown(&b, "pi", "temperature"), None);
    assert_eq!(b.trust("pi", pi.public_key()), Ok(true));
    assert_eq!(b.trust("pi", pi.public_key()), Ok(true));
    assert_eq!(b.trust("pi", thief.public_key()), Ok(false));
    reconcile(&mut b, &mut a, NOW);
    assert_eq!(shown(&b, "pi", "temperature").as_deref(), Some("21"));
    assert_eq!(a.digest(), b.digest());
    // The first key stays the one by which the owner is known, also when it has signed another one.
    let next = identity("pi");
    for (change, _) in a.rotate(&pi, &next, NOW + 1).unwrap() {
        assert!(b.apply(change, NOW + 1).is_ok());
    }
    assert_eq!(b.trust("pi", pi.public_key()), Ok(true));
    assert_eq!(b.trust("pi", next.public_key()), Ok(true));
    assert_eq!(b.trust("pi", thief.public_key()), Ok(false));
}

#[test]
fn owners_that_are_trusted_later_have_a_bound() {
    let mut limits = Limits::default();
    limits.max_owners = 2;
    let mut state = State::new(WriterId(1), limits).with_trust(FIELD, Trust::none());
    for name in ["one", "two"] {
        assert_eq!(state.trust(name, identity(name).public_key()), Ok(true));
    }
    let refused = state.trust("three", identity("three").public_key());
    assert_eq!(refused, Err(Refusal::TooManyOwners { allowed: 2 }));
    assert_eq!(state.owners().count(), 2);
}

#[test]
fn a_message_is_signed_by_one_key_and_is_no_statement_of_a_field() {
    let (pi, other) = (identity("pi"), identity("other"));
    let signature = pi.sign_message(b"hello");
    assert!(pi.public_key().has_signed(b"hello", &signature));
    assert!(!pi.public_key().has_signed(b"hallo", &signature));
    assert!(!other.public_key().has_signed(b"hello", &signature));
    // The statement of an owner, as bytes of a message, has another signature.
    let mut a = owner(1, &pi);
    let change = set(&mut a, &pi, "k", "v", NOW);
    let seal = change.entry.value.unwrap();
    let sealed: [u8; 64] = seal[9..73].try_into().unwrap();
    assert!(!pi.public_key().has_signed(&seal, &sealed));
    assert!(!pi.public_key().has_signed(b"v", &sealed));
}
