use super::*;
use crate::amplitude::Floor;
use crate::channel::{Channel, Pattern};
use crate::presence::Heard;
use crate::proof::{Named, Proof, SignerId};
use crate::source::{Sequencer, Source};
use crate::wave::ContentType;

/// Advertised floors with their index, and processes that announce themselves.
struct AdvertisedStage {
    advertised: AdvertisedFloors,
    hearers: FloorIndex,
    now: Instant,
}

struct Process(Sequencer);

impl Process {
    fn new() -> Self {
        Self(Sequencer::new(Source::framework()))
    }

    /// A process that copies the identity of another one, and the number of its last message.
    fn copying(other: &Self) -> Self {
        let copy = Self(Sequencer::new(other.0.source().clone()));
        while copy.0.last() < other.0.last() {
            copy.0.next();
        }
        copy
    }
}

impl AdvertisedStage {
    fn new() -> Self {
        let mut stage = Self {
            advertised: AdvertisedFloors::default(),
            hearers: FloorIndex::new(),
            now: crate::clock::now(),
        };
        stage.advertised.begin_index(&stage.hearers);
        stage
    }

    fn enters(&mut self, from: &Process, announced: Announcement) -> bool {
        self.enters_proven(None, from, announced)
    }

    fn enters_proven(&mut self, proof: Option<&Proof>, from: &Process, announced: Announcement) -> bool {
        let channel = Channel::with_reserved("_aether.vibrators").unwrap();
        let mut message = Wave::plain(channel, "[]".into(), ContentType::Json).noticed(&from.0);
        assert!(proof.is_none_or(|proof| message.prove(proof)));
        self.advertised.take_in(&message, vec![announced], &self.hearers, self.now)
    }

    fn says(&mut self, from: &Process, instance: u64, patterns: &[&str], floor: Floor) -> bool {
        self.enters(from, announced(instance, patterns, floor))
    }

    fn floor_of(&self, name: &str) -> Floor {
        self.hearers.floor_of(&Channel::new(name).unwrap(), self.now)
    }

    fn passes(&mut self, time: Duration) {
        self.now += time;
    }

    fn shown(&self) -> Vec<u64> {
        let mut shown: Vec<_> =
            self.advertised.elsewhere(self.now).iter().map(|a| a.vibrator.instance()).collect();
        shown.sort_unstable();
        shown
    }
}

fn announced(instance: u64, patterns: &[&str], floor: Floor) -> Announcement {
    let heard = |text: &&str| Heard { pattern: Pattern::new(text).unwrap(), group: None };
    Announcement {
        vibrator: Source::with_instance("a", instance).unwrap(),
        heard: patterns.iter().map(heard).collect(),
        floor,
        effective_floor: floor,
        principal: 0,
        is_listed: true,
    }
}

fn floor(amplitude: f32) -> Floor {
    Floor::new(amplitude).unwrap()
}

#[test]
fn an_announcement_in_the_name_of_another_stops_nothing() {
    let (mut stage, owner, forger) = (AdvertisedStage::new(), Process::new(), Process::new());
    stage.says(&owner, 1, &["orders.*"], Floor::OPEN);
    stage.says(&owner, 2, &["orders.*"], floor(0.5));
    for (patterns, claimed) in [(&["orders.*"][..], 1.0), (&["other"], 1.0), (&[], 0.0), (&["orders.*"], 0.9)]
    {
        stage.says(&forger, 1, patterns, Floor::new(claimed).unwrap());
        assert!(stage.floor_of("orders.a").is_open(), "{patterns:?}");
    }
    stage.says(&owner, 1, &[], Floor::OPEN);
    assert_eq!(stage.floor_of("orders.a"), floor(0.5), "the owner may announce that it left");
}

