//! A medium that notes what it is given, around the one of a process.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aether_core::medium::{
    Carried, Details, Medium, MediumStatus, Offered, Promises, Reach, Settled, Subscription, Waiting,
};
use aether_core::{AskError, Channel, ConfirmError, EmitError, FlushError, JoinError, Wave};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::epoch::Epoch;
use super::sums::{ConnectionId, Sums};

/// The medium of one connection.
pub(super) struct Offering {
    pub(super) inner: Arc<dyn Medium>,
    pub(super) connection: ConnectionId,
    pub(super) epoch: Epoch,
    pub(super) sums: Arc<Mutex<Sums>>,
}

impl Offering {
    fn note<T>(
        &self,
        wave: Wave,
        pass: impl FnOnce(Wave) -> Result<T, EmitError>,
        is_taken: impl FnOnce(&T) -> bool,
    ) -> Result<T, EmitError> {
        let noted = wave.clone();
        // Before it is passed on: it may be shed at once.
        self.sums.lock().offers(self.connection, &noted, self.epoch.now());
        let passed = pass(wave);
        match &passed {
            Ok(passed) if is_taken(passed) => self.sums.lock().takes(self.connection, &noted),
            Ok(_) => {}
            Err(_) => self.sums.lock().refuses(self.connection, &noted),
        }
        passed
    }
}

impl fmt::Debug for Offering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Medium for Offering {
    fn promises(&self) -> Promises {
        self.inner.promises()
    }

    fn carry(&self, wave: Wave) -> Result<Carried, EmitError> {
        self.note(wave, |wave| self.inner.carry(wave), |carried| matches!(carried, Carried::Done(_)))
    }

    fn try_carry(&self, wave: Wave) -> Result<Offered, EmitError> {
        self.note(wave, |wave| self.inner.try_carry(wave), |_| true)
    }

    fn room_for(&self, wave: &Wave) -> usize {
        self.inner.room_for(wave)
    }

    fn carry_all(&self, waves: &mut VecDeque<Wave>) -> Result<Option<Waiting>, EmitError> {
        let given: Vec<Wave> = waves.iter().cloned().collect();
        let now = self.epoch.now();
        given.iter().for_each(|wave| self.sums.lock().offers(self.connection, wave, now));
        let carried = self.inner.carry_all(waves);
        let mut sums = self.sums.lock();
        match &carried {
            Ok(None) => given.iter().for_each(|wave| sums.takes(self.connection, wave)),
            // Nobody knows which of them wait.
            Ok(Some(_)) => waves.iter().for_each(|wave| sums.refuses(self.connection, wave)),
            Err(_) => {
                let refused = given.len() - waves.len();
                given.iter().take(refused.saturating_sub(1)).for_each(|wave| {
                    sums.takes(self.connection, wave);
                });
                given.iter().skip(refused.saturating_sub(1)).for_each(|wave| {
                    sums.refuses(self.connection, wave);
                });
            }
        }
        drop(sums);
        carried
    }

    fn join(&self, subscription: Arc<Subscription>) -> BoxFuture<'_, Result<(), JoinError>> {
        if subscription.group().is_none() {
            self.sums.lock().joins(self.connection, subscription.pattern(), subscription.id());
        }
        self.inner.join(subscription)
    }

    fn leave(&self, subscription: &Subscription) {
        if subscription.group().is_none() {
            self.sums.lock().leaves(self.connection, subscription.pattern(), subscription.id());
        }
        self.inner.leave(subscription);
    }

    fn ask(&self, question: Wave, patience: Duration) -> BoxFuture<'_, Result<Wave, AskError>> {
        self.inner.ask(question, patience)
    }

    fn notify(&self, notices: Vec<Wave>) -> BoxFuture<'_, Vec<Reach>> {
        self.inner.notify(notices)
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        self.inner.flush()
    }

    fn carry_confirmed(&self, wave: Wave) -> BoxFuture<'_, Result<Settled, ConfirmError>> {
        // Whether it was taken is not known if that fails.
        self.sums.lock().offers(self.connection, &wave, self.epoch.now());
        self.inner.carry_confirmed(wave)
    }

    fn close(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        self.inner.close()
    }

    fn status(&self) -> MediumStatus {
        self.inner.status()
    }

    fn connection(&self) -> Option<watch::Receiver<bool>> {
        self.inner.connection()
    }

    fn reaches_others(&self) -> Option<watch::Receiver<bool>> {
        self.inner.reaches_others()
    }

    fn keeps(&self, channel: &Channel) -> bool {
        self.inner.keeps(channel)
    }

    fn details(&self, into: &mut Details) {
        self.inner.details(into);
    }
}
