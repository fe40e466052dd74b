//! Why a description is refused.

use aether_core::wave::ChannelError;

/// Why a description is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptionError {
    /// It has too many bytes as JSON.
    #[error("a description of {bytes} bytes is not allowed: use at most {most}")]
    TooLarge {
        /// The size.
        bytes: usize,
        /// The largest size that is allowed.
        most: usize,
    },
    /// It is not JSON, or not a description.
    #[error("the description cannot be read")]
    Unreadable(#[from] serde_json::Error),
    /// A text is empty or too long.
    #[error("{what} has {bytes} bytes: use {least} to {most}")]
    Length {
        /// Which text.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The smallest size that is allowed.
        least: usize,
        /// The largest size that is allowed.
        most: usize,
    },
    /// The pattern of an operation or the name of its group is not valid.
    #[error("{given:?} is not a valid pattern or group")]
    Pattern {
        /// The text as given.
        given: String,
        /// What is wrong with it.
        source: ChannelError,
    },
    /// The name of a schema has characters that AsyncAPI does not allow.
    #[error("the schema name {name:?} is not allowed: use letters, digits, '.', '-' and '_'")]
    SchemaName {
        /// The name.
        name: String,
    },
    /// A schema is neither an object nor true or false.
    #[error("a schema is neither an object nor true or false")]
    Schema,
    /// A schema refers to something that is not in the description.
    #[error(
        "the schema reference {given:?} is not allowed: use #/components/schemas/NAME with a schema of the description"
    )]
    Reference {
        /// The reference as given.
        given: String,
    },
}
