//! Reflection: a wave that failed is reported to its source: a command, a query, or another wave whose source asked.
//! Ordinary terms: error return, dead letter.
//!
//! The router, the inboxes, the outbox and [`Emitter::reflect`](crate::Emitter::reflect) report failures to the
//! `Reflector` of their [`Aether`](crate::Aether). The reflector notifies the source, whose
//! [`Vibrator`](crate::Vibrator) receives its echoes from an [`Echoes`], or keeps the wave in the [`DeadLetters`]. All
//! parts are bounded.

pub(crate) mod dead_letters;
pub(crate) mod echoes;
mod mailbox;
mod reflector;
pub(crate) mod report;

pub(crate) use dead_letters::DeadLetters;
pub use dead_letters::{DeadLetter, DeadLetterCounts, LetterId, LetterIdError, ReplayError};
pub(crate) use echoes::Echoes;
pub use echoes::EchoesError;
pub(crate) use mailbox::EchoMailbox;
pub use reflector::EchoLedger;
pub(crate) use reflector::{Reflector, reflecting};
pub(crate) use report::{Echo, EchoReason, NOBODY, pattern_of, read};
pub use report::{FailedWave, MAX_ECHO_PAYLOAD, channel_of, write};
