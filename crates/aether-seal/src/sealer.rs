//! Seals and opens the frames of one connection to a medium, and counts what it refuses. With a key that signs it signs
//! them; with a list of signers it believes only what is signed by somebody on it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;

use super::codec::{self, Envelope, FrameSignature, SIGNATURE_OVERHEAD, Unsealed, overhead};
use super::error::SealError;
use super::keys::SealKeys;
use super::refusals::{Refusal, RefusalCounts, Refusals};
use super::replay::{Budget, ReplayGuard, Stamp};
use super::role::Role;
use super::signers::{KnownSigner, KnownSigners, Signers};
use super::signing_key::SigningKey;
use aether_core::clock::micros_since_1970;
use aether_core::medium::Proof;
use aether_link::wire::is_sealed;

/// Seals and opens frames with a set of keys. For implementors of media; shared by all tasks of a connection.
#[derive(Debug)]
pub struct Sealer {
    secrets: ArcSwap<Secrets>,
    numbers: Mutex<FrameCounter>,
    counts: RefusalCounts,
    budget: Arc<Budget>,
}

/// The keys and lists with which a sealer seals, opens, signs and verifies.
#[derive(Debug)]
struct Secrets {
    keys: SealKeys,
    signing_key: Option<SigningKey>,
    signers: Option<KnownSigners>,
}

/// The number of the next frame, and in whose name it counts.
#[derive(Debug)]
struct FrameCounter {
    sender: u64,
    next: u64,
}

impl FrameCounter {
    fn draw() -> Result<Self, SealError> {
        let sender = getrandom::u64().map_err(|_| SealError::NoRandomness)?;
        Ok(Self { sender, next: 0 })
    }
}

/// An opened message.
#[derive(Debug)]
#[non_exhaustive]
pub struct Opened {
    /// The frame.
    pub frame: Bytes,
    /// The reply address that its sender sealed with it, or empty. An answer must be sealed for this address, whatever
    /// the broker made of it.
    pub reply: Bytes,
    /// The signer: [`Wave::prove`](aether_core::Wave::prove) holds the sources of its waves against this. `None`
    /// without a list of signers.
    pub proof: Option<Proof>,
}

impl Opened {
    fn new(unsealed: &Unsealed, proof: Option<Proof>) -> Self {
        Self { frame: unsealed.frame(), reply: unsealed.reply(), proof }
    }

    /// The reply address as text; `None` if there is none.
    #[must_use]
    pub fn reply(&self) -> Option<&str> {
        // It was checked when the message was opened.
        std::str::from_utf8(&self.reply).ok().filter(|reply| !reply.is_empty())
    }
}

impl Sealer {
    /// Seals with the sealing key of a set, opens with all of its keys. Signs nothing and verifies nothing.
    ///
    /// # Errors
    /// [`SealError::NoRandomness`].
    pub fn new(keys: SealKeys) -> Result<Self, SealError> {
        Self::signing(keys, None, None)
    }

    /// The same. Signs with a key, if there is one. Refuses what nobody of the list signed, if there is a list.
    ///
    /// # Errors
    /// [`SealError::NoRandomness`].
    pub fn signing(
        keys: SealKeys,
        signing_key: Option<SigningKey>,
        signers: Option<&Signers>,
    ) -> Result<Self, SealError> {
        let counts = RefusalCounts::default();
        let signers = signers.map(|signers| signers.known(&counts.misnamed));
        Ok(Self {
            secrets: ArcSwap::from_pointee(Secrets { keys, signing_key, signers }),
            numbers: Mutex::new(FrameCounter::draw()?),
            counts,
            budget: Arc::default(),
        })
    }

    /// Uses other keys, another key that signs and another list from now on, as [`signing`](Self::signing).
    pub fn change(&self, keys: SealKeys, signing_key: Option<SigningKey>, signers: Option<&Signers>) {
        let signers = signers.map(|signers| signers.known(&self.counts.misnamed));
        self.secrets.store(Arc::new(Secrets { keys, signing_key, signers }));
    }

    /// How many bytes sealing and signing add now to a frame with a reply address of this length.
    #[must_use]
    pub fn overhead(&self, reply_bytes: usize) -> usize {
        let signature = if self.secrets.load().signing_key.is_some() { SIGNATURE_OVERHEAD } else { 0 };
        overhead(reply_bytes) + signature
    }

    /// Counts in a new name from now on. To be called for each new connection: a machine that was cloned while it ran
    /// has to connect again, and must not count on in the name of its twin.
    ///
    /// # Errors
    /// [`SealError::NoRandomness`]; the old name stays.
    pub fn renew(&self) -> Result<(), SealError> {
        *self.numbers.lock() = FrameCounter::draw()?;
        Ok(())
    }

