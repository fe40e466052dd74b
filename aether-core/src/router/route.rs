//! The route of one channel: all its subscribers, by the way they receive.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use smallvec::SmallVec;

use super::delivery::{Crowded, Full, Offered, Waiting};
use super::subscription::{Lost, Subscription};
use super::trie::{Hearers, List};
use crate::channel::Pattern;
use crate::inbox::{Inbox, Offer};
use crate::wave::Wave;

/// The ungrouped subscribers, the observers and the group members of one channel.
pub(super) struct Route {
    /// The only subscriber, if there is just one.
    only: Option<Arc<Subscription>>,
    pub(super) parts: Parts,
    /// The number of patterns that match.
    pub(super) patterns: usize,
    groups: Box<[GroupRoute]>,
    is_observed: bool,
}

/// The ungrouped subscribers and observers of each matching pattern. Each inbox is in one of them: the others of its
/// patterns are left out, and patterns of which nobody is left.
pub(super) type Parts = SmallVec<[Arc<Hearers>; 2]>;

/// The place of the member whose turn it is.
#[derive(Clone, Copy)]
struct GroupTurn(usize);

/// The members of one group.
#[derive(Default)]
pub(super) struct GroupRoute {
    pub(super) members: List,
    pub(super) count: usize,
    /// The turn, modulo the number of members.
    pub(super) turn: Arc<AtomicUsize>,
}

impl GroupRoute {
    /// The member whose turn it is, and the turn of the next one begins: once for a wave.
    fn take_turn(&self) -> GroupTurn {
        GroupTurn(self.turn.fetch_add(1, Ordering::Relaxed) % self.count.max(1))
    }

    /// The members, starting with the one whose turn it is.
    fn members_from(&self, GroupTurn(first): GroupTurn) -> impl Iterator<Item = &Arc<Subscription>> {
        (first..self.count).chain(0..first).filter_map(|place| self.members.at(place))
    }

    /// Offers a wave to the member whose turn it is, or to the next one with room.
    fn carry(&self, mut wave: Wave, full: &mut Vec<(Full, VecDeque<Wave>)>) {
        let turn = self.take_turn();
        for member in self.members_from(turn) {
            match member.inbox.offer_if_it_takes(wave) {
                Ok(()) => return,
                Err(back) => wave = back,
            }
        }
        self.carry_to_full(wave, turn, full);
    }

    /// If no member has room, the wave goes to the first that gets some, among those that make emitters wait.
    #[cold]
    fn carry_to_full(&self, wave: Wave, turn: GroupTurn, full: &mut Vec<(Full, VecDeque<Wave>)>) {
        let waits = |member: &&Arc<Subscription>| !member.inbox.has_room_for(&wave);
        let waiting: Full =
            self.members_from(turn).filter(waits).map(|member| Arc::clone(&member.inbox)).collect();
        if !waiting.is_empty() {
            full.push((waiting, [wave].into()));
        } else if let Some(member) = self.members_from(turn).next() {
            let _ = member.inbox.offer(wave, Offer::Unwaited);
        }
    }

    /// The member that receives a wave at once: one with room, else one that sheds. `None` if all make emitters wait.
    fn choose(&self, wave: &Wave, turn: GroupTurn) -> Option<&Arc<Subscription>> {
        let mut shedding = None;
        for member in self.members_from(turn) {
            if member.inbox.takes(wave) {
                return Some(member);
            }
            if shedding.is_none() && member.inbox.has_room_for(wave) {
                shedding = Some(member);
            }
        }
        shedding
    }
}

/// Which of the ungrouped subscribers receive waves from a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    All,
    /// Subscribers that could answer.
    Answerers,
    Observers,
}

impl Route {
    pub(super) fn new(patterns: usize, parts: Parts, groups: Vec<GroupRoute>) -> Self {
        let is_observed = parts.iter().any(|part| !part.observers.is_empty());
        let mut route = Self { only: None, parts, patterns, groups: groups.into(), is_observed };
        if !is_observed && route.groups.is_empty() {
            let mut alone = route.alone();
            let first = alone.next().cloned();
            let is_only = alone.next().is_none();
            drop(alone);
            route.only = first.filter(|_| is_only);
        }
        route
    }

    fn alone(&self) -> impl Iterator<Item = &Arc<Subscription>> {
        self.parts.iter().flat_map(|part| part.alone.iter())
    }

    fn observers(&self) -> impl Iterator<Item = &Arc<Subscription>> {
        self.parts.iter().flat_map(|part| part.observers.iter())
    }

