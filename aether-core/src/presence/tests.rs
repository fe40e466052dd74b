//! Advertisements in process with a paused clock: when they are made, and what they stop.

#[cfg(aether_loom)]
mod loom;

use super::*;
use crate::Aether;
use crate::channel::Channel;
use crate::inbox::Ledger;
use crate::medium::EmitError;
use crate::vibrator::{EmitterAccount, Vibrator};
use crate::wave::Kind;

fn wave(channel: &str, amplitude: f32) -> Wave {
    Wave::builder(channel).kind(Kind::Command).amplitude(amplitude).text("x").build().unwrap()
}

async fn narrow(aether: &Aether, pattern: &str, room: usize) -> Vibrator {
    let options = InboxOptions::default().max_waves(room).when_full(WhenFull::Shed);
    let notices = Vibrator::builder("narrow").inbox(options).create(aether).await.unwrap();
    notices.resonate_on(pattern).await.unwrap();
    notices
}

async fn respecting(aether: &Aether) -> Vibrator {
    Vibrator::builder("respecting").respect_floor().create(aether).await.unwrap()
}

async fn overload(aether: &Aether, channel: &str, amplitude: f32, waves: usize) {
    let flood = Vibrator::create("flood", aether).await.unwrap();
    for _ in 0..waves {
        flood.emit(wave(channel, amplitude)).await.unwrap();
    }
}

/// Lets the task run.
async fn turn() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn inaudible_waves_are_stopped_counted_and_handed_back() {
    let aether = Aether::local();
    let notices = narrow(&aether, "jobs", 10).await;
    let sender = respecting(&aether).await;
    let receipt = sender.emit(wave("jobs", 0.1)).await.unwrap();
    overload(&aether, "jobs", 0.5, 20).await;
    turn().await;
    let before = notices.ledger();
    for emitted in [sender.emit(wave("jobs", 0.1)).await, sender.try_emit(wave("jobs", 0.1))] {
        match emitted {
            Err(error @ EmitError::BelowFloor { .. }) => {
                assert!(error.is_transient());
                assert_eq!(error.into_wave().unwrap().text().unwrap(), "x");
            }
            other => panic!("{other:?}"),
        }
    }
    let asked = sender.ask_within(wave("jobs", 0.1), Duration::from_secs(1)).await;
    assert!(matches!(asked, Err(crate::AskError::Emit(EmitError::BelowFloor { .. }))), "{asked:?}");
    assert_eq!(notices.ledger(), before, "they never reached the receiver");
    let stronger = sender.emit(wave("jobs", 0.9)).await.unwrap();
    assert_eq!((receipt.sequence, stronger.sequence), (1, 2), "a stopped wave takes no number");
    let account = sender.account();
    assert_eq!(account, EmitterAccount { numbered: 2, shed_at_source: 3, rate_limited: 0 });
    assert_eq!((account.offered(), aether.status().shed_at_source), (5, 3));
    // Other senders do not respect floors.
    overload(&aether, "jobs", 0.1, 1).await;
    assert_eq!(notices.ledger().offered, before.offered + 2);
}

#[tokio::test(start_paused = true)]
async fn waves_that_another_receiver_would_hear_are_not_stopped() {
    let aether = Aether::local();
    let _overloaded = narrow(&aether, "jobs.*", 10).await;
    let sender = respecting(&aether).await;
    overload(&aether, "jobs.a", 0.5, 20).await;
    turn().await;
    let stops =
        |channel: &str| matches!(sender.try_emit(wave(channel, 0.1)), Err(EmitError::BelowFloor { .. }));
    assert!(stops("jobs.a") && stops("jobs.b"), "the floor is the receiver's, whichever pattern matched");
    assert!(!stops("other"));
    // Once another receiver with room is tuned, alone or in a group, everything passes.
    let other = Vibrator::create("other", &aether).await.unwrap();
    other.resonate_on("jobs.a").await.unwrap();
    assert!(!stops("jobs.a") && stops("jobs.b"));
    other.resonate_in_group("jobs.b", "group").await.unwrap();
    assert!(!stops("jobs.b"));
    other.detune("jobs.a").unwrap();
    assert!(stops("jobs.a") && !stops("jobs.b"));
    drop(other);
    assert!(stops("jobs.b"));
    let observer = Vibrator::builder("observer").observe().create(&aether).await.unwrap();
    observer.resonate_on(">").await.unwrap();
    assert!(stops("jobs.a"), "observers do not count");
}

