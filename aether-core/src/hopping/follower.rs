//! The receiving end of a hopping channel: a task that is where the channel is, and a little ahead of it.
//!
//! It joins the next slot ahead of time and leaves the last one a guard after its end, so the waves go straight from
//! the router into the vibrator's inbox. It waits for deadlines and for reports, never polls, and ends with its
//! vibrator. What it decides comes from [`super::schedule`] and [`super::views`].

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::AbortHandle;

use super::account::{Counts, HopAccount};
use super::course::MEMORY;
use super::ears::{Ears, Open};
use super::hop::Hop;
use super::past::Past;
use super::reports::Reports;
use super::said::{Beacon, Heard, Hex, Report, Said};
use super::sequence::Stream;
use super::timing::{ClockError, Timing};
use super::views::Views;
use crate::aether::Aether;
use crate::channel::Channel;
use crate::clock::Instant;
use crate::inbox::Inbox;
use crate::medium::JoinError;
use crate::source::Sequencer;

/// Why a hopping channel cannot be sent to or heard.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HopJoinError {
    /// It is not known well enough what time it is.
    #[error("the time is not known well enough to hop")]
    Clock(#[from] ClockError),
    /// The medium did not let it join.
    #[error("the lanes cannot be heard")]
    Join(#[from] JoinError),
}

/// Who is to hear.
pub(crate) struct Listening<'a> {
    pub(crate) aether: &'a Aether,
    pub(crate) inbox: &'a Arc<Inbox>,
    pub(crate) sequencer: &'a Arc<Sequencer>,
    pub(crate) hears_own: bool,
    pub(crate) observes: bool,
}

/// A channel that is followed; dropped, it is left.
#[derive(Debug)]
pub(crate) struct Following {
    hop: u64,
    channel: Channel,
    counts: Arc<Counts>,
    /// What is heard at the moment.
    open: Arc<Open>,
    task: AbortHandle,
}

impl Following {
    /// Follows a channel: once this returns, no wave is missed that is sent from now on, within the clock's error.
    pub(crate) async fn start(
        listening: Listening<'_>,
        channel: &Channel,
        hop: &Hop,
    ) -> Result<Self, HopJoinError> {
        let Listening { aether, inbox, sequencer, hears_own, observes } = listening;
        let timing = aether.hopping().timing(aether, hop).await?;
        let ears = Ears {
            aether: aether.clone(),
            inbox: Arc::clone(inbox),
            sequencer: Arc::clone(sequencer),
            hears_own,
            observes,
            shown_as: Some(channel.clone()),
            open: Arc::default(),
        };
        // Who only observes is nobody to adapt to.
        let reports = match hop.is_adaptive() && !observes {
            true => Some(Reports::new(aether, hop, channel)?),
            false => None,
        };
        let counts = Arc::<Counts>::default();
        let open = Arc::clone(&ears.open);
        let mut follower = Follower {
            hop: hop.clone(),
            channel: channel.clone(),
            timing,
            ears,
            reports,
            views: Views::new(hop.lanes()),
            past: Past::default(),
            since: u64::MAX,
            reported: 0,
            counts: Arc::clone(&counts),
        };
        let now = follower.timing.at(Instant::now());
        follower.tune(now).await?;
        // The slot that has begun already was not heard from its beginning.
        let now = follower.timing.at(Instant::now());
        follower.since = hop.schedule().heard(now).end() + 1;
        let task = tokio::spawn(follower.run());
        Ok(Self { hop: hop.id(), channel: channel.clone(), counts, open, task: task.abort_handle() })
    }

    pub(crate) fn is(&self, channel: &Channel, hop: &Hop) -> bool {
        self.hop == hop.id() && self.is_of(channel)
    }

    pub(crate) fn is_of(&self, channel: &Channel) -> bool {
        self.channel == *channel
    }

    pub(crate) fn account(&self) -> HopAccount {
        self.counts.read()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
        // The task may be at work still: nothing of what it joins from now on stays.
        self.open.close();
    }
}

/// What the task holds.
struct Follower {
    hop: Hop,
    channel: Channel,
    timing: Arc<Timing>,
    ears: Ears,
    reports: Option<Reports>,
    views: Views,
    /// What came in the last slots.
    past: Past,
    /// The first slot that was heard from its beginning.
    since: u64,
    /// The last slot in which a report was made.
    reported: u64,
    counts: Arc<Counts>,
}