#[test]
fn a_copied_identity_is_detected_when_its_owner_announces_next() {
    let (mut stage, owner) = (AdvertisedStage::new(), Process::new());
    stage.says(&owner, 1, &["a"], Floor::OPEN);
    let forger = Process::copying(&owner);
    stage.says(&forger, 1, &["a"], floor(1.0));
    stage.says(&owner, 1, &["a"], floor(0.5));
    assert!(stage.floor_of("a").is_open() && stage.advertised.implausible() == 1);
    for _ in 0..3 {
        stage.passes(Duration::from_secs(10));
        stage.says(&owner, 1, &["a"], floor(0.5));
        assert!(stage.floor_of("a").is_open(), "no floor counts for a while");
    }
    stage.passes(Duration::from_secs(10));
    stage.says(&owner, 1, &["a"], floor(0.5));
    assert_eq!(stage.floor_of("a"), floor(0.5), "it counts again later");
    assert_eq!(stage.advertised.implausible(), 1);
}

#[test]
fn too_many_receivers_open_every_floor() {
    let (mut stage, crowd) = (AdvertisedStage::new(), Process::new());
    for instance in 1..=MAX_RECEIVERS as u64 {
        stage.says(&crowd, instance, &["a"], floor(0.5));
    }
    assert!(stage.says(&crowd, u64::MAX, &["b"], floor(0.5)));
    assert!(stage.floor_of("a").is_open());
    assert_eq!((stage.advertised.receivers.len(), stage.advertised.left_out()), (MAX_RECEIVERS, 1));
}

#[test]
fn a_receiver_that_did_not_fit_still_counts() {
    let (mut stage, crowd, late) = (AdvertisedStage::new(), Process::new(), Process::new());
    for instance in 1..=MAX_RECEIVERS as u64 {
        stage.says(&crowd, instance, &[&format!("a.n{instance}")], floor(0.5));
    }
    stage.says(&late, u64::MAX, &["a.n1"], Floor::OPEN);
    for instance in 2..=100 {
        stage.says(&crowd, instance, &[], Floor::OPEN);
    }
    stage.advertised.call(&stage.hearers, stage.now);
    assert!(stage.floor_of("a.n1").is_open(), "one has not answered yet");
    stage.says(&late, u64::MAX, &["a.n1"], Floor::OPEN);
    stage.advertised.call(&stage.hearers, stage.now);
    assert!(stage.floor_of("a.n1").is_open(), "the missing one is known now");
    assert_eq!(stage.floor_of("a.n101"), floor(0.5), "and so are all others");
}

#[test]
fn patterns_are_bounded_in_bytes_and_freed_when_their_receivers_leave() {
    let (mut stage, crowd, honest) = (AdvertisedStage::new(), Process::new(), Process::new());
    let long = "y".repeat(200);
    for instance in 1..=400 {
        let texts: Vec<_> = (0..256).map(|n| format!("x{instance}p{n}{long}.*")).collect();
        stage.says(&crowd, instance, &texts.iter().map(|text| &**text).collect::<Vec<_>>(), floor(0.5));
        assert!(stage.advertised.bytes() <= MAX_BYTES);
    }
    assert!(stage.advertised.left_out() > 100 && stage.floor_of("x1p0.a").is_open());
    stage.passes(ABSENT_AFTER);
    assert!(stage.says(&honest, 1000, &["a"], floor(0.5)), "there is room again");
    assert_eq!(stage.shown(), [1000]);
    stage.passes(ABSENT_AFTER);
    stage.advertised.forget_absent(&stage.hearers, stage.now);
    assert_eq!(
        (stage.advertised.bytes(), stage.advertised.receivers.len(), stage.advertised.announcers.len()),
        (0, 0, 0)
    );
    assert!(stage.advertised.announcers.capacity() < 64);
    assert!(stage.hearers.change(|index| index.is_empty()));
}

