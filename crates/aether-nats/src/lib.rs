//! The NATS medium: carries waves between processes over a NATS server.
//!
//! Subjects have three roots (`subjects::Root`). The server reports that a question or a command has no responders
//! only if no subscription at all matches its subject, and an observer's subscription would count as well.
//!
//! Outbound waves go through a bounded outbox ordered by strength. One task packs them into numbered
//! ([`Numbers`](aether_link::Numbers)) frames and hands them to the client (`sender`). Inbound, one task per
//! subscription drains the client straight into the router (`receiver`), so that a slow handler can never make the
//! client drop messages. It also detects missing messages ([`Gaps`](aether_link::Gaps)). `state` tracks what the
//! broker has confirmed.

mod authentication;
mod client;
mod cloudevents;
mod connect;
mod connection;
mod discovery;
mod error;
mod filter;
mod foreign;
mod joins;
mod login;
mod malformed;
mod no_responders;
mod options;
mod pause;
#[cfg(feature = "rules")]
mod permissions;
mod reach;
mod receiver;
mod refusals;
mod requests;
mod sender;
mod state;
mod subjects;
mod subscriptions;
mod tls;
mod unconfirmed;

pub use aether_core::medium::{Wire, WireError};
pub use client::{NatsClient, NatsClientError};
pub use connect::check_address;
pub use error::NatsError;
pub use login::{NatsLogin, NatsLoginError};
pub use malformed::check_nats_headers;
pub use options::NatsOptions;
#[cfg(feature = "rules")]
pub use permissions::NatsPermissions;
pub use refusals::NatsRefusals;
pub use tls::TlsFailure;

use std::collections::VecDeque;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aether_core::{AskError, ConfirmError, ConnectError, EmitError, FlushError, JoinError, Wave, clock};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, OptionFuture, select_all};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use aether_core::medium::{
    Carried, ConnectRequest, Details, LocalVibrators, Medium, MediumStatus, Offered, Promises, Reach, Router,
    Settled, Subscription, Waiting,
};
use aether_link::{Acceptance, Confirming};
use authentication::role_of;
use connection::NatsShared;
use reach::Notices;
use receiver::NatsReceiver;
use requests::{Answer, CannotAsk, MAX_QUESTIONS, Requests};
use subjects::Root;
use subscriptions::{Subscriptions, roots};

/// The handle of a NATS medium. After it is dropped, the outbox is still emptied and everything else ends. If the
/// server is away, the sending task gives up as closing does, and the client with it.
struct Nats {
    shared: Arc<NatsShared>,
    router: Arc<Router>,
    receiver: Arc<NatsReceiver>,
    joined: Subscriptions,
    notices: Notices,
    requests: Requests,
    confirming: Arc<Confirming>,
    sender: Mutex<Option<JoinHandle<()>>>,
    /// Whether closing has finished. The lock is held while closing is in progress.
    closing: tokio::sync::Mutex<bool>,
    /// Set to `true` to end the receiver once everything that has arrived is delivered.
    ending: watch::Sender<bool>,
}

/// Connects to NATS servers. The URL holds one or more addresses separated by commas.
///
/// # Errors
/// [`ConnectError`], with a [`NatsError`] in [`ConnectError::Medium`] where the reason is one of NATS.
///
/// # Cancel safety
/// If cancelled before completion, no connection stays open.
pub async fn connect(request: ConnectRequest) -> Result<Arc<dyn Medium>, ConnectError> {
    let (url, vibrators) = (request.url.clone(), request.vibrators.clone());
    let options: NatsOptions = request.options();
    let answers_discovery = options.discovery;
    let medium = Nats::make(request, options).await?;
    // Answers to strangers would tell them who is there.
    if answers_discovery && !medium.shared.sealing.is_on() {
        medium.answer_discovery(url, vibrators).await?;
    }
    Ok(medium)
}

/// A frame cannot be sealed, and is not sent as it is.
#[derive(Debug, thiserror::Error)]
#[error("the frame cannot be sealed: the log has the reason")]
struct Unsealable;

impl Nats {
    /// Answers NATS service discovery requests for the vibrators of this process.
    async fn answer_discovery(&self, url: String, vibrators: LocalVibrators) -> Result<(), ConnectError> {
        let answered = discovery::answer(Arc::clone(&self.shared), vibrators, self.ending.subscribe()).await;
        answered.map_err(|error| ConnectError::Unreachable { url, is_transient: true, source: error.into() })
    }
}