    /// Seals a frame for an address, and signs it if there is a key for that. `reply` is the address at which the
    /// sender waits for an answer, or empty. It adds [`overhead`](Self::overhead) bytes.
    ///
    /// # Errors
    /// [`SealError`]. Nothing may be sent in that case.
    pub fn seal(&self, role: Role, address: &str, reply: &str, frame: &[u8]) -> Result<Bytes, SealError> {
        let (sender, counter) = {
            let mut numbers = self.numbers.lock();
            numbers.next += 1;
            (numbers.sender, numbers.next)
        };
        let sealed_micros = micros_since_1970();
        let envelope = Envelope { sender, counter, sealed_micros, reply };
        let secrets = self.secrets.load();
        let keys = (secrets.keys.sealing_key(), secrets.signing_key.as_ref());
        codec::seal(keys, role, address, envelope, frame, |nonce| {
            getrandom::fill(nonce).map_err(|_| SealError::NoRandomness)?;
            // Random bits stay random. Two clones of a machine whose kernel was not told of it draw the same bits, but at
            // other times.
            nonce.iter_mut().zip(sealed_micros.to_le_bytes()).for_each(|(byte, time)| *byte ^= time);
            Ok(())
        })
    }

    /// Opens a message that arrived at an address, once for each guard.
    ///
    /// # Errors
    /// [`Refusal`], which is counted. The guard has changed only if the message is authentic, and signed if it has to be.
    pub fn open(
        &self,
        role: Role,
        address: &str,
        message: &[u8],
        guard: &mut ReplayGuard,
    ) -> Result<Opened, Refusal> {
        self.counted(address, self.open_once(role, address, message, guard))
    }

    fn open_once(
        &self,
        role: Role,
        address: &str,
        message: &[u8],
        guard: &mut ReplayGuard,
    ) -> Result<Opened, Refusal> {
        let secrets = self.secrets.load();
        let unsealed = secrets.authentic(role, address, message)?;
        let Unsealed { sender, counter, sealed_micros, .. } = unsealed;
        let now_micros = micros_since_1970();
        let stamp = Stamp { signer: None, sender, counter, sealed_micros, now_micros };
        let Some(signed) = secrets.signature(&unsealed)? else {
            guard.take(stamp)?;
            return Ok(Opened::new(&unsealed, None));
        };
        // The window costs less than the signature, and changes only with a true one.
        let stamp = Stamp { signer: Some(signed.1.signer), ..stamp };
        guard.check(stamp)?;
        let proof = verified(signed, &unsealed.statement(role, address, message))?;
        guard.take(stamp)?;
        Ok(Opened::new(&unsealed, Some(proof)))
    }

    /// Opens a message without a check for replays, however old it is: for messages whose address is used once, and for
    /// stored ones, which are delivered again until they are acknowledged.
    ///
    /// # Errors
    /// [`Refusal`], which is counted.
    pub fn open_again(&self, role: Role, address: &str, message: &[u8]) -> Result<Opened, Refusal> {
        self.counted(address, self.peek(role, address, message))
    }

    /// As [`open_again`](Self::open_again), and counts nothing: for messages that are opened once more later.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn peek(&self, role: Role, address: &str, message: &[u8]) -> Result<Opened, Refusal> {
        let secrets = self.secrets.load();
        let unsealed = secrets.authentic(role, address, message)?;
        let signed = secrets.signature(&unsealed)?;
        let verified = |signed| verified(signed, &unsealed.statement(role, address, message));
        Ok(Opened::new(&unsealed, signed.map(verified).transpose()?))
    }

    fn counted<T>(&self, address: &str, opened: Result<T, Refusal>) -> Result<T, Refusal> {
        opened.inspect_err(|refusal| self.counts.count(*refusal, address))
    }

    /// A guard for one subscription.
    #[must_use]
    pub fn guard(&self) -> ReplayGuard {
        ReplayGuard::new(Arc::clone(&self.budget))
    }

    /// The refusals since the start.
    #[must_use]
    pub fn refusals(&self) -> Refusals {
        self.counts.read()
    }
}

impl Secrets {
    fn authentic(&self, role: Role, address: &str, message: &[u8]) -> Result<Unsealed, Refusal> {
        if !is_sealed(message) {
            return Err(Refusal::Plain);
        }
        let key = codec::sealed_key(message).ok_or(Refusal::Tampered)?;
        let key = self.keys.key(key).ok_or(Refusal::UnknownKey { key })?;
        codec::open(key, role, address, message).ok_or(Refusal::Tampered)
    }

    /// The claimed signer of a message, and the signature, which is yet to be verified. `None` if there is no list.
    fn signature(&self, unsealed: &Unsealed) -> Result<Option<(&KnownSigner, FrameSignature)>, Refusal> {
        let Some(signers) = &self.signers else { return Ok(None) };
        let signature = unsealed.signature.ok_or(Refusal::Unsigned)?;
        let signer = signature.signer;
        let known = signers.get(&signer).ok_or(Refusal::UnknownSigner { signer })?;
        Ok(Some((known, signature)))
    }
}

fn verified(signed: (&KnownSigner, FrameSignature), statement: &[u8]) -> Result<Proof, Refusal> {
    let (known, FrameSignature { signer, bytes }) = signed;
    match known.key.verifies(statement, &bytes) {
        true => Ok(known.proof.clone()),
        false => Err(Refusal::Forged { signer }),
    }
}
