//! A medium with a border around it: refuses what may not be emitted or heard before the medium sees it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::{
    AskError, Carried, ConfirmError, EmitError, FlushError, JoinError, Medium, MediumStatus, Offered,
    PathStatus, Promises, Reach, Settled, Subscription, Waiting,
};
use crate::rules::Border;
use crate::wave::Wave;

#[derive(Debug)]
pub(crate) struct BorderMedium {
    inner: Arc<dyn Medium>,
    border: Border,
}

impl BorderMedium {
    pub(crate) fn new(inner: Arc<dyn Medium>, border: Border) -> Self {
        Self { inner, border }
    }

    fn judged(&self, wave: Wave) -> Result<Wave, EmitError> {
        // Those of the framework itself travel on reserved channels.
        if wave.channel().is_reserved() {
            return Ok(wave);
        }
        match self.border.may_emit(&wave) {
            Ok(()) => Ok(wave),
            Err(refusal) => Err(EmitError::NotAllowed { wave, refusal: Box::new(refusal) }),
        }
    }

    /// As `judged`, for refusals that are handed to the emitter, which are counted.
    fn checked(&self, wave: Wave) -> Result<Wave, EmitError> {
        self.judged(wave).inspect_err(|_| self.border.count_emitted())
    }
}

impl Medium for BorderMedium {
    fn promises(&self) -> Promises {
        self.inner.promises()
    }

    fn carry(&self, wave: Wave) -> Result<Carried, EmitError> {
        self.inner.carry(self.checked(wave)?)
    }

    fn try_carry(&self, wave: Wave) -> Result<Offered, EmitError> {
        self.inner.try_carry(self.checked(wave)?)
    }

    fn room_for(&self, wave: &Wave) -> usize {
        self.inner.room_for(wave)
    }

    fn carry_all(&self, waves: &mut VecDeque<Wave>) -> Result<Option<Waiting>, EmitError> {
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
        let carried = self.inner.carry_all(&mut allowed);
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
        let allowed = match subscription.pattern().is_reserved() {
            true => Ok(()),
            false => self.border.may_listen(subscription.name(), subscription.pattern()),
        };
        match allowed {
            Ok(()) => self.inner.join(subscription),
            Err(refusal) => Box::pin(std::future::ready(Err(JoinError::NotAllowed(Box::new(refusal))))),
        }
    }

    fn leave(&self, subscription: &Subscription) {
        self.inner.leave(subscription);
    }

    fn ask(&self, question: Wave, patience: Duration) -> BoxFuture<'_, Result<Wave, AskError>> {
        match self.checked(question) {
            Ok(question) => self.inner.ask(question, patience),
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
        match self.checked(wave) {
            Ok(wave) => self.inner.carry_confirmed(wave),
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

    fn paths(&self) -> Vec<PathStatus> {
        self.inner.paths()
    }

    fn missing_keys(&self) -> Vec<(u64, u64)> {
        self.inner.missing_keys()
    }

    fn unknown_signers(&self) -> Vec<(u64, u64)> {
        self.inner.unknown_signers()
    }
}
