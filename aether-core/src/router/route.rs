//! The route of one channel: all who hear it, and in which way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use smallvec::SmallVec;

#[cfg(feature = "nats")]
use super::Lost;
use super::{Offered, Subscription, Waiting};
use crate::channel::Pattern;
use crate::inbox::Offer;
use crate::wave::Wave;

/// The lone subscribers, the observers and the members of the groups that hear one channel.
#[derive(Default)]
pub(super) struct Route {
    /// One subscription for each inbox, though several of its patterns may match.
    alone: Box<[Arc<Subscription>]>,
    /// The same of those who only observe.
    observers: Box<[Arc<Subscription>]>,
    groups: Box<[GroupRoute]>,
}

struct GroupRoute {
    members: Box<[Arc<Subscription>]>,
    /// Whose turn it is, modulo the number of members.
    turn: AtomicUsize,
}

impl GroupRoute {
    fn next(&self) -> &Arc<Subscription> {
        &self.members[self.turn.fetch_add(1, Ordering::Relaxed) % self.members.len()]
    }
}

/// Which of the lone subscribers waves from a network are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    All,
    /// Those who could answer.
    Answerers,
    Observers,
}

impl Route {
    pub(super) fn of(mut matching: Vec<Arc<Subscription>>) -> Self {
        // The oldest subscription of an inbox stands for all of its lone ones, if one of them is not muted; but one that
        // knows which channel a lane belongs to stands for those that happen to hear the lane.
        matching.sort_by_key(|subscription| (subscription.tuned.is_none(), subscription.id));
        let mut alone: Vec<(Arc<Subscription>, bool)> = Vec::new();
        let mut groups: Vec<(Arc<str>, Vec<Arc<Subscription>>)> = Vec::new();
        for subscription in matching {
            match &subscription.group {
                None => {
                    let is_heard = !subscription.is_muted();
                    match alone.iter_mut().find(|other| Arc::ptr_eq(&other.0.inbox, &subscription.inbox)) {
                        Some((_, any_is_heard)) => *any_is_heard |= is_heard,
                        None => alone.push((subscription, is_heard)),
                    }
                }
                // As on NATS, a group is its name: members may come by different patterns.
                Some(name) => match groups.iter_mut().find(|group| group.0 == *name) {
                    Some((_, members)) => members.push(subscription),
                    None => groups.push((name.clone(), vec![subscription])),
                },
            }
        }
        let heard = alone.into_iter().filter_map(|(oldest, is_heard)| is_heard.then_some(oldest));
        let (observers, alone): (Vec<_>, Vec<_>) = heard.partition(|subscription| subscription.observes);
        let group = |members: Vec<_>| GroupRoute { members: members.into(), turn: AtomicUsize::new(0) };
        Self {
            alone: alone.into(),
            observers: observers.into(),
            groups: groups.into_iter().map(|(_, members)| group(members)).collect(),
        }
    }

    /// The member of a group whose turn it is.
    #[cfg(feature = "nats")]
    pub(super) fn member_of(&self, name: &str) -> Option<Arc<Subscription>> {
        let is_it = |group: &&GroupRoute| group.members.first().is_some_and(|one| one.group() == Some(name));
        self.groups.iter().find(is_it).map(|group| Arc::clone(group.next()))
    }

    /// Offers a wave to all who hear it, and says to how many inboxes.
    #[inline]
    pub(super) fn carry(&self, wave: Wave) -> Result<usize, Waiting> {
        match &*self.alone {
            [only] if self.groups.is_empty() && self.observers.is_empty() => Self::carry_to_one(only, wave),
            _ => self.carry_to_many(wave),
        }
    }

    #[inline]
    fn carry_to_one(only: &Subscription, wave: Wave) -> Result<usize, Waiting> {
        if !only.hears(&wave) {
            return Ok(0);
        }
        only.inbox
            .offer(only.shown(wave), Offer::IfRoom)
            .map_err(|wave| Waiting::new(wave, [Arc::clone(&only.inbox)], Offered::to(1)))?;
        Ok(1)
    }

