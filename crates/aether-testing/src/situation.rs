//! The common knowledge of a bus and its probes, and how failure messages print it.

use aether_core::Aether;
use aether_service::ServiceReport;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::faults::Faults;
use crate::running::Running;
use crate::verdict::{Account, unread};

/// The state that a bus shares with its probes.
#[derive(Debug)]
pub(crate) struct Situation {
    pub(crate) aether: Aether,
    /// Of the log, which ends before it.
    pub(crate) _folder: Option<TempDir>,
    pub(crate) started: Instant,
    pub(crate) faults: Option<Faults>,
    /// In the order in which they were started.
    pub(crate) services: Mutex<Vec<Running>>,
}

impl Situation {
    /// The accounts now.
    pub(crate) fn account(&self) -> Account {
        let services = self.services.lock();
        let services: Vec<(String, ServiceReport)> =
            services.iter().map(|service| (service.name().to_owned(), service.report())).collect();
        Account::of(&self.aether, services, self.faults.as_ref().map(Faults::counts))
    }

    /// Accounts and dead letters, for a failure message.
    pub(crate) fn described(&self) -> String {
        let account = self.account();
        let letters = unread(&self.aether.dead_letters().list());
        let letters = letters.map(|letters| format!("  {letters}\n")).unwrap_or_default();
        format!("  accounts:\n{}{letters}", indented(&account.to_string()))
    }
}

/// The text two columns further in.
pub(crate) fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
