//! Sealed messages over NATS, if the options have keys: what is sealed for which subject, and what is refused.
//!
//! Each message that the client takes from the server is opened here before anything else looks at it, so that messages of
//! strangers fill no queue and wait for nothing. If the options have a list of signers, so is its signature verified here;
//! the names of its waves are held against it when they are read. Not sealed are the markers of [`link`](super::link), which only this
//! process can make, and the notices of the server.

use std::sync::Arc;

use async_nats::{Message, StatusCode, Subject};
use bytes::Bytes;

use super::arrived::Arrived;
use super::error::NatsError;
use super::options::NatsOptions;
use super::root::Root;
use aether_core::medium::Wire;
pub(super) use aether_seal::Role;
use aether_seal::{FollowedSealer, Refusal, Refusals, ReplayGuard, Sealer};

/// The length of a reply subject: `_INBOX.`, a user, 22 letters and 16 digits with dots, rounded up for users with long names.
const REPLY_BYTES: usize = 128;

/// Seals and opens, or passes everything on if there are no keys.
#[derive(Debug)]
pub(super) struct Sealing(Option<Sealed>);

#[derive(Debug)]
struct Sealed {
    followed: Arc<FollowedSealer>,
    /// How many bytes sealing and signing add to a frame at most. Each `emit` asks for it.
    overhead: usize,
}

/// What one subscription has taken.
#[derive(Debug)]
pub(super) struct SealingGuard(Option<ReplayGuard>);

/// The role of messages on a channel below a root. Notices travel on the subjects of questions.
pub(super) fn role_of(root: Root, channel: &str) -> Role {
    match root {
        Root::Waves => Role::Waves,
        Root::Questions if channel.starts_with("_aether") => Role::Control,
        Root::Questions => Role::Questions,
        Root::Seen => Role::Copies,
    }
}

impl Sealed {
    fn sealer(&self) -> &Sealer {
        self.followed.sealer()
    }
}

impl Sealing {
    pub(super) fn new(options: &NatsOptions) -> Result<Self, NatsError> {
        let sealed = options.seal_options().map_err(NatsError::Signing)?;
        let Some(sealed) = sealed else { return Ok(Self(None)) };
        if options.wire == Wire::CloudEvents {
            return Err(NatsError::SealedEvents);
        }
        let followed = Arc::new(FollowedSealer::new(sealed)?);
        let overhead = followed.sealer().overhead(REPLY_BYTES);
        Ok(Self(Some(Sealed { followed, overhead })))
    }

    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Called for each new connection: counts in a new name, and reads the keys and the list of signers again.
    pub(super) fn renew(&self) {
        let Some(sealed) = &self.0 else { return };
        sealed.followed.renew();
        if let Err(error) = sealed.sealer().renew() {
            tracing::warn!(%error, "sealed frames are counted on as before the connection broke");
        }
    }

    /// How many bytes sealing adds to a frame at most.
    pub(super) fn overhead(&self) -> usize {
        self.0.as_ref().map_or(0, |sealed| sealed.overhead)
    }

    /// A guard for a subscription that gets all messages of its subjects, or only a share of them.
    pub(super) fn guard(&self, is_share: bool) -> SealingGuard {
        SealingGuard(self.0.as_ref().map(|sealed| match sealed.sealer().guard() {
            guard if is_share => guard.of_a_share(),
            guard => guard,
        }))
    }

    /// Seals a frame for a subject. `reply` is the subject at which an answer is awaited, or empty. `None` if it cannot be
    /// sealed; it must not be sent then.
    pub(super) fn seal(&self, role: Role, subject: &str, reply: &str, frame: Bytes) -> Option<Bytes> {
        let Some(sealed) = &self.0 else { return Some(frame) };
        let sealed = sealed.sealer().seal(role, subject, reply, &frame);
        sealed.inspect_err(|error| tracing::error!(%error, "a frame cannot be sealed and is not sent")).ok()
    }

    /// Opens a message of a subscription to subjects that begin with `before_channel`. `None` if it is refused, which is
    /// counted.
    pub(super) fn open(
        &self,
        root: Root,
        before_channel: &str,
        mut message: Message,
        guard: &mut SealingGuard,
    ) -> Option<Arrived> {
        let Some(sealed) = &self.0 else { return Some(Arrived::plain(message)) };
        sealed.followed.follow();
        let guard = guard.0.as_mut()?;
        let subject = message.subject.as_str();
        let role = role_of(root, subject.strip_prefix(before_channel).unwrap_or_default());
        let opened = sealed.sealer().open(role, subject, &message.payload, guard);
        let opened = opened.inspect_err(|refusal| log(subject, *refusal)).ok()?;
        let asked_from = opened.reply().map(Subject::from);
        message.payload = opened.frame;
        // Nobody has sealed them.
        message.headers = None;
        Some(Arrived { message, asked_from, proof: opened.proof })
    }

    /// Opens an answer, or passes on the notice of the server that nobody heard the question. Its subject is used for one
    /// question, so that a repeated answer finds nobody who waits.
    pub(super) fn open_answer(&self, mut message: Message) -> Option<Arrived> {
        let Some(sealed) = &self.0 else { return Some(Arrived::plain(message)) };
        sealed.followed.follow();
        if message.status == Some(StatusCode::NO_RESPONDERS) && message.payload.is_empty() {
            return Some(Arrived::plain(message));
        }
        let subject = message.subject.as_str();
        let opened = sealed.sealer().open_again(Role::Answers, subject, &message.payload);
        let opened = opened.inspect_err(|refusal| log(subject, *refusal)).ok()?;
        message.payload = opened.frame;
        message.headers = None;
        message.status = None;
        Some(Arrived { message, asked_from: None, proof: opened.proof })
    }

    /// What was refused. `None` if nothing is sealed.
    pub(super) fn refusals(&self) -> Option<Refusals> {
        self.0.as_ref().map(|sealed| sealed.sealer().refusals())
    }
}

fn log(subject: &str, refusal: Refusal) {
    tracing::debug!(%subject, %refusal, "refused a message");
}
