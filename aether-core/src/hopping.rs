//! Hopping: a channel whose subject changes from slot to slot, by a key. Ordinary term: rotating subject names.
//!
//! Vibrators that share a [`Hop`] use lanes and names that nobody can predict or link without the key:
//! `hop.LANE.TOKEN`, another one in each slot. Receivers see the waves under the channel they belong to, and the router
//! and the inbox treat them like all others. An adaptive channel leaves out lanes with much loss.
//!
//! Hopping hides neither volume nor timing, and hides nothing from the operator of the broker or from an eavesdropper on
//! all subjects. It encrypts nothing. A wave on the right lane does not prove that its sender has the key.
//!
//! The public handles are in `hop`, `sender` and `receiver`. The pure parts take the time as an argument:
//! `sequence` (names from keys), `schedule` (slots), `lanes`, `lane_map`, `lane_loss`, `known_senders` (the
//! adaptive map), `slot_counts`. The others act on the bus: `clock`, `clock_offset`, `control`,
//! `slot_subscriptions`. The state is kept in the extensions of [`Aether`](crate::Aether),
//! [`Vibrator`](crate::Vibrator) and [`Emitter`](crate::Emitter).

mod clock;
mod clock_offset;
mod control;
mod hop;
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

pub use clock_offset::{ClockError, ClockKeeper};
pub use hop::{Hop, HopBuilder, HopError, MIN_KEY_BYTES};
pub use lane_map::HopView;
pub use receiver::HopJoinError;
pub use sender::{HopEmitError, HoppingEmitter};
pub use slot_counts::HopAccount;

#[cfg(test)]
mod tests;
