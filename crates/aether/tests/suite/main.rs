//! The bus through its public API. One program, because each links everything again.

#![allow(clippy::unwrap_used, reason = "a failure here is a failure of the test")]

mod accounts;
mod asking;
#[cfg(all(feature = "seal", target_os = "linux"))]
mod attacks;
mod back_pressure;
mod bridge;
mod confirming;
mod conformance;
mod connection;
mod discovery;
mod emission;
mod flushing;
mod forged;
mod gaps;
mod halves;
mod handling;
mod interfering;
#[cfg(feature = "lan")]
mod lan;
mod leaving;
mod local;
#[cfg(unix)]
mod login;
mod nats;
mod not_permitted;
mod numbers;
mod observers;
#[cfg(unix)]
mod odd_messages;
mod paths;
mod permissions;
mod presence;
mod protocol;
mod prototype;
mod proxy;
mod rules;
mod schemes;
#[cfg(feature = "seal")]
mod sealed;
mod settling;
mod sharing;
mod stuck_server;
mod tracing_emissions;
mod turns;
mod weak_waves;
