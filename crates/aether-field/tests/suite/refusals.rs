//! An entry that another replica refuses is not there, and a caller that waits for it gets the refusal.

use std::time::Duration;

use aether_core::clock::micros_since_1970;
use aether_core::{Aether, Vibrator};
use aether_field::core::{Change, Digest, Entry, Key, Limits, RefusalReason, Stamp, WriterId};
use aether_field::{
    ClockTrouble, Field, FieldError, Identity, Restamped, Trust, replica_clocks, restamp_store,
};

use crate::replica::{PATIENCE, join, knows, within};

/// A register with a stamp that is so much ahead of the clock.
fn ahead(name: &str, by: Duration) -> Change {
    let micros = micros_since_1970() + u64::try_from(by.as_micros()).unwrap();
    let stamp = Stamp { micros, logical: 0, writer: WriterId(7) };
    Change {
        key: Key::Register(name.into()),
        entry: Entry { stamp, replaces: None, value: Some("1".into()) },
    }
}

/// Nobody leaves for it because the machine is busy.
async fn with_limits(aether: &Aether, replica: &str, change: impl FnOnce(&mut Limits)) -> Field {
    let mut limits = Limits::default();
    change(&mut limits);
    let builder = Field::builder("home").replica(replica).limits(limits).silence(PATIENCE);
    builder.join(aether).await.unwrap()
}

#[tokio::test]
async fn an_entry_that_the_clock_of_the_other_refuses_is_not_agreed_and_both_sides_say_so() {
    let aether = Aether::local();
    let fast = with_limits(&aether, "fast", |_| {}).await;
    let slow = with_limits(&aether, "slow", |limits| limits.max_drift = Duration::from_secs(1)).await;
    let _ = fast.submit(ahead("k", Duration::from_secs(300))).unwrap();
    let error = within("the refusal", fast.agreed(1)).await.unwrap_err();
    assert!(
        matches!(&error, FieldError::NotTaken { replica, refused: 1, reason: RefusalReason::Clock, clock: Some(_) } if replica == "slow"),
        "{error:?}"
    );
    assert!(error.to_string().contains("too far ahead of its clock"), "{error}");
    let error = within("the refusal", slow.agreed(1)).await.unwrap_err();
    assert!(
        matches!(&error, FieldError::ClockBehind { replica, refused: 1, .. } if replica == "fast"),
        "{error:?}"
    );
    assert!(slow.status().from_future > 0 && slow.get_json("k").is_none());

    // Another one takes it.
    let other = join(&aether, "other").await;
    knows(&fast, std::slice::from_ref(&other)).await;
    within("the other", fast.agreed(1)).await.unwrap();
    assert!(matches!(within("both", fast.agreed(2)).await, Err(FieldError::NotTaken { .. })));
}

#[tokio::test]
async fn an_entry_of_an_owner_whom_the_other_does_not_trust_is_not_agreed() {
    let aether = Aether::local();
    let identity = Identity::generate("pi").unwrap();
    let key = identity.public_key();
    let owner = Field::builder("home").replica("owner").identity(identity).silence(PATIENCE);
    let owner = owner.join(&aether).await.unwrap();
    let _stranger = join(&aether, "stranger").await;
    within("nothing is written yet", owner.agreed(1)).await.unwrap();
    owner.own().unwrap().set("temp", &21).unwrap();
    for _ in 0..2 {
        let error = within("the refusal", owner.agreed(1)).await.unwrap_err();
        assert!(
            matches!(&error, FieldError::NotTaken { replica, refused: 1, reason: RefusalReason::Trust, clock: None } if replica == "stranger"),
            "{error:?}"
        );
    }
    let trust = Trust::allow_list([("pi", key)]);
    let friend = Field::builder("home").replica("friend").trust(trust).join(&aether).await.unwrap();
    knows(&owner, std::slice::from_ref(&friend)).await;
    within("the friend", owner.agreed(1)).await.unwrap();
    assert_eq!(friend.of("pi").get::<u32>("temp").unwrap(), Some(21));

    // A key that is pinned, and is another one.
    let other = Trust::allow_list([("pi", Identity::generate("pi").unwrap().public_key())]);
    let _misled = Field::builder("home").replica("misled").trust(other).join(&aether).await.unwrap();
    let error = within("the refusal", owner.agreed(2)).await.unwrap_err();
    assert!(matches!(error, FieldError::NotTaken { reason: RefusalReason::Trust, .. }), "{error:?}");
}

