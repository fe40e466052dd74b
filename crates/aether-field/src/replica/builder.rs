//! Joining a field.

#[cfg(feature = "store")]
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aether_core::{Aether, Amplitude, Vibrator};
use tokio_util::sync::CancellationToken;

use super::error::JoinFieldError;
use super::field::{Field, Running};
use super::peers::{Peers, SILENCE};
use super::shared::Shared;
#[cfg(feature = "store")]
use super::store::Store;
use super::syncing::Syncer;
use super::wire::Channels;
use super::{listening, presence, publishing};
use crate::core::{Identity, Limits, Refusal, State, Trust, WriterId};

/// Peers send a beat every 0.75 to 1.25 s; one lost beat does not count as silence.
const MIN_SILENCE: Duration = Duration::from_secs(2);

/// How a replica joins a field.
#[derive(Debug, Clone)]
#[must_use]
pub struct FieldBuilder {
    field: String,
    replica: String,
    limits: Limits,
    amplitude: Amplitude,
    identity: Option<Identity>,
    trust: Trust,
    silence: Duration,
    #[cfg(feature = "store")]
    path: Option<PathBuf>,
}

impl Field {
    /// Options of a replica of the field of this name. All processes that join a field of one name on one medium share
    /// it.
    pub fn builder(field: &str) -> FieldBuilder {
        FieldBuilder::new(field)
    }
}

impl FieldBuilder {
    fn new(field: &str) -> Self {
        Self {
            field: field.to_owned(),
            replica: format!("field-{field}"),
            limits: Limits::default(),
            amplitude: Amplitude::NORMAL,
            identity: None,
            trust: Trust::none(),
            silence: SILENCE,
            #[cfg(feature = "store")]
            path: None,
        }
    }

    /// Names the replica. Others see the name; it need not be unique. Default: `field-` and the name of the field.
    pub fn replica(mut self, name: &str) -> Self {
        self.replica = name.to_owned();
        self
    }

    /// Sets the bounds. All replicas of a field need the same ones.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the importance of the changes of this replica on the medium. Changes shed under overload are exchanged
    /// later. Default: 0.5.
    pub fn amplitude(mut self, amplitude: Amplitude) -> Self {
        self.amplitude = amplitude;
        self
    }

    /// Makes this the replica of an owner: it can write [owned state](Field::own), and signs its beats. The replica
    /// trusts its own key, if [`FieldBuilder::trust`] does not list its name. Default: none.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Sets whose owned state this replica takes. Default: nobody's. Replicas of one field may trust different owners;
    /// each has the state of those that it trusts.
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Sets how long a peer may be silent before it has left. Peers speak about once a second. At least 2 s;
    /// default: 5 s.
    pub fn silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// Keeps the replica in a file, which is made if it does not exist. One process at a time can have it open.
    #[cfg(feature = "store")]
    pub fn store(mut self, path: impl AsRef<Path>) -> Self {
        self.path = Some(path.as_ref().to_owned());
        self
    }

    /// Joins the field. The entries of the store are readable at once; entries of other replicas follow. Cancel safe.
    ///
    /// # Errors
    /// [`JoinFieldError`] if the name is not allowed in a channel, the medium does not take the subscriptions, or the
    /// store cannot be opened.
    pub async fn join(self, aether: &Aether) -> Result<Field, JoinFieldError> {
        if self.silence < MIN_SILENCE {
            return Err(JoinFieldError::Silence { allowed: MIN_SILENCE });
        }
        let mut trust = self.trust;
        if let Some(identity) = &self.identity {
            check_owner(identity, &self.limits).map_err(JoinFieldError::Identity)?;
            trust = trust.with_self(identity);
        }
        let name = |source| JoinFieldError::Name { name: self.field.clone(), source };
        let channels = Channels::of(&self.field).map_err(name)?;
        // Random, so that a crash that loses the last changes cannot make two changes with one stamp.
        let writer = WriterId(fastrand::u64(1..));
        let sync = channels.sync(writer).map_err(name)?;
        #[cfg(feature = "store")]
        let (state, store) = match &self.path {
            Some(path) => {
                let (state, store) = Store::open(path, writer, self.limits, (&self.field, trust))?;
                (state, Some(store))
            }
            None => (State::new(writer, self.limits).with_trust(&self.field, trust), None),
        };
        #[cfg(not(feature = "store"))]
        let state = State::new(writer, self.limits).with_trust(&self.field, trust);

        // A replica bounds its own traffic, and a delayed change is a divergence.
        let vibrator = Vibrator::builder(&self.replica).unlimited().create(aether).await?;
        vibrator.resonate_on(channels.changes.as_str()).await?;
        vibrator.resonate_on(channels.beats.as_str()).await?;
        vibrator.resonate_on(channels.presence.as_str()).await?;
        vibrator.resonate_on(sync.as_str()).await?;
        let (emitter, receiver) = vibrator.split();
        let shared = Arc::new(Shared::new(
            (self.field, self.replica),
            channels,
            state,
            self.identity,
            Peers::new(self.silence),
            #[cfg(feature = "store")]
            store,
        ));
        if let Some(trouble) = shared.clock_trouble() {
            tracing::warn!(field = shared.field, "{trouble}");
        }
        let syncer = Arc::new(Syncer::new(Arc::clone(&shared), aether.clone(), emitter.clone()));
        let stop = CancellationToken::new();
        let tasks = tokio::spawn({
            let (shared, emitter, syncer, stop) =
                (Arc::clone(&shared), emitter.clone(), Arc::clone(&syncer), stop.clone());
            async move {
                let leaving = emitter.clone();
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    () = syncer.run() => {}
                    // A medium that is closed ends the other tasks as well.
                    _ = presence::repeat(&shared.presence, &shared.channels.presence, &leaving) => {}
                    result = publishing::publish(Arc::clone(&shared), emitter) => {
                        if let Err(error) = result {
                            tracing::debug!(%error, "the field stops sending");
                        }
                    }
                    // Last, because a flood of waves uses up the budget of the task, and the others would never have any.
                    () = listening::listen(Arc::clone(&shared), receiver) => {}
                }
                presence::leave(&shared.presence, &shared.channels.presence, &leaving).await;
                publishing::leave(&shared, &leaving).await;
                shared.close();
            }
        });
        Ok(Field::new(shared, syncer, self.amplitude, Running::new(stop, tasks)))
    }
}

fn check_owner(identity: &Identity, limits: &Limits) -> Result<(), Refusal> {
    match identity.name().len() {
        0 => Err(Refusal::EmptyName),
        bytes if bytes > limits.max_name => Err(Refusal::NameTooLong { bytes, allowed: limits.max_name }),
        _ => Ok(()),
    }
}
