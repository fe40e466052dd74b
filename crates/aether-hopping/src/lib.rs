//! Hopping: a channel whose subject changes with every slot, as derived from a key. Ordinary term: rotating subject
//! names.
//!
//! Vibrators that share a [`Hop`] send on subjects of the form `hop.LANE.TOKEN`, a different one in each slot. Without
//! the key, subjects can be neither predicted nor linked. Receivers see the waves on their original channel; the router
//! and the inbox treat them like any others. An adaptive channel avoids lanes that lose many waves.
//!
//! Hopping hides neither volume nor timing. It hides nothing from the operator of the broker or from an eavesdropper on
//! all subjects. It does not encrypt. A wave on the right lane does not prove that its sender has the key.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use aether_core::{Aether, Vibrator};
//! use aether_hopping::{Hop, Hopping};
//!
//! let aether = Aether::local();
//! let hop = Hop::keyed(b"32 bytes that nobody else knows.").build()?;
//! let mut stock = Vibrator::create("stock", &aether).await?;
//! stock.resonate_hopping("orders.created", &hop).await?;
//!
//! let shop = Vibrator::create("shop", &aether).await?;
//! shop.emit_hopping_wave("orders.created", &hop, &"a lamp").await?;
//! let wave = stock.receive().await.expect("the medium is open");
//! assert_eq!((wave.channel().as_str(), wave.json::<String>()?), ("orders.created", "a lamp".to_owned()));
//! # Ok(()) }
//! ```
//!
//! Services call the trait [`Hopping`] on a [`Vibrator`](aether_core::Vibrator); [`HoppingEmitter`] also takes a lone
//! [`Emitter`](aether_core::Emitter). Over a network one process per key runs a [`ClockKeeper`].
//!
//! Pure modules take the time as an argument: `sequence` (names from keys), `schedule` (slots), `lanes`, `lane_map`,
//! `lane_loss`, `known_senders` (the adaptive map) and `slot_counts`. The other modules use the
//! [bus](aether_core::bus): `clock`, `clock_keeper`, `clock_offset`, `control` and `slot_subscriptions`. The state of all
//! vibrators of an [`Aether`](aether_core::Aether) is kept in its [extensions](aether_core::Aether::extension).

#![warn(clippy::disallowed_methods)]

mod clock;
mod clock_keeper;
mod clock_offset;
mod control;
mod hop;
mod hopping;
mod known_senders;
mod lane_loss;
mod lane_map;
mod lanes;
mod receiver;
mod schedule;
mod sender;
mod sequence;
mod slot_counts;
mod slot_subscriptions;

pub use clock_keeper::ClockKeeper;
pub use clock_offset::ClockError;
pub use hop::{Hop, HopBuilder, HopError, MIN_KEY_BYTES};
pub use hopping::Hopping;
pub use lane_map::HopView;
pub use receiver::HopJoinError;
pub use sender::{HopEmitError, HoppingEmitter};
pub use slot_counts::HopAccount;

#[cfg(test)]
mod tests;
