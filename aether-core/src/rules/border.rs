//! The border of a process: its rules, which can change, and what they refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use super::refusal::Refusal;
#[cfg(feature = "schema")]
use super::schema::Schemas;
use super::set::{Rules, Side};
use crate::channel::Pattern;
use crate::wave::Wave;

/// Checks what passes into and out of a process. Clones share the rules and the counts, so keep one to change the rules.
/// The default has no rules and no schemas, and allows everything until it gets some.
#[derive(Debug, Clone, Default)]
pub struct Border {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    rules: ArcSwapOption<Rules>,
    #[cfg(feature = "schema")]
    schemas: ArcSwapOption<Schemas>,
    emitted: AtomicU64,
    arrived: AtomicU64,
    misfits: AtomicU64,
    listened: AtomicU64,
}

/// What a border has refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BorderCounts {
    /// Waves and questions of this process, which were handed back.
    pub emitted: u64,
    /// Waves and questions that arrived from other processes, and their source may not emit.
    pub arrived: u64,
    /// Waves and questions that arrived from other processes and do not fit the schema of their channel.
    pub misfits: u64,
    /// Subscriptions of this process.
    pub listened: u64,
}

impl Border {
    /// A border with these rules.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        let border = Self::default();
        border.change(rules);
        border
    }

    /// Uses other rules from now on. Subscriptions that exist stay.
    pub fn change(&self, rules: impl Into<Option<Rules>>) {
        self.shared.rules.store(rules.into().map(Arc::new));
    }

    /// Checks payloads by other schemas from now on; by none if there are none.
    #[cfg(feature = "schema")]
    pub fn check_payloads(&self, schemas: impl Into<Option<Schemas>>) {
        self.shared.schemas.store(schemas.into().map(Arc::new));
    }

    /// The rules as they are now; `None` if everything is allowed.
    #[must_use]
    pub fn rules(&self) -> Option<Rules> {
        self.shared.rules.load().as_deref().cloned()
    }

    /// What was refused since the start.
    #[must_use]
    pub fn refused(&self) -> BorderCounts {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Shared { emitted, arrived, misfits, listened, .. } = &*self.shared;
        let [emitted, arrived, misfits, listened] = [emitted, arrived, misfits, listened].map(count);
        BorderCounts { emitted, arrived, misfits, listened }
    }

    pub(crate) fn may_emit(&self, wave: &Wave) -> Result<(), Refusal> {
        self.fits(wave)?;
        self.shared.rules.load().as_ref().map_or(Ok(()), |rules| rules.admit(wave, Side::Emitter))
    }

    /// Whether a payload fits the schemas of its channel.
    #[cfg_attr(not(feature = "schema"), expect(clippy::unused_self, reason = "there are no schemas"))]
    fn fits(&self, wave: &Wave) -> Result<(), Refusal> {
        #[cfg(feature = "schema")]
        if let Some(schemas) = &*self.shared.schemas.load() {
            return schemas.check(wave);
        }
        let _ = wave;
        Ok(())
    }

    /// Takes back what `may_emit` counted against the rates for a wave that was not emitted after all.
    pub(crate) fn give_back(&self, wave: &Wave) {
        if let Some(rules) = &*self.shared.rules.load() {
            rules.give_back(wave);
        }
    }

    pub(crate) fn count_emitted(&self) {
        self.shared.emitted.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn may_listen(&self, identity: &str, pattern: &Pattern) -> Result<(), Refusal> {
        let Some(rules) = &*self.shared.rules.load() else { return Ok(()) };
        let allowed = rules.may_listen(identity, pattern);
        if allowed.is_err() {
            self.shared.listened.fetch_add(1, Ordering::Relaxed);
        }
        allowed
    }

    /// Removes waves from a network that may not pass, and counts them.
    pub(crate) fn filter(&self, waves: &mut Vec<Wave>) {
        let rules = self.shared.rules.load();
        let refused = |wave: &Wave, refusal: &Refusal, count: &AtomicU64| {
            tracing::debug!(wave = %wave.id(), %refusal, "refused a wave at the border");
            count.fetch_add(1, Ordering::Relaxed);
        };
        waves.retain(|wave| {
            // Those of the framework itself travel on reserved channels.
            if wave.channel().is_reserved() {
                return true;
            }
            // The rules first: they cost less, and bound what a stranger can make this process read.
            let admitted = rules.as_ref().map_or(Ok(()), |rules| rules.admit(wave, Side::Receiver));
            let is_admitted =
                admitted.inspect_err(|refusal| refused(wave, refusal, &self.shared.arrived)).is_ok();
            is_admitted
                && self.fits(wave).inspect_err(|refusal| refused(wave, refusal, &self.shared.misfits)).is_ok()
        });
    }
}
