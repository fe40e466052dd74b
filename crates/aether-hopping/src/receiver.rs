//! The receiving end of a hopping channel: a task that subscribes to the lanes of the present slots.
//!
//! The task joins each slot ahead of time and leaves it one guard after its end. Waves go straight from the router into
//! the vibrator's inbox. The task waits for deadlines and control messages, never polls, and ends with its vibrator.
//! [`crate::schedule`] and [`crate::known_senders`] decide what it subscribes to.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use aether_core::clock;
use aether_core::{Aether, Channel, JoinError, Tuner, Wave};
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::clock::{Clocks, HopClock};
use crate::clock_offset::ClockError;
use crate::control::{Beacon, ControlChannel, ControlMessage, Hex, ReceiverReport, SenderReport};
use crate::hop::Hop;
use crate::known_senders::KnownSenders;
use crate::schedule::HISTORY;
use crate::sequence::Traffic;
use crate::slot_counts::{HopAccount, ReceiverCounts, SlotCounts};
use crate::slot_subscriptions::{OpenSlots, SlotSubscriptions};

/// Error when opening a hopping channel for sending or receiving.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HopJoinError {
    /// The clock cannot be used for hopping.
    #[error("the clock is not accurate enough for hopping")]
    Clock(#[from] ClockError),
    /// The medium refused the subscription.
    #[error("cannot subscribe to the lanes of the hopping channel")]
    Join(#[from] JoinError),
}

/// The hopping channels that the vibrators of one `Aether` hear, in its extensions.
#[derive(Default)]
struct HopReceivers {
    open: Mutex<Vec<HopReceiver>>,
}

impl HopReceivers {
    fn of(aether: &Aether) -> Arc<Self> {
        aether.extension()
    }

    fn holds(&self, of: &Tuner, channel: &Channel, hop: &Hop) -> bool {
        self.open.lock().iter().any(|receiver| receiver.is(of, channel, hop))
    }

    /// Ends those that match.
    fn end(&self, ends: impl Fn(&HopReceiver) -> bool) {
        let gone: Vec<_> = self.open.lock().extract_if(.., |receiver| ends(receiver)).collect();
        // Outside of the lock, because each one leaves its lanes.
        drop(gone);
    }
}

/// [`Hopping::resonate_hopping`](crate::Hopping::resonate_hopping).
pub(crate) async fn resonate(
    aether: &Aether,
    tuner: &Tuner,
    channel: Channel,
    hop: &Hop,
) -> Result<(), HopJoinError> {
    let receivers = HopReceivers::of(aether);
    if receivers.holds(tuner, &channel, hop) {
        return Ok(());
    }
    let receiver = HopReceiver::start(aether, &receivers, tuner, channel, hop).await?;
    let mut open = receivers.open.lock();
    if !open.iter().any(|other| other.is(tuner, &receiver.channel, hop)) {
        open.push(receiver);
    }
    Ok(())
}

/// [`Hopping::detune_hopping`](crate::Hopping::detune_hopping).
pub(crate) fn detune(aether: &Aether, tuner: &Tuner, channel: &Channel) {
    let instance = tuner.source().instance();
    let ends = |receiver: &HopReceiver| receiver.of == instance && receiver.channel == *channel;
    HopReceivers::of(aether).end(ends);
}

/// [`Hopping::hop_account`](crate::Hopping::hop_account).
pub(crate) fn account(aether: &Aether, tuner: &Tuner, channel: &Channel, hop: &Hop) -> Option<HopAccount> {
    let receivers = HopReceivers::of(aether);
    let open = receivers.open.lock();
    open.iter().find(|receiver| receiver.is(tuner, channel, hop)).map(|receiver| receiver.counts.read())
}

/// The subscription of a vibrator to one channel by one key. Dropping it leaves the channel.
struct HopReceiver {
    /// The instance number of the receiving half of the vibrator.
    of: u64,
    hop: u64,
    channel: Channel,
    counts: Arc<ReceiverCounts>,
    open: Arc<OpenSlots>,
    task: AbortHandle,
}

impl HopReceiver {
    /// Subscribes a vibrator. Once this returns, no wave is missed, within the error of the clock.
    async fn start(
        aether: &Aether,
        receivers: &Arc<HopReceivers>,
        tuner: &Tuner,
        channel: Channel,
        hop: &Hop,
    ) -> Result<Self, HopJoinError> {
        let (bus, clocks) = (aether.bus(), Clocks::of(aether));
        let clock = clocks.clock(bus, hop).await?;
        let subscriptions = SlotSubscriptions {
            bus: bus.clone(),
            inbox: Arc::clone(tuner.inbox()),
            listener: tuner.listener(),
            shown_as: Some(channel.clone()),
            open: Arc::default(),
        };
        // Observers send no reports: senders do not adapt to them.
        let control = match hop.is_adaptive() && !subscriptions.listener.observes {
            true => Some(ControlChannel::new(bus, hop, &channel)?),
            false => None,
        };
        let counts = Arc::<ReceiverCounts>::default();
        let open = Arc::clone(&subscriptions.open);
        let mut task = ReceiverTask {
            hop: hop.clone(),
            channel: channel.clone(),
            clock,
            subscriptions,
            control,
            senders: KnownSenders::new(hop.lanes()),
            slots: SlotCounts::default(),
            since: u64::MAX,
            reported: 0,
            counts: Arc::clone(&counts),
        };
        let now = task.clock.at(clock::now());
        task.tune(now).await?;
        // The present slot began before the subscription.
        let now = task.clock.at(clock::now());
        task.since = hop.schedule().heard(now).end() + 1;
        let of = tuner.source().instance();
        let task =
            tokio::spawn(end_with(tuner.clone(), Arc::downgrade(receivers), task.run())).abort_handle();
        Ok(Self { of, hop: hop.id(), channel, counts, open, task })
    }

    fn is(&self, of: &Tuner, channel: &Channel, hop: &Hop) -> bool {
        self.of == of.source().instance() && self.hop == hop.id() && self.channel == *channel
    }
}

impl Drop for HopReceiver {
    fn drop(&mut self) {
        self.task.abort();
        // The task may still be running. Subscriptions that it makes from now on end at once.
        self.open.close();
    }
}

/// Runs a task of a receiver, and ends its hopping channels once it was dropped.
async fn end_with(tuner: Tuner, receivers: Weak<HopReceivers>, task: impl Future<Output = ()>) {
    let task = async {
        task.await;
        // The account can be read as long as there is a receiver.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = tuner.closed() => {}
        () = task => {}
    }
    if let Some(receivers) = receivers.upgrade() {
        let instance = tuner.source().instance();
        receivers.end(|receiver| receiver.of == instance);
    }
}

/// The state of the receiving task.
struct ReceiverTask {
    hop: Hop,
    channel: Channel,
    clock: Arc<HopClock>,
    subscriptions: SlotSubscriptions,
    control: Option<ControlChannel>,
    senders: KnownSenders,
    slots: SlotCounts,
    /// The first slot that was heard from its beginning on.
    since: u64,
    /// The last slot in which a report was sent.
    reported: u64,
    counts: Arc<ReceiverCounts>,
}

impl ReceiverTask {
    async fn run(mut self) {
        let mut steps = self.clock.watch();
        loop {
            let now = self.clock.at(clock::now());
            match self.tune(now).await {
                Ok(()) => {}
                Err(JoinError::Closed) => return,
                // Retried at the next change.
                Err(error) => {
                    self.counts.failed_joins.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(%error, channel = %self.channel, "cannot join a lane; retrying at the next change");
                }
            }
            self.report(self.clock.at(clock::now()));
            let now = self.clock.at(clock::now());
            let until = self.clock.instant(self.next_deadline(now)).saturating_duration_since(clock::now());
            tokio::select! {
                biased;
                changed = steps.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.clock_stepped();
                }
                () = tokio::time::sleep(until) => {}
                message = next(self.control.as_ref()) => match message {
                    Some(message) => {
                        let now = self.clock.at(clock::now());
                        let message = self.control.as_mut().and_then(|control| control.read(&message, now));
                        match message {
                            Some(ControlMessage::Beacon(beacon)) => self.take(&beacon),
                            Some(ControlMessage::Report(_)) | None => {}
                        }
                        self.count_control();
                    }
                    None => return,
                },
            }
        }
    }

    /// The next time at which the task has work to do.
    fn next_deadline(&self, now: u64) -> u64 {
        let schedule = self.hop.schedule();
        let change = schedule.next_change(now);
        if self.control.is_none() {
            return change;
        }
        let slot = schedule.slot_at(now);
        change.min(schedule.middle(if self.reported < slot { slot } else { slot + 1 }).max(now + 1))
    }

    /// Joins the lanes of a time, and leaves the lanes of slots that have ended.
    async fn tune(&mut self, now: u64) -> Result<(), JoinError> {
        let (joined, sequence) = (self.hop.schedule().joined(now), self.hop.sequence_of());
        sequence.reach(self.hop.schedule().slot_at(now));
        let mut wanted = Vec::new();
        for slot in joined.clone() {
            // Only slots long past have a deleted key, so the clock went back.
            let Some(place) = sequence.place(Traffic::Waves, &self.channel, slot) else { continue };
            let lanes = self.senders.lanes(slot, place.draw);
            wanted.extend(lanes.into_iter().filter_map(|lane| Some((slot, place.on(lane).ok()?))));
        }
        let (opened, all) = match &self.control {
            Some(control) => {
                let ((opened, waves), control) =
                    tokio::join!(self.subscriptions.tune(&wanted), control.tune(now));
                (opened, control.and(waves))
            }
            None => self.subscriptions.tune(&wanted).await,
        };
        for (slot, lane) in opened {
            self.slots.open(slot, lane);
        }
        let (slots, heard) = self.slots.end(&joined);
        self.counts.slots.fetch_add(slots, Ordering::Relaxed);
        self.counts.heard.fetch_add(heard, Ordering::Relaxed);
        all
    }

    fn count_control(&self) {
        let refused = self.control.as_ref().map_or(0, |control| control.refused);
        self.counts.refused.store(refused, Ordering::Relaxed);
        self.counts.forgotten_senders.store(self.senders.forgotten, Ordering::Relaxed);
    }

    /// Handles a step of the clock. Slots that were not heard from their beginning by the new time are not reported.
    fn clock_stepped(&mut self) {
        let now = self.clock.at(clock::now());
        self.since = self.hop.schedule().heard(now).end() + 1;
        self.reported = self.reported.min(self.hop.schedule().slot_at(now));
        self.counts.clock_steps.store(self.clock.steps(), Ordering::Relaxed);
    }

    /// Processes the beacon of a sender: its lanes, and the number of waves it sent.
    fn take(&mut self, beacon: &Beacon) {
        // A vibrator that does not hear its own waves cannot miss them.
        if !self.subscriptions.listener.hears_own
            && beacon.sender.0 == self.subscriptions.listener.sequencer.source().instance()
        {
            return;
        }
        let (since, slot) = (self.since, beacon.slot);
        let Some(sender) = self.senders.take(beacon) else { return };
        let settled = sender.settled;
        sender.settled = settled.max(slot.saturating_sub(2));
        // After two slots, all waves that are in time have arrived.
        let due = beacon
            .sent
            .iter()
            .filter(|(sent, _)| *sent > settled && *sent >= since && *sent <= slot.saturating_sub(2));
        let missed =
            due.map(|(sent, waves)| waves.saturating_sub(self.slots.waves_of(beacon.sender.0, *sent)));
        self.counts.missed.fetch_add(missed.fold(0, u64::saturating_add), Ordering::Relaxed);
    }

    /// Sends a report once per slot, in its middle.
    fn report(&mut self, now: u64) {
        let Some(control) = &self.control else { return };
        let schedule = self.hop.schedule();
        let slot = schedule.slot_at(now);
        if now < schedule.middle(slot) || self.reported >= slot || self.senders.known().is_empty() {
            return;
        }
        self.reported = slot;
        let heard = |sender, first: u64| {
            let from = first.max(self.since).max(slot.saturating_sub(HISTORY));
            let slots = from..slot.saturating_sub(1);
            slots.map(|slot| (slot, self.slots.waves_of(sender, slot))).collect()
        };
        let senders = self.senders.known().iter().map(|sender| {
            let waves: Vec<(u64, u64)> = heard(sender.instance, sender.first);
            let beacons = sender.beacons.iter().filter(|sent| waves.iter().any(|(slot, _)| slot == *sent));
            let beacons = beacons.copied().collect();
            SenderReport { sender: Hex(sender.instance), map: sender.map(), beacons, waves }
        });
        let receiver = Hex(self.subscriptions.listener.sequencer.source().instance());
        let report = ReceiverReport { receiver, slot, senders: senders.collect() };
        control.send(&ControlMessage::Report(report));
    }
}

/// The next control message. Never completes on a channel without control messages.
async fn next(control: Option<&ControlChannel>) -> Option<Wave> {
    match control {
        Some(control) => control.receive().await,
        None => std::future::pending().await,
    }
}
