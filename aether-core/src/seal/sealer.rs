//! Seals and opens the frames of one connection to a medium, and counts what it refuses.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;

use super::codec::{self, Envelope, Unsealed};
use super::error::SealError;
use super::keys::SealKeys;
use super::refusals::{Refusal, RefusalCounts, Refusals};
use super::replay::{Budget, ReplayGuard, Stamp};
use super::role::Role;
use crate::clock::micros_since_1970;

/// Seals and opens frames with a set of keys. For implementors of media; shared by all tasks of a connection.
#[derive(Debug)]
pub struct Sealer {
    keys: ArcSwap<SealKeys>,
    numbers: Mutex<FrameCounter>,
    counts: RefusalCounts,
    budget: Arc<Budget>,
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
}

impl Opened {
    /// The reply address as text; `None` if there is none.
    #[must_use]
    pub fn reply(&self) -> Option<&str> {
        // It was checked when the message was opened.
        std::str::from_utf8(&self.reply).ok().filter(|reply| !reply.is_empty())
    }
}

impl From<Unsealed> for Opened {
    fn from(unsealed: Unsealed) -> Self {
        Self { frame: unsealed.frame(), reply: unsealed.reply() }
    }
}

impl Sealer {
    /// Seals with the sealing key of a set, opens with all of its keys.
    ///
    /// # Errors
    /// [`SealError::NoRandomness`].
    pub fn new(keys: SealKeys) -> Result<Self, SealError> {
        Ok(Self {
            keys: ArcSwap::from_pointee(keys),
            numbers: Mutex::new(FrameCounter::draw()?),
            counts: RefusalCounts::default(),
            budget: Arc::default(),
        })
    }

    /// Uses other keys from now on.
    pub fn change_keys(&self, keys: SealKeys) {
        self.keys.store(Arc::new(keys));
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

    /// Seals a frame for an address. `reply` is the address at which the sender waits for an answer, or empty. It adds
    /// [`overhead`](super::overhead) bytes.
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
        let keys = self.keys.load();
        codec::seal(keys.sealing_key(), role, address, envelope, frame, |nonce| {
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
    /// [`Refusal`], which is counted. The guard has changed only if the message is authentic.
    pub fn open(
        &self,
        role: Role,
        address: &str,
        message: &[u8],
        guard: &mut ReplayGuard,
    ) -> Result<Opened, Refusal> {
        self.counted(self.authentic(role, address, message).and_then(|unsealed| {
            let Unsealed { sender, counter, sealed_micros, .. } = unsealed;
            guard.take(Stamp { sender, counter, sealed_micros, now_micros: micros_since_1970() })?;
            Ok(unsealed.into())
        }))
    }

    /// Opens a message without a check for replays, however old it is: for messages whose address is used once, and for
    /// stored ones, which are delivered again until they are acknowledged.
    ///
    /// # Errors
    /// [`Refusal`], which is counted.
    pub fn open_again(&self, role: Role, address: &str, message: &[u8]) -> Result<Opened, Refusal> {
        self.counted(self.authentic(role, address, message).map(Opened::from))
    }

    fn authentic(&self, role: Role, address: &str, message: &[u8]) -> Result<Unsealed, Refusal> {
        if !codec::is_sealed(message) {
            return Err(Refusal::Plain);
        }
        let key = codec::sealed_key(message).ok_or(Refusal::Tampered)?;
        let keys = self.keys.load();
        let key = keys.key(key).ok_or(Refusal::UnknownKey { key })?;
        codec::open(key, role, address, message).ok_or(Refusal::Tampered)
    }

    fn counted<T>(&self, opened: Result<T, Refusal>) -> Result<T, Refusal> {
        opened.inspect_err(|refusal| self.counts.count(*refusal))
    }

    /// A guard for one subscription.
    #[must_use]
    pub fn guard(&self) -> ReplayGuard {
        ReplayGuard::new(Arc::clone(&self.budget))
    }

    /// What was refused since the start.
    #[must_use]
    pub fn refusals(&self) -> Refusals {
        self.counts.read()
    }
}
