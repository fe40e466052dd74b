//! The actions that rules are about: emitting and listening.

use std::fmt;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Emit a wave, or ask a question.
    Emit,
    /// Listen to a channel.
    Listen,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Emit => "emit on",
            Self::Listen => "listen to",
        })
    }
}
