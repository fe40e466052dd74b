//! Why nothing is signed, or nobody believed. Keys are never part of it.

use std::path::PathBuf;

use super::file::SealKeysError;
use super::signing_key::PublicKeyError;
use aether_core::wave::SignerId;

/// The maximum number of entries of a list of signers: about a mebibyte of text.
pub(super) const MAX_SIGNERS: usize = 10_000;

/// Why a text is not a list of signers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignersError {
    /// A line has one word only.
    #[error("line {line} is not a signer: write NAME aether-signer-1:KEY, as `aether keys show` prints it")]
    Line {
        /// The number of the line, from 1.
        line: usize,
    },
    /// The key of a line is none.
    #[error("line {line} has no public key")]
    Key {
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong.
        source: PublicKeyError,
    },
    /// A name that no source can have.
    #[error(
        "{name:?} cannot be a name: use the name of a vibrator or a program, its beginning and `*`, or `*`"
    )]
    Name {
        /// The name as given.
        name: String,
    },
    /// Two keys have the same id. Frames name the id, so the names of one would be believed of the other.
    #[error(
        "the keys of {first:?} and {second:?} have the same id {signer}: make another key for the one that came later"
    )]
    SameId {
        /// A name of the first key.
        first: String,
        /// A name of the second one.
        second: String,
        /// The id of both.
        signer: SignerId,
    },
    /// Too many entries.
    #[error("a list of signers has at most {MAX_SIGNERS} entries: use names that end in `*`")]
    TooMany,
}

/// Why a process cannot sign, or cannot check signatures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SigningError {
    /// A file cannot be read or written, or other users can read the key.
    #[error(transparent)]
    File(SealKeysError),
    /// The file has no key that signs.
    #[error("{} has no signing key: use one line `sign KEY`, as `aether keys new --signing` writes it", .path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// Other users of this machine can write the list, and so speak in any name.
    #[error("other users of this machine can write {} (mode {mode:03o}): use chmod go-w", .path.display())]
    Writable {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file is not a list of signers.
    #[error("{} is not a list of signers", .path.display())]
    Signers {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: SignersError,
    },
    /// The file lists nobody, or has more than 2 MiB.
    #[error("{} lists no signer, or has more than 2 MiB: write a line NAME aether-signer-1:KEY for each", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Messages are signed inside of the seal.
    #[error("only sealed messages are signed: set the keys of sealed waves as well (aether keys new)")]
    NotSealed,
    /// There is a list, and no key of this process.
    #[error(
        "a program with a list of signers hears itself only with a signing key of its own on it: make one with `aether keys new --signing`"
    )]
    NoOwnKey,
    /// The key of this process is not on its own list.
    #[error(
        "the signing key {signer} of this program is not on its own list of signers, so it would refuse its own messages: add a line with its name and its public key (aether keys show)"
    )]
    NotListed {
        /// The key of this process.
        signer: SignerId,
    },
}
