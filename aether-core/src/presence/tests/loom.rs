//! The floors that stop waves without a lock, in each order that the memory model allows.

use ::loom::thread;
use futures::FutureExt as _;

use super::*;
use crate::background::Claim;
use crate::sync::in_each_order;
use crate::wave::ContentType;

/// Announces a receiver of another process.
fn message(process: &Sequencer, instance: u64, pattern: &str, floor: Floor) -> (Wave, Vec<Announcement>) {
    let announced = vec![Announcement {
        vibrator: Source::with_instance("elsewhere", instance).unwrap(),
        heard: vec![Heard { pattern: Pattern::new(pattern).unwrap(), group: None }],
        floor,
        effective_floor: floor,
        principal: 0,
        is_listed: true,
    }];
    let payload = announcement::write_all(&announced).remove(0);
    let channel = Channel::with_reserved(ANNOUNCEMENTS).unwrap();
    (Wave::plain(channel, payload.into(), ContentType::Json).noticed(process), announced)
}

/// The only known receiver is overloaded, so weak waves are stopped.
fn overloaded_elsewhere(process: &Sequencer) -> Arc<Presence> {
    let presence = Arc::new(Presence::new());
    let (message, announced) = message(process, 1, "a", Floor::new(0.5).unwrap());
    {
        let mut advertised = presence.advertised.lock();
        advertised.begin_index(&presence.hearers);
        advertised.take_in(&message, announced, &presence.hearers, clock::now());
    }
    presence
}

fn stops(presence: &Presence) -> bool {
    presence.stop(&wave("a", 0.1), || Duration::ZERO).is_some()
}

#[test]
fn a_dropped_announcement_is_seen_at_every_moment() {
    in_each_order(3, || {
        let process = Sequencer::new(Source::framework());
        let presence = overloaded_elsewhere(&process);
        presence.missed.fetch_add(1, Ordering::Relaxed);
        let attending = Arc::clone(&presence);
        let task = thread::spawn(move || {
            let (message, _) = message(&process, 2, "b", Floor::OPEN);
            attending.take_in(&message).now_or_never().unwrap();
        });
        assert!(!stops(&presence));
        task.join().unwrap();
        assert!(!stops(&presence));
    });
}

#[test]
fn a_receiver_counts_once_it_is_known() {
    in_each_order(3, || {
        let process = Sequencer::new(Source::framework());
        let presence = overloaded_elsewhere(&process);
        let attending = Arc::clone(&presence);
        let task = thread::spawn(move || {
            let (message, _) = message(&process, 2, "a", Floor::OPEN);
            attending.take_in(&message).now_or_never().unwrap();
        });
        // From the first wave that is not stopped on, none is.
        assert!(stops(&presence) || !stops(&presence));
        task.join().unwrap();
        assert!(!stops(&presence));
    });
}

#[test]
fn a_receiver_that_was_left_out_counts_once_all_are_known_again() {
    in_each_order(3, || {
        let process = Sequencer::new(Source::framework());
        let presence = overloaded_elsewhere(&process);
        // The thread remembers the floor.
        assert!(stops(&presence));
        let attending = Arc::clone(&presence);
        let task = thread::spawn(move || {
            let (mut advertised, now) = (attending.advertised.lock(), clock::now());
            advertised.note_missed(1);
            advertised.call(&attending.hearers, now);
            let (message, announced) = message(&process, 2, "a", Floor::OPEN);
            advertised.take_in(&message, announced, &attending.hearers, now);
            advertised.call(&attending.hearers, now);
        });
        // From the first wave that is not stopped on, none is.
        assert!(stops(&presence) || !stops(&presence));
        task.join().unwrap();
        assert!(!stops(&presence));
    });
}

#[test]
fn an_eviction_while_a_floor_falls_is_reported() {
    let runtime = Arc::new(tokio::runtime::Builder::new_current_thread().build().unwrap());
    in_each_order(3, move || {
        let _entered = runtime.enter();
        let presence = Arc::new(Presence::new());
        let (source, is_raised) = (Source::new("narrow").unwrap(), Arc::new(AtomicBool::new(true)));
        let options = InboxOptions::default().max_waves(1).when_full(WhenFull::Shed);
        let inbox = Inbox::new(presence.watching(options, source.instance(), &is_raised)).unwrap();
        let inbox = Arc::new(inbox);
        presence.open(&source, &inbox, is_raised, true);
        {
            // The task runs, and looks at the receiver once more after its overload.
            let mut local = presence.local.lock();
            assert!(matches!(presence.background.claim(), Claim::Start(_)));
            local.raised.insert(source.instance());
        }
        inbox.offer_now(wave("a", 0.5));
        let full = Arc::clone(&inbox);
        let emitter = thread::spawn(move || full.offer_now(wave("a", 0.5)));
        presence.advertise(clock::now());
        emitter.join().unwrap();
        assert!(presence.local.lock().raised.contains(&source.instance()));
    });
}
