//! Whether a program is ready for work, and if not, why: as a line for people and as JSON for programs.
//!
//! The endpoint of `aether-metrics` and the gateway answer `/readyz` with it. Ordinary term: a readiness probe. It reads the
//! status of the bus and the [checks](check) that parts of the program have added, and decides nothing; a program that is
//! not ready goes on, and its waves wait.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aether_core::Aether;
use aether_log::DurableLog;
use parking_lot::Mutex;
use serde::Serialize;

use crate::error_chain;

/// The readiness of a program.
///
/// ```
/// use aether_service::health::Health;
/// use aether_core::Aether;
///
/// let health = Health::of(&Aether::local()).unless(false, "no_stock", "the stock is not loaded yet");
/// assert_eq!(health.to_string(), "not ready: the stock is not loaded yet");
/// assert_eq!(health.to_json(), r#"{"ready":false,"reasons":[{"code":"no_stock","text":"the stock is not loaded yet"}]}"#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// Whether there are no reasons against it.
    pub ready: bool,
    /// Why it is not ready.
    pub reasons: Vec<HealthReason>,
}

/// Why a program is not ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HealthReason {
    /// A word for programs, such as `not_connected`.
    pub code: &'static str,
    /// A sentence for people.
    pub text: String,
}

impl Health {
    /// Ready, without a look at anything.
    #[must_use]
    pub const fn ready() -> Self {
        Self { ready: true, reasons: Vec::new() }
    }

    /// Whether the bus can carry waves now and store waves of durable channels, and all [checks](check) pass.
    #[must_use]
    pub fn of(aether: &Aether) -> Self {
        let health =
            Self::ready().unless(aether.status().connected, "not_connected", "the medium is not connected");
        match log_trouble(aether) {
            Some(trouble) => health.unless(false, "not_storing", trouble),
            None => health,
        }
        .checked(aether)
    }

    /// Adds the reasons of the [checks](check) that do not pass, in the order in which they were added.
    #[must_use]
    pub fn checked(mut self, aether: &Aether) -> Self {
        // Called without the lock, because they are an author's functions.
        let checks: Vec<_> = aether.extension::<Checks>().0.lock().by_number.values().cloned().collect();
        for (code, check) in checks {
            if let Some(text) = check() {
                self = self.unless(false, code, text);
            }
        }
        self
    }

    /// Adds a reason unless all is well.
    #[must_use]
    pub fn unless(mut self, is_well: bool, code: &'static str, text: impl Into<String>) -> Self {
        if !is_well {
            self.ready = false;
            self.reasons.push(HealthReason { code, text: text.into() });
        }
        self
    }

    /// `{"ready":false,"reasons":[{"code":"not_connected","text":"…"}]}`.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Texts and a flag can always be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Why waves of durable channels cannot be stored, if that is so.
#[must_use]
pub fn log_trouble(aether: &Aether) -> Option<String> {
    let error = DurableLog::of(aether)?.trouble()?;
    Some(format!("waves of durable channels cannot be stored: {}", error_chain(&error)))
}

/// Why a part of a program is not ready, if it is not.
type Check = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// The checks of an `Aether`.
#[derive(Default)]
struct Checks(Arc<Mutex<Numbered>>);

#[derive(Default)]
struct Numbered {
    next: u64,
    by_number: BTreeMap<u64, (&'static str, Check)>,
}

/// A check, until it is dropped: [`check`].
#[must_use = "the check ends when it is dropped"]
pub struct ReadyCheck {
    number: u64,
    checks: Arc<Mutex<Numbered>>,
}

/// Adds a check to the readiness of the program, until the returned value is dropped. While it returns a sentence, the
/// program is not ready for that reason. Services check their circuit breakers, and the gateway the stores of its fields.
///
/// It is called for each reading of the readiness and must not block. It must not hold the `Aether` itself.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use aether_service::health::{self, Health};
/// use aether_core::Aether;
///
/// let (aether, has_stock) = (Aether::local(), Arc::new(AtomicBool::new(false)));
/// let loaded = Arc::clone(&has_stock);
/// let check = health::check(&aether, "no_stock", move || {
///     (!loaded.load(Ordering::Relaxed)).then(|| "the stock is not loaded yet".to_owned())
/// });
/// assert_eq!(Health::of(&aether).to_string(), "not ready: the stock is not loaded yet");
/// has_stock.store(true, Ordering::Relaxed);
/// assert!(Health::of(&aether).ready);
/// # drop(check);
/// ```
pub fn check(
    aether: &Aether,
    code: &'static str,
    check: impl Fn() -> Option<String> + Send + Sync + 'static,
) -> ReadyCheck {
    let checks = Arc::clone(&aether.extension::<Checks>().0);
    let mut numbered = checks.lock();
    let number = numbered.next;
    numbered.next += 1;
    numbered.by_number.insert(number, (code, Arc::new(check)));
    drop(numbered);
    ReadyCheck { number, checks }
}

impl Drop for ReadyCheck {
    fn drop(&mut self) {
        let check = self.checks.lock().by_number.remove(&self.number);
        // The values that the check holds are dropped without the lock.
        drop(check);
    }
}

impl fmt::Debug for ReadyCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyCheck").field("number", &self.number).finish_non_exhaustive()
    }
}

/// `ready`, or `not ready: ` and the reasons.
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ready {
            return f.write_str("ready");
        }
        let reasons: Vec<_> = self.reasons.iter().map(|reason| reason.text.as_str()).collect();
        write!(f, "not ready: {}", reasons.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_medium_is_a_reason() {
        let aether = Aether::local();
        assert_eq!(Health::of(&aether), Health::ready());
        aether.close().await.unwrap();
        let health = Health::of(&aether);
        assert_eq!((health.ready, health.reasons[0].code), (false, "not_connected"));
        assert_eq!(health.to_string(), "not ready: the medium is not connected");
    }

    #[test]
    fn checks_are_reasons_in_their_order_until_they_are_dropped() {
        let aether = Aether::local();
        let fails = |text: &'static str| move || Some(text.to_owned());
        let first = check(&aether, "first", fails("one"));
        let _passes = check(&aether, "second", || None);
        let _third = check(&aether, "third", fails("three"));
        assert_eq!(Health::of(&aether).to_string(), "not ready: one; three");
        drop(first);
        assert_eq!(Health::of(&aether).reasons[0].code, "third");
        assert!(Health::of(&Aether::local()).ready, "checks belong to one Aether");
    }
}
