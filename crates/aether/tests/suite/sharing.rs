//! Tests of how a group shares waves, which receivers make emitters wait, and what outlives a vibrator: in process,
//! through the public API.

use std::sync::{Arc, Weak};
use std::time::Duration;

use aether::physics::PhysicsObserver;
use aether::physics::{Interfere, Interfering as _, PhysicsEngine};
use aether_core::{Aether, EmitError, InboxOptions, Kind, Vibrator, Wave, WhenFull};
use futures::FutureExt;
use tokio::task::unconstrained;

/// Far longer than any test here takes.
const PATIENCE: Duration = Duration::from_secs(3600);

fn waiting(room: usize) -> InboxOptions {
    InboxOptions::default().max_waves(room).when_full(WhenFull::Wait { patience: PATIENCE })
}

async fn member(aether: &Aether, pattern: &str, options: InboxOptions) -> Vibrator {
    let member = Vibrator::builder("member").inbox(options).create(aether).await.unwrap();
    member.resonate_in_group(pattern, "workers").await.unwrap();
    member
}

async fn members<const N: usize>(aether: &Aether, patterns: [&str; N]) -> Vec<Vibrator> {
    let mut members = Vec::new();
    for pattern in patterns {
        members.push(member(aether, pattern, InboxOptions::default()).await);
    }
    members
}

fn command(channel: &str) -> Wave {
    Wave::builder(channel).kind(Kind::Command).build().unwrap()
}

fn shares(members: &[Vibrator]) -> Vec<u64> {
    members.iter().map(|member| member.ledger().offered).collect()
}

#[tokio::test]
async fn members_of_a_group_take_turns_over_all_channels() {
    let aether = Aether::local();
    let members = members(&aether, ["jobs.*"; 4]).await;
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    for number in 0..1000 {
        shop.emit(command(&format!("jobs.{number}"))).await.unwrap();
    }
    assert_eq!(shares(&members), [250; 4]);
}

#[tokio::test]
async fn members_of_a_group_keep_their_turn_as_others_join_and_leave() {
    let aether = Aether::local();
    let members = members(&aether, ["jobs.*"; 4]).await;
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    for number in 0..1000 {
        let other = Vibrator::create("other", &aether).await.unwrap();
        let pattern = ["elsewhere", "jobs.a", "jobs.*", ">"][number % 4];
        other.resonate_on(pattern).await.unwrap();
        shop.emit(command("jobs.a")).await.unwrap();
    }
    assert_eq!(shares(&members), [250; 4]);
}

#[tokio::test]
async fn a_group_shares_alternating_channels_evenly_among_members_with_different_patterns() {
    let aether = Aether::local();
    let members = members(&aether, ["jobs.a", "jobs.a", "jobs.b"]).await;
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    for number in 0..1000 {
        shop.emit(command(["jobs.a", "jobs.b"][number % 2])).await.unwrap();
    }
    assert_eq!(shares(&members), [250, 250, 500]);
}

#[tokio::test]
async fn a_full_member_causes_no_loss_and_no_wait_while_another_has_room() {
    for full in [waiting(4), InboxOptions::default().max_waves(4).when_full(WhenFull::Shed)] {
        let aether = Aether::local();
        let stuck = member(&aether, "jobs.*", full).await;
        let idle = member(&aether, "jobs.*", waiting(1000)).await;
        let shop = Vibrator::create("shop", &aether).await.unwrap();
        for number in 0..100 {
            unconstrained(shop.emit(command("jobs.a"))).now_or_never().expect("no emitter waits").unwrap();
            shop.try_emit(command(&format!("jobs.{number}"))).unwrap();
        }
        assert_eq!((stuck.ledger().queued, stuck.ledger().lost()), (4, 0));
        assert_eq!((idle.ledger().queued, idle.ledger().lost()), (196, 0));
    }
}

#[tokio::test]
async fn a_wave_for_a_full_group_goes_to_the_first_member_with_room() {
    for first in 0..2 {
        let aether = Aether::local();
        let mut members =
            [member(&aether, "jobs.*", waiting(1)).await, member(&aether, "jobs.*", waiting(1)).await];
        let shop = Vibrator::create("shop", &aether).await.unwrap();
        for _ in 0..2 {
            shop.try_emit(command("jobs.a")).unwrap();
        }
        assert!(matches!(shop.try_emit(command("jobs.a")), Err(EmitError::Full { .. })));
        let mut emit = Box::pin(shop.emit(command("jobs.a")));
        assert!(emit.as_mut().now_or_never().is_none(), "both members are full");
        members[first].receive().await.unwrap();
        tokio::time::timeout(PATIENCE, emit).await.expect("a member has room").unwrap();
        let offered: Vec<_> = members.iter().map(|member| member.ledger().offered).collect();
        assert_eq!((offered[first], offered[1 - first]), (2, 1));
    }
}

