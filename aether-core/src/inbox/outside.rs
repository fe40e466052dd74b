//! A standalone inbox, for other crates: the outbox of an external medium.
//!
//! The two operations that the router and a vibrator use, without waiting on either side.

use std::task::{Context, Poll, Waker};

use super::{Inbox, Offer};
use crate::wave::Wave;

impl Inbox {
    /// Offers a wave without waiting, whatever [`WhenFull`](super::WhenFull) is set: a full inbox sheds its weakest
    /// wave, which may be this one, and counts it.
    ///
    /// ```
    /// use aether_core::{InboxOptions, Wave, inbox::Inbox};
    ///
    /// let outbox = Inbox::new(InboxOptions::overload().max_waves(1))?;
    /// outbox.offer_now(Wave::builder("weak").amplitude(0.2).build()?);
    /// outbox.offer_now(Wave::builder("strong").amplitude(0.9).build()?);
    /// assert_eq!(outbox.take_now().map(|wave| wave.channel().to_string()), Some("strong".to_owned()));
    /// assert_eq!(outbox.ledger().shed_full, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn offer_now(&self, wave: Wave) {
        // `Now` never hands the wave back.
        let _ = self.offer(wave, Offer::Now);
    }

    /// Takes the next wave, the strongest first; `None` if the inbox is empty. Only one thread may take at a time.
    pub fn take_now(&self) -> Option<Wave> {
        match self.poll_receive(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(wave) => wave,
            Poll::Pending => None,
        }
    }
}
