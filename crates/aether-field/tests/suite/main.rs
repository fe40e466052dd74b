//! Replicas of a field through the public API. One program, because each links everything again.

#![allow(clippy::unwrap_used, reason = "a failure here is a failure of the test")]

mod clients;
mod converge;
#[cfg(feature = "store")]
mod corpus;
mod cost;
mod faults;
#[cfg(unix)]
mod frozen_peer;
mod islands;
mod ledger;
mod owned;
mod owned_replicas;
mod presence;
mod protocol;
mod reconciliation;
mod refusals;
mod replica;
mod replicas;
#[cfg(feature = "store")]
mod store;
mod submission;
