//! Mirrors through the public API. One program, because each links everything again.

#![allow(clippy::unwrap_used, reason = "a failure here is a failure of the test")]

#[cfg(unix)]
mod conflicts;
#[cfg(unix)]
mod folders;
#[cfg(target_os = "linux")]
mod histories;
#[cfg(unix)]
mod hostile;
#[cfg(unix)]
mod machine;
#[cfg(unix)]
mod servers;
#[cfg(unix)]
mod subfolders;
#[cfg(target_os = "linux")]
mod troubles;
#[cfg(target_os = "linux")]
mod user;
