//! The border of a process: its rules, which can change, and what they refused.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use super::refusal::Refusal;
use super::refusal_log::RefusalLog;
#[cfg(feature = "schema")]
use super::schema::Schemas;
use super::set::{Passage, Rules};
use aether_core::{Pattern, Wave};

/// Checks what passes into and out of a process. Clones share the rules and the counts, so keep one to change the rules.
/// The default has no rules and no schemas, and allows everything until it gets some.
#[derive(Debug, Clone, Default)]
pub struct Border {
    shared: Arc<Shared>,
}

/// A function that looks at subscriptions again after a change.
pub(crate) type OnChange = dyn Fn() + Send + Sync;

#[derive(Default)]
struct Shared {
    /// Whether there are rules or schemas. All that is looked at while there are none.
    is_guarded: AtomicBool,
    rules: ArcSwapOption<Rules>,
    #[cfg(feature = "schema")]
    schemas: ArcSwapOption<Schemas>,
    /// Called after each change of the rules. The lock is held while they change.
    changing: Mutex<Vec<Weak<OnChange>>>,
    emitted: AtomicU64,
    arrived: AtomicU64,
    misfits: AtomicU64,
    listened: AtomicU64,
    revoked: AtomicU64,
    log: RefusalLog,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Shared {
    fn note_guard(&self) {
        let is_guarded = self.rules.load().is_some();
        #[cfg(feature = "schema")]
        let is_guarded = is_guarded || self.schemas.load().is_some();
        self.is_guarded.store(is_guarded, Ordering::Release);
    }
}

/// The waves and subscriptions that a border has refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BorderCounts {
    /// Waves and questions of this process, which were handed back.
    pub emitted: u64,
    /// Waves and questions that arrived over a network, or that a durable consumer read, and that their source may not
    /// emit. A network that delivers a wave once for each pattern has it refused once for each.
    pub arrived: u64,
    /// The same, for those that do not fit the schema of their channel.
    pub misfits: u64,
    /// Subscriptions of this process that were refused.
    pub listened: u64,
    /// Subscriptions of this process that ended because other rules do not allow them.
    pub revoked: u64,
}

