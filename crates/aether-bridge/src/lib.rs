//! A bridge: relays the waves of chosen patterns from one medium to another, and back.
//!
//! A program makes one between two [`Aether`](aether_core::Aether)s, and `aether bridge` is such a program. A relayed
//! wave stays the same wave: id, source, amplitude, age, metadata, cause and trace stay as its source set them. It is one
//! hop further, which takes 5 % of its amplitude. Questions are relayed as well, and their answers come back.
//!
//! **No loops.** Each bridge adds its mark to the metadata of what it relays ([`BRIDGES`]), and never relays what has its
//! mark. Besides, no wave is relayed more than [`BridgeBuilder::max_hops`] times, and a wave that comes by several ways is
//! relayed once by each bridge, as far as its window of identities reaches.
//!
//! **Queues.** The bridge has none of its own. Before it, waves wait in the inbox of a vibrator, and behind it in the
//! outbox of the other medium. Both are bounded, strongest first, and count what they shed. Emitters never wait for a
//! bridge.
//!
//! What does not pass: channels of the framework (presence, echoes, accounts), which are about one medium.
//!
//! ```
//! use aether_bridge::Bridge;
//! use aether_core::{Aether, Pattern, Vibrator};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (edge, hub) = (Aether::local(), Aether::local()); // or two that are connected to networks
//! let bridge = Bridge::builder([Pattern::new("sensors.>")?]).between(&edge, &hub).await?;
//!
//! let mut archive = Vibrator::create("archive", &hub).await?;
//! archive.resonate_on("sensors.>").await?;
//! edge.emitter("thermometer")?.emit_wave("sensors.attic", &21.5).await?;
//!
//! let wave = archive.receive().await.expect("the medium is open");
//! assert_eq!((wave.source().name(), wave.hops()), ("thermometer", 1));
//! assert_eq!(bridge.close().await.there.relayed, 1);
//! # Ok(()) }
//! ```

mod account;
mod builder;
mod error;
mod mark;
mod questions;
mod way;
mod window;

pub use account::{BridgeAccount, WayAccount};
pub use builder::BridgeBuilder;
pub use error::{BridgeError, Side};
pub use mark::BRIDGES;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use aether_core::Pattern;
use way::Way;

/// How long [`Bridge::close`] relays what waits, and waits for answers.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// A running bridge between two media. Dropped, it ends at once: what waits in its inboxes is counted as `closed`. It keeps
/// both media open until then.
#[derive(Debug)]
pub struct Bridge {
    there: Arc<Way>,
    back: Option<Arc<Way>>,
    /// The tasks of both ways, which end with the bridge.
    tasks: JoinSet<()>,
    /// One for each way, so that the ways end in this order.
    endings: Vec<watch::Sender<bool>>,
}

impl Bridge {
    /// Options of a bridge that relays the channels of these patterns.
    pub fn builder(patterns: impl IntoIterator<Item = Pattern>) -> BridgeBuilder {
        BridgeBuilder::new(patterns.into_iter().collect())
    }

    /// The counts of waves so far.
    #[must_use]
    pub fn account(&self) -> BridgeAccount {
        BridgeAccount { there: self.there.account(), back: self.back.as_ref().map(|back| back.account()) }
    }

    /// Hears nothing more, relays what waits, waits for the answers to relayed questions, and returns the final account.
    /// It takes at most 5 s; then the rest is given up and counted. The media stay open: close them afterwards, which
    /// sends what is in their outboxes.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the bridge ends at once, as if it were dropped.
    pub async fn close(mut self) -> BridgeAccount {
        for ending in &self.endings {
            ending.send_replace(true);
        }
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(CLOSE_PATIENCE, ended).await.is_err() {
            self.tasks.shutdown().await;
        }
        self.account()
    }
}
