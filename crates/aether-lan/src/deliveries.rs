//! Waves on the last step, from the receiving task to the inboxes, through the router. Those for a full inbox wait in a
//! [`Crowd`], and their senders are asked to pause.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::counts::Counts;
use super::crowd::{Crowd, WAITING_BYTES};
use super::joined::{Joined, MemberFound};
use super::lane::Lane;
use super::shared::LanShared;
use aether_core::clock::{self, Instant};
use aether_core::medium::{Crowded, Router, Subscription};
use aether_core::{Pattern, Wave};

/// The receivers of waves: all of a pattern, or one member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Target {
    Pattern(Pattern),
    Member(u64),
}

/// Waves that wait behind each other: of one lane, so that strong ones do not wait behind weak ones.
pub(super) type Line = (Target, Lane);

/// The deliveries of the receiving task, and the ones that wait.
pub(super) struct Deliveries {
    shared: Arc<LanShared>,
    router: Arc<Router>,
    joined: Arc<Joined>,
    counts: Arc<Counts>,
    crowds: HashMap<Line, Crowd>,
    settling: FuturesUnordered<BoxFuture<'static, Line>>,
    waiting_bytes: usize,
}

impl Deliveries {
    pub(super) fn new(
        shared: Arc<LanShared>,
        router: Arc<Router>,
        joined: Arc<Joined>,
        counts: Arc<Counts>,
    ) -> Self {
        let (crowds, settling) = (HashMap::new(), FuturesUnordered::new());
        Self { shared, router, joined, counts, crowds, settling, waiting_bytes: 0 }
    }

    /// When the first pause has to be renewed.
    pub(super) fn renewal(&self) -> Option<Instant> {
        self.crowds.values().filter_map(|crowd| crowd.pause.renewal()).min()
    }

    /// Waits until the waiting waves of a target are settled; pending while none wait.
    ///
    /// Cancel safety: if cancelled before completion, nothing is taken.
    pub(super) async fn settled(&mut self) -> Line {
        match self.settling.next().await {
            Some(target) => target,
            None => std::future::pending().await,
        }
    }

    /// Delivers waves of one channel, behind those that wait.
    pub(super) fn deliver(&mut self, line: Line, member: Option<&Subscription>, waves: Vec<Wave>) {
        if let Some(crowd) = self.crowds.get_mut(&line).filter(|crowd| crowd.keeps_order()) {
            self.waiting_bytes += crowd.keep(waves);
            if self.waiting_bytes > WAITING_BYTES {
                crowd.give_up();
            }
            return;
        }
        let crowded = self.offer(&line.0, member, waves);
        self.wait_with(line, crowded);
    }

    fn offer(&self, target: &Target, member: Option<&Subscription>, waves: Vec<Wave>) -> Crowded {
        match (target, member) {
            (Target::Pattern(pattern), _) => self.router.arrive_if_room(pattern, waves),
            (Target::Member(_), Some(member)) => self.router.arrive_for_if_room(member, waves),
            (Target::Member(id), None) => match self.joined.member(*id) {
                MemberFound::Here(member) => self.router.arrive_for_if_room(&member, waves),
                MemberFound::Late(member) => {
                    self.router.arrive_late(&member, waves, true);
                    Crowded::default()
                }
                MemberFound::Unknown => {
                    self.counts.homeless.fetch_add(waves.len() as u64, Ordering::Relaxed);
                    Crowded::default()
                }
            },
        }
    }

    fn wait_with(&mut self, line: Line, crowded: Crowded) {
        if crowded.level().is_none() {
            return;
        }
        let shared = &self.shared;
        let crowd = self.crowds.entry(line.clone()).or_insert_with(|| {
            let pattern = match &line.0 {
                Target::Pattern(pattern) => pattern.clone(),
                Target::Member(id) => match self.joined.member(*id) {
                    MemberFound::Here(member) | MemberFound::Late(member) => member.pattern().clone(),
                    MemberFound::Unknown => Pattern::everything(),
                },
            };
            Crowd::new(shared.flow.next_id(), pattern)
        });
        let (settled, pause) = crowd.wait_with(crowded);
        if let Some(pause) = pause {
            shared.send_pause(&pause);
        }
        self.settling.push(settled.map(move |()| line).boxed());
        self.counts.crowds.store(self.crowds.len(), Ordering::Relaxed);
    }

