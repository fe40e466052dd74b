//! The wire format of waves on a network.

/// The wire format of waves on a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Wire {
    /// Aether's own frames, with many waves in one message. The default.
    #[default]
    Frames,
    /// CloudEvents 1.0 in binary mode: one wave per message, with its attributes in headers. For consumers that do not
    /// support Aether frames. Vibrators read both formats. Cost: each wave needs a message with headers of its own,
    /// whereas waves in frames share one message.
    CloudEvents,
}

impl Wire {
    /// The lower-case name: `frames` or `cloudevents`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Frames => "frames",
            Self::CloudEvents => "cloudevents",
        }
    }
}

/// The error for text that is not the name of a wire format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a wire format: use frames or cloudevents")]
pub struct WireError {
    given: String,
}

impl std::str::FromStr for Wire {
    type Err = WireError;
    fn from_str(text: &str) -> Result<Self, WireError> {
        match text {
            "frames" => Ok(Self::Frames),
            "cloudevents" => Ok(Self::CloudEvents),
            _ => Err(WireError { given: text.to_owned() }),
        }
    }
}
