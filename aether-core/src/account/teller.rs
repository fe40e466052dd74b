//! The task that sends the account of this process. It starts with the connection to a medium that crosses processes,
//! and ends with its `Aether`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant as Due, MissedTickBehavior, interval_at, timeout};

use super::handlers::{HandlerEntries, OTHER};
use super::process::ProcessAccount;
use super::record::{self, ACCOUNTS};
use crate::amplitude::Amplitude;
use crate::background::Background;
use crate::channel::Channel;
use crate::clock::{self, Instant};
use crate::echo::Reflector;
use crate::medium::{Medium, MediumStatus};
use crate::presence::Presence;
use crate::router::{InboxReport, Router};
use crate::source::{Sequencer, Source};
use crate::wave::{ContentType, Wave};

/// How often a process sends its account, unless its options say otherwise.
pub(crate) const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
/// The range of the interval.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
/// The amplitude of accounts: an observer of this channel whose inbox is full loses them first (2^-7).
const STRENGTH: Amplitude = Amplitude::from_loss(7 * 2048);
/// The most bytes that the frame of an account adds to it.
const FRAME_BYTES: usize = 256;

/// The parts of a teller.
pub(crate) struct TellerParts {
    /// The name of the program.
    pub(crate) program: Source,
    /// The interval of the accounts; `None` for never.
    pub(crate) every: Option<Duration>,
    pub(crate) router: Arc<Router>,
    pub(crate) presence: Arc<Presence>,
    pub(crate) reflector: Arc<Reflector>,
    pub(crate) medium: Weak<dyn Medium>,
}

/// Makes the account of this process, and sends it.
pub(crate) struct Teller {
    parts: TellerParts,
    started: Instant,
    handlers: Arc<HandlerEntries>,
    sequencer: Arc<Sequencer>,
    background: Background,
    has_left: AtomicBool,
    /// Held while an account is sent, so that none is behind the last one.
    telling: tokio::sync::Mutex<()>,
    /// Whether its account was too large once.
    has_warned: AtomicBool,
}

impl Teller {
    pub(crate) fn new(mut parts: TellerParts) -> Self {
        parts.every = parts.every.map(|every| every.clamp(SHORTEST, LONGEST));
        Self {
            parts,
            started: clock::now(),
            handlers: Arc::default(),
            sequencer: Arc::new(Sequencer::new(Source::framework())),
            background: Background::default(),
            has_left: AtomicBool::new(false),
            telling: tokio::sync::Mutex::default(),
            has_warned: AtomicBool::new(false),
        }
    }

    pub(super) fn process(&self) -> &Source {
        &self.parts.program
    }

    pub(crate) fn handlers(&self) -> &Arc<HandlerEntries> {
        &self.handlers
    }

    /// The sequencer of its notices: a listener with the same does not hear them.
    pub(super) fn sequencer(&self) -> &Arc<Sequencer> {
        &self.sequencer
    }

    /// The account now.
    pub(crate) fn account(&self) -> ProcessAccount {
        let TellerParts { program, every, router, presence, reflector, medium } = &self.parts;
        let status = medium.upgrade().map_or_else(MediumStatus::default, |medium| medium.status());
        let mut account = ProcessAccount {
            process: program.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: clock::since(self.started),
            every: every.unwrap_or_default(),
            is_last: self.has_left.load(Ordering::Relaxed),
            inboxes: router.reports(),
            left_out_names: 0,
            left_out: InboxReport::none(OTHER),
            medium: MediumStatus { shed_at_source: presence.stopped(), ..status },
            echoes: reflector.ledger(),
            letters: reflector.letters().counts(),
            handlers: self.handlers.read(),
        };
        record::bound(&mut account);
        account
    }

    /// Starts the task, if accounts are to be sent and there is a runtime. A medium over a network needs one to
    /// connect.
    pub(crate) fn start(self: &Arc<Self>) {
        if let Some(every) = self.parts.every
            && let Ok(runtime) = Handle::try_current()
        {
            let teller = Arc::clone(self);
            runtime.spawn(async move {
                tokio::select! {
                    biased;
                    () = teller.background.ended() => {}
                    () = teller.run(every) => {}
                }
            });
        }
    }

    async fn run(&self, every: Duration) {
        // A random part of the interval, so that processes started together do not send together.
        let mut turns = interval_at(Due::now() + every.mul_f64(fastrand::f64()), every);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.has_left.load(Ordering::Relaxed) {
            turns.tick().await;
            let is_connected = self.parts.medium.upgrade().is_some_and(|medium| medium.status().connected);
            let _telling = self.telling.lock().await;
            // While the connection is down nothing is sent: the next account has all counts.
            if is_connected && !self.has_left.load(Ordering::Relaxed) {
                let _ = timeout(every, self.tell()).await;
            }
        }
    }

    /// Sends the account now.
    async fn tell(&self) {
        let (Some(medium), Ok(channel)) = (self.parts.medium.upgrade(), Channel::with_reserved(ACCOUNTS))
        else {
            return;
        };
        let max_bytes = medium.promises().max_payload.saturating_sub(FRAME_BYTES);
        let payload = record::write_within(self.account(), max_bytes);
        let bytes = payload.len();
        if bytes > max_bytes && !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                bytes,
                max_bytes,
                "the account of this process is larger than the medium takes, also without its vibrators and handlers, so `aether \
                 top` does not show the process: raise max_payload of the NATS server"
            );
        }
        let notice = Wave::plain(channel, payload.into(), ContentType::Json);
        medium.notify(vec![notice.noticed_at(STRENGTH, &self.sequencer)]).await;
    }

    /// Sends the last account. Nothing is sent afterwards.
    pub(crate) async fn leave(&self) {
        let was_left = self.has_left.swap(true, Ordering::Relaxed);
        // An account on its way may wait for the connection, and is given up.
        self.end();
        let _telling = self.telling.lock().await;
        let crosses = self.parts.medium.upgrade().is_some_and(|medium| medium.promises().crosses_processes);
        if crosses && self.parts.every.is_some() && !was_left {
            self.tell().await;
        }
    }

    /// Ends the task.
    pub(crate) fn end(&self) {
        self.background.end();
    }
}

#[cfg(test)]
mod tests;
