//! Services, their configuration and their programs.

#![allow(clippy::unwrap_used, reason = "a failure here is a failure of the test")]

mod compile_errors;
mod config;
#[cfg(feature = "lan")]
mod lan;
mod service;
#[cfg(target_os = "linux")]
mod trouble;
