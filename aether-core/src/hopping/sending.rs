//! The sending end of a hopping channel: which lane it is in now, and, where it adapts, a task that says so.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::task::AbortHandle;

use super::account::HopView;
use super::course::{Course, Sent};
use super::follower::HopJoinError;
use super::hop::Hop;
use super::reports::Reports;
use super::said::Said;
use super::sequence::Stream;
use super::timing::{ClockError, Timing};
use crate::aether::Aether;
use crate::channel::Channel;
use crate::clock::{Instant, Moment, moment_of};
use crate::medium::JoinError;
use crate::wave::Wave;

/// One channel that one vibrator sends on by one key.
pub(crate) struct Sending {
    hop: Hop,
    channel: Channel,
    /// The instance number of the vibrator.
    me: u64,
    timing: Arc<Timing>,
    /// That of the last wave. Every emit locks it, for as long as it takes to read the lane.
    turn: Mutex<Option<Arc<Turn>>>,
    course: Mutex<Course<Turn>>,
    refused: AtomicU64,
    task: Mutex<Option<AbortHandle>>,
}

/// One slot in which something is sent.
#[derive(Debug)]
pub(crate) struct Turn {
    generation: u64,
    from: Moment,
    until: Moment,
    lane: Channel,
    waves: AtomicU64,
}

impl Turn {
    #[inline]
    fn is_at(&self, now: Moment, generation: u64) -> bool {
        self.from <= now && now < self.until && self.generation == generation
    }

    /// Notes that a wave was sent in it.
    #[inline]
    pub(crate) fn count(&self) {
        self.waves.fetch_add(1, Ordering::Relaxed);
    }
}

impl Sending {
    pub(crate) async fn start(
        aether: &Aether,
        me: u64,
        channel: &Channel,
        hop: &Hop,
    ) -> Result<Arc<Self>, HopJoinError> {
        let timing = aether.hopping().timing(aether, hop).await?;
        let sending = Arc::new(Self {
            hop: hop.clone(),
            channel: channel.clone(),
            me,
            timing,
            turn: Mutex::default(),
            course: Mutex::new(Course::new(hop.lanes())),
            refused: AtomicU64::new(0),
            task: Mutex::default(),
        });
        if hop.is_adaptive() {
            let reports = Reports::new(aether, hop, channel)?;
            reports.tune(sending.timing.at(Instant::now())).await?;
            let task = tokio::spawn(announce(Arc::downgrade(&sending), Arc::clone(&sending.timing), reports));
            *sending.task.lock() = Some(task.abort_handle());
        }
        Ok(sending)
    }

    pub(crate) fn hop(&self) -> &Hop {
        &self.hop
    }

    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Moves a wave onto the lane of this moment. Returns the turn to count it in once it is sent, where that is told.
    #[inline]
    pub(crate) fn move_onto_lane(
        &self,
        wave: &mut Wave,
        now: Moment,
    ) -> Result<Option<Arc<Turn>>, ClockError> {
        let current = self.turn.lock();
        if let Some(turn) = &*current
            && turn.is_at(now, self.timing.generation())
        {
            wave.move_to(&turn.lane);
            return Ok(self.hop.is_adaptive().then(|| Arc::clone(turn)));
        }
        drop(current);
        let turn = self.next_turn(Instant::now())?;
        wave.move_to(&turn.lane);
        Ok(self.hop.is_adaptive().then_some(turn))
    }

    /// The turn of this moment where it has begun only now.
    #[cold]
    fn next_turn(&self, now: Instant) -> Result<Arc<Turn>, ClockError> {
        let generation = self.timing.generation();
        let mut course = self.course.lock();
        let current = self.turn.lock().clone();
        if let Some(turn) = current.filter(|turn| turn.is_at(moment_of(now), generation)) {
            return Ok(turn);
        }
        let time = self.timing.checked(now)?;
        let schedule = self.hop.schedule();
        let slot = schedule.slot_at(time);
        self.hop.sequence_of().reach(slot);
        let place = self.hop.sequence_of().place(Stream::Waves, &self.channel, slot);
        let place = place.ok_or(ClockError::Forgotten)?;
        let lane = course.lane(slot, place.draw);
        let turn = Arc::new(Turn {
            generation,
            from: moment_of(self.timing.instant(schedule.begin(slot))),
            until: moment_of(self.timing.instant(schedule.begin(slot + 1))),
            // Lanes and tokens are made of letters and digits.
            lane: place.on(lane).map_err(|_| ClockError::Forgotten)?,
            waves: AtomicU64::new(0),
        });
        course.begin(Sent { slot, lane, turn: Arc::clone(&turn) });
        *self.turn.lock() = Some(Arc::clone(&turn));
        Ok(turn)
    }

    pub(crate) fn view(&self) -> HopView {
        let course = self.course.lock();
        HopView {
            lanes_in_use: course.used().iter().collect(),
            loss: (0..self.hop.lanes()).map(|lane| course.loss(lane)).collect(),
            map: course.map(),
            receivers: course.receivers(),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    fn take(&self, said: &Said) {
        if let Said::Report(report) = said {
            self.course.lock().take(self.me, report, |turn| turn.waves.load(Ordering::Relaxed));
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut() {
            task.abort();
        }
    }
}

/// Says once a slot, in its middle, where the sender is, and listens to the receivers. Ends with the sender.
async fn announce(sending: Weak<Sending>, timing: Arc<Timing>, mut reports: Reports) {
    let mut steps = timing.watch();
    let mut said_in = 0;
    loop {
        let now = timing.at(Instant::now());
        if let Err(JoinError::Closed) = reports.tune(now).await {
            return;
        }
        let now = timing.at(Instant::now());
        let schedule = reports.schedule();
        let slot = schedule.slot_at(now);
        if said_in < slot && now >= schedule.middle(slot) {
            said_in = slot;
            let Some(sending) = sending.upgrade() else { return };
            // So that the map of this slot is in force, also where nothing is sent in it.
            let known = sending.next_turn(Instant::now());
            if let (Ok(_), Some((lane, _))) = (known, reports.lane(slot)) {
                let mut course = sending.course.lock();
                course.decide(slot);
                let waves_of = |turn: &Turn| turn.waves.load(Ordering::Relaxed);
                let beacon = course.beacon(sending.me, slot, lane, waves_of);
                drop(course);
                reports.say(&Said::Beacon(beacon));
            }
        }
        let middle = schedule.middle(if said_in < slot { slot } else { slot + 1 });
        let deadline = timing.instant(schedule.next_change(now).min(middle.max(now + 1)));
        tokio::select! {
            message = reports.receive() => {
                let (Some(message), Some(sending)) = (message, sending.upgrade()) else { return };
                if let Some(said) = reports.read(&message, timing.at(Instant::now())) {
                    sending.take(&said);
                }
                sending.refused.store(reports.refused, Ordering::Relaxed);
            }
            () = tokio::time::sleep(deadline.saturating_duration_since(Instant::now())) => {}
            changed = steps.changed() => {
                if changed.is_err() {
                    return;
                }
                said_in = said_in.min(schedule.slot_at(timing.at(Instant::now())));
            }
        }
    }
}
