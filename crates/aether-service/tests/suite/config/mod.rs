//! Configuration from real files: loaded in layers, refused with every mistake, followed while a service runs.

mod durable;
mod following;
mod loading;
mod stage;
