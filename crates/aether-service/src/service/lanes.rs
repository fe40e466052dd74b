//! The handlers of a set without layers: finds the handler of a wave by its channel, and starts it.
//!
//! The loop of a set owns them. A set with layers has a tower stack instead (`stack.rs`).

use std::num::NonZeroUsize;
use std::sync::Arc;

use aether_core::{Channel, Pattern, Wave};
use futures_util::FutureExt;
use lru::LruCache;

use super::lane::{Lane, Quickness, Run, Sampling, Started};
use super::stack::Route;
use crate::Rejection;
use crate::handler::{Delivery, Means};

/// Of this many channels the handler is remembered. Names that senders make up replace each other.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// The handlers of a set.
pub(super) struct Lanes {
    handlers: Vec<OneOf>,
    found: Found,
    means: Arc<Means>,
}

/// A handler.
struct OneOf {
    pattern: Pattern,
    run: Arc<dyn Run>,
    lane: Box<dyn Lane>,
    quickness: Arc<Quickness>,
    sampling: Sampling,
}

/// The handlers of channels that were looked up, by their place.
struct Found {
    last: Option<(Channel, usize)>,
    /// Allocated when a second channel comes.
    others: Option<LruCache<Channel, usize>>,
}

impl Lanes {
    pub(super) fn new(routes: Vec<Route>, means: Arc<Means>) -> Self {
        let handlers = routes.into_iter().map(|Route { pattern, run, .. }| OneOf {
            pattern,
            lane: Arc::clone(&run).lane(),
            run,
            quickness: Arc::default(),
            sampling: Sampling::default(),
        });
        let found = Found { last: None, others: None };
        Self { handlers: handlers.collect(), found, means }
    }

    /// Starts the handler of a wave: in place, or for a task.
    #[inline]
    pub(super) fn start(&mut self, wave: Wave) -> (Wave, Started) {
        let delivery = Delivery::with(wave, Arc::clone(&self.means));
        let started = match self.found.of(&self.handlers, delivery.wave().channel()) {
            Some(place) => self.handlers[place].start(&delivery),
            None => Started::Ended(Err(Rejection::new("no handler for this channel").into())),
        };
        (delivery.into_wave(), started)
    }
}

impl OneOf {
    fn start(&mut self, delivery: &Delivery) -> Started {
        if self.quickness.is_shown() {
            let Self { lane, quickness, sampling, .. } = self;
            return sampling.timed(quickness, || lane.start(delivery));
        }
        let (run, delivery) = (Arc::clone(&self.run), delivery.clone());
        let handling = async move { run.call(&delivery).await };
        Started::Pending(Arc::clone(&self.quickness).timed(handling).boxed())
    }
}

impl Found {
    /// The place of the first handler whose pattern matches. A service with one handler hears nothing else.
    #[inline]
    fn of(&mut self, handlers: &[OneOf], channel: &Channel) -> Option<usize> {
        if handlers.len() == 1 {
            return Some(0);
        }
        match &self.last {
            Some((last, place)) if last == channel => Some(*place),
            _ => self.look_up(handlers, channel),
        }
    }

    fn look_up(&mut self, handlers: &[OneOf], channel: &Channel) -> Option<usize> {
        let others = self.others.get_or_insert_with(|| LruCache::new(REMEMBERED));
        let place = match others.get(channel) {
            Some(place) => *place,
            None => {
                let place = handlers.iter().position(|one| one.pattern.matches(channel))?;
                others.put(channel.clone(), place);
                place
            }
        };
        self.last = Some((channel.clone(), place));
        Some(place)
    }
}