    /// The member of a group whose turn it is.
    pub(super) fn member_of(&self, name: &str) -> Option<Arc<Subscription>> {
        let is_it = |group: &&GroupRoute| group.members.at(0).is_some_and(|one| one.group() == Some(name));
        self.groups.iter().find(is_it).and_then(|group| group.members_from(group.take_turn()).next().cloned())
    }

    /// Offers a wave to all subscribers. Returns the number of inboxes.
    #[inline]
    pub(super) fn carry(&self, wave: Wave) -> Result<usize, Waiting> {
        match &self.only {
            Some(only) => Self::carry_to_one(only, wave),
            None => self.carry_to_many(wave),
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
        let mut inboxes = self.show_to_observers(&wave);
        let mut full = Vec::new();
        inboxes += self.groups.len();
        let mut groups = self.groups.iter();
        // Each receiver but the last gets a clone and the last gets the wave itself: one receiver costs no reference
        // count.
        let last_group = groups.next_back();
        for group in groups {
            group.carry(wave.clone(), &mut full);
        }
        let mut offer = |subscription: &Subscription, wave| {
            inboxes += 1;
            if let Err(wave) = subscription.inbox.offer(subscription.shown(wave), Offer::IfRoom) {
                full.push((Full::from_elem(Arc::clone(&subscription.inbox), 1), [wave].into()));
            }
        };
        let mut last: Option<&Subscription> = None;
        self.alone().filter(|subscription| subscription.hears(&wave)).for_each(|subscription| {
            if let Some(subscription) = last.replace(subscription) {
                offer(subscription, wave.clone());
            }
        });
        match (last, last_group) {
            (Some(subscription), None) => offer(subscription, wave),
            (Some(subscription), Some(group)) => {
                offer(subscription, wave.clone());
                group.carry(wave, &mut full);
            }
            (None, Some(group)) => group.carry(wave, &mut full),
            (None, None) => {}
        }
        if !full.is_empty() {
            return Err(Waiting::for_each(full, Offered::to(inboxes)));
        }
        Ok(inboxes)
    }

    /// The number of waves like this one that every subscriber has room for now; 1 where a group or an observer hears
    /// them.
    pub(super) fn room_for(&self, wave: &Wave) -> usize {
        if !self.groups.is_empty() || self.is_observed {
            return 1;
        }
        self.alone().map(|subscription| subscription.inbox.room_at_once(wave)).min().unwrap_or(usize::MAX)
    }

    /// Offers the first `run` waves to all subscribers, to each inbox under one lock where no group and no observer hears
    /// them. Returns what has to wait. Waves behind one that waits may be left in `waves`.
    pub(super) fn carry_run(&self, waves: &mut VecDeque<Wave>, run: usize) -> Option<Waiting> {
        if !self.groups.is_empty() || self.is_observed {
            for _ in 0..run {
                if let Err(waiting) = self.carry_to_many(waves.pop_front()?) {
                    return Some(waiting);
                }
            }
            return None;
        }
        let (mut full, mut inboxes) = (Vec::new(), 0);
        let mut offer = |subscription: &Subscription, waves: &mut dyn Iterator<Item = Wave>| {
            let heard = waves.filter(|wave| subscription.hears(wave)).map(|wave| subscription.shown(wave));
            let rest = subscription.inbox.offer_while_room(heard);
            inboxes += 1;
            if !rest.is_empty() {
                full.push((Full::from_elem(Arc::clone(&subscription.inbox), 1), rest));
            }
        };
        // Each subscriber but the last gets clones.
        let mut alone = self.alone().peekable();
        while let Some(subscription) = alone.next() {
            match alone.peek() {
                Some(_) => offer(subscription, &mut waves.iter().take(run).cloned()),
                None => offer(subscription, &mut waves.drain(..run)),
            }
        }
        if inboxes == 0 {
            waves.drain(..run);
        }
        (!full.is_empty()).then(|| Waiting::for_each(full, Offered::to(inboxes)))
    }

    pub(super) fn try_carry(&self, wave: Wave) -> Result<Offered, Wave> {
        let mut targets: SmallVec<[&Subscription; 8]> = SmallVec::new();
        for subscription in self.alone().filter(|subscription| subscription.hears(&wave)) {
            if !subscription.inbox.has_room_for(&wave) {
                return Err(wave);
            }
            targets.push(subscription);
        }
        for group in &self.groups {
            match group.choose(&wave, group.take_turn()) {
                Some(member) => targets.push(member),
                None => return Err(wave),
            }
        }
        if let [only] = targets[..] {
            // Room that another emitter took in between is none.
            if only.inbox.offer(only.shown(wave.clone()), Offer::IfRoom).is_err() {
                return Err(wave);
            }
            return Ok(Offered::to(1 + self.show_to_observers(&wave)));
        }
        let observers = self.show_to_observers(&wave);
        for subscription in &targets {
            // If another emitter took the room in between, the weakest wave is shed and counted: other receivers have the
            // wave already.
            let _ = subscription.inbox.offer(subscription.shown(wave.clone()), Offer::Unwaited);
        }
        Ok(Offered::to(targets.len() + observers))
    }

    /// Offers waves delivered by a network to the subscribers of a pattern. Waves that have to wait for room are put into
    /// `crowded`. Without it no wave waits.
    pub(super) fn arrive(
        &self,
        pattern: &Pattern,
        mut waves: Vec<Wave>,
        audience: Audience,
        mut crowded: Option<&mut Crowded>,
    ) {
        let Some(part) = self.parts.iter().find(|part| part.pattern == *pattern) else { return };
        let answerers = (audience != Audience::Observers).then_some(&part.alone);
        let observers = (audience != Audience::Answerers).then_some(&part.observers);
        let mut targets = answerers.into_iter().chain(observers).flat_map(List::iter).peekable();
        while let Some(subscription) = targets.next() {
            let as_heard = |wave: Wave| {
                subscription.shown(if subscription.observes { wave.unanswerable() } else { wave })
            };
            if targets.peek().is_some() {
                let heard = waves.iter().filter(|wave| subscription.hears(wave)).cloned();
                offer(&subscription.inbox, heard.map(as_heard), crowded.as_deref_mut());
            } else {
                let heard = waves.drain(..).filter(|wave| subscription.hears(wave));
                offer(&subscription.inbox, heard.map(as_heard), crowded.as_deref_mut());
            }
        }
    }

    /// Whether a wave has a receiver that could act on it.
    pub(super) fn has_resonator(&self, wave: &Wave) -> bool {
        match &self.only {
            Some(only) => only.hears(wave),
            None => !self.groups.is_empty() || self.alone().any(|subscription| subscription.hears(wave)),
        }
    }

    /// Offers a notice to all but the observers. Returns whether there is any receiver.
    pub(super) fn notify(&self, notice: &Wave) -> bool {
        let member = |group: &'_ GroupRoute| -> Option<Arc<Subscription>> {
            let turn = group.take_turn();
            group.choose(notice, turn).or_else(|| group.members_from(turn).next()).cloned()
        };
        let members = self.groups.iter().filter_map(member);
        let hears = self.alone().filter(|subscription| subscription.hears(notice)).cloned().chain(members);
        let mut is_heard = false;
        for subscription in hears {
            let _ = subscription.inbox.offer(notice.clone(), Offer::Now);
            is_heard = true;
        }
        is_heard
    }

