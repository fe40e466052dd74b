//! The accounts of all processes on the medium, and what this process tells about its handlers.

use std::sync::Arc;

use super::Aether;
use crate::account::{Accounts, HandlersAccount, HandlersEntry, ProcessAccount};
use crate::medium::JoinError;
use crate::source::Source;

impl Aether {
    /// Reads the accounts of all processes from now on: what every service received and lost, and why. Over a network each
    /// process tells its own every five seconds by default
    /// ([`AetherBuilder::account_every`](crate::AetherBuilder::account_every)); in process that of this process is read.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use aether_core::{Aether, Vibrator};
    ///
    /// let aether = Aether::local();
    /// let stock = Vibrator::create("stock", &aether).await?;
    /// stock.resonate_on("orders.*").await?;
    /// Vibrator::create("shop", &aether).await?.emit_bytes("orders.created", "17").await?;
    /// let accounts = aether.accounts().await?;
    /// for process in accounts.processes() {
    ///     let ledger = process.account.ledger();
    ///     println!("{}: {} offered, {} lost", process.account.process, ledger.offered, ledger.lost());
    /// }
    /// # assert_eq!(accounts.processes()[0].account.ledger().queued, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`JoinError`] if the medium is closed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing is read.
    pub async fn accounts(&self) -> Result<Accounts, JoinError> {
        Accounts::open(&self.shared.bus, &self.shared.teller, self.lifeline()).await
    }

    /// The account of this process now, as it is told to others.
    #[must_use]
    pub fn account(&self) -> ProcessAccount {
        self.shared.teller.account()
    }

    /// Adds the handlers of a service to the account of this process, until the entry is dropped. For libraries that run
    /// handlers; `aether-service` does it for each service. The report is called whenever an account is made, with an empty
    /// one to fill in; it must not wait. Entries of one name are added up.
    pub fn account_handlers(
        &self,
        service: &str,
        report: impl Fn(&mut HandlersAccount) + Send + Sync + 'static,
    ) -> HandlersEntry {
        self.shared.teller.handlers().add(service, Arc::new(report))
    }
}

/// The process of a program: the given name, or that of the executable.
pub(super) fn program(given: Option<String>) -> Source {
    let executable = || Some(std::env::current_exe().ok()?.file_stem()?.to_str()?.to_owned());
    let named = given.and_then(|name| Source::new(&name).ok());
    named
        .or_else(|| Source::new(&executable()?).ok())
        .unwrap_or_else(|| Source::new("unnamed").unwrap_or_else(|_| Source::none()))
}