impl Nats {
    async fn join_and_wait(&self, subscription: Arc<Subscription>) -> Result<(), JoinError> {
        let joining = self.joined.one_at_a_time().await;
        if self.shared.is_closed() {
            return Err(JoinError::Closed);
        }
        // Otherwise an old subscription to the same pattern would deliver the same messages as the new one.
        self.shared.left().await;
        let subjects =
            roots(&subscription).map(|root| self.shared.subject(root, subscription.pattern().as_str()));
        let refused = subjects.map(|subject| {
            let refused = self.shared.refusals.subscribing(&subject);
            Box::pin(async move {
                refused.await;
                subject
            })
        });
        let mut refused = select_all(refused);
        let in_force = async {
            joining.join(&self.receiver, &subscription, &self.ending, &self.shared.leaving).await?;
            // The server processes one client's messages in order: after this round trip, the subscription is active.
            let returned = self.shared.state.round_trip_behind_errors(&self.shared.client).await;
            returned.map_err(|_| JoinError::Closed)
        };
        let joined = tokio::select! {
            biased;
            (subject, ..) = &mut refused => Err(JoinError::NotPermitted { subject }),
            // It may have been refused since it was looked at above.
            joined = in_force => match refused.now_or_never() {
                Some((subject, ..)) => Err(JoinError::NotPermitted { subject }),
                None => joined,
            },
        };
        match joined {
            Ok(()) => {
                self.joined.is_in_force(&subscription);
                // Of groups no losses are counted.
                if subscription.is_open() && subscription.group().is_none() {
                    self.shared.tell_join(subscription.pattern()).await;
                }
            }
            // Before another vibrator joins the same pattern, which would rely on this subscription.
            Err(_) => self.leave(&subscription),
        }
        joined
    }

    /// Sends a question without going through the outbox, because a question behind a backlog would time out.
    async fn ask_and_wait(&self, question: Wave) -> Result<Wave, AskError> {
        let (shared, channel) = (&*self.shared, question.channel());
        shared.left().await;
        let mut asker = self.requests.enter().map_err(|refused| match refused {
            CannotAsk::TooMany => AskError::TooMany { channel: channel.clone(), most: MAX_QUESTIONS },
            CannotAsk::ClientEnded => AskError::Client(Box::new(requests::ClientEnded)),
        })?;
        let (subject, reply) = (shared.subject(Root::Questions, channel.as_str()), asker.reply_subject());
        let refused = shared.refusals.publishing(&subject);
        let (sent, frame) = match shared.wire {
            Wire::Frames => {
                let frame = shared.frame(&question, clock::now());
                let frame = frame.map_err(|error| AskError::Client(Box::new(error)))?;
                let role = role_of(Root::Questions, channel.as_str());
                let sealed = shared.sealing.seal(role, &subject, &reply, frame.clone());
                let sealed = sealed.ok_or_else(|| AskError::Client(Box::new(Unsealable)))?;
                (shared.client.publish_with_reply(subject, reply, sealed).await, Some(frame))
            }
            Wire::CloudEvents => {
                let headers = cloudevents::headers(&question, clock::now());
                let payload = question.payload().clone();
                (shared.client.publish_with_reply_and_headers(subject, reply, headers, payload).await, None)
            }
        };
        if let Err(error) = sent {
            return Err(match shared.oversize(&question) {
                // The client has meanwhile reconnected to a server with a smaller maximum payload.
                Some((bytes, max_bytes)) => EmitError::TooLarge { wave: question, bytes, max_bytes }.into(),
                None => AskError::Client(Box::new(error)),
            });
        }
        match frame {
            Some(frame) => shared.observe_frame(channel, frame),
            None => shared.observe(&question),
        }
        let answered = async {
            // The answer need not wait for it.
            let mut verification = pin!(OptionFuture::default());
            loop {
                tokio::select! {
                    biased;
                    answer = asker.answer() => match answer {
                        Ok(Answer::Notice) => verification.set(Some(shared.is_unheard(channel)).into()),
                        answer => return answer,
                    },
                    Some(unheard) = &mut verification => match unheard {
                        Some(true) => return Ok(Answer::Nobody),
                        _ => verification.set(None.into()),
                    },
                }
            }
        };
        let answer = tokio::select! {
            biased;
            answer = answered => answer,
            () = refused => {
                let subject = shared.subject(Root::Questions, channel.as_str());
                return Err(AskError::NotPermitted { channel: channel.clone(), subject });
            }
        };
        match answer {
            Ok(Answer::Given(answer)) => {
                let answer = self.receiver.answer(answer, channel);
                let mut answer = answer.map_err(|source| AskError::Malformed {
                    channel: channel.clone(),
                    source: source.into(),
                })?;
                answer.answers(&question);
                shared.observe(&answer);
                Ok(answer)
            }
            Ok(Answer::Nobody | Answer::Notice) => Err(AskError::NoResonator { channel: channel.clone() }),
            Err(ended) => Err(AskError::Client(Box::new(ended))),
        }
    }
}

impl Medium for Nats {
    fn promises(&self) -> Promises {
        let mut promises = Promises::new(true, self.shared.max_frame());
        // Consumers that are not part of Aether do not subscribe to the subjects of its inquiries.
        promises.reflects_unheard = self.shared.wire == Wire::Frames;
        promises.back_pressure = true;
        promises
    }

