//! The command as a person and a script meet it: real processes, exit codes, stdout and stderr.
#![allow(clippy::unwrap_used)] // in helpers too: a failed unwrap is a failed test

mod acl;
#[cfg(unix)]
mod addresses;
mod back_pressure;
#[cfg(feature = "bench")]
mod bench;
#[cfg(unix)]
mod bridge;
#[cfg(unix)]
mod collector;
mod config;
mod container;
#[cfg(unix)]
mod dashboard;
#[cfg(unix)]
mod demo;
mod describe;
#[cfg(unix)]
mod doctor;
mod field;
#[cfg(unix)]
mod findings;
mod incident;
#[cfg(unix)]
mod jobs;
mod keys;
#[cfg(all(feature = "lan", unix))]
mod lan;
mod letters;
mod letters_of_a_log;
mod log;
#[cfg(unix)]
mod log_follow;
#[cfg(target_os = "linux")]
mod mirror;
mod nats;
mod new;
#[cfg(unix)]
mod outage;
mod page;
mod physics;
mod process;
#[cfg(unix)]
mod report;
#[cfg(unix)]
mod secured;
#[cfg(unix)]
mod systemd;
#[cfg(unix)]
mod telemetry;
#[cfg(unix)]
mod top;
#[cfg(unix)]
mod trace;
mod up;
mod usage;