#[test]
fn the_numbers_of_who_is_no_aether_say_nothing() {
    let (mut stage, process) = (AdvertisedStage::new(), Process::new());
    let instance = process.0.source().instance();
    let stranger = Source::with_instance("foreign", instance).unwrap();
    let mut message = |sequence: u64, announced: Announcement| {
        let channel = Channel::with_reserved("_aether.vibrators").unwrap();
        let sequencer = Sequencer::new(stranger.clone());
        let message = Wave::plain(channel, "[]".into(), ContentType::Json);
        let message = (0..sequence).fold(message, |message, _| message.noticed(&sequencer));
        stage.advertised.take_in(&message, vec![announced], &stage.hearers, stage.now);
        stage.floor_of("a")
    };
    for sequence in [7, 7, 3] {
        assert_eq!(message(sequence, announced(1, &["a"], floor(0.5))), floor(0.5));
    }
    assert_eq!(stage.advertised.implausible(), 0);
    // Of an instance that it copies it changes nothing.
    stage.says(&process, 1, &["a"], floor(0.25));
    assert_eq!(stage.floor_of("a"), floor(0.25));
    assert_eq!(stage.advertised.receivers.len(), 2);
}

#[test]
fn the_weight_of_a_receiver_is_what_it_takes_at_least() {
    let text = vec!["y"; crate::channel::MAX_TOKENS].join(".");
    let heavy = announced(1, &[&text], Floor::OPEN);
    assert!(weight(&heavy) > crate::channel::MAX_TOKENS * TOKEN_BYTES);
    assert!(
        weight(&announced(1, &["a"; 256], Floor::OPEN)) < MAX_BYTES / 100,
        "one receiver does not fill the table"
    );
}

#[test]
fn a_receiver_silent_for_three_heartbeats_leaves_the_roster() {
    let (mut stage, process) = (AdvertisedStage::new(), Process::new());
    assert!(stage.says(&process, 1, &["a"], Floor::OPEN));
    assert!(!stage.says(&process, 1, &["a"], floor(0.5)), "nothing new for rosters");
    assert_eq!(stage.floor_of("a"), floor(0.5));
    stage.enters(&process, Announcement { is_listed: false, ..announced(3, &["a"], Floor::OPEN) });
    stage.passes(ABSENT_AFTER - Duration::from_millis(1));
    assert_eq!(stage.shown(), [1]);
    stage.passes(Duration::from_millis(1));
    assert!(stage.shown().is_empty());
    assert!(stage.says(&process, 1, &["a"], Floor::OPEN), "it returned");
    assert_eq!(stage.shown(), [1]);
    assert!(stage.says(&process, 1, &[], Floor::OPEN));
    assert!(stage.shown().is_empty(), "it announced that it left");
}

#[test]
fn a_principal_with_receivers_without_end_keeps_no_receiver_of_another_out() {
    let (mut stage, crowd, late) = (AdvertisedStage::new(), Process::new(), Process::new());
    let proof =
        |name: &str| Proof::new(SignerId(1), vec![Named::parse(name).unwrap()], std::sync::Arc::default());
    let (evil, shop) = (proof("evil"), proof("shop"));
    for instance in 1..=MAX_RECEIVERS as u64 + 100 {
        stage.enters_proven(Some(&evil), &crowd, announced(instance, &["a"], floor(0.5)));
    }
    assert_eq!(stage.advertised.left_out(), 100, "its own");
    for instance in 10_000..10_050 {
        stage.enters_proven(Some(&shop), &late, announced(instance, &["b"], floor(0.5)));
    }
    let shown = stage.advertised.elsewhere(stage.now);
    let of = |principal| shown.iter().filter(|announced| announced.principal == principal).count();
    let principals = [&evil, &shop].map(|proof| of(proof.principal()));
    assert_eq!(principals, [MAX_RECEIVERS - 50, 50], "the other one makes room");
    assert!(stage.floor_of("a").is_open(), "not all that hear it are known");
    // It announces again what made room, and takes nothing.
    for instance in 1..=100 {
        stage.enters_proven(Some(&evil), &crowd, announced(instance, &["a"], floor(0.5)));
    }
    assert_eq!(stage.advertised.shares.of(shop.principal()), 50 * share(0));
}
