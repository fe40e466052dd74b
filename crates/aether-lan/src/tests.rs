//! Tests with peers that say nothing, in paused time.

use super::*;
use aether_core::inbox::Inbox;
use aether_core::medium::{Listener, Sequencer};
use aether_core::{InboxOptions, Pattern, Source};
use aether_link::OutboxReader;
use shared::Exits;
use table::TableChange;

const PEER: u64 = 16;

/// A medium without a network. Only these exits take its messages.
fn without_network() -> (Lan, Exits) {
    let inbox = Arc::new(Inbox::new(InboxOptions::default()).unwrap());
    let peers = Peers::new(8, "here".to_owned());
    let (shared, exits) = LanShared::new(peers, OutboxReader::new(inbox), Sealing::new(None).unwrap());
    let lan = Lan {
        shared,
        router: Arc::new(Router::new()),
        joined: Arc::default(),
        asking: Arc::default(),
        counts: Arc::default(),
        transit: Arc::default(),
        presence: Arc::default(),
        by_quic: false,
        tasks: Mutex::default(),
        closing: tokio::sync::Mutex::default(),
    };
    (lan, exits)
}

fn subscription(lan: &Lan) -> Arc<Subscription> {
    let inbox = Arc::new(Inbox::new(InboxOptions::default()).unwrap());
    let sequencer = Arc::new(Sequencer::new(Source::framework()));
    let listener = Listener::new(sequencer);
    lan.router.subscribe(Pattern::new("said.*").unwrap(), None, inbox, listener)
}

fn come(lan: &Lan, name: &str) {
    let table = TableChange { version: 1, name: name.to_owned(), ..TableChange::default() };
    lan.shared.peers.receive(PEER, table);
    lan.shared.note_company();
}

#[tokio::test(start_paused = true)]
async fn a_join_that_a_peer_never_confirms_ends_and_names_the_peer() {
    aether_core::clock::follow_tokio();
    let (lan, _exits) = without_network();
    come(&lan, "pretender on paper");
    let began = aether_core::clock::test_now();
    match lan.join_and_wait(subscription(&lan)).await {
        Err(JoinError::Unconfirmed { peers, within }) => {
            assert_eq!((peers, within), (vec![format!("pretender on paper ({PEER:016x})")], JOIN_WITHIN));
        }
        other => panic!("{other:?}"),
    }
    assert!(aether_core::clock::since(began) >= JOIN_WITHIN);
    // Once it has gone, it is in nobody's way: also of those who wait already.
    let subscription = subscription(&lan);
    let (joined, ()) = tokio::join!(lan.join_and_wait(subscription), async {
        tokio::time::sleep(JOIN_WITHIN / 2).await;
        lan.shared.peers.part(PEER, (0, 0));
        lan.shared.moved();
    });
    joined.unwrap();
}

/// It went and came back before the flush looked: its way is another one, on which the ping will never be answered.
#[tokio::test(start_paused = true)]
async fn a_flush_waits_for_no_answer_of_a_peer_that_went_and_came_back() {
    aether_core::clock::follow_tokio();
    let (lan, mut exits) = without_network();
    come(&lan, "one that comes back");
    let shared = &lan.shared;
    shared.peers.knows(PEER, 1);
    let began = aether_core::clock::test_now();
    let (flushed, ()) = tokio::join!(lan.settle(), async {
        let asked = exits.requests.barriers.recv().await.unwrap();
        let sent = shared.peers.pinged(PEER, 2);
        asked.send(shared::Barrier { first: 1, nodes: vec![(PEER, sent.way)] }).unwrap();
        shared.peers.answered_own(1);
        shared.moved();
        tokio::time::sleep(Duration::from_millis(10)).await;
        shared.peers.part(PEER, (0, 0));
        come(&lan, "one that comes back");
        shared.peers.knows(PEER, 1);
        shared.moved();
    });
    flushed.unwrap();
    assert!(aether_core::clock::since(began) < Duration::from_millis(20));
}

#[tokio::test(start_paused = true)]
async fn a_peer_has_gone_when_it_was_silent_for_long_enough_and_not_before() {
    aether_core::clock::follow_tokio();
    let (lan, mut exits) = without_network();
    come(&lan, "one that is killed");
    let mut company = lan.shared.company.subscribe();
    assert!(*company.borrow_and_update());
    let began = aether_core::clock::test_now();
    let beating = tokio::spawn(Arc::clone(&lan.presence).beat(Arc::clone(&lan.shared)));
    company.changed().await.unwrap();
    let silent = aether_core::clock::since(began);
    // To a millisecond of the timer.
    assert!(silent >= GONE_AFTER && silent < GONE_AFTER + Duration::from_millis(5), "{silent:?}");
    let mut pings = 0;
    while let Ok(said) = exits.controls.try_recv() {
        pings += u64::from(matches!(said.message, message::Message::Ping { .. }));
    }
    assert_eq!(pings, 4, "at once, and each second");
    beating.abort();
}

#[test]
fn a_shorter_silence_has_shorter_beats_and_a_longer_one_has_none_that_are_longer() {
    let beat = |millis| {
        let peers = Peers::new(8, "here".to_owned()).gone_after(Duration::from_millis(millis));
        peers.beat().as_millis()
    };
    assert_eq!([7000, 3500, 1750, 500, 1].map(beat), [1000, 1000, 500, 142, 142]);
}