impl Follower {
    async fn run(mut self) {
        let mut steps = self.timing.watch();
        loop {
            let now = self.timing.at(Instant::now());
            match self.tune(now).await {
                Ok(()) => {}
                Err(JoinError::Closed) => return,
                // The next change tries again.
                Err(error) => {
                    self.counts.failed_joins.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(%error, channel = %self.channel, "a lane cannot be heard");
                }
            }
            self.report(self.timing.at(Instant::now()));
            let now = self.timing.at(Instant::now());
            let until =
                self.timing.instant(self.next_deadline(now)).saturating_duration_since(Instant::now());
            tokio::select! {
                message = next(self.reports.as_ref()) => match message {
                    Some(message) => {
                        let now = self.timing.at(Instant::now());
                        let said = self.reports.as_mut().and_then(|reports| reports.read(&message, now));
                        match said {
                            Some(Said::Beacon(beacon)) => self.take(&beacon),
                            Some(Said::Report(_)) | None => {}
                        }
                        self.count_reports();
                    }
                    None => return,
                },
                () = tokio::time::sleep(until) => {}
                changed = steps.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.stepped();
                }
            }
        }
    }

    /// When there is something to do, if nothing happens before.
    fn next_deadline(&self, now: u64) -> u64 {
        let schedule = self.hop.schedule();
        let change = schedule.next_change(now);
        if self.reports.is_none() {
            return change;
        }
        let slot = schedule.slot_at(now);
        change.min(schedule.middle(if self.reported < slot { slot } else { slot + 1 }).max(now + 1))
    }

    /// Joins what is to be heard at a time, and leaves what is over.
    async fn tune(&mut self, now: u64) -> Result<(), JoinError> {
        let (joined, sequence) = (self.hop.schedule().joined(now), self.hop.sequence_of());
        sequence.reach(self.hop.schedule().slot_at(now));
        let mut wanted = Vec::new();
        for slot in joined.clone() {
            // A slot whose key was forgotten is long past: the clock has gone back.
            let Some(place) = sequence.place(Stream::Waves, &self.channel, slot) else { continue };
            let lanes = self.views.lanes(slot, place.draw);
            wanted.extend(lanes.into_iter().filter_map(|lane| Some((slot, place.on(lane).ok()?))));
        }
        let (tuned, all) = match &self.reports {
            Some(reports) => {
                let ((tuned, waves), reports) = tokio::join!(self.ears.tune(&wanted), reports.tune(now));
                (tuned, reports.and(waves))
            }
            None => self.ears.tune(&wanted).await,
        };
        for (slot, lane) in tuned {
            self.past.open(slot, lane);
        }
        let (slots, heard) = self.past.end(&joined);
        self.counts.slots.fetch_add(slots, Ordering::Relaxed);
        self.counts.heard.fetch_add(heard, Ordering::Relaxed);
        all
    }

    fn count_reports(&self) {
        let refused = self.reports.as_ref().map_or(0, |reports| reports.refused);
        self.counts.refused.store(refused, Ordering::Relaxed);
        self.counts.forgotten_senders.store(self.views.forgotten, Ordering::Relaxed);
    }

    /// The time has made a step: what was not heard from its beginning by the new time is not reported on.
    fn stepped(&mut self) {
        let now = self.timing.at(Instant::now());
        self.since = self.hop.schedule().heard(now).end() + 1;
        self.reported = self.reported.min(self.hop.schedule().slot_at(now));
        self.counts.clock_steps.store(self.timing.steps(), Ordering::Relaxed);
    }

    /// Takes in what a sender says: where it is, and what it has sent.
    fn take(&mut self, beacon: &Beacon) {
        // A vibrator that does not hear its own waves misses none of them.
        if !self.ears.hears_own && beacon.sender.0 == self.ears.sequencer.source().instance() {
            return;
        }
        let (since, slot) = (self.since, beacon.slot);
        let Some(view) = self.views.take(beacon) else { return };
        let settled = view.settled;
        view.settled = settled.max(slot.saturating_sub(2));
        // Two slots later all has come that comes in time.
        let due = beacon
            .sent
            .iter()
            .filter(|(sent, _)| *sent > settled && *sent >= since && *sent <= slot.saturating_sub(2));
        let missed =
            due.map(|(sent, waves)| waves.saturating_sub(self.past.heard_of(beacon.sender.0, *sent)));
        self.counts.missed.fetch_add(missed.fold(0, u64::saturating_add), Ordering::Relaxed);
    }

    /// Says what was heard, once a slot, in its middle.
    fn report(&mut self, now: u64) {
        let Some(reports) = &self.reports else { return };
        let schedule = self.hop.schedule();
        let slot = schedule.slot_at(now);
        if now < schedule.middle(slot) || self.reported >= slot || self.views.known().is_empty() {
            return;
        }
        self.reported = slot;
        let heard = |sender, first: u64| {
            let from = first.max(self.since).max(slot.saturating_sub(MEMORY));
            let slots = from..slot.saturating_sub(1);
            slots.map(|slot| (slot, self.past.heard_of(sender, slot))).collect()
        };
        let senders = self.views.known().iter().map(|view| {
            let waves: Vec<(u64, u64)> = heard(view.sender, view.first);
            let beacons = view.beacons.iter().filter(|said| waves.iter().any(|(slot, _)| slot == *said));
            Heard { sender: Hex(view.sender), map: view.map(), beacons: beacons.copied().collect(), waves }
        });
        let receiver = Hex(self.ears.sequencer.source().instance());
        reports.say(&Said::Report(Report { receiver, slot, senders: senders.collect() }));
    }
}

/// The next message, never where there are none.
async fn next(reports: Option<&Reports>) -> Option<crate::wave::Wave> {
    match reports {
        Some(reports) => reports.receive().await,
        None => std::future::pending().await,
    }
}
