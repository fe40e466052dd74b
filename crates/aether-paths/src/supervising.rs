//! Follows which paths stand, chooses one of them, and tells the others.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::sync::watch;
use tokio::time::timeout;

use super::beats::beat;
use super::choosing::{Breaker, choose};
use super::shared::PathsShared;
use aether_core::Source;
use aether_core::clock::{self, Instant, sleep_until};
use aether_core::medium::Sequencer;
use aether_link::Turn;

/// How long waves wait until those before them have arrived by another path.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(1);

/// The connection of each path; `None` if it has not connected, or has none.
type Connections = Vec<Option<watch::Receiver<bool>>>;

impl PathsShared {
    /// Chooses the first path.
    pub(super) fn begin(&self) {
        let now = clock::now();
        let first = self.media().map(|(path, _)| path).next().unwrap_or(0);
        let current = choose(&self.breakers.lock(), first, now, |_| true);
        self.use_path(current);
    }

    fn use_path(&self, path: usize) {
        self.current.store(path, Ordering::Release);
        self.give_turn_if_standing(path);
        self.note_standing();
    }

    /// By a path that is broken nothing leaves: some media would still take waves, and lose them. By one that is back
    /// nothing leaves for a moment, until all others are heard by it again: who is not back yet would miss it.
    fn give_turn_if_standing(&self, path: usize) -> bool {
        let now = clock::now();
        let breaker = self.breakers.lock().get(path).copied();
        let may_send = breaker.is_some_and(|breaker| {
            breaker.stands()
                && (!breaker.is_fresh(now) || self.agreement.has_heard_all(path, breaker.since()))
        });
        self.outbox.give_turn(Turn { path: may_send.then_some(path), is_last: false })
    }

    fn any_is_fresh(&self, now: Instant) -> bool {
        self.breakers.lock().iter().any(|breaker| breaker.is_fresh(now))
    }

    fn note_standing(&self) {
        let any_stands = self.breakers.lock().iter().any(Breaker::stands);
        self.stands.send_if_modified(|stands| {
            let is_changed = std::mem::replace(stands, any_stands) != any_stands;
            self.connects.fetch_add(u64::from(is_changed && any_stands), Ordering::Relaxed);
            is_changed
        });
    }

    /// Looks at all connections. Returns the path to use, and whether this process can use each path.
    fn look(&self, connections: &mut Connections, now: Instant) -> (usize, Vec<bool>) {
        self.agreement.forget_silent(now);
        let agreed = self.agreement.agreed(now);
        let (next, is_changed, usable) = {
            let mut breakers = self.breakers.lock();
            let stood: Vec<bool> = breakers.iter().map(Breaker::stands).collect();
            let places = self.paths.iter().zip(connections).zip(breakers.iter_mut());
            for ((path, connection), breaker) in places {
                let Some(medium) = path.medium.get() else { continue };
                if connection.is_none() {
                    *connection = medium.reaches_others();
                }
                breaker.note(connection.as_mut().is_none_or(|reached| *reached.borrow_and_update()), now);
            }
            let current = self.current.load(Ordering::Acquire);
            let is_agreed = |path: usize| agreed.get(path).is_some_and(|agreed| *agreed);
            let next = choose(&breakers, current, now, is_agreed);
            let usable = breakers.iter().enumerate();
            let usable =
                usable.map(|(path, breaker)| breaker.stands() && self.agreement.hears_all(path)).collect();
            let is_changed = breakers.iter().map(Breaker::stands).ne(stood);
            (next, is_changed, usable)
        };
        if is_changed {
            self.note_standing();
            self.moved();
        }
        (next, usable)
    }

    /// Uses another path. Waves on their way by a connected path arrive first, so that they keep their order.
    async fn switch(&self, next: usize) {
        let (before, medium) = self.current();
        if next == before {
            if self.give_turn_if_standing(next) {
                self.moved();
            }
            return;
        }
        if self.stands(before) {
            self.outbox.give_turn(Turn { path: None, is_last: false });
            // Others may have noticed a broken path first.
            let _ = timeout(HAND_OVER_WITHIN, medium.flush()).await;
        }
        self.switches.fetch_add(1, Ordering::Relaxed);
        self.use_path(next);
        self.report(before, next);
        self.moved();
    }

    fn report(&self, before: usize, next: usize) {
        let url = |path: usize| self.paths.get(path).map_or("", |path| &*path.url);
        let (from, to) = (url(before), url(next));
        match (self.stands(before), self.agreement.cut_off(before, clock::now())) {
            (false, _) => {
                let unconfirmed = self.medium(before).map_or(0, |medium| medium.status().unconfirmed);
                tracing::warn!(
                    from,
                    to,
                    unconfirmed,
                    "a path broke: waves go by another one; those on their way by it may be lost"
                );
            }
            (true, cut_off @ 1..) => {
                tracing::warn!(from, to, cut_off, "a path does not reach everybody: waves go by another one");
            }
            (true, 0) => tracing::info!(from, to, "a better path has reconnected: waves go by it"),
        }
    }

    /// When something changes by itself: the end of the first trial.
    fn next_change(&self, now: Instant) -> Option<Instant> {
        let breakers = self.breakers.lock().clone();
        let ends = breakers.iter().flat_map(|breaker| [breaker.trial_end(), breaker.fresh_end()]).flatten();
        ends.filter(|end| *end > now).chain(self.agreement.next_change(now)).min()
    }
}

/// Supervises the paths until they end.
pub(super) async fn supervise(shared: Arc<PathsShared>) {
    let (mut moves, mut ending) = (shared.moves.subscribe(), shared.ending.subscribe());
    let mut connections: Connections = shared.paths.iter().map(|_| None).collect();
    let sequencer = Sequencer::new(Source::framework());
    let (mut told, mut next_beat) = (Vec::new(), clock::now());
    loop {
        moves.borrow_and_update();
        let now = clock::now();
        let (next, usable) = shared.look(&mut connections, now);
        // The others learn of a change before this process hands over.
        if usable != told || now >= next_beat {
            beat(&shared, &sequencer, &usable);
            let is_fresh = shared.any_is_fresh(now);
            next_beat =
                now + if is_fresh { shared.agreement.every_when_fresh() } else { shared.agreement.every() };
            told = usable;
        }
        tokio::select! {
            biased;
            _ = ending.wait_for(|ending| *ending) => return,
            () = shared.switch(next) => {}
        }
        let until = shared.next_change(now).map_or(next_beat, |change| change.min(next_beat));
        let changes = connections.iter_mut().flatten().map(|connection| Box::pin(changed(connection)));
        let changes: Vec<_> = changes.collect();
        let any_changes = async {
            match changes.is_empty() {
                true => std::future::pending().await,
                false => drop(select_all(changes).await),
            }
        };
        tokio::select! {
            biased;
            _ = ending.wait_for(|ending| *ending) => return,
            () = any_changes => {}
            _ = moves.changed() => {}
            () = sleep_until(Some(until)) => {}
        }
    }
}

/// Waits for a change. A medium that has ended changes no more.
async fn changed(connection: &mut watch::Receiver<bool>) {
    if connection.changed().await.is_err() {
        std::future::pending().await
    }
}