    fn carry_to_many(&self, wave: Wave) -> Result<usize, Waiting> {
        let mut inboxes = 0;
        let mut full = Vec::new();
        let mut offer = |subscription: &Subscription, wave| {
            inboxes += 1;
            if let Err(wave) = subscription.inbox.offer(subscription.shown(wave), Offer::IfRoom) {
                full.push((Arc::clone(&subscription.inbox), wave));
            }
        };
        self.show_question(&wave);
        // Everyone gets a clone but the last, who gets the wave itself: one receiver costs no reference count.
        let mut last: Option<&Subscription> = None;
        self.each_target(&wave, |subscription| {
            if let Some(subscription) = last.replace(subscription) {
                offer(subscription, wave.clone());
            }
        });
        if let Some(subscription) = last {
            offer(subscription, wave);
        }
        if !full.is_empty() {
            return Err(Waiting::for_each(full, Offered::to(inboxes)));
        }
        Ok(inboxes)
    }

    pub(super) fn try_carry(&self, wave: Wave) -> Result<Offered, Wave> {
        let mut targets: SmallVec<[&Subscription; 8]> = SmallVec::new();
        self.each_target(&wave, |subscription| targets.push(subscription));
        if !targets.iter().all(|subscription| subscription.inbox.has_room_for(&wave)) {
            return Err(wave);
        }
        self.show_question(&wave);
        for subscription in &targets {
            // Room that another emitter took in between is made by shedding the weakest, which is counted.
            let _ = subscription.inbox.offer(subscription.shown(wave.clone()), Offer::Now);
        }
        Ok(Offered::to(targets.len()))
    }

    pub(super) fn arrive(&self, pattern: &Pattern, mut waves: Vec<Wave>, audience: Audience) {
        let answerers = if audience == Audience::Observers { &[][..] } else { &self.alone };
        let observers = if audience == Audience::Answerers { &[][..] } else { &self.observers };
        let mut targets = answerers.iter().chain(observers).filter(|s| s.pattern == *pattern).peekable();
        while let Some(subscription) = targets.next() {
            let as_heard = |wave: Wave| {
                subscription.shown(if subscription.observes { wave.unanswerable() } else { wave })
            };
            if targets.peek().is_some() {
                let heard = waves.iter().filter(|wave| subscription.hears(wave)).cloned();
                subscription.inbox.offer_all(heard.map(as_heard));
            } else {
                let heard = waves.drain(..).filter(|wave| subscription.hears(wave));
                subscription.inbox.offer_all(heard.map(as_heard));
            }
        }
    }

    /// Whether anybody hears a wave who could act on it.
    pub(super) fn has_resonator(&self, wave: &Wave) -> bool {
        !self.groups.is_empty() || self.alone.iter().any(|subscription| subscription.hears(wave))
    }

    /// Offers a notice to all but the observers. Returns whether there is anybody.
    pub(super) fn tell(&self, notice: &Wave) -> bool {
        let members = self.groups.iter().map(GroupRoute::next);
        let hears = self.alone.iter().filter(|subscription| subscription.hears(notice)).chain(members);
        let mut is_heard = false;
        for subscription in hears {
            let _ = subscription.inbox.offer(notice.clone(), Offer::Now);
            is_heard = true;
        }
        is_heard
    }

    /// Counts waves that never came by a pattern at all who would have got them by it.
    #[cfg(feature = "nats")]
    pub(super) fn lost_upstream(&self, pattern: &Pattern, lost: Lost) {
        let hearers = self.alone.iter().chain(&self.observers);
        for subscription in hearers.filter(|s| s.pattern == *pattern && s.misses(lost)) {
            subscription.inbox.count_lost_upstream(lost.waves);
        }
    }

    /// Shows a wave to the observers. Never waits: who watches must not slow those who are watched.
    pub(super) fn show(&self, wave: &Wave) {
        for observer in self.observers.iter().filter(|observer| observer.hears(wave)) {
            let _ = observer.inbox.offer(observer.shown(wave.clone()), Offer::Now);
        }
    }

    /// Shows a question to the observers, before anybody can answer it. Their copy does not hold the way back, so that
    /// the asker still learns when the last who could answer has dropped the question.
    fn show_question(&self, wave: &Wave) {
        if !self.observers.is_empty() && wave.is_question() {
            self.show(&wave.clone().unanswerable());
        }
    }

    /// Calls `f` with each subscription that shall get the wave: all that stand alone, one of each group; observers
    /// unless it is a question.
    fn each_target<'a>(&'a self, wave: &Wave, mut f: impl FnMut(&'a Subscription)) {
        for subscription in self.alone.iter().filter(|subscription| subscription.hears(wave)) {
            f(subscription);
        }
        for group in &self.groups {
            f(group.next());
        }
        if !self.observers.is_empty() && !wave.is_question() {
            for observer in self.observers.iter().filter(|observer| observer.hears(wave)) {
                f(observer);
            }
        }
    }
}
