//! Waves through the gateway: heard and emitted by the pages and by other programs, over HTTP and WebSocket.
//!
//! `GET /waves` and `/ws` send the waves that match a filter, `POST /waves/{channel}` and `/ws` emit and ask. A
//! [`Gate`] says who may. Each client has a bounded queue; what did not fit is counted, and told to the client.

mod cloud_events;
mod draft;
mod filter;
mod gate;
mod post;
mod record;
mod request;
mod session;
mod shared;
mod socket;
mod stream;
mod tap;

pub(crate) use gate::{Gate, GateError};
pub(crate) use shared::{Shared, routes};
pub(crate) use tap::{Taps, WavesLine};
