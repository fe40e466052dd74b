//! The sending task: moves waves from the outbox to the network, many waves per message.
//!
//! While a batch is on its way, waves queue up and leave together in the next one. There is no timer, and a single wave
//! leaves at once. The task numbers the waves of each lane and channel ([`Numbers`]), so that receivers notice what is
//! lost. It keeps no more on the way to a peer than its [`Window`], so that a strong wave finds short queues. A peer that
//! confirms nothing for a while holds up nobody any more.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::lane::Lane;
use super::message::Message;
use super::net::Net;
use super::route::{Member, choose, key_of};
use super::shared::{Barrier, LanShared, Requests};
use super::way::STUCK;
use super::window::{MAX_WINDOW, Window};
use aether_core::clock::{self, Instant, sleep_until};
use aether_core::medium::Router;
use aether_core::{Channel, Wave};
use aether_link::AHEAD;
use aether_link::Acceptance;
use aether_link::wire::encode_bounded;
use aether_link::{Batches, fitting, is_of_one_channel};
use aether_link::{Noted, Pause, PauseTable};
use aether_link::{Numbers, StreamAnnouncement};

/// The maximum number of waves and bytes in a batch: they bound the delay of a strong wave. On slow lines batches and
/// messages are smaller: see [`Window`].
const BATCH_WAVES: usize = 1024;
const BATCH_BYTES: usize = 256 << 10;
/// The approximate size of a message. Zenoh sends at most 64 KiB at once, and cuts longer ones. Each message wakes three
/// threads: with 16 KiB a wave of 128 bytes takes a third longer.
const FRAME_BYTES: usize = 60 << 10;
/// What is on the way to a peer.
#[derive(Default)]
struct Flight {
    /// Behind the last ping.
    bytes: usize,
    pings: VecDeque<SentPing>,
    /// The bytes in front of pings that are not answered.
    pinged_bytes: usize,
}

struct SentPing {
    number: u64,
    sent: Instant,
    /// What is between it and the one before.
    bytes: usize,
    /// Whether somebody has waited for the window since.
    was_full: bool,
}

struct Sending {
    shared: Arc<LanShared>,
    router: Arc<Router>,
    net: Arc<Net>,
    /// By lane.
    numbers: Vec<Numbers>,
    flights: HashMap<u64, Flight>,
    windows: HashMap<u64, Window>,
    holds: PauseTable,
}

enum Next {
    Send,
    Barrier(oneshot::Sender<Barrier>),
    Pauses(u64, Vec<Pause>),
    Returned,
    Rest,
    Ended,
}

/// Sends until the medium has ended and the outbox is empty.
pub(super) async fn send(shared: Arc<LanShared>, router: Arc<Router>, net: Arc<Net>, mut requests: Requests) {
    let mut comings = shared.comings.subscribe();
    let numbers = (0..Lane::COUNT).map(|_| Numbers::new()).collect();
    let (flights, windows, holds) = (HashMap::new(), HashMap::new(), PauseTable::default());
    let mut sending = Sending { shared: Arc::clone(&shared), router, net, numbers, flights, windows, holds };
    let (mut batch, mut groups) = (Vec::with_capacity(BATCH_WAVES), Batches::default());
    let mut is_open = true;
    loop {
        let round = sending.numbers.iter().filter_map(Numbers::next_round).min();
        // Waves that nobody would get wait for another path.
        let may_send = *shared.company.borrow() || !shared.outbox.is_shared() || shared.is_closed();
        let next = tokio::select! {
            biased;
            Some((node, pauses)) = requests.pauses.recv() => Next::Pauses(node, pauses),
            Some(barrier) = requests.barriers.recv() => Next::Barrier(barrier),
            _ = comings.changed() => Next::Returned,
            () = shared.company_changed.notified() => Next::Rest,
            is_filled = shared.outbox.filled_after(sending.holds.seen()), if is_open && may_send => {
                is_open = is_filled;
                if is_filled { Next::Send } else { Next::Rest }
            }
            () = sleep_until(sending.holds.next_end()) => Next::Send,
            () = sleep_until(round) => Next::Rest,
            () = shared.ending.cancelled(), if !is_open || !may_send => Next::Ended,
        };
        match next {
            Next::Send => {
                batch.clear();
                sending.take(&mut batch);
                sending.send_batch(&mut batch, &mut groups).await;
                shared.moved();
                sending.room().await;
            }
            Next::Barrier(barrier) => {
                let announced = sending.announce_where(Numbers::unannounced);
                sending.announce(announced).await;
                let _ = barrier.send(sending.ping_all().await);
            }
            Next::Pauses(node, pauses) => sending.obey(node, pauses),
            Next::Returned => {
                let announced = sending.announce_where(Numbers::after_reconnecting);
                sending.announce(announced).await;
            }
            Next::Rest => {}
            Next::Ended => break,
        }
        let kept = sending.flights.len() + usize::from(!sending.holds.is_empty());
        shared.flights.store(kept, Ordering::Relaxed);
        // Checked in any case, because channels go quiet while others are busy.
        let now = clock::now();
        if round.is_some_and(|round| round <= now) {
            let announced = sending.announce_where(Numbers::due);
            sending.announce(announced).await;
            sending.ping_quiet().await;
        }
    }
    let announced = sending.announce_where(Numbers::unannounced);
    sending.announce(announced).await;
    // Waves that nobody would have got, if there was nobody.
    shared.outbox.abandon();
}

