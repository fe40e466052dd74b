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
//! The public handles are in `hop`, `sender` and `receiver`. Pure modules take the time as an argument: `sequence`
//! (names from keys), `schedule` (slots), `lanes`, `lane_map`, `lane_loss`, `known_senders` (the adaptive map) and
//! `slot_counts`. The other modules use the bus: `clock`, `clock_offset`, `control` and `slot_subscriptions`. State is
//! kept in the extensions of [`Aether`](crate::Aether), [`Vibrator`](crate::Vibrator) and [`Emitter`](crate::Emitter).

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

#[cfg(any())]
mod tests;
