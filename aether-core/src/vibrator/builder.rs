//! How a vibrator is made.

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
    /// The inbox cannot have such bounds.
    #[error("invalid inbox")]
    Inbox(#[from] InboxOptionsError),
    /// The floors of receivers in other processes cannot be heard.
    #[error("the floors of the receivers cannot be heard")]
    Floors(#[source] JoinError),
}

/// How a vibrator shall be.
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

    /// The noise floor: weaker waves are not heard. Default: that of the inbox options, which is open.
    pub fn floor(mut self, floor: Floor) -> Self {
        self.floor = Some(floor);
        self
    }

    /// Whether the vibrator hears the waves that it emits itself. Default: no. Questions and the waves of a group
    /// are heard in any case, or they would be lost.
    pub fn hear_own(mut self, hear: bool) -> Self {
        self.hears_own = hear;
        self
    }

    /// Makes it an observer: it hears what others hear and is nobody that could answer. Questions reach it without a
    /// way to answer them, it does not count as somebody who listens for them, and on the channels it is tuned to it
    /// also hears the answers that askers got. It makes nobody wait, whatever its inbox options say: an observer that is
    /// full sheds its weakest waves and counts them. It cannot be a member of a group. For gateways, logs and whatever else only watches.
    pub fn observe(mut self) -> Self {
        self.observes = true;
        self
    }

    /// Respects the floors that overloaded receivers advertise: a wave that all of those who hear its channel would
    /// shed is handed back as [`EmitError::BelowFloor`](crate::EmitError::BelowFloor) and counted as `shed_at_source`,
    /// and costs neither them nor the network anything. Ordinary term: back-pressure. Default: no.
    ///
    /// A wave is stopped only if somebody is known to hear its channel, and everybody who is known to hear it has
    /// advertised a floor above the wave; every member of a group counts. Observers do not count. Over NATS, those who
    /// do not know Aether are not known; a receiver that was tuned while this connection was broken is known within ten
    /// seconds; and nothing is stopped in the first two seconds.
    ///
    /// Announcements are not authenticated. What others say in a receiver's name never stops a wave that the receiver
    /// would hear, unless they copy the identity of its process as well; that is noticed when it speaks next, and then
    /// nothing is stopped for 40 s. Who may publish can make up a receiver, and so stop waves that no vibrator hears or
    /// have none stopped. So respect floors where those who may publish are trusted with that.
    ///
    /// Cost: a look at a flag for each wave; while any receiver is overloaded, a look into an index. It never waits for
    /// the announcements of others, and does not grow with those who do not hear the channel.
    pub fn respect_floor(mut self) -> Self {
        self.respects_floors = true;
        self
    }

    /// Keeps it off all [rosters](crate::presence::Roster) and out of NATS service discovery. What it
    /// hears is still known to senders that respect floors, which could stop what it is to hear otherwise. Observers are
    /// on no roster in any case.
    pub fn unlisted(mut self) -> Self {
        self.is_listed = false;
        self
    }

    /// Makes the vibrator. On a medium that is closed it is made as well, or while it closes: it receives `None`, and
    /// emitting and tuning fail with `Closed`, as they do with one that was made before.
    ///
    /// # Errors
    /// [`CreateError`] says whether the name or an inbox option is wrong, and what is allowed; or that the medium is
    /// closed, where floors are to be respected.
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
        // Who only observes was not meant to act on what it loses.
        let (options, on_shed) = options.revocable();
        let options = match self.observes {
            // And nobody is to wait for it.
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
