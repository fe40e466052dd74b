//! A wave that passes from one medium to another: it stays the same wave, one hop further from its source.

use std::sync::Arc;

use super::metadata::MetadataError;
use super::{Body, MAX_HOPS, ReplyError, Wave};
use crate::clock::Moment;

impl Wave {
    /// The wave as relayed to another medium: one more hop, the age so far kept, everything else unchanged. `None` if
    /// it was already relayed [`MAX_HOPS`] times.
    pub fn relayed(&self, now: Moment) -> Option<Self> {
        if self.body.signal.hops >= MAX_HOPS {
            return None;
        }
        let mut body = Body::clone(&self.body);
        body.age = self.age_at(now);
        body.since = Some(now);
        body.signal.hops += 1;
        if let Some(extras) = &mut body.extras {
            (extras.reply_path, extras.heard_by) = (None, None);
        }
        Some(Self::from_body(body))
    }

    /// Adds hops for a way that is not the first choice; at most as many as a wave may have.
    pub fn detour(&mut self, hops: u8) {
        let signal = &mut self.body.make_mut().signal;
        signal.hops = signal.hops.saturating_add(hops).min(MAX_HOPS);
    }

    /// The same wave with one entry of this name in its metadata, in place of those that it had.
    pub fn with_entry(mut self, name: &str, value: &str) -> Result<Self, MetadataError> {
        let metadata = self.metadata().replaced(name, value)?;
        self.body.make_mut().extras.get_or_insert_default().metadata = metadata;
        Ok(self)
    }

    /// Answers a question with the answer that it got on another medium, which keeps its identity and its age.
    ///
    /// Cancel safety: as [`Wave::reply`].
    pub async fn reply_relayed(&self, answer: &Self) -> Result<(), ReplyError> {
        let Some(path) = self.reply_path() else { return Err(ReplyError::NotAsked) };
        // An answer takes the way of its question back and ends there, so its hops need no bound of their own.
        let mut answer = answer.relayed(Moment::now()).unwrap_or_else(|| answer.clone());
        if answer.channel() != self.channel() {
            answer.move_to(self.channel());
        }
        Arc::clone(path).carry(answer).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_takes_the_place_of_all_of_its_name() {
        let wave =
            Wave::builder("a").metadata("m", "1").metadata("k", "v").metadata("m", "2").build().unwrap();
        let marked = wave.clone().with_entry("m", "3").unwrap();
        assert_eq!(marked.metadata().iter().collect::<Vec<_>>(), [("k", "v"), ("m", "3")]);
        assert_eq!(wave.metadata().len(), 3, "other handles keep theirs");
        let full = (0..32).fold(Wave::builder("a"), |wave, _| wave.metadata("n", "v")).build().unwrap();
        assert!(full.clone().with_entry("m", "3").is_err() && full.with_entry("n", "v").is_ok());
    }
}