    /// The waiting waves of a target are settled: delivers what came behind them, as far as there is room.
    pub(super) fn go_on(&mut self, line: &Line) {
        if let Some(crowd) = self.crowds.get_mut(line) {
            crowd.settled();
        }
        loop {
            let Some(crowd) = self.crowds.get_mut(line) else { return };
            let Some((waves, bytes)) = crowd.next() else {
                if let Some(pause) = crowd.pause.end() {
                    self.shared.send_pause(&pause);
                }
                break;
            };
            self.waiting_bytes -= bytes;
            let crowded = self.offer(&line.0, None, waves);
            if crowded.level().is_some() {
                self.wait_with(line.clone(), crowded);
                self.renew();
                return;
            }
        }
        self.crowds.retain(|_, crowd| !crowd.is_idle());
        self.counts.crowds.store(self.crowds.len(), Ordering::Relaxed);
    }

    pub(super) fn renew(&mut self) {
        let now = clock::now();
        let mut pauses: Vec<_> =
            self.crowds.values_mut().filter_map(|crowd| crowd.pause.renewed(now)).collect();
        pauses.sort_by_key(|pause| pause.id);
        pauses.iter().for_each(|pause| self.shared.send_pause(pause));
    }

    /// Delivers what waits where there is room now, and renews the pauses. Called while messages keep arriving.
    pub(super) fn look_after_crowds(&mut self) {
        while let Some(Some(line)) = self.settling.next().now_or_never() {
            self.go_on(&line);
        }
        self.renew();
    }

    /// Delivers everything that waits, whether there is room or not.
    pub(super) fn finish(&mut self) {
        self.settling = FuturesUnordered::new();
        let mut crowds: Vec<_> = std::mem::take(&mut self.crowds).into_iter().collect();
        crowds.sort_by_key(|((_, lane), crowd)| (*lane, crowd.pause.id()));
        for ((target, _), mut crowd) in crowds {
            while let Some((waves, _)) = crowd.next() {
                drop(self.offer(&target, None, waves));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::peers::Peers;
    use super::super::sealing::Sealing;
    use super::*;
    use aether_core::Source;
    use aether_core::inbox::Inbox;
    use aether_core::medium::Listener;
    use aether_core::medium::Sequencer;
    use aether_core::{InboxOptions, WhenFull};
    use aether_link::OutboxReader;

    fn inbox(options: InboxOptions) -> Arc<Inbox> {
        Arc::new(Inbox::new(options).unwrap())
    }

    /// Deliveries to an inbox that has room for one wave, and hears a pattern.
    fn with_a_full_inbox() -> (Deliveries, Arc<Inbox>, Pattern) {
        let router = Arc::new(Router::new());
        let outbox = OutboxReader::new(inbox(InboxOptions::default()));
        let (shared, _exits) =
            LanShared::new(Peers::new(8, "here".to_owned()), outbox, Sealing::new(None).unwrap());
        let deliveries =
            Deliveries::new(shared, Arc::clone(&router), Arc::default(), Arc::<Counts>::default());
        let patience = Duration::from_secs(3600);
        let full = inbox(InboxOptions::default().max_waves(1).when_full(WhenFull::Wait { patience }));
        let listener = Listener::new(Arc::new(Sequencer::new(Source::framework())));
        let pattern = Pattern::new("load.*").unwrap();
        router.subscribe(pattern.clone(), None, Arc::clone(&full), listener);
        (deliveries, full, pattern)
    }

    #[tokio::test]
    async fn waves_that_arrive_while_too_much_waits_stay_behind_those_that_wait() {
        let (mut deliveries, full, pattern) = with_a_full_inbox();
        let payload = bytes::Bytes::from(vec![0; 1 << 20]);
        let most = WAITING_BYTES >> 20;
        for number in 0..most + 5 {
            let wave = Wave::builder(format!("load.{number}")).bytes(payload.clone()).build().unwrap();
            deliveries.deliver((Target::Pattern(pattern.clone()), Lane::LAST), None, vec![wave]);
        }
        let line = deliveries.settled().await;
        deliveries.go_on(&line);
        deliveries.finish();
        let last = full.take_now().unwrap();
        assert_eq!(last.channel().as_str(), format!("load.{}", most + 4), "the newest is the last to arrive");
    }

    #[tokio::test]
    async fn a_strong_wave_does_not_wait_behind_weak_ones_that_wait() {
        let (mut deliveries, full, pattern) = with_a_full_inbox();
        for (number, amplitude) in [0.1, 0.1, 0.1, 1.0].into_iter().enumerate() {
            let wave = Wave::builder(format!("load.{number}")).amplitude(amplitude).build().unwrap();
            let line = (Target::Pattern(pattern.clone()), LanShared::lane_of(&wave));
            deliveries.deliver(line, None, vec![wave]);
        }
        let mut arrived = Vec::new();
        while arrived.len() < 4 {
            deliveries.look_after_crowds();
            arrived.extend(full.take_now().map(|wave| wave.channel().as_str().to_owned()));
        }
        assert_eq!(arrived, ["load.0", "load.3", "load.1", "load.2"]);
    }
}
