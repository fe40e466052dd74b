//! The roster: the present vibrators and their subscriptions. Ordinary term: a service registry without a server.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tokio::sync::watch;

use super::local_receivers::LocalReceiver;
use super::{Announcement, Presence};
use crate::bus::Lifeline;
use crate::channel::Pattern;
use crate::clock;
use crate::medium::LocalVibrator;

/// The announced vibrators and their subscriptions; made by [`Aether::roster`](crate::Aether::roster).
///
/// Lists vibrators that are tuned to anything, except observers and [unlisted](crate::VibratorBuilder::unlisted) ones.
/// A vibrator that leaves announces that; one that crashes is listed for 40 s, three heartbeats. At most 4096 vibrators
/// of other processes are known, with 16 MiB of subscriptions; further ones are counted in [`Roster::left_out`].
/// Without a list of signers announcements are not authenticated: a peer that may publish can make up vibrators. A vibrator
/// whose name is used by two processes is listed twice.
#[derive(Debug, Clone)]
pub struct Roster {
    floors: Arc<Presence>,
    changes: watch::Receiver<u64>,
    /// Keeps the `Aether` alive, which processes announcements.
    _aether: Lifeline,
}

impl Roster {
    pub(crate) fn new(floors: &Arc<Presence>, aether: Lifeline) -> Self {
        let mut changes = floors.changes.subscribe();
        changes.mark_changed();
        Self { floors: Arc::clone(floors), changes, _aether: aether }
    }

    /// Returns when any vibrator's subscriptions have changed since the last call; the first call returns at once. The
    /// expiry of a crashed vibrator is not reported, since it is only a matter of time.
    ///
    /// # Cancel safety
    /// If cancelled before completion, no change is missed.
    pub async fn changed(&mut self) {
        // The sender lives as long as the `Aether`, which this keeps alive.
        let _ = self.changes.changed().await;
    }

    /// The present vibrators, by name and instance.
    #[must_use]
    pub fn vibrators(&self) -> Vec<Announcement> {
        let mut present = {
            let local = self.floors.local.lock();
            let shown = local.shown().filter(|_| !local.have_left);
            shown.map(LocalReceiver::announcement).collect::<Vec<_>>()
        };
        let elsewhere = self.floors.advertised.lock().elsewhere(clock::now());
        present.extend(elsewhere.into_iter().map(Arc::unwrap_or_clone));
        present.sort_unstable_by(|a, b| {
            let key = |announcement: &Announcement| announcement.vibrator.instance();
            a.vibrator.name().cmp(b.vibrator.name()).then(key(a).cmp(&key(b)))
        });
        present
    }

    /// The number of present vibrators. Cheaper than [`vibrators`](Self::vibrators), which copies what each of them hears.
    #[must_use]
    pub fn count(&self) -> usize {
        let here = {
            let local = self.floors.local.lock();
            if local.have_left { 0 } else { local.shown().count() }
        };
        here + self.floors.advertised.lock().elsewhere(clock::now()).len()
    }

    /// The combined patterns of the vibrators of each name, as input for
    /// `PhysicsEngine::tuned`.
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

    /// The number of announcements left out because there were too many vibrators.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.floors.advertised.lock().left_out()
    }

    /// The number of announcements rejected because two processes used one identity.
    #[must_use]
    pub fn implausible(&self) -> u64 {
        self.floors.advertised.lock().implausible()
    }

    /// Approximate upper bound on the memory used by announcements of other processes, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.floors.advertised.lock().bytes()
    }
}

impl Presence {
    /// The vibrators of this process that rosters list.
    pub(crate) fn local_vibrators(&self) -> Vec<LocalVibrator> {
        let local = self.local.lock();
        local
            .shown()
            .map(|receiver| {
                let Announcement { vibrator, heard, effective_floor, .. } = receiver.announcement();
                let (made_at, ledger) = (receiver.made_at, receiver.inbox.ledger());
                LocalVibrator { vibrator, heard, effective_floor, made_at, ledger }
            })
            .collect()
    }
}