    /// Counts waves lost on the way at each inbox that should have received them by a pattern.
    pub(super) fn lost_upstream(&self, pattern: &Pattern, lost: Lost) {
        let Some(part) = self.parts.iter().find(|part| part.pattern == *pattern) else { return };
        let hearers = part.alone.iter().chain(part.observers.iter());
        for subscription in hearers.filter(|subscription| subscription.misses(lost)) {
            subscription.inbox.count_lost_upstream(lost.waves);
        }
    }

    /// Shows a wave to the observers. Returns their number. Never waits: observers must not slow down what they
    /// observe.
    pub(super) fn observe(&self, wave: &Wave) -> usize {
        let mut shown = 0;
        for observer in self.observers().filter(|observer| observer.hears(wave)) {
            let _ = observer.inbox.offer(observer.shown(wave.clone()), Offer::Now);
            shown += 1;
        }
        shown
    }

    /// Shows a wave to the observers as it is emitted; a question before it can be answered. Their copy of a question
    /// does not hold the reply path open, so the asker still learns when the last possible responder has dropped it.
    /// Returns the number of inboxes counted as offered.
    fn show_to_observers(&self, wave: &Wave) -> usize {
        match wave.is_question() {
            _ if !self.is_observed => 0,
            false => self.observe(wave),
            true => {
                self.observe(&wave.clone().unanswerable());
                0
            }
        }
    }
}

/// Offers waves of a network to one inbox.
fn offer(inbox: &Arc<Inbox>, waves: impl Iterator<Item = Wave>, crowded: Option<&mut Crowded>) {
    match crowded {
        Some(crowded) => crowded.offer(inbox, waves),
        None => inbox.offer_all(waves),
    }
}
