//! The pause that a full receiver asks for, and when it asks again.

use std::time::Duration;

use super::{LEASE, Pause, RENEW_EVERY};
use aether_core::Pattern;
use aether_core::clock::{self, Instant};

/// The request of one receiver. It sends nothing: the notices that it returns are to be sent.
pub struct AskedPause {
    id: u64,
    pattern: Pattern,
    /// The level from which senders are asked to pause, and when the request is renewed.
    asked: Option<(u8, Instant)>,
}

impl AskedPause {
    /// A pause that nobody was asked for yet.
    #[must_use]
    pub const fn new(id: u64, pattern: Pattern) -> Self {
        Self { id, pattern, asked: None }
    }

    /// Asks senders to pause from this level on, unless they are asked for as much already.
    pub fn ask(&mut self, level: u8) -> Option<Pause> {
        let is_more = self.asked.is_none_or(|(asked, _)| level < asked);
        is_more.then(|| self.asked_now(level))
    }

    /// When the request has to be renewed.
    pub fn renewal(&self) -> Option<Instant> {
        self.asked.map(|(_, again)| again)
    }

    /// The renewed request, if it is time.
    pub fn renewed(&mut self, now: Instant) -> Option<Pause> {
        let (level, again) = self.asked?;
        (again <= now).then(|| self.asked_now(level))
    }

    /// The end of the pause, if senders were asked for one.
    pub fn end(&mut self) -> Option<Pause> {
        let (level, _) = self.asked.take()?;
        Some(self.notice(level, Duration::ZERO))
    }

    fn asked_now(&mut self, level: u8) -> Pause {
        self.asked = Some((level, clock::now() + RENEW_EVERY));
        self.notice(level, LEASE)
    }

    fn notice(&self, level: u8, lease: Duration) -> Pause {
        Pause { id: self.id, pattern: self.pattern.clone(), level, lease }
    }
}