#[tokio::test]
async fn an_entry_that_is_larger_than_the_other_allows_is_not_agreed() {
    let aether = Aether::local();
    let one = join(&aether, "one").await;
    let _small = with_limits(&aether, "small", |limits| limits.max_value = 4).await;
    one.set("k", "longer").unwrap();
    let error = within("the refusal", one.agreed(1)).await.unwrap_err();
    assert!(matches!(error, FieldError::NotTaken { reason: RefusalReason::Bounds, .. }), "{error:?}");
}

#[cfg(feature = "store")]
#[tokio::test]
async fn a_replica_whose_clock_was_ahead_says_that_the_others_refuse_what_it_writes() {
    let (aether, folder) = (Aether::local(), tempfile::tempdir().unwrap());
    let path = folder.path().join("home.field");
    let mut limits = Limits::default();
    limits.max_drift = Duration::from_secs(2 * 3600);
    let once = Field::builder("home").limits(limits).store(&path).join(&aether).await.unwrap();
    let _ = once.submit(ahead("k", Duration::from_secs(3600))).unwrap();
    assert_eq!(once.clock_trouble(), None);
    once.close().await.unwrap();

    let field = Field::builder("home").replica("was ahead").store(&path).join(&aether).await.unwrap();
    let other = join(&aether, "other").await;
    let trouble = field.clock_trouble();
    assert!(
        matches!(trouble, Some(ClockTrouble::OwnStamps { ahead }) if ahead > Duration::from_secs(3000)),
        "{trouble:?}"
    );
    field.set("later", &1).unwrap();
    let error = within("the refusal", field.agreed(1)).await.unwrap_err();
    assert!(matches!(error, FieldError::NotTaken { reason: RefusalReason::Clock, .. }), "{error:?}");

    // Somebody who asks all replicas sees it, too.
    // Both report within these seconds of paused time, however busy the machine is.
    tokio::time::pause();
    let clocks = replica_clocks(&aether, Duration::from_secs(3)).await.unwrap();
    tokio::time::resume();
    let was_ahead = clocks.iter().find(|clock| clock.replica == "was ahead").unwrap();
    assert!(was_ahead.ahead > Duration::from_secs(3000) && was_ahead.clock.by() < Duration::from_secs(60));
    assert!(clocks.iter().any(|clock| clock.replica == "other" && clock.ahead.is_zero()), "{clocks:?}");

    // The way out.
    field.insert("tags", "new").unwrap();
    field.add("visits", 2).unwrap();
    field.remove("k").unwrap();
    field.close().await.unwrap();
    let found = restamp_store(&path, false).unwrap();
    assert_eq!((found.entries, found.owned), (4, 0));
    assert!(found.ahead > Duration::from_secs(3000), "{found:?}");
    assert_eq!(restamp_store(&path, true).unwrap().entries, 4);
    assert_eq!(restamp_store(&path, true).unwrap(), Restamped::default());
    let field = Field::builder("home").store(&path).join(&aether).await.unwrap();
    assert_eq!(field.clock_trouble(), None);
    assert_eq!((field.get::<u8>("k").unwrap(), field.get("later").unwrap()), (None, Some(1)));
    field.set("later", &2).unwrap();
    within("the others take it", field.agreed(1)).await.unwrap();
    assert_eq!((other.get("later").unwrap(), other.count("visits")), (Some(2), 2));
    assert_eq!(other.members("tags"), field.members("tags"));
    assert_eq!(other.members("tags").len(), 1);
}

#[tokio::test]
async fn a_clock_that_is_off_is_noticed_with_the_first_beat() {
    let aether = Aether::local();
    let hall = with_limits(&aether, "hall", |_| {}).await;
    let mut events = hall.peer_events();
    let stranger = Vibrator::create("stranger", &aether).await.unwrap();
    let now = micros_since_1970();
    // Version, writer, name, digest, asks, leaves, number, clock, proof.
    let beat = |writer: u64, clock| {
        (4_u8, WriterId(writer), "pi", Digest::default(), false, false, now, clock, now, None::<u8>)
    };
    for (writer, clock) in [(7, now - 3_600_000_000), (8, now)] {
        stranger
            .emit_bytes("field.home.beats", postcard::to_allocvec(&beat(writer, clock)).unwrap())
            .await
            .unwrap();
        within("the beat", events.next()).await.unwrap();
        let trouble = hall.clock_trouble();
        match writer {
            7 => {
                let Some(ClockTrouble::Peers { replica, clock }) = &trouble else { panic!("{trouble:?}") };
                assert!(
                    replica == "pi" && clock.is_behind() && clock.by() > Duration::from_secs(3500),
                    "{trouble:?}"
                );
                assert!(hall.peers()[0].clock.is_behind());
            }
            _ => assert_eq!(trouble, None, "it is not this clock: half of the others agree with it"),
        }
    }
}
