//! The inventory service.

#![allow(clippy::unwrap_used, reason = "a failure here is a failure of the test")]

mod keeping;
#[cfg(unix)]
mod killing;
mod service;