#[tokio::test]
async fn an_emit_cancelled_while_a_group_is_full_is_offered_to_one_member() {
    let aether = Aether::local();
    let members = [member(&aether, "jobs.*", waiting(1)).await, member(&aether, "jobs.*", waiting(1)).await];
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    for _ in 0..3 {
        drop(shop.emit(command("jobs.a")).now_or_never());
    }
    assert_eq!(shares(&members).iter().sum::<u64>(), 3);
    assert_eq!(aether.ledger().shed_full, 1);
}

/// Emits waves in both ways to a receiver with room for all of them, and checks that no emit waits.
async fn emits_without_waiting(aether: &Aether, waves: u64) {
    let hearer = Vibrator::builder("hearer").inbox(waiting(1 << 20)).create(aether).await.unwrap();
    hearer.resonate_on("a").await.unwrap();
    let shop = Vibrator::create("shop", aether).await.unwrap();
    for number in 0..waves {
        let wave = Wave::builder("a").key("k").build().unwrap();
        match number % 2 {
            0 => drop(shop.try_emit(wave).expect("the receiver has room")),
            _ => drop(unconstrained(shop.emit(wave)).now_or_never().expect("no emitter waits").unwrap()),
        }
    }
    assert_eq!(hearer.ledger().queued, waves);
}

#[tokio::test]
async fn a_full_observer_blocks_no_emitter() {
    let aether = Aether::local();
    let observer = Vibrator::builder("observer").inbox(waiting(4)).observe().create(&aether).await.unwrap();
    observer.resonate_on(">").await.unwrap();
    emits_without_waiting(&aether, 100).await;
    let ledger = observer.ledger();
    assert_eq!((ledger.offered, ledger.queued, ledger.shed_full), (100, 4, 96));
}

#[tokio::test]
async fn unread_claims_block_no_emitter() {
    let aether = Aether::local();
    let pager = Vibrator::create("pager", &aether).await.unwrap();
    let fringes = pager.interfere("a", Interfere::by_key().sources(2)).await.unwrap();
    emits_without_waiting(&aether, 65_600).await;
    let ledger = fringes.ledger();
    assert_eq!((ledger.offered, ledger.queued, ledger.shed_full), (65_600, 65_536, 64));
}

#[tokio::test]
async fn an_idle_physics_observer_blocks_no_emitter() {
    let aether = Aether::local();
    let observer = PhysicsObserver::open("watch", "a", PhysicsEngine::default(), &aether).await.unwrap();
    emits_without_waiting(&aether, 65_600).await;
    assert_eq!(observer.ledger().shed_full, 64);
}

#[tokio::test]
async fn a_callback_is_dropped_with_its_vibrator() {
    let aether = Aether::local();
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    let held = Arc::new(());
    let callback = |held: Arc<()>| {
        InboxOptions::overload().max_waves(1).on_shed(move |_, _| assert!(Arc::strong_count(&held) > 0))
    };
    let mut weak: Vec<Weak<()>> = Vec::new();
    for pattern in ["a", "*", ">"] {
        let held = Arc::new(());
        weak.push(Arc::downgrade(&held));
        let hearer = Vibrator::builder("hearer").inbox(callback(held)).create(&aether).await.unwrap();
        hearer.resonate_on(pattern).await.unwrap();
        // The routes that contain the vibrator are cached in many places.
        for channel in ["a", "b"] {
            shop.emit_bytes(channel, "x").await.unwrap();
            shop.emit_bytes(channel, "x").await.unwrap();
        }
        std::thread::scope(|scope| {
            scope.spawn(|| shop.try_emit(Wave::from_bytes("a", "x").unwrap()).unwrap());
        });
        drop(hearer);
        assert_eq!(weak.last().unwrap().strong_count(), 0, "{pattern}");
    }
    drop(held);
    assert!(aether.ledger().adds_up());
}

#[tokio::test]
async fn a_vibrator_alone_and_in_two_groups_gets_three_copies() {
    let aether = Aether::local();
    let hearer = Vibrator::create("hearer", &aether).await.unwrap();
    hearer.resonate_on("a.*").await.unwrap();
    hearer.resonate_on("a.>").await.unwrap();
    hearer.resonate_in_group("a.*", "first").await.unwrap();
    hearer.resonate_in_group("a.*", "second").await.unwrap();
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    let receipt = shop.emit(Wave::from_bytes("a.b", "x").unwrap()).await.unwrap();
    assert_eq!((receipt.receivers, hearer.ledger().offered), (Some(3), 3));
}
