//! Fields over WebSocket. Tests named `case_…` are acceptance cases of shared state for browsers, by their numbers.

mod client;
mod clocks;
mod crowd;
mod federation;
mod hostile;
mod own;
mod owned;
mod plain;
mod proxies;
mod published;
mod rights;
mod server;
mod subscribing;
