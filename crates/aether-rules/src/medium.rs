//! A medium with a border around it: refuses what may not be emitted or heard before the medium sees it.

mod joined;

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::border::{Border, OnChange};
use crate::refusal::Refusal;
use crate::set::Passage;
use aether_core::medium::{
    Arrival, ArrivalFilter, Carried, Details, ForeignError, Guard, Medium, MediumStatus, Offered, OnRevoked,
    Promises, Reach, Router, Settled, Subscription, Waiting,
};
use aether_core::{Aether, AskError, Channel, ConfirmError, EmitError, FlushError, JoinError, Pattern, Wave};
use joined::Joined;

impl Border {
    /// The border with which a process has connected, if it has one.
    #[must_use]
    pub fn of(aether: &Aether) -> Option<&Self> {
        let guard: &dyn Any = &**aether.guard()?;
        guard.downcast_ref()
    }
}

impl ArrivalFilter for Border {
    fn filter(&self, waves: &mut Vec<Wave>, arrival: Arrival<'_>) {
        if !self.is_open() {
            self.filter_arrived(waves, Passage::In(arrival.pattern, arrival.member));
        }
    }
}

impl Guard for Border {
    fn may_listen(&self, identity: &str, pattern: &Pattern) -> Result<(), ForeignError> {
        Ok(self.may_listen(identity, pattern)?)
    }

    fn admit_stored(&self, wave: &mut Wave) -> Result<(), ForeignError> {
        Ok(self.admit_stored(wave)?)
    }

    fn around(&self, medium: Arc<dyn Medium>, router: Arc<Router>, on_revoked: OnRevoked) -> Arc<dyn Medium> {
        Arc::new(BorderMedium::new(medium, self.clone(), router, on_revoked))
    }
}

/// A refusal as an error of a medium.
impl From<Refusal> for ForeignError {
    fn from(refusal: Refusal) -> Self {
        let is_transient = refusal.is_transient();
        Self::new(refusal).transient(is_transient)
    }
}

/// The medium of a process behind its border.
struct BorderMedium {
    inner: Arc<dyn Medium>,
    border: Border,
    joined: Arc<Joined>,
    /// The border calls it as long as it is here.
    _look_again: Arc<OnChange>,
}

impl BorderMedium {
    /// `on_revoked` is called for each subscription that ends because other rules do not allow it.
    fn new(inner: Arc<dyn Medium>, border: Border, router: Arc<Router>, on_revoked: OnRevoked) -> Self {
        let joined = Arc::new(Joined::new(border.clone(), Arc::clone(&inner), router, on_revoked));
        let looking = Arc::clone(&joined);
        let look_again: Arc<OnChange> = Arc::new(move || looking.look_again());
        border.on_change(&look_again);
        Self { inner, border, joined, _look_again: look_again }
    }

    fn judged(&self, mut wave: Wave) -> Result<Wave, EmitError> {
        // Waves of the framework itself travel on reserved channels.
        if wave.channel().is_reserved() {
            return Ok(wave);
        }
        match self.border.let_out(&mut wave) {
            Ok(()) => Ok(wave),
            Err(refusal) => Err(EmitError::NotAllowed { wave, refusal: Box::new(refusal.into()) }),
        }
    }

    /// As `judged`, for refusals that are handed to the emitter, which are counted.
    fn checked(&self, wave: Wave) -> Result<Wave, EmitError> {
        self.judged(wave).inspect_err(|_| self.border.count_emitted())
    }

    /// Gives back what a wave cost that the medium did not take.
    fn not_taken(&self, mut error: EmitError) -> EmitError {
        if let Some(wave) = error.wave_mut() {
            self.border.give_back(wave);
        }
        error
    }

    #[inline(never)]
    fn carry_checked(&self, wave: Wave) -> Result<Carried, EmitError> {
        self.inner.carry(self.checked(wave)?).map_err(|error| self.not_taken(error))
    }
}

