//! Accounts: each process tells what became of its waves, so that one reader can show what every service lost and why.
//! Ordinary term: a status report that every process publishes.
//!
//! Over a network the `Teller` of each [`Aether`](crate::Aether) sends a [`ProcessAccount`] on the reserved channel
//! `_aether.accounts` every few seconds, bounded in bytes, past the outbox and without waiting for anybody. An
//! [`Accounts`] reads those of all processes into a bounded table; [`Aether::accounts`](crate::Aether::accounts) makes
//! one. In process nothing is sent: the reader reads the account of its own process. The encoding is in `record`;
//! `docs/protocol/README.md` describes it.
//!
//! Nothing here decides anything: waves are neither sent nor stopped because of an account.

mod accounts;
mod error;
mod handlers;
mod known;
mod process;
mod program;
mod record;
mod sums;
mod table;
mod teller;

pub use accounts::Accounts;
pub use error::{AccountCounts, AccountError, MAX_ACCOUNT_BYTES};
pub use handlers::{HandlersAccount, HandlersEntry};
pub use known::{KnownProcess, Rates, Standing};
pub use process::ProcessAccount;
pub use program::ProgramAccount;
pub(crate) use teller::{DEFAULT_INTERVAL, Teller, TellerParts};

/// Reads a payload as an account, and what was written of it again.
#[cfg(fuzzing)]
pub(crate) fn fuzz_account(payload: &[u8]) {
    if let Ok(read) = record::read(payload) {
        assert!(read.adds_up() && !format!("{read:?}").is_empty());
        assert!(record::read(&record::write(&read)).is_ok(), "what was written is read");
    }
}
