//! The pure core: no clock, no task, no I/O.
//!
//! Each replica has a [`State`]: registers (the last writer wins), counters and sets (no concurrent addition is lost).
//! Changes of one replica are [applied](State::apply) by the others, in any order and any number of times. What is lost
//! on the way is found by a [reconciliation](Initiator), which costs a few messages however large the state is.
//!
//! ```
//! use std::collections::VecDeque;
//!
//! use aether_field::core::{Initiator, Limits, Responder, State, WriterId};
//!
//! let (mut a, mut b) = (State::new(WriterId(1), Limits::default()), State::new(WriterId(2), Limits::default()));
//! a.set("lamp", "on".into(), 1_000)?;
//! b.add("visits", 3, 1_001)?;
//!
//! let (mut initiator, first) = Initiator::start(&mut a)?;
//! let mut responder = Responder::default();
//! let mut messages = VecDeque::from([first]);
//! while let Some(message) = messages.pop_front() {
//!     for answer in responder.handle(&mut b, message, 1_002)?.send {
//!         messages.extend(initiator.handle(&mut a, answer, 1_002)?.send);
//!     }
//! }
//! assert!(initiator.is_done());
//! assert_eq!(a.digest(), b.digest());
//! assert_eq!((b.get("lamp").map(|value| &value[..]), a.count("visits")), (Some(&b"on"[..]), 3));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod certificate;
mod entry;
mod held;
mod identity;
mod index;
mod key;
mod limits;
mod owned;
mod owning;
mod public_key;
mod reconcile;
mod seal;
mod section;
mod stamp;
mod state;
mod submission;
mod trust;

pub use certificate::Certificate;
pub use entry::{Change, ChangeId, Digest, Entry};
pub use identity::{Identity, RandomError};
pub use key::Key;
pub use limits::{Limits, Refusal, RefusalReason, Refusals};
pub use owning::{Intake, Written};
#[cfg(feature = "replica")]
pub(crate) use public_key::bytes_of_hex;
pub use public_key::{PublicKey, PublicKeyError};
pub use reconcile::{Initiator, Message, ProtocolError, Responder, Step};
pub use seal::Presence;
pub use section::Section;
pub use stamp::{FromFuture, HybridClock, Stamp, WriterId};
pub use state::{Applied, Count, State};
pub use submission::{ClientWrite, Operation, Seen, Submitted};
pub use trust::Trust;