impl Border {
    /// A border with these rules.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        let border = Self::default();
        border.change(rules);
        border
    }

    /// Uses other rules from now on. Subscriptions that these do not allow end: their vibrators hear nothing more by
    /// them, until they subscribe again and the rules allow it. Each is counted and named in the log.
    pub fn change(&self, rules: impl Into<Option<Rules>>) {
        let mut watching = self.shared.changing.lock();
        self.shared.rules.store(rules.into().map(Arc::new));
        self.shared.note_guard();
        watching.retain(|watching| watching.strong_count() > 0);
        let watching: Vec<_> = watching.iter().filter_map(Weak::upgrade).collect();
        watching.iter().for_each(|look_again| look_again());
    }

    /// Checks payloads by other schemas from now on; by none if there are none.
    #[cfg(feature = "schema")]
    pub fn check_payloads(&self, schemas: impl Into<Option<Schemas>>) {
        let _one_at_a_time = self.shared.changing.lock();
        self.shared.schemas.store(schemas.into().map(Arc::new));
        self.shared.note_guard();
    }

    /// The rules as they are now; `None` if everything is allowed.
    #[must_use]
    pub fn rules(&self) -> Option<Rules> {
        self.shared.rules.load().as_deref().cloned()
    }

    /// The refusals since the start.
    #[must_use]
    pub fn refused(&self) -> BorderCounts {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Shared { emitted, arrived, misfits, listened, revoked, .. } = &*self.shared;
        let [emitted, arrived, misfits, listened, revoked] =
            [emitted, arrived, misfits, listened, revoked].map(count);
        BorderCounts { emitted, arrived, misfits, listened, revoked }
    }

    /// Checks a wave that was not delivered by a medium, such as one that a durable consumer has read, as if it had
    /// arrived now: whether its source may emit it, and whether its payload fits. Rates do not count, since it was
    /// emitted at another time. A refused wave is counted, and must not be delivered.
    ///
    /// # Errors
    /// [`Refusal`] gives the reason, and what is allowed.
    pub fn admit_stored(&self, wave: &mut Wave) -> Result<(), Refusal> {
        if self.is_open() || wave.channel().is_reserved() {
            return Ok(());
        }
        if let Some(rules) = &*self.shared.rules.load() {
            rules.check(wave).inspect_err(|refusal| self.note(wave, refusal, &self.shared.arrived))?;
        }
        self.fits(wave).inspect_err(|refusal| self.note(wave, refusal, &self.shared.misfits))
    }

    /// Whether an identity may listen to all channels of a pattern. A refusal is counted.
    ///
    /// # Errors
    /// [`Refusal`] gives the reason, and what is allowed.
    pub fn may_listen(&self, identity: &str, pattern: &Pattern) -> Result<(), Refusal> {
        let allowed = self.still_allows(identity, pattern);
        if allowed.is_err() {
            self.shared.listened.fetch_add(1, Ordering::Relaxed);
        }
        allowed
    }

    /// The same, of a subscription that exists, without counting.
    pub(crate) fn still_allows(&self, identity: &str, pattern: &Pattern) -> Result<(), Refusal> {
        match &*self.shared.rules.load() {
            Some(rules) => rules.may_listen(identity, pattern),
            None => Ok(()),
        }
    }

    pub(crate) fn count_revoked(&self) {
        self.shared.revoked.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls this after each change of the rules, as long as it is held elsewhere. It must not change them.
    pub(crate) fn on_change(&self, look_again: &Arc<OnChange>) {
        let mut watching = self.shared.changing.lock();
        watching.retain(|watching| watching.strong_count() > 0);
        watching.push(Arc::downgrade(look_again));
    }

    /// Whether there are neither rules nor schemas, so that nothing is to be checked.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        !self.shared.is_guarded.load(Ordering::Acquire)
    }

    /// Moves a wave of this process to the channel on which it leaves, and checks it there.
    pub(crate) fn let_out(&self, wave: &mut Wave) -> Result<(), Refusal> {
        let rules = self.shared.rules.load();
        if let Some(rules) = &*rules {
            rules.rewrite(wave)?;
        }
        // Before the rules, which count it against the rates.
        self.fits(wave)?;
        rules.as_ref().map_or(Ok(()), |rules| rules.admit(wave, Passage::Out))
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

    /// Counts a wave that somebody else has emitted.
    fn note(&self, wave: &Wave, refusal: &Refusal, count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
        self.shared.log.note(wave, refusal);
    }

    /// Takes back what `let_out` counted against the rates for a wave that was not emitted after all.
    pub(crate) fn give_back(&self, wave: &Wave) {
        if let Some(rules) = &*self.shared.rules.load() {
            rules.give_back(wave);
        }
    }

    pub(crate) fn count_emitted(&self) {
        self.shared.emitted.fetch_add(1, Ordering::Relaxed);
    }

    /// Removes waves that a network delivers and that may not pass, and counts them.
    pub(crate) fn filter_arrived(&self, waves: &mut Vec<Wave>, passage: Passage<'_>) {
        let rules = self.shared.rules.load();
        waves.retain_mut(|wave| {
            // Waves of the framework itself travel on reserved channels.
            if wave.channel().is_reserved() {
                return true;
            }
            // The rules first: they cost less, and bound what a stranger can make this process read.
            let admitted = rules.as_ref().map_or(Ok(()), |rules| rules.admit(wave, passage));
            let is_admitted =
                admitted.inspect_err(|refusal| self.note(wave, refusal, &self.shared.arrived)).is_ok();
            is_admitted
                && self
                    .fits(wave)
                    .inspect_err(|refusal| self.note(wave, refusal, &self.shared.misfits))
                    .is_ok()
        });
    }
}
