//! Refusals: the errors of NATS servers for want of a permission, and the barrier behind such errors.
//!
//! A server tells a client of a missing permission beside the message, which it drops: a marker behind a wave returns
//! all the same, and a request gets no answer. The event callback of each connection notes it here, also the one of a
//! durable log in JetStream.
//!
//! The client hands errors of the server over by a task of its own, in their order, while a marker comes by another
//! task. So a marker that returns does not tell whether the error before it was noted. An error of our own does
//! ([`PermissionBarrier`]): a subscription whose subject no server takes is answered with `Invalid Subject`, in its
//! turn, and has no other effect.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{Client, Event, ServerError};
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::timeout;

/// The number of refusals that are remembered. Each belongs to a request that waits at this moment.
const REMEMBERED: usize = 64;

/// The number of subjects about which a connection warns. A program that may not use a hopping channel is refused a new
/// subject in each slot.
const WARNINGS: usize = 64;

/// The subjects that a program tries and does without: the service discovery of NATS tools (`NatsOptions::discovery`
/// turns it off), and the question whether a server has JetStream.
const DISPENSABLE: [&str; 2] = ["$SRV.", "$JS.API.INFO"];

/// The bound of the wait. It passes only if the client has dropped the error, as it does when there are many at once,
/// or if the server is of another kind, which is waited for once. Less than the patience of a flush and of connecting
/// (2 s), which must not fail for that.
const ANSWERED_WITHIN: Duration = Duration::from_millis(1500);

/// The action that a client wants with a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Publish,
    Subscribe,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Denied {
    action: Action,
    subject: String,
}

impl Denied {
    /// Reads an error of the server, such as `Permissions Violation for Publish to "orders"`.
    fn read(error: &str) -> Option<Self> {
        let lower = error.to_ascii_lowercase();
        let action = match lower.strip_prefix("permissions violation for ")? {
            rest if rest.starts_with("publish") => Action::Publish,
            rest if rest.starts_with("subscription") => Action::Subscribe,
            _ => return None,
        };
        Some(Self { action, subject: quoted(error)? })
    }
}

/// The first text in quotes, with backslashes as Go writes them in front of quotes and backslashes.
fn quoted(error: &str) -> Option<String> {
    let (_, rest) = error.split_once('"')?;
    let (mut text, mut letters) = (String::new(), rest.chars());
    loop {
        match letters.next()? {
            '"' => return Some(text),
            '\\' => text.push(letters.next()?),
            letter => text.push(letter),
        }
    }
}

#[derive(Debug, Default)]
struct Refused {
    /// All that were noted.
    noted: u64,
    /// Those that the program does not do without.
    total: u64,
    /// The latest first.
    latest: VecDeque<Denied>,
    /// The subjects about which a warning was logged.
    warned: Vec<Denied>,
}

/// The refusals of the servers of a connection, for want of a permission. For code that talks to the servers itself,
/// such as a durable log.
#[derive(Debug)]
pub struct NatsRefusals(watch::Sender<Refused>);

impl Default for NatsRefusals {
    fn default() -> Self {
        Self(watch::Sender::new(Refused::default()))
    }
}

impl NatsRefusals {
    /// Notes and logs an event of the client, if it is about a permission. Returns the subject at which publishing was
    /// refused.
    pub fn note(&self, event: &Event) -> Option<String> {
        let Event::ServerError(ServerError::Other(error)) = event else { return None };
        self.refuse(Denied::read(error)?)
    }

    fn refuse(&self, denied: Denied) -> Option<String> {
        let counts = !DISPENSABLE.iter().any(|subject| denied.subject.starts_with(subject));
        let mut warns = false;
        self.0.send_modify(|refused| {
            refused.noted += 1;
            refused.total += u64::from(counts);
            refused.latest.truncate(REMEMBERED - 1);
            refused.latest.push_front(denied.clone());
            warns = counts && refused.warned.len() < WARNINGS && !refused.warned.contains(&denied);
            if warns {
                refused.warned.push(denied.clone());
            }
        });
        let Denied { action, subject } = denied;
        let doing = if action == Action::Publish { "publish to" } else { "subscribe to" };
        if warns {
            tracing::warn!(subject, "the server does not permit this program to {doing} a subject");
        } else {
            tracing::debug!(subject, "the server does not permit this program to {doing} a subject");
        }
        (action == Action::Publish).then_some(subject)
    }

