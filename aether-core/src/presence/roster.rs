//! The roster: who is there and what they hear. Ordinary term: a service registry without a server.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tokio::sync::watch;

use super::local_receivers::LocalReceiver;
use super::{Announcement, Presence};
use crate::bus::Lifeline;
use crate::channel::Pattern;
use crate::clock::Instant;
use crate::medium::LocalVibrator;

/// Who is there and what they hear, as far as it has been announced; made by [`Aether::roster`](crate::Aether::roster).
///
/// Shown are vibrators that are tuned to anything, but for observers and those that are
/// [unlisted](crate::VibratorBuilder::unlisted). One that goes says goodbye; one that dies is shown for 40 s, three
/// heartbeats. Of other processes at most 4096 are known, and 16 MiB of what they hear; more are counted in
/// [`Roster::left_out`]. Announcements are not authenticated: who may publish may make up vibrators, and a vibrator in
/// whose name two processes speak is shown twice.
#[derive(Debug, Clone)]
pub struct Roster {
    floors: Arc<Presence>,
    changes: watch::Receiver<u64>,
    /// Announcements are taken in for as long as there is the `Aether`.
    _aether: Lifeline,
}

impl Roster {
    pub(crate) fn new(floors: &Arc<Presence>, aether: Lifeline) -> Self {
        let mut changes = floors.changes.subscribe();
        changes.mark_changed();
        Self { floors: Arc::clone(floors), changes, _aether: aether }
    }

    /// Returns when what anybody hears has changed since the last call; the first call returns at once. Not when one
    /// that died is not shown any more: that is a matter of time.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no change is missed.
    pub async fn changed(&mut self) {
        // The sender is there as long as the `Aether` is, which this holds.
        let _ = self.changes.changed().await;
    }

    /// Those who are there, by name and instance.
    #[must_use]
    pub fn vibrators(&self) -> Vec<Announcement> {
        let mut present = {
            let local = self.floors.local.lock();
            let shown = local.receivers.values().filter(|receiver| receiver.is_listed && receiver.is_tuned());
            let shown = shown.filter(|_| !local.are_gone);
            shown.map(LocalReceiver::announcement).collect::<Vec<_>>()
        };
        let elsewhere = self.floors.advertised.lock().elsewhere(Instant::now());
        present.extend(elsewhere.into_iter().map(Arc::unwrap_or_clone));
        present.sort_unstable_by(|a, b| {
            let key = |announcement: &Announcement| announcement.vibrator.instance();
            a.vibrator.name().cmp(b.vibrator.name()).then(key(a).cmp(&key(b)))
        });
        present
    }

    /// What the vibrators of each name hear together, as [`PhysicsEngine::tuned`](crate::physics::PhysicsEngine::tuned)
    /// wants it.
    #[must_use]
    pub fn heard_by_name(&self) -> BTreeMap<String, Vec<Pattern>> {
        let mut names: BTreeMap<String, (HashSet<Pattern>, Vec<Pattern>)> = BTreeMap::new();
        for announcement in self.vibrators() {
            let (known, patterns) = names.entry(announcement.vibrator.name().to_owned()).or_default();
            for heard in announcement.heard {
                if known.insert(heard.pattern.clone()) {
                    patterns.push(heard.pattern);
                }
            }
        }
        names.into_iter().map(|(name, (_, patterns))| (name, patterns)).collect()
    }

    /// Announcements of vibrators that were left out because there were too many.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.floors.advertised.lock().left_out()
    }

    /// Announcements that were not believed, because two processes spoke in the name of one.
    #[must_use]
    pub fn implausible(&self) -> u64 {
        self.floors.advertised.lock().implausible()
    }

    /// About how much memory the announcements of other processes take at most, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.floors.advertised.lock().bytes()
    }
}

impl Presence {
    /// The vibrators of this process that rosters show.
    pub(crate) fn local_vibrators(&self) -> Vec<LocalVibrator> {
        let local = self.local.lock();
        let shown = local.receivers.values().filter(|receiver| receiver.is_listed && receiver.is_tuned());
        shown
            .map(|receiver| {
                let Announcement { vibrator, heard, effective_floor, .. } = receiver.announcement();
                let (made_at, ledger) = (receiver.made_at, receiver.inbox.ledger());
                LocalVibrator { vibrator, heard, effective_floor, made_at, ledger }
            })
            .collect()
    }
}
