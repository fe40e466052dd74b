//! Why nothing is sealed.

/// Why a frame cannot be sealed, or a key not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The operating system gave no randomness. Nothing is sent in that case.
    #[error("the operating system gives no random numbers, without which nothing can be sealed")]
    NoRandomness,
    /// The reply address has more than 65535 bytes.
    #[error("the reply address has {bytes} bytes: at most 65535 fit")]
    Reply {
        /// Its length.
        bytes: usize,
    },
}