impl Sending {
    fn take(&mut self, batch: &mut Vec<Wave>) {
        let (shared, most) = (&self.shared, (BATCH_WAVES, BATCH_BYTES.min(self.narrowest() / 2)));
        // Closing does not wait for receivers: they shed what they cannot accept, and count it.
        let is_changed = if shared.is_closed() { self.holds.forget_all() } else { self.holds.forget_ended() };
        // Another path may have had the outbox meanwhile, which then does not know of these pauses.
        let is_due = is_changed || shared.outbox.is_shared() && !self.holds.is_empty();
        if is_due && self.holds.apply(&shared.outbox, &shared.flow) {
            shared.moved();
        }
        match self.holds.is_empty() {
            true => shared.outbox.take_many(most.0, most.1, batch),
            false => self.holds.take_unheld(&shared.outbox, &shared.flow, most, batch),
        }
    }

    fn obey(&mut self, node: u64, pauses: Vec<Pause>) {
        let shared = &self.shared;
        if shared.is_closed() {
            return;
        }
        for pause in pauses {
            if self.holds.note(node.into(), pause, &shared.flow) == Noted::Renewed {
                // Flushing tasks see that the receivers are making progress.
                shared.moved();
            }
        }
        if self.holds.apply(&shared.outbox, &shared.flow) {
            shared.moved();
        }
    }

    /// Sends a batch, each lane and each channel in its order.
    async fn send_batch(&mut self, batch: &mut Vec<Wave>, groups: &mut Batches) {
        let lane_of = LanShared::lane_of;
        if !batch.is_sorted_by_key(lane_of) {
            batch.sort_by_key(lane_of);
        }
        while let Some(lane) = batch.first().map(lane_of) {
            let end = batch.partition_point(|wave| lane_of(wave) <= lane);
            if end == batch.len() && is_of_one_channel(batch) {
                self.send_run(lane, batch).await;
                batch.clear();
                return;
            }
            let mut waves: Vec<Wave> = batch.drain(..end).collect();
            groups.sort(&mut waves);
            for waves in groups.in_order() {
                self.send_run(lane, waves).await;
            }
            groups.clear();
        }
    }

