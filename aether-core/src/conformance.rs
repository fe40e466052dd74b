//! What tests of media need: a real NATS server.

mod server;

pub use server::{NatsServer, ServerError, ServerOptions};
