//! Questions over a bridge: asked again on the other side, and the answer goes back.
//!
//! A question reaches all who listen, and the first answer counts. So the bridge sends a failure only if nobody else on the
//! asker's side is known to listen; otherwise it is silent, and leaves the answer to them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::JoinSet;

use super::account::count;
use super::way::Way;
use aether_core::wave::ReplyError;
use aether_core::{AskError, Channel, EmitError, FailureReason, Wave};

/// A question that waits for its answer. Dropped before it is settled, it has none.
struct Waiting {
    way: Arc<Way>,
    is_settled: bool,
}

impl Waiting {
    fn new(way: Arc<Way>) -> Self {
        count(&way.counts.waiting);
        Self { way, is_settled: false }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.is_settled {
            count(&self.way.counts.unanswered);
        }
        self.way.counts.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Way {
    /// Asks a question on the other side, in a task of its own: an answer may take its time.
    pub(super) async fn ask(self: &Arc<Self>, question: Wave, onward: Wave, questions: &mut JoinSet<()>) {
        while questions.try_join_next().is_some() {}
        let is_away = self.far_stands.as_ref().is_some_and(|stands| !*stands.borrow());
        let refused = if is_away {
            "the other side of the bridge is away"
        } else if questions.len() >= self.options.max_questions {
            "too many questions wait for the other side of the bridge"
        } else {
            let waiting = Waiting::new(Arc::clone(self));
            questions.spawn(answer(waiting, question, onward));
            return;
        };
        count(&self.counts.unanswered);
        self.fail(&question, FailureReason::Shed, refused).await;
    }

    /// Answers with a failure, if nobody else may answer.
    async fn fail(&self, question: &Wave, reason: FailureReason, hint: &str) {
        if self.others_hear(question.channel()) {
            return;
        }
        if let Err(error) = question.reply_failure(reason, hint).await {
            tracing::debug!(wave = %question.id(), %error, "the asker could not be told that its question failed");
        }
    }

    /// Whether any other vibrator of this side is known to hear a channel.
    fn others_hear(&self, channel: &Channel) -> bool {
        let present = self.roster.vibrators();
        let mut others = present.iter().filter(|present| present.vibrator != *self.near.source());
        others.any(|other| other.heard.iter().any(|heard| heard.pattern.matches(channel)))
    }
}

async fn answer(mut waiting: Waiting, question: Wave, onward: Wave) {
    let way = Arc::clone(&waiting.way);
    let error = match way.far.aether().medium().ask(onward, way.options.patience).await {
        Ok(answer) => match question.reply_relayed(&answer).await {
            Ok(()) => {
                waiting.is_settled = true;
                return count(&way.counts.answered);
            }
            Err(error @ ReplyError::TooLarge { .. }) => {
                return way.fail(&question, FailureReason::HandlerFailed, &error.to_string()).await;
            }
            // The asker waits no longer, or its medium is closed.
            Err(_) => return,
        },
        Err(error) => error,
    };
    match &error {
        AskError::NoResonator { .. } => {
            way.fail(&question, FailureReason::NoResonator, "nobody listens on the other side").await;
        }
        AskError::Emit(refused @ (EmitError::NotAllowed { .. } | EmitError::TooLarge { .. })) => {
            waiting.is_settled = true;
            way.count_refused(refused);
            way.fail(&question, FailureReason::Rejected, &refused.to_string()).await;
        }
        // The asker's own patience is mostly shorter.
        AskError::TimedOut { .. } | AskError::Unanswered { .. } => {}
        error => way.fail(&question, FailureReason::Shed, &error.to_string()).await,
    }
}