#[tokio::test(start_paused = true)]
async fn the_floor_falls_again_when_the_overload_is_over() {
    let aether = Aether::local();
    let mut notices = narrow(&aether, "jobs", 10).await;
    let sender = respecting(&aether).await;
    overload(&aether, "jobs", 0.5, 20).await;
    turn().await;
    assert!(sender.try_emit(wave("jobs", 0.1)).is_err());
    for _ in 0..10 {
        notices.receive().await.unwrap();
    }
    // Evictions count for one to two seconds; the task advertises that at its next turn.
    tokio::time::sleep(Duration::from_millis(2300)).await;
    assert!(notices.effective_floor().is_open());
    sender.try_emit(wave("jobs", 0.1)).unwrap();
    assert!(!aether.presence().hearers.is_raised(), "emitters skip the index again");
    assert!(aether.presence().local.lock().raised.is_empty());
    overload(&aether, "jobs", 0.5, 20).await;
    turn().await;
    assert!(sender.try_emit(wave("jobs", 0.1)).is_err(), "and rises again");
}

#[tokio::test(start_paused = true)]
async fn adverts_are_made_when_the_level_changes_and_four_times_a_second_at_most() {
    let aether = Aether::local();
    let notices = narrow(&aether, "jobs", 4).await;
    let floors = Arc::clone(aether.presence());
    let instance = notices.source().instance();
    let advertised = || {
        let local = floors.local.lock();
        let receiver = &local.receivers[&instance];
        (receiver.advertised, receiver.since)
    };
    assert_eq!(advertised(), (Floor::OPEN, None), "it is not overloaded and advertises nothing");
    overload(&aether, "jobs", 0.25, 8).await;
    turn().await;
    let first = advertised();
    assert_eq!(first.0, Floor::new(0.25).unwrap(), "at once");
    overload(&aether, "jobs", 0.5, 8).await;
    turn().await;
    assert_eq!(advertised(), first, "not yet");
    tokio::time::sleep(announcer::ADVERT_EVERY).await;
    let second = advertised();
    assert_eq!(second.0, Floor::new(0.5).unwrap());
    // Only a change of level counts; the same floor is repeated each second.
    overload(&aether, "jobs", 0.5, 8).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(advertised(), second);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let third = advertised();
    assert!(third.0 == second.0 && third.1 > second.1, "{third:?}");
}

#[tokio::test(start_paused = true)]
async fn a_configured_floor_is_not_advertised() {
    let aether = Aether::local();
    let deaf = Vibrator::builder("deaf").floor(Floor::new(0.9).unwrap()).create(&aether).await.unwrap();
    deaf.resonate_on("jobs").await.unwrap();
    let sender = respecting(&aether).await;
    overload(&aether, "jobs", 0.5, 20).await;
    turn().await;
    sender.try_emit(wave("jobs", 0.5)).unwrap();
    assert_eq!(deaf.ledger(), Ledger { offered: 21, shed_below_floor: 21, ..Ledger::default() });
}

