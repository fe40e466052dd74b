//! The own protocol, `aether.field.v1`: writes with an identity, acknowledgements, refusals, cursors. No socket and no
//! clock. `docs/protocol/field-websocket.md` has all messages.

mod reply;
mod request;
mod session;
#[cfg(test)]
mod tests;
mod version;
mod writing;

pub(super) use reply::{
    changes, counter, cursor, durable, entry, not_durable, outcome, page_entry, presence, refused, snapshot,
    submitted, subscribed, superseded,
};
pub(super) use session::Session;

/// The name of the WebSocket subprotocol.
pub(super) const SUBPROTOCOL: &str = "aether.field.v1";
