//! Parts that every network medium needs, whatever its client: frames, numbers, gap detection, transit times, pauses and the
//! outbox.
//!
//! For authors of media. This crate opens no connection and starts no tasks. Its parts, in the order in which a wave passes
//! through them:
//!
//! - [`OutboxReader`] is the outbox of a medium, as its sending task sees it; [`Confirming`] finds out what becomes
//!   of waves whose emitters wait; [`Acceptance`] hands waves to the outbox; [`fitting`] decides which of them share
//!   a frame.
//! - [`wire`] encodes and decodes frames.
//! - [`Numbers`] numbers outgoing waves by channel and determines when to announce a quiet channel. The sending task
//!   has one table.
//! - [`Transit`] estimates how long a frame was in transit, without synchronised clocks, so that waves age in transit.
//!   Each connection has one table.
//! - [`Gaps`] detects waves that were lost on the way to a subscription. Each pattern has one table.
//! - [`Beginnings`] remembers what senders have answered to joins, so that the table of a pattern knows which streams began
//!   after a subscription. Each connection has one table.
//! - [`PauseRequest`] asks senders to pause, and [`PauseTable`] obeys such requests.
//! - [`Remembered`] is the bounded table that these use. Everything that a network can fill is bounded, and principals that
//!   are proven share it ([`NodeId`], [`Shares`]).
//!
//! ```
//! use std::sync::{Arc, OnceLock};
//! use std::time::{Duration, Instant};
//! use aether_core::{Channel, Wave};
//! use aether_link::{Gaps, HeardFrame, Numbers};
//! use aether_link::wire::{self, Sender};
//!
//! let (channel, start) = (Channel::new("orders.created")?, Instant::now());
//! // The sender numbers three frames of one wave each. The second one is lost.
//! let mut numbers = Numbers::new();
//! let mut frames = Vec::new();
//! for text in ["1", "2", "3"] {
//!     let wave = Wave::from_bytes(channel.clone(), text)?;
//!     let (stream, _) = numbers.stream(&channel, start);
//!     let sender = Sender { node: 7, sent_micros: aether_core::clock::micros_since_1970() };
//!     frames.push(wire::encode_at(sender, Some(stream.position(start)), None, &[wave], start)?);
//!     stream.sent(1, start);
//! }
//! frames.remove(1);
//!
//! // The receiver has subscribed before that.
//! let mut gaps = Gaps::new(Arc::new(OnceLock::from(start)));
//! let mut missing = 0;
//! for bytes in &frames {
//!     let now = start + Duration::from_millis(1);
//!     let frame = wire::decode(bytes, Some(&channel), now, |_| Duration::ZERO)?;
//!     let (node, waves) = (frame.sender.node, frame.waves.len());
//!     if let Some(position) = frame.position {
//!         let heard = HeardFrame { node: node.into(), position, waves, delay: Duration::ZERO, now };
//!         missing += gaps.note(&channel, heard).gap.map_or(0, |gap| gap.waves);
//!     }
//! }
//! assert_eq!(missing, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod confirm;
mod gaps;
mod numbers;
mod outbox;
mod pause;
mod remembered;
mod shares;
mod transit;
pub mod wire;

pub use aether_core::medium::NodeId;
pub use batch::{Batches, fitting, is_of_one_channel};
pub use confirm::{Confirming, within};
pub use gaps::{Beginnings, Gap, GapReport, Gaps, HeardFrame};
pub use numbers::{Numbers, SentStream, StreamAnnouncement};
pub use outbox::{AHEAD, Acceptance, OutboxReader, PathOutbox, SharedOutbox, Turn, frame_oversize};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use pause::fuzz_pauses;
pub use pause::{FLOW, Flow, Noted, Pause, PauseRequest, PauseTable, read_pauses};
pub use remembered::Remembered;
pub use shares::Shares;
pub use transit::Transit;
