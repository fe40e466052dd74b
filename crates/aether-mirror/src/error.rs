//! Errors of mirrors.

use std::io;
use std::path::PathBuf;

use aether_core::wave::ChannelError;
use aether_core::{CreateError, JoinError};

/// A mirror cannot start, or has ended by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MirrorError {
    /// The folder cannot be used.
    #[error("the folder {} cannot be mirrored", .path.display())]
    Folder {
        /// The folder, or the file in it.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The folder has disappeared. Nothing was deleted elsewhere because of that.
    #[error("the folder {} is gone, or another one is in its place: nothing was deleted on other machines", .path.display())]
    Gone {
        /// The folder.
        path: PathBuf,
    },
    /// Another process mirrors this folder.
    #[error("another process mirrors the folder {}", .path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The folder was mirrored on another field, or below another prefix.
    #[error(
        "the folder {} belongs to {was:?}, and not to {given:?}: to give it away, remove `.aether-mirror` in it", .path.display()
    )]
    Elsewhere {
        /// The folder.
        path: PathBuf,
        /// The field and the prefix that it belongs to.
        was: String,
        /// Those that were given.
        given: String,
    },
    /// The memory of the mirror cannot be read or written.
    #[error("the memory of the mirror, {}, cannot be used", .path.display())]
    Memory {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<redb::Error>,
    },
    /// The memory of the mirror is of another version.
    #[error("the memory of the mirror, {}, is of version {version}, which this program does not read", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u8,
    },
    /// The changes of the folder cannot be watched.
    #[error("the changes of the folder {} cannot be watched", .path.display())]
    Watch {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: notify::Error,
    },
    /// The name of the machine is not one.
    #[error("{name:?} cannot be the name of a machine: it has 1 to 64 bytes, and is the name of a folder")]
    Machine {
        /// The name.
        name: String,
    },
    /// The name of the field is not allowed in a channel.
    #[error("the channels of the mirror cannot be named")]
    Name(#[from] ChannelError),
    /// The vibrator of the mirror cannot be made.
    #[error("the vibrator of the mirror cannot be made")]
    Create(#[from] CreateError),
    /// The channels of the mirror cannot be heard.
    #[error("the channels of the mirror cannot be subscribed to")]
    Join(#[from] JoinError),
    /// The field or the mirror is closed.
    #[error("the mirror has ended, because its field is closed")]
    Closed,
}
