//! What a bus and its probes know in common, and how failure messages print it.

use aether_core::Aether;
use tokio::time::Instant;

use crate::faults::Faults;
use crate::verdict::{Account, unread};

/// What a bus shares with its probes.
#[derive(Debug)]
pub(crate) struct Situation {
    pub(crate) aether: Aether,
    pub(crate) started: Instant,
    pub(crate) faults: Option<Faults>,
}

impl Situation {
    /// Accounts and dead letters, for a failure message.
    pub(crate) fn described(&self) -> String {
        let account = Account::of(&self.aether, Vec::new(), self.faults.as_ref().map(Faults::counts));
        let letters = unread(&self.aether.dead_letters().list());
        let letters = letters.map(|letters| format!("  {letters}\n")).unwrap_or_default();
        format!("  accounts:\n{}{letters}", indented(&account.to_string()))
    }
}

/// The text two columns further in.
pub(crate) fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