    /// Sends waves of one lane and channel, in order.
    async fn send_run(&mut self, lane: Lane, waves: &[Wave]) {
        let Some(first) = waves.first() else { return };
        let channel = first.channel();
        let route = self.shared.peers.route(channel);
        if !route.is_heard() {
            let is_told = |wave: &&Wave| wave.reflects() && !wave.is_question();
            waves.iter().filter(is_told).for_each(|wave| self.router.reflect_unheard(wave));
        }
        let peers = &self.shared.peers;
        // Nobody got them, or not everybody who was there.
        if self.shared.outbox.is_shared() && peers.is_alone() || peers.missed() > 0 {
            peers.lost(waves.len() as u64);
        }
        let now = clock::now();
        let (_, forgotten) = self.numbers[lane.index()].stream(channel, now);
        if let Some((channel, position)) = forgotten {
            self.announce([(lane, channel, position)]).await;
        }
        // Also without receivers: a peer that is away for a while learns from the numbers what it has missed.
        let mut rest = waves;
        let frame_bytes = self.frame_bytes();
        while !rest.is_empty() {
            let (fits, bound) = fitting(rest, frame_bytes, false);
            let (these, later) = rest.split_at(fits);
            rest = later;
            if !route.lone.is_empty() {
                let position = self.numbers[lane.index()].stream(channel, now).0.position(now);
                match self.encode(lane, Some(position), these, bound) {
                    Some(frame) => {
                        for node in &route.lone {
                            let place = self.shared.peers.sent(*node, lane, these.len() as u64);
                            let message = Message::Waves { place, frame: frame.clone() };
                            self.put_waves(*node, lane, message, these.len(), rest.is_empty()).await;
                        }
                    }
                    None => continue,
                }
            }
            self.numbers[lane.index()].stream(channel, now).0.sent(these.len(), now);
        }
        for (_, members) in &route.groups {
            let mut shares = BTreeMap::<Member, Vec<Wave>>::new();
            for wave in waves {
                if let Some(member) = choose(members, key_of(wave)) {
                    shares.entry(member).or_default().push(wave.clone());
                }
            }
            for ((node, member), waves) in shares {
                let mut rest = &waves[..];
                while !rest.is_empty() {
                    let (fits, bound) = fitting(rest, frame_bytes, false);
                    let (these, later) = rest.split_at(fits);
                    rest = later;
                    if let Some(frame) = self.encode(lane, None, these, bound) {
                        let place = self.shared.peers.sent(node, lane, these.len() as u64);
                        let message = Message::Share { place, member, hops: 0, frame };
                        self.put_waves(node, lane, message, these.len(), rest.is_empty()).await;
                    }
                }
            }
        }
    }

    /// A frame; `None` if it cannot be made, which should not happen: the waves are of one channel, and none is too large.
    fn encode(
        &self,
        lane: Lane,
        position: Option<aether_link::wire::Position>,
        waves: &[Wave],
        bound: usize,
    ) -> Option<Bytes> {
        let channel = waves.first()?.channel();
        let (sender, bound) = (self.shared.sender(lane), bound + channel.as_str().len());
        match encode_bounded(sender, position, Some(channel), waves, bound, clock::now()) {
            Ok(frame) => Some(frame),
            Err(error) => {
                tracing::error!(%error, "cannot encode the waves of a batch as a frame");
                let shared = &self.shared;
                shared.outbox.count_unsendable(waves.len() as u64);
                shared.outbox.report_unsendable(waves);
                shared.unsendable.fetch_add(waves.len() as u64, Ordering::Relaxed);
                None
            }
        }
    }

    /// The smallest window of the peers that something was sent to lately.
    fn narrowest(&self) -> usize {
        let now = clock::now();
        let recent = self.windows.values().filter(|window| window.is_recent(now));
        recent.map(Window::bytes).min().unwrap_or(MAX_WINDOW)
    }

    /// The approximate size of a message: some have to be on the way at once.
    fn frame_bytes(&self) -> usize {
        FRAME_BYTES.min(self.narrowest() / 4)
    }

    /// The window of a node. This process has the widest one to itself: its queue is not a line.
    fn window(&mut self, node: u64) -> Option<&mut Window> {
        if node == self.shared.node {
            return None;
        }
        if !self.windows.contains_key(&node) {
            // Peers that have gone leave theirs behind.
            let nodes = self.shared.peers.nodes();
            self.windows.retain(|node, _| nodes.contains(node));
        }
        Some(self.windows.entry(node).or_insert_with(Window::new))
    }

    /// Waves that do not reach this process itself are lost; what does not reach others shows in what they answer.
    async fn put_waves(&mut self, to: u64, lane: Lane, message: Message, waves: usize, is_last: bool) {
        if !self.put(to, lane, message, is_last).await {
            self.shared.peers.lost(waves as u64);
        }
    }

