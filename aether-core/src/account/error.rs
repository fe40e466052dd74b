//! Why an account was not believed, and how many were.

/// The maximum size of an account in bytes. It holds about 150 vibrators with ordinary names; a process with more sums up
/// the rest.
pub const MAX_ACCOUNT_BYTES: usize = 32 << 10;

/// Why an account of another process was rejected or is suspicious.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// Larger than an account may be.
    #[error("the account is too large: at most {} bytes are allowed", MAX_ACCOUNT_BYTES)]
    TooLarge,
    /// Not the JSON of an account, or with a value out of its range.
    #[error("the account cannot be read: use the JSON of docs/protocol/README.md, with counts below 2^53")]
    Unreadable,
    /// A sum is not the sum of its parts.
    #[error("the account does not add up: what was offered is not what became of it")]
    DoesNotAddUp,
    /// A count or the uptime fell since the last account of the process: two processes speak in one name, or one of the
    /// accounts is forged. The account was taken, and the process is marked.
    #[error("two accounts of the process contradict each other: its counts fell")]
    Contradicts,
    /// The signer of the account may not use the name of the process.
    #[error("the signer of the account may not use the name of the process")]
    Misnamed,
    /// The table of processes is full.
    #[error("there are too many processes: the table of accounts is full")]
    NoRoom,
    /// Accounts arrived faster than they were read.
    #[error("accounts arrived faster than they were read")]
    Overflowed,
}

impl AccountError {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::TooLarge,
        Self::Unreadable,
        Self::DoesNotAddUp,
        Self::Contradicts,
        Self::Misnamed,
        Self::NoRoom,
        Self::Overflowed,
    ];

    /// The lower-case name, as used in metrics: `too_large`, `unreadable`, `does_not_add_up`, `contradicts`,
    /// `misnamed`, `no_room`, `overflowed`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Unreadable => "unreadable",
            Self::DoesNotAddUp => "does_not_add_up",
            Self::Contradicts => "contradicts",
            Self::Misnamed => "misnamed",
            Self::NoRoom => "no_room",
            Self::Overflowed => "overflowed",
        }
    }
}

/// The number of accounts that arrived from other processes, by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct AccountCounts {
    /// Accounts that were taken into the table, those that [contradict](AccountError::Contradicts) an earlier one
    /// included.
    pub taken: u64,
    suspicious: [u64; AccountError::ALL.len()],
}

impl AccountCounts {
    /// The number of accounts that were rejected or are suspicious for this reason.
    #[must_use]
    pub const fn of(&self, reason: AccountError) -> u64 {
        self.suspicious[reason as usize]
    }

    /// The numbers of all reasons, for metrics.
    #[must_use]
    pub fn by_reason(&self) -> [(AccountError, u64); AccountError::ALL.len()] {
        AccountError::ALL.map(|reason| (reason, self.of(reason)))
    }

    pub(super) const fn add(&mut self, reason: AccountError, accounts: u64) {
        self.suspicious[reason as usize] += accounts;
    }
}
