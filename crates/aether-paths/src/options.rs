//! The paths of a process: what is asked for, and how each of them fares.

use std::fmt;

use aether_core::medium::{MediumStatus, without_secrets};
use aether_core::wave::MAX_HOPS;

/// The paths that a process has at most.
pub const MAX_PATHS: usize = 8;

/// One of several paths: the address of a medium, and how much weaker a wave arrives that goes by it. For
/// [`WithPaths::path`](crate::WithPaths::path).
///
/// ```
/// use aether_paths::WithPaths;
/// use aether_core::Aether;
/// use aether_paths::PathOptions;
///
/// let builder = aether::builder()
///     .path("nats://10.0.0.1:4222")
///     .path(PathOptions::new("nats://10.0.1.1:4222").hops(3));
/// # let _ = builder;
/// ```
///
/// `Debug` does not show secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct PathOptions {
    pub(super) url: String,
    hops: Option<u8>,
}

impl PathOptions {
    /// A path over the medium at this address.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), hops: None }
    }

    /// By how many hops a wave that goes by this path is weakened: each takes 5 % of its amplitude. At most
    /// [`MAX_HOPS`](aether_core::wave::MAX_HOPS) in all. Default: none for the first path, 1 for the second, and so on.
    #[must_use]
    pub fn hops(mut self, hops: u8) -> Self {
        self.hops = Some(hops);
        self
    }

    /// The hops of this path at a place among others.
    pub(super) fn hops_at(&self, path: usize) -> u8 {
        let of_place = u8::try_from(path).unwrap_or(MAX_HOPS);
        self.hops.unwrap_or(of_place).min(MAX_HOPS)
    }
}

impl fmt::Debug for PathOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, hops } = self;
        f.debug_struct("PathOptions").field("url", &without_secrets(url)).field("hops", hops).finish()
    }
}

impl<T: Into<String>> From<T> for PathOptions {
    fn from(url: T) -> Self {
        Self::new(url)
    }
}

/// Why paths cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// There is no path.
    #[error("no path is given")]
    None,
    /// There are too many.
    #[error("{given} paths are given: at most {most} can be used")]
    TooMany {
        /// As many were given.
        given: usize,
        /// The maximum.
        most: usize,
    },
    /// One address is given twice.
    #[error("the path {url} is given twice: name each path once, in the order of preference")]
    Twice {
        /// The address, without secrets.
        url: String,
    },
    /// The medium does not cross processes, or cannot share its outbox.
    #[error("{url} cannot be one of several paths: use media between processes, such as lan: and nats://")]
    Alone {
        /// The address, without secrets.
        url: String,
    },
}

/// Whether a path can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PathState {
    /// Waves go by it.
    InUse,
    /// It is connected. Waves go by another one.
    Ready,
    /// It has reconnected after a break. It is used after a while, from 1 s to 60 s by the number of breaks, or
    /// when no other path is connected.
    OnTrial,
    /// The connection is broken, or nobody else is there.
    Broken,
    /// It has not connected yet.
    NotConnected,
}

impl PathState {
    /// The lower-case name, with words joined by `_`, such as `in_use`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InUse => "in_use",
            Self::Ready => "ready",
            Self::OnTrial => "on_trial",
            Self::Broken => "broken",
            Self::NotConnected => "not_connected",
        }
    }
}

/// How one of several paths fares; see [`paths`](crate::paths).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PathStatus {
    /// The address, without secrets.
    pub url: String,
    /// A wave that goes by it is weakened by this many hops.
    pub hops: u8,
    /// Whether it can be used.
    pub state: PathState,
    /// Whether it has the turn. While no path is connected, waves wait for the one that has it.
    pub is_current: bool,
    /// The number of other processes that are heard by another path, and that this path does not reach. While there is
    /// one, a path that reaches all of them is preferred.
    pub cut_off: usize,
    /// The waves of this process that went by it.
    pub sent: u64,
    /// The number of times that the process changed from one path to another. The same for all paths.
    pub switches: u64,
    /// The status of its medium, whose outbox all paths share. `None` if it has not connected.
    pub medium: Option<MediumStatus>,
}
