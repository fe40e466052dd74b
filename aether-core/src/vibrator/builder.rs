//! Making a vibrator.

use std::sync::Arc;

use super::{Emitter, Receiver, Tuner, Vibrator};
use crate::aether::Aether;
use crate::amplitude::Floor;
use crate::echo::reflecting;
use crate::emission::EmissionRate;
use crate::inbox::{Inbox, InboxOptions, InboxOptionsError, WhenFull};
use crate::medium::JoinError;
use crate::source::{Sequencer, Source, SourceError};

/// Error when making a vibrator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The name is invalid.
    #[error(transparent)]
    Name(#[from] SourceError),
    /// The inbox options are invalid.
    #[error(transparent)]
    Inbox(#[from] InboxOptionsError),
    /// The medium refused the subscription to the floor announcements of receivers.
    #[error("cannot subscribe to the floor announcements of receivers")]
    Floors(#[source] JoinError),
}

/// Options for making a vibrator.
#[derive(Debug)]
#[must_use = "has no effect until create() is called"]
pub struct VibratorBuilder<'a> {
    name: &'a str,
    inbox: InboxOptions,
    floor: Option<Floor>,
    hears_own: bool,
    observes: bool,
    respects_floors: bool,
    rate: Rate,
    is_listed: bool,
}

/// The limit of what it emits.
#[derive(Debug)]
enum Rate {
    OfAether,
    Own(EmissionRate),
    Unlimited,
}

impl Vibrator {
    /// Makes a vibrator with default options. The name appears in logs, metrics and ids; it need not be unique.
    ///
    /// # Errors
    /// [`CreateError::Name`] if the name is empty, longer than 128 bytes or has control characters.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing was made.
    pub async fn create(name: &str, aether: &Aether) -> Result<Self, CreateError> {
        Self::builder(name).create(aether).await
    }

    /// Makes a vibrator with options.
    pub fn builder(name: &str) -> VibratorBuilder<'_> {
        VibratorBuilder::new(name)
    }
}

impl<'a> VibratorBuilder<'a> {
    pub(super) fn new(name: &'a str) -> Self {
        Self {
            name,
            inbox: InboxOptions::default(),
            floor: None,
            hears_own: false,
            observes: false,
            respects_floors: false,
            rate: Rate::OfAether,
            is_listed: true,
        }
    }

    /// Sets the bounds and the discipline of the inbox. Default: [`InboxOptions::interactive`].
    pub fn inbox(mut self, options: InboxOptions) -> Self {
        self.inbox = options;
        self
    }

    /// Sets the noise floor: weaker waves are not received. Default: the floor of the inbox options, which is open.
    pub fn floor(mut self, floor: Floor) -> Self {
        self.floor = Some(floor);
        self
    }

    /// Sets whether the vibrator receives its own waves. Default: no. It always receives its own questions and the
    /// waves of its groups, because they might otherwise have no receiver.
    pub fn hear_own(mut self, hear: bool) -> Self {
        self.hears_own = hear;
        self
    }

    /// Makes the vibrator an observer, for gateways, logs and other programs that only watch. An observer cannot answer
    /// questions, does not count as a receiver of them, and also receives the answers given on its channels. Emitters
    /// never wait for it, regardless of its inbox options: a full observer sheds its weakest waves and counts them. It
    /// cannot be a member of a group.
    pub fn observe(mut self) -> Self {
        self.observes = true;
        self
    }

    /// Respects the floors advertised by overloaded receivers. Ordinary term: back-pressure. A wave that all receivers
    /// of its channel would shed is returned as [`EmitError::BelowFloor`](crate::EmitError::BelowFloor) and counted as
    /// `shed_at_source`. It costs neither receivers nor network anything. Default: no.
    ///
    /// A wave is stopped only if at least one receiver of its channel is known, and all known ones have advertised a
    /// floor above the wave. Every member of a group counts; observers do not. Over NATS, receivers that do not use
    /// Aether are unknown. A receiver that subscribed while this connection was broken becomes known within ten
    /// seconds. Nothing is stopped in the first two seconds.
    ///
    /// Announcements are not authenticated. A forged announcement in the name of a receiver does not stop a wave that
    /// the receiver would accept, unless the forgery also copies the identity of the receiver's process. The next
    /// announcement of that process reveals the copy, and then nothing is stopped for 40 s. A program that may publish
    /// can invent receivers, and thereby stop waves that have no real receiver, or keep waves from being stopped.
    /// Respect floors only if all programs that may publish are trusted.
    ///
    /// Cost: one read of a flag per wave, and an index look-up while any receiver is overloaded. An emit never waits
    /// for announcements, and its cost does not grow with the receivers of other channels.
    pub fn respect_floor(mut self) -> Self {
        self.respects_floors = true;
        self
    }

