//! Authentication of messages: sealing, signatures, and tokens of our own messages.
//!
//! Each message that the client takes from the server is opened here before anything else looks at it, so that
//! messages of strangers fill no queue and wait for nothing. If the options have keys, it has to be sealed for its
//! subject. If they have a list of signers, its signature is verified here too; the names of its waves are held
//! against it when they are read.
//!
//! Not sealed are the notices of the server, and the markers of [`state`](super::state). Anyone who subscribes to a
//! reply subject, or may publish to it, could forge them. So the number of each marker and each reply subject is
//! paired with a token that only this process can compute: the SipHash of the number, with keys drawn from the
//! operating system ([`Tokens`]).

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use async_nats::{Message, StatusCode, Subject};
use bytes::Bytes;

use super::error::NatsError;
use super::options::NatsOptions;
use super::subjects::Root;
use aether_core::Wave;
use aether_core::medium::{NodeId, Proof, Wire};
use aether_link::wire::FrameError;
pub(super) use aether_seal::Role;
use aether_seal::{FollowedSealer, Refusal, Refusals, ReplayGuard, Sealer};

/// The length of a reply subject: `_INBOX.`, a user, 22 letters and 16 digits with dots, rounded up for users with
/// long names.
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

/// The messages that one subscription has taken, so that it takes none twice.
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

    /// The refused messages. `None` if nothing is sealed.
    pub(super) fn refusals(&self) -> Option<Refusals> {
        self.0.as_ref().map(|sealed| sealed.sealer().refusals())
    }
}

fn log(subject: &str, refusal: Refusal) {
    tracing::debug!(%subject, %refusal, "refused a message");
}

/// A message whose payload is no longer sealed.
pub(super) struct Arrived {
    pub(super) message: Message,
    /// Where the asker of a sealed question waits, by its own words. The answer is sealed for this subject, whatever the
    /// broker made of it. `None` if the message is not a question, or was not sealed.
    pub(super) asked_from: Option<Subject>,
    /// Its signer, if this process has a list of signers.
    pub(super) proof: Option<Proof>,
}

impl Arrived {
    /// A message that was not sealed, in a process that seals nothing.
    pub(super) const fn plain(message: Message) -> Self {
        Self { message, asked_from: None, proof: None }
    }
}

/// A node, told apart by its signer if that is proven: so that nobody forges the stream, the times or the pauses of another.
pub(super) fn known_node(proof: Option<&Proof>, node: u64) -> NodeId {
    proof.map_or(node.into(), |proof| proof.own(node))
}

/// ObeyedPauses the sources of the waves of a frame against who signed it. The asker sends the copies for observers,
/// also of the answer, whose source stays unproven.
pub(super) fn prove(waves: &mut [Wave], proof: Option<&Proof>, is_copy: bool) -> Result<(), FrameError> {
    let Some(proof) = proof else { return Ok(()) };
    for wave in waves {
        if is_copy {
            wave.prove_if_own(proof);
        } else if !wave.prove(proof) {
            return Err(FrameError::Misnamed { name: wave.source().name().to_owned() });
        }
    }
    Ok(())
}

#[derive(Debug, Default)]
pub(super) struct Tokens(RandomState);

impl Tokens {
    /// Writes a number and its token as one token of a subject.
    pub(super) fn write(&self, number: u64) -> String {
        format!("{number:x}-{:016x}", self.0.hash_one(number))
    }

    /// Returns the number if the token matches it.
    pub(super) fn read(&self, text: &str) -> Option<u64> {
        let (number, token) = text.split_once('-')?;
        let number = u64::from_str_radix(number, 16).ok()?;
        (u64::from_str_radix(token, 16).ok()? == self.0.hash_one(number)).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_with_its_own_token_only() {
        let (ours, theirs) = (Tokens::default(), Tokens::default());
        for number in [0, 1, u64::MAX] {
            assert_eq!(ours.read(&ours.write(number)), Some(number));
            assert_eq!(ours.read(&theirs.write(number)), None);
        }
        let (one, two) = (ours.write(1), ours.write(2));
        let mixed = format!("{}-{}", &one[..1], two.split_once('-').unwrap().1);
        for other in ["", "1", "-", "1-", "1-0", "x-1", &mixed] {
            assert_eq!(ours.read(other), None, "{other}");
        }
    }
}
