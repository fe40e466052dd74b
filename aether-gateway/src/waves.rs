//! Waves through the gateway: heard and emitted by the pages and by other programs, over HTTP and WebSocket.
//!
//! `GET /waves` and `/ws` send the waves that match a filter, `POST /waves/{channel}` and `/ws` emit and ask. The
//! [gate](crate::gate) says who may. Each client has a bounded [tap](crate::taps); what did not fit is counted, and told to the
//! client.

mod cloud_events;
mod draft;
mod post;
mod request;
mod session;
mod shared;
mod socket;
mod stream;

pub(crate) use shared::{Shared, routes};
