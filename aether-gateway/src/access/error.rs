//! Why tokens and certificates cannot be used.

use std::io;
use std::path::PathBuf;

/// The file of tokens cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// The file cannot be read.
    #[error("the tokens in {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Other users of the machine can read or write the file.
    #[error("other users can use the tokens in {} (mode {mode:03o}); make the file private with: chmod 600 {}", path.display(), path.display())]
    Public {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file is longer than a list of tokens can be.
    #[error("{} is too large for a file of tokens, which has at most 1 MiB", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not the JSON that it must be.
    #[error(
        "the tokens in {} must be a JSON array of objects such as {}",
        path.display(),
        r#"{"token": "a secret", "field": "home", "read": ["*"], "write": ["room/7/*"], "hear": [">"], "emit": ["orders.>"]}"#
    )]
    Json {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// A pattern of channels is invalid.
    #[error("{pattern:?} in {} is not a pattern of channels such as orders.* or orders.>", path.display())]
    Pattern {
        /// The file.
        path: PathBuf,
        /// The text in it.
        pattern: String,
    },
    /// An object has neither a token nor a certificate, or both.
    #[error("each object in {} has either \"token\" or \"certificate\"", path.display())]
    Holder {
        /// The file.
        path: PathBuf,
    },
    /// A certificate is not named by its SHA-256.
    #[error(
        "{text:?} in {} is not the SHA-256 of a certificate: 64 hexadecimal digits, as printed by \
         `openssl x509 -in FILE -noout -fingerprint -sha256`",
        path.display()
    )]
    Certificate {
        /// The file.
        path: PathBuf,
        /// The text in it.
        text: String,
    },
    /// There is no token in the file, so it would protect nothing.
    #[error("{} has no token: write one, or set no file", path.display())]
    NoToken {
        /// The file.
        path: PathBuf,
    },
    /// A token is empty, so everybody knows it.
    #[error("a token is empty; write a secret, for example from: openssl rand -hex 32")]
    Empty,
    /// No client could send the token.
    #[error(
        "a token for waves has controls or letters beyond ASCII, which a header cannot carry; write one, for example from: openssl rand -hex 32"
    )]
    Unsendable,
}