    /// Sends a message, and a ping behind it once there is enough in front of that. Returns false if this process has no
    /// room for what it sends to itself.
    async fn put(&mut self, to: u64, lane: Lane, message: Message, is_last: bool) -> bool {
        let is_taken = self.put_alone(to, lane, message, is_last).await;
        let bytes = self.flights.get(&to).map_or(0, |flight| flight.bytes);
        if bytes >= self.window(to).map_or(MAX_WINDOW / 8, |window| window.ping_bytes()) {
            self.ping(to).await;
        }
        is_taken
    }

    async fn put_alone(&mut self, to: u64, lane: Lane, message: Message, is_last: bool) -> bool {
        let shared = &self.shared;
        let flight = self.flights.entry(to).or_default();
        let mut is_taken = true;
        if to == shared.node {
            flight.bytes += message.body().len();
            is_taken = shared.arrivals.bring_own(lane, message);
        } else if let Some(bytes) = shared.sealing.seal(to, lane, shared.node, &message) {
            // A ping is followed by none for its own sake.
            let is_ping = matches!(message, Message::Ping { .. });
            flight.bytes += if is_ping { 0 } else { bytes.len() };
            match shared.holds_up_others(to) {
                true => self.net.offer(to, lane, bytes),
                false => self.net.put(to, lane, bytes, is_last).await,
            };
        }
        is_taken
    }

    /// Sends a ping behind everything that was sent to a node. Returns its number, and its way.
    async fn ping(&mut self, to: u64) -> (u64, u32) {
        let number = self.shared.last_ping.fetch_add(1, Ordering::Relaxed) + 1;
        let flight = self.flights.entry(to).or_default();
        let bytes = std::mem::take(&mut flight.bytes);
        flight.pinged_bytes += bytes;
        flight.pings.push_back(SentPing { number, sent: clock::now(), bytes, was_full: false });
        let sent = self.shared.peers.pinged(to, number);
        let ping = Message::Ping { number, version: self.shared.peers.version(), sent };
        self.put_alone(to, Lane::LAST, ping, true).await;
        (number, sent.way)
    }

    /// Pings the peers that have not confirmed everything, also when nothing follows. A ping may have been lost with
    /// what was in front of it.
    async fn ping_quiet(&mut self) {
        self.note_answers();
        for node in self.shared.peers.unconfirmed() {
            self.ping(node).await;
        }
    }

    /// Pings all peers and this process.
    async fn ping_all(&mut self) -> Barrier {
        // Tasks that flush a medium over which nothing is sent ping, too.
        self.note_answers();
        let (first, _) = self.ping(self.shared.node).await;
        let mut nodes = Vec::new();
        for node in self.shared.peers.nodes() {
            let (_, way) = self.ping(node).await;
            nodes.push((node, way));
        }
        Barrier { first, nodes }
    }

    /// Forgets the pings that are answered, which tell how fast a line is, and what is on the way to peers that have gone.
    fn note_answers(&mut self) {
        let (peers, windows) = (&self.shared.peers, &mut self.windows);
        self.flights.retain(|node, flight| {
            // One that has gone holds up nobody.
            let Some((answered, at)) = peers.last_answer(*node) else { return false };
            let mut window = windows.get_mut(node);
            let mut bytes = 0;
            while let Some(ping) = flight.pings.pop_front_if(|ping| ping.number <= answered) {
                bytes += ping.bytes;
                flight.pinged_bytes -= ping.bytes;
                if let Some(window) = &mut window
                    && ping.number == answered
                {
                    window.answered(ping.sent, bytes, at, ping.was_full);
                }
            }
            !flight.pings.is_empty() || flight.bytes > 0
        });
    }