#[tokio::test(start_paused = true)]
async fn relayed_waves_are_stopped_by_their_current_amplitude() {
    let (here, elsewhere) = (Aether::local(), Aether::local());
    let _overloaded = narrow(&here, "jobs", 10).await;
    let mut notices = narrow(&elsewhere, "jobs", 10).await;
    let bridge = respecting(&here).await;
    overload(&here, "jobs", 0.5, 20).await;
    // Decays to less than half in flight.
    let fading =
        Wave::builder("jobs").amplitude(0.6).half_life(Duration::from_millis(256)).text("x").build().unwrap();
    let far = Vibrator::create("far", &elsewhere).await.unwrap();
    far.emit(fading).await.unwrap();
    let wave = notices.receive().await.unwrap();
    bridge.relay(&wave).await.unwrap();
    tokio::time::sleep(Duration::from_millis(256)).await;
    assert!(matches!(bridge.relay(&wave).await, Err(EmitError::BelowFloor { .. })));
    assert_eq!(bridge.account(), EmitterAccount { numbered: 0, shed_at_source: 1, rate_limited: 0 });
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_its_aether() {
    let aether = Aether::local();
    let notices = narrow(&aether, "jobs", 10).await;
    overload(&aether, "jobs", 0.5, 20).await;
    turn().await;
    let floors = Arc::downgrade(aether.presence());
    drop((notices, aether));
    turn().await;
    assert_eq!(floors.strong_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_roster_of_a_process_lists_subscriptions_except_unlisted_vibrators() {
    let aether = Aether::local();
    let stock = Vibrator::builder("stock").floor(Floor::new(0.5).unwrap()).create(&aether).await.unwrap();
    stock.resonate_on("orders.*").await.unwrap();
    stock.resonate_in_group("jobs", "workers").await.unwrap();
    let other = Vibrator::create("stock", &aether).await.unwrap();
    other.resonate_on("stock.>").await.unwrap();
    let silent = Vibrator::create("silent", &aether).await.unwrap();
    let hidden = Vibrator::builder("hidden").unlisted().create(&aether).await.unwrap();
    let observer = Vibrator::builder("observer").observe().create(&aether).await.unwrap();
    for vibrator in [&hidden, &observer] {
        vibrator.resonate_on(">").await.unwrap();
    }
    let roster = aether.roster().await.unwrap();
    let present = roster.vibrators();
    let found = present.iter().find(|announced| announced.vibrator == *stock.source()).unwrap();
    let heard: Vec<_> = found.heard.iter().map(|h| (h.pattern.as_str(), h.group.as_deref())).collect();
    assert_eq!(heard, [("orders.*", None), ("jobs", Some("workers"))]);
    assert_eq!(found.effective_floor, Floor::new(0.5).unwrap());
    assert_eq!(present.len(), 2, "{present:?}");
    let mut together = roster.heard_by_name()["stock"].clone();
    together.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    assert_eq!(together, ["jobs", "orders.*", "stock.>"].map(|text| Pattern::new(text).unwrap()));
    drop((stock, silent));
    assert_eq!(roster.vibrators().len(), 1);
    other.detune("stock.>").unwrap();
    assert!(roster.vibrators().is_empty() && roster.left_out() == 0);
}

#[tokio::test(start_paused = true)]
async fn a_wave_that_is_emitted_again_is_as_strong_as_a_new_one() {
    let aether = Aether::local();
    let mut notices = Vibrator::create("notices", &aether).await.unwrap();
    notices.resonate_on("news").await.unwrap();
    let _overloaded = narrow(&aether, "jobs", 10).await;
    let sender = respecting(&aether).await;
    let news = Wave::builder("news").amplitude(1.0).half_life(Duration::from_millis(64)).build().unwrap();
    sender.emit(news).await.unwrap();
    let mut wave = notices.receive().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    overload(&aether, "jobs", 0.5, 20).await;
    turn().await;
    wave.move_to(&Channel::new("jobs").unwrap());
    let receipt = sender.emit(wave).await.unwrap();
    assert_eq!(receipt.receivers, Some(1), "its age restarts when it is emitted");
}

#[test]
fn after_its_runtime_ended_the_next_overload_starts_another_task() {
    let (aether, mut ears) = (Aether::local(), Vec::new());
    for channel in ["first", "second", "third"] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            ears.push(narrow(&aether, channel, 10).await);
            overload(&aether, channel, 0.5, 20).await;
            turn().await;
            let sender = respecting(&aether).await;
            assert!(sender.try_emit(wave(channel, 0.1)).is_err(), "{channel}");
        });
        let local = aether.presence().local.lock();
        assert!(local.raised.is_empty());
        assert!(local.receivers.values().all(|receiver| !receiver.is_raised.load(Ordering::Relaxed)));
    }
}

#[test]
fn a_receiver_whose_last_change_is_not_announced_yet_announces_that_it_leaves() {
    let (hearers, now) = (FloorIndex::new(), clock::now());
    let heard = || Heard { pattern: crate::Pattern::new("jobs").unwrap(), group: None };
    let mut local = LocalReceivers::default();
    for (instance, has_news) in [(1, true), (2, false)] {
        let (source, inbox) = (
            Source::with_instance("narrow", instance).unwrap(),
            Arc::new(Inbox::new(InboxOptions::default()).unwrap()),
        );
        local.open(LocalReceiver::new(&source, &inbox, Arc::default(), true), &hearers, now);
        assert!(local.tune(instance, instance, heard(), &hearers));
        assert!(local.detune(instance, instance, &hearers));
        if has_news {
            local.news.insert(instance);
        }
        let farewell = local.close(instance, &hearers, now);
        assert_eq!(farewell.map(|farewell| farewell.heard), has_news.then(Vec::new));
    }
}
