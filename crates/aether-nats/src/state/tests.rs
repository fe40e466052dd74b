//! A client whose events come late or never, a server that is really restarted, and callbacks.

use std::sync::{OnceLock, Weak};

use super::*;
use aether_conformance::NatsServer;
use aether_core::InboxOptions;
use aether_core::inbox::Inbox;

/// A state that learns of no events, with waves handed to the client and not confirmed.
struct Deaf {
    server: NatsServer,
    client: Client,
    state: Arc<ConnectionState>,
}

impl Deaf {
    async fn new() -> Self {
        Self::renewing(None).await
    }

    async fn renewing(renew: Option<Renew>) -> Self {
        let server = NatsServer::start().await.unwrap();
        let client = async_nats::connect(server.url()).await.unwrap();
        let outbox = OutboxReader::new(Arc::new(Inbox::new(InboxOptions::interactive()).unwrap()));
        let state = Arc::new(ConnectionState::new(outbox, renew));
        state.connected_to(&client, |_| {}).await.unwrap();
        Self { server, client, state }
    }

    /// Waves that were handed to the client, and a marker that will not come back.
    fn send(&self, waves: usize) {
        for _ in 0..waves {
            self.state.outbox.offer_now(Wave::from_bytes("a", "x").unwrap());
        }
        let mut taken = Vec::new();
        self.state.take(&mut taken, |outbox, taken| outbox.take_many(waves, usize::MAX, taken));
        assert_eq!(taken.len(), waves);
        let mut flight = self.state.unconfirmed.lock();
        flight.last_marker += 1;
        flight.marked += waves as u64;
        let (number, waves) = (flight.last_marker, flight.marked);
        flight.markers.push_back(Marker { number, waves, inquiry: 0 });
    }

    /// Another server process in the place of the first; returns once the client has a connection to it.
    async fn restart(&mut self) {
        let before = connects(&self.client);
        self.server.restart().await.unwrap();
        while connects(&self.client) == before || self.client.connection_state() != State::Connected {
            // Waits for the connection.
            let _ = self.client.flush().await;
        }
    }
}

#[tokio::test]
async fn what_was_under_way_is_written_off_although_nobody_said_that_the_connection_broke() {
    let mut deaf = Deaf::new().await;
    deaf.send(3);
    deaf.restart().await;
    deaf.state.fewer_marks_than(1, &deaf.client).await;
    assert_eq!((deaf.state.unconfirmed(), deaf.state.marks_under_way()), (3, 0));
    // Once is enough.
    deaf.send(2);
    deaf.state.look_for_lost_events(&deaf.client);
    assert_eq!((deaf.state.unconfirmed(), deaf.state.marks_under_way()), (3, 1));
}

#[tokio::test]
async fn a_connection_that_came_back_is_used_although_nobody_said_so() {
    let deaf = Deaf::new().await;
    deaf.state.note(&Event::Disconnected);
    assert!(!deaf.state.is_connected());
    deaf.state.round_trip(&deaf.client).await.unwrap();
    deaf.state.until_connected(&deaf.client).await;
    assert!(deaf.state.is_connected());
}

#[tokio::test]
async fn a_break_that_was_told_is_not_looked_for_again() {
    let mut deaf = Deaf::new().await;
    deaf.restart().await;
    deaf.state.note(&Event::Disconnected);
    deaf.state.note(&Event::Connected);
    deaf.send(5);
    deaf.state.look_for_lost_events(&deaf.client);
    assert_eq!((deaf.state.unconfirmed(), deaf.state.marks_under_way()), (0, 1));
}

#[tokio::test]
async fn keys_are_read_again_for_a_connection_of_which_nobody_told() {
    let times = Arc::new(watch::Sender::new(0));
    let renew = Arc::clone(&times);
    let mut deaf = Deaf::renewing(Some(Arc::new(move || renew.send_modify(|times| *times += 1)))).await;
    deaf.state.renew().await;
    assert_eq!(*times.borrow(), 1, "told of the first connection");
    deaf.state.look_for_lost_events(&deaf.client);
    deaf.restart().await;
    deaf.state.look_for_lost_events(&deaf.client);
    times.subscribe().wait_for(|times| *times == 2).await.unwrap();
    // Once is enough.
    deaf.state.look_for_lost_events(&deaf.client);
    assert_eq!((*times.borrow(), deaf.state.renewed.load(Ordering::Relaxed)), (2, connects(&deaf.client)));
}

#[test]
fn a_callback_may_look_at_the_link_when_something_cannot_be_sent() {
    let place = Arc::new(OnceLock::<Weak<ConnectionState>>::new());
    let slot = Arc::clone(&place);
    let options = InboxOptions::default().on_shed(move |_, _| {
        let state = slot.get().and_then(Weak::upgrade).unwrap();
        assert_eq!(state.unconfirmed(), 0);
    });
    let outbox = OutboxReader::new(Arc::new(Inbox::new(options).unwrap()));
    let state = Arc::new(ConnectionState::new(outbox.clone(), None));
    place.set(Arc::downgrade(&state)).unwrap();
    outbox.offer_now(Wave::from_bytes("a", "x").unwrap());
    let mut taken = Vec::new();
    state.take(&mut taken, |outbox, taken| outbox.take_many(1, usize::MAX, taken));
    state.unsendable(&taken);
    assert_eq!(outbox.ledger().shed_unsendable, 1);
}
