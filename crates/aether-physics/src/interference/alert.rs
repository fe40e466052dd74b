//! Alerts: the keys that rose at once by the same sources.
//!
//! One cause, such as a network that falls apart, lights many keys. A key that rises joins an open alert of its channel if
//! another key rose within a third of a window before, and if at least half of its sources belong to the alert: they
//! assert one of its keys, or have just begun to assert a key together with a source that does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::credit::Credits;
use super::fringe::{Fringe, FringeClaim, FringeKind, Resultant};
use super::key::{ClaimKey, KeyState};
use super::window::Window;
use crate::recent::Recent;
use crate::timeline::Moment;
use aether_core::{Channel, Source, WaveId};

/// A key joins an alert within this part of a window.
const TOGETHER: u32 = 3;
/// Changes of an alert are gathered for this part of a window.
const GATHERED: u32 = 15;
/// The number of alerts that a key may join, and the number of keys whose sources are compared.
const COMPARED: usize = 8;
/// The number of keys that a fringe names.
const NAMED: usize = 64;

/// The alerts that are open.
#[derive(Debug, Default)]
pub(super) struct Alerts {
    /// By number, ascending with time. At most as many as there are keys.
    open: BTreeMap<u64, Alert>,
    next: u64,
    /// The alerts that have changed, and when that is reported. At most as many as there are alerts.
    changed: VecDeque<(Moment, u64)>,
}

/// One alert.
#[derive(Debug)]
pub(super) struct Alert {
    id: WaveId,
    key: Arc<str>,
    channel: Channel,
    /// The keys that are lit, as slots, in the order in which they rose.
    lit: Vec<u32>,
    /// When the last one rose.
    latest: Moment,
    changed: bool,
}

impl Alerts {
    /// Lights a key. Returns the number of its alert, and whether that is a new one.
    pub(super) fn rise(
        &mut self,
        slot: u32,
        claims: &[FringeClaim],
        keys: &Recent<ClaimKey, KeyState>,
        credits: &Credits,
        window: Window,
        now: Moment,
    ) -> (u64, bool) {
        let key = keys.key(slot);
        let since = now.minus(window.part(TOGETHER));
        let sources: Vec<u32> = keys.value(slot).evidence.asserting().collect();
        let near = self.open.iter_mut().rev().take(COMPARED);
        let near = near.filter(|(_, alert)| alert.latest >= since && alert.channel == key.channel);
        for (number, alert) in near {
            let known = alert.sources(keys, credits, since);
            let shared = sources.iter().filter(|place| known.binary_search(place).is_ok()).count();
            if 2 * shared >= sources.len() {
                alert.lit.push(slot);
                alert.latest = now;
                let number = *number;
                self.change(number, window, now);
                return (number, false);
            }
        }
        let none = || WaveId { source: Source::none(), sequence: 0 };
        let alert = Alert {
            // A key rises by its claims, so there is one.
            id: claims.last().map_or_else(none, |latest| latest.wave.clone()),
            key: key.key.as_str().into(),
            channel: key.channel.clone(),
            lit: vec![slot],
            latest: now,
            changed: false,
        };
        self.next += 1;
        self.open.insert(self.next, alert);
        (self.next, true)
    }

    /// Puts out a key. Returns its alert if that is over.
    pub(super) fn fall(&mut self, number: u64, slot: u32, window: Window, now: Moment) -> Option<Alert> {
        let alert = self.open.get_mut(&number)?;
        alert.lit.retain(|lit| *lit != slot);
        if alert.lit.is_empty() {
            let alert = self.open.remove(&number)?;
            if alert.changed {
                self.changed.retain(|(_, changed)| *changed != number);
            }
            return Some(alert);
        }
        self.change(number, window, now);
        None
    }

    pub(super) fn get(&self, number: u64) -> Option<&Alert> {
        self.open.get(&number)
    }

    /// When the next change is reported.
    pub(super) fn due(&self) -> Option<Moment> {
        self.changed.front().map(|(due, _)| *due)
    }

    /// The number of the next alert whose change is due.
    pub(super) fn take_changed(&mut self, now: Moment) -> Option<u64> {
        let (due, number) = *self.changed.front()?;
        if due > now {
            return None;
        }
        self.changed.pop_front();
        self.open.get_mut(&number)?.changed = false;
        Some(number)
    }

    fn change(&mut self, number: u64, window: Window, now: Moment) {
        if let Some(alert) = self.open.get_mut(&number)
            && !std::mem::replace(&mut alert.changed, true)
        {
            self.changed.push_back((now.plus(window.part(GATHERED)), number));
        }
    }
}

impl Alert {
    /// The key that rose last.
    pub(super) fn last(&self) -> Option<u32> {
        self.lit.last().copied()
    }

    /// The fringe of a change, by the claims about one of its keys.
    pub(super) fn fringe(
        &self,
        kind: FringeKind,
        resultant: Resultant,
        claims: Vec<FringeClaim>,
        keys: &Recent<ClaimKey, KeyState>,
    ) -> Fringe {
        let Resultant { amplitude, coherence, sources } = resultant;
        Fringe {
            id: self.id.clone(),
            channel: self.channel.clone(),
            key: Arc::clone(&self.key),
            keys: self.lit.iter().take(NAMED).map(|slot| keys.key(*slot).key.clone()).collect(),
            lit: self.lit.len(),
            amplitude,
            coherence,
            sources,
            kind,
            claims,
        }
    }

    /// The places of its sources, ascending: of those that assert its latest keys, and of those that have begun to
    /// assert another key together with them.
    fn sources(&self, keys: &Recent<ClaimKey, KeyState>, credits: &Credits, since: Moment) -> Vec<u32> {
        let of = |slot: u32| keys.value(slot).evidence.asserting();
        let mut sources: Vec<u32> = self.lit.iter().rev().take(COMPARED).copied().flat_map(of).collect();
        sources.sort_unstable();
        sources.dedup();
        // A key that was retracted meanwhile links nobody.
        let begun =
            |place: u32| credits.begun(place, since).filter(move |slot| of(*slot).any(|by| by == place));
        let mut begun: Vec<u32> = sources.iter().copied().flat_map(begun).collect();
        begun.sort_unstable();
        begun.dedup();
        sources.extend(begun.into_iter().flat_map(of));
        sources.sort_unstable();
        sources.dedup();
        sources
    }
}