    fn carry(&self, wave: Wave) -> Result<Carried, EmitError> {
        self.shared.carry(wave)
    }

    fn room_for(&self, wave: &Wave) -> usize {
        self.shared.room_for(wave)
    }

    fn carry_all(&self, waves: &mut VecDeque<Wave>) -> Result<Option<Waiting>, EmitError> {
        self.shared.carry_all(waves)
    }

    fn try_carry(&self, wave: Wave) -> Result<Offered, EmitError> {
        self.shared.try_carry(wave)
    }

    fn join(&self, subscription: Arc<Subscription>) -> BoxFuture<'_, Result<(), JoinError>> {
        Box::pin(async move {
            let mut ending = self.ending.subscribe();
            // The client may be full and the server stuck. A pending join must not outlast the medium.
            tokio::select! {
                biased;
                joined = self.join_and_wait(subscription) => joined,
                _ = ending.wait_for(|ending| *ending) => Err(JoinError::Closed),
            }
        })
    }

    fn leave(&self, subscription: &Subscription) {
        self.shared.leaving.lock().extend(self.joined.leave(subscription));
    }

    fn ask(&self, question: Wave, patience: Duration) -> BoxFuture<'_, Result<Wave, AskError>> {
        Box::pin(async move {
            let question = self.shared.check(question)?;
            let channel = question.channel().clone();
            // The timeout covers everything, including the wait for room in the client.
            match timeout(patience, self.ask_and_wait(question)).await {
                Ok(answered) => answered,
                Err(_) => Err(AskError::TimedOut { channel, patience }),
            }
        })
    }

    fn notify(&self, notices: Vec<Wave>) -> BoxFuture<'_, Vec<Reach>> {
        Box::pin(async move {
            let mut ending = self.ending.subscribe();
            let unknown = vec![Reach::Unknown; notices.len()];
            // The client may be full and the server stuck.
            tokio::select! {
                biased;
                reaches = self.notices.notify(&self.shared, notices) => reaches,
                _ = ending.wait_for(|ending| *ending) => unknown,
            }
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        Box::pin(async move {
            if self.shared.is_closed() {
                return Err(FlushError::Closed);
            }
            self.settle_all().await
        })
    }

    fn carry_confirmed(&self, wave: Wave) -> BoxFuture<'_, Result<Settled, ConfirmError>> {
        Box::pin(self.confirming.carry_and_settle(self, wave, self.settle()))
    }

    fn close(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        Box::pin(self.end())
    }

    fn status(&self) -> MediumStatus {
        let mut status = MediumStatus::default();
        status.connected = !self.shared.is_closed() && self.shared.state.is_connected();
        status.connects = self.shared.client.statistics().connects.load(Ordering::Relaxed);
        status.outbox = self.shared.outbox.ledger();
        status.unconfirmed = self.shared.state.unconfirmed();
        status.in_flight = self.shared.state.in_flight();
        status.dropped_by_client = self.shared.state.dropped_by_client();
        status.untaken = self.shared.state.untaken(&self.shared.client);
        status.malformed = self.shared.malformed.count();
        status.implausible = self.receiver.implausible() + self.shared.state.refused();
        status.lost_upstream = self.receiver.lost_upstream();
        status.forgotten_streams = self.receiver.forgotten_streams();
        status.stray_answers = self.requests.stray();
        status.held = self.shared.flow.held.load(Ordering::Relaxed);
        status.pauses = self.shared.flow.pauses.load(Ordering::Relaxed);
        status.refused_sealed = self.receiver.refused_sealed();
        status.refused_by_server = self.shared.refusals.total();
        if let Some(refusals) = self.shared.sealing.refusals() {
            refusals.add_to(&mut status);
        }
        status
    }

    fn details(&self, into: &mut Details) {
        if let Some(refusals) = self.shared.sealing.refusals() {
            into.add(refusals);
        }
    }

    fn connection(&self) -> Option<watch::Receiver<bool>> {
        Some(self.shared.state.changes())
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        // Without close(), nothing waits for the outbox. The sending task empties it while the runtime runs and the
        // server is there.
        self.shared.closed.store(true, Ordering::Release);
        self.shared.outbox.close();
        self.ending.send_replace(true);
        self.shared.state.end();
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats")
            .field("prefix", &self.shared.prefix)
            .field("status", &self.status())
            .field("router", &self.router)
            .finish_non_exhaustive()
    }
}

/// Reads a text as the file of a login and as an error of a server.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn fuzz_logins(text: &str) {
    login::fuzz(text);
    refusals::fuzz(text);
    if let Ok(server) = text.parse::<async_nats::ServerAddr>() {
        let login = NatsLogin::in_addresses(&[server]);
        assert!(!format!("{login:?}").is_empty());
    }
}
