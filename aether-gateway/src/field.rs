//! Fields over WebSocket: `GET /field/{name}/ws`, in protocol 0.4 of the sync engine and in the own protocol. Over
//! plain HTTP there are `/field/{name}/entries` and `/field/{name}/watch`.
//!
//! A gateway is a replica of each field that it serves, so any number of gateways serve one field.
//! `docs/protocol/field-websocket.md` describes both protocols.

mod args;
mod change;
mod connection;
mod counts;
mod cross_origin;
mod denied;
mod effect;
mod entries;
mod events;
mod history;
mod hub;
mod hubs;
mod joined;
mod json;
mod limits;
mod outbox;
mod queue;
mod refusal;
mod routes;
mod selection;
mod served;
mod settings;
mod shares;
mod slot;
mod upgrade;
mod v04;
mod v1;
mod visit;
mod visits;
mod writer;

pub use args::FieldArgs;
pub(crate) use counts::FieldLine;
pub(crate) use joined::join;
pub use joined::{JoinedFields, ServeFieldsError};
pub use limits::{LimitError, SecurityLimits};
pub use served::FieldOptions;
pub(crate) use served::Fields;
pub use settings::{AllowedOrigin, LimitSetting, OriginError, ServedField, ServedFieldError};
