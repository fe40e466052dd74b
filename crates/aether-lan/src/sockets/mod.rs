//! The network of Zenoh, which finds the machines and moves bytes between them: all that needs its crate.

mod hello;
mod node;
mod priority;
mod realms;
mod router;
mod session;
mod threads;

pub use hello::LanHello;
pub use node::{LanChange, LanNode};
pub use router::{LanRouter, LanRouterAccount};

pub(crate) use hello::hellos;
pub(crate) use session::{Certificates, Entrance, ZenohNet, protocol_of};
pub(crate) use threads::run_apart;