    /// How many messages and subscriptions were refused. A lower bound: the client drops events when there are many at once.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.borrow().total
    }

    /// Waits for the next refusal from now on, and returns its subject.
    pub(super) fn next(&self) -> impl Future<Output = String> + Send + use<> {
        let mut changes = self.0.subscribe();
        let before = changes.borrow_and_update().noted;
        async move {
            let next = changes.wait_for(|refused| refused.noted > before).await;
            let subject =
                next.ok().and_then(|refused| refused.latest.front().map(|denied| denied.subject.clone()));
            match subject {
                Some(subject) => subject,
                None => std::future::pending().await,
            }
        }
    }

    /// Waits until publishing to this subject is refused, from now on.
    pub fn publishing(&self, subject: &str) -> impl Future<Output = ()> + Send + use<> {
        self.of(Denied { action: Action::Publish, subject: subject.to_owned() })
    }

    /// Waits until a subscription to this subject is refused, from now on.
    pub(super) fn subscribing(&self, subject: &str) -> impl Future<Output = ()> + Send + use<> {
        self.of(Denied { action: Action::Subscribe, subject: subject.to_owned() })
    }

    fn of(&self, denied: Denied) -> impl Future<Output = ()> + Send + use<> {
        let mut changes = self.0.subscribe();
        let before = changes.borrow_and_update().noted;
        async move {
            let is_refused = |refused: &Refused| {
                let since = usize::try_from(refused.noted - before).unwrap_or(usize::MAX);
                refused.latest.iter().take(since).any(|refused| *refused == denied)
            };
            if changes.wait_for(is_refused).await.is_err() {
                std::future::pending().await
            }
        }
    }
}

/// Reads a text as an error of a server, and one with it as the subject.
#[cfg(fuzzing)]
pub(super) fn fuzz(text: &str) {
    let _ = Denied::read(text);
    let quoted: String = text
        .chars()
        .flat_map(|letter| ['"', '\\'].contains(&letter).then_some('\\').into_iter().chain([letter]))
        .collect();
    let read =
        Denied::read(&format!("Permissions Violation for Publish to \"{quoted}\"")).expect("a refusal");
    assert_eq!(read.subject, text);
}

/// One barrier at a time, for all who wait, because the client keeps few errors.
#[derive(Debug, Default)]
pub(super) struct PermissionBarrier {
    /// The number of barriers that were begun. Those that are begun later than a call are behind it.
    begun: AtomicU64,
    barriers: Mutex<Barriers>,
    returned: AtomicU64,
    news: Notify,
    /// No barrier has returned.
    is_unknown: AtomicBool,
}

#[derive(Debug, Default)]
struct Barriers {
    /// The number of the last one that has ended.
    ended: u64,
    /// How many of them the client has taken. No error answers one that was given up before.
    sent: u64,
}

