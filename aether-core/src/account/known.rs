//! What a reader knows of one process: its latest account, how old that is, and its rates.

use std::sync::Arc;
use std::time::Duration;

use super::error::AccountError;
use super::process::ProcessAccount;

/// Whether a process is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Standing {
    /// It tells its account in time.
    Present,
    /// It has missed three accounts: it crashed, hangs, or its connection is broken.
    Silent,
    /// It has told its last account and closed its medium.
    Ended,
}

impl Standing {
    /// The lower-case name: `present`, `silent`, `ended`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Silent => "silent",
            Self::Ended => "ended",
        }
    }
}

/// What a process did a second, between two of its accounts that are at least a second apart. In waves a second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Rates {
    /// Waves given to the medium. Zero in process, where there is no outbox.
    pub emitted: f64,
    /// Waves offered to the inboxes.
    pub offered: f64,
    /// Waves that receivers took.
    pub delivered: f64,
    /// Waves lost in inboxes and in the outbox, for whatever reason.
    pub lost: f64,
}

#[cfg(any(test, feature = "test-util"))]
impl KnownProcess {
    /// A process that told its account so long ago, for tests of what reads accounts.
    pub fn sample(process: crate::source::Source, vibrators: &[&str], age: Duration, is_last: bool) -> Self {
        let json = format!(r#"{{"process":"{process}","version":"1","uptime_ms":1000,"every_ms":5000}}"#);
        let mut account = super::record::read(json.as_bytes()).expect("an account");
        account.is_last = is_last;
        account.inboxes = vibrators.iter().map(|name| crate::router::InboxReport::none(name)).collect();
        let standing = if is_last { Standing::Ended } else { Standing::Present };
        let account = Arc::new(account);
        Self { account, is_own: false, standing, age, rates: None, suspicious: 0, suspicion: None }
    }
}

/// A process with its latest account.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct KnownProcess {
    /// The latest account.
    pub account: Arc<ProcessAccount>,
    /// Whether it is the process of the reader.
    pub is_own: bool,
    /// Whether it is there.
    pub standing: Standing,
    /// The time since its latest account, by the clock of the reader.
    pub age: Duration,
    /// The rates between its last accounts; `None` before the second one.
    pub rates: Option<Rates>,
    /// The number of its accounts that were rejected, or contradict an earlier one.
    pub suspicious: u64,
    /// What was wrong with the latest of those.
    pub suspicion: Option<AccountError>,
}