    /// Waits until not too much is on the way. Where there is another path, waves do not leave for peers that are all stuck.
    async fn room(&mut self) {
        // Not of `self`, which notes what is answered meanwhile.
        let shared = Arc::clone(&self.shared);
        let (mut were_stuck, own) = (false, self.shared.node);
        loop {
            let moved = shared.progress.notified();
            let mut stuck = 0;
            let (mut until, now) = (None, clock::now());
            self.note_answers();
            for (node, flight) in &mut self.flights {
                let most = self.windows.get(node).map_or(MAX_WINDOW, Window::bytes);
                if flight.pinged_bytes + flight.bytes >= most
                    && let Some(since) = flight.pings.front().map(|ping| ping.sent)
                {
                    flight.pings.iter_mut().for_each(|ping| ping.was_full = true);
                    let stuck_at = since + STUCK;
                    if stuck_at > now {
                        until = until.max(Some(stuck_at));
                    } else if *node != own {
                        stuck += 1;
                    }
                }
            }
            let all_are_stuck =
                stuck > 0 && self.shared.outbox.is_shared() && stuck >= self.shared.peers.count();
            if all_are_stuck != were_stuck {
                were_stuck = all_are_stuck;
                self.shared.outbox.let_run_ahead(if all_are_stuck { usize::MAX } else { AHEAD });
            }
            if until.is_none() && !all_are_stuck {
                return;
            }
            tokio::select! {
                biased;
                () = shared.ending.cancelled() => return,
                () = moved => {}
                () = sleep_until(until) => {}
            }
        }
    }

    fn announce_where(
        &mut self,
        which: impl Fn(&mut Numbers, Instant) -> Vec<StreamAnnouncement>,
    ) -> Vec<(Lane, Channel, aether_link::wire::Position)> {
        let now = clock::now();
        let lanes = self.numbers.iter_mut().enumerate();
        let announced = lanes.filter_map(|(number, numbers)| Some((Lane::read(number as u8)?, numbers)));
        announced
            .flat_map(|(lane, numbers)| {
                which(numbers, now).into_iter().map(move |(channel, position)| (lane, channel, position))
            })
            .collect()
    }

    /// Announces the positions of streams to receivers.
    async fn announce(
        &mut self,
        announced: impl IntoIterator<Item = (Lane, Channel, aether_link::wire::Position)>,
    ) {
        for (lane, channel, position) in announced {
            if let Some(frame) = self.shared.announcement(lane, &channel, position) {
                for node in &self.shared.peers.route(&channel).lone {
                    let place = self.shared.peers.sent(*node, lane, 0);
                    self.put(*node, lane, Message::Waves { place, frame: frame.clone() }, true).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::network::LanSession;
    use super::super::peers::Peers;
    use super::super::sealing::Sealing;
    use super::*;
    use aether_core::InboxOptions;
    use aether_core::inbox::Inbox;
    use aether_link::OutboxReader;
    use futures_util::FutureExt as _;
    use futures_util::future::{BoxFuture, ready};

    /// A network on which nobody else is.
    struct Alone;

    impl LanSession for Alone {
        fn nodes(&self) -> Vec<u64> {
            Vec::new()
        }

        fn put(&self, _to: u64, _lane: u8, _bytes: Vec<u8>) -> BoxFuture<'_, bool> {
            ready(true).boxed()
        }

        fn offer(&self, _to: u64, _lane: u8, _bytes: Vec<u8>) -> bool {
            true
        }

        fn close(&self) -> BoxFuture<'_, ()> {
            ready(()).boxed()
        }
    }

    #[tokio::test]
    async fn a_process_that_flushes_and_sends_nothing_keeps_no_answered_pings() {
        let outbox = OutboxReader::new(Arc::new(Inbox::new(InboxOptions::default()).unwrap()));
        let (shared, _exits) =
            LanShared::new(Peers::new(8, "here".to_owned()), outbox, Sealing::new(None).unwrap());
        let mut sending = Sending {
            shared: Arc::clone(&shared),
            router: Arc::new(Router::new()),
            net: Arc::new(Net::Other(Box::new(Alone))),
            numbers: Vec::new(),
            flights: HashMap::new(),
            windows: HashMap::new(),
            holds: PauseTable::default(),
        };
        for _ in 0..10 {
            let Barrier { first, .. } = sending.ping_all().await;
            shared.peers.answered_own(first);
        }
        assert_eq!(sending.flights[&shared.node].pings.len(), 1, "only the last one was not looked at yet");
    }
}