impl PermissionBarrier {
    /// Waits until all errors that the server has sent in answer to what the client was given so far have been noted, or may
    /// not be known.
    pub(super) async fn pass(&self, client: &Client) {
        let needed = self.begun.load(Ordering::SeqCst) + 1;
        let mut barriers = self.barriers.lock().await;
        if barriers.ended >= needed || self.is_unknown.load(Ordering::Relaxed) {
            return;
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        // One that was given up may still return, and comes first. One that a new connection repeats returns twice.
        self.returned.fetch_min(barriers.sent, Ordering::SeqCst);
        // Text may follow `>` in no subject. The inbox is permitted to everybody who can connect.
        let refused = client.subscribe(format!("{}.>.fence", client.new_inbox())).await;
        if refused.is_ok() {
            barriers.sent += 1;
            let sent = barriers.sent;
            let is_back = async {
                loop {
                    let news = self.news.notified();
                    if self.returned.load(Ordering::SeqCst) >= sent {
                        return;
                    }
                    news.await;
                }
            };
            if timeout(ANSWERED_WITHIN, is_back).await.is_err() {
                self.is_unknown.store(barriers.ended == 0, Ordering::Relaxed);
                self.returned.fetch_max(sent, Ordering::SeqCst);
            }
        }
        barriers.ended = number;
    }

    /// Called by the client's event task, after errors were noted.
    pub(super) fn note(&self, event: &Event) {
        if let Event::ServerError(ServerError::Other(error)) = event
            && error.trim_matches('\'').eq_ignore_ascii_case("invalid subject")
        {
            self.returned.fetch_add(1, Ordering::SeqCst);
            self.is_unknown.store(false, Ordering::Relaxed);
            self.news.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use async_nats::ConnectOptions;
    use futures_util::FutureExt as _;

    use aether_conformance::NatsServer;

    fn note(refusals: &NatsRefusals, error: &str) -> Option<String> {
        refusals.note(&Event::ServerError(ServerError::Other(error.to_owned())))
    }

    #[test]
    fn only_a_later_refusal_of_the_same_action_and_subject_counts() {
        let refusals = NatsRefusals::default();
        note(&refusals, "Permissions Violation for Publish to \"a\"");
        let (a, b, subscribed) =
            (refusals.publishing("a"), refusals.publishing("b"), refusals.subscribing("a"));
        tokio::pin!(a, b, subscribed);
        assert!(a.as_mut().now_or_never().is_none(), "it was refused before");
        assert_eq!(note(&refusals, "Permissions Violation for Publish to \"a\"").as_deref(), Some("a"));
        assert_eq!(note(&refusals, "maximum connections exceeded \"b\""), None);
        assert!(a.now_or_never().is_some());
        assert!(b.now_or_never().is_none() && subscribed.as_mut().now_or_never().is_none());
        let queued = "Permissions Violation for Subscription to \"a\" using queue \"workers\"";
        assert_eq!(note(&refusals, queued), None);
        assert!(subscribed.now_or_never().is_some());
        assert_eq!(refusals.total(), 3);
    }

    #[test]
    fn names_are_read_as_the_server_quotes_them_and_what_is_dispensable_is_not_counted() {
        let refusals = NatsRefusals::default();
        let publish =
            |subject: &str| note(&refusals, &format!("Permissions Violation for Publish to {subject}"));
        assert_eq!(publish(r#""a.\"b\\c""#).as_deref(), Some(r#"a."b\c"#));
        assert_eq!((publish("\"open"), publish("a")), (None, None));
        let info = refusals.publishing("$JS.API.INFO");
        publish("\"$SRV.PING\"");
        publish("\"$JS.API.INFO\"");
        assert!(info.now_or_never().is_some());
        assert_eq!(refusals.total(), 1);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let refusals = NatsRefusals::default();
        for number in 0..10_000 {
            note(&refusals, &format!("Permissions Violation for Publish to \"a.{number}\""));
        }
        let refused = refusals.0.borrow();
        assert_eq!(
            (refused.total, refused.latest.len(), refused.warned.len()),
            (10_000, REMEMBERED, WARNINGS)
        );
    }

    /// On one thread, so that the client takes nothing while the test does not wait.
    #[tokio::test]
    async fn a_barrier_that_was_given_up_before_the_client_took_it_is_not_waited_for() {
        let server = NatsServer::start().await.unwrap();
        let barrier = Arc::<PermissionBarrier>::default();
        let noting = Arc::clone(&barrier);
        let options = ConnectOptions::new().client_capacity(1).event_callback(move |event| {
            noting.note(&event);
            std::future::ready(())
        });
        let client = options.connect(server.url()).await.unwrap();
        while client.publish("a", "fills the client".into()).now_or_never().is_some() {}
        assert!(barrier.pass(&client).now_or_never().is_none());
        assert_eq!((barrier.begun.load(Ordering::SeqCst), barrier.barriers.lock().await.sent), (1, 0));
        barrier.pass(&client).await;
        assert!(!barrier.is_unknown.load(Ordering::Relaxed), "it returned");
        assert_eq!(barrier.returned.load(Ordering::SeqCst), 1);
        // One that the client took returns although nobody waits for it.
        client.flush().await.unwrap();
        assert!(barrier.pass(&client).now_or_never().is_none());
        barrier.pass(&client).await;
        assert_eq!(barrier.returned.load(Ordering::SeqCst), 3);
    }
}
