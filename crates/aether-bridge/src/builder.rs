//! Making a bridge.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Bridge;
use super::error::{BridgeError, Side};
use super::mark::Mark;
use super::way::{Way, WayOptions};
use super::window::Window;
use aether_core::presence::Roster;
use aether_core::wave::MAX_HOPS;
use aether_core::{Aether, Channel, Emitter, InboxOptions, Pattern, Receiver, Vibrator, WhenFull};

/// Options of a [`Bridge`].
#[derive(Debug, Clone)]
#[must_use = "nothing is relayed before between()"]
pub struct BridgeBuilder {
    patterns: Vec<Pattern>,
    is_one_way: bool,
    name: String,
    group: Option<Channel>,
    max_hops: u8,
    max_questions: usize,
    patience: Duration,
    inbox: InboxOptions,
}

impl BridgeBuilder {
    pub(super) fn new(patterns: Vec<Pattern>) -> Self {
        Self {
            patterns,
            is_one_way: false,
            name: "bridge".to_owned(),
            group: None,
            max_hops: 8,
            max_questions: 256,
            patience: Duration::from_secs(10),
            // Those on one side do not wait for the other side.
            inbox: InboxOptions::interactive().when_full(WhenFull::Shed),
        }
    }

    /// Relays from the first medium to the second only. Default: both ways.
    pub fn one_way(mut self) -> Self {
        self.is_one_way = true;
        self
    }

    /// The name of the bridge's vibrators, as rosters, accounts and rules see them. Default: `bridge`.
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// Shares the waves with the other bridges of this group: each wave is relayed by one of them. For several bridges
    /// between the same two media, with the same patterns; without a group each of them relays every wave. Bridges to
    /// different media must have different groups, or each medium gets a part of the waves. Default: none. Cost: losses
    /// on the way to a member of a group are not counted on NATS.
    pub fn group(mut self, group: Channel) -> Self {
        self.group = Some(group);
        self
    }

    /// Relays no wave that was relayed this often already, from 1 to 10. With 1, only waves from their own medium are
    /// relayed, so that where every two media have a bridge each receiver gets each wave once. Default: 8.
    pub fn max_hops(mut self, hops: u8) -> Self {
        self.max_hops = hops;
        self
    }

    /// How many questions of each way wait for their answer at the same time; others are refused at once. With 0, no
    /// question is relayed. Default: 256. Cost: a task and the question each.
    pub fn max_questions(mut self, questions: usize) -> Self {
        self.max_questions = questions;
        self
    }

    /// How long a relayed question waits for its answer. The patience of its asker is not known here. Default: 10 s.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The inbox in which waves wait for the bridge. Default: 65,536 waves, 64 MiB, and sheds at once, so that no emitter
    /// waits for the bridge.
    pub fn inbox(mut self, options: InboxOptions) -> Self {
        self.inbox = options;
        self
    }

    /// Makes the bridge. When this returns, it hears both media.
    ///
    /// Each side keeps its own [guard](aether_core::AetherBuilder::guard): the name of the bridge must be allowed to
    /// listen, and the source of a wave to emit on the side to which it is relayed.
    ///
    /// # Errors
    /// [`BridgeError`] names the option that is wrong, or the side that refused something.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing is relayed.
    pub async fn between(self, here: &Aether, there: &Aether) -> Result<Bridge, BridgeError> {
        self.check()?;
        let (emitter_here, heard_here) = self.listener(here, Side::Here).await?;
        let (emitter_there, heard_there) = match self.is_one_way {
            true => {
                let created = there.emitter(&self.name).map_err(Into::into);
                (created.map_err(|source| BridgeError::Create { side: Side::There, source })?, None)
            }
            false => {
                let (emitter, heard) = self.listener(there, Side::There).await?;
                (emitter, Some(heard))
            }
        };
        let options = Arc::new(WayOptions {
            mark: Mark::new(self.group.as_ref()),
            window: Mutex::new(Window::default()),
            max_hops: self.max_hops,
            max_questions: self.max_questions,
            patience: self.patience,
        });
        let roster_here = roster(here, Side::Here).await?;
        let (near, far) = (emitter_here.clone(), emitter_there.clone());
        let way_there = Arc::new(Way::new(Arc::clone(&options), heard_here.tuner(), near, far, roster_here));
        let mut back = None;
        let (ending_there, is_ending_there) = watch::channel(false);
        let mut endings = vec![ending_there];
        let mut tasks = JoinSet::new();
        if let Some(heard) = heard_there {
            let roster = roster(there, Side::There).await?;
            let way = Arc::new(Way::new(options, heard.tuner(), emitter_there, emitter_here, roster));
            let (ending, is_ending) = watch::channel(false);
            endings.push(ending);
            tasks.spawn(Arc::clone(&way).run(heard, self.patterns.clone(), is_ending));
            back = Some(way);
        }
        tasks.spawn(Arc::clone(&way_there).run(heard_here, self.patterns, is_ending_there));
        Ok(Bridge { there: way_there, back, tasks, endings })
    }

    fn check(&self) -> Result<(), BridgeError> {
        if self.patterns.is_empty() {
            return Err(BridgeError::NoPatterns);
        }
        if let Some(pattern) = self.patterns.iter().find(|pattern| pattern.is_reserved()) {
            return Err(BridgeError::Reserved { pattern: pattern.clone() });
        }
        match self.max_hops {
            1..=MAX_HOPS => Ok(()),
            given => Err(BridgeError::Hops { given }),
        }
    }

    /// The vibrator of one side, which hears the patterns.
    async fn listener(&self, aether: &Aether, side: Side) -> Result<(Emitter, Receiver), BridgeError> {
        let created = Vibrator::builder(&self.name).inbox(self.inbox.clone()).create(aether).await;
        let vibrator = created.map_err(|source| BridgeError::Create { side, source })?;
        for pattern in &self.patterns {
            let joined = match &self.group {
                Some(group) => vibrator.resonate_in_group(pattern, group.as_str()).await,
                None => vibrator.resonate_on(pattern).await,
            };
            joined.map_err(|source| BridgeError::Join { side, pattern: pattern.clone(), source })?;
        }
        Ok(vibrator.split())
    }
}

async fn roster(aether: &Aether, side: Side) -> Result<Roster, BridgeError> {
    aether.roster().await.map_err(|source| BridgeError::Roster { side, source })
}
