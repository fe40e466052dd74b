//! The local medium, within one process. It passes waves to the router and has no queue of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{AskError, EmitError, FlushError, JoinError, Medium, MediumStatus, Promises, Reach};
use crate::router::{Carried, Offered, Router, Subscription, Waiting};
use crate::wave::{ReplyError, ReplyPath, Wave};

/// Options of the medium inside this process, for [`AetherBuilder::options`](crate::AetherBuilder::options).
#[derive(Debug, Clone)]
#[must_use = "options do nothing by themselves: give them to AetherBuilder::options"]
pub struct LocalOptions {
    pub(crate) max_payload: usize,
}

impl LocalOptions {
    /// Sets the maximum payload in bytes. Default: 1 MiB, the default of NATS servers, so that payloads also fit on
    /// NATS.
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = bytes;
        self
    }
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self { max_payload: 1 << 20 }
    }
}

/// Carries waves between the vibrators of one process.
#[derive(Debug)]
pub struct Local {
    router: Arc<Router>,
    max_payload: usize,
    closed: AtomicBool,
}

impl Local {
    /// A medium that delivers to this router.
    #[must_use]
    pub fn new(router: Arc<Router>, options: &LocalOptions) -> Self {
        Self { router, max_payload: options.max_payload, closed: AtomicBool::new(false) }
    }

    fn check(&self, wave: Wave) -> Result<Wave, EmitError> {
        let bytes = wave.payload().len();
        if self.closed.load(Ordering::Acquire) {
            Err(EmitError::Closed { wave })
        } else if bytes > self.max_payload {
            Err(EmitError::TooLarge { wave, bytes, max_bytes: self.max_payload })
        } else {
            Ok(wave)
        }
    }
}

impl Medium for Local {
    fn promises(&self) -> Promises {
        Promises::new(false, self.max_payload)
    }

    fn carry(&self, wave: Wave) -> Result<Carried, EmitError> {
        Ok(self.router.carry(self.check(wave)?))
    }

    fn try_carry(&self, wave: Wave) -> Result<Offered, EmitError> {
        self.router.try_carry(self.check(wave)?).map_err(|wave| EmitError::Full { wave })
    }

    fn room_for(&self, wave: &Wave) -> usize {
        self.router.room_for(wave)
    }

    fn carry_all(&self, waves: &mut VecDeque<Wave>) -> Result<Option<Waiting>, EmitError> {
        while let Some(first) = waves.front() {
            let (channel, closed) = (first.channel(), self.closed.load(Ordering::Acquire));
            let is_taken = |wave: &&Wave| !closed && wave.payload().len() <= self.max_payload;
            let run = waves.iter().take_while(|wave| wave.channel() == channel).take_while(is_taken).count();
            if run == 0 {
                waves.pop_front().map_or(Ok(()), |wave| self.check(wave).map(drop))?;
            } else if let Some(waiting) = self.router.carry_run(waves, run) {
                return Ok(Some(waiting));
            }
        }
        Ok(None)
    }

    fn join(&self, _: Arc<Subscription>) -> BoxFuture<'_, Result<(), JoinError>> {
        // The router has the subscription already.
        let closed = self.closed.load(Ordering::Acquire);
        Box::pin(ready(if closed { Err(JoinError::Closed) } else { Ok(()) }))
    }

    fn leave(&self, _: &Subscription) {}

    fn ask(&self, question: Wave, patience: Duration) -> BoxFuture<'_, Result<Wave, AskError>> {
        Box::pin(async move {
            let channel = question.channel().clone();
            let (answer, answered) = oneshot::channel();
            let question = question.with_reply_path(Arc::new(LocalReplyPath {
                asker: Mutex::new(Some(answer)),
                router: Arc::clone(&self.router),
                max_bytes: self.max_payload,
            }));
            let conversation = async {
                let offered = match self.carry(question)? {
                    Carried::Done(offered) => offered,
                    Carried::Waiting(waiting) => waiting.finish().await.map_err(EmitError::from)?.offered,
                };
                if offered == Offered::to(0) {
                    return Err(AskError::NoResonator { channel: channel.clone() });
                }
                // The question owns the sender of the answer. Dropping its last handle ends the wait.
                answered.await.map_err(|_| AskError::Unanswered { channel: channel.clone() })
            };
            tokio::time::timeout(patience, conversation)
                .await
                .unwrap_or_else(|_| Err(AskError::TimedOut { channel: channel.clone(), patience }))
        })
    }

    fn notify(&self, notices: Vec<Wave>) -> BoxFuture<'_, Vec<Reach>> {
        let tell = |notice| match self.check(notice) {
            Ok(notice) => match self.router.notify(&notice) {
                true => Reach::Delivered,
                false => Reach::NoListener,
            },
            Err(_) => Reach::Unsent,
        };
        Box::pin(ready(notices.into_iter().map(tell).collect()))
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        // carry() puts waves into the inboxes at once.
        let closed = self.closed.load(Ordering::Acquire);
        Box::pin(ready(if closed { Err(FlushError::Closed) } else { Ok(()) }))
    }

    fn close(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        self.closed.store(true, Ordering::Release);
        Box::pin(ready(Ok(())))
    }

    fn status(&self) -> MediumStatus {
        // There is no outbox. Waves go into the inboxes at once and count in their ledgers.
        MediumStatus {
            connected: !self.closed.load(Ordering::Acquire),
            connects: 1,
            ..MediumStatus::default()
        }
    }
}

/// The reply path to the asker. Only the first answer is delivered.
struct LocalReplyPath {
    asker: Mutex<Option<oneshot::Sender<Wave>>>,
    /// Shows answers to the observers.
    router: Arc<Router>,
    max_bytes: usize,
}

impl ReplyPath for LocalReplyPath {
    fn carry(&self, reply: Wave) -> BoxFuture<'_, Result<(), ReplyError>> {
        let (bytes, max_bytes) = (reply.payload().len(), self.max_bytes);
        if bytes > max_bytes {
            return Box::pin(ready(Err(ReplyError::TooLarge { bytes, max_bytes })));
        }
        let asker = self.asker.lock().take().filter(|asker| !asker.is_closed());
        let in_time = asker.is_some_and(|asker| {
            self.router.observe(&reply);
            asker.send(reply).is_ok()
        });
        let result = if in_time { Ok(()) } else { Err(ReplyError::AskerGone) };
        Box::pin(ready(result))
    }
}
