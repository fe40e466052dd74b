//! Configuration from real files: loaded in layers, refused with every mistake, followed while a service runs.

#![allow(clippy::unwrap_used, reason = "tests")]

mod durable;
mod following;
mod loading;
mod stage;
