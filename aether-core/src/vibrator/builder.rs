//! Making a vibrator.

use std::sync::Arc;

use super::{Emitter, Receiver, Tuner, Vibrator};
use crate::aether::Aether;
use crate::amplitude::Floor;
use crate::echo::reflecting;
use crate::inbox::{Inbox, InboxOptions, InboxOptionsError, WhenFull};
use crate::medium::JoinError;
use crate::source::{Sequencer, Source, SourceError};

/// Why a vibrator could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The name is not valid.
    #[error("invalid name")]
    Name(#[from] SourceError),
    /// The options of the inbox are not valid.
    #[error("invalid inbox options")]
    Inbox(#[from] InboxOptionsError),
    /// The channel on which receivers advertise their floors cannot be joined.
    #[error("cannot listen for the floors of receivers")]
    Floors(#[source] JoinError),
}

/// Options for making a vibrator.
#[derive(Debug)]
#[must_use = "nothing is made before create()"]
pub struct VibratorBuilder<'a> {
    name: &'a str,
    inbox: InboxOptions,
    floor: Option<Floor>,
    hears_own: bool,
    observes: bool,
    respects_floors: bool,
    is_listed: bool,
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
            is_listed: true,
        }
    }

    /// The bounds and the discipline of the inbox. Default: [`InboxOptions::interactive`].
    pub fn inbox(mut self, options: InboxOptions) -> Self {
        self.inbox = options;
        self
    }

    /// The noise floor: weaker waves are not heard. Default: the floor of the inbox options, which is open.
    pub fn floor(mut self, floor: Floor) -> Self {
        self.floor = Some(floor);
        self
    }

    /// Whether the vibrator hears the waves that it emits itself. Default: no. It hears its own questions and the waves
    /// of its groups in any case, since they would be lost otherwise.
    pub fn hear_own(mut self, hear: bool) -> Self {
        self.hears_own = hear;
        self
    }

    /// Makes it an observer, for gateways, logs and other programs that only watch. It cannot answer questions, does not
    /// count as a listener for them, and also hears the answers that askers got on its channels. Emitters never wait for
    /// it, whatever its inbox options say: a full observer sheds its weakest waves and counts them. It cannot be a member
    /// of a group.
    pub fn observe(mut self) -> Self {
        self.observes = true;
        self
    }

    /// Respects the floors that overloaded receivers advertise. A wave that all receivers of its channel would shed is
    /// handed back as [`EmitError::BelowFloor`](crate::EmitError::BelowFloor) and counted as `shed_at_source`; it costs
    /// neither the receivers nor the network anything. Ordinary term: back-pressure. Default: no.
    ///
    /// A wave is stopped only if at least one receiver of its channel is known and all known ones have advertised a floor
    /// above the wave. Every member of a group counts, observers do not. Over NATS, receivers that do not use Aether are
    /// unknown; a receiver that was tuned while this connection was broken becomes known within ten seconds; and nothing
    /// is stopped in the first two seconds.
    ///
    /// Announcements are not authenticated. A forged announcement in a receiver's name never stops a wave that the
    /// receiver would hear, unless it copies the identity of the receiver's process as well; that is noticed with the
    /// process's next announcement, and then nothing is stopped for 40 s. A program that may publish can invent
    /// receivers, and so have waves stopped that no vibrator hears, or none at all. So respect floors only where all
    /// programs that may publish are trusted.
    ///
    /// Cost: reading a flag for each wave, and a look into an index while any receiver is overloaded. It never waits for
    /// announcements, and its cost does not grow with the receivers of other channels.
    pub fn respect_floor(mut self) -> Self {
        self.respects_floors = true;
        self
    }

    /// Keeps it off all [rosters](crate::presence::Roster) and out of NATS service discovery. Senders that respect floors
    /// still learn what it hears, since they could otherwise stop its waves. Observers are never on a roster.
    pub fn unlisted(mut self) -> Self {
        self.is_listed = false;
        self
    }

    /// Makes the vibrator. That works on a closed or closing medium, too: the vibrator then receives `None`, and emitting
    /// and tuning fail with `Closed`.
    ///
    /// # Errors
    /// [`CreateError`] if the name or an inbox option is not valid, with what is allowed, or if floors are to be respected
    /// and the medium is closed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing was made.
    pub async fn create(self, aether: &Aether) -> Result<Vibrator, CreateError> {
        let source = Source::new(self.name)?;
        let options = match self.floor {
            Some(floor) => self.inbox.floor(floor),
            None => self.inbox,
        };
        aether.reflector().note_runtime();
        let is_overloaded = Arc::default();
        // The losses of an observer concern nobody else: they are not reflected.
        let (options, on_shed) = options.revocable();
        let options = match self.observes {
            // Emitters never wait for an observer.
            true => options.when_full(WhenFull::Shed),
            false => {
                let options = reflecting(options, aether.reflector(), source.name());
                aether.presence().watching(options, source.instance(), &is_overloaded)
            }
        };
        let inbox = Arc::new(Inbox::new(options)?);
        if self.respects_floors {
            aether.presence().respect(aether.bus()).await.map_err(CreateError::Floors)?;
        }
        if !self.observes {
            aether.presence().open(&source, &inbox, is_overloaded, self.is_listed);
        }
        aether.router().open_inbox(source.instance(), source.name(), Arc::clone(&inbox));
        let emitter = Emitter::new(aether.clone(), Arc::new(Sequencer::new(source)), self.respects_floors);
        let tuner = Tuner::new(emitter.clone(), inbox, self.hears_own, self.observes);
        Ok(Vibrator::new(emitter, Receiver::new(tuner, on_shed)))
    }
}
