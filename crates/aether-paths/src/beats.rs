//! The beats that processes send each other by all paths: see [`agreement`](super::agreement).

use std::sync::Arc;

use super::agreement::{BEAT, MAX_BEAT_BYTES, PATHS};
use super::shared::PathsShared;
use aether_core::inbox::Inbox;
use aether_core::medium::{Listener, Router, Sequencer};
use aether_core::{Amplitude, InboxOptions, JoinError, Pattern, Source, clock};

/// The beats that wait to be read.
const MAX_WAITING: usize = 1024;
const STRENGTH: Amplitude = Amplitude::FULL;

/// Listens for the beats of others until the paths end.
pub(super) async fn begin(shared: &Arc<PathsShared>, router: Arc<Router>) -> Result<(), JoinError> {
    let options = InboxOptions::overload().max_waves(MAX_WAITING).sojourn_cap(None);
    // These options are within bounds.
    let Ok(inbox) = Inbox::new(options) else { return Err(JoinError::Closed) };
    let (inbox, sequencer) = (Arc::new(inbox), Arc::new(Sequencer::new(Source::framework())));
    let listener = Listener::new(sequencer);
    let subscription = router.subscribe(Pattern::new(PATHS)?, None, Arc::clone(&inbox), listener);
    let joined = shared.join(Arc::clone(&subscription)).await;
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let mut ending = shared.ending.subscribe();
        loop {
            let wave = tokio::select! {
                biased;
                _ = ending.wait_for(|ending| *ending) => break,
                _ = inbox.filled() => inbox.take_now(),
            };
            let Some(wave) = wave else { continue };
            let payload = wave.payload();
            if payload.len() <= MAX_BEAT_BYTES
                && let Ok(beat) = serde_json::from_slice(payload)
                && shared.agreement.note(beat, clock::now())
            {
                shared.moved();
            }
        }
        router.unsubscribe(&subscription);
        shared.leave(&subscription);
    });
    joined
}

/// Sends a beat by each connected path. Each send ends with the next beat at the latest.
pub(super) fn beat(shared: &Arc<PathsShared>, sequencer: &Sequencer, usable: &[bool]) {
    for (path, medium) in shared.media().filter(|(path, _)| shared.stands(*path)) {
        let Some(beat) = shared.agreement.beat(path, usable.to_vec()) else { continue };
        let (beat, medium) = (beat.noticed_at(STRENGTH, sequencer), Arc::clone(medium));
        tokio::spawn(tokio::time::timeout(BEAT, async move { medium.notify(vec![beat]).await }));
    }
}
