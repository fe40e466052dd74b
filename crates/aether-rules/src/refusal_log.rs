//! Which refused waves have a line in the log: the first of each reason and signer in a minute. The next line has
//! their number.
//!
//! A sender can be refused any number of times, under any names, so the lines are bounded by values that nobody can
//! invent: the reasons, and the signers of the list. Where nothing is signed all senders share the lines.

use std::collections::HashMap;
use std::mem::Discriminant;
use std::time::Duration;

use parking_lot::Mutex;

use super::refusal::Refusal;
use aether_core::Wave;
use aether_core::clock::{self, Instant};
use aether_core::wave::SignerId;

const NAMED_EVERY: Duration = Duration::from_secs(60);
/// More pairs of a signer and a reason within a minute are only counted.
const MOST: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct RefusalLog(Mutex<HashMap<Kind, Named>>);

/// The refused signer, if that is proven, and the reason.
type Kind = (Option<SignerId>, Discriminant<Refusal>);

/// A line that was written.
#[derive(Debug)]
struct Named {
    at: Instant,
    /// How many were refused since.
    since: u64,
}

impl RefusalLog {
    /// A warning, because the wave is lost for its receivers, and its emitter may never learn it.
    pub(super) fn note(&self, wave: &Wave, refusal: &Refusal) {
        let (source, channel) = (wave.source().name(), wave.channel().as_str());
        let signer = wave.signer();
        match self.is_named(signer, refusal) {
            Some(before) => tracing::warn!(
                source,
                signer = signer.map(tracing::field::display),
                channel,
                wave = %wave.id(),
                %refusal,
                before,
                "a wave was refused; more of them for this reason are only counted for a minute"
            ),
            None => {
                tracing::debug!(source, channel, wave = %wave.id(), %refusal, "refused a wave at the border")
            }
        }
    }

    /// Whether a refusal has a line, and how many had none since the one before.
    fn is_named(&self, signer: Option<SignerId>, refusal: &Refusal) -> Option<u64> {
        let (now, mut lines) = (clock::now(), self.0.lock());
        let is_over = |named: &Named| now.saturating_duration_since(named.at) >= NAMED_EVERY;
        let key = (signer, std::mem::discriminant(refusal));
        if let Some(named) = lines.get_mut(&key) {
            if is_over(named) {
                return Some(std::mem::replace(named, Named { at: now, since: 0 }).since);
            }
            named.since += 1;
            return None;
        }
        if lines.len() >= MOST {
            lines.retain(|_, named| !is_over(named));
        }
        if lines.len() >= MOST {
            return None;
        }
        lines.insert(key, Named { at: now, since: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn too_fast(identity: String) -> Refusal {
        Refusal::TooFast { identity, max_rate: 1 }
    }

    #[tokio::test(start_paused = true)]
    async fn each_reason_has_a_line_in_a_minute_whatever_the_names_and_each_signer_has_its_own() {
        aether_core::clock::follow_tokio();
        let log = RefusalLog::default();
        let lines = |signer, refused: usize| {
            let named = |invented| log.is_named(signer, &too_fast(format!("sensor-{invented}")));
            (0..refused).filter_map(named).collect::<Vec<_>>()
        };
        assert_eq!(lines(None, 1000), [0]);
        assert_eq!(log.is_named(None, &Refusal::Unknown { identity: "x".to_owned() }), Some(0));
        assert_eq!(lines(Some(SignerId(1)), 3), [0], "nobody hides the lines of another");
        tokio::time::advance(NAMED_EVERY).await;
        assert_eq!((lines(None, 5), lines(Some(SignerId(1)), 1)), (vec![999], vec![2]));
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_forgets_what_is_over() {
        aether_core::clock::follow_tokio();
        let log = RefusalLog::default();
        let named = |signer| log.is_named(Some(SignerId(signer)), &too_fast(String::new()));
        assert_eq!((0..2 * MOST as u64).filter_map(named).count(), MOST);
        tokio::time::advance(NAMED_EVERY).await;
        assert_eq!(named(u64::MAX), Some(0));
        assert_eq!(log.0.lock().len(), 1);
    }
}