    /// Limits how many waves the vibrator emits in a time, questions included; answers, echoes and relayed waves are not
    /// limited. Default: the limit of the [`AetherBuilder::emission_rate`](crate::AetherBuilder::emission_rate), or none.
    /// Cost: a lock for each wave; without a limit none.
    ///
    /// Beyond the limit an emit waits for its turn, the strongest wave first. If that does not come within the
    /// [patience](EmissionRate::patience) of the limit, or 1024 stronger ones wait, it fails with
    /// [`EmitError::RateLimited`](crate::EmitError::RateLimited), which hands the wave back, and is counted as
    /// [`rate_limited`](super::emitter::EmitterAccount::rate_limited). [`try_emit`](Emitter::try_emit) does
    /// not wait. [`emit_all`](Emitter::emit_all) emits one wave after the other.
    pub fn rate(mut self, rate: EmissionRate) -> Self {
        self.rate = Rate::Own(rate);
        self
    }

    /// Emits without a limit, also where the `Aether` has one: for traffic that bounds itself, such as a replica's.
    pub fn unlimited(mut self) -> Self {
        self.rate = Rate::Unlimited;
        self
    }

    /// Keeps the vibrator off all [rosters](crate::presence::Roster) and out of NATS service discovery. Its
    /// subscriptions are still announced to senders that respect floors, because they could otherwise stop its waves.
    /// Observers are never on a roster.
    pub fn unlisted(mut self) -> Self {
        self.is_listed = false;
        self
    }

    /// Makes the vibrator. This also succeeds on a closed or closing medium: the vibrator then receives `None`, and
    /// emitting and subscribing fail with `Closed`.
    ///
    /// # Errors
    /// [`CreateError`] if the name or an inbox option is invalid, or if the vibrator respects floors and the medium is
    /// closed. The error states the allowed values.
    ///
    /// # Cancel safety
    /// If cancelled before completion, no vibrator was made.
    pub async fn create(self, aether: &Aether) -> Result<Vibrator, CreateError> {
        let source = Source::new(self.name)?;
        let rate = match &self.rate {
            Rate::OfAether => aether.emission_rate(),
            Rate::Own(rate) => Some(rate.clone()),
            Rate::Unlimited => None,
        };
        let sequencer = Arc::new(Sequencer::new(source.clone()));
        let emitter = Emitter::new(aether.clone(), sequencer, self.respects_floors, rate);
        let receiver = self.receiver(source, emitter.clone()).await?;
        Ok(Vibrator::new(emitter, receiver))
    }

    /// Makes another receiver for an emitter, with an inbox of its own. A service uses it to keep channels apart: a
    /// full inbox of one receiver leaves the others alone.
    ///
    /// The receiver does not hear the emitter's own waves (unless [`hear_own`](Self::hear_own) is set), and answers to
    /// questions that it receives carry the emitter's name. On rosters and in accounts it is a vibrator of its own,
    /// with the name of this builder. [`respect_floor`](Self::respect_floor) has no effect, because the emitter exists.
    ///
    /// # Errors
    /// [`CreateError`] if the name or an inbox option is invalid.
    ///
    /// # Cancel safety
    /// If cancelled before completion, no receiver was made.
    pub async fn create_beside(mut self, emitter: &Emitter) -> Result<Receiver, CreateError> {
        self.respects_floors = false;
        let source = Source::new(self.name)?;
        self.receiver(source, emitter.clone()).await
    }

    /// Makes the inbox and its receiver. `source` names it on rosters and in accounts.
    async fn receiver(self, source: Source, emitter: Emitter) -> Result<Receiver, CreateError> {
        let aether = emitter.aether().clone();
        let options = match self.floor {
            Some(floor) => self.inbox.floor(floor),
            None => self.inbox,
        };
        aether.reflector().note_runtime();
        let is_overloaded = Arc::default();
        // The losses of an observer concern no sender, so they are not reflected.
        let (options, on_shed) = options.revocable();
        let options = match self.observes {
            // Emitters never wait for an observer.
            true => options.when_full(WhenFull::Shed),
            false => {
                let options = reflecting(options, aether.reflector(), source.name());
                aether.presence().watching(options.in_turns(), source.instance(), &is_overloaded)
            }
        };
        let control = options.control().cloned();
        let inbox = Arc::new(Inbox::new(options)?);
        if let Some(control) = control {
            control.add(Arc::clone(&inbox) as _);
        }
        if self.respects_floors {
            aether.presence().respect(aether.bus()).await.map_err(CreateError::Floors)?;
        }
        if !self.observes {
            aether.presence().open(&source, &inbox, is_overloaded, self.is_listed);
        }
        aether.router().open_inbox(source.instance(), source.name(), Arc::clone(&inbox));
        let tuner = Tuner::new(source, emitter, inbox, self.hears_own, self.observes);
        Ok(Receiver::new(tuner, on_shed))
    }
}