impl fmt::Debug for BorderMedium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BorderMedium").field("inner", &self.inner).field("border", &self.border).finish()
    }
}

/// While the border is open, all is as if it were not there.
impl Medium for BorderMedium {
    fn promises(&self) -> Promises {
        self.inner.promises()
    }

    #[inline]
    fn carry(&self, wave: Wave) -> Result<Carried, EmitError> {
        if self.border.is_open() {
            return self.inner.carry(wave);
        }
        self.carry_checked(wave)
    }

    fn try_carry(&self, wave: Wave) -> Result<Offered, EmitError> {
        if self.border.is_open() {
            return self.inner.try_carry(wave);
        }
        self.inner.try_carry(self.checked(wave)?).map_err(|error| self.not_taken(error))
    }

    fn room_for(&self, wave: &Wave) -> usize {
        self.inner.room_for(wave)
    }

    fn carry_all(&self, waves: &mut VecDeque<Wave>) -> Result<Option<Waiting>, EmitError> {
        if self.border.is_open() {
            return self.inner.carry_all(waves);
        }
        let mut allowed = VecDeque::with_capacity(waves.len());
        let mut refused = None;
        while let Some(wave) = waves.pop_front() {
            match self.judged(wave) {
                Ok(wave) => allowed.push_back(wave),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        let carried = self.inner.carry_all(&mut allowed).map_err(|error| self.not_taken(error));
        let is_its_turn = allowed.is_empty() && matches!(carried, Ok(None));
        match refused {
            Some(error) if is_its_turn => {
                self.border.count_emitted();
                return Err(error);
            }
            // It comes again, behind those that were not carried.
            Some(error) => error.into_wave().into_iter().for_each(|wave| waves.push_front(wave)),
            None => {}
        }
        for wave in allowed.into_iter().rev() {
            self.border.give_back(&wave);
            waves.push_front(wave);
        }
        carried
    }

    fn join(&self, subscription: Arc<Subscription>) -> BoxFuture<'_, Result<(), JoinError>> {
        match subscription.pattern().is_reserved() {
            true => self.inner.join(subscription),
            false => Box::pin(self.joined.join(subscription)),
        }
    }

    fn leave(&self, subscription: &Subscription) {
        self.joined.forget(subscription.id());
        self.inner.leave(subscription);
    }

    fn ask(&self, question: Wave, patience: Duration) -> BoxFuture<'_, Result<Wave, AskError>> {
        if self.border.is_open() {
            return self.inner.ask(question, patience);
        }
        match self.checked(question) {
            Ok(question) => Box::pin(async move {
                self.inner.ask(question, patience).await.map_err(|error| match error {
                    AskError::Emit(error) => self.not_taken(error).into(),
                    error => error,
                })
            }),
            Err(error) => Box::pin(std::future::ready(Err(error.into()))),
        }
    }

    fn notify(&self, notices: Vec<Wave>) -> BoxFuture<'_, Vec<Reach>> {
        self.inner.notify(notices)
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        self.inner.flush()
    }

    fn carry_confirmed(&self, wave: Wave) -> BoxFuture<'_, Result<Settled, ConfirmError>> {
        if self.border.is_open() {
            return self.inner.carry_confirmed(wave);
        }
        match self.checked(wave) {
            Ok(wave) => Box::pin(async move {
                self.inner.carry_confirmed(wave).await.map_err(|error| match error {
                    ConfirmError::Emit(error) => self.not_taken(error).into(),
                    error => error,
                })
            }),
            Err(error) => Box::pin(std::future::ready(Err(error.into()))),
        }
    }

    fn close(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        self.inner.close()
    }

    fn status(&self) -> MediumStatus {
        let mut status = self.inner.status();
        let refused = self.border.refused();
        status.refused_by_rules += refused.arrived;
        status.refused_by_schema += refused.misfits;
        status
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
